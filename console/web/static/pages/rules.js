// What would this do? The rules in force; and the editor, in which each pause of typing checks the program and tries it on
// the log. A proposal is shown as its differences and approved like a pull request.
import { html, useEffect, useMemo, useRef, useState } from "/vendor/preact.js";
import { can, post, useData } from "../lib/api.js";
import { Bars } from "../lib/charts.js";
import * as f from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { go, href, setParams } from "../lib/router.js";
import { isPast, say, store, stored } from "../lib/state.js";
import { Ask, Badge, Choice, Decision, Empty, Fault, Id, Key, Loaded, Pairs, Skeleton, Time } from "../lib/widgets.js";
import { Proposals } from "./models.js";

const PAUSE_MS = 600;

export default function Rules({ params }) {
  return params.edit !== undefined ? html`<${Edit} params=${params} />` : html`<${List} params=${params} />`;
}

function List({ params }) {
  const rules = useData("/v1/rules");
  const programs = useData("/v1/programs");
  const mayEdit = can("POST /v1/programs/check");
  useKeys("rules", mayEdit ? { E: [() => setParams({ edit: "" }), "edit the program"] } : {});
  return html`<${Loaded} answer=${rules}>${(found) => {
    const registry = programs.data?.registry;
    const shown = found.rules.filter((rule) => !params.text || `${rule.code} ${rule.meaning} ${rule.owner}`.toLowerCase().includes(params.text.toLowerCase()));
    return html`<div class="stack" style=${{ gap: "20px" }}><div class="case-head"><span class="answer">${found.program} decides</span><span class="soft">${f.plural(found.rules.filter((r) => r.state === "enabled").length, "rule")} in force, ${found.rules.filter((r) => r.state === "shadow").length} in shadow</span>
        ${mayEdit && html`<span class="push"><button class="main" onClick=${() => setParams({ edit: "" })}>Edit <${Key}>E<//></button></span>`}</div>
      ${registry && html`<${Proposals} proposals=${Object.values(registry.proposals)} kind="programs" reload=${programs.reload} name=${(p) => registry.programs[p.digest] ? `${registry.programs[p.digest].name}@${registry.programs[p.digest].version}` : p.proposal_id} />`}
      <section><h2>Rules</h2><div class="scroll" tabindex="0"><table class="tall"><thead><tr><th>Rule</th><th>Effect</th><th>State</th><th>Says</th><th class="wide">Parameters</th><th class="wide">Owner</th><th class="wide"></th></tr></thead><tbody>${shown.map((rule) => html`<tr><td class="mono nowrap">${rule.code}</td><td class=${rule.effect}>${rule.effect}</td><td>${rule.state === "enabled" ? html`<span class="approve nowrap">● live</span>` : rule.state === "shadow" ? html`<span class="review nowrap">◐ shadow</span>` : html`<span class="soft nowrap">○ ${rule.state}</span>`}</td>
        <td><${Template} text=${rule.meaning} />${rule.when && html`<div class="mono small soft wide" style=${{ overflowWrap: "anywhere" }}>${rule.when}</div>`}</td><td class="wide small">${Object.entries(rule.parameters).map(([name, value]) => html`<div class="nowrap">${name} ${rule.changed.includes(name) ? html`<b>${value}</b> <${Badge} tone="warn" title="differs from the program's own value">set<//>` : value}</div>`)}</td><td class="wide">${rule.owner || "–"}</td>
        <td class="wide nowrap"><a href=${href("search", [], { q: `rule:${rule.code} last:7d` })}>hits</a></td></tr>`)}</tbody></table></div></section>
      ${registry && html`<section><h2>Programs</h2><ul class="history">${[...registry.services].reverse().map((s) => html`<li><span class="soft"><${Time} at=${s.began.occurred_at} form="minute" /></span><span>${s.began.actor} ${s.action === "rollback" ? "rolled back to" : "deployed"} <b>${labelOf(registry, s.digest)}</b> <span class="soft">${s.began.reason}</span></span></li>`)}
        ${registry.services.length === 0 && html`<li><span></span><span class="soft">The log's default program has decided from the beginning.</span></li>`}</ul></section>`}
      ${found.history.length > 0 && html`<section><h2>Changes of parameters</h2><ul class="history">${[...found.history].reverse().slice(0, 50).map((e) => html`<li><span class="soft"><${Time} at=${e.occurred_at} form="minute" /></span><span>${e.actor}: ${e.change} <span class="soft">${e.reason}</span>${e.refused && html` <${Badge} tone="bad">refused: ${e.refused}<//>`}</span></li>`)}</ul></section>`}</div>`;
  }}<//>`;
}

/** A rule's words with the names in them set apart. */
const Template = ({ text }) => text.split(/(\{[^}]*\})/).map((part) => (part.startsWith("{") ? html`<span class="name">${part.slice(1, -1).split(":")[0]}</span>` : part));

