// What would this do? The rules in force, proposals with what they change, and the programs before; the editor is in
// lib/editing.js.
import { html, useState } from "/vendor/preact.js";
import { can, useData } from "../lib/api.js";
import { Interval, Spark } from "../lib/charts.js";
import { Editing } from "../lib/editing.js";
import * as f from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { Proposals, Texts, Waiting } from "../lib/proposals.js";
import { href, setParams } from "../lib/router.js";
import { SetRule, Thresholds, isChangeable } from "../lib/settings.js";
import { isPast } from "../lib/state.js";
import { Badge, Choice, Fault, Key, Loaded, Time } from "../lib/widgets.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

export default function Rules({ params }) {
  if (params.edit !== undefined) return html`<${Editing} params=${params} />`;
  return params.program ? html`<${Compared} params=${params} />` : html`<${List} params=${params} />`;
}

const STATES = { enabled: ["approve", "● live"], shadow: ["review", "◐ shadow"] };
const State = ({ value }) => html`<span class="nowrap ${STATES[value]?.[0] || "soft"}">${STATES[value]?.[1] || `○ ${value}`}</span>`;

function List({ params }) {
  const rules = useData("/v1/rules");
  const programs = useData("/v1/programs");
  const models = useData("/v1/models");
  const days = Number(params.days || 30);
  const until = Math.ceil(f.momentOf(rules.data?.as_of) / HOUR) * HOUR;
  const counted = useData(until ? "/v1/rules/hits" : null, { start: String(until - days * DAY) });
  const hits = Object.fromEntries((counted.data?.rules || []).map((each) => [each.code, each]));
  const thresholds = useData("/v1/thresholds");
  const [asking, setAsking] = useState(null);
  const [round, setRound] = useState(0);
  const reload = () => { programs.reload(); rules.reload(); thresholds.reload(); setRound((n) => n + 1); };
  const mayEdit = can("POST /v1/programs/check");
  const mayChange = can("PATCH /v1/rules") && !isPast.value;
  useKeys("rules", { ...(mayEdit ? { E: [() => setParams({ edit: "current" }), "edit the program"] } : {}), "/": [() => document.getElementById("filter")?.focus(), "filter"] });
  return html`<${Loaded} answer=${rules}>${(found) => {
    const registry = programs.data?.registry;
    const shown = found.rules.filter((rule) => !params.text || `${rule.code} ${rule.meaning} ${rule.owner}`.toLowerCase().includes(params.text.toLowerCase())).sort((a, b) => (hits[b.code]?.hits || 0) - (hits[a.code]?.hits || 0));
    const inState = (state) => found.rules.filter((rule) => rule.state === state).length;
    const changes = [...found.history, ...(thresholds.data?.history || [])].sort((a, b) => b.position - a.position).slice(0, 50);
    return html`<div class="stack" style=${{ gap: "20px" }}><div class="case-head"><span class="answer">${found.program} decides</span><span class="soft">${f.plural(inState("enabled"), "rule")} in force, ${inState("shadow")} in shadow</span>
        <span class="push row"><input id="filter" type="search" placeholder="Filter   /" aria-label="filter" value=${params.text || ""} onInput=${(e) => setParams({ text: e.target.value }, { replace: true })} />
        ${mayEdit && html`<button class="main" onClick=${() => setParams({ edit: "current" })}>Edit <${Key}>E<//></button>`}</span></div>
      ${registry && html`<${Proposals} proposals=${Object.values(registry.proposals)} kind="programs" hasFourEyes=${models.data?.registry.governance?.four_eyes} reload=${reload} name=${(p) => labelOf(registry, p.digest)} />`}
      <${Waiting} key=${round} reload=${reload} />
      <${Thresholds} answer=${thresholds} show=${setAsking} reload=${reload} />
      <section><h2>Rules</h2><div class="row wrap small"><${Choice} label="period" options=${[["7", "7 days"], ["30", "30 days"], ["90", "90 days"]]} value=${String(days)} onChange=${(d) => setParams({ days: d === "30" ? null : d }, { replace: true })} />
          <span class="soft">${counted.data ? `${f.count(counted.data.decisions)} decisions` : "counting…"}; precision of the hits that have a verdict, with its 95 % interval</span></div>
        ${counted.error && html`<${Fault} error=${counted.error} retry=${counted.reload} />`}
        <div class="scroll" tabindex="0"><table class="tall stacked" aria-label="rules"><thead><tr><th>Rule</th><th>Effect</th><th>State</th><th class="num">Hits</th><th>Precision</th><th class="num wide">Fraud found</th><th>Says</th><th class="wide">Parameters</th><th class="wide">Owner</th>${mayChange && html`<th><span class="hidden-label">Change</span></th>`}</tr></thead><tbody>${shown.map((rule) => html`<${Rule} key=${rule.code} rule=${rule} hits=${counted.data ? hits[rule.code] || NO_HITS : null} days=${days} until=${until} change=${mayChange ? () => setAsking(html`<${SetRule} rule=${rule} rules=${found.rules} onClose=${() => setAsking(null)} done=${reload} />`) : null} />`)}</tbody></table></div></section>
      ${registry && html`<${Served} registry=${registry} />`}
      ${changes.length > 0 && html`<section><h2>Changes of thresholds and parameters</h2><ul class="history">${changes.map((e) => html`<li><span class="soft"><${Time} at=${e.occurred_at} form="minute" /></span><span>${e.actor}: ${e.change} <span class="soft">${e.reason}</span>${e.refused && html` <${Badge} tone="bad">refused: ${e.refused}<//>`}</span></li>`)}</ul></section>`}${asking}</div>`;
  }}<//>`;
}

