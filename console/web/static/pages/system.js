// Does all of it run? What is wrong, with its remedy; workers, partitions and their lag; servers, archive, read models; and
// what was recorded.
import { html } from "/vendor/preact.js";
import { can, useData } from "../lib/api.js";
import { Bars } from "../lib/charts.js";
import * as f from "../lib/format.js";
import { isPast } from "../lib/state.js";
import { Badge, Loaded, Pairs, Time } from "../lib/widgets.js";

const HOUR = 3_600_000;

export default function System() {
  const ready = useData("/readyz", { as_of: null }, { every: 5000 });
  const stats = useData("/v1/stats", {}, { every: 30_000 });
  const system = useData(can("GET /v1/system") ? "/v1/system" : null, { as_of: null }, { every: 5000 });
  return html`<div class="stack" style=${{ gap: "20px" }}><${Verdict} ready=${ready} system=${system.data} />
    ${isPast.value && html`<p class="stale">What runs is shown as of now, because the log does not record it. The figures at the end are as of the moment.</p>`}
    ${system.data && html`<${Findings} system=${system.data} /><${Workers} system=${system.data} /><${Servers} system=${system.data} />`}
    <${Loaded} answer=${stats}>${(found) => html`<${Recorded} found=${found} hasPartitions=${!system.data} />`}<//></div>`;
}

/** The answer to the page's question, in one line. */
function Verdict({ ready, system }) {
  const checks = Object.entries(ready.data?.checks || {});
  const bad = checks.find(([, said]) => said !== "ok");
  const failing = (system?.findings || []).filter((each) => each.status === "fail");
  const parked = (system?.partitions || []).filter((each) => each.parked);
  const problem = Object.entries(system?.problems || {})[0];
  const said = ready.error ? `Not ready: ${ready.error.message}` : bad ? `${bad[0]}: ${bad[1]}` : problem ? `${problem[0]}: ${problem[1]}`
    : parked.length ? `${f.plural(parked.length, "partition")} parked` : failing.length ? `${f.plural(failing.length, "check")} failed` : null;
  const lag = (system?.partitions || []).flatMap((each) => Object.values(each.lag)).filter(f.known);
  return html`<div class="case-head"><span class="answer">${said ? html`<span class="decline">■ ${said}</span>` : ready.data ? html`<span class="approve">● Everything runs</span>` : "…"}</span>
    ${lag.length > 0 && html`<span class="soft">${f.plural(lag.reduce((a, b) => a + b, 0), "message")} waiting</span>`}${checks.map(([name, text]) => html`<span class=${text === "ok" ? "soft" : "decline"}>${name}: ${text}</span>`)}</div>`;
}

const TONES = { fail: "bad", warn: "warn", ok: "good" };

function Findings({ system }) {
  const told = system.findings.filter((each) => each.status !== "ok");
  const sound = system.findings.length - told.length;
  if (!system.findings_at) return html`<p class="soft">The checks of <code>sentinel doctor</code> run for the first time…</p>`;
  return html`<section><h2>Checks <span class="soft">of <code>sentinel doctor</code>, <${Time} at=${system.findings_at} />: ${f.count(sound)} of ${f.count(system.findings.length)} in order</span></h2>
    ${told.length > 0 && html`<ul class="history">${told.map((each) => html`<li><span><${Badge} tone=${TONES[each.status]}>${each.status === "fail" ? "failed" : "warning"}<//></span><span><b>${f.words(each.check)}</b> ${each.message || html`<span class="soft">only an administrator can read the message</span>`}${each.remedy && html`<div class="soft">${each.remedy}</div>`}</span></li>`)}</ul>`}</section>`;
}

const Lag = ({ value }) => (!f.known(value) ? html`<span class="soft">unknown</span>` : value > 0 ? html`<span class="review">${f.count(value)}</span>` : "0");

function Workers({ system }) {
  const { workers, partitions } = system;
  return html`<section><h2>Partitions <span class="soft">${workers === null ? "the broker does not name its workers" : f.plural(workers.length, "worker")}${system.group ? `; group ${system.group}` : ""}</span></h2>
    <div class="scroll" tabindex="0"><table aria-label="partitions"><thead><tr><th>Partition</th><th>State</th><th class="num">Payments waiting</th><th class="num wide">Verdicts waiting</th><th>Last batch</th><th class="num wide">Seal</th><th class="num wide">Archived up to</th><th class="wide">Worker</th></tr></thead><tbody>
    ${partitions.map((each) => html`<tr><td class="mono">p${String(each.partition).padStart(2, "0")}</td><td>${each.parked ? html`<span class="decline">■ parked: ${f.words(each.parked)}</span>` : workers !== null && !each.worker ? html`<span class="review">◐ no worker owns it</span>` : html`<span class="approve nowrap">● decides</span>`}</td>
      <td class="num"><${Lag} value=${each.lag.transactions} /></td><td class="num wide"><${Lag} value=${each.lag.feedback} /></td><td><${Time} at=${each.sealed_at} /></td><td class="num wide mono">${f.count(each.sequence)}</td><td class="num wide mono">${each.archived ? f.count(each.archived) : "–"}</td><td class="wide">${each.worker || html`<span class="soft">–</span>`}</td></tr>`)}</tbody></table></div></section>`;
}

const LATE_S = 2;
const size = (bytes) => (bytes >= 2 ** 30 ? `${f.figure(bytes / 2 ** 30)} GiB` : `${f.figure(bytes / 2 ** 20)} MiB`);

