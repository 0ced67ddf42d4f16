// Numbers, times and names as people read them. Times are shown in the viewer's zone, which the top bar names.
const plain = new Intl.NumberFormat("en-GB");
const short = new Intl.NumberFormat("en-GB", { notation: "compact", maximumFractionDigits: 1 });
const two = new Intl.NumberFormat("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const minute = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
export const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
export const count = (n) => (known(n) ? plain.format(n) : "–");
export const compact = (n) => (known(n) ? short.format(n) : "–");
export const amount = (n, currency = "") => (known(n) ? `${two.format(n)}${currency ? ` ${currency}` : ""}` : "–");
export const percent = (share, digits = 0) => (known(share) ? `${(share * 100).toFixed(digits)} %` : "–");
export const dayOf = (ms) => (ms ? day.format(ms) : "–");
export const minuteOf = (ms) => (ms ? minute.format(ms) : "–");
export const exactly = (ms) => (ms ? `${exact.format(ms)} (${new Date(ms).toISOString()})` : "");
export const clockOf = (ms) => (ms ? clock.format(ms) : "–");

/** A feature's or statistic's value: four significant digits, thousands separated. */
export function figure(value) {
  if (!known(value)) return "unknown";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e9)) return value.toExponential(2);
  return value.toLocaleString("en-GB", { maximumFractionDigits: size >= 1000 ? 0 : size >= 10 ? 2 : 3 });
}

const SPANS = [[86_400_000 * 365, "y"], [86_400_000 * 30, "mo"], [86_400_000, "d"], [3_600_000, "h"], [60_000, "min"], [1000, "s"]];

/** A length of time in its largest unit: "3 h". */
export function span(ms) {
  const size = Math.abs(ms);
  for (const [unit, name] of SPANS) if (size >= unit) return `${Math.floor(size / unit)} ${name}`;
  return "0 s";
}

const CLOCKS_MS = 5000; // the server's clock may be this much ahead of the viewer's

export function ago(ms, now) {
  if (!ms) return "–";
  const past = now - ms;
  return past < -CLOCKS_MS ? `in ${span(past)}` : past < 1000 ? "just now" : `${span(past)} ago`;
}

/** The moment of an answer, from the cut that it names: epoch ms. */
export const momentOf = (cut) => Number(/(?:^|,)t(\d+)/.exec(cut || "")?.[1]) || 0;

/** An identifier, shortened in the middle so that both ends can be compared. */
export const shortened = (id, most = 18) => (id.length <= most ? id : `${id.slice(0, Math.ceil(most / 2) - 1)}…${id.slice(-Math.floor(most / 2) + 1)}`);
/** A change: with its sign. */
export const signed = (n) => (known(n) ? `${n > 0 ? "+" : n < 0 ? "−" : "±"}${figure(Math.abs(Number(n.toPrecision(3))))}` : "–");
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
export const words = (name) => String(name).replaceAll("_", " ");

/** A rule's words with its values: `{amount:,.2f}` and `{share:.0%}` as the server writes them; an unknown name stays. */
export function filled(template, values) {
  return template.replace(/\{(\w+)(?::([^}]*))?\}/g, (whole, name, form = "") => {
    const value = values[name];
    if (value === undefined) return name;
    if (value === null) return "unknown";
    if (typeof value !== "number") return String(value);
    const digits = /\.(\d+)/.exec(form);
    if (form.endsWith("%")) return percent(value, digits ? Number(digits[1]) : 0);
    if (digits) return value.toLocaleString("en-GB", { minimumFractionDigits: Number(digits[1]), maximumFractionDigits: Number(digits[1]), useGrouping: form.includes(",") });
    return figure(value);
  });
}

/** A unit as it stands after a number: counts and flags have none. */
export const unit = (name) => (!name || ["0/1", "count", "currency", "ratio"].includes(name) ? "" : ` ${name}`);
