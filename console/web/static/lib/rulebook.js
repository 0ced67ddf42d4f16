// The rules in a program's text, read and written one at a time: what the builder shows and changes. Everything else in the
// text, comments too, stays as it is. A condition that is more than comparisons joined only by && or only by || stays text.

const NAME = "[A-Za-z_][A-Za-z0-9_]*";
const LITERAL = "-?\\d+(?:\\.\\d+)?|'[^'\\\\]*'|true|false";
const PARTS = [
  [new RegExp(`^(${NAME}) *(==|!=|<=|>=|<|>) *(${LITERAL}|${NAME})$`), (m) => ({ name: m[1], op: m[2], value: m[3] })],
  [new RegExp(`^(${NAME}) in list\\('(block|watch|allow)'\\)$`), (m) => ({ name: m[1], op: "is on list", value: m[2] })],
  [new RegExp(`^!(${NAME})$`), (m) => ({ name: m[1], op: "is false", value: "" })],
  [new RegExp(`^(${NAME})$`), (m) => ({ name: m[1], op: "is true", value: "" })],
];
export const OPERATORS = ["==", "!=", "<", "<=", ">", ">=", "is true", "is false", "is on list"];
export const EFFECTS = ["flag", "review", "decline", "allow"];
export const takesValue = (op) => op !== "is true" && op !== "is false";

/** Comparisons joined by && or by ||: {join, parts: [{name, op, value}]}; null if it is anything else. */
export function parsed(when) {
  const hidden = when.replace(/'[^']*'/g, (quoted) => "'".repeat(quoted.length)); // as long, so that places are the same
  const joins = ["&&", "||"].filter((join) => hidden.includes(join));
  if (joins.length > 1) return null;
  const join = joins[0] || "&&";
  let begin = 0;
  const parts = hidden.split(join).map((part) => {
    const text = when.slice(begin, begin + part.length);
    begin += part.length + join.length;
    for (const [form, made] of PARTS) {
      const found = form.exec(text.trim());
      if (found) return made(found);
    }
    return null;
  });
  return parts.includes(null) ? null : { join, parts };
}

/** The expression of parts. isText(name): whether the name holds text, so that a bare word is quoted. */
export function written({ join, parts }, isText) {
  return parts.map(({ name, op, value }) => {
    if (op === "is true") return name;
    if (op === "is false") return `!${name}`;
    if (op === "is on list") return `${name} in list('${value || "watch"}')`;
    const given = String(value).trim();
    const bare = isText(name) && !/^'.*'$/.test(given) ? `'${given.replace(/['"\\]/g, "")}'` : given.replace(/["\\]/g, "");
    return `${name} ${op} ${bare || "0"}`;
  }).join(` ${join} `);
}

/** The rules of a text, in order: {code, effect, words, when, lines: {key: number}, first, last} with line numbers from 0. */
export function rulesOf(text) {
  const rules = [];
  let rule = null;
  text.split("\n").forEach((line, number) => {
    if (/^\s*\[/.test(line)) {
      rule = /^\s*\[\[rules\]\]\s*(#.*)?$/.test(line) ? { code: "", effect: "flag", words: "", when: "", lines: {}, first: number, last: number } : null;
      if (rule) rules.push(rule);
      return;
    }
    const found = rule && /^\s*(code|effect|words|when)\s*=\s*"([^"\\]*)"\s*(#.*)?$/.exec(line);
    if (found) { rule[found[1]] = found[2]; rule.lines[found[1]] = number; }
    if (rule && line.trim()) rule.last = number;
  });
  return rules;
}

/** The text with one value of the rule at a place changed; a key that it lacks is added at its end. */
export function changed(text, at, key, value) {
  const rule = rulesOf(text)[at];
  const lines = text.split("\n");
  const line = `${key} = "${value}"`;
  if (key in rule.lines) lines[rule.lines[key]] = line;
  else lines.splice(rule.last + 1, 0, line);
  return lines.join("\n");
}

/** The text with a rule more, at its end. */
export function withRule(text) {
  const codes = rulesOf(text).map((rule) => rule.code);
  let number = 1;
  while (codes.includes(`RULE_${number}`)) number += 1;
  return `${text.replace(/\n*$/, "\n")}\n[[rules]]\ncode = "RULE_${number}"\nwhen = "amount > 500"\neffect = "review"\nwords = "{amount:,.2f}"\n`;
}

/** The text without the rule at a place. */
export function withoutRule(text, at) {
  const rule = rulesOf(text)[at];
  const lines = text.split("\n");
  lines.splice(rule.first, rule.last - rule.first + 1);
  return lines.join("\n").replace(/\n{3,}/g, "\n\n");
}
