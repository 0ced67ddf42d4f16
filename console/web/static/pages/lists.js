// Who and what is blocked, watched or allowed: since when, by whom, why; and every change.
import { html, useState } from "/vendor/preact.js";
import { can, post, reached, useData } from "../lib/api.js";
import * as f from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { waits } from "../lib/proposals.js";
import { href, setParams } from "../lib/router.js";
import { isPast, say } from "../lib/state.js";
import { Ask, Badge, Choice, Empty, Id, Key, Loaded, Time } from "../lib/widgets.js";

const EFFECT = { block: "decline", watch: "review", allow: "approve" };

export default function Lists({ params }) {
  const answer = useData("/v1/lists");
  const [asking, setAsking] = useState(null);
  const tab = params.tab || "entries";
  const add = () => setAsking(html`<${Add} onClose=${() => setAsking(null)} reload=${answer.reload} />`);
  const remove = (kind, effect, value) => () => setAsking(html`<${Ask} title=${`Remove ${value} from ${effect} ${kind}s`} label="Reason" action="Remove" onClose=${() => setAsking(null)} onDone=${async (reason) => { const made = await post("/v1/lists", { kind, effect, remove: [value], reason }); await reached("/v1/lists", made.position); say(waits(made) || "removed"); answer.reload(); }} />`);
  const mayEdit = can("POST /v1/lists") && !isPast.value;
  useKeys("lists", { ...(mayEdit ? { "+": [add, "add an entry"] } : {}), "/": [() => document.getElementById("filter")?.focus(), "filter"] });
  return html`<div class="stack"><div class="row wrap"><${Choice} label="what is shown" options=${[["entries", "Entries"], ["accounts", "Blocked accounts"], ["history", "Changes"]]} value=${tab} onChange=${(to) => setParams({ tab: to === "entries" ? null : to })} />
      <input id="filter" type="search" placeholder="Filter   /" aria-label="filter" value=${params.text || ""} onInput=${(e) => setParams({ text: e.target.value }, { replace: true })} />${mayEdit && html`<span class="push"><button onClick=${add}>Add an entry <${Key}>+<//></button></span>`}</div>
    <${Loaded} answer=${answer}>${(lists) => {
    const is = (...texts) => !params.text || texts.join(" ").toLowerCase().includes(params.text.toLowerCase());
    if (tab === "history") return html`<ul class="history">${[...lists.history].reverse().filter((e) => is(e.name, e.value, e.actor, e.reason)).slice(0, 500).map((e) => html`<li><span class="soft"><${Time} at=${e.occurred_at} form="minute" /></span><span>${e.actor} ${e.action === "add" ? "put" : "took"} <b class="mono">${e.value}</b> ${e.action === "add" ? "on" : "off"} ${e.name.replace(":", " ")} <span class="soft">${e.reason}</span>${e.refused && html` <${Badge} tone="bad">refused: ${e.refused}<//>`}</span></li>`)}</ul>`;
    const rows = tab === "accounts" ? Object.entries(lists.blocked_accounts).map(([value, member]) => ["account", "block", value, member])
      : Object.entries(lists.members).flatMap(([name, members]) => Object.entries(members).map(([value, member]) => [...name.split(":"), value, member]));
    const shown = rows.filter(([kind, effect, value, member]) => is(kind, effect, value, member.actor, member.reason));
    return shown.length ? html`<div class="scroll" tabindex="0"><table><thead><tr><th>Effect</th><th>Kind</th><th>Value</th><th>Since</th><th class="wide">By</th><th class="wide">Why</th><th></th></tr></thead><tbody>${shown.slice(0, 1000).map(([kind, effect, value, member]) => html`<tr><td class=${EFFECT[effect]}>${effect}</td><td>${kind}</td><td>${kind === "account" ? html`<a href=${href("account", [value])} class="mono">${value}</a>` : html`<${Id} value=${value} most=${26} />`}</td><td><${Time} at=${member.since} /></td><td class="wide">${member.actor}</td><td class="wide">${member.reason}</td>
      <td>${mayEdit && tab !== "accounts" && html`<button class="plain" onClick=${remove(kind, effect, value)}>Remove</button>`}</td></tr>`)}</tbody></table></div>`
      : html`<${Empty} title=${tab === "accounts" ? "No account is blocked" : params.text ? "Nothing matches" : "The lists are empty"}>${tab === "accounts" ? "An analyst blocks an account on its page or in a case." : "Entries decline (block), review (watch) or pass over rules (allow) the payments that they match."}<//>`;
  }}<//>${asking}</div>`;
}

function Add({ onClose, reload }) {
  const [entry, setEntry] = useState({ kind: "card", effect: "block", value: "" });
  const set = (name) => (e) => setEntry({ ...entry, [name]: e.target.value });
  const done = async (reason) => {
    if (!entry.value.trim()) throw new Error("enter a value");
    const made = await post("/v1/lists", { kind: entry.kind, effect: entry.effect, add: entry.value.split(/[\s,]+/).filter(Boolean), reason });
    await reached("/v1/lists", made.position);
    say(waits(made) || "added"); reload();
  };
  return html`<${Ask} title="Add to a list" label="Reason" action="Add" onClose=${onClose} onDone=${done}><div class="row wrap">
    <label class="field">Effect<select value=${entry.effect} onChange=${set("effect")}>${["block", "watch", "allow"].map((e) => html`<option>${e}</option>`)}</select></label>
    <label class="field">Kind<select value=${entry.kind} onChange=${set("kind")}>${["account", "card", "merchant", "device", "ip", "country"].map((e) => html`<option>${e}</option>`)}</select></label>
    <label class="field grow">Values, separated by spaces<input class="mono" value=${entry.value} onInput=${set("value")} /></label></div><//>`;
}
