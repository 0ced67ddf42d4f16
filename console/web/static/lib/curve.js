// What each threshold for review catches and costs: two plots over the same axis, with the thresholds as handles that are
// moved by mouse or by arrow keys. A handle is a range input that lies under the plots.
import { html } from "/vendor/preact.js";
import { ticksOf } from "./charts.js";
import * as f from "./format.js";
import { useWidth } from "./widgets.js";

const [LEFT, RIGHT, TALL, LOW, TOP] = [44, 12, 130, 90, 14];

export function Curve({ points, review, decline, logged, days, budget, onReview, onDecline }) {
  const [at, width] = useWidth();
  const x = (value) => LEFT + value * (width - LEFT - RIGHT);
  const perDay = points.map((p) => p.alerts / Math.max(days, 1));
  const most = Math.max(...perDay.slice(2), budget || 0, 1e-9); // the lowest thresholds alert on nearly everything
  return html`<div class="chart curve" ref=${at}>
    <${Plot} width=${width} height=${TALL} most=${1} form=${(v) => f.percent(v)} name="share of the frauds' amount that is caught" ...${{ x, review, decline, logged }}>${(y) => html`<${Line} points=${points} of=${(p) => p.value_detection_rate} x=${x} y=${y} /><${Line} points=${points} of=${(p) => p.precision} x=${x} y=${y} second=${true} />`}<//>
    <div class="row wrap small soft legend"><span><i class="stroke"></i> amount caught</span><span><i class="stroke two"></i> precision</span></div>
    <${Plot} width=${width} height=${LOW} most=${most} form=${f.compact} name="alerts a day" ...${{ x, review, decline, logged }}>${(y) => html`<${Line} points=${points} of=${(p, i) => Math.min(perDay[i], most)} x=${x} y=${y} />${budget && html`<line class="s-decline" stroke-dasharray="4 3" x1=${LEFT} x2=${width - RIGHT} y1=${y(budget)} y2=${y(budget)} /><text x=${width - RIGHT} y=${y(budget) - 4} text-anchor="end">at most ${f.count(budget)}</text>`}`}<//>
    <div class="small soft legend">alerts a day</div>
    <${Handle} name="Review from" value=${review} onChange=${onReview} tone="review" /><${Handle} name="Decline from" value=${decline} onChange=${onDecline} tone="decline" /></div>`;
}

function Plot({ width, height, most, form, name, x, review, decline, logged, children }) {
  const y = (value) => height - 18 - (value / most) * (height - 18 - TOP);
  return html`<svg width=${width} height=${height} role="img" aria-label=${`${name} by threshold for review; review from ${f.percent(review)}, decline from ${f.percent(decline)}`}>
    ${ticksOf(0, most, 3).map((v) => html`<line class="tick" x1=${LEFT} x2=${width - RIGHT} y1=${y(v)} y2=${y(v)} /><text x=${LEFT - 6} y=${y(v) + 4} text-anchor="end">${form(v)}</text>`)}
    ${[0, 0.25, 0.5, 0.75, 1].map((v) => html`<text x=${x(v)} y=${height - 4} text-anchor=${v === 1 ? "end" : "middle"}>${f.percent(v)}</text>`)}
    <line class="s-soft" stroke-dasharray="2 3" x1=${x(logged.review)} x2=${x(logged.review)} y1=${TOP - 6} y2=${height - 18} /><line class="s-soft" stroke-dasharray="2 3" x1=${x(logged.decline)} x2=${x(logged.decline)} y1=${TOP - 6} y2=${height - 18} />
    ${children(y)}
    <line class="s-review" stroke-width="2" x1=${x(review)} x2=${x(review)} y1=${TOP - 6} y2=${height - 18} /><line class="s-decline" stroke-width="2" x1=${x(decline)} x2=${x(decline)} y1=${TOP - 6} y2=${height - 18} /></svg>`;
}

const Line = ({ points, of, x, y, second = false }) => html`<polyline class="trace ${second ? "two" : ""}" points=${points.map((p, i) => [p.review, of(p, i)]).filter(([, v]) => f.known(v)).map(([at, v]) => `${x(at).toFixed(1)},${y(v).toFixed(1)}`).join(" ")} />`;

/** A threshold, in whole percents. */
const Handle = ({ name, value, onChange, tone }) => html`<label class="handle"><span class="small ${tone}">${name} <b>${f.percent(value)}</b></span>
  <input type="range" min="1" max="100" step="1" value=${Math.round(value * 100)} aria-valuetext=${f.percent(value)} onInput=${(e) => onChange(Number(e.target.value) / 100)} style=${{ marginLeft: `${LEFT - 8}px`, marginRight: `${RIGHT - 8}px` }} /></label>`;