const labelOf = (registry, digest) => (registry.programs[digest] ? `${registry.programs[digest].name}@${registry.programs[digest].version}` : digest ? f.shortened(digest, 14) : "the default program");

const START = `[program]
name = "cards"
version = "1.0.0"
uses = ["standard@1"]

[[rules]]
code = "MY_RULE"
when = "amount > 500 && device_is_new"
effect = "review"
words = "{amount:,.2f} on a new device"
`;

function Edit({ params }) {
  const current = useData(`/v1/programs/${encodeURIComponent(params.edit || "current")}`);
  if (!current.data && !current.error) return html`<${Skeleton} lines=${12} />`;
  const kept = stored("draft");
  const toml = current.data?.toml || "";
  return html`<${Editor} first=${kept || (toml.includes("[[rules]]") || toml.includes("[features]") ? toml : START)} isDraft=${Boolean(kept)} original=${toml} params=${params} />`;
}

function Editor({ first, isDraft, original, params }) {
  const host = useRef(null);
  const view = useRef(null);
  const [text, setText] = useState(first);
  const [loading, setLoading] = useState(null);
  const checked = useChecked(text);
  const days = Number(params.days || 14);
  const tried = useTried(text, checked.answer?.ok === true, days, params.rule || "");
  const names = useData(can("GET /v1/programs/completions") ? "/v1/programs/completions" : null);
  const known = useRef([]);
  known.current = (names.data?.names || (Array.isArray(names.data) ? names.data : []) || []).map((each) => ({ label: each.name, detail: each.type || each.kind }));
  const [asking, setAsking] = useState(null);
  useEffect(() => {
    let made = null;
    import("../lib/editor.js").then(({ editor }) => {
      if (!host.current) return;
      made = editor(host.current, text, { label: "program", names: () => known.current, onChange: (next) => { setText(next); store("draft", next); } });
      view.current = made;
    }, setLoading);
    return () => made?.destroy();
  }, []);
  const faults = checked.answer?.faults || checked.answer?.problems || [];
  useEffect(() => view.current?.setFaults(faults.map((each) => ({ line: each.line, message: [each.key || each.field, each.message || each.detail, each.hint].filter(Boolean).join(": ") }))), [checked.answer]);
  const discard = () => { store("draft", ""); view.current.setText(original || START); };
  const propose = () => setAsking(html`<${Ask} title="Propose this program" label="Reason" action="Propose" onClose=${() => setAsking(null)} onDone=${async (reason) => { await post("/v1/programs/proposals", { toml: text, reason }); store("draft", ""); say("proposed: another person can approve it"); go("rules"); }} />`);
  useKeys("editor", { "mod+s": [propose, "propose"], Escape: [() => { if (!document.activeElement?.shadowRoot) setParams({ edit: null }); }, "back to the list"] });
  return html`<div class="stack"><div class="row wrap"><a href=${href("rules")}>← Rules</a>${isDraft && html`<${Badge} title="kept in this browser">draft<//>`}
      <span class="push row wrap"><button class="plain" onClick=${discard}>Discard the draft</button><button class="main" disabled=${checked.answer?.ok !== true || isPast.value || !can("POST /v1/programs/proposals")} onClick=${propose}>Propose <${Key}>Ctrl S<//></button></span></div>
    <div class="editor"><div class="stack"><div class="text" ref=${host}></div>
      ${loading && html`<${Fault} error=${{ message: `the editor could not be loaded: ${loading.message}` }} />`}
      <${Checked} checked=${checked} faults=${faults} goTo=${(line) => view.current?.goTo(line)} /></div>
      <div class="stack"><div class="row wrap"><h2>On the log</h2><${Choice} label="stretch of the log" options=${[["3", "3 days"], ["14", "14 days"], ["60", "60 days"]]} value=${String(days)} onChange=${(d) => setParams({ days: d === "14" ? null : d }, { replace: true })} />${tried.busy && html`<span class="soft small" role="status">trying…</span>`}</div>
        <${Tried} tried=${tried} ok=${checked.answer?.ok === true} setRule=${(rule) => setParams({ rule }, { replace: true })} rule=${params.rule} /></div></div>${asking}</div>`;
}

/** The answer of the check for the newest text, asked after each pause of typing. */
function useChecked(text) {
  const [state, setState] = useState({ answer: null, error: null, busy: true });
  useEffect(() => {
    let isOn = true;
    const timer = setTimeout(async () => {
      setState((was) => ({ ...was, busy: true }));
      try { const answer = await post("/v1/programs/check", { toml: text }); if (isOn) setState({ answer, error: null, busy: false }); } catch (error) { if (isOn) setState({ answer: error.problems?.length ? { ok: false, faults: error.problems } : null, error: error.problems?.length ? null : error, busy: false }); }
    }, 250);
    return () => { isOn = false; clearTimeout(timer); };
  }, [text]);
  return state;
}

function useTried(text, ok, days, rule) {
  const [state, setState] = useState({ answer: null, error: null, busy: false });
  useEffect(() => {
    if (!ok) return undefined;
    let isOn = true;
    const timer = setTimeout(async () => {
      setState((was) => ({ ...was, busy: true }));
      const started = performance.now();
      const start = new Date(Date.now() - days * 86_400_000).toISOString().slice(0, 10);
      try { const answer = await post("/v1/programs/backtest", { toml: text, start, rule }); if (isOn) setState({ answer, error: null, busy: false, ms: performance.now() - started }); } catch (error) { if (isOn) setState((was) => ({ ...was, error, busy: false })); }
    }, PAUSE_MS);
    return () => { isOn = false; clearTimeout(timer); };
  }, [text, ok, days, rule]);
  return state;
}

function Checked({ checked, faults, goTo }) {
  if (checked.error) return html`<${Fault} error=${checked.error} />`;
  if (!checked.answer) return html`<span class="soft">checking…</span>`;
  if (faults.length) return html`<ul class="stack" style=${{ gap: "4px" }} aria-label="faults">${faults.map((each) => html`<li class="fault"><button class="link" onClick=${() => goTo(each.line)}>${each.line ? `line ${each.line}` : "the document"}</button> ${[each.key || each.field, each.message || each.detail].filter(Boolean).join(": ")}${each.hint && html`<div class="small">${each.hint}</div>`}</li>`)}</ul>`;
  const about = checked.answer.summary || checked.answer;
  return html`<div class="same">● The program is valid.${about.account_bytes ? ` It keeps ${f.count(about.account_bytes)} bytes more for each account.` : ""}</div>`;
}

const MEASURES = [["alerts", f.count], ["declines", f.count], ["alerts_per_day", f.figure], ["frauds", f.count], ["precision", f.percent], ["false_positive_ratio", f.figure], ["recall", f.percent], ["value_detected", f.compact], ["value_detection_rate", f.percent], ["hours", f.figure], ["net", f.compact]];
const NAMES = { frauds: "frauds in alerts", false_positive_ratio: "false alerts per fraud", hours: "analyst hours", net: "money", value_detected: "fraud stopped" };

function Tried({ tried, ok, setRule, rule }) {
  const { answer, error } = tried;
  if (!answer) return error ? html`<${Fault} error=${error} />` : html`<${Empty} title=${ok ? "Trying…" : "Mend the faults first"}>The program is tried on the payments of the log: what it would have decided, against what was decided.<//>`;
  return html`<div class="stack" style=${tried.busy ? { opacity: 0.6 } : {}}>${error && html`<${Fault} error=${error} />`}
    <p class="small soft">${f.count(answer.decisions)} decisions, ${answer.first_day} to ${answer.last_day}, ${f.count(answer.labelled)} with a label; ${answer.way === "fold" ? html`decided again (${answer.why})` : "from stored columns"}, ${f.figure(tried.ms / 1000)} s.</p>
    <table class="matrix"><thead><tr><th style=${{ textAlign: "left" }}>Measure</th><th>Before</th><th>After</th><th>Change</th></tr></thead><tbody>${MEASURES.filter(([name]) => f.known(answer.before?.[name]) || f.known(answer.after?.[name])).map(([name, form]) => { const [a, b] = [answer.before[name], answer.after[name]]; return html`<tr><td style=${{ textAlign: "left" }}>${NAMES[name] || f.words(name)}</td><td>${form(a)}</td><td><b>${form(b)}</b></td><td class="soft">${f.known(a) && f.known(b) && a !== b ? `${b > a ? "+" : "−"}${form(Math.abs(b - a))}` : "="}</td></tr>`; })}</tbody></table>
    <section><h2>Alerts a day <span class="soft">after the change; ticks: frauds</span></h2><${Bars} label="alerts by day" height=${110} order=${["review"]} bars=${(answer.days || []).map((d) => ({ at: Date.parse(d.day), parts: { review: d.alerts_after } }))} marks=${(answer.days || []).filter((d) => d.frauds).map((d) => ({ at: Date.parse(d.day), text: `${d.frauds} frauds, ${d.frauds_after} in alerts` }))} /></section>
    <section><h2>Rules</h2><div class="scroll" tabindex="0"><table class="matrix"><thead><tr><th style=${{ textAlign: "left" }}>Rule</th><th>Before</th><th>After</th><th>Alone</th><th>Frauds</th><th>Precision</th></tr></thead><tbody>${[...(answer.rules || [])].sort((a, b) => Math.abs(b.after + b.shadow - b.before) - Math.abs(a.after + a.shadow - a.before)).map((line) => html`<tr aria-selected=${String(line.code === rule)}><td style=${{ textAlign: "left" }}><button class="link mono" onClick=${() => setRule(line.code === rule ? null : line.code)}>${line.code}</button>${line.mode !== "live" ? html` <${Badge}>${line.mode}<//>` : ""}</td><td>${f.count(line.before)}</td><td><b>${f.count(line.after + line.shadow)}</b></td><td>${f.count(line.alone)}</td><td>${f.count(line.frauds)}</td><td>${f.percent(line.precision)}</td></tr>`)}</tbody></table></div></section>
    <${Turned} title="Stricter than before" rows=${answer.stricter || []} /><${Turned} title="Milder than before" rows=${answer.milder || []} /></div>`;
}

const Turned = ({ title, rows }) => (rows.length === 0 ? null : html`<section><h2>${title} <span class="soft">the most telling</span></h2><div class="scroll" tabindex="0"><table><tbody>${rows.slice(0, 6).map((row) => html`<tr><td class="num">${f.amount(row.amount)}</td><td><${Decision} value=${row.was} /> → <${Decision} value=${row.now} /></td><td>${f.words(row.label || "no label")}</td><td><a href=${href("decision", [row.position])}>${f.shortened(row.transaction_id || row.position)}</a></td><td class="small mono wide">${row.rules_now.join(", ")}</td></tr>`)}</tbody></table></div></section>`);
