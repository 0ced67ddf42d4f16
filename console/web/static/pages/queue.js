// What next? The open cases, gravest deadline first. New ones wait behind a button, so that nothing moves under the hand.
import { html, useEffect, useMemo, useState } from "/vendor/preact.js";
import { ahead, can, connection, get, listen, me, useData } from "../lib/api.js";
import { allowed, ask, judge, mayAct } from "../lib/acts.js";
import * as f from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { go, setParams } from "../lib/router.js";
import { isPast, now, store } from "../lib/state.js";
import { Rows } from "../lib/rows.js";
import { Badge, Choice, Decision, Empty, Id, Key, Loaded, Severity, Time } from "../lib/widgets.js";

const LIMIT = 500;
const LOOK_MS = 5000;
const VIEWS = [["", "Open"], ["mine", "Mine"], ["unassigned", "Unassigned"], ["resolved", "Closed"], ["all", "All"]];
const GROUPS = [["", "none"], ["account", "account"], ["severity", "severity"], ["assignee", "assignee"]];

/** The sum of a case's alerted payments in their currency; in the base currency if there are several. */
export function atRisk(row) {
  const { alerts } = row.case;
  const currencies = new Set(alerts.map((alert) => alert.currency));
  if (currencies.size > 1 && row.amount_at_risk !== undefined) return [row.amount_at_risk, ""];
  return [alerts.reduce((sum, alert) => sum + alert.amount, 0), [...currencies][0] || ""];
}

const GRAVITY = ["decline", "review", "allow", "flag"];
const LEVELS = ["low", "medium", "high", "critical"];

/** Why, in short: the words of the gravest rule of the gravest alert, with its values. rules: by code. */
export function inShort(row, rules = {}) {
  if (row.reason) return row.reason;
  const { alerts, note } = row.case;
  const alert = alerts.reduce((best, each) => (best && LEVELS.indexOf(best.severity) >= LEVELS.indexOf(each.severity) ? best : each), null);
  if (!alert) return note || "opened by hand";
  return told(alert, rules);
}

export function told(alert, rules = {}) {
  const hit = alert.reason_codes.map((code) => rules[code]).filter(Boolean).sort((a, b) => GRAVITY.indexOf(a.effect) - GRAVITY.indexOf(b.effect))[0];
  if (hit && Object.keys(alert.values || {}).length) return f.filled(hit.meaning, { ...Object.fromEntries(Object.entries(hit.parameters)), ...alert.values });
  const own = alert.reason_codes.filter((code) => code !== "MODEL_SCORE").map((code) => f.words(code.toLowerCase()));
  return own.length ? own.join(", ") : `the model gives a probability of ${f.percent(alert.fraud_score, 1)}`;
}

/** The rules in force by code, from /v1/rules. */
export const byCode = (answer) => Object.fromEntries((answer.data?.rules || []).map((rule) => [rule.code, rule]));

export function Clock({ row }) {
  const { case: it, clock } = row;
  if (clock === "none") return html`<span class="soft">–</span>`;
  if (clock === "met" || clock === "missed") return html`<span class=${clock === "missed" ? "review" : "soft"}>${clock}</span>`;
  const left = it.due_at - now.value;
  return left < 0 ? html`<span class="decline nowrap" title=${f.exactly(it.due_at)}>overdue ${f.span(left)}</span>`
    : html`<span class="${left < 600_000 ? "review" : ""} nowrap" title=${f.exactly(it.due_at)}>${f.span(left)} left</span>`;
}

const filterOf = (params) => ({
  stage: params.view === "resolved" ? "resolved" : params.view === "all" ? "all" : "unresolved",
  assignee: params.view === "mine" ? me.value.name : undefined,
  severity: params.severity,
  account: params.account,
  limit: LIMIT,
});

const matches = (row, text, rules) => !text || [row.case.case_id, row.case.account_id, row.case.assignee, row.case.severity, inShort(row, rules), ...row.case.alerts.map((a) => a.transaction_id)]
  .join(" ").toLowerCase().includes(text.toLowerCase());

