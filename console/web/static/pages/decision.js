// One decision, provable: what was decided and why, against the account's normal, and made again from the log.
import { html } from "/vendor/preact.js";
import { can, useData } from "../lib/api.js";
import * as f from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { Unmask } from "../lib/proof.js";
import { go, href, setParams } from "../lib/router.js";
import { Badge, Decision, Id, Loaded, Pairs, Severity, Time } from "../lib/widgets.js";
import { Audit, Features, Model, Raw, tellEvent } from "./case.js";

const TABS = [["features", "Against normal"], ["model", "Model"], ["audit", "Audit"], ["later", "What came later"], ["raw", "Raw"]];

export default function Shown({ args, params }) {
  return can("GET /v1/decisions/{id}/audit") ? html`<${Story} id=${args[0] || ""} params=${params} />` : html`<${Plain} id=${args[0] || ""} />`;
}

/** What was decided, for those who may not read audits. */
function Plain({ id }) {
  const answer = useData(`/v1/decisions/${encodeURIComponent(id)}`);
  return html`<${Loaded} answer=${answer} lines=${8}>${({ row, transaction }) => html`<div class="case-head"><${Decision} value=${row.decision} />${row.severity && html`<${Severity} value=${row.severity} />`}
      <span class="answer">${f.amount(row.amount, row.currency)} by <${Id} value=${row.account_id} label="account" />${row.merchant_id ? html` at ${row.merchant_id}` : ""}</span>
      <span class="soft"><${Time} at=${row.occurred_at} form="minute" /></span>${row.degraded && html`<${Badge} tone="bad">degraded: ${row.degraded}<//>`}</div>
    <div class="two even" style=${{ paddingTop: "12px" }}><section><h2>Why</h2><ul class="evidence">${row.rules.map((code) => html`<li><div class="said mono">${code}</div></li>`)}
        ${row.rules.length === 0 && html`<li><div class="said">No rule hit.</div></li>`}<li><div class="said">The model gave ${f.percent(row.probability, 1)}.</div></li></ul></section>
      <section><h2>Payment</h2><${Pairs} rows=${[["ID", html`<${Id} value=${row.transaction_id} most=${30} label="payment" />`], ["where", [row.country, row.channel].filter(Boolean).join(", ")], ["category", f.words(row.merchant_category || "–")], row.device_id && ["device", html`<${Id} value=${row.device_id} />`],
    row.card_id && ["card", html`<${Id} value=${row.card_id} />`], ["recorded", html`<${Time} at=${transaction.recorded_at} form="minute" />`], ["model", row.model || "none"], ["program", html`<${Id} value=${row.program} label="digest" />`]]} /><${Unmask} place=${row.place} /></section></div>`}<//>`;
}

function Story({ id, params }) {
  const answer = useData(`/v1/decisions/${encodeURIComponent(id)}/audit`);
  const tab = params.tab || "audit";
  const choose = (to) => setParams({ tab: to === "audit" ? null : to }, { replace: true });
  useKeys("decision", { ...Object.fromEntries(TABS.map(([key, name], i) => [String(i + 1), [() => choose(key), name.toLowerCase()]])), ...(answer.data?.alert ? { Enter: [() => go("case", [answer.data.alert.alert_id]), "open its case"] } : {}) });
  return html`<${Loaded} answer=${answer} lines=${12}>${(story) => html`<div class="case-head"><${Decision} value=${story.decision} />${story.severity && html`<${Severity} value=${story.severity} />`}
      <span class="answer">${f.amount(story.raw.amount, story.raw.currency)} by <a href=${href("account", [story.account_id])}>${story.account_id}</a>${story.raw.merchant_id ? html` at ${story.raw.merchant_id}` : ""}</span>
      <span class="soft"><${Time} at=${story.raw.occurred_at} form="minute" /></span>${story.degraded && html`<${Badge} tone="bad">degraded: ${story.degraded}<//>`}${story.arm !== "champion" && html`<${Badge}>arm ${story.arm}<//>`}
      <span class="push noprint">${story.alert && html`<a class="button" href=${href("case", [story.alert.alert_id])}>Open its case</a>`}</span></div>
    <div class="two even" style=${{ paddingTop: "12px" }}><section><h2>Why</h2><ul class="evidence">${story.rule_hits.map((hit) => html`<li class=${`${hit.effect}-rule`}><div class="said">${hit.meaning}</div><div class="small soft"><span class="mono">${hit.code}</span> ${hit.effect === "shadow" ? "in shadow, without effect" : hit.effect}</div></li>`)}
        ${story.rule_hits.length === 0 && html`<li><div class="said">No rule hit.</div></li>`}<li><div class="said">The model gave ${f.percent(story.probability, 1)}.</div><div class="small soft">review from ${f.percent(story.policy?.review ?? story.policy?.thresholds?.review)}, decline from ${f.percent(story.policy?.decline ?? story.policy?.thresholds?.decline)}</div></li></ul></section>
      <section><h2>Payment</h2><${Pairs} rows=${[["ID", html`<${Id} value=${story.transaction_id} most=${30} label="payment" />`], ["where", [story.raw.country, story.raw.channel].filter(Boolean).join(", ")], ["category", f.words(story.raw.merchant_category || "–")], story.raw.device_id && ["device", html`<${Id} value=${story.raw.device_id} />`],
    story.raw.card_id && ["card", html`<${Id} value=${story.raw.card_id} />`], ["recorded", html`<${Time} at=${story.raw.recorded_at} form="minute" />`], ["recommended", story.recommended.map(f.words).join(", ") || "nothing"]]} /></section></div>
    <div class="tabs" role="tablist">${TABS.map(([key, name]) => html`<button role="tab" aria-selected=${String(tab === key)} onClick=${() => choose(key)}>${name}</button>`)}</div>
    <div role="tabpanel">${tab === "features" ? html`<${Features} story=${story} />` : tab === "model" ? html`<${Model} story=${story} />` : tab === "raw" ? html`<${Raw} story=${story} />` : tab === "later" ? html`<${Later} story=${story} />` : html`<${Audit} story=${story} place=${story.place} />`}</div>`}<//>`;
}

function Later({ story }) {
  const all = [...story.labels, ...story.actions, ...story.account_since].sort((a, b) => b.event.occurred_at - a.event.occurred_at);
  if (!all.length) return html`<p class="soft">Nothing has been reported or done about this payment or its account since.</p>`;
  return html`<p class="soft small">Not known when the payment was decided.</p><ul class="history">${all.map((each) => html`<li><span class="soft"><${Time} at=${each.event.occurred_at} form="minute" /></span><span>${tellEvent(each.type, each.event)} <span class="soft">${each.event.source || ""} ${each.event.actor || ""}</span></span></li>`)}</ul>`;
}
