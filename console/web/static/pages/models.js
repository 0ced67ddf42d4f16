// May it serve? The model in force, how it was judged, who promoted it and why; what waits for a second person.
import { html } from "/vendor/preact.js";
import { useData } from "../lib/api.js";
import * as f from "../lib/format.js";
import { Performance } from "../lib/performance.js";
import { Proposals } from "../lib/proposals.js";
import { setParams } from "../lib/router.js";
import { Badge, Empty, Id, Loaded, Pairs, Time } from "../lib/widgets.js";

const SAID = ["auc_roc", "average_precision", "recall", "precision", "log_loss", "ece", "value_detection_rate", "frauds", "rows"];

export default function Models({ params }) {
  const answer = useData("/v1/models");
  const shadow = useData("/v1/shadow");
  return html`<${Loaded} answer=${answer}>${({ models, registry }) => {
    const champion = models.find((row) => row.stage === "champion") || models.find((row) => row.model.label === registry.aliases.champion);
    const labelOf = (row) => `${row.model.name}-${row.model.version}`;
    const chosen = models.find((row) => labelOf(row) === params.model) || champion || models[0];
    return html`<div class="stack" style=${{ gap: "20px" }}>
      <div class="case-head"><span class="answer">${champion ? html`${labelOf(champion)} decides` : registry.aliases.champion ? html`${registry.aliases.champion} decides` : "No model decides: rules alone"}</span>
        ${champion && html`<span class="soft">${deployment(registry, labelOf(champion))}</span>`}<span class="push">${registry.governance?.four_eyes ? html`<${Badge} tone="good">four eyes<//>` : html`<${Badge} title="one person can deploy a champion">no four eyes<//>`}</span></div>
      <${Proposals} proposals=${Object.values(registry.proposals)} kind="models" hasFourEyes=${registry.governance?.four_eyes} reload=${answer.reload} />
      ${models.length === 0 ? html`<${Empty} title="No model is registered">Train one: <code>sentinel train --output DIRECTORY</code>, then <code>sentinel model register</code>.<//>` : html`<div class="two">
        <section><h2>Models</h2><div class="scroll" tabindex="0"><table><thead><tr><th>Model</th><th>Stage</th><th class="num">AUC</th><th class="num">Average precision</th><th class="wide">Registered</th><th class="wide">By</th></tr></thead><tbody>${[...models].reverse().map((row) => html`<tr class="open" aria-selected=${String(row === chosen)} onClick=${() => setParams({ model: labelOf(row) }, { replace: true })}>
          <td><button class="link" onClick=${(e) => { e.stopPropagation(); setParams({ model: labelOf(row) }, { replace: true }); }}>${labelOf(row)}</button></td><td>${row.stage}</td><td class="num">${row.model.metrics.auc_roc ? f.figure(row.model.metrics.auc_roc) : "–"}</td><td class="num">${row.model.metrics.average_precision ? f.figure(row.model.metrics.average_precision) : "–"}</td><td class="wide"><${Time} at=${row.model.registered_at} form="day" /></td><td class="wide">${row.model.registered_by}</td></tr>`)}</tbody></table></div></section>
        ${chosen && html`<section><h2>${labelOf(chosen)}</h2><${Pairs} rows=${[["SHA-256", html`<${Id} value=${chosen.model.digest} most=${26} label="SHA-256" />`], ["features", `spec ${chosen.model.spec}`], ["made from", chosen.lineage.slice(1).join(" ← ") || "nothing earlier"], ["why", chosen.model.reason || "–"],
    ...Object.entries(chosen.model.metrics).sort(([a], [b]) => (SAID.indexOf(a) + 99) % 99 - (SAID.indexOf(b) + 99) % 99).map(([name, value]) => [f.words(name), f.figure(value)])]} /></section>`}</div>`}
      ${chosen && html`<${Performance} label=${labelOf(chosen)} params=${params} key=${labelOf(chosen)} />`}
      <section><h2>In shadow <span class="soft">what another model would have decided on the same payments</span></h2><${Loaded} answer=${shadow} lines=${2}>${(found) => { const pairs = Array.isArray(found) ? found : []; return pairs.length ? html`<div class="scroll" tabindex="0"><table><thead><tr><th>Shadow</th><th>Beside</th><th class="num">Decisions</th><th class="num">Alert rate</th><th class="num">Shadow's</th><th class="num">Changed</th><th class="num wide">AUC</th><th class="num wide">Shadow's</th></tr></thead><tbody>${pairs.map((pair) => html`<tr><td>${pair.shadow}</td><td>${pair.model}</td><td class="num">${f.count(pair.decisions)}</td><td class="num">${f.percent(pair.alert_rate, 2)}</td><td class="num">${f.percent(pair.shadow_alert_rate, 2)}</td><td class="num">${f.percent(pair.changed, 2)}</td><td class="num wide">${f.figure(pair.auc_roc)}</td><td class="num wide">${f.figure(pair.shadow_auc_roc)}</td></tr>`)}</tbody></table></div>` : html`<${Empty} title="No shadow">A candidate scores beside the champion after <code>sentinel model promote NAME-VERSION --as shadow</code>; it decides nothing.<//>`; }}<//></section>
      <section><h2>Deployments</h2>${registry.deployments.length ? html`<ul class="history">${[...registry.deployments].reverse().slice(0, 30).map((d) => html`<li><span class="soft"><${Time} at=${d.occurred_at} form="minute" /></span><span>${d.actor} ${d.action === "rollback" ? "rolled" : "made"} <b>${d.model}</b> ${d.action === "rollback" ? `back to ${d.alias}` : d.alias} <span class="soft">${d.reason}</span></span></li>`)}</ul>` : html`<p class="soft">none</p>`}</section></div>`;
  }}<//>`;
}

function deployment(registry, label) {
  const last = [...registry.deployments].reverse().find((d) => d.model === label && d.alias === "champion");
  return last ? html`since <${Time} at=${last.occurred_at} form="minute" />, by ${last.actor}${last.reason ? html`: ${last.reason}` : ""}` : null;
}
