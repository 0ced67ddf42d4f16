// Which arm is better, and may one say so yet? Gains with confidence sequences: they hold however often one looks.
import { html } from "/vendor/preact.js";
import { useData } from "../lib/api.js";
import { Interval } from "../lib/charts.js";
import * as f from "../lib/format.js";
import { href } from "../lib/router.js";
import { Badge, Empty, Loaded, Pairs, Time } from "../lib/widgets.js";

export default function Experiments({ args }) {
  const all = useData("/v1/experiments");
  const list = (data) => (Array.isArray(data.experiments) ? data.experiments : Object.values(data.experiments || {}));
  const newest = all.data ? list(all.data).slice(-1)[0] : null;
  const id = args[0] || newest?.definition?.experiment_id;
  const answer = useData(id ? `/v1/experiments/${encodeURIComponent(id)}` : null);
  return html`<${Loaded} answer=${all}>${(data) => {
    const experiments = list(data);
    return experiments.length === 0 ? html`<${Empty} title="No experiment">An experiment gives a share of accounts to another model or program: <code>sentinel experiment start</code>. Its arms, gains and verdict stand here.<//>`
      : html`<div class="stack"><div class="row wrap" role="navigation" aria-label="experiments">${[...experiments].reverse().map((each) => html`<a class="button" href=${href("experiments", [each.definition.experiment_id])} aria-current=${each.definition.experiment_id === id ? "true" : undefined}>${each.definition.experiment_id}</a>`)}</div>
        <${Loaded} answer=${answer}>${(report) => html`<${Report} report=${report} />`}<//></div>`;
  }}<//>`;
}

function Report({ report }) {
  const verdict = report.verdict || {};
  const bad = report.sample_ratio && report.sample_ratio.p_anytime < 0.001;
  const numbers = (report.findings || []).flatMap((each) => [each.low, each.high, each.lower, each.upper, each.estimate]).filter(f.known);
  const reach = Math.max(0.01, ...numbers.map(Math.abs));
  return html`<div class="case-head"><span class="answer">${f.words(verdict.action || verdict.kind || report.state)}</span><span>${verdict.reason || verdict.text || ""}</span><${Badge}>${report.state}<//>${bad && html`<${Badge} tone="bad" title="the arms' sizes differ from what was asked for; no result can be trusted">sample ratio<//>`}</div>
    <div class="two even"><section><h2>Arms</h2><table><thead><tr><th>Arm</th><th>Decides</th><th class="num">Share</th><th class="num">Accounts</th><th class="num">Expected</th><th class="num">Mature</th></tr></thead><tbody>${report.arms.map((arm) => html`<tr><td>${arm.name}</td><td>${arm.model || arm.program || "–"}</td><td class="num">${f.percent(arm.share)}</td><td class="num">${f.count(arm.exposed)}</td><td class="num">${f.count(Math.round(arm.expected))}</td><td class="num">${f.count(arm.mature)}</td></tr>`)}</tbody></table></section>
      <section><h2>Definition</h2><${Pairs} rows=${Object.entries(report.definition).filter(([name, value]) => !["type", "arms", "experiment_id"].includes(name) && (typeof value !== "object" || value === null)).map(([name, value]) => [f.words(name), name.endsWith("_at") ? html`<${Time} at=${value} form="minute" />` : f.figure(value)])} /></section></div>
    <section><h2>Gains <span class="soft">with confidence sequences, valid at any time</span></h2>${(report.findings || []).length ? html`<div class="scroll" tabindex="0"><table><thead><tr><th>Arm</th><th>Measure</th><th class="num">Gain</th><th>Interval</th><th class="num">From</th><th class="num">To</th></tr></thead><tbody>${report.findings.map((each) => { const [low, high] = [each.low ?? each.lower, each.high ?? each.upper]; return html`<tr><td>${each.arm}</td><td>${f.words(each.metric || each.measure || "")}</td><td class="num">${f.figure(each.estimate ?? each.gain)}</td><td><${Interval} value=${each.estimate ?? each.gain} low=${low} high=${high} from=${-reach} to=${reach} label="interval" /></td><td class="num">${f.figure(low)}</td><td class="num">${f.figure(high)}</td></tr>`; })}</tbody></table></div>` : html`<${Empty} title="No finding yet">Outcomes count once an account's observation is mature.<//>`}</section>
    <section><h2>Changes</h2><ul class="history">${(report.changes || []).map((c) => html`<li><span class="soft"><${Time} at=${c.occurred_at} form="minute" /></span><span>${c.actor} <span class="soft">${f.words(c.action || c.kind || "")} ${c.reason || ""}</span></span></li>`)}</ul></section>`;
}
