// Is this fraud? Evidence first: what was decided and why in words, the account's normal beside each number, who else, and
// what happened. Two ways to look at it: as known now, and as seen when the payment was decided.
import { html, useEffect, useMemo, useState } from "/vendor/preact.js";
import { allowed, ask, judge, judged, mayAct, OPEN } from "../lib/acts.js";
import { ahead, get, listen, useData } from "../lib/api.js";
import { Share, Usual } from "../lib/charts.js";
import * as f from "../lib/format.js";
import { Graph } from "../lib/graph.js";
import { useKeys } from "../lib/keys.js";
import { go, href, setParams } from "../lib/router.js";
import { asOf, fail, now, stored } from "../lib/state.js";
import { Timeline, usual } from "../lib/timeline.js";
import { Badge, Choice, Decision, Empty, Fault, Id, Key, Loaded, Money, Pairs, Severity, Skeleton, Time } from "../lib/widgets.js";
import { Proof, Replay, Unmask } from "../lib/proof.js";
import { atRisk, Clock } from "./queue.js";

const TABS = [["features", "Against normal"], ["model", "Model"], ["history", "History and notes"], ["raw", "Raw"], ["audit", "Audit"]];
const encoded = encodeURIComponent;

/** The case after this one in the queue as it was when it was left; null at its end. */
function after(id, step = 1) {
  let order = [];
  try { order = JSON.parse(stored("queue") || "[]"); } catch { /* an order that can't be read is none */ }
  const at = order.indexOf(id);
  return at < 0 ? order[0] && order[0] !== id ? order[0] : null : order[at + step] || null;
}

export default function Case({ args, params }) {
  const id = args[0] || "";
  const answer = useData(`/v1/cases/${encoded(id)}`);
  useEffect(() => listen((type, data) => { if ((type === "case" || type === "feedback") && (data.case_id === id || data.account_id === answer.data?.case.account_id)) answer.reload(); }), [id, answer.data?.case.account_id]);
  useEffect(() => { const next = after(id); if (next) ahead(`/v1/cases/${encoded(next)}`); }, [id]);
  useKeys("queue", {
    n: [() => { const next = after(id); if (next) go("case", [next]); else go("queue"); }, "next case"],
    p: [() => { const before = after(id, -1); if (before) go("case", [before]); }, "previous case"],
    Escape: [() => go("queue"), "back to the queue"],
  });
  return html`<${Loaded} answer=${answer} lines=${12}>${(row) => html`<${Shown} row=${row} params=${params} reload=${answer.reload} />`}<//>`;
}

