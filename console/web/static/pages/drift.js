// Has the world changed? What differs from its reference, week by week, and how much.
import { html } from "/vendor/preact.js";
import { useData } from "../lib/api.js";
import * as f from "../lib/format.js";
import { setParams } from "../lib/router.js";
import { Badge, Empty, Loaded, Pairs, Severity, Time } from "../lib/widgets.js";

const WEEK = 7 * 86_400_000;

export default function Drift({ params }) {
  const answer = useData("/v1/drift");
  return html`<${Loaded} answer=${answer}>${({ open, detections }) => (detections.length === 0 ? html`<div class="stack"><div class="case-head"><span class="answer approve">● No drift is known</span></div><${Empty} title="What would stand here">Features, scores, alerts and reported frauds that differ from their reference, by week. <code>sentinel drift --follow --publish</code> compares them once a day.<//></div>` : html`<div class="stack" style=${{ gap: "20px" }}>
    <div class="case-head"><span class="answer">${open.length ? html`<span class="review">◐ ${open.length === 1 ? "1 figure differs from its reference" : `${f.count(open.length)} figures differ from their reference`}</span>` : html`<span class="approve">● All drift has been cleared</span>`}</span></div>
    <section><h2>By week</h2><${Heat} detections=${detections} chosen=${params.feature} /></section>
    <section><h2>${params.feature ? html`Detections of ${params.feature} <button class="link" onClick=${() => setParams({ feature: null })}>show all</button>` : "Detections"}</h2><div class="scroll" tabindex="0"><table><thead><tr><th>Found</th><th>What</th><th>Severity</th><th class="num">Effect</th><th class="wide">Statistic</th><th class="num wide">Adjusted p</th><th class="num wide">Rows</th><th>State</th></tr></thead><tbody>
      ${[...detections].reverse().filter((d) => !params.feature || d.feature === params.feature).map((d) => html`<tr><td><${Time} at=${d.detected_at} form="minute" /></td><td class="mono">${d.feature}</td><td><${Severity} value=${d.severity} /></td><td class="num">${f.figure(d.magnitude)}</td><td class="wide">${d.statistic}</td><td class="num wide">${f.known(d.p_value_adjusted) ? f.figure(d.p_value_adjusted) : "–"}</td><td class="num wide">${f.count(d.rows)}</td><td>${d.cleared_at ? html`<span class="soft">cleared <${Time} at=${d.cleared_at} /></span>` : html`<span class="review">open</span>`}</td></tr>`)}</tbody></table></div></section></div>`)}<//>`;
}

function Heat({ detections, chosen }) {
  const features = [...new Set(detections.map((d) => d.feature))];
  const first = Math.floor(Math.min(...detections.map((d) => d.window_end)) / WEEK);
  const last = Math.floor(Math.max(...detections.map((d) => d.window_end)) / WEEK);
  const weeks = Array.from({ length: Math.min(last - first + 1, 26) }, (_, i) => last - Math.min(last - first, 25) + i);
  const most = Math.max(...detections.map((d) => Math.abs(d.magnitude)), 1e-9);
  const cell = (feature, week) => Math.max(0, ...detections.filter((d) => d.feature === feature && Math.floor(d.window_end / WEEK) === week).map((d) => Math.abs(d.magnitude)));
  return html`<div class="scroll" tabindex="0"><table class="heat" style=${{ width: "auto" }}><thead><tr><th scope="col">feature</th>${weeks.map((w) => html`<th scope="col" title=${f.dayOf(w * WEEK)}>${new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "numeric" }).format(w * WEEK)}</th>`)}</tr></thead><tbody>${features.map((feature) => html`<tr><th scope="row"><button class="link" aria-pressed=${String(feature === chosen)} onClick=${() => setParams({ feature: feature === chosen ? null : feature }, { replace: true })}>${feature}</button></th>${weeks.map((w) => { const value = cell(feature, w); return html`<td style=${value ? { background: `color-mix(in srgb, var(--review) ${Math.round(15 + 60 * value / most)}%, var(--paper))` } : {}} title=${value ? `${feature}: ${f.figure(value)}` : ""}>${value ? f.figure(Number(value.toPrecision(2))) : ""}</td>`; })}</tr>`)}</tbody></table></div>`;
}
