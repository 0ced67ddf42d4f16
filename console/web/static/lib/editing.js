// The editor of programs: each pause of typing checks the program and tries it on the log. A draft stays in the browser
// until it is proposed or discarded.
import { html, useEffect, useRef, useState } from "/vendor/preact.js";
import { can, post, reached, useData } from "./api.js";
import { Builder } from "./builder.js";
import { Diff } from "./diff.js";
import * as f from "./format.js";
import { useKeys } from "./keys.js";
import { go, href, setParams } from "./router.js";
import { asOf, fail, isPast, say, store, stored } from "./state.js";
import { Tried } from "./trial.js";
import { Ask, Badge, Choice, Fault, Key, Skeleton } from "./widgets.js";

const PAUSE_MS = 600;

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

export function Editing({ params }) {
  const current = useData(`/v1/programs/${encodeURIComponent(params.edit || "current")}`);
  if (!current.data && !current.error) return html`<${Skeleton} lines=${12} />`;
  const kept = stored("draft");
  const toml = current.data?.toml || "";
  return html`<${Editor} first=${kept || (toml.includes("[[rules]]") || toml.includes("[features]") ? toml : START)} isDraft=${Boolean(kept)} original=${toml} end=${f.momentOf(current.data?.as_of) || Date.now()} params=${params} />`;
}

function Editor({ first, isDraft, original, end, params }) {
  const host = useRef(null);
  const view = useRef(null);
  const [text, setText] = useState(first);
  const [loading, setLoading] = useState(null);
  const checked = useChecked(text);
  const days = Number(params.days || 14);
  const tried = useTried(text, checked.answer?.ok === true, days, params.rule || "", end);
  const names = useData(can("GET /v1/programs/completions") ? "/v1/programs/completions" : null);
  const known = useRef([]);
  known.current = (names.data || []).map((each) => ({ label: each.name, detail: each.type }));
  const [asking, setAsking] = useState(null);
  useEffect(() => {
    let made = null;
    import("./editor.js").then(({ editor }) => {
      if (!host.current) return;
      made = editor(host.current, text, { label: "program", names: () => known.current, onChange: (next) => { setText(next); store("draft", next); } });
      view.current = made;
    }, setLoading);
    return () => made?.destroy();
  }, []);
  const faults = checked.answer?.problems || [];
  useEffect(() => view.current?.setFaults(faults.map((each) => ({ line: each.line, message: [each.field, each.detail].filter(Boolean).join(": ") }))), [checked.answer]);
  const discard = () => { store("draft", ""); view.current.setText(original || START); };
  const mayPropose = checked.answer?.ok === true && !isPast.value && can("POST /v1/programs/proposals");
  const propose = () => setAsking(html`<${Ask} title="Propose this program" label="Reason" action="Propose" onClose=${() => setAsking(null)} onDone=${async (reason) => { const { position } = await post("/v1/programs/proposals", { toml: text, reason }); await reached("/v1/programs", position); store("draft", ""); say("proposed: another person can approve it"); go("rules"); }} />`);
  useKeys("editor", { "mod+s": [() => (mayPropose ? propose() : fail({ message: isPast.value ? "you are looking at a past moment" : "this program can't be proposed yet", remedy: isPast.value ? "press T to go back to now, then propose" : "fix its errors first" })), "propose"], Escape: [() => { if (!document.activeElement?.shadowRoot) setParams({ edit: null }); }, "back to the list"] });
  return html`<div class="stack"><div class="row wrap"><a href=${href("rules")}>← Rules</a>${isDraft && html`<${Badge} title="kept in this browser">draft<//>`}
      <span class="push row wrap"><button class="plain" onClick=${discard}>Discard the draft</button><button class="main" disabled=${!mayPropose} onClick=${propose}>Propose <${Key}>Ctrl S<//></button></span></div>
    ${isPast.value && html`<p class="stale">The program is tried on the decisions and verdicts that were known at this moment. Press T to go back to now and propose it.</p>`}
    <div class="editor"><div class="stack"><div class="text" ref=${host}></div>
      ${loading && html`<${Fault} error=${{ message: `the editor could not be loaded: ${loading.message}` }} />`}
      <${Checked} checked=${checked} faults=${faults} goTo=${(line) => view.current?.goTo(line)} /></div>
      <div class="stack"><div class="row wrap"><${Choice} label="beside the text" options=${[["", "On the log"], ["builder", "Builder"], ["changes", "Changes"]]} value=${params.beside || ""} onChange=${(beside) => setParams({ beside }, { replace: true })} /></div>
        ${params.beside === "builder" && html`<${Builder} text=${text} setText=${(next) => view.current?.setText(next)} known=${known.current} />`}
        ${params.beside === "changes" ? html`<${Diff} before=${original} after=${text} label="what the draft changes" />` : html`<div class="row wrap"><${Choice} label="range of the log" options=${[["3", "3 days"], ["14", "14 days"], ["60", "60 days"]]} value=${String(days)} onChange=${(d) => setParams({ days: d === "14" ? null : d }, { replace: true })} />${tried.busy && html`<span class="soft small" role="status">trying…</span>`}</div>
        <${Tried} tried=${tried} ok=${checked.answer?.ok === true} setRule=${(rule) => setParams({ rule }, { replace: true })} rule=${params.rule} />`}</div></div>${asking}</div>`;
}

/** The answer of the check for the newest text, asked after each pause of typing. */
function useChecked(text) {
  const [state, setState] = useState({ answer: null, error: null, busy: true });
  useEffect(() => {
    let isOn = true;
    const timer = setTimeout(async () => {
      setState((was) => ({ ...was, busy: true }));
      try { const answer = await post("/v1/programs/check", { toml: text }); if (isOn) setState({ answer, error: null, busy: false }); } catch (error) { if (isOn) setState({ answer: error.problems?.length ? { ok: false, problems: error.problems } : null, error: error.problems?.length ? null : error, busy: false }); }
    }, 250);
    return () => { isOn = false; clearTimeout(timer); };
  }, [text]);
  return state;
}

/** What the program would have decided in the days before the moment, by what was known then. end: the moment, epoch ms. */
function useTried(text, ok, days, rule, end) {
  const [state, setState] = useState({ answer: null, error: null, busy: false });
  useEffect(() => {
    if (!ok) return undefined;
    let isOn = true;
    const timer = setTimeout(async () => {
      setState((was) => ({ ...was, busy: true }));
      const started = performance.now();
      const start = new Date(end - days * 86_400_000).toISOString().slice(0, 10);
      try { const answer = await post("/v1/programs/backtest", { toml: text, start, rule, ...(asOf.value && { as_of: asOf.value }) }); if (isOn) setState({ answer, error: null, busy: false, ms: performance.now() - started }); } catch (error) { if (isOn) setState((was) => ({ ...was, error, busy: false })); }
    }, PAUSE_MS);
    return () => { isOn = false; clearTimeout(timer); };
  }, [text, ok, days, rule, asOf.value]);
  return state;
}

function Checked({ checked, faults, goTo }) {
  if (checked.error) return html`<${Fault} error=${checked.error} />`;
  if (!checked.answer) return html`<span class="soft">checking…</span>`;
  if (faults.length) return html`<ul class="stack" style=${{ gap: "4px" }} aria-label="faults">${faults.map((each) => html`<li class="fault"><button class="link" onClick=${() => goTo(each.line)}>${each.line ? `line ${each.line}` : "the document"}</button> ${[each.field, each.detail].filter(Boolean).join(": ")}</li>`)}</ul>`;
  return html`<div class="same">● The program is valid.</div>`;
}