function Shown({ row, params, reload }) {
  const it = row.case;
  const alerts = it.alerts;
  const alert = alerts.find((each) => each.alert_id === params.alert) || gravest(alerts);
  const place = alert ? `p${alert.alert_id}` : null;
  const [asking, setAsking] = useState(null);
  const [lit, setLit] = useState([]);
  const payments = useData("/v1/decisions", { account: it.account_id, limit: 500 });
  const story = useData(place && `/v1/decisions/${encoded(place)}/audit`);
  const rules = useData("/v1/rules");
  const rows = useMemo(() => [...(payments.data?.decisions || [])].reverse(), [payments.data]);
  const step = (by) => {
    const order = alerts.map((each) => each.alert_id);
    const to = order[order.indexOf(alert?.alert_id) + by];
    if (to) setParams({ alert: to }, { replace: true });
  };
  const verdict = judged.value[it.case_id];
  const outcome = verdict || it.outcome;
  const isClosed = verdict ? verdict !== OPEN : it.stage === "resolved";
  const asked = (kind) => () => ask(kind, row, setAsking, reload);
  const judgeIt = (word) => () => judge(row, word, { then: reload });
  useKeys("case", {
    ...allowed(isClosed ? { o: [asked("reopen"), "reopen", "reopen"] } : { f: [judgeIt("fraud"), "judge fraud", "judge"], l: [judgeIt("legitimate"), "judge legitimate", "judge"], u: [judgeIt("unsure"), "judge unsure", "judge"] }),
    ...allowed({ a: [asked("assign"), "assign to me, or release", "assign"], s: [asked("snooze"), "snooze for 4 hours", "snooze"], c: [asked("comment"), "note", "comment"],
      e: [asked("escalate"), "escalate", "escalate"], b: [asked("block"), "block the account", "block"] }),
    "[": [() => step(-1), "alert before"], "]": [() => step(1), "alert after"],
    v: [() => setParams({ as_of: asOf.value ? null : place }), "as seen then, or as known now"],
  });
  const [sum, currency] = atRisk(row);
  return html`<div class="case-head"><${Severity} value=${it.severity} /><span class="answer">${f.amount(sum, currency)} ${isClosed ? "were" : "are"} at risk on account <a href=${href("account", [it.account_id])}>${it.account_id}</a></span>
      ${isClosed ? html`<span class="row">closed as <b><${Decision} value=${outcome} /></b>${it.resolved_by && !verdict ? html`<span class="soft">by ${it.resolved_by} <${Time} at=${it.resolved_at} /></span>` : ""}</span>` : html`<${Clock} row=${row} />`}
      ${it.assignee && html`<span class="soft">assigned to ${it.assignee}</span>`}
      ${it.contradicted && html`<${Badge} tone="warn" title="a later verdict from another source conflicts with the outcome">contradicted<//>`}
      <span class="push row"><${Choice} label="what is shown" options=${[["then", "As seen then"], ["now", "As known now"]]} value=${asOf.value ? "then" : "now"} onChange=${(which) => setParams({ as_of: which === "then" ? place : null })} /></span></div>
    <div class="row wrap" style=${{ padding: "12px 0 0" }}><div class="verdicts">${isClosed ? mayAct("reopen") && html`<button onClick=${asked("reopen")}>Reopen <${Key}>o<//></button>` : mayAct("judge") && html`
      <button onClick=${judgeIt("fraud")}><span class="decline" aria-hidden="true">■</span> Fraud <${Key}>f<//></button>
      <button onClick=${judgeIt("legitimate")}><span class="approve" aria-hidden="true">●</span> Legitimate <${Key}>l<//></button>
      <button onClick=${judgeIt("unsure")}><span class="review" aria-hidden="true">◐</span> Unsure <${Key}>u<//></button>`}
      ${mayAct("assign") && html`<button onClick=${asked("assign")}>Assign to me <${Key}>a<//></button>`}</div>
      <span class="row wrap">${[["snooze", "Snooze", "s"], ["comment", "Note", "c"], ["escalate", "Escalate", "e"], ["block", "Block", "b"]].filter(([kind]) => mayAct(kind)).map(([kind, name, key]) => html`<button class="plain" onClick=${asked(kind)}>${name} <${Key}>${key}<//></button>`)}</span>
      <span class="push row"><button class="plain" onClick=${() => { const next = after(it.case_id); if (next) go("case", [next]); else go("queue"); }}>Next <${Key}>n<//></button></span></div>
    <div class="case">
      <section aria-label="decision">${alert ? html`<${Decided} row=${row} alert=${alert} alerts=${alerts} story=${story} rules=${rules.data} rows=${rows} setLit=${setLit} lit=${lit} reasons=${row.reasons?.[alert.alert_id]} />`
    : html`<${Empty} title="No alert">This case was opened by hand${it.opened_by ? ` by ${it.opened_by}` : ""}. ${it.note}<//>`}</section>
      <section aria-label="time line of the account"><h2>This account's payments <span class="soft">${rows.length ? `${f.plural(rows.length, "payment")} shown` : ""}</span></h2>
        ${payments.data ? html`<${Timeline} rows=${rows} here=${place} lit=${lit.includes("amount") ? "amount" : null} flags=${flagsOf(it, story.data)} onChoose=${(chosen) => go("decision", [chosen.place])} />` : payments.error ? html`<${Fault} error=${payments.error} />` : html`<${Skeleton} lines=${5} />`}
        <${Account} id=${it.account_id} rows=${rows} /></section>
      <section aria-label="who else"><h2>Who else</h2><${Related} id=${it.account_id} /></section></div>
    <${Tabs} row=${row} story=${story} lit=${lit} tab=${params.tab || "features"} place=${place} />${asking}`;
}

const LEVELS = ["low", "medium", "high", "critical"];
const gravest = (alerts) => alerts.reduce((best, each) => (best && LEVELS.indexOf(best.severity) > LEVELS.indexOf(each.severity) ? best : each), null);

function flagsOf(it, story) {
  const tones = { fraud: "decline", legitimate: "approve", unsure: "review" };
  const flags = it.verdicts.map((verdict) => ({ at: verdict.occurred_at, tone: tones[verdict.verdict], text: `${verdict.verdict}: ${verdict.source} ${verdict.actor}, ${f.minuteOf(verdict.occurred_at)}` }));
  for (const later of [...(story?.actions || []), ...(story?.account_since || [])]) {
    if (later.type.startsWith("account_blocked")) flags.push({ at: later.event.occurred_at, tone: "decline", text: `blocked by ${later.event.actor}` });
    if (later.type.startsWith("account_unblocked")) flags.push({ at: later.event.occurred_at, tone: "approve", text: `unblocked by ${later.event.actor}` });
  }
  return flags;
}

function Decided({ alert, alerts, story, rules, rows, reasons, setLit, lit }) {
  const told = story.data;
  const payment = told?.raw;
  const decided = rows.find((row) => row.place === `p${alert.alert_id}`);
  const normal = decided ? usual(rows, decided.at) : null;
  const ratio = normal && normal.median > 0 ? decided.amount_base / normal.median : null;
  const named = Object.fromEntries((rules?.rules || []).map((rule) => [rule.code, rule]));
  const reads = (code) => named[code]?.reads || Object.keys(alert.values).filter((name) => (named[code]?.meaning || code.toLowerCase()).includes(name));
  const hits = told ? told.rule_hits : alert.reason_codes.map((code) => ({ code, effect: "", meaning: "" }));
  const features = Object.fromEntries((told?.features || []).map((line) => [line.name, line]));
  return html`<div class="stack"><h2>${alerts.length > 1 ? html`Alert ${alerts.indexOf(alert) + 1} of ${alerts.length} <span class="soft"><${Key}>[<//> <${Key}>]<//></span>` : "The decision"}</h2>
    <div><div class="row wrap"><span style=${{ fontSize: "20px", fontWeight: 600 }} class=${lit.includes("amount") ? "lit" : ""}>${f.amount(alert.amount, alert.currency)}</span><${Decision} value=${told?.decision || decided?.decision} />
      ${told?.degraded && html`<${Badge} tone="bad" title="decided without a part that could not be loaded">degraded: ${told.degraded}<//>`}</div>
      ${normal && html`<div>${ratio >= 1.5 || ratio <= 0.67 ? html`<b>${ratio >= 1 ? `${f.figure(Number(ratio.toPrecision(2)))} × ` : `${f.figure(Number((1 / ratio).toPrecision(2)))} × below `}this account's median</b>` : html`near this account's median`} <span class="soft">(${f.amount(normal.median)} over ${f.count(normal.count)} payments in the 90 days before)</span></div>`}</div>
    <ul class="evidence" aria-label="why">${hits.map((hit) => html`<li key=${hit.code} tabindex="0" class=${hit.effect === "decline" ? "decline-rule" : hit.effect === "review" ? "review-rule" : ""}
        onMouseEnter=${() => setLit(reads(hit.code))} onMouseLeave=${() => setLit([])} onFocus=${() => setLit(reads(hit.code))} onBlur=${() => setLit([])}>
        <div class="said">${hit.meaning || f.words(hit.code.toLowerCase())}</div>
        <div class="small soft"><span class="mono">${hit.code}</span> ${hit.effect === "shadow" ? "in shadow, without effect" : hit.effect}</div>
        <${Normals} names=${reads(hit.code)} features=${features} /></li>`)}
      ${hits.length === 0 && html`<li><div class="said">${alert.reason_codes.includes("MODEL_SCORE") || told ? "No rule hit: the model alone asked for it." : "No reason is known."}</div></li>`}</ul>
    ${reasons?.words?.length > hits.length && html`<div><h3>What moved the model</h3><ul>${reasons.words.filter((word) => !hits.some((hit) => hit.meaning === word) && !word.endsWith(": unknown")).map((word) => html`<li>· ${word}</li>`)}</ul></div>`}
    ${reasons?.missing && html`<div class="stale small">${reasons.missing}</div>`}
    ${payment && html`<${Pairs} rows=${[["when", html`<${Time} at=${payment.occurred_at} form="minute" /> <span class="soft">(<${Time} at=${payment.occurred_at} />)</span>`],
    ["merchant", payment.merchant_id && html`<span class=${lit.some((n) => n.startsWith("merchant")) ? "lit" : ""}><a href=${href("search", [], { q: `merchant:${payment.merchant_id}` })}>${payment.merchant_id}</a> ${f.words(payment.merchant_category || "")}</span>`],
    ["where", html`<span class=${lit.some((n) => n.startsWith("country") || n.includes("km")) ? "lit" : ""}>${[payment.country, payment.channel].filter(Boolean).join(", ") || "unknown"}</span>`],
    payment.device_id && ["device", html`<span class=${lit.some((n) => n.startsWith("device")) ? "lit" : ""}><${Id} value=${payment.device_id} label="device" /></span>`],
    payment.card_id && ["card", html`<${Id} value=${payment.card_id} label="card" />`], payment.ip && ["IP", html`<${Id} value=${payment.ip} label="IP" />`],
    ["payment", html`<${Id} value=${alert.transaction_id} label="payment" /> <a href=${href("decision", [`p${alert.alert_id}`])}>open</a>`],
    ["model says", html`${f.percent(alert.fraud_score, 1)} <span class="soft">probability of fraud</span>`]]} />`}
    ${!told && !story.error && html`<${Skeleton} lines=${4} />`}${story.error && html`<${Fault} error=${story.error} retry=${story.reload} />`}</div>`;
}

/** What a rule read, each beside the account's own range. */
const Normals = ({ names, features }) => html`<div class="small">${names.map((name) => features[name]).filter((line) => line && line.known >= 5 && f.known(line.value)).slice(0, 4).map((line) => html`<div><span class="soft">${f.words(line.name)}</span> <b>${f.figure(line.value)}</b> <span class="soft">usually ${f.figure(line.p05)} to ${f.figure(line.p95)}${f.unit(line.unit)}</span></div>`)}</div>`;

function Account({ id, rows }) {
  const answer = useData(`/v1/accounts/${encoded(id)}`);
  const profile = answer.data?.profile;
  if (!profile) return null;
  const total = Object.values(profile.decisions).reduce((a, b) => a + b, 0);
  const top = (counts) => Object.entries(counts).sort((a, b) => b[1] - a[1]).slice(0, 4).map(([name, n]) => `${name} ${n}`).join(" · ");
  return html`<div style=${{ marginTop: "12px" }}><${Pairs} rows=${[
    ["customer since", html`<${Time} at=${profile.first_seen} form="day" /> <span class="soft">${f.span(now.value - profile.first_seen)}</span>`],
    ["payments", html`${f.count(total)} <span class="soft">of which</span> ${f.count(profile.decisions.decline || 0)} <span class="soft">declined,</span> ${f.count(Object.values(profile.alerts).reduce((a, b) => a + b, 0))} <span class="soft">alerts</span>`],
    ["verdicts", Object.entries(profile.verdicts).length ? Object.entries(profile.verdicts).map(([word, n]) => html`<${Said} word=${word} count=${n} />`) : html`<span class="soft">none yet</span>`],
    ["countries", top(profile.countries)], profile.blocked && ["blocked", html`<span class="decline">by ${profile.blocked_by} <${Time} at=${profile.blocked_since} />: ${profile.blocked_reason}</span>`]]} /></div>`;
}

/** Verdicts of a profile, counted by source: "chargeback:fraud". */
export const Said = ({ word, count }) => html`<div class="row"><${Decision} value=${word.split(":").pop()} /> ${count} <span class="soft">${f.words(word.split(":").slice(0, -1).join(" "))}</span></div>`;

function Related({ id }) {
  const answer = useData(`/v1/accounts/${encoded(id)}/related`);
  if (answer.error?.status === 404) return html`<div class="soft small">This server does not offer shared devices, cards and merchants.</div>`;
  return html`<${Loaded} answer=${answer} lines=${4}>${(found) => html`<${Graph} centre=${`account:${id}`} nodes=${found.nodes} links=${found.links} leftOut=${found.left_out} />`}<//>`;
}

