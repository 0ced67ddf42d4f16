// What would other thresholds do? The handles are the thresholds; the answer is counted on the log, not guessed.
import { html, useEffect, useState } from "/vendor/preact.js";
import { post, useData } from "../lib/api.js";
import { Bars, Curve } from "../lib/charts.js";
import * as f from "../lib/format.js";
import { href, setParams } from "../lib/router.js";
import { Choice, Decision, Empty, Fault, Key, Loaded } from "../lib/widgets.js";

const PAUSE_MS = 400;
const MEASURES = [["alerts", f.count], ["declines", f.count], ["alert_rate", (v) => f.percent(v, 2)], ["precision", f.percent], ["recall", f.percent], ["value_detection_rate", f.percent], ["false_positive_ratio", f.figure]];
const WORDS = { false_positive_ratio: "false alerts per fraud", recall: "frauds in alerts", value_detection_rate: "fraud amount in alerts" };

export default function WhatIf({ params }) {
  const thresholds = useData("/v1/thresholds");
  return html`<${Loaded} answer=${thresholds}>${(found) => html`<${Handles} found=${found} params=${params} />`}<//>`;
}

function Handles({ found, params }) {
  const review = Number(params.review ?? found.review);
  const decline = Number(params.decline ?? found.decline);
  const days = params.days || "30";
  const [state, setState] = useState({ answer: null, error: null, busy: false });
  const set = (name) => (value) => {
    const rounded = Math.min(0.999, Math.max(0.001, Math.round(value * 1000) / 1000));
    const next = { review, decline, [name]: rounded };
    if (next.review > next.decline) next[name === "review" ? "decline" : "review"] = rounded;
    setParams({ review: next.review, decline: next.decline }, { replace: true });
  };
  useEffect(() => {
    let isOn = true;
    const timer = setTimeout(async () => {
      setState((was) => ({ ...was, busy: true }));
      const start = new Date(Date.now() - Number(days) * 86_400_000).toISOString().slice(0, 10);
      try { const answer = await post("/v1/whatif", { review, decline, start }); if (isOn) setState({ answer, error: null, busy: false }); } catch (error) { if (isOn) setState((was) => ({ ...was, error, busy: false })); }
    }, PAUSE_MS);
    return () => { isOn = false; clearTimeout(timer); };
  }, [review, decline, days]);
  const { answer, error } = state;
  const total = answer?.total;
  const isChanged = review !== found.review || decline !== found.decline;
  return html`<div class="stack" style=${{ gap: "20px" }}><div class="case-head"><span class="answer">${total ? html`${f.count(total.changed)} of ${f.count(total.decisions)} decisions would change` : "Other thresholds on the payments of the log"}</span>
      ${isChanged && html`<button onClick=${() => setParams({ review: null, decline: null })}>Back to those in force</button>`}<span class="push"><${Choice} label="stretch of the log" options=${[["7", "7 days"], ["30", "30 days"], ["90", "90 days"]]} value=${days} onChange=${(d) => setParams({ days: d === "30" ? null : d }, { replace: true })} /></span></div>
    <div class="two even"><section><h2>Thresholds <span class="soft">probability of fraud</span></h2><div class="stack">${[["review", review, found.review], ["decline", decline, found.decline]].map(([name, value, now]) => html`<label class="field"><span class=${name}>${name} from <b>${value}</b>${value !== now ? html` <span class="soft">in force: ${now}</span>` : ""}</span><span class="row"><input class="grow" type="range" min="0.001" max="0.999" step="0.001" value=${value} onInput=${(e) => set(name)(Number(e.target.value))} /><input type="number" min="0.001" max="0.999" step="0.001" value=${value} style=${{ width: "88px" }} onChange=${(e) => set(name)(Number(e.target.value))} aria-label=${`${name} threshold`} /></span></label>`)}</div>
        ${answer?.curve && html`<${Curve} label="fraud amount in alerts by alerts a day" xName="threshold for review" yName="share" lines=${[{ name: "fraud amount in alerts", points: answer.curve.map((p) => [p.review, p.value_detection_rate]) }, { name: "precision", tone: "two", points: answer.curve.map((p) => [p.review, p.precision]) }]} handles=${[{ name: "review", x: review, tone: "review", onMove: set("review") }]} />`}</section>
      <section><h2>Outcome ${state.busy ? html`<span class="soft" role="status">counting…</span>` : ""}</h2>${error && html`<${Fault} error=${error} />`}${total && html`<table class="matrix"><thead><tr><th style=${{ textAlign: "left" }}>Measure</th><th>Logged</th><th>What if</th></tr></thead><tbody>${MEASURES.map(([name, form]) => html`<tr><td style=${{ textAlign: "left" }}>${WORDS[name] || f.words(name)}</td><td>${form(total.logged[name])}</td><td><b>${form(total.whatif[name])}</b></td></tr>`)}
        ${Object.entries(total.money).map(([name, value]) => html`<tr><td style=${{ textAlign: "left" }}>${f.words(name)}</td><td></td><td>${f.amount(value)}</td></tr>`)}</tbody></table>`}</section></div>
    ${answer && html`<section><h2>Alerts a day</h2><${Bars} label="alerts a day under the new thresholds" height=${110} order=${["review"]} bars=${answer.days.map((d) => ({ at: Date.parse(d.day), parts: { review: d.whatif.alerts } }))} /></section>
      <section><h2>Largest payments that change</h2>${answer.table.length ? html`<div class="scroll" tabindex="0"><table><tbody>${answer.table.slice(0, 20).map((row) => html`<tr><td class="num">${f.amount(row.amount)}</td><td><${Decision} value=${row.was} /> → <${Decision} value=${row.now} /></td><td>${row.fraud === true ? html`<span class="decline">■ fraud</span>` : f.words(row.label || "")}</td><td><a href=${href("decision", [row.position || row.place])}>${row.transaction_id || row.position}</a></td></tr>`)}</tbody></table></div>` : html`<${Empty} title="Nothing changes">These thresholds decide every payment as it was decided.<//>`}</section>`}</div>`;
}
