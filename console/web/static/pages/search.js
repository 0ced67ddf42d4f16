// One box for all decisions: results, how they lie in time, and which values are frequent among them. The query is in the
// address, so a search can be sent to a colleague.
import { html, useMemo, useState } from "/vendor/preact.js";
import { get, useData } from "../lib/api.js";
import { Bars } from "../lib/charts.js";
import * as f from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
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
    ${problems.length > 0 && html`<${Fault} error=${{ message: problems.join("; "), remedy: "the text is kept: mend it and search again" }} />`}
    ${problems.length === 0 && html`<${Loaded} answer=${answer} lines=${10}>${() => (rows.length ? html`<${Summary} rows=${rows} hasMore=${Boolean(next)} setQuery=${(q) => { setText(q); setParams({ q }); }} asked=${asked} />
      <${Rows} label="decisions" rows=${rows} columns=${COLUMNS} keyOf=${(row) => row.place} onOpen=${(row) => go("decision", [row.place])} height="calc(100vh - 330px)" />
      <div class="row"><span class="soft small">${f.plural(rows.length, "decision")}${next ? ", newest first; there are more" : ", all"}</span>${next && html`<button onClick=${load}>Load ${PAGE} more</button>`}</div>`
    : html`<${Empty} title="No decision matches">${asked ? "Loosen a condition, or look at another time." : isPast.value ? "The log held no decision then." : "Decisions appear here as payments come in."}<//>`)}<//>`}</div>`;
}

const TOP = [["merchant_id", "Merchant", "merchant"], ["country", "Country", "country"], ["merchant_category", "Category", null], ["account_id", "Account", "account"]];

/** How the rows shown lie in time, and their most frequent values; of what was loaded, which the line below says. */
function Summary({ rows, hasMore, setQuery, asked }) {
  const times = rows.map((row) => row.at);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const step = [60_000, 300_000, 3_600_000, 6 * 3_600_000, 86_400_000, 7 * 86_400_000].find((each) => (last - first) / each <= 60) || 30 * 86_400_000;
  const bins = new Map();
  for (let at = Math.floor(first / step) * step; at <= last; at += step) bins.set(at, { at, parts: {} });
  for (const row of rows) { const bin = bins.get(Math.floor(row.at / step) * step); bin.parts[row.decision] = (bin.parts[row.decision] || 0) + 1; }
  const top = (field) => Object.entries(rows.reduce((sum, row) => (row[field] ? { ...sum, [row[field]]: (sum[row[field]] || 0) + 1 } : sum), {})).sort((a, b) => b[1] - a[1]).slice(0, 3);
  return html`<div class="two"><${Bars} label="decisions over time" height=${96} order=${["approve", "review", "decline"]} bars=${[...bins.values()]} />
    <div class="small" style=${{ display: "grid", gridTemplateColumns: "1fr 1fr", gap: "4px 16px" }}>${TOP.map(([field, name, key]) => html`<div><div class="soft">${name}${hasMore ? " (of those loaded)" : ""}</div>${top(field).map(([value, n]) => html`<div class="row"><span class="clip grow">${key ? html`<button class="link" onClick=${() => setQuery(`${asked} ${key}:${value}`.trim())}>${f.words(value)}</button>` : f.words(value)}</span><span>${f.percent(n / rows.length)}</span></div>`)}</div>`)}</div></div>`;
}
