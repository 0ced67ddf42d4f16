// How right a model was on judged payments: what it predicted against what was observed, and what more alerts would have caught.
import { html } from "/vendor/preact.js";
import { useData } from "./api.js";
import { Interval, ticksOf } from "./charts.js";
import * as f from "./format.js";
import { setParams } from "./router.js";
import { Choice, Empty, Loaded, useWidth } from "./widgets.js";

const DAY = 86_400_000;
const [LEFT, RIGHT, TOP, BOTTOM, HEIGHT] = [44, 12, 10, 32, 180];

export function Performance({ label, params }) {
  const days = Number(params.days || 30);
  const start = Math.floor(Date.now() / DAY) * DAY - days * DAY;
  const answer = useData(`/v1/models/${encodeURIComponent(label)}/performance`, params.as_of || days >= 3650 ? { start: "2000-01-01" } : { start });
  return html`<section><div class="row wrap"><h2>How right it was</h2>${!params.as_of && html`<${Choice} label="period" options=${[["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["3650", "all"]]} value=${String(days)} onChange=${(to) => setParams({ days: to === "30" ? null : to }, { replace: true })} />`}</div>
    <${Loaded} answer=${answer} lines=${4}>${(found) => (found.auc_roc === null ? html`<${Empty} title="Too few verdicts">Of ${f.plural(found.decisions, "decision")} of this model in the period, ${f.count(found.judged)} are judged, ${f.count(found.frauds)} of them fraud. Both kinds are needed.<//>`
    : html`<p class="soft">${f.plural(found.decisions, "decision")}, ${f.count(found.judged)} of them judged, ${f.plural(found.frauds, "fraud")}. AUC <b>${found.auc_roc.toFixed(3)}</b>, average precision <b>${found.average_precision.toFixed(3)}</b>, calibration error <b>${f.percent(found.ece, 2)}</b>. Alerts are judged more often than other payments.</p>
      <div class="three"><div><h3>Predicted and observed</h3><${Calibration} bins=${found.bins} /></div>
        <div><h3>Precision by recall</h3><${Line} points=${found.curve.map((p) => [p.recall, p.precision, p.threshold])} across="frauds found" up="precision" /></div>
        <div><h3>Amount caught by alerts</h3><${Line} points=${[[0, 0, 1], ...found.curve.map((p) => [p.alerted, p.value_detection_rate, p.threshold])]} across="judged payments alerted" up="share of the frauds' amount" /></div></div>`)}<//></section>`;
}

/** What the model predicted on average in each tenth of the judged payments, and the share of fraud with its interval. */
function Calibration({ bins }) {
  const most = Math.max(...bins.map((bin) => bin.high));
  return html`<table><thead><tr><th class="num">predicted</th><th class="num">observed</th><th>95 % interval</th><th class="num">payments</th></tr></thead><tbody>${bins.map((bin) => html`<tr><td class="num">${f.percent(bin.predicted, 2)}</td><td class="num ${bin.predicted < bin.low || bin.predicted > bin.high ? "review" : ""}">${f.percent(bin.observed, 2)}</td>
    <td><${Interval} value=${bin.observed} low=${bin.low} high=${bin.high} to=${most} label=${`${f.percent(bin.low, 2)} to ${f.percent(bin.high, 2)}`} /></td><td class="num">${f.count(bin.payments)}</td></tr>`)}</tbody></table>`;
}

/** A line through points [x, y, threshold], both axes from 0 to 1. */
function Line({ points, across, up }) {
  const [at, width] = useWidth(300);
  const x = (v) => LEFT + v * (width - LEFT - RIGHT);
  const y = (v) => HEIGHT - BOTTOM - v * (HEIGHT - BOTTOM - TOP);
  return html`<div class="chart" ref=${at}><svg width=${width} height=${HEIGHT} role="img" aria-label=${`${up} by ${across}`}>
    ${ticksOf(0, 1, 4).map((v) => html`<line class="tick" x1=${LEFT} x2=${width - RIGHT} y1=${y(v)} y2=${y(v)} /><text x=${LEFT - 6} y=${y(v) + 4} text-anchor="end">${f.percent(v)}</text><text x=${x(v)} y=${HEIGHT - 18} text-anchor=${v === 1 ? "end" : "middle"}>${f.percent(v)}</text>`)}
    <text x=${x(0.5)} y=${HEIGHT - 3} text-anchor="middle">${across}</text>
    <polyline class="trace" fill="none" points=${points.map(([a, b]) => `${x(a)},${y(b)}`).join(" ")} />
    ${points.map(([a, b, threshold]) => html`<circle class="mark" cx=${x(a)} cy=${y(b)} r="2.5"><title>${`from a probability of ${f.percent(threshold, 1)}: ${f.percent(a, 1)} ${across}, ${f.percent(b, 1)} ${up}`}</title></circle>`)}</svg></div>`;
}
