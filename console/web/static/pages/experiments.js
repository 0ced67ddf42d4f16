// Which arm is better, and may one say so yet? Gains with confidence sequences: they hold however often one looks. Started,
// ramped, stopped and concluded here as on the command line.
import { html, useState } from "/vendor/preact.js";
import { can, post, reached, useData } from "../lib/api.js";
import { Interval } from "../lib/charts.js";
import * as f from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { waits } from "../lib/proposals.js";
import { go, href } from "../lib/router.js";
import { isPast, say } from "../lib/state.js";
import { Ask, Badge, Empty, Key, Loaded, Pairs, Time } from "../lib/widgets.js";

const listOf = (data) => (Array.isArray(data.experiments) ? data.experiments : Object.values(data.experiments || {}));
const idOf = (experiment) => experiment.definition.experiment_id;

export default function Experiments({ args }) {
  const all = useData("/v1/experiments");
  const programs = useData("/v1/programs");
  const models = useData("/v1/models");
  const [asking, setAsking] = useState(null);
  const known = all.data ? listOf(all.data) : [];
  const id = args[0] || (known.length ? idOf(known[known.length - 1]) : null);
  const answer = useData(id ? `/v1/experiments/${encodeURIComponent(id)}` : null);
  const mayStart = can("POST /v1/experiments") && !isPast.value;
  const close = () => setAsking(null);
  const labels = Object.fromEntries(Object.values(programs.data?.registry.programs || {}).map((each) => [each.digest, `${each.name}@${each.version}`]));
  const start = () => setAsking(html`<${Start} onClose=${close} programs=${Object.values(labels)} models=${(models.data?.models || []).map((row) => `${row.model.name}-${row.model.version}`)} />`);
  const act = (name, title, body = {}, children = null) => () => setAsking(html`<${Ask} title=${`${title} ${id}`} label="Reason" action=${title} onClose=${close} children=${children} onDone=${async (reason) => {
    const made = await post(`/v1/experiments/${encodeURIComponent(id)}/${name}`, { ...(typeof body === "function" ? body() : body), reason });
    await reached("/v1/experiments", made.position); say(waits(made) || `${title}: done`); all.reload(); answer.reload();
  }} />`);
  useKeys("experiments", mayStart ? { "+": [start, "start an experiment"] } : {});
  return html`<div class="stack"><div class="row wrap">${known.length > 0 && html`<nav class="row wrap" aria-label="experiments">${[...known].reverse().map((each) => html`<a class="button" href=${href("experiments", [idOf(each)])} aria-current=${idOf(each) === id ? "page" : undefined}>${idOf(each)}</a>`)}</nav>`}
      ${mayStart && html`<span class="push"><button onClick=${start}>Start an experiment <${Key}>+<//></button></span>`}</div>
    <${Loaded} answer=${all}>${() => (known.length === 0 ? html`<${Empty} title="No experiment">An experiment gives a share of accounts to another model or program. Its arms, gains and verdict appear here. Start one here, or with <code>sentinel experiment start</code>.<//>`
    : html`<${Loaded} answer=${answer}>${(report) => html`<${Report} report=${report} labels=${labels} act=${isPast.value ? null : act} />`}<//>`)}<//>${asking}</div>`;
}

/** The form of a new experiment: control is the champion under the deployed program; the other arm differs in one of the two. */
function Start({ onClose, programs, models }) {
  const [form, setForm] = useState({ experiment_id: "", model: "", program: "", traffic: "20" });
  const set = (name) => (e) => setForm({ ...form, [name]: e.target.value });
  const done = async (reason) => {
    if (!form.experiment_id.trim()) throw new Error("the experiment needs a name");
    if (!form.model && !form.program) throw new Error("the other arm needs another model or another program");
    const made = await post("/v1/experiments", { experiment_id: form.experiment_id.trim(), reason, traffic: Number(form.traffic), arms: [{ name: "control" }, { name: "other", model: form.model, program: form.program }] });
    await reached("/v1/experiments", made.position);
    say(waits(made) || `${form.experiment_id} runs from the workers' next batch on`);
    if (!waits(made)) go("experiments", [form.experiment_id.trim()]);
  };
  return html`<${Ask} title="Start an experiment" label="Reason" action="Start" onClose=${onClose} onDone=${done}><div class="row wrap">
      <label class="field grow">Name<input value=${form.experiment_id} onInput=${set("experiment_id")} placeholder="spring" /></label><label class="field">Per cent of accounts<input type="number" min="1" max="100" style=${{ width: "110px" }} value=${form.traffic} onInput=${set("traffic")} /></label></div>
    <div class="row wrap"><label class="field">The other arm's program<select value=${form.program} onChange=${set("program")}><option value="">the deployed one</option>${programs.map((name) => html`<option>${name}</option>`)}</select></label>
      <label class="field">Its model<select value=${form.model} onChange=${set("model")}><option value="">the champion</option>${models.map((name) => html`<option>${name}</option>`)}</select></label></div>
    <p class="small soft">Half of these accounts stay with what decides now. Metrics, windows and error levels are the usual ones; <code>sentinel experiment start</code> sets others.</p><//>`;
}

const DAY = 86_400_000;
const USUAL = { traffic: 10_000, window_ms: 7 * DAY, maturity_ms: 7 * DAY, primary: "value_lost", guardrails: ["missed_fraud", "false_positive"], accounts_min: 1000, duration_max_ms: 90 * DAY }; // the log leaves out what is usual
const UNITS = { value_lost: (v) => f.amount(v), default: (v) => f.percent(v, 3) };
const SAID = { continue: "It is too early to say", promote: "The other arm is better", rollback: "The other arm does harm", stop: "It has ended" };