function Tabs({ row, story, lit, tab, place }) {
  const choose = (to) => setParams({ tab: to === "features" ? null : to }, { replace: true });
  useKeys("tabs", Object.fromEntries(TABS.map(([key, name], i) => [String(i + 1), [() => choose(key), name.toLowerCase()]])));
  const Body = { features: Features, model: Model, history: History, raw: Raw, audit: Audit }[tab] || Features;
  return html`<div class="tabs" role="tablist">${TABS.map(([key, name], i) => html`<button role="tab" aria-selected=${String(tab === key)} onClick=${() => choose(key)}>${name} <span class="wide"><${Key}>${i + 1}<//></span></button>`)}</div>
    <div role="tabpanel">${tab === "history" ? html`<${History} row=${row} story=${story} />` : place === null ? html`<${Empty} title="No payment">This case has no alerted payment.<//>` : html`<${Loaded} answer=${story} lines=${8}>${(told) => html`<${Body} story=${told} row=${row} lit=${lit} place=${place} />`}<//>`}</div>`;
}

/** How far a value lies outside the account's range, in widths of the range. */
function odd(line) {
  if (!f.known(line.value) || !f.known(line.p05) || line.known < 20) return -1;
  const width = Math.max(line.p95 - line.p05, Math.abs(line.median) * 0.1, 1e-9);
  return line.value > line.p95 ? (line.value - line.p95) / width : line.value < line.p05 ? (line.p05 - line.value) / width : 0;
}

export function Features({ story, lit = [] }) {
  const lines = [...story.features].sort((a, b) => odd(b) - odd(a) || Math.abs(b.share || 0) - Math.abs(a.share || 0));
  const [all, setAll] = useState(false);
  const most = all ? lines.length : 16;
  return html`<p class="soft small">Sorted by how unusual. The band holds 90 % of this account's ${f.count(story.earlier_decisions)} earlier values, the line is their median.</p>
    <div class="scroll" tabindex="0"><table><thead><tr><th scope="col">Feature</th><th scope="col" class="num">Value</th><th scope="col">Against normal</th><th scope="col" class="num wide">Usually</th><th scope="col" class="wide">Meaning</th></tr></thead>
    <tbody>${lines.slice(0, most).map((line) => html`<tr class=${lit.includes(line.name) ? "lit" : ""}><td class="mono">${line.name}</td><td class="num">${odd(line) > 0 ? html`<b>${f.figure(line.value)}</b>` : f.figure(line.value)} <span class="soft">${f.unit(line.unit)}</span></td>
      <td><${Usual} value=${line.value} median=${line.median} low=${line.p05} high=${line.p95} label=${`${line.name} ${f.figure(line.value)}, usually ${f.figure(line.p05)} to ${f.figure(line.p95)}`} /></td>
      <td class="num wide soft">${f.known(line.p05) ? `${f.figure(line.p05)} – ${f.figure(line.p95)}` : "–"}</td><td class="wide soft">${line.meaning}</td></tr>`)}</tbody></table></div>
    ${lines.length > most && html`<button class="link" onClick=${() => setAll(true)}>Show all ${lines.length}</button>`}`;
}

export function Model({ story }) {
  const lines = story.features.filter((line) => f.known(line.share)).sort((a, b) => Math.abs(b.share) - Math.abs(a.share));
  if (!lines.length) return html`<${Empty} title="No contributions">No model decided this payment, or it can't be explained.<//>`;
  const most = Math.abs(lines[0].share);
  return html`<p>The model ${story.model?.label || story.model?.version || ""} gives <b>${f.percent(story.probability, 1)}</b> (margin ${f.figure(story.margin)} log-odds; ${f.figure(story.bias)} without any feature). <span class="soft small">${story.method}</span></p>
    <div class="scroll" tabindex="0"><table><thead><tr><th scope="col">Feature</th><th scope="col" class="num">Value</th><th scope="col">Away from fraud · towards it</th><th scope="col" class="num">Log-odds</th></tr></thead><tbody>${lines.slice(0, 16).map((line) => html`<tr>
      <td title=${line.meaning} class="mono">${line.name}</td><td class="num">${f.figure(line.value)}</td><td><${Share} value=${line.share} most=${most} /></td><td class="num">${line.share > 0 ? "+" : "−"}${Math.abs(line.share).toFixed(3)}</td></tr>`)}</tbody></table></div>`;
}

