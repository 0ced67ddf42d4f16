// What differs between two texts, line by line: the longest common subsequence, which is small for programs.
import { html } from "/vendor/preact.js";

const AROUND = 2;

/** [{kind: "same" | "out" | "in", text, before, after}] with line numbers from 1; 0 where the line is not there. */
export function compared(before, after) {
  const [a, b] = [before.trimEnd().split("\n"), after.trimEnd().split("\n")];
  const longest = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) longest[i][j] = a[i] === b[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
  }
  const lines = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { lines.push({ kind: "same", text: a[i], before: i + 1, after: j + 1 }); i += 1; j += 1; }
    else if (i < a.length && (j === b.length || longest[i + 1][j] >= longest[i][j + 1])) { lines.push({ kind: "out", text: a[i], before: i + 1, after: 0 }); i += 1; }
    else { lines.push({ kind: "in", text: b[j], before: 0, after: j + 1 }); j += 1; }
  }
  return lines;
}

/** The lines that differ, each with two around it; a line without kind stands for what is left out. */
function shown(lines) {
  const near = new Set();
  lines.forEach((line, at) => { if (line.kind !== "same") for (let k = at - AROUND; k <= at + AROUND; k += 1) near.add(k); });
  return lines.flatMap((line, at) => (near.has(at) ? [line] : at === 0 || near.has(at - 1) ? [{ kind: "", text: "…" }] : []));
}

const SIGNS = { same: " ", out: "−", in: "+", "": " " };
const WORDS = { out: "removed ", in: "added " };

export function Diff({ before, after, label }) {
  const lines = compared(before, after);
  if (lines.every((line) => line.kind === "same")) return html`<p class="soft">The texts are the same.</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}><table class="diff"><tbody>${shown(lines).map((line) => html`<tr class=${line.kind === "same" ? "" : line.kind}>
    <td class="num soft wide">${line.before || ""}</td><td class="num soft wide">${line.after || ""}</td><td aria-hidden="true">${SIGNS[line.kind]}</td><td class="text"><span class="hidden-label">${WORDS[line.kind] || ""}</span>${line.text}</td></tr>`)}</tbody></table></div>`;
}
