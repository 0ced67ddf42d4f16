// Small parts that all pages share. What is shown of a decision, a severity, a time, an amount or an ID looks the same
// everywhere; colour never stands alone: shape and word say it too.
import { html, useEffect, useLayoutEffect, useRef, useState } from "/vendor/preact.js";
import * as f from "./format.js";
import { useKeys } from "./keys.js";
import { now, say } from "./state.js";

const SHAPES = { approve: "●", review: "◐", decline: "■", fraud: "■", legitimate: "●", unsure: "◐" };
const TONES = { fraud: "decline", legitimate: "approve", unsure: "review" };

export const Decision = ({ value, quiet = false }) => value
  ? html`<span class="decision ${TONES[value] || value}"><span aria-hidden="true">${SHAPES[value] || "○"}</span>${!quiet && html`<span>${f.words(value)}</span>`}</span>`
  : html`<span class="soft">–</span>`;

const LEVELS = ["low", "medium", "high", "critical"];
export function Severity({ value, quiet = false }) {
  if (!value) return html`<span class="soft">–</span>`;
  const level = LEVELS.indexOf(value);
  return html`<span class="severity ${value}" title=${value}><svg width="15" height="12" aria-hidden="true">
    ${LEVELS.map((_, i) => html`<rect x=${i * 4} y=${8 - i * 2.6} width="3" height=${4 + i * 2.6} fill="currentColor" opacity=${i <= level ? 1 : 0.22} />`)}
  </svg><span class=${quiet ? "hidden-label" : ""}>${value}</span></span>`;
}

export const Time = ({ at, form = "ago" }) => html`<time class="nowrap" datetime=${at ? new Date(at).toISOString() : undefined} title=${f.exactly(at)}>${
  form === "ago" ? f.ago(at, now.value) : form === "minute" ? f.minuteOf(at) : form === "clock" ? f.clockOf(at) : f.dayOf(at)}</time>`;

export const Money = ({ value, currency = "" }) => html`<span class="nowrap">${f.amount(value, currency)}</span>`;

/** An identifier: shortened in the middle, copied by a click, whole on hover. */
export function Id({ value, most = 18, label = "ID" }) {
  if (!value) return html`<span class="soft">–</span>`;
  const copy = async (event) => {
    event.stopPropagation();
    try { await navigator.clipboard.writeText(value); say(`copied ${value}`, { seconds: 2 }); } catch { say(value, { seconds: 6 }); }
  };
  return html`<button class="id" type="button" title=${`${label} ${value} (click to copy)`} onClick=${copy}>${f.shortened(value, most)}</button>`;
}

export const Key = ({ children }) => html`<kbd class="key">${children}</kbd>`;
export const Badge = ({ tone = "", title, children }) => html`<span class="badge ${tone}" title=${title}>${children}</span>`;
export const Pairs = ({ rows }) => html`<dl class="pairs">${rows.filter(Boolean).map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
export const Empty = ({ title, children }) => html`<div class="empty" role="status"><b>${title}</b>${children}</div>`;

/** An error: what is wrong and what to do. */
export const Fault = ({ error, retry }) => html`<div class="fault" role="alert"><div>${error.message}</div>${error.remedy && html`<div class="small">${error.remedy}</div>`}
  ${error.problems?.length > 1 && html`<ul class="small">${error.problems.map((p) => html`<li>${p.line ? `line ${p.line}: ` : ""}${p.field && `${p.field}: `}${p.detail}</li>`)}</ul>`}
  ${retry && html`<button class="link" onClick=${retry}>Try again</button>`}</div>`;

/** Lines that stand where text will be; the widths follow from the line number, so that nothing jumps. */
export const Skeleton = ({ lines = 6 }) => html`<div class="stack" aria-busy="true" aria-label="loading" role="status">${
  Array.from({ length: lines }, (_, i) => html`<div class="bone" style=${{ width: `${[92, 64, 78, 55, 84, 70][i % 6]}%` }}></div>`)}</div>`;

/** What an answer's state asks for: a skeleton, an error, a note that it is old, or the page itself. */
export function Loaded({ answer, lines, children }) {
  if (answer.data === undefined || answer.data === null) return answer.error ? html`<${Fault} error=${answer.error} retry=${answer.reload} />` : html`<${Skeleton} lines=${lines} />`;
  return html`${answer.error && html`<div class="stale" role="status">${answer.error.message}: shown is what was known at ${f.clockOf(answer.at)}.
    <button class="link" onClick=${answer.reload}>Try again</button></div>`}${children(answer.data)}`;
}

/** The width of an element in pixels, followed. */
export function useWidth(first = 600) {
  const at = useRef(null);
  const [width, setWidth] = useState(first);
  useEffect(() => {
    if (!at.current) return undefined;
    const seen = new ResizeObserver(([entry]) => setWidth(Math.max(80, Math.round(entry.contentRect.width))));
    seen.observe(at.current);
    return () => seen.disconnect();
  }, []);
  return [at, width];
}

/** A choice among a few: tabs, or a filter. */
export const Choice = ({ label, options, value, onChange }) => html`<div class="row" role="group" aria-label=${label}>${options.map(([key, text]) => html`
  <button type="button" aria-pressed=${String(key === value)} onClick=${() => onChange(key)}>${text}</button>`)}</div>`;

export function Dialog({ title, onClose, children }) {
  const at = useRef(null);
  const before = useRef(document.activeElement);
  useKeys(title, { Escape: [onClose, "close"] }, { modal: true });
  useLayoutEffect(() => { // at once, so that what is typed next is not lost
    const first = ["[autofocus]", "input, textarea, select", ".body button", "button"].map((each) => at.current.querySelector(each)).find(Boolean);
    (first || at.current).focus();
    return () => before.current?.focus?.();
  }, []);
  const hold = (event) => { // the focus stays in the dialog
    if (event.key !== "Tab") return;
    const all = [...at.current.querySelectorAll("a[href], button:not(:disabled), input, select, textarea")];
    const [first, last] = [all[0], all[all.length - 1]];
    if (event.shiftKey && document.activeElement === first) { event.preventDefault(); last.focus(); }
    if (!event.shiftKey && document.activeElement === last) { event.preventDefault(); first.focus(); }
  };
  return html`<div class="sheet" onClick=${(e) => { if (e.target === e.currentTarget) onClose(); }}>
    <div class="dialog" role="dialog" aria-modal="true" aria-label=${title} tabindex="-1" ref=${at} onKeyDown=${hold}>
      <header><h2 class="grow">${title}</h2><button class="plain" onClick=${onClose}>Close <${Key}>Esc<//></button></header>
      <div class="body">${children}</div></div></div>`;
}

/** A question with a text, asked before an act that needs a reason. onDone gets the text; an error keeps it. */
export function Ask({ title, label, action, onDone, onClose, needed = true, children }) {
  const [text, setText] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    if (needed && !text.trim()) { setError({ message: `${label} is needed: it is kept in the log with what you do` }); return; }
    setBusy(true);
    try { await onDone(text.trim()); onClose(); } catch (failed) { setError(failed); setBusy(false); }
  };
  return html`<${Dialog} title=${title} onClose=${onClose}><form class="stack" onSubmit=${submit}>
    ${children}<label class="field">${label}<textarea rows="3" autofocus value=${text} onInput=${(e) => setText(e.target.value)}
      onKeyDown=${(e) => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) submit(e); }}></textarea></label>
    ${error && html`<${Fault} error=${error} />`}
    <div class="row"><button class="main" disabled=${busy}>${action}</button><span class="small soft">Ctrl+Enter</span></div></form><//>`;
}