const ORDERS = {
  due: (a, b) => (a.case.due_at || 9e15) - (b.case.due_at || 9e15),
  severity: (a, b) => ["critical", "high", "medium", "low"].indexOf(a.case.severity) - ["critical", "high", "medium", "low"].indexOf(b.case.severity),
  amount: (a, b) => atRisk(b)[0] - atRisk(a)[0],
  newest: (a, b) => b.case.opened_at - a.case.opened_at,
};

export default function Queue({ params }) {
  const answer = useData("/v1/cases", filterOf(params));
  const known = useData("/v1/rules");
  const rules = useMemo(() => byCode(known), [known.data]);
  const [selected, setSelected] = useState(new Set());
  const [waiting, setWaiting] = useState(0);
  const [asking, setAsking] = useState(null);
  useEffect(() => (isPast.value ? undefined : listen((type) => { if (type === "alert") setWaiting((n) => n + 1); })), []);
  useEffect(() => { // without a stream of events, look whether there is something new; nothing moves by itself
    if (isPast.value || can("GET /v1/events") || !answer.data) return undefined;
    const known = new Set(answer.data.cases.flatMap((row) => row.case.alerts.map((alert) => alert.alert_id)));
    const timer = setInterval(async () => {
      if (document.hidden) return;
      try {
        const found = await get("/v1/cases", { ...filterOf(params), limit: LIMIT }, { background: true });
        setWaiting(found.cases.filter((row) => row.case.alerts.some((alert) => !known.has(alert.alert_id))).length);
      } catch { /* the next look tells */ }
    }, LOOK_MS);
    return () => clearInterval(timer);
  }, [answer.data]);
  const refresh = () => { setWaiting(0); answer.reload(); };
  useKeys("queue", {
    ".": [refresh, "show what is new"],
    "/": [() => document.getElementById("filter")?.focus(), "filter"],
    ...(selected.size && mayAct("judge") ? { F: [() => judgeAll("fraud"), "judge the selected fraud"], L: [() => judgeAll("legitimate"), "judge the selected legitimate"] } : {}),
  });
  const rows = useMemo(() => {
    const found = (answer.data?.cases || []).filter((row) => matches(row, params.text, rules) && (params.view !== "unassigned" || !row.case.assignee));
    const order = ORDERS[params.sort] || ORDERS.due;
    const by = { account: (r) => r.case.account_id, severity: (r) => r.case.severity || "", assignee: (r) => r.case.assignee || "" }[params.group];
    return [...found].sort((a, b) => (by ? by(a).localeCompare(by(b)) : 0) || order(a, b));
  }, [answer.data, rules, params.text, params.sort, params.group, params.view]);
  const remember = () => store("queue", JSON.stringify(rows.map((row) => row.case.case_id)));
  const open = (row) => { remember(); go("case", [row.case.case_id]); };
  const near = (row) => { if (row) ahead(`/v1/cases/${encodeURIComponent(row.case.case_id)}`); };
  const judgeAll = async (verdict) => {
    const chosen = rows.filter((row) => selected.has(row.case.case_id));
    setSelected(new Set());
    for (const row of chosen) judge(row, verdict, { then: refresh });
  };
  const act = (kind) => (row) => ask(kind, row, setAsking, refresh);
  const columns = [
    { name: "Severity", of: (row) => html`<${Severity} value=${row.case.severity} />` },
    { name: "At risk", num: true, of: (row) => f.amount(...atRisk(row)) },
    { name: "SLA", of: (row) => html`<${Clock} row=${row} />` },
    { name: "Age", wide: true, of: (row) => html`<${Time} at=${row.case.opened_at} />` },
    { name: "Account", wide: true, of: (row) => html`<${Id} value=${row.case.account_id} label="account" />` },
    { name: "Why", style: "why", below: true, of: (row) => html`<div class="clip" title=${inShort(row, rules)}>${inShort(row, rules)}</div>` },
    { name: "Alerts", num: true, wide: true, of: (row) => row.case.alerts.length },
    { name: "Assignee", wide: true, of: (row) => row.case.assignee || html`<span class="soft">–</span>` },
    ...(params.view === "resolved" || params.view === "all" ? [{ name: "Outcome", of: (row) => html`<${Decision} value=${row.case.outcome} />${row.case.contradicted ? html` <${Badge} tone="warn">contradicted<//>` : ""}` }] : []),
  ];
  const counts = answer.data?.counts || {};
  const people = Object.entries((answer.data?.cases || []).reduce((sum, row) => ({ ...sum, [row.case.assignee || "nobody"]: (sum[row.case.assignee || "nobody"] || 0) + 1 }), {})).sort((a, b) => b[1] - a[1]);
  return html`<div class="stack">
    <div class="row wrap"><div class="figures"><b>${f.count((counts.open || 0) + (counts.assigned || 0))}</b> open <span class="soft">·</span> <b class=${counts.overdue ? "decline" : ""}>${f.count(counts.overdue || 0)}</b> overdue <span class="soft">·</span> <b>${f.count(counts.running || 0)}</b> in time</div>
      ${waiting > 0 && html`<button class="main" onClick=${refresh} aria-live="polite">${waiting} new <${Key}>.<//></button>`}
      ${!isPast.value && connection.value === "off" && html`<button class="plain" onClick=${refresh}>Refresh</button>`}</div>
    <div class="row wrap"><${Choice} label="view" options=${VIEWS} value=${params.view || ""} onChange=${(view) => setParams({ view })} />
      <select aria-label="severity" value=${params.severity || ""} onChange=${(e) => setParams({ severity: e.target.value })}><option value="">any severity</option>
        ${["critical", "high", "medium", "low"].map((s) => html`<option value=${s}>${s}</option>`)}</select>
      <select aria-label="order" value=${params.sort || "due"} onChange=${(e) => setParams({ sort: e.target.value })}>
        <option value="due">earliest deadline</option><option value="severity">gravest</option><option value="amount">most at risk</option><option value="newest">newest</option></select>
      <label class="row small soft wide">group by <select value=${params.group || ""} onChange=${(e) => setParams({ group: e.target.value })}>${GROUPS.map(([k, n]) => html`<option value=${k}>${n}</option>`)}</select></label>
      <input id="filter" type="search" aria-label="filter" placeholder="Filter   /" value=${params.text || ""} onInput=${(e) => setParams({ text: e.target.value }, { replace: true })}
        onKeyDown=${(e) => { if (e.key === "Enter" || e.key === "Escape") e.target.blur(); }} /></div>
    ${selected.size > 0 && html`<div class="row wrap chosen" role="toolbar" aria-label="selected cases"><b>${f.plural(selected.size, "case")} selected</b>
      <button onClick=${() => judgeAll("fraud")}>Fraud <${Key}>F<//></button><button onClick=${() => judgeAll("legitimate")}>Legitimate <${Key}>L<//></button>
      <button class="plain" onClick=${() => setSelected(new Set())}>Clear</button></div>`}
    <${Loaded} answer=${answer} lines=${10}>${() => (rows.length ? html`<${Rows} label="cases" rows=${rows} columns=${columns} keyOf=${(row) => row.case.case_id} onOpen=${open} onCursor=${near}
        selected=${selected} onSelect=${mayAct("judge") ? setSelected : undefined} height="calc(100vh - 210px)" keys=${allowed({
    f: [(row) => judge(row, "fraud", { then: refresh }), "judge fraud", "judge"], l: [(row) => judge(row, "legitimate", { then: refresh }), "judge legitimate", "judge"],
    u: [(row) => judge(row, "unsure", { then: refresh }), "judge unsure", "judge"], a: [act("assign"), "assign to me", "assign"], s: [act("snooze"), "snooze for 4 hours", "snooze"],
  })} />` : html`<${Empty} title=${params.text || params.severity || params.view ? "No case matches" : "No open case"}>
        ${params.text || params.severity || params.view ? html`Loosen the filter, or <a href="/queue">show all open cases</a>.`
    : "An alert opens a case by itself: every payment that is reviewed or declined with a severity. New ones appear here without a reload."}<//>`)}<//>
    ${people.length > 1 && html`<div class="row wrap small soft">Workload: ${people.map(([name, n]) => html`<span>${name} <b>${n}</b></span>`)}</div>`}
    ${asking}</div>`;
}
