// One box for all decisions: results, and what matches in all (lib/matches.js). The query is in the address, so a search can
// be sent to a colleague.
import { html, useMemo, useState } from "/vendor/preact.js";
import { can, get, useData } from "../lib/api.js";
import * as f from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { Chosen, Summary } from "../lib/matches.js";
import { FIELDS, keeps, parse } from "../lib/query.js";
import { go, setParams } from "../lib/router.js";
import { Rows } from "../lib/rows.js";
import { fail, isPast, now } from "../lib/state.js";
import { Badge, Decision, Empty, Fault, Id, Loaded, Severity, Time } from "../lib/widgets.js";

const PAGE = 200;

export const COLUMNS = [
  { name: "When", of: (row) => html`<${Time} at=${row.at} form="minute" />` },
  { name: "Amount", num: true, of: (row) => f.amount(row.amount, row.currency) },
  { name: "Decision", of: (row) => html`<${Decision} value=${row.decision} />${row.degraded ? html` <${Badge} tone="bad">degraded<//>` : ""}` },
  { name: "Severity", wide: true, of: (row) => html`<${Severity} value=${row.severity} />` },
  { name: "Model", num: true, wide: true, title: "probability of fraud", of: (row) => f.percent(row.probability, 1) },
  { name: "Account", below: true, of: (row) => html`<${Id} value=${row.account_id} label="account" />` },
  { name: "Merchant", wide: true, of: (row) => html`<span class="clip">${row.merchant_id} <span class="soft">${f.words(row.merchant_category || "")}</span></span>` },
  { name: "Country", wide: true, of: (row) => row.country || "–" },
  { name: "Rules", wide: true, style: "why", of: (row) => html`<div class="clip small mono" title=${row.rules.join(", ")}>${row.rules.join(", ")}${row.shadow_rules?.length ? html` <span class="soft">(${row.shadow_rules.join(", ")} in shadow)</span>` : ""}</div>` },
];

export default function Search({ params }) {
  const [text, setText] = useState(params.q ?? "");
  const asked = params.q ?? "";
  const minute = Math.floor(now.value / 60_000) * 60_000;
  const { params: wanted, problems, local } = useMemo(() => parse(asked, minute), [asked, asked.includes("last:") ? minute : 0]);
  const answer = useData(problems.length ? null : "/v1/decisions", { ...wanted, limit: PAGE });
  const [more, setMore] = useState({ of: "", rows: [], next: null });
  const [selected, setSelected] = useState(new Set());
  const mayActOn = !isPast.value && (can("POST /v1/feedback") || can("POST /v1/lists"));
  const isMine = answer.data && more.of === answer.data.as_of + asked;
  const rows = useMemo(() => [...(answer.data?.decisions || []), ...(isMine ? more.rows : [])].filter(keeps(local)), [answer.data, more, asked]);
  const next = isMine ? more.next : answer.data?.next;
  const load = async () => {
    try {
      const page = await get("/v1/decisions", { ...wanted, limit: PAGE, cursor: next });
      setMore({ of: answer.data.as_of + asked, rows: [...(isMine ? more.rows : []), ...page.decisions], next: page.next });
    } catch (error) { fail(error); }
  };
  const word = text.split(/\s+/).pop() || "";
  const offers = word && !/[:<>]./.test(word) ? FIELDS.filter(([prefix]) => prefix.startsWith(word) && prefix !== word) : [];
  useKeys("search", { "/": [() => document.getElementById("q").focus(), "search box"] });
  const submit = (event) => { event.preventDefault(); setParams({ q: text }); document.activeElement.blur(); };
  return html`<div class="stack"><form class="row wrap" onSubmit=${submit} role="search"><input id="q" class="grow mono" type="search" autofocus aria-label="search decisions" list="fields" autocomplete="off" spellcheck=${false}
      placeholder="account:a77 amount>500 decision:decline last:7d" value=${text} onInput=${(e) => setText(e.target.value)} style=${{ minWidth: "220px" }} /><button class="main">Search</button></form>
    ${offers.length > 0 && html`<div class="row wrap small">${offers.map(([prefix, , meaning]) => html`<button type="button" title=${meaning} onClick=${() => { setText(text.replace(/\S*$/, prefix)); document.getElementById("q").focus(); }}><span class="mono">${prefix}</span> <span class="soft wide">${meaning}</span></button>`)}</div>`}
    ${!asked && html`<div class="row wrap small"><span class="soft">Try</span>${["is:alert last:1d", "decision:decline last:7d", "amount>1000", "is:alert amount<50"].map((q) => html`<button class="link mono" onClick=${() => { setText(q); setParams({ q }); }}>${q}</button>`)}</div>`}
    ${problems.length > 0 && html`<${Fault} error=${{ message: problems.join("; "), remedy: "the text is kept: correct it and search again" }} />`}
    ${problems.length === 0 && html`<${Loaded} answer=${answer} lines=${10}>${() => (rows.length ? html`<${Summary} wanted=${wanted} isNarrowed=${Object.keys(local).length > 0} add=${(word) => { const q = `${asked} ${word}`.trim(); setText(q); setParams({ q }); }} />
      <${Chosen} rows=${rows.filter((row) => selected.has(row.place))} clear=${() => setSelected(new Set())} reload=${answer.reload} />
      <${Rows} label="decisions" rows=${rows} columns=${COLUMNS} keyOf=${(row) => row.place} onOpen=${(row) => go("decision", [row.place])} selected=${selected} onSelect=${mayActOn ? setSelected : undefined} height="calc(100vh - 330px)" />
      <div class="row"><span class="soft small">${f.plural(rows.length, "decision")}${next ? ", newest first; there are more" : ", all"}</span>${next && html`<button onClick=${load}>Load ${PAGE} more</button>`}</div>`
    : html`<${Empty} title="No decision matches">${asked ? "Loosen a condition, or look at another time." : isPast.value ? "The log held no decision then." : "Decisions appear here as payments come in."}<//>`)}<//>`}</div>`;
}
