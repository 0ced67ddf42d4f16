// The language of the search box: words such as `account:a77 amount>500 decision:decline last:7d`, and what they mean to
// the API. A word that is not known is told; nothing is guessed.
const SPAN = { min: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

export const FIELDS = [
  ["account:", "account", "an account's payments"], ["payment:", "transaction_id", "a payment by its ID"], ["decision:", "decision", "approve, review or decline"],
  ["rule:", "rule", "payments on which a rule hit"], ["amount>", "amount_min", "at least, in the base currency"], ["amount<", "amount_max", "at most"],
  ["last:", "start", "15min, 6h, 7d, 2w"], ["since:", "start", "2026-03-01 or 2026-03-01T12:00Z"], ["until:", "end", "before this time"], ["is:alert", "alerts", "only those that raised an alert"],
  ["merchant:", "merchant", "a merchant's payments"], ["device:", "device", "a device's payments"], ["card:", "card", "a card's payments"], ["country:", "country", "two letters"], ["severity:", "severity", "low to critical"],
];
const SERVED = new Set(["account", "transaction_id", "decision", "rule", "amount_min", "amount_max", "start", "end", "alerts", "severity", "merchant", "device", "card"]);

/** {params, problems, local}: the request's parameters, what is wrong, and conditions that are applied to the answer. */
export function parse(text, now) {
  const params = {};
  const problems = [];
  const local = {};
  for (const word of text.trim().split(/\s+/).filter(Boolean)) {
    const match = /^([a-z]+)([:<>]=?)(.+)$/i.exec(word);
    if (!match) { params.account = word; continue; }
    const [, name, sign, value] = match;
    if (name === "amount") {
      const number = Number(value);
      if (Number.isNaN(number)) problems.push(`${word}: ${value} is not a number`);
      else if (sign.startsWith(">")) params.amount_min = number;
      else if (sign.startsWith("<")) params.amount_max = number;
      else { params.amount_min = number; params.amount_max = number; }
    } else if (name === "last") {
      const span = /^(\d+)(min|h|d|w)$/.exec(value);
      if (!span) problems.push(`${word}: write last:15min, last:6h, last:7d or last:2w`);
      else params.start = String(now - Number(span[1]) * SPAN[span[2]]);
    } else if (name === "is" && value === "alert") params.alerts = "true";
    else {
      const field = FIELDS.find(([prefix]) => prefix === `${name}:`);
      if (!field) problems.push(`${word}: there is no field ${name}; known are ${FIELDS.map(([prefix]) => prefix).join(" ")}`);
      else if (SERVED.has(field[1])) params[field[1]] = value;
      else local[field[1]] = value;
    }
  }
  return { params, problems, local };
}

/** Whether a row meets the conditions that the server does not know. */
export const keeps = (local) => (row) => Object.entries(local).every(([name, value]) => row[name] === value);
