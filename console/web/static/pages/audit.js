// Can I prove it? Every act on what decides: who, when, why, and what it changed, in the log's own order.
import { html, useEffect, useMemo, useState } from "/vendor/preact.js";
import { get, useData } from "../lib/api.js";
import * as f from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { setParams } from "../lib/router.js";
import { fail } from "../lib/state.js";
import { Badge, Empty, Loaded, Time } from "../lib/widgets.js";
import { actText, ROUTINE } from "../lib/acting.js";

const PAGE = 500;

export default function Audit({ params }) {
  const answer = useData("/v1/control", { limit: PAGE });
  const [rest, setRest] = useState({ of: null, events: [], next: null });
  const first = answer.data;
  useEffect(() => { // the whole stream: it is short, and the newest events come last
    if (!first?.next) return undefined;
    let isOn = true;
    (async () => {
      let [events, next] = [[], first.next];
      try {
        while (next && isOn && events.length < 20_000) { const page = await get("/v1/control", { limit: PAGE, cursor: next }); events = [...events, ...page.events]; next = page.next; }
        if (isOn) setRest({ of: first, events, next });
      } catch (error) { fail(error); }
    })();
    return () => { isOn = false; };
  }, [first]);
  const events = useMemo(() => [...(first?.events || []), ...(rest.of === first ? rest.events : [])], [first, rest]);
  useKeys("audit trail", { "/": [() => document.getElementById("filter")?.focus(), "filter"] });
  const shown = events.filter((e) => (params.all || !ROUTINE.has(e.type)) && (!params.text || `${e.type} ${e.actor} ${e.reason} ${JSON.stringify(e.event)}`.toLowerCase().includes(params.text.toLowerCase())) && (!params.actor || e.actor === params.actor)).reverse();
  const names = useMemo(() => Object.fromEntries(events.filter((e) => e.type.startsWith("program_registered")).map((e) => [e.event.digest, `${e.event.name}@${e.event.version}`])), [events]);
  const actors = [...new Set(events.map((e) => e.actor))].sort();
  const save = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([shown.map((e) => `${JSON.stringify(e)}\n`).join("")], { type: "application/x-ndjson" }));
    link.download = "audit-trail.jsonl";
    link.click();
  };
  return html`<div class="stack"><div class="row wrap noprint"><input id="filter" type="search" placeholder="Filter   /" aria-label="filter" value=${params.text || ""} onInput=${(e) => setParams({ text: e.target.value }, { replace: true })} />
      <select aria-label="actor" value=${params.actor || ""} onChange=${(e) => setParams({ actor: e.target.value })}><option value="">anybody</option>${actors.map((a) => html`<option>${a}</option>`)}</select>
      <label class="row small"><input type="checkbox" checked=${Boolean(params.all)} onChange=${(e) => setParams({ all: e.target.checked ? "1" : null })} /> routine events as well</label>
      <span class="push row"><button onClick=${save}>Export</button><button onClick=${() => print()}>Print</button></span></div>
    <${Loaded} answer=${answer} lines=${10}>${() => (shown.length ? html`<div class="scroll" tabindex="0"><table class="tall stacked"><thead><tr><th class="num wide">Position</th><th>When</th><th>Who</th><th>What</th><th>Why</th></tr></thead><tbody>${shown.slice(0, 1000).map((e) => html`<tr><td class="num mono wide">c${e.position}</td><td><${Time} at=${e.occurred_at} form="minute" /></td><td>${e.actor}</td><td class="whole">${actText(e, names)}${e.refused && html` <${Badge} tone="bad" title=${e.refused}>refused: ${e.refused}<//>`}</td><td class="soft whole">${e.reason}</td></tr>`)}</tbody></table></div>
      <p class="soft small">${f.plural(shown.length, "event")} of ${f.count(events.length)}${rest.next ? "; the newest are missing, since the stream is longer than this page reads" : ""}. <code>sentinel verify</code> recomputes the chain of seals that holds them.</p>`
    : html`<${Empty} title="No act matches">Deployments, thresholds, rules, lists, experiments and whatever else changes decisions appear here.<//>`)}<//></div>`;
}
