// Has the world changed? What differs from its reference, week by week, and how much.
import { html } from "/vendor/preact.js";
import { useData } from "../lib/api.js";
import { ticksOf } from "../lib/charts.js";
import * as f from "../lib/format.js";
import { setParams } from "../lib/router.js";
import { Empty, Loaded, Severity, Time, useWidth } from "../lib/widgets.js";

const WEEK = 7 * 86_400_000;

export default function Drift({ params }) {
  const answer = useData("/v1/drift");
  const all = answer.data?.detections || [];
  const shown = params.detection || (all.length ? String(all[all.length - 1].position) : "");
  const show = (detection) => setParams({ detection: detection.position }, { replace: true });
  return html`<${Loaded} answer=${answer}>${({ open, detections }) => (detections.length === 0 ? html`<div class="stack"><div class="case-head"><span class="answer approve">● No drift is known</span></div><${Empty} title="What appears here">Features, scores, alerts and reported frauds that differ from their reference, by week. <code>sentinel drift --follow --publish</code> compares them once a day.<//></div>` : html`<div class="stack" style=${{ gap: "20px" }}>
    <div class="case-head"><span class="answer">${open.length ? html`<span class="review">◐ ${open.length === 1 ? "1 figure differs from its reference" : `${f.count(open.length)} figures differ from their reference`}</span>` : html`<span class="approve">● All drift has been cleared</span>`}</span></div>
    <section><h2>By week</h2><${Heat} detections=${detections} chosen=${params.feature} /></section>
    <section><h2>${params.feature ? html`Detections of ${params.feature} <button class="link" onClick=${() => setParams({ feature: null })}>show all</button>` : "Detections"}</h2><div class="scroll" tabindex="0"><table><thead><tr><th>Found</th><th>What</th><th>Severity</th><th class="num">Effect</th><th class="wide">Statistic</th><th class="num wide">Adjusted p</th><th class="num wide">Rows</th><th>State</th></tr></thead><tbody>
      ${[...detections].reverse().filter((d) => !params.feature || d.feature === params.feature).map((d) => html`<tr class="open" aria-selected=${String(String(d.position) === shown)} onClick=${() => show(d)}><td><${Time} at=${d.detected_at} form="minute" /></td><td class="mono"><button class="link" onClick=${(e) => { e.stopPropagation(); show(d); }}>${d.feature}</button></td><td><${Severity} value=${d.severity} /></td><td class="num">${f.figure(d.magnitude)}</td><td class="wide">${d.statistic}</td><td class="num wide">${f.known(d.p_value_adjusted) ? f.figure(d.p_value_adjusted) : "–"}</td><td class="num wide">${f.count(d.rows)}</td><td>${d.cleared_at ? html`<span class="soft">cleared <${Time} at=${d.cleared_at} /></span>` : html`<span class="review">open</span>`}</td></tr>`)}</tbody></table></div></section>
    ${detections.some((d) => String(d.position) === shown) && html`<${Windows} detection=${detections.find((d) => String(d.position) === shown)} />`}</div>`)}<//>`;
}

/** The detection chosen: both windows, one over the other. */
function Windows({ detection }) {
  const hasValues = !/[:]/.test(detection.feature);
  const answer = useData(hasValues ? `/v1/drift/${detection.position}` : null);
  const effects = Object.entries(detection.effects).map(([name, value]) => `${f.words(name)} ${f.figure(value)}`).join(", ");
  return html`<section aria-label="distributions"><h2>${f.words(detection.feature)} <span class="soft">${effects}</span></h2>
    ${hasValues ? html`<${Loaded} answer=${answer} lines=${6}>${(found) => html`<${Both} found=${found} />`}<//>` : html`<p class="soft">A figure of many decisions: its effect is above; it has no distribution over single ones.</p>`}</section>`;
}

const QUANTILES = ["5 %", "25 %", "median", "75 %", "95 %"];