function Servers({ system }) {
  const state = (each) => (each.fault ? ["decline", "■"] : each.lag_s > LATE_S ? ["review", "◐"] : ["approve", "●"]);
  return html`<div class="two even"><section><h2>Log servers and archive</h2>${system.log_servers.map((each) => html`<${Pairs} rows=${[["server", [each.version || "log server", each.address].filter(Boolean).join(" at ")],
    ["memory", html`${size(each.memory_bytes)} ${each.memory_max_bytes ? html`<span class="soft">of ${size(each.memory_max_bytes)}</span>` : html`<span class="soft">no limit</span>`}`], ["clients", f.count(each.clients)], ["up for", f.span(each.uptime_s * 1000)]]} />`)}
      <${Pairs} rows=${[["archive", system.archive.configured ? html`${f.plural(system.archive.decisions, "decision")} <span class="soft">${system.archive.location}</span>` : html`<span class="soft">none: the log keeps everything in memory</span>`], ["control stream", html`<span class="mono">c${system.control}</span>`]]} /></section>
    <section><h2>Read models</h2><div class="scroll" tabindex="0"><table aria-label="read models"><thead><tr><th>Read model</th><th>State</th><th class="num">Behind</th></tr></thead><tbody>${system.read_models.map((each) => { const [tone, mark] = state(each); return html`<tr><td>${f.words(each.name)}</td><td class=${tone}>${mark} ${each.fault || (each.lag_s > LATE_S ? `${f.span(each.lag_s * 1000)} behind` : f.words(each.condition))}</td><td class="num">${f.count(each.behind)}</td></tr>`; })}</tbody></table></div></section></div>`;
}

function Recorded({ found, hasPartitions }) {
  const { totals, throughput, partitions } = found;
  const hours = Object.entries(throughput.hours).map(([hour, counts]) => [Number(hour) * HOUR, counts]).sort((a, b) => a[0] - b[0]).slice(-168);
  const others = [...Object.entries(throughput.models).map(([name, n]) => [`decided by ${name || "rules alone"}`, n]), ...Object.entries(throughput.degraded).map(([name, n]) => [html`<${Badge} tone="bad">degraded<//> ${f.words(name)}`, n]),
    ...Object.entries(throughput.rejects).map(([name, n]) => [`rejected: ${f.words(name)}`, n])];
  return html`<div class="two"><section><h2>Recorded by hour <span class="soft">of log time; ${hours.length < 2 ? "a bar an hour" : `the last ${f.count(hours.length)} hours with records`}</span></h2>
      <${Bars} label="transactions by hour" height=${140} order=${["approve", "review"]} names=${{ approve: "without alert", review: "alerts" }} bars=${hours.map(([at, c]) => ({ at, parts: { approve: c.transactions - c.alerts, review: c.alerts } }))} />
      <div class="row small soft legend"><span><span class="approve" aria-hidden="true">■</span> without alert</span><span><span class="review" aria-hidden="true">■</span> alert</span></div></section>
    <section><h2>In all</h2><${Pairs} rows=${[["payments decided", f.count(totals.transactions)], ["alerts", html`${f.count(totals.alerts)} <span class="soft">${f.percent(totals.transactions ? totals.alerts / totals.transactions : null, 2)}</span>`], ["feedback", f.count(totals.feedback)], ["batches", f.count(totals.batches)],
    ["rejected messages", totals.rejects ? html`<span class="review">${f.count(totals.rejects)}</span>` : "0"], ...ages(throughput.latency), ["first", html`<${Time} at=${throughput.first_recorded_at} form="minute" />`], ["last", html`<${Time} at=${throughput.last_recorded_at} />`],
    ...others.map(([name, n]) => [name, f.count(n)])]} /></section></div>
    ${hasPartitions && html`<section><h2>Partitions</h2><table><thead><tr><th>Partition</th><th class="num">Decided</th><th class="num">Alerts</th><th class="num">Feedback</th><th class="num">Rejects</th></tr></thead><tbody>${Object.entries(partitions).map(([name, c]) => html`<tr><td class="mono">${name}</td><td class="num">${f.count(c.transactions)}</td><td class="num">${f.count(c.alerts)}</td><td class="num">${f.count(c.feedback)}</td><td class="num">${f.count(c.rejects)}</td></tr>`)}</tbody></table></section>`}`;
}

/** Buckets of ages in ms, by the binary logarithm of their upper bound; older than an hour is loaded history. */
const HISTORY_FROM = 22;

function ages(buckets) {
  const all = Object.entries(buckets).map(([power, n]) => [Number(power), n]).sort((a, b) => a[0] - b[0]);
  const live = all.filter(([power]) => power < HISTORY_FROM);
  const sum = (list) => list.reduce((total, [, n]) => total + n, 0);
  const within = (share) => {
    let left = share * sum(live);
    return 2 ** (live.find(([, n]) => { left -= n; return left <= 0; }) || live[live.length - 1])[0];
  };
  const old = sum(all) - sum(live);
  return [
    ["age at decision", live.length ? html`50 % within ${f.count(within(0.5))} ms, 99 % within ${f.count(within(0.99))} ms <span class="soft">payment to durable decision</span>` : html`<span class="soft">no live payment yet</span>`],
    old > 0 && ["loaded history", html`${f.count(old)} <span class="soft">older than an hour when decided</span>`],
  ];
}