const KINDS = { feedback: "verdict", account_blocked: "blocked", account_unblocked: "unblocked", case_opened: "case opened", case_assigned: "assigned", case_resolved: "closed", case_reopened: "reopened", case_noted: "note",
  case_snoozed: "snoozed", case_routed: "routed", case_linked: "linked", case_checked: "checked", action_succeeded: "done", action_failed: "failed", action_requested: "asked for again" };

function tellEvent(type, event) {
  const kind = KINDS[type.replace(/\.v\d+$/, "")] || f.words(type);
  const what = { verdict: event.verdict && `${event.verdict} on ${event.transaction_id}`, closed: event.verdict, assigned: event.assignee ? `to ${event.assignee}` : "to nobody", done: event.action, failed: `${event.action}: ${event.error}` }[kind];
  return [kind, what, event.note || event.reason].filter(Boolean).join(": ");
}

const WORK = { opened: "case opened", assigned: "assigned to", released: "released", resolved: "closed as", reopened: "reopened", snoozed: "put off until", routed: "moved to", noted: "note", linked: "linked with", checked: "checked:" };

function tellWork({ work, detail }) {
  const until = work === "snoozed" && Number(detail) ? f.minuteOf(Number(detail)) : f.words(detail || "");
  return [WORK[work] || f.words(work), until].filter(Boolean).join(" ");
}

