// What if? Other thresholds, switched-off rules or another model on a range of the log: what they would have decided, caught
// and cost. Thresholds are handles on the curve of what they catch; the settings are in the address.
import { html, useEffect, useMemo, useState } from "/vendor/preact.js";
import { can, post, reached, send, useData } from "../lib/api.js";
import { Bars } from "../lib/charts.js";
import { Curve } from "../lib/curve.js";
import * as f from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { waits } from "../lib/proposals.js";
import { href, setParams } from "../lib/router.js";
import { asOf, isPast, say } from "../lib/state.js";
import { Ask, Badge, Choice, Decision, Empty, Fault, Loaded, Skeleton } from "../lib/widgets.js";

const PAUSE_MS = 250;
const DAY = 86_400_000;

export default function WhatIf({ params }) {
  const set = useData("/v1/thresholds");
  const rules = useData("/v1/rules");
  const models = useData("/v1/models");
  return html`<${Loaded} answer=${set}>${(found) => html`<${Tried} params=${params} logged=${found} rules=${rules.data?.rules || []} models=${models.data?.models || []} reload=${set.reload} />`}<//>`;
}

/** What is asked, from the address. */
function asked(params, logged, end) {
  const days = Number(params.days || 14);
  const [review, decline] = [Number(params.review ?? logged.review), Number(params.decline ?? logged.decline)];
  const body = { start: new Date(end - days * DAY).toISOString().slice(0, 10), top: 10, curve: true };
  if (params.review !== undefined || params.decline !== undefined) Object.assign(body, { review: Math.min(review, decline), decline });
  if (params.off) body.disabled = params.off.split(",");
  if (params.model) body.model = params.model;
  if (asOf.value) body.as_of = asOf.value;
  return { body, review: Math.min(review, decline), decline, days };
}

function useAnswer(body) {
  const [state, setState] = useState({ answer: null, error: null, busy: true });
  const key = JSON.stringify(body);
  useEffect(() => {
    let isOn = true;
    const timer = setTimeout(async () => {
      setState((was) => ({ ...was, busy: true }));
      try { const answer = await post("/v1/whatif", body); if (isOn) setState({ answer, error: null, busy: false }); } catch (error) { if (isOn) setState((was) => ({ ...was, error, busy: false })); }
    }, PAUSE_MS);
    return () => { isOn = false; clearTimeout(timer); };
  }, [key]);
  return state;
}

