// Does all of it run? Read models, partitions, rejects, and what is wrong with its remedy.
import { html } from "/vendor/preact.js";
import { can, useData } from "../lib/api.js";
import { Bars } from "../lib/charts.js";
import * as f from "../lib/format.js";
import { Badge, Empty, Loaded, Pairs, Time } from "../lib/widgets.js";

const HOUR = 3_600_000;

export default function System() {
  const ready = useData("/readyz", { as_of: null }, { every: 5000 });
  const stats = useData("/v1/stats", {}, { every: 30_000 });
  const system = useData(can("GET /v1/system") ? "/v1/system" : null, { as_of: null }, { every: 10_000 });
  const checks = ready.data?.checks || {};
  const bad = Object.entries(checks).filter(([, said]) => said !== "ok");
  return html`<div class="stack" style=${{ gap: "20px" }}>
    <div class="case-head"><span class="answer">${ready.error ? html`<span class="decline">■ Not ready: ${ready.error.message}</span>` : !ready.data ? "…" : bad.length ? html`<span class="decline">■ ${bad[0][0]}: ${bad[0][1]}</span>` : html`<span class="approve">● All parts answer</span>`}</span>
      ${Object.entries(checks).map(([name, said]) => html`<span class=${said === "ok" ? "soft" : "decline"}>${name}: ${said}</span>`)}</div>
    ${system.data && html`<${Parts} system=${system.data} />`}
    <${Loaded} answer=${stats}>${({ totals, throughput, partitions, latency_ms_at_most: bounds }) => {
    const hours = Object.entries(throughput.hours).map(([hour, counts]) => [Number(hour) * HOUR, counts]).sort((a, b) => a[0] - b[0]).slice(-168);
    return html`<div class="two"><section><h2>Recorded by hour <span class="soft">of log time; the last ${f.count(hours.length)} hours with records</span></h2><${Bars} label="transactions by hour" height=${140} order=${["approve", "review"]} bars=${hours.map(([at, c]) => ({ at, parts: { approve: c.transactions - c.alerts, review: c.alerts } }))} /><div class="small soft">dark: alerts</div></section>
      <section><h2>In all</h2><${Pairs} rows=${[["payments decided", f.count(totals.transactions)], ["alerts", html`${f.count(totals.alerts)} <span class="soft">${f.percent(totals.alerts / totals.transactions, 2)}</span>`], ["feedback", f.count(totals.feedback)], ["batches", f.count(totals.batches)],
    ["rejected messages", totals.rejects ? html`<span class="review">${f.count(totals.rejects)}</span>` : "0"], ["age at decision", html`50 % ≤ ${f.count(bounds.p50)} ms, 99 % ≤ ${f.count(bounds.p99)} ms <span class="soft">payment to durable decision</span>`], ["first", html`<${Time} at=${throughput.first_recorded_at} form="minute" />`], ["last", html`<${Time} at=${throughput.last_recorded_at} />`]]} /></section></div>
      <div class="two even"><section><h2>Partitions</h2><table><thead><tr><th>Partition</th><th class="num">Decided</th><th class="num">Alerts</th><th class="num">Feedback</th><th class="num">Rejects</th></tr></thead><tbody>${Object.entries(partitions).map(([name, c]) => html`<tr><td class="mono">${name}</td><td class="num">${f.count(c.transactions)}</td><td class="num">${f.count(c.alerts)}</td><td class="num">${f.count(c.feedback)}</td><td class="num">${f.count(c.rejects)}</td></tr>`)}</tbody></table></section>
      <section><h2>Models and rejects</h2><table><tbody>${Object.entries(throughput.models).map(([name, n]) => html`<tr><td>decided by ${name || "rules alone"}</td><td class="num">${f.count(n)}</td></tr>`)}${Object.entries(throughput.degraded).map(([name, n]) => html`<tr><td><${Badge} tone="bad">degraded<//> ${f.words(name)}</td><td class="num">${f.count(n)}</td></tr>`)}${Object.entries(throughput.rejects).map(([name, n]) => html`<tr><td>rejected: ${f.words(name)}</td><td class="num">${f.count(n)}</td></tr>`)}</tbody></table></section></div>`;
  }}<//></div>`;
}

function Parts({ system }) {
  const findings = system.findings.filter((each) => each.status !== "ok");
  return html`${findings.length > 0 && html`<section><h2>To mend</h2><ul class="history">${findings.map((each) => html`<li><span><${Badge} tone=${each.status === "fail" ? "bad" : "warn"}>${each.check}<//></span><span>${each.message || "an administrator sees what it is"}${each.remedy && html`<div class="soft">${each.remedy}</div>`}</span></li>`)}</ul></section>`}
    <section><h2>Read models</h2><table><thead><tr><th>Read model</th><th class="num">Batches behind</th><th class="num wide">Position</th><th>State</th></tr></thead><tbody>${(system.read_models || []).map((each) => html`<tr><td>${each.name}</td><td class="num">${f.count(each.behind)}</td><td class="num wide mono">${each.position || ""}</td><td>${each.fault ? html`<span class="decline">■ ${each.fault}</span>` : each.behind ? html`<span class="review">◐ catching up</span>` : html`<span class="approve">● up to date</span>`}</td></tr>`)}</tbody></table></section>`;
}
