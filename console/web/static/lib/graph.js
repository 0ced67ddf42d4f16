// Who else: what the account shares with others, as a small graph in three columns: the account, what is shared, the
// others. Positions follow from the order of the answer, so the picture is the same each time.
import { html } from "/vendor/preact.js";
import * as f from "./format.js";
import { href } from "./router.js";
import { useWidth } from "./widgets.js";

const STEP = 22;
const OTHERS_MAX = 16;
const OTHER_PX = 118;
const MARKS = { device: "▭", card: "▬", merchant: "▲", ip: "◇", account: "●" };

/** nodes: [{id, kind, count, fraud, blocked}], links: [{from, to, count}] with ids "kind:name". */
export function Graph({ centre, nodes, links, leftOut = {} }) {
  const [at, width] = useWidth(300);
  const shared = nodes.filter((node) => node.kind !== "account");
  const near = new Map();
  const closeness = { device: 3, card: 3, ip: 2, merchant: 1 };
  for (const link of links) if (link.to.startsWith("account:")) near.set(link.to, (near.get(link.to) || 0) + (closeness[link.from.split(":")[0]] || 1));
  const telling = (node) => (node.fraud ? 10 : 0) + (node.blocked ? 5 : 0) + (near.get(node.id) || 0);
  const all = nodes.filter((node) => node.kind === "account" && node.id !== centre).sort((a, b) => telling(b) - telling(a));
  const others = all.slice(0, OTHERS_MAX);
  if (!shared.length) return html`<div ref=${at} class="soft small">Nothing that this account shares with another one within the range searched.</div>`;
  const height = Math.max(shared.length, others.length, 3) * STEP + 8;
  const columns = [10, Math.max(34, width * 0.16), Math.max(width * 0.6, width - OTHER_PX)];
  const hasRoom = width > 340; // for the word beside the mark
  const placed = new Map([[centre, [columns[0], height / 2]]]);
  const spread = (list, x) => list.forEach((node, i) => placed.set(node.id, [x, (i + 0.5) * (height / list.length)]));
  spread(shared, columns[1]);
  spread(others, columns[2]);
  const name = (node) => node.id.slice(node.id.indexOf(":") + 1);
  const tone = (node) => (node.fraud ? "decline" : node.blocked ? "review" : "soft");
  return html`<div class="chart" ref=${at}><svg width=${width} height=${height} role="group" aria-label=${`${shared.length} shared things, ${others.length} other accounts, ${others.filter((o) => o.fraud).length} of them with fraud`}>
    ${links.map((link) => {
    const [a, b] = [placed.get(link.from), placed.get(link.to)];
    return a && b && html`<path class="axis" fill="none" stroke-width=${Math.min(4, 1 + Math.log2(link.count || 1) / 2)} d="M${a[0]},${a[1]} C${(a[0] + b[0]) / 2},${a[1]} ${(a[0] + b[0]) / 2},${b[1]} ${b[0]},${b[1]}" />`;
  })}
    <circle class="mark" cx=${columns[0]} cy=${height / 2} r="6"><title>this account</title></circle>
    ${[...shared, ...others].map((node) => {
    const [x, y] = placed.get(node.id);
    const text = `${name(node)}${node.fraud ? `, fraud ${node.fraud}` : ""}${node.blocked ? ", blocked" : ""}`;
    const body = html`<g><circle class="f-${tone(node)}" cx=${x} cy=${y} r=${node.kind === "account" ? 5 : 4} /><text x=${x + 9} y=${y + 4} class=${node.fraud || node.blocked ? "strong" : ""}>${node.kind === "account" ? "" : hasRoom ? `${node.kind} ` : `${MARKS[node.kind] || ""} `}${f.shortened(name(node), 10)}${node.fraud ? ` ■ ${node.fraud}` : ""}${node.blocked ? " blocked" : ""}</text><title>${node.kind} ${text}, ${f.plural(node.count || 1, "payment")}</title></g>`;
    return node.kind === "account" ? html`<a href=${href("account", [name(node)])}>${body}</a>` : html`<a href=${href("search", [], { q: `${node.kind}:${name(node)}` })}>${body}</a>`;
  })}</svg>
    ${!hasRoom && html`<div class="row wrap small soft legend">${[...new Set(shared.map((node) => node.kind))].map((kind) => html`<span><span aria-hidden="true">${MARKS[kind] || "·"}</span> ${kind}</span>`)}</div>`}
    ${Object.entries({ ...leftOut, account: (leftOut.account || 0) + all.length - others.length }).filter(([, n]) => n > 0).map(([kind, n]) => html`<div class="small soft">${kind === "account" ? `and ${f.plural(n, "account")} more` : `${f.plural(n, kind)} that many share left out`}</div>`)}</div>`;
}