function Tried({ params, logged, rules, models, reload }) {
  const end = useMemo(() => f.momentOf(logged.as_of), [asOf.value]);
  const { body, review, decline, days } = asked(params, logged, end);
  const { answer, error, busy } = useAnswer(body);
  const [asking, setAsking] = useState(null);
  const change = (patch) => setParams(patch, { replace: true });
  const isOther = review !== logged.review || decline !== logged.decline;
  const reset = () => change({ review: null, decline: null, off: null, model: null });
  const save = () => setAsking(html`<${Ask} title=${`Review from ${f.percent(review)}, decline from ${f.percent(decline)}`} label="Reason" action="Set thresholds" onClose=${() => setAsking(null)}
    onDone=${async (reason) => { const made = await send("PATCH", "/v1/thresholds", { review, decline, reason }); await reached("/v1/thresholds", made.position); say(waits(made) || "thresholds set: from the workers' next batch on"); change({ review: null, decline: null }); reload(); }} />`);
  useKeys("what if", { r: [reset, "as decided"] });
  const budget = Number(params.budget) || null;
  return html`<div class="stack" style=${{ gap: "20px" }}><div class="case-head"><span class="answer">${answer ? html`<${Verdict} total=${answer.total} days=${answer.days.length} />` : error ? "What would other settings have decided?" : "…"}</span>${busy && html`<span class="soft" role="status">trying…</span>`}
      <span class="push row wrap"><button class="plain" onClick=${reset} disabled=${!isOther && !params.off && !params.model}>As decided</button>${can("PATCH /v1/thresholds") && html`<button class="main" disabled=${!isOther || isPast.value} onClick=${save}>Set these thresholds</button>`}</span></div>
    ${(logged.review_loss > 0 || logged.decline_loss > 0) && html`<p class="stale">An expected loss decides at present, not a probability; setting thresholds here ends that.</p>`}
    ${error && answer && html`<${Fault} error=${error} />`}
    <div class="two"><section><h2>Thresholds <span class="soft">what each catches and costs, all else as set here</span></h2>${answer ? html`<${Curve} points=${answer.curve} review=${review} decline=${decline} logged=${logged} days=${answer.days.length} budget=${budget} onReview=${(to) => change({ review: to, decline: Math.max(to, decline) })} onDecline=${(to) => change({ decline: to, review: Math.min(to, review) })} />` : error ? html`<${Empty} title="Nothing to try it on">${error.message}. ${error.remedy || "Choose a longer range or another moment."}<//>` : html`<${Skeleton} lines=${8} />`}</section>
      <section><h2>On the log</h2><div class="stack"><div class="row wrap"><${Choice} label="range of the log" options=${[["3", "3 days"], ["14", "14 days"], ["60", "60 days"]]} value=${String(days)} onChange=${(d) => change({ days: d === "14" ? null : d })} /></div>
        <div class="row wrap"><label class="field">Maximum alerts a day<input type="number" min="0" step="1" style=${{ width: "110px" }} value=${params.budget || ""} onChange=${(e) => change({ budget: e.target.value })} /></label>
          <label class="field">Model<select value=${params.model || ""} onChange=${(e) => change({ model: e.target.value })}><option value="">the one that decided</option>${models.map((row) => html`<option>${row.model.name}-${row.model.version}</option>`)}</select></label>
          <label class="field">Without the rule<select value="" onChange=${(e) => change({ off: [params.off, e.target.value].filter(Boolean).join(",") })}><option value="">choose…</option>${rules.filter((rule) => !(params.off || "").split(",").includes(rule.code)).map((rule) => html`<option>${rule.code}</option>`)}</select></label></div>
        ${params.off && html`<div class="row wrap">${params.off.split(",").map((code) => html`<button title="switch it on again" onClick=${() => change({ off: params.off.split(",").filter((each) => each !== code).join(",") })}>without <span class="mono">${code}</span> ×</button>`)}</div>`}
        ${answer && html`<${Figures} answer=${answer} budget=${budget} />`}</div></section></div>
    ${answer && html`<section><h2>Alerts a day <span class="soft">with these settings</span></h2><${Bars} label="alerts by day" height=${110} order=${["review", "decline"]} names=${{ review: "alerts to review", decline: "declines" }} bars=${answer.days.map((d) => ({ at: Date.parse(d.day), parts: { review: d.whatif.alerts - d.whatif.declines, decline: d.whatif.declines } }))} /></section>
      <${Changed} answer=${answer} />`}${asking}</div>`;
}

function Verdict({ total, days }) {
  const [was, is] = [total.logged, total.whatif];
  if (total.changed === 0) return `Nothing would have been decided otherwise in ${f.plural(total.decisions, "decision")}`;
  const by = (is.alerts - was.alerts) / Math.max(days, 1);
  return html`${f.plural(total.changed, "decision")} would have been different: ${f.signed(by)} alerts a day, <span class="approve">${f.amount(total.money.saved)} saved</span>, <span class=${total.money.lost ? "decline" : "soft"}>${f.amount(total.money.lost)} lost</span>`;
}

const MEASURES = [["alerts", "alerts", f.count], ["declines", "declines", f.count], ["precision", "precision", (v) => f.percent(v, 1)], ["recall", "frauds caught", (v) => f.percent(v, 1)], ["value_detection_rate", "their amount caught", (v) => f.percent(v, 1)], ["false_positive_ratio", "false alerts per fraud", f.figure]];

function Figures({ answer, budget }) {
  const { total, days } = answer;
  const perDay = total.whatif.alerts / Math.max(days.length, 1);
  return html`<table class="matrix" aria-label="figures"><thead><tr><th>Measure</th><th>As decided</th><th>With these</th></tr></thead><tbody>${MEASURES.map(([key, name, form]) => html`<tr><td>${name}</td><td>${form(total.logged[key])}</td><td><b>${form(total.whatif[key])}</b></td></tr>`)}
      <tr><td>fraud let through</td><td></td><td>${f.amount(total.money.fraud_let_through)}</td></tr><tr><td>legitimate payments newly declined</td><td></td><td>${f.amount(total.money.legitimate_declined)}</td></tr></tbody></table>
    <p class="small ${budget && perDay > budget ? "decline" : "soft"}">${f.figure(perDay)} alerts a day${budget ? html`, of ${f.count(budget)} at most` : ""}; ${f.count(total.decisions)} decisions, ${f.count(total.frauds)} known frauds. What has no verdict counts as legitimate. ${answer.way === "fold" ? `Decided again: ${answer.why}.` : ""}
      ${Object.entries(answer.undecidable).map(([why, n]) => html`<${Badge} tone="warn">${f.count(n)} can't be decided here: ${why}<//>`)}</p>`;
}

const Changed = ({ answer }) => (answer.table.length === 0 ? html`<${Empty} title="No decision changes">Move a handle, switch off a rule, or choose another model.<//>` : html`<section><h2>Decisions that change <span class="soft">the largest amounts</span></h2><div class="scroll" tabindex="0"><table aria-label="changed decisions"><thead><tr><th class="num">Amount</th><th>As decided</th><th>With these</th><th>Known as</th><th>Account</th><th class="num wide">Model</th><th class="wide">Rules</th></tr></thead><tbody>
  ${answer.table.map((row) => html`<tr><td class="num">${f.amount(row.amount)}</td><td><${Decision} value=${row.was} /></td><td><${Decision} value=${row.now} /></td><td>${row.fraud ? html`<${Decision} value="fraud" />` : html`<span class="soft">not fraud</span>`}</td><td><a href=${href("decision", [`p${String(row.partition).padStart(2, "0")}:${row.position}`])}>${row.account_id}</a></td><td class="num wide">${f.percent(row.probability_was, 1)}${row.probability_now !== row.probability_was ? ` → ${f.percent(row.probability_now, 1)}` : ""}</td><td class="wide small mono">${row.rules_now.join(", ")}</td></tr>`)}</tbody></table></div></section>`);
