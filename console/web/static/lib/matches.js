// All that matches a search, counted by the server: over time, and the most frequent values against the period before; and
// what can be done with the rows that were selected.
import { html, useState } from "/vendor/preact.js";
import { can, post, useData } from "./api.js";
import { Bars } from "./charts.js";
import * as f from "./format.js";
import { useKeys } from "./keys.js";
import { fail, isPast, say } from "./state.js";
import { Ask, Key } from "./widgets.js";

const TOP = [["merchant", "Merchants"], ["account", "Accounts"], ["device", "Devices"], ["card", "Cards"], ["rule", "Rules"]];
const SHOWN = 3;

/** wanted: the search's parameters; isNarrowed: the page hides some of what matches. add(word): narrows the search. */
export function Summary({ wanted, isNarrowed, add }) {
  const answer = useData("/v1/summary", wanted);
  if (!answer.data) return null;
  const { totals, before, series, top } = answer.data;
  const bars = series.map((bin) => ({ at: bin.at, parts: bin.decisions }));
  return html`<div class="stack" style=${{ gap: "8px" }}><div class="row wrap" aria-label="what matches"><span><b>${f.count(totals.count)}</b> ${totals.count === 1 ? "decision" : "decisions"}</span><span class="soft">·</span><span><b>${f.count(totals.alerts)}</b> ${totals.alerts === 1 ? "alert" : "alerts"}</span><span class="soft">·</span><span><b>${f.amount(totals.amount)}</b></span>
      ${before && html`<span class="soft">the period before: ${f.count(before.count)}, ${f.plural(before.alerts, "alert")}, ${f.amount(before.amount)}</span>`}${isNarrowed && html`<span class="soft">the count ignores the condition on the country</span>`}</div>
    <div class="two"><${Bars} label="decisions over time" height=${96} order=${["approve", "review", "decline"]} bars=${bars} />
    <div class="small tops">${TOP.map(([key, name]) => top[key].length > 0 && html`<div><div class="soft">${name}</div>${top[key].slice(0, SHOWN).map((each) => html`<div class="row"><button class="link clip grow" title=${`narrow the search to ${each.value}`} onClick=${() => add(`${key}:${each.value}`)}>${key === "rule" ? each.value : f.shortened(each.value)}</button><span class="nowrap">${f.count(each.count)}${each.before !== null && html` <span class="soft" title="in the period before">${each.before ? `before ${f.count(each.before)}` : "new"}</span>`}</span></div>`)}</div>`)}</div></div></div>`;
}

/** Verdicts on the selected payments, or a list for what they have in common. clear(): nothing is selected any more. */
export function Chosen({ rows, clear, reload }) {
  const [asking, setAsking] = useState(null);
  const mayJudge = can("POST /v1/feedback") && !isPast.value;
  const mayList = can("POST /v1/lists") && !isPast.value;
  const judge = (verdict) => () => setAsking(html`<${Ask} title=${`${f.plural(rows.length, "payment")}: ${verdict}`} label="Reason" action=${`Judge ${verdict}`} onClose=${() => setAsking(null)} onDone=${async (reason) => {
    const failed = [];
    for (const row of rows) await post("/v1/feedback", { transaction_id: row.transaction_id, account_id: row.account_id, verdict, reason }).catch((error) => failed.push([row, error]));
    if (failed.length) fail({ message: `${f.count(failed.length)} of ${f.plural(rows.length, "verdict")} could not be given: ${failed[0][1].message}`, remedy: `the first is ${failed[0][0].transaction_id}` });
    else say(`${f.plural(rows.length, "verdict")} given`);
    clear(); reload();
  }} />`);
  const list = () => setAsking(html`<${OnList} rows=${rows} onClose=${() => setAsking(null)} onDone=${clear} />`);
  useKeys("selection", rows.length ? { ...(mayJudge ? { F: [judge("fraud"), "judge the selected fraud"], L: [judge("legitimate"), "judge the selected legitimate"] } : {}), ...(mayList ? { "+": [list, "put on a list"] } : {}) } : {});
  if (!rows.length) return asking;
  return html`<div class="row wrap chosen" role="toolbar" aria-label="selected payments"><b>${f.plural(rows.length, "payment")} selected</b>
    ${mayJudge && html`<button onClick=${judge("fraud")}>Fraud <${Key}>F<//></button><button onClick=${judge("legitimate")}>Legitimate <${Key}>L<//></button>`}
    ${mayList && html`<button onClick=${list}>Put on a list <${Key}>+<//></button>`}<button class="plain" onClick=${clear}>Clear</button></div>${asking}`;
}

const KINDS = [["account", "account_id"], ["card", "card_id"], ["device", "device_id"], ["merchant", "merchant_id"]];

function OnList({ rows, onClose, onDone }) {
  const [entry, setEntry] = useState({ kind: "device", effect: "watch" });
  const set = (name) => (e) => setEntry({ ...entry, [name]: e.target.value });
  const values = [...new Set(rows.map((row) => row[KINDS.find(([kind]) => kind === entry.kind)[1]]).filter(Boolean))];
  const done = async (reason) => {
    if (!values.length) throw new Error(`none of them has a ${entry.kind}`);
    await post("/v1/lists", { kind: entry.kind, effect: entry.effect, add: values, reason });
    say(`${f.plural(values.length, entry.kind)} put on ${entry.effect}`); onDone();
  };
  return html`<${Ask} title="Put on a list" label="Reason" action="Add" onClose=${onClose} onDone=${done}><div class="row wrap">
    <label class="field">Effect<select value=${entry.effect} onChange=${set("effect")}>${["block", "watch", "allow"].map((e) => html`<option>${e}</option>`)}</select></label>
    <label class="field">Kind<select value=${entry.kind} onChange=${set("kind")}>${KINDS.map(([kind]) => html`<option>${kind}</option>`)}</select></label>
    <span class="mono small">${values.slice(0, 5).join(" ")}${values.length > 5 ? ` and ${values.length - 5} more` : ""}</span></div><//>`;
}
