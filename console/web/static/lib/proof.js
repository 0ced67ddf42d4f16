// Can I prove it? What the log says of a decision's making, and the button that makes it again.
import { html, useState } from "/vendor/preact.js";
import { can, get, post, save, useData } from "./api.js";
import * as f from "./format.js";
import { href } from "./router.js";
import { Ask, Fault, Id, Pairs, Time } from "./widgets.js";

/** A control change in words: who, when, why. */
const said = (change) => (change ? html`${change.actor} <${Time} at=${change.occurred_at} form="minute" /> <span class="soft">${change.reason}</span>` : html`<span class="soft">never changed</span>`);

/** The program that decided, from its first digits, as it was in force then. */
function Program({ digits, registry }) {
  const known = Object.values(registry.programs).find((each) => each.digest.startsWith(digits));
  if (!known) return registry.default.startsWith(digits) ? "the log's default program" : html`<span class="mono">${digits}</span>`;
  const service = [...registry.services].reverse().find((each) => each.digest === known.digest) || registry.trials.find((each) => each.digest === known.digest);
  const { proposed, approved } = service?.proposal || {};
  return html`<a href=${href("rules", [], { program: known.digest })}>${known.name}@${known.version}</a>${[["proposed", proposed || known.registered], ["approved", approved], ["in force", service?.began]].filter(([, by]) => by).map(([what, by]) => html`<div><span class="soft">${what} by</span> ${by.actor} <${Time} at=${by.occurred_at} form="minute" /> <span class="soft">${by.reason}</span></div>`)}`;
}

export function Proof({ story }) {
  const { recomputed, seal, model } = story;
  const programs = useData("/v1/programs", { as_of: story.place });
  return html`<div class=${recomputed.identical ? "same" : "other"}><b>${recomputed.identical ? "Decided again from the log: identical, byte for byte." : "Decided again from the log: NOT identical."}</b>
      ${recomputed.differences.map((line) => html`<div class="small">${line}</div>`)}</div>
    <${Pairs} rows=${[
    ["position", html`<${Id} value=${story.place} label="position" /> <span class="soft">with feedback up to</span> <span class="mono">${story.f}</span> <span class="soft">and control event</span> <span class="mono">${story.c}</span>`],
    ["batch", seal ? html`seal ${f.count(seal.sequence)}, recorded <${Time} at=${seal.recorded_at} form="minute" />, <${Id} value=${seal.digest} most=${22} label="digest" />` : html`<span class="soft">not sealed yet</span>`],
    ["score's SHA-256", html`<${Id} value=${recomputed.logged_score_digest} most=${30} label="SHA-256" />`],
    ["model", model ? html`<a href=${href("models")}>${model.label || model.name || model.version}</a> <span class="soft">${model.deployed_by || ""} ${model.reason || ""}</span>` : html`<span class="soft">none decided</span>`],
    ["program", programs.data ? html`<${Program} digits=${story.score.program} registry=${programs.data.registry} />` : html`<span class="mono">${story.score.program}</span>`],
    ...Object.entries(model || {}).filter(([, value]) => value && typeof value === "object" && "actor" in value).map(([name, value]) => [f.words(name), said(value)]),
    ...Object.entries(story.policy || {}).filter(([, value]) => value && typeof value === "object" && "actor" in value).map(([name, value]) => [f.words(name), said(value)]),
  ]} />`;
}

/** Shows a payment whose values are masked for whoever asks; who saw it, and why, is recorded. */
export function Unmask({ place }) {
  const [asking, setAsking] = useState(false);
  const [shown, setShown] = useState(null);
  if (!can("POST /v1/decisions/{id}/unmask")) return null;
  const run = async (reason) => setShown((await post(`/v1/decisions/${encodeURIComponent(place)}/unmask`, { reason })).transaction);
  return html`<div><button onClick=${() => setAsking(true)} title="Shows this payment's account, device, card and attributes; who saw them is recorded">Unmask</button>
    ${asking && html`<${Ask} title="Unmask this payment" label="Why (recorded)" action="Unmask" onClose=${() => setAsking(false)} onDone=${run} />`}
    ${shown && html`<${Pairs} rows=${Object.entries({ ...shown, ...shown.attributes }).filter(([name, value]) => name !== "attributes" && value !== "").map(([name, value]) => [f.words(name), html`<span class="mono">${String(value)}</span>`])} />`}</div>`;
}

export function Replay({ place }) {
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true); setError(null);
    try { setAnswer(await get(`/v1/decisions/${encodeURIComponent(place)}/replay`, { as_of: null })); } catch (failed) { setError(failed); }
    setBusy(false);
  };
  const prove = async () => {
    setError(null);
    try { await save(`/v1/decisions/${encodeURIComponent(place)}/proof`, `${place.replace(":", "-")}.proof`); } catch (failed) { setError(failed); }
  };
  return html`<div class="row wrap"><button onClick=${run} disabled=${busy}>${busy ? "Deciding again…" : "Replay this decision"}</button>
    <button onClick=${prove} title="A file that sentinel-verify checks offline, with the log's public key">Proof</button>
    <a class="button" href=${href("decision", [place], { as_of: place })}>Everything as of this decision</a>
    ${answer && html`<span role="status" class=${answer.outcome === "identical" ? "approve" : "decline"}>${answer.outcome === "identical" ? "● identical" : `■ ${f.words(answer.outcome)}`} <span class="soft mono">${f.shortened(answer.recomputed_digest || "", 18)}</span> ${answer.why} ${answer.differences.join("; ")}</span>`}
    ${error && html`<${Fault} error=${error} />`}</div>`;
}
