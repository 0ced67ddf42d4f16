// Rings: accounts that shared devices and cards connect. Which are there, how much they took, and who belongs to the one chosen.
import { html, useState } from "/vendor/preact.js";
import { useData } from "../lib/api.js";
import * as f from "../lib/format.js";
import { Graph } from "../lib/graph.js";
import { go, href } from "../lib/router.js";
import { Rows } from "../lib/rows.js";
import { Badge, Empty, Id, Loaded, Time } from "../lib/widgets.js";

const COLUMNS = [
  { name: "Accounts", num: true, of: (ring) => f.count(ring.accounts) },
  { name: "Share", of: (ring) => shared(ring) },
  { name: "Declined", num: true, title: "in the base currency", of: (ring) => f.amount(ring.amount_declined) },
  { name: "Passed", num: true, title: "not declined, in the base currency", of: (ring) => f.amount(ring.amount - ring.amount_declined) },
  { name: "Alerts", num: true, of: (ring) => f.count(ring.alerts) },
  { name: "Payments", num: true, wide: true, of: (ring) => f.count(ring.payments) },
  { name: "Last", wide: true, of: (ring) => html`<${Time} at=${ring.last} />` },
  { name: "Known about its first members", wide: true, of: (ring) => known(ring) },
];

const shared = (ring) => [ring.devices && f.plural(ring.devices, "device"), ring.cards && f.plural(ring.cards, "card")].filter(Boolean).join(", ");
const key = (ring) => ring.members[0].account;

function known(ring) {
  const fraud = ring.members.filter((m) => m.fraud).length;
  const blocked = ring.members.filter((m) => m.blocked).length;
  return html`${fraud ? html`<${Badge} tone="bad">${fraud} with fraud<//> ` : ""}${blocked ? html`<${Badge}>${blocked} blocked<//>` : ""}${fraud || blocked ? "" : html`<span class="soft">nothing yet</span>`}`;
}

export default function Rings() {
  const answer = useData("/v1/rings", { limit: 100 });
  const [chosen, setChosen] = useState(null);
  return html`<${Loaded} answer=${answer}>${({ rings, found, left_out: common }) => {
    if (!rings.length) return html`<${Empty} title="No three accounts share devices or cards">Only the 30 days before the moment count. What more than ten accounts share connects nobody: ${f.plural(common.device, "device")} and ${f.plural(common.card, "card")} were left out.<//>`;
    const ring = rings.find((each) => key(each) === chosen) || rings[0];
    return html`<div class="stack"><p class="soft">${f.plural(found, "ring")} of three or more accounts within 30 days; largest declined amount first. ${common.device + common.card > 0 ? `${f.plural(common.device, "device")} and ${f.plural(common.card, "card")} that more than ten accounts share connect nobody.` : ""}</p>
      <${Rows} label="rings" rows=${rings} columns=${COLUMNS} keyOf=${key} onOpen=${(each) => go("account", [key(each)])} onCursor=${(each) => setChosen(key(each))} height="42vh" />
      <${Ring} ring=${ring} key=${key(ring)} /></div>`;
  }}<//>`;
}

function Ring({ ring }) {
  const first = key(ring);
  const related = useData(`/v1/accounts/${encodeURIComponent(first)}/related`);
  const more = ring.accounts - ring.members.length;
  const moreThings = ring.devices + ring.cards - ring.things.length;
  return html`<div class="two"><section><h2>Members</h2><div class="scroll"><table><thead><tr><th>Account</th><th class="num">Payments</th><th>Known</th></tr></thead>
      <tbody>${ring.members.map((m) => html`<tr><td><a class="mono" href=${href("account", [m.account])}>${m.account}</a></td><td class="num">${f.count(m.payments)}</td><td>${m.fraud ? html`<${Badge} tone="bad">fraud ${m.fraud}<//> ` : ""}${m.blocked ? html`<${Badge}>blocked<//>` : ""}</td></tr>`)}</tbody></table></div>
      ${more > 0 && html`<p class="soft small">and ${f.plural(more, "more account")}</p>`}
      <h2 style=${{ marginTop: "16px" }}>What connects them</h2><ul class="history">${ring.things.map((t) => html`<li><span class="soft">${t.kind}</span><span><a href=${href("search", [], { q: `${t.kind}:${t.id}` })}><${Id} value=${t.id} label=${t.kind} /></a> ${f.plural(t.accounts, "account")}</span></li>`)}</ul>
      ${moreThings > 0 && html`<p class="soft small">and ${f.count(moreThings)} more</p>`}</section>
    <section><h2>Around <span class="mono">${f.shortened(first)}</span></h2><${Loaded} answer=${related}>${(found) => html`<${Graph} centre=${`account:${first}`} nodes=${found.nodes} links=${found.links} leftOut=${found.left_out} />`}<//></section></div>`;
}
