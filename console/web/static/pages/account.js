// One account: what is normal for it, what was decided, what was said.
import { html, useMemo, useState } from "/vendor/preact.js";
import { ask, mayAct } from "../lib/acts.js";
import { useData } from "../lib/api.js";
import * as f from "../lib/format.js";
import { Graph } from "../lib/graph.js";
import { useKeys } from "../lib/keys.js";
import { go, href } from "../lib/router.js";
import { Rows } from "../lib/rows.js";
import { Timeline } from "../lib/timeline.js";
import { Badge, Decision, Empty, Key, Loaded, Pairs, Severity, Time } from "../lib/widgets.js";
import { Said } from "./case.js";
import { COLUMNS } from "./search.js";

export default function Account({ args }) {
  const id = args[0] || "";
  const path = encodeURIComponent(id);
  const answer = useData(`/v1/accounts/${path}`);
  const payments = useData("/v1/decisions", { account: id, limit: 500 });
  const cases = useData("/v1/cases", { account: id, stage: "all", limit: 100 });
  const related = useData(`/v1/accounts/${path}/related`);
  const [asking, setAsking] = useState(null);
  const rows = payments.data?.decisions || [];
  const oldestFirst = useMemo(() => [...rows].reverse(), [payments.data]);
  const flags = (cases.data?.cases || []).flatMap((row) => row.case.verdicts.map((v) => ({ at: v.occurred_at, tone: { fraud: "decline", legitimate: "approve", unsure: "review" }[v.verdict], text: `${v.verdict}: ${v.source} ${v.actor}` })));
  const profile = answer.data?.profile;
  const act = (kind) => () => ask(kind, { case: { case_id: id, account_id: id, alerts: [] } }, setAsking, answer.reload);
  useKeys("account", profile && mayAct("block") ? { b: [act(profile.blocked ? "unblock" : "block"), profile.blocked ? "unblock" : "block"] } : {});
  return html`<${Loaded} answer=${answer}>${() => (!profile ? html`<${Empty} title=${`The log has nothing of ${id}`}>Check the ID, or the moment: what was not known then is not shown.<//>` : html`<div class="stack">
    <div class="case-head"><span class="answer mono">${id}</span>${profile.blocked ? html`<${Badge} tone="bad">blocked by ${profile.blocked_by}: ${profile.blocked_reason}<//>` : html`<span class="soft">not blocked</span>`}
      ${mayAct("block") && html`<span class="push"><button onClick=${act(profile.blocked ? "unblock" : "block")}>${profile.blocked ? "Unblock" : "Block"} <${Key}>b<//></button></span>`}</div>
    <div class="two"><section><h2>Payments</h2><${Loaded} answer=${payments}>${() => html`<${Timeline} rows=${oldestFirst} flags=${flags} onChoose=${(row) => go("decision", [row.place])} />`}<//></section>
      <section><h2>Profile</h2><${Pairs} rows=${[["first seen", html`<${Time} at=${profile.first_seen} form="minute" />`], ["last seen", html`<${Time} at=${profile.last_seen} />`], ["payments", f.count(profile.transactions)],
    ["amount", Object.entries(profile.amounts).map(([c, v]) => f.amount(v, c)).join(", ")], ["largest", Object.entries(profile.amount_max).map(([c, v]) => f.amount(v, c)).join(", ")],
    ["decisions", html`<div class="row wrap">${Object.entries(profile.decisions).map(([d, n]) => html`<span class="nowrap"><${Decision} value=${d} /> ${f.count(n)}</span>`)}</div>`],
    ["alerts", Object.entries(profile.alerts).length ? html`<div class="row wrap">${Object.entries(profile.alerts).map(([s, n]) => html`<span class="nowrap"><${Severity} value=${s} /> ${n}</span>`)}</div>` : "none"],
    ["verdicts", Object.entries(profile.verdicts).map(([word, n]) => html`<${Said} word=${word} count=${n} />`)], ["countries", Object.entries(profile.countries).map(([c, n]) => `${c} ${n}`).join(" · ")]]} />
        ${related.data && html`<h2 style=${{ marginTop: "16px" }}>Who else</h2><${Graph} centre=${`account:${id}`} nodes=${related.data.nodes} links=${related.data.links} leftOut=${related.data.left_out} />`}</section></div>
    ${cases.data?.cases.length > 0 && html`<section><h2>Cases</h2><ul class="history">${cases.data.cases.map((row) => html`<li><span class="soft"><${Time} at=${row.case.opened_at} form="minute" /></span><span><a href=${href("case", [row.case.case_id])}>${row.case.case_id}</a> <${Severity} value=${row.case.severity} /> ${row.case.stage} ${row.case.outcome ? html`<${Decision} value=${row.case.outcome} />` : ""}</span></li>`)}</ul></section>`}
    <section><h2>Decisions <span class="soft">${rows.length === 500 ? "the newest 500" : f.count(rows.length)}</span></h2><${Rows} label="decisions" rows=${rows} columns=${COLUMNS.filter((c) => c.name !== "Account")} keyOf=${(row) => row.place} onOpen=${(row) => go("decision", [row.place])} height="420px" /></section>
    ${asking}</div>`)}<//>`;
}