/** What an event of the account adds to the case's own history: verdicts of other sources, blocks, what responders did. */
const isOfCase = (type) => type.startsWith("case_");

function History({ row, story }) {
  const it = row.case;
  const items = it.history.filter((each) => each.work !== "alert" && each.work !== "noted").map((each) => ({ at: each.occurred_at, actor: each.actor, text: tellWork(each) }));
  for (const note of it.notes) items.push({ at: note.occurred_at, actor: note.actor, text: `note: ${note.note}` });
  for (const check of it.checks) items.push({ at: check.occurred_at, actor: check.actor, text: `checked: ${check.verdict}${check.agrees ? "" : ", which differs"}${check.note ? `: ${check.note}` : ""}` });
  for (const alert of it.alerts) items.push({ at: alert.recorded_at, actor: "", text: `alert ${alert.severity}: ${f.amount(alert.amount, alert.currency)}, ${alert.reason_codes.join(", ")}` });
  for (const verdict of it.verdicts) items.push({ at: verdict.occurred_at, actor: `${f.words(verdict.source)} ${verdict.actor}`, text: `${verdict.verdict} on ${verdict.transaction_id}` });
  for (const later of [...(story.data?.account_since || []), ...(story.data?.actions || [])]) if (!isOfCase(later.type)) items.push({ at: later.event.occurred_at, actor: [f.words(later.event.source || ""), later.event.actor].filter(Boolean).join(" "), text: tellEvent(later.type, later.event).replace(/^verdict: /, "") });
  const seen = new Set();
  const once = items.filter((item) => { const key = `${item.at} ${item.text}`; return !seen.has(key) && seen.add(key); });
  once.sort((a, b) => b.at - a.at);
  return html`<ul class="history">${once.map((item) => html`<li><span class="soft"><${Time} at=${item.at} form="minute" /></span><span>${item.text} <span class="soft">${item.actor}</span></span></li>`)}</ul>`;
}

export const Raw = ({ story }) => html`<div class="two even"><div><h3>Payment as logged</h3><pre class="raw" tabindex="0">${JSON.stringify(story.raw, null, 1)}</pre></div><div><h3>Score${story.alert ? " and alert" : ""}</h3><pre class="raw" tabindex="0">${JSON.stringify({ score: story.score, alert: story.alert }, null, 1)}</pre></div></div>`;
export const Audit = ({ story, place }) => html`<div class="stack"><${Proof} story=${story} /><${Replay} place=${place} /><${Unmask} place=${place} /></div>`;
export { tellEvent };
