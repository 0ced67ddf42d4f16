// Charts as SVG: small, coloured by class so that they follow the theme, readable in print, and named for screen readers.
import { html, useState } from "/vendor/preact.js";
import * as f from "./format.js";
import { useWidth } from "./widgets.js";

const scale = (from, to, low, high) => (value) => low + ((value - from) / ((to - from) || 1)) * (high - low);
const extent = (values) => [Math.min(...values), Math.max(...values)];

/** A line of the last values, without axes; its name tells the last one. */
export function Spark({ values, label, width = 120, height = 28 }) {
  const used = values.map((v) => (f.known(v) ? v : 0));
  if (used.length < 2) return html`<svg width=${width} height=${height} role="img" aria-label=${`${label}: no values yet`}></svg>`;
  const y = scale(0, Math.max(...used, 1e-9), height - 2, 2);
  const x = scale(0, used.length - 1, 1, width - 1);
  return html`<svg width="100%" height=${height} viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" role="img" aria-label=${`${label}, last ${f.figure(used[used.length - 1])}`}>
    <polyline class="trace" vector-effect="non-scaling-stroke" points=${used.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(" ")} /></svg>`;
}

/** The round numbers between two values. */
export function ticksOf(low, high, most = 5) {
  const step = 10 ** Math.floor(Math.log10((high - low) / most || 1));
  const by = [1, 2, 5, 10].map((k) => k * step).find((each) => (high - low) / each <= most) || step;
  const found = [];
  for (let at = Math.ceil(low / by) * by; at <= high + by * 1e-9; at += by) found.push(Number(at.toPrecision(12)));
  return found;
}

const HOUR = 3_600_000;
export function timeTicks(low, high, most = 6) {
  const steps = [60_000, 300_000, 900_000, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR, 48 * HOUR, 168 * HOUR, 336 * HOUR, 730 * HOUR, 2190 * HOUR, 8766 * HOUR];
  const by = steps.find((each) => (high - low) / each <= most) || steps[steps.length - 1];
  const shift = by >= 24 * HOUR ? new Date(low).getTimezoneOffset() * 60_000 : 0;
  const found = [];
  for (let at = Math.ceil((low - shift) / by) * by + shift; at <= high; at += by) found.push(at);
  const form = by >= 730 * HOUR ? { month: "short", year: "2-digit" } : by >= 24 * HOUR ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit" };
  return found.map((at) => [at, new Intl.DateTimeFormat("en-GB", form).format(at)]);
}

/**
 * Bars over time, stacked. bars: [{at, parts: {approve: n, …}}]; marks: [{at, text}] as ticks on the axis (what changed).
 */
export function Bars({ bars, order, label, height = 120, marks = [], unit = "", names = {} }) {
  const [at, width] = useWidth();
  const [over, setOver] = useState(null);
  if (!bars.length) return html`<div ref=${at} class="soft small">no values in this range</div>`;
  const [first, lastAt] = extent(bars.map((b) => b.at));
  const step = bars.length > 1 ? (lastAt - first) / (bars.length - 1) : HOUR;
  const most = Math.max(...bars.map((b) => order.reduce((sum, key) => sum + (b.parts[key] || 0), 0))) || 1;
  const [left, bottom] = [40, height - 18];
  const x = scale(first, lastAt + step, left, width - 4);
  const y = scale(0, most, bottom, 6);
  const wide = Math.max(1, Math.min(x(first + step) - x(first) - 1, 64));
  return html`<div class="chart" ref=${at}><svg width=${width} height=${height} role="img" aria-label=${label} onMouseLeave=${() => setOver(null)}>
    ${ticksOf(0, most, 3).map((v) => html`<line class="tick" x1=${left} x2=${width} y1=${y(v)} y2=${y(v)} /><text x=${left - 6} y=${y(v) + 4} text-anchor="end">${f.compact(v)}</text>`)}
    ${timeTicks(first, lastAt + step, width / 90).map(([ms, text]) => html`<text x=${x(ms)} y=${height - 4} text-anchor=${x(ms) > width - 24 ? "end" : "middle"}>${text}</text>`)}
    ${bars.map((bar) => {
    let base = 0;
    return html`<g onMouseEnter=${() => setOver(bar)}><rect x=${x(bar.at)} y="0" width=${wide + 1} height=${bottom} fill="transparent" />${order.map((key) => {
      const value = bar.parts[key] || 0;
      const from = base;
      base += value;
      return value > 0 && html`<rect class="f-${key}" x=${x(bar.at)} width=${wide} y=${y(base)} height=${Math.max(0.5, y(from) - y(base))} />`;
    })}</g>`;
  })}
    ${marks.filter((m) => m.at >= first && m.at <= lastAt + step).map((m) => html`<path class="mark" d="M${x(m.at) - 4},${bottom + 7} l4,-7 l4,7 z"><title>${m.text}</title></path>`)}
    <line class="axis" x1=${left} x2=${width} y1=${bottom} y2=${bottom} /></svg>
    ${over && html`<div class="tip" style=${{ left: `${Math.min(x(over.at) + 8, width - 160)}px`, top: "4px" }}><b>${f.minuteOf(over.at)}</b>${
      order.filter((key) => over.parts[key]).map((key) => html`<div>${names[key] || f.words(key)} <b>${f.figure(over.parts[key])}</b> ${unit}</div>`)}</div>`}</div>`;
}

/** An interval on a line from low to high, with its middle. */
export function Interval({ value, low, high, from = 0, to = 1, label, width = 96, zero = false }) {
  const x = scale(from, to, 2, width - 2);
  return html`<svg width=${width} height="14" role="img" aria-label=${label}><line class="axis" x1="2" x2=${width - 2} y1="7" y2="7" />${zero && html`<line class="s-soft" x1=${x(0)} x2=${x(0)} y1="1" y2="13" />`}
    ${f.known(low) && html`<line class="s-soft" stroke-width="4" opacity=".6" x1=${x(Math.max(from, low))} x2=${x(Math.min(to, high))} y1="7" y2="7" />`}
    ${f.known(value) && html`<circle class="mark" cx=${x(Math.min(to, Math.max(from, value)))} cy="7" r="3.5" />`}</svg>`;
}

/** A value's place in its usual range: the band is 5 % to 95 %, the line the median, the dot this value. */
export function Usual({ value, median, low, high, label }) {
  if (!f.known(value) || !f.known(low) || !f.known(high)) return html`<span class="soft small">no history</span>`;
  const room = Math.max(high - low, Math.abs(high) * 0.05, 1e-9);
  const [from, to] = [Math.min(low - room * 0.5, value), Math.max(high + room * 0.5, value)];
  const x = scale(from, to, 5, 115);
  return html`<svg width="120" height="16" role="img" aria-label=${label}><line class="axis" x1="3" x2="117" y1="8" y2="8" /><rect class="fill" x=${x(low)} width=${Math.max(2, x(high) - x(low))} y="3" height="10" />
    <line class="s-soft" stroke-width="2" x1=${x(median)} x2=${x(median)} y1="3" y2="13" /><circle class=${value < low || value > high ? "f-decline" : "mark"} cx=${x(value)} cy="8" r="4" /></svg>`;
}

/** A value's share towards fraud (right, dark) or away from it (left). */
export function Share({ value, most }) {
  const w = Math.abs(value) / (most || 1) * 56;
  return html`<svg width="120" height="14" aria-hidden="true"><line class="axis" x1="60" x2="60" y1="0" y2="14" /><rect class=${value > 0 ? "f-decline" : "f-approve"} x=${value > 0 ? 60 : 60 - w} width=${Math.max(1, w)} y="3" height="8" /></svg>`;
}
