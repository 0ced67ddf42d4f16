// The bar that says which moment is shown, and changes it. The moment is in the address (`as_of`) and in every request.
import { html, useRef, useState } from "/vendor/preact.js";
import * as f from "./format.js";
import { useKeys } from "./keys.js";
import { place, setParams } from "./router.js";
import { asOf, tick, timeOf } from "./state.js";
import { Dialog, Key } from "./widgets.js";

const HOUR = 3_600_000;
const AGO = [["15 minutes ago", HOUR / 4], ["1 hour ago", HOUR], ["yesterday", 24 * HOUR], ["a week ago", 168 * HOUR], ["a month ago", 730 * HOUR]];

/** A moment in words: a time in the viewer's zone, or a position as it is written. */
export function inWords(moment) {
  const time = timeOf(moment);
  if (time) return `${f.minuteOf(time)}, ${f.ago(time, tick.value)}`;
  if (/^p\d+:\d+-\d+$/.test(moment)) return `when ${moment} was decided`;
  return f.shortened(moment, 40);
}

export function TimeMachine() {
  const [isOpen, setOpen] = useState(false);
  useKeys("time machine", { t: [() => setOpen(true), "choose a moment"], ...(asOf.value ? { T: [() => setParams({ as_of: null }), "back to now"] } : {}) });
  return html`<div class="row grow" style=${{ flexWrap: "wrap" }}>
    <button class="plain" onClick=${() => setOpen(true)} aria-haspopup="dialog" title="choose the moment that all pages show"><span aria-hidden="true">◷</span>
      ${asOf.value ? html`<span>As of <b>${inWords(asOf.value)}</b></span>` : html`<span>Now</span>`} <span class="wide"><${Key}>t<//></span></button>
    ${asOf.value ? html`<button onClick=${() => setParams({ as_of: null })}>Back to now <span class="wide"><${Key}>T<//></span></button>
      <span class="wide small">What was not known then is not shown.</span>` : html`<span class="small soft wide">times in ${f.zone}</span>`}
    ${isOpen && html`<${Chooser} onClose=${() => setOpen(false)} />`}</div>`;
}

const local = (ms) => new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);

function Chooser({ onClose }) {
  const before = timeOf(asOf.value);
  const time = useRef(null);
  const position = useRef(null);
  const choose = (moment) => { setParams({ as_of: moment }); onClose(); };
  const iso = (ms) => new Date(Math.floor(ms / 1000) * 1000).toISOString().replace(".000", "");
  const submit = (event) => {
    event.preventDefault();
    const written = position.current.value.trim();
    const at = new Date(time.current.value).getTime();
    if (written) choose(written);
    else if (at) choose(iso(at));
  };
  return html`<${Dialog} title="Show everything as of" onClose=${onClose}><form class="stack" onSubmit=${submit}>
    <div class="row wrap">${place.value.params.as_of && html`<button type="button" onClick=${() => choose(null)}>now</button>`}
      ${AGO.map(([name, ms]) => html`<button type="button" onClick=${() => choose(iso(Date.now() - ms))}>${name}</button>`)}</div>
    <label class="field">A time (${f.zone})<input ref=${time} type="datetime-local" step="1" autofocus value=${local(before || Date.now())} /></label>
    <label class="field">Or a position of the log<input ref=${position} class="mono" placeholder="p07:1-533, c12, p07:s12, or the as_of of an answer" value=${/^[pc]\d/.test(asOf.value) ? asOf.value : ""} /></label>
    <p class="small soft">Time is log time: when something became known, not when it happened. A chargeback of May on a payment of March is not shown in April.</p>
    <div class="row"><button class="main">Show</button></div></form><//>`;
}