function Both({ found }) {
  const windows = [["reference", found.reference], ["differs", found.current]];
  return html`<p class="small soft">${found.meaning}${found.unit ? `, ${found.unit}` : ""}${found.share < 1 ? `; of a sample of ${f.percent(found.share, 1)} of accounts` : ""}</p><${Steps} found=${found} />
    <div class="scroll" tabindex="0"><table class="matrix" aria-label="windows"><thead><tr><th>Window</th><th>From</th><th>To</th><th>Decisions</th><th>Missing</th>${found.reference.quantiles.length > 0 && QUANTILES.map((name) => html`<th>${name}</th>`)}</tr></thead><tbody>
      ${windows.map(([name, window]) => html`<tr><td><i class="stroke ${name === "reference" ? "grey" : ""}"></i> ${name}</td><td class="nowrap">${f.dayOf(window.start)}</td><td class="nowrap">${f.dayOf(window.end)}</td><td>${f.count(window.rows)}</td><td>${f.percent(window.missing, 1)}</td>${window.quantiles.map((value) => html`<td>${f.figure(value)}</td>`)}</tr>`)}</tbody></table></div>`;
}

const [LEFT, TALL, FOOT] = [44, 150, 20];

/** Shares by bin: the reference as an area, the other window as a line, so that one sees where they part. */
function Steps({ found }) {
  const [at, width] = useWidth();
  const { reference, current, edges, categories } = found;
  const n = reference.shares.length;
  const most = Math.max(...reference.shares, ...current.shares, 1e-9);
  const x = (i) => LEFT + (i / n) * (width - LEFT - 8);
  const y = (share) => TALL - FOOT - (share / most) * (TALL - FOOT - 8);
  const path = (shares) => shares.map((share, i) => `${i ? "L" : "M"}${x(i).toFixed(1)},${y(share).toFixed(1)} H${x(i + 1).toFixed(1)}`).join(" ");
  const every = Math.max(1, Math.ceil(n / Math.max(2, Math.floor(width / 90))));
  const ticks = categories.length ? categories.map((value, i) => [x(i + 0.5), f.figure(value)]) : edges.map((value, i) => [x(i), f.figure(Number(value.toPrecision(3)))]);
  return html`<div class="chart" ref=${at}><svg width=${width} height=${TALL} role="img" aria-label=${`${found.feature}: shares of decisions by value, in the reference and in the window that differs`}>
    ${ticksOf(0, most, 3).map((v) => html`<line class="tick" x1=${LEFT} x2=${width - 8} y1=${y(v)} y2=${y(v)} /><text x=${LEFT - 6} y=${y(v) + 4} text-anchor="end">${f.percent(v, most < 0.05 ? 1 : 0)}</text>`)}
    ${ticks.filter((_, i) => i % every === 0).map(([px, text]) => html`<text x=${px} y=${TALL - 4} text-anchor=${px > width - 30 ? "end" : "middle"}>${text}</text>`)}
    <path class="area" d=${`${path(reference.shares)} V${y(0)} H${x(0)} Z`} /><path class="trace" d=${path(current.shares)} /><line class="axis" x1=${LEFT} x2=${width - 8} y1=${y(0)} y2=${y(0)} /></svg></div>`;
}

function Heat({ detections, chosen }) {
  const features = [...new Set(detections.map((d) => d.feature))];
  const first = Math.floor(Math.min(...detections.map((d) => d.window_end)) / WEEK);
  const last = Math.floor(Math.max(...detections.map((d) => d.window_end)) / WEEK);
  const weeks = Array.from({ length: Math.min(last - first + 1, 26) }, (_, i) => last - Math.min(last - first, 25) + i);
  const most = Math.max(...detections.map((d) => Math.abs(d.magnitude)), 1e-9);
  const cell = (feature, week) => Math.max(0, ...detections.filter((d) => d.feature === feature && Math.floor(d.window_end / WEEK) === week).map((d) => Math.abs(d.magnitude)));
  return html`<div class="scroll" tabindex="0"><table class="heat" style=${{ width: "auto" }}><thead><tr><th scope="col">feature</th>${weeks.map((w) => html`<th scope="col" title=${f.dayOf(w * WEEK)}>${new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "numeric" }).format(w * WEEK)}</th>`)}</tr></thead><tbody>${features.map((feature) => html`<tr><th scope="row"><button class="link" aria-pressed=${String(feature === chosen)} onClick=${() => setParams({ feature: feature === chosen ? null : feature }, { replace: true })}>${feature}</button></th>${weeks.map((w) => { const value = cell(feature, w); return html`<td style=${value ? { background: `color-mix(in srgb, var(--review) ${Math.round(12 + 36 * value / most)}%, var(--paper))` } : {}} title=${value ? `${feature}: ${f.figure(value)}` : ""}>${value ? f.figure(Number(value.toPrecision(2))) : ""}</td>`; })}</tr>`)}</tbody></table></div>`;
}
