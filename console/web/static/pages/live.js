// Is it working? Four tiles, what was decided, what is in force, and alerts as they arrive. The only page that streams.
import { html, useEffect, useState } from "/vendor/preact.js";
import { connection, listen, useData } from "../lib/api.js";
import { Bars, Spark } from "../lib/charts.js";
import * as f from "../lib/format.js";
import { actText } from "../lib/acting.js";
import { useKeys } from "../lib/keys.js";
import { go, href } from "../lib/router.js";
import { isPast, now } from "../lib/state.js";
import { Badge, Empty, Id, Loaded, Pairs, Severity, Time } from "../lib/widgets.js";
import { byCode, told } from "./queue.js";

const SHOWN = 40;

export default function Live() {
  const answer = useData("/v1/live", {}, { every: 5000 });
  const first = useData("/v1/decisions", { alerts: true, limit: SHOWN }, { every: connection.value === "live" ? 0 : 3000 });
  const [alerts, setAlerts] = useState([]);
  useEffect(() => (isPast.value ? undefined : listen((type, data) => { if (type === "alert") setAlerts((was) => [data, ...was].slice(0, SHOWN)); })), [isPast.value]);
  useKeys("live", { Enter: [() => { const top = stream[0]; if (top) go("decision", [top.place]); }, "open the newest alert"] });
  const rules = byCode(useData("/v1/rules"));
  const known = new Set();
  const named = answer.data?.program ? { [answer.data.program.digest]: answer.data.program.label } : {};
  const stream = [...alerts.map(asRow), ...(first.data?.decisions || [])].filter((row) => !known.has(row.place) && known.add(row.place)).slice(0, SHOWN);
  return html`<${Loaded} answer=${answer} lines=${8}>${(live) => html`<div class="stack" style=${{ gap: "20px" }}><${Tiles} live=${live} />
    <div class="two"><div class="stack" style=${{ gap: "20px" }}><section><h2>Decisions <span class="soft">by minute; what changed as ticks on the axis</span></h2>
        <${Bars} label="decisions by minute" height=${140} order=${["approve", "review", "decline"]} marks=${live.changes.map((c) => ({ at: c.at, text: `${c.actor} ${actText(c)}` }))}
          bars=${live.series.map((m) => ({ at: m.at, parts: m.decisions }))} /></section>
      <section><h2>Alerts ${isPast.value ? html`<span class="soft">up to the moment shown</span>` : connection.value === "live" ? html`<span class="soft">as they arrive</span>` : html`<span class="soft">checked every 3 seconds</span>`}</h2>${!first.data && !stream.length ? html`<${Loaded} answer=${first} lines=${6} children=${() => null} />` : html`<${Stream} rows=${stream} rules=${rules} />`}</section></div>
    <div class="stack" style=${{ gap: "20px" }}><section><h2>In force</h2><${InForce} live=${live} /></section>
      <section><h2>What changed lately</h2>${live.changes.length ? html`<ul class="history">${live.changes.slice(0, 12).map((c) => html`<li><span class="soft"><${Time} at=${c.at} /></span><span>${c.actor} ${actText(c, named)} <span class="soft">${c.reason}</span></span></li>`)}</ul>
        <a href=${href("audit")}>The whole audit trail</a>` : html`<${Empty} title="Nothing changed">Deployments, thresholds, rules, lists and drift appear here.<//>`}</section></div></div></div>`}<//>`;
}

const asRow = (alert) => ({ place: alert.place || `p${alert.alert_id}`, at: alert.recorded_at || alert.at, severity: alert.severity, decision: alert.decision, amount: alert.amount ?? alert.transaction?.amount, currency: alert.currency ?? alert.transaction?.currency ?? "",
  account_id: alert.account_id, rules: alert.reason_codes || alert.rules || [], reason: alert.reason, values: alert.values, probability: alert.fraud_score ?? alert.probability });

function Tiles({ live }) {
  const series = (of) => live.series.map(of);
  const total = (m) => Object.values(m.alerts).reduce((a, b) => a + b, 0);
  const alerts = Object.values(live.alerts_per_min).reduce((a, b) => a + b, 0);
  const age = live.latency_ms.p99;
  return html`<div class="tiles">
    <div class="tile"><h3>Decisions a second</h3><div class="big">${f.figure(live.rate)}</div><${Spark} label="decisions a second" values=${series((m) => Object.values(m.decisions).reduce((a, b) => a + b, 0) / 60)} /></div>
    <div class="tile"><h3>99 % decided within</h3><div class="big">${f.known(age) ? `${f.figure(age)} ms` : "–"}</div><div class="small soft">${f.known(age) ? "payment to durable decision" : "no live payment in 5 minutes"}</div><${Spark} label="99 % latency" height=${12} values=${series((m) => m.p99_ms)} /></div>
    <div class="tile"><h3>Alerts a minute</h3><div class="big">${f.figure(alerts)}</div><div class="small row wrap">${["critical", "high", "medium", "low"].filter((s) => live.alerts_per_min[s]).map((s) => html`<span class="row"><${Severity} value=${s} /> ${f.figure(live.alerts_per_min[s])}</span>`)}</div><${Spark} label="alerts a minute" height=${12} values=${series(total)} /></div>
    <div class="tile"><h3>Stopped today</h3><div class="big">${f.compact(live.stopped_today.amount)} <span class="small soft">${live.stopped_today.currency}</span></div><div class="small soft">${f.plural(live.stopped_today.count, "declined payment")}</div><${Spark} label="amount stopped a minute" height=${12} values=${series((m) => m.stopped)} /></div></div>`;
}

function InForce({ live }) {
  return html`<${Pairs} rows=${[
    ["model", live.model ? html`<a href=${href("models")}>${live.model.label}</a> <span class="soft">since <${Time} at=${live.model.since} form="minute" /></span>` : html`<span class="review">none: rules alone decide</span>`],
    ["program", live.program ? html`<a href=${href("rules")}>${live.program.label}</a>${live.program.since ? html` <span class="soft">since <${Time} at=${live.program.since} form="minute" /></span>` : html` <span class="soft">the log's default</span>`}` : "–"],
    ["thresholds", html`review from ${f.percent(live.thresholds.review)}, decline from ${f.percent(live.thresholds.decline)}`],
    ["last decision", html`<${Time} at=${live.last_at} /> ${!isPast.value && live.last_at && now.value - live.last_at > 60_000 ? html`<${Badge} tone="warn">quiet for ${f.span(now.value - live.last_at)}<//>` : ""}`]]} />`;
}

const Stream = ({ rows, rules }) => (rows.length ? html`<div class="scroll" tabindex="0"><table aria-label="alerts"><thead><tr><th>When</th><th>Severity</th><th class="num">Amount</th><th class="wide">Account</th><th>Why</th></tr></thead><tbody aria-live="off">${rows.map((row) => html`<tr class="open" key=${row.place} onClick=${() => go("case", [row.place.slice(1)])}>
  <td><${Time} at=${row.recorded_at || row.at} /></td><td><${Severity} value=${row.severity} /></td><td class="num">${f.amount(row.amount, row.currency)}</td><td class="wide"><${Id} value=${row.account_id} label="account" /></td><td class="why"><div class="clip"><a href=${href("case", [row.place.slice(1)])}>${row.reason || told({ reason_codes: row.rules, values: row.values || {}, fraud_score: row.probability }, rules)}</a></div></td></tr>`)}</tbody></table></div>`
  : html`<${Empty} title="No alert yet">An alert is raised by every payment that is reviewed or declined with a severity. To see some on a test log, let a synthetic bank make payments: <code>sentinel sample</code>.<//>`);
