// What can be set beside the program: thresholds, the parameters of rules, and rules that are off. A change is tried on the
// log while it is typed, needs a reason, and waits for a second person where four eyes cover it.
import { html, useEffect, useState } from "/vendor/preact.js";
import { can, post, reached, send } from "./api.js";
import * as f from "./format.js";
import { useKeys } from "./keys.js";
import { waits } from "./proposals.js";
import { isPast, say } from "./state.js";
import { Ask, Key, Loaded, Time } from "./widgets.js";

const PAUSE_MS = 300;
const DAYS = 14;
const OF_THRESHOLDS = ["review_probability", "decline_probability", "review_loss", "decline_loss"];

/** A share as the number of per cent that a person types, and back, without the last bit's noise. */
const toPercent = (share) => Number((share * 100).toPrecision(12));
const toShare = (percent) => Number((percent / 100).toPrecision(12));
const numberOf = (text) => (String(text).trim() === "" ? NaN : Number(text));

async function change(path, body, what) {
  const made = await send("PATCH", path, body);
  await reached(path, made.position);
  say(waits(made) || (made.changed ? `${what}: from the workers' next batch on` : `${what}: it was so already`));
}

/** What the change would have done on the last days of the log; nothing where that can't be told quickly. */
function Effect({ body }) {
  const [told, setTold] = useState(null);
  const key = JSON.stringify(body);
  useEffect(() => {
    setTold(null);
    if (body === null || !can("POST /v1/whatif")) return undefined;
    let isOn = true;
    const timer = setTimeout(async () => {
      const start = new Date(Date.now() - DAYS * 86_400_000).toISOString().slice(0, 10);
      try { const answer = await post("/v1/whatif", { ...body, start, top: 0 }); if (isOn) setTold(answer); } catch (error) { if (isOn) setTold({ error }); }
    }, PAUSE_MS);
    return () => { isOn = false; clearTimeout(timer); };
  }, [key]);
  if (body === null) return null;
  const total = told?.total;
  return html`<p class="small" role="status" aria-label="what the change would have done">${!told ? "trying it on the log…" : told.error ? html`<span class="soft">Not tried on the log: ${told.error.message}</span>`
    : html`On the last ${DAYS} days ${total.changed ? html`<b>${f.plural(total.changed, "decision")}</b> of ${f.count(total.decisions)} would have been different: ${f.signed((total.whatif.alerts - total.logged.alerts) / Math.max(told.days.length, 1))} alerts a day, ${f.amount(total.money.saved)} saved, ${f.amount(total.money.lost)} lost` : html`none of ${f.plural(total.decisions, "decision")} would have been different`}.`}</p>`;
}

/** The thresholds in force, who set them last, and the button that changes them. answer: of the API; show: displays a dialog. */
export function Thresholds({ answer, show, reload }) {
  const mayChange = can("PATCH /v1/thresholds") && !isPast.value;
  const open = () => answer.data && show(html`<${SetThresholds} logged=${answer.data} onClose=${() => show(null)} done=${reload} />`);
  useKeys("thresholds", mayChange ? { s: [open, "set thresholds"] } : {});
  return html`<section><h2>Thresholds</h2><${Loaded} answer=${answer} lines=${1}>${(found) => {
    const last = found.history.filter((each) => !each.refused).at(-1);
    return html`<div class="row wrap"><span><span class="review">◐ review</span> from ${inWords(found, "review")}</span><span><span class="decline">■ decline</span> from ${inWords(found, "decline")}</span>
      <span class="soft">${last ? html`set by ${last.actor} <${Time} at=${last.occurred_at} />: ${last.reason}` : "as the log began"}</span>
      ${mayChange && html`<span class="push"><button onClick=${open}>Set thresholds <${Key}>s<//></button></span>`}</div>`;
  }}<//></section>`;
}

const inWords = (found, role) => (found[`${role}_loss`] ? html`an expected loss of <b>${f.amount(found[`${role}_loss`])}</b>` : html`<b>${f.percent(found[role], 1)}</b>`);

const ofLogged = (logged, role) => (logged[`${role}_loss`] ? { by: "loss", value: String(logged[`${role}_loss`]) } : { by: "probability", value: String(toPercent(logged[role])) });

/** What is to be sent of one threshold: nothing if it stays. */
function patchOf(logged, role, { by, value }) {
  const was = ofLogged(logged, role);
  if (by === was.by && numberOf(value) === Number(was.value)) return {};
  return by === "loss" ? { [`${role}_loss`]: numberOf(value) } : { [role]: toShare(numberOf(value)) };
}

/** What is wrong with what was typed; "" for nothing. */
function faultOf(fields) {
  for (const [role, { by, value }] of Object.entries(fields)) {
    const number = numberOf(value);
    if (!Number.isFinite(number) || number <= 0 || (by === "probability" && number > 100)) return `${role}: enter ${by === "loss" ? "an amount above 0" : "a probability above 0 and up to 100 %"}`;
  }
  const { review, decline } = fields;
  return review.by === decline.by && Number(review.value) > Number(decline.value) ? "review must not begin above decline" : "";
}

