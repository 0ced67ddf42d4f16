// What waits for a second person: who proposes what and why, what it changes, and the acts on it. Models and programs,
// and the other changes that four eyes cover.
import { actText } from "./acting.js";
import { html, useState } from "/vendor/preact.js";
import { can, me, post, reached, useData } from "./api.js";
import { Diff } from "./diff.js";
import * as f from "./format.js";
import { isPast, say } from "./state.js";
import { Ask, Badge, Loaded, Time } from "./widgets.js";

const ACTS = ["approve", "deploy", "withdraw"];
const title = (act) => act[0].toUpperCase() + act.slice(1);
const pathOf = (kind, proposal, act) => `/v1/${kind}/proposals/${encodeURIComponent(proposal.proposal_id)}/${act}`;

/** kind: models or programs. name: what is proposed, in words. hasFourEyes: whether a second person must approve. */
export function Proposals({ proposals, kind, reload, hasFourEyes = false, name = (p) => p.model || p.label || f.shortened(p.digest) }) {
  const [asking, setAsking] = useState(null);
  if (!proposals.length) return null;
  const ask = (proposal, act) => () => setAsking(html`<${Ask} title=${`${title(act)} ${name(proposal)}`} label="Reason" action=${title(act)} onClose=${() => setAsking(null)}
    onDone=${async (reason) => { const { position } = await post(pathOf(kind, proposal, act), { reason }); await reached(`/v1/${kind}`, position); say(`${title(act)} ${name(proposal)}: done`); reload(); }} />`);
  return html`<section><h2>Waiting for a decision</h2>${proposals.map((proposal) => html`<${Proposal} key=${proposal.proposal_id} proposal=${proposal} kind=${kind} name=${name(proposal)} ask=${ask} hasFourEyes=${hasFourEyes} />`)}${asking}</section>`;
}

function Proposal({ proposal, kind, name, ask, hasFourEyes }) {
  const by = proposal.proposed || proposal;
  const lacks = hasFourEyes && !proposal.approved;
  const refused = { approve: by.actor === me.value.name ? "your own proposal needs another person" : proposal.approved ? "approved already" : "", deploy: lacks ? "it needs a second person's approval first" : "" };
  const may = ACTS.filter((act) => can(`POST /v1/${kind}/proposals/{id}/${act}`) && !(act === "approve" && proposal.approved));
  return html`<article class="proposal" aria-label=${`proposal ${name}`}><div class="row wrap"><b class="mono">${name}</b><span>${by.actor} <span class="soft"><${Time} at=${by.occurred_at} /></span></span>
      ${proposal.approved ? html`<${Badge} tone="good">approved by ${proposal.approved.actor}<//> <span class="soft">${proposal.approved.reason}</span>` : html`<${Badge} tone="warn">not approved yet<//>`}
      <span class="push row wrap">${may.map((act) => html`<button class=${act === "withdraw" ? "plain" : ""} disabled=${Boolean(refused[act]) || isPast.value} title=${refused[act]} onClick=${ask(proposal, act)}>${title(act)}</button>`)}</span></div>
    <p>${by.reason}</p>${kind === "programs" && html`<${Changes} digest=${proposal.digest} />`}</article>`;
}

/** What an act that was only proposed says; "" for one that took effect. done: the API's answer. */
export const waits = (done) => (done.proposals?.length ? `four eyes: it waits for a second person (${done.proposals.join(", ")})` : "");

/** The changes that wait: thresholds, rules, rates, lists, experiments, the roster, the switches. */
export function Waiting({ reload }) {
  const answer = useData(isPast.value ? null : "/v1/proposals");
  const [asking, setAsking] = useState(null);
  const found = answer.data?.proposals || [];
  if (!found.length) return null;
  const ask = (each, act) => () => setAsking(html`<${Ask} title=${`${title(act)} ${each.proposal_id}`} label="Reason" action=${title(act)} onClose=${() => setAsking(null)}
    onDone=${async (reason) => { const { position } = await post(`/v1/proposals/${encodeURIComponent(each.proposal_id)}/${act}`, { reason }); await reached("/v1/rules", position); say(`${title(act)} ${each.proposal_id}: done`); answer.reload(); reload(); }} />`);
  const own = (each, act) => (act === "approve" && each.actor === me.value.name ? "your own proposal needs another person" : "");
  return html`<section><h2>Changes that wait for a second person</h2>${found.map((each) => html`<article class="proposal" key=${each.proposal_id} aria-label=${`proposal ${each.proposal_id}`}><div class="row wrap"><b>${actText({ type: each.kind, event: each.change })}</b><span>${each.actor} <span class="soft"><${Time} at=${each.occurred_at} /></span></span>
      <span class="push row wrap">${["approve", "withdraw"].filter((act) => can(`POST /v1/proposals/{id}/${act}`)).map((act) => html`<button class=${act === "withdraw" ? "plain" : ""} disabled=${Boolean(own(each, act)) || isPast.value} title=${own(each, act)} onClick=${ask(each, act)}>${title(act)}</button>`)}</span></div>
    <p>${each.reason} <span class="soft mono">${each.proposal_id}</span></p></article>`)}${asking}</section>`;
}

/** What a program changes against the one that decides. */
function Changes({ digest }) {
  const told = useData(`/v1/programs/${digest}/diff`, { against: "current" });
  const [isOpen, setOpen] = useState(false);
  return html`<${Loaded} answer=${told} lines=${2}>${({ differences }) => html`<ul class="diff-words" aria-label="what changes">${differences.map((line) => html`<li>${line}</li>`)}</ul>
    <button class="link" aria-expanded=${String(isOpen)} onClick=${() => setOpen(!isOpen)}>${isOpen ? "Hide the text" : "Show the text"}</button>
    ${isOpen && html`<${Texts} before="current" after=${digest} />`}`}<//>`;
}

/** Two programs as text, by what the API names them. */
export function Texts({ before, after }) {
  const [one, other] = [useData(`/v1/programs/${encodeURIComponent(before)}`), useData(`/v1/programs/${encodeURIComponent(after)}`)];
  return html`<${Loaded} answer=${one} lines=${4}>${(old) => html`<${Loaded} answer=${other} lines=${4}>${(fresh) => html`<${Diff} before=${old.toml} after=${fresh.toml} label=${`from ${old.label} to ${fresh.label}`} />`}<//>`}<//>`;
}
