// Rules as rows of conditions, beside their text: both show the same program, and each follows the other.
import { html, useState } from "/vendor/preact.js";
import * as f from "./format.js";
import { changed, EFFECTS, OPERATORS, parsed, rulesOf, takesValue, withoutRule, withRule, written } from "./rulebook.js";
import { Empty } from "./widgets.js";

/** text: the program; setText(next): changes it. known: [{label, detail}], what a condition can name. */
export function Builder({ text, setText, known }) {
  const rules = rulesOf(text);
  const [chosen, setChosen] = useState(0);
  const at = Math.min(chosen, rules.length - 1);
  const add = () => { setText(withRule(text)); setChosen(rules.length); };
  if (!rules.length) return html`<${Empty} title="The program has no rule of its own"><button onClick=${add}>Add a rule</button><//>`;
  const rule = rules[at];
  const set = (key) => (e) => setText(changed(text, at, key, e.target.value.replace(/["\\]/g, "")));
  return html`<div class="stack"><div class="row wrap"><select aria-label="rule" value=${at} onChange=${(e) => setChosen(Number(e.target.value))}>${rules.map((each, i) => html`<option value=${i}>${each.code || `rule ${i + 1}`}</option>`)}</select>
      <button onClick=${add}>Add a rule</button><button class="plain" onClick=${() => { setText(withoutRule(text, at)); setChosen(0); }}>Remove this rule</button></div>
    <div class="row wrap"><label class="field">Code<input class="mono" value=${rule.code} onChange=${set("code")} /></label>
      <label class="field">Effect<select value=${rule.effect} onChange=${set("effect")}>${EFFECTS.map((each) => html`<option>${each}</option>`)}</select></label>
      <label class="field grow">Words<input value=${rule.words} onChange=${set("words")} /></label></div>
    <${Conditions} rule=${rule} known=${known} onChange=${(when) => setText(changed(text, at, "when", when))} key=${at} /></div>`;
}

function Conditions({ rule, known, onChange }) {
  const held = "when" in rule.lines ? parsed(rule.when) : null;
  if (!held) return html`<p class="soft">This rule's condition is more than comparisons joined only by && or only by ||: change it in the text.</p>`;
  const types = new Map(known.map((each) => [each.label, each.detail]));
  const isText = (name) => types.get(name) === "string";
  const put = (parts, join = held.join) => onChange(written({ join, parts }, isText));
  const set = (i, change) => put(held.parts.map((each, k) => (k === i ? { ...each, ...change } : each)));
  const named = (i) => (e) => { if (types.has(e.target.value)) set(i, { name: e.target.value }); else e.target.setCustomValidity("nothing has this name"); };
  return html`<fieldset class="stack conditions"><legend>Hits if <select aria-label="how conditions are joined" value=${held.join} onChange=${(e) => put(held.parts, e.target.value)}><option value="&&">all</option><option value="||">any</option></select> of these hold</legend>
    <datalist id="names">${known.map((each) => html`<option value=${each.label}>${each.detail}</option>`)}</datalist>
    ${held.parts.map((part, i) => html`<div class="row wrap condition"><input class="mono grow" list="names" aria-label=${`name in condition ${i + 1}`} value=${part.name} onChange=${named(i)} />
      <select aria-label=${`comparison in condition ${i + 1}`} value=${part.op} onChange=${(e) => set(i, { op: e.target.value, value: e.target.value === "is on list" ? "watch" : part.op === "is on list" || !part.value ? "0" : part.value })}>${OPERATORS.map((op) => html`<option>${op}</option>`)}</select>
      ${takesValue(part.op) && html`<input class="mono" size="12" aria-label=${`value in condition ${i + 1}`} value=${part.value.replace(/^'(.*)'$/, "$1")} onChange=${(e) => set(i, { value: e.target.value })} />`}
      <button class="plain" disabled=${held.parts.length === 1} aria-label=${`remove condition ${i + 1}`} onClick=${() => put(held.parts.filter((_, k) => k !== i))}>Remove</button></div>`)}
    <div class="row"><button onClick=${() => put([...held.parts, { name: "amount", op: ">", value: "0" }])}>Add a condition</button><span class="soft small">${f.plural(held.parts.length, "condition")}</span></div></fieldset>`;
}