function SetThresholds({ logged, onClose, done }) {
  const [fields, setFields] = useState({ review: ofLogged(logged, "review"), decline: ofLogged(logged, "decline") });
  const fault = faultOf(fields);
  const patch = fault ? {} : { ...patchOf(logged, "review", fields.review), ...patchOf(logged, "decline", fields.decline) };
  const isChanged = Object.keys(patch).length > 0;
  const set = (role, part) => setFields({ ...fields, [role]: { ...fields[role], ...part } });
  const save = async (reason) => {
    if (fault || !isChanged) throw new Error(fault || "nothing is changed yet");
    await change("/v1/thresholds", { ...patch, reason }, "thresholds set");
    done();
  };
  return html`<${Ask} title="Set thresholds" label="Reason" action="Set thresholds" onClose=${onClose} onDone=${save}>
    ${["review", "decline"].map((role) => html`<div class="row wrap" key=${role}><label class="field">${role === "review" ? "Review from" : "Decline from"}<input type="number" step="any" min="0" autofocus=${role === "review"} style=${{ width: "130px" }} value=${fields[role].value} onInput=${(e) => set(role, { value: e.target.value })} /></label>
      <label class="field"><span><span class="hidden-label">${role}: </span>of</span><select value=${fields[role].by} onChange=${(e) => set(role, e.target.value === ofLogged(logged, role).by ? ofLogged(logged, role) : { by: e.target.value, value: "" })}><option value="probability">probability, %</option><option value="loss">expected loss, base currency</option></select></label></div>`)}
    ${fault && isTouched(logged, fields) && html`<p class="small decline">${fault}</p>`}
    <${Effect} body=${isChanged ? patch : null} /><//>`;
}

const isTouched = (logged, fields) => Object.entries(fields).some(([role, field]) => field.value !== "" && JSON.stringify(field) !== JSON.stringify(ofLogged(logged, role)));

/** The parameters of a rule that can be set on this page: thresholds are set above. */
export const ownParameters = (rule) => Object.keys(rule.parameters).filter((name) => !OF_THRESHOLDS.includes(name));

/** Whether somebody can change the rule: its parameters, or whether it is on. */
export const isChangeable = (rule) => ownParameters(rule).length > 0 || ["enabled", "disabled"].includes(rule.state);

/** What a change of a rule says to the API. fields: by parameter, as typed. */
function changeOf(rule, fields, isOn) {
  const parameters = {};
  const reset = [];
  for (const name of ownParameters(rule)) {
    const value = numberOf(fields[name]);
    if (value === rule.parameters[name]) continue;
    if (value === rule.own[name]) reset.push(name); else parameters[name] = value;
  }
  const wasOn = rule.state !== "disabled";
  return { parameters, reset, disable: wasOn && !isOn ? [rule.code] : [], enable: !wasOn && isOn ? [rule.code] : [] };
}

/** All parameters and switched-off rules as they would be, for a what-if. */
function ruleSet(rules, made) {
  const parameters = {};
  for (const each of rules) for (const name of each.changed) if (!OF_THRESHOLDS.includes(name)) parameters[name] = each.parameters[name];
  Object.assign(parameters, made.parameters);
  for (const name of made.reset) delete parameters[name];
  const off = new Set([...rules.filter((each) => each.state === "disabled").map((each) => each.code), ...made.disable]);
  for (const code of made.enable) off.delete(code);
  return { parameters, disabled: [...off] };
}

export function SetRule({ rule, rules, onClose, done }) {
  const names = ownParameters(rule);
  const [fields, setFields] = useState(Object.fromEntries(names.map((name) => [name, String(rule.parameters[name])])));
  const [isOn, setOn] = useState(rule.state !== "disabled");
  const wrong = names.find((name) => !Number.isFinite(numberOf(fields[name])));
  const made = wrong ? null : changeOf(rule, fields, isOn);
  const isChanged = made && (Object.keys(made.parameters).length > 0 || made.reset.length > 0 || made.disable.length > 0 || made.enable.length > 0);
  const sharers = (name) => rules.filter((each) => each.code !== rule.code && name in each.parameters).map((each) => each.code);
  const save = async (reason) => {
    if (wrong) throw new Error(`${wrong}: enter a number`);
    if (!isChanged) throw new Error("nothing is changed yet");
    await change("/v1/rules", { ...made, reason }, `${rule.code} changed`);
    done();
  };
  return html`<${Ask} title=${`Change ${rule.code}`} label="Reason" action="Change the rule" onClose=${onClose} onDone=${save}>
    ${rule.when && html`<p class="mono small soft" style=${{ overflowWrap: "anywhere" }}>${rule.when}</p>`}
    ${names.map((name, at) => html`<div key=${name} class="stack" style=${{ gap: "2px" }}><label class="field"><span class="mono">${name}</span><input type="number" step="any" autofocus=${at === 0} style=${{ width: "160px" }} value=${fields[name]} onInput=${(e) => setFields({ ...fields, [name]: e.target.value })} /></label>
      <span class="small soft">the program's own value: ${rule.own[name]}${numberOf(fields[name]) !== rule.own[name] && html` · <button type="button" class="link" aria-label=${`use ${rule.own[name]} for ${name}`} onClick=${() => setFields({ ...fields, [name]: String(rule.own[name]) })}>use ${rule.own[name]}</button>`}${sharers(name).length > 0 && html`; also read by <span class="mono">${sharers(name).join(", ")}</span>`}</span></div>`)}
    ${["enabled", "disabled"].includes(rule.state) && html`<label class="row"><input type="checkbox" checked=${isOn} onChange=${(e) => setOn(e.target.checked)} /> the rule is on</label>`}
    ${wrong && html`<p class="small decline">${wrong}: enter a number</p>`}
    <${Effect} body=${isChanged ? { rules: ruleSet(rules, made) } : null} /><//>`;
}
