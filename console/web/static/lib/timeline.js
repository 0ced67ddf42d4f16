// An account's payments as dots: time to the right, amount upwards on a log scale, so that one can see in a glance what is
// normal. The band holds 90 % of the account's earlier amounts. Shape and colour tell the decision; flags what was said.
import { html, useState } from "/vendor/preact.js";
import { timeTicks } from "./charts.js";
import * as f from "./format.js";
import { useWidth } from "./widgets.js";

const HEIGHT = 220;
const SHOWN_MS = 90 * 86_400_000;
const [LEFT, RIGHT, TOP, BOTTOM] = [52, 10, 22, 22];

function shape(row, x, y, size) {
  if (row.decision === "decline") return html`<rect class="f-decline" x=${x - size} y=${y - size} width=${2 * size} height=${2 * size} />`;
  if (row.decision === "review") return html`<g><circle class="s-review" fill="none" stroke-width="1.5" cx=${x} cy=${y} r=${size} /><path class="f-review" d="M${x},${y - size} a${size},${size} 0 0 0 0,${2 * size} z" /></g>`;
  return html`<circle class="f-approve" cx=${x} cy=${y} r=${size * 0.75} opacity=".75" />`;
}

const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(share * (sorted.length - 1))))];

/** The range of 90 % of the amounts in the 90 days before a moment; null with less than 5 of them. */
export function usual(rows, before) {
  const sorted = rows.filter((row) => row.at < before && row.at > before - SHOWN_MS && row.amount_base > 0).map((row) => row.amount_base).sort((a, b) => a - b);
  return sorted.length < 5 ? null : { low: quantile(sorted, 0.05), median: quantile(sorted, 0.5), high: quantile(sorted, 0.95), count: sorted.length };
}

/** rows: decisions of one account; here: the place of the one looked at; flags: [{at, text, tone}]; onChoose(row). */
export function Timeline({ rows, here, flags = [], lit = null, onChoose }) {
  const [at, width] = useWidth(520);
  const [over, setOver] = useState(null);
  const chosen = rows.find((row) => row.place === here) || null;
  const newest = chosen ? chosen.at + SHOWN_MS / 4 : Math.max(...rows.map((row) => row.at));
  const positive = rows.filter((row) => row.amount_base > 0 && row.at <= newest && row.at > newest - SHOWN_MS);
  if (!positive.length) return html`<div ref=${at} class="soft small">no payment with an amount</div>`;
  const times = positive.map((row) => row.at);
  const [t0, t1] = [Math.min(...times), Math.max(...times)];
  const pad = Math.max((t1 - t0) * 0.02, 1_800_000);
  const amounts = positive.map((row) => row.amount_base);
  const low = 10 ** Math.floor(Math.log10(Math.min(...amounts)));
  const high = 10 ** Math.ceil(Math.log10(Math.max(...amounts) * 1.05));
  const x = (ms) => LEFT + ((ms - t0 + pad) / (t1 - t0 + 2 * pad)) * (width - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((Math.log10(Math.max(value, low)) - Math.log10(low)) / (Math.log10(high) - Math.log10(low) || 1)) * (HEIGHT - TOP - BOTTOM);
  const band = usual(positive, chosen ? chosen.at : t1 + 1);
  const decades = [];
  for (let value = low; value <= high * 1.001; value *= 10) decades.push(value);
  const shown = over || null;
  return html`<div class="chart" ref=${at}><svg width=${width} height=${HEIGHT} role="img" onMouseLeave=${() => setOver(null)}
    aria-label=${`${rows.length} payments, amounts on a logarithmic scale${band ? `; usual ${f.amount(band.low)} to ${f.amount(band.high)}, median ${f.amount(band.median)}` : ""}${chosen ? `; this one ${f.amount(chosen.amount_base)}` : ""}`}>
    ${band && html`<rect class="fill ${lit === "amount" ? "lit" : ""}" x=${LEFT} width=${width - LEFT - RIGHT} y=${y(band.high)} height=${Math.max(2, y(band.low) - y(band.high))} />
      <line class="s-soft" stroke-dasharray="3 3" x1=${LEFT} x2=${width - RIGHT} y1=${y(band.median)} y2=${y(band.median)} />`}
    ${decades.map((value) => html`<line class="tick" x1=${LEFT} x2=${width - RIGHT} y1=${y(value)} y2=${y(value)} /><text x=${LEFT - 6} y=${y(value) + 4} text-anchor="end">${f.compact(value)}</text>`)}
    ${timeTicks(t0 - pad, t1 + pad, width / 90).map(([ms, text]) => html`<text x=${x(ms)} y=${HEIGHT - 6} text-anchor="middle">${text}</text>`)}
    ${flags.filter((flag) => flag.at >= t0 - pad && flag.at <= t1 + pad).map((flag) => html`<g><line class="s-${flag.tone}" stroke-dasharray="2 2" x1=${x(flag.at)} x2=${x(flag.at)} y1=${TOP - 6} y2=${HEIGHT - BOTTOM} /><path class="f-${flag.tone}" d="M${x(flag.at)},4 h9 l-3,4 l3,4 h-9 z"><title>${flag.text}</title></path></g>`)}
    ${positive.map((row) => html`<g key=${row.place} style=${{ cursor: "pointer" }} onMouseEnter=${() => setOver(row)} onClick=${() => onChoose?.(row)}>
      <circle cx=${x(row.at)} cy=${y(row.amount_base)} r="8" fill="transparent" />${shape(row, x(row.at), y(row.amount_base), row.place === here ? 5 : 4)}</g>`)}
    ${chosen && html`<circle class="here ${lit === "amount" ? "lit" : ""}" cx=${x(chosen.at)} cy=${y(chosen.amount_base)} r="10" />`}</svg>
    ${shown && html`<div class="tip" style=${{ left: `${Math.min(Math.max(x(shown.at) - 80, 0), width - 220)}px`, top: `${y(shown.amount_base) > HEIGHT / 2 ? 8 : HEIGHT - 92}px` }}>
      <b>${f.amount(shown.amount, shown.currency)}</b> ${shown.decision}<div>${f.minuteOf(shown.at)}</div><div>${[shown.merchant_id, f.words(shown.merchant_category || ""), shown.country].filter(Boolean).join(" · ")}</div></div>`}
    <div class="row wrap small soft legend"><span><span class="approve" aria-hidden="true">●</span> approved</span><span><span class="review" aria-hidden="true">◐</span> review</span><span><span class="decline" aria-hidden="true">■</span> declined</span>
      ${band && html`<span class="row"><i class="swatch"></i>90 % of the ${f.count(band.count)} payments in the 90 days before, dashed: median</span>`}</div></div>`;
}