const NO_HITS = { hits: 0, alerts: 0, judged: 0, confirmed: 0, precision: null, confirmed_amount: 0, days: {} };

/** Hits by day, oldest first; the days without one are 0. */
const byDay = (hits, days, until) => Array.from({ length: days }, (_, i) => hits.days[new Date(until - (days - i) * DAY).toISOString().slice(0, 10)] || 0);

const Precision = ({ hits }) => (hits.precision === null ? html`<span class="soft small">${hits.hits ? "no verdict yet" : "–"}</span>`
  : html`<div class="row nowrap"><${Interval} value=${hits.precision} low=${hits.low} high=${hits.high} width=${72} label=${`${f.percent(hits.precision)}, between ${f.percent(hits.low)} and ${f.percent(hits.high)}`} /> <b>${f.percent(hits.precision)}</b> <span class="soft small">of ${f.count(hits.judged)}</span></div>`);

const Rule = ({ rule, hits, days, until, change }) => html`<tr><td class="mono nowrap">${rule.code}</td><td class=${rule.effect}>${rule.effect}</td><td><${State} value=${rule.state} /></td>
  <td class="num" data-label="hits">${hits && html`<a href=${href("search", [], { q: `rule:${rule.code} last:${days}d` })}>${f.count(hits.hits)}</a>${hits.hits > 0 && html`<div style=${{ width: "72px" }}><${Spark} label=${`hits of ${rule.code} a day`} width=${72} height=${16} values=${byDay(hits, days, until)} /></div>`}`}</td>
  <td>${hits && html`<${Precision} hits=${hits} />`}</td><td class="num wide">${hits?.confirmed_amount ? f.amount(hits.confirmed_amount) : html`<span class="soft">–</span>`}</td>
  <td class="whole"><${Template} text=${rule.meaning} />${rule.when && html`<div class="mono small soft" style=${{ overflowWrap: "anywhere" }}>${rule.when}</div>`}</td>
  <td class="wide small">${Object.entries(rule.parameters).map(([name, value]) => html`<div class="nowrap">${name} ${rule.changed.includes(name) ? html`<b>${value}</b> <${Badge} tone="warn" title="differs from the program's own value">set<//>` : value}</div>`)}</td>
  <td class="wide">${rule.owner || "–"}</td>
  ${change && html`<td style=${{ padding: "2px 8px" }}>${isChangeable(rule) && html`<button class="plain" aria-label=${`change ${rule.code}`} onClick=${change}>Change</button>`}</td>`}</tr>`;

/** A rule's words with the names in them set apart. */
const Template = ({ text }) => text.split(/(\{[^}]*\})/).map((part) => (part.startsWith("{") ? html`<span class="name">${part.slice(1, -1).split(":")[0]}</span>` : part));

const labelOf = (registry, digest) => (registry.programs[digest] ? `${registry.programs[digest].name}@${registry.programs[digest].version}` : !digest || digest === registry.default ? "the log's default program" : f.shortened(digest, 14));

/** Which program decided from when on, each with what it changed. */
function Served({ registry }) {
  const named = (digest) => (!digest || digest === registry.default ? "default" : digest);
  return html`<section><h2>Programs</h2><ul class="history">${registry.services.map((s, at) => html`<li key=${s.began.position}><span class="soft"><${Time} at=${s.began.occurred_at} form="minute" /></span>
      <span>${s.began.actor} ${s.action === "rollback" ? "rolled back to" : "deployed"} <b>${labelOf(registry, s.digest)}</b>${s.proposal && html` <span class="soft">proposed by ${s.proposal.proposed.actor}${s.proposal.approved ? `, approved by ${s.proposal.approved.actor}` : ""}</span>`}: ${s.began.reason}
      ${" "}<a href=${href("rules", [], { program: named(s.digest), against: named(registry.services[at - 1]?.digest) })}>what changed</a></span></li>`).reverse()}
    ${registry.services.length === 0 && html`<li><span></span><span class="soft">The log's default program has decided from the beginning.</span></li>`}</ul></section>`;
}

function Compared({ params }) {
  const against = params.against || "current";
  const told = useData(`/v1/programs/${encodeURIComponent(params.program)}/diff`, { against });
  return html`<div class="stack"><a href=${href("rules")}>← Rules</a><${Loaded} answer=${told} lines=${3}>${({ differences }) => html`<ul class="diff-words" aria-label="what changes">${differences.length ? differences.map((line) => html`<li>${line}</li>`) : html`<li class="soft">nothing</li>`}</ul>`}<//>
    <section><h2>As text <span class="soft">in canonical form: without comments</span></h2><${Texts} before=${against} after=${params.program} /></section></div>`;
}
