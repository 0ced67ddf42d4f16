// What a program would have decided on the payments of the log, against what was decided: figures before and after, by day,
// by rule, and the decisions that turn.
import { html } from "/vendor/preact.js";
import { Bars } from "./charts.js";
import * as f from "./format.js";
import { href } from "./router.js";
import { Badge, Decision, Empty, Fault } from "./widgets.js";

const MEASURES = [["alerts", f.count], ["declines", f.count], ["alerts_per_day", f.figure], ["frauds", f.count], ["precision", f.percent], ["false_positive_ratio", f.figure], ["recall", f.percent], ["value_detected", f.compact], ["value_detection_rate", f.percent], ["hours", f.figure], ["net", f.compact]];
const NAMES = { frauds: "frauds in alerts", false_positive_ratio: "false alerts per fraud", hours: "analyst hours", net: "money", value_detected: "fraud stopped" };

export function Tried({ tried, ok, setRule, rule }) {
  const { answer, error } = tried;
  if (!answer) return error ? html`<${Fault} error=${error} />` : html`<${Empty} title=${ok ? "Trying…" : "Fix the errors first"}>The program is tried on the payments of the log: what it would have decided, against what was decided.<//>`;
  return html`<div class="stack" style=${tried.busy ? { opacity: 0.6 } : {}}>${error && html`<${Fault} error=${error} />`}
    <p class="small soft">${f.count(answer.decisions)} decisions, ${answer.first_day} to ${answer.last_day}, ${f.count(answer.labelled)} with a label; ${answer.way === "fold" ? html`decided again (${answer.why})` : "from stored columns"}, ${f.figure(tried.ms / 1000)} s.</p>
    <table class="matrix"><thead><tr><th style=${{ textAlign: "left" }}>Measure</th><th>Before</th><th>After</th><th>Change</th></tr></thead><tbody>${MEASURES.filter(([name]) => f.known(answer.before?.[name]) || f.known(answer.after?.[name])).map(([name, form]) => { const [a, b] = [answer.before[name], answer.after[name]]; return html`<tr><td style=${{ textAlign: "left" }}>${NAMES[name] || f.words(name)}</td><td>${form(a)}</td><td><b>${form(b)}</b></td><td class="soft">${f.known(a) && f.known(b) && a !== b ? `${b > a ? "+" : "−"}${form(Math.abs(b - a))}` : "="}</td></tr>`; })}</tbody></table>
    <section><h2>Alerts a day <span class="soft">after the change; ticks: frauds</span></h2><${Bars} label="alerts by day" height=${110} order=${["review"]} bars=${(answer.days || []).map((d) => ({ at: Date.parse(d.day), parts: { review: d.alerts_after } }))} marks=${(answer.days || []).filter((d) => d.frauds).map((d) => ({ at: Date.parse(d.day), text: `${d.frauds} frauds, ${d.frauds_after} in alerts` }))} /></section>
    <section><h2>Rules</h2><div class="scroll" tabindex="0"><table class="matrix"><thead><tr><th style=${{ textAlign: "left" }}>Rule</th><th>Before</th><th>After</th><th>Alone</th><th>Frauds</th><th>Precision</th></tr></thead><tbody>${[...(answer.rules || [])].sort((a, b) => Math.abs(b.after + b.shadow - b.before) - Math.abs(a.after + a.shadow - a.before)).map((line) => html`<tr aria-selected=${String(line.code === rule)}><td style=${{ textAlign: "left" }}><button class="link mono" onClick=${() => setRule(line.code === rule ? null : line.code)}>${line.code}</button>${line.mode !== "live" ? html` <${Badge}>${line.mode}<//>` : ""}</td><td>${f.count(line.before)}</td><td><b>${f.count(line.after + line.shadow)}</b></td><td>${f.count(line.alone)}</td><td>${f.count(line.frauds)}</td><td>${f.percent(line.precision)}</td></tr>`)}</tbody></table></div></section>
    <${Turned} title="Stricter than before" rows=${answer.stricter || []} /><${Turned} title="More lenient than before" rows=${answer.milder || []} /></div>`;
}

const Turned = ({ title, rows }) => (rows.length === 0 ? null : html`<section><h2>${title} <span class="soft">the most telling</span></h2><div class="scroll" tabindex="0"><table><tbody>${rows.slice(0, 6).map((row) => html`<tr><td class="num">${f.amount(row.amount)}</td><td><${Decision} value=${row.was} /> → <${Decision} value=${row.now} /></td><td>${f.words(row.label || "no label")}</td><td><a href=${href("decision", [row.position])}>${f.shortened(row.transaction_id || row.position)}</a></td><td class="small mono wide">${row.rules_now.join(", ")}</td></tr>`)}</tbody></table></div></section>`);