function Report({ report, labels, act }) {
  const { verdict } = report;
  const definition = { ...USUAL, ...report.definition };
  const isBad = report.sample_ratio.p_anytime < 0.001;
  const isRunning = report.state === "running";
  const program = (arm) => (arm.program ? labels[arm.program] || f.shortened(arm.program, 14) : "the deployed program");
  const may = (name) => act && can(`POST /v1/experiments/{id}/${name}`);
  let traffic = "50";
  return html`<div class="case-head"><span class="answer">${report.conclusion || SAID[verdict.action] || f.words(verdict.action)}${verdict.arm ? ` (${verdict.arm})` : ""}</span><span class="soft">${verdict.reasons.join("; ")}</span><${Badge} tone=${isRunning ? "good" : ""}>${f.words(report.state)}<//>${isBad && html`<${Badge} tone="bad" title="the arms' sizes differ from what was asked for; no result can be trusted">sample ratio<//>`}
      ${isRunning && html`<span class="push row wrap">${may("ramp") && html`<button onClick=${act("ramp", "Ramp", () => ({ traffic: Number(traffic) }), html`<label class="field">Per cent of all accounts<input type="number" min="0" max="100" defaultValue=${traffic} onInput=${(e) => { traffic = e.target.value; }} /></label>`)}>Ramp</button>`}
        ${may("conclude") && html`<button onClick=${act("conclude", "Conclude", {}, html`<p>The data's verdict is recorded with its evidence: ${verdict.action}. A winner decides from now on; with four eyes on, a model is only proposed.</p>`)}>Conclude</button>`}${may("stop") && html`<button class="plain" onClick=${act("stop", "Stop")}>Stop</button>`}</span>`}</div>
    <section><h2>Gains over control <span class="soft">to the right is better; with confidence sequences, valid at any time</span></h2><div class="scroll" tabindex="0"><table class="stacked" aria-label="gains"><thead><tr><th>Arm</th><th>Measure</th><th class="num">Gain per account</th><th>Interval</th><th class="num">From</th><th class="num">To</th><th class="wide">Shown</th></tr></thead><tbody>
      ${report.findings.map((each) => html`<${Gain} finding=${each} primary=${definition.primary} />`)}</tbody></table></div></section>
    <div class="two even"><section><h2>Arms</h2><div class="scroll" tabindex="0"><table class="stacked" aria-label="arms"><thead><tr><th>Arm</th><th>Decides</th><th class="num">Share</th><th class="num">Accounts</th><th class="num">Expected</th><th class="num">Mature</th></tr></thead><tbody>${report.arms.map((arm) => html`<tr><td><b>${arm.name}</b></td><td>${arm.model || "the champion"} <span class="soft">${program(arm)}</span></td><td class="num">${f.percent(arm.share)}</td><td class="num">${f.count(arm.exposed)}</td><td class="num soft">${f.count(Math.round(arm.expected))}</td><td class="num">${f.count(arm.mature)}</td></tr>`)}</tbody></table></div></section>
      <section><h2>Design</h2><${Pairs} rows=${[["takes part", `${f.percent(definition.traffic / 10_000)} of all accounts`], ["primary metric", f.words(definition.primary)], ["guardrails", (definition.guardrails || []).map(f.words).join(", ")], ["an account counts", `${f.span(definition.window_ms || 0)}, final ${f.span(definition.maturity_ms || 0)} later`], ["at most", f.span(definition.duration_max_ms || 0)], ["at least", `${f.count(definition.accounts_min)} mature accounts in each arm`]]} /></section></div>
    <section><h2>Changes</h2><ul class="history">${[...report.changes].reverse().map((c) => html`<li><span class="soft"><${Time} at=${c.occurred_at} form="minute" /></span><span>${c.actor} ${c.action}${["started", "ramped"].includes(c.action) ? ` with ${f.percent(c.traffic / 10_000)} of accounts` : ""} <span class="soft">${c.reason}</span></span></li>`)}</ul></section>`;
}

function Gain({ finding, primary }) {
  const form = UNITS[finding.metric] || UNITS.default;
  const [low, high] = finding.interval;
  const isKnown = Number.isFinite(low) && Number.isFinite(high) && (low > -1 || high < 1);
  const reach = isKnown ? Math.max(Math.abs(low), Math.abs(high), 1e-12) : 1;
  return html`<tr><td>${finding.arm}</td><td>${f.words(finding.metric)} ${finding.metric === primary ? html`<${Badge}>primary<//>` : ""}</td><td class="num"><b>${form(finding.gain)}</b></td><td>${isKnown ? html`<${Interval} value=${finding.gain} low=${low} high=${high} from=${-reach} to=${reach} zero=${true} label=${`between ${form(low)} and ${form(high)}`} />` : html`<span class="soft">nothing known yet</span>`}</td>
    <td class="num">${isKnown ? form(low) : "–"}</td><td class="num">${isKnown ? form(high) : "–"}</td><td class="wide">${finding.p_better < 0.05 ? html`<span class="approve">● better</span>` : finding.p_worse < 0.05 ? html`<span class="decline">■ worse</span>` : html`<span class="soft">neither</span>`}</td></tr>`;
}
