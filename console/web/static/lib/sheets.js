// What lies over a page: the map of the keyboard, and the palette of all commands.
import { html, useMemo, useState } from "/vendor/preact.js";
import { layers } from "./keys.js";
import { shownPages } from "./pages.js";
import { go, href } from "./router.js";
import { setTheme, sheet } from "./state.js";
import { session } from "./api.js";
import { Dialog, Key } from "./widgets.js";

const close = () => { sheet.value = ""; };

/** Keys with a meaning, of what is shown below the sheets. */
const shownKeys = () => layers.filter((layer) => !layer.modal).map((layer) => [layer.group, Object.entries(layer.keys).filter(([, [, meaning]]) => meaning)]).filter(([, keys]) => keys.length);

export function KeyMap() {
  const groups = useMemo(shownKeys, []);
  return html`<${Dialog} title="Keyboard" onClose=${close}><div class="map">${groups.map(([group, keys]) => html`<section><h3>${group}</h3><dl>${
    keys.map(([key, [, meaning]]) => html`<dt>${key.replace("mod+", "Ctrl ").split(" ").map((part) => html`<${Key}>${part}<//> `)}</dt><dd>${meaning}</dd>`)}</dl></section>`)}</div>
    <p class="small soft">On a Mac, Cmd instead of Ctrl. Keys do nothing while you type in a field.</p><//>`;
}

/** All pages, on a phone; its children stand below them. */
export function Pages({ children }) {
  return html`<${Dialog} title="Pages" onClose=${close}><nav aria-label="all pages" class="all-pages">${shownPages().filter(Boolean).map((page) => html`<a class="to" href=${href(page.path)} onClick=${() => setTimeout(close, 0)}>${page.name}</a>`)}</nav>${children}<//>`;
}

export function Palette() {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const commands = useMemo(() => [
    ...shownPages().filter(Boolean).map((page) => ({ name: `Go to ${page.name}`, key: `g ${page.key}`, run: () => go(page.path) })),
    ...shownKeys().filter(([group]) => group !== "go to").flatMap(([group, keys]) => keys.map(([key, [run, meaning]]) => ({ name: `${meaning[0].toUpperCase()}${meaning.slice(1)}`, group, key, run }))),
    ...["light", "dark", "auto"].map((value) => ({ name: `Theme: ${value === "auto" ? "as the system" : value}`, run: () => setTheme(value) })),
    { name: "Log out", run: session.logout },
  ], []);
  const asked = text.trim();
  const jumps = asked ? [
    /^\d+:\d+-\d+$/.test(asked) && { name: `Open case ${asked}`, run: () => go("case", [asked]) },
    { name: `Search decisions: ${asked}`, run: () => go("search", [], { q: asked }) },
    !/\s/.test(asked) && { name: `Open account ${asked}`, run: () => go("account", [asked]) },
    !/\s/.test(asked) && { name: `Open decision ${asked}`, run: () => go("decision", [asked]) },
  ].filter(Boolean) : [];
  const parts = asked.toLowerCase().split(/\s+/);
  const found = [...commands.filter((c) => parts.every((part) => c.name.toLowerCase().includes(part))), ...jumps].slice(0, 12);
  const chosen = Math.min(at, found.length - 1);
  const run = (command) => { close(); setTimeout(() => command.run({}), 0); };
  const onKeyDown = (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) { event.preventDefault(); setAt((chosen + by + found.length) % found.length); }
    if (event.key === "Enter" && found[chosen]) { event.preventDefault(); run(found[chosen]); }
  };
  return html`<${Dialog} title="Commands" onClose=${close}><div class="palette">
    <input autofocus role="combobox" aria-expanded="true" aria-controls="commands" aria-activedescendant=${`command-${chosen}`} aria-label="command, case, account or search" placeholder="A command, a case, an account, or what to search for"
      value=${text} onInput=${(e) => { setText(e.target.value); setAt(0); }} onKeyDown=${onKeyDown} />
    <ul id="commands" role="listbox" aria-label="commands">${found.map((command, i) => html`<li id=${`command-${i}`} role="option" aria-selected=${String(i === chosen)} onMouseEnter=${() => setAt(i)} onClick=${() => run(command)}>
      <span class="grow">${command.name}</span>${command.key && html`<span>${command.key.replace("mod+", "Ctrl ").split(" ").map((part) => html`<${Key}>${part}<//> `)}</span>`}</li>`)}</ul></div><//>`;
}
