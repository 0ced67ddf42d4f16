// The editor of programs: TOML with expressions, completion from what the program can name, faults at their place. It lives
// in a shadow root, so that its styles need no exception in the page's policy.
import * as cm from "/vendor/editor.js";

const KEYS = ["program", "fields", "parameters", "entities", "features", "rules", "decision", "decision.severity", "decision.actions", "limits", "examples"];
const RULE_KEYS = ["code", "when", "effect", "mode", "rollout", "words", "owner", "expires", "name", "version", "uses", "decline", "review", "payments", "hits", "misses", "severity", "probability"];
const FUNCTIONS = { count: "payments in a window", sum: "of an amount in a window", distinct: "different values in a window", share: "of payments that meet a condition", ratio: "of two numbers", list: "values of a list", has: "whether a value is known", mean: "of an amount", max: "of an amount", min: "of an amount" };

const toml = cm.StreamLanguage.define({
  startState: () => ({ quote: "" }),
  token(stream, state) {
    if (state.quote) return string(stream, state);
    if (stream.eatSpace()) return null;
    if (stream.peek() === "#") { stream.skipToEnd(); return "comment"; }
    if (stream.sol() && stream.match(/^\[\[?[^\]]+\]\]?/)) return "heading";
    const quote = stream.match('"""') || stream.match("'''") || stream.match('"') || stream.match("'");
    if (quote) { state.quote = quote[0] || quote; return string(stream, state); }
    if (stream.match(/^[A-Za-z0-9_."-]+(?=\s*=)/)) return "propertyName";
    if (stream.match(/^(true|false)\b/)) return "bool";
    if (stream.match(/^[-+]?\d[\d_.eE+-]*/)) return "number";
    stream.next();
    return null;
  },
});

function string(stream, state) {
  const end = state.quote === true ? '"' : state.quote;
  while (!stream.eol()) {
    if (stream.match(end)) { state.quote = ""; return "string"; }
    if (stream.next() === "\\" && end.startsWith('"')) stream.next();
  }
  if (end.length === 1) state.quote = "";
  return "string";
}

const look = cm.EditorView.theme({
  "&": { fontSize: "12.5px", backgroundColor: "var(--paper)", color: "var(--ink)", height: "min(62vh, 640px)" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "-2px" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "20px" },
  ".cm-content": { caretColor: "var(--ink)" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-gutters": { backgroundColor: "var(--sunk)", color: "var(--soft)", border: "0" },
  ".cm-activeLine": { backgroundColor: "var(--sunk)" },
  "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--chosen) !important" },
  ".cm-tooltip": { backgroundColor: "var(--raised)", color: "var(--ink)", border: "1px solid var(--line)", borderRadius: "4px" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--chosen)", color: "var(--ink)" },
  ".cm-diagnostic-error": { borderLeftColor: "var(--decline)" },
  ".cm-lint-marker.cm-lint-marker-error": { content: "none", width: "8px", height: "8px", margin: "6px 2px", backgroundColor: "var(--decline)" },
  ".cm-lintRange.cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--decline)" },
  ".cm-completionDetail": { color: "var(--soft)", fontStyle: "normal" },
});

const ink = cm.HighlightStyle.define([
  { tag: cm.tags.heading, fontWeight: "600", color: "var(--accent)" }, { tag: cm.tags.comment, color: "var(--soft)" },
  { tag: cm.tags.string, color: "var(--approve)" }, { tag: cm.tags.number, color: "var(--review)" }, { tag: cm.tags.bool, color: "var(--review)" },
]);

/** names: () => [{label, detail}], what an expression can name. */
function completions(names) {
  return (context) => {
    const word = context.matchBefore(/[A-Za-z_][\w.]*/);
    if (!word && !context.explicit) return null;
    const before = context.state.doc.lineAt(context.pos).text.slice(0, context.pos - context.state.doc.lineAt(context.pos).from);
    if (/^\s*\[{1,2}[\w.]*$/.test(before)) return { from: word ? word.from : context.pos, options: KEYS.map((label) => ({ label, type: "keyword" })) };
    const isKey = /^\s*[\w.]*$/.test(before);
    const options = isKey ? RULE_KEYS.map((label) => ({ label, type: "property", apply: `${label} = ` }))
      : [...names().map(({ label, detail }) => ({ label, detail, type: "variable" })), ...Object.entries(FUNCTIONS).map(([label, detail]) => ({ label, detail, type: "function", apply: `${label}(` }))];
    return { from: word ? word.from : context.pos, options, validFor: /^[\w.]*$/ };
  };
}

/** An editor in `host`: {text, setText, setFaults, focus, destroy}. onChange gets the whole text. */
export function editor(host, text, { onChange, names, label }) {
  const root = host.shadowRoot || host.attachShadow({ mode: "open", delegatesFocus: true });
  const view = new cm.EditorView({
    root, parent: root,
    state: cm.EditorState.create({
      doc: text,
      extensions: [
        cm.lineNumbers(), cm.history(), cm.highlightActiveLine(), cm.bracketMatching(), cm.closeBrackets(), toml, cm.syntaxHighlighting(ink), cm.lintGutter(),
        cm.autocompletion({ override: [completions(names)] }), cm.keymap.of([...cm.completionKeymap, ...cm.defaultKeymap, ...cm.historyKeymap]), look,
        cm.EditorView.lineWrapping, cm.EditorView.contentAttributes.of({ "aria-label": label, spellcheck: "false" }),
        cm.EditorView.updateListener.of((update) => { if (update.docChanged) onChange(update.state.doc.toString()); }),
      ],
    }),
  });
  return {
    get text() { return view.state.doc.toString(); },
    setText(next) { if (next !== view.state.doc.toString()) view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: next } }); },
    setFaults(faults) {
      const { doc } = view.state;
      view.dispatch(cm.setDiagnostics(view.state, faults.map((fault) => {
        const line = doc.line(Math.min(Math.max(fault.line || 1, 1), doc.lines));
        return { from: line.from, to: line.to, severity: "error", message: fault.message };
      })));
    },
    goTo(number) { const line = view.state.doc.line(Math.min(Math.max(number, 1), view.state.doc.lines)); view.dispatch({ selection: { anchor: line.from }, scrollIntoView: true }); view.focus(); },
    focus() { view.focus(); },
    destroy() { view.destroy(); },
  };
}
