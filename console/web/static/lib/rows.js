// A list that is moved through with j and k, and that stays fast with thousands of rows: only those in view are drawn.
import { html, useEffect, useMemo, useRef, useState } from "/vendor/preact.js";
import { useKeys } from "./keys.js";

const narrow = matchMedia("(max-width: 760px)");
const AROUND = 12;

/**
 * Columns are {name, of(row), title, num, wide, below}: wide is left out on a phone, below stands there in a second line. onOpen(row): Enter or a click. selected: a Set of keys, changed by x
 * through onSelect(set). keys: further keys by name, called with the row at the cursor.
 */
export function Rows({ label, rows, columns, keyOf, onOpen, selected, onSelect, keys = {}, onCursor, height = null, start = 0 }) {
  const [at, setAt] = useState(start);
  const [view, setView] = useState({ top: 0, height: 800 });
  const box = useRef(null);
  const ROW = narrow.matches && columns.some((c) => c.below) ? 56 : 32;
  const last = rows.length - 1;
  const cursor = Math.min(at, Math.max(last, 0));
  const move = (to) => {
    const next = Math.max(0, Math.min(last, to));
    setAt(next);
    onCursor?.(rows[next]);
    const scrolled = box.current;
    if (!scrolled) return;
    const top = next * ROW;
    if (height && (top < scrolled.scrollTop || top > scrolled.scrollTop + scrolled.clientHeight - 3 * ROW)) scrolled.scrollTop = Math.max(0, top - scrolled.clientHeight / 2);
    else if (!height) requestAnimationFrame(() => scrolled.querySelector("tr.at")?.scrollIntoView({ block: "nearest" }));
  };
  const toggle = (row) => {
    const next = new Set(selected);
    if (!next.delete(keyOf(row))) next.add(keyOf(row));
    onSelect(next);
  };
  useKeys(label, rows.length ? {
    j: [() => move(cursor + 1), "down"], k: [() => move(cursor - 1), "up"],
    ArrowDown: [() => move(cursor + 1), ""], ArrowUp: [() => move(cursor - 1), ""],
    ...(onOpen ? { Enter: [() => onOpen(rows[cursor]), "open"] } : {}),
    ...(onSelect ? { x: [() => toggle(rows[cursor]), "select"] } : {}),
    ...Object.fromEntries(Object.entries(keys).map(([key, [run, meaning]]) => [key, [() => run(rows[cursor]), meaning]])),
  } : {});
  useEffect(() => { if (rows[cursor]) onCursor?.(rows[cursor]); }, [rows.length]);
  const isLong = height && rows.length > 100;
  const first = isLong ? Math.max(0, Math.floor(view.top / ROW) - AROUND) : 0;
  const until = isLong ? Math.min(rows.length, Math.ceil((view.top + view.height) / ROW) + AROUND) : rows.length;
  const shown = useMemo(() => rows.slice(first, until), [rows, first, until]);
  const onScroll = (event) => { if (isLong) setView({ top: event.target.scrollTop, height: event.target.clientHeight }); };
  return html`<div class="scroll" style=${height ? { maxHeight: height } : {}} ref=${box} onScroll=${onScroll} tabindex=${height ? "0" : undefined} aria-label=${height ? label : undefined} role=${height ? "region" : undefined}>
    <table class=${ROW > 32 ? "lines" : ""} aria-label=${label} aria-rowcount=${rows.length}><thead><tr>
      ${onSelect && html`<th><input type="checkbox" aria-label="select all" checked=${rows.length > 0 && selected.size === rows.length}
        onChange=${(e) => onSelect(new Set(e.target.checked ? rows.map(keyOf) : []))} /></th>`}
      ${columns.map((c) => html`<th scope="col" class="${c.num ? "num" : ""} ${c.wide ? "wide" : ""}" title=${c.title}>${c.name}</th>`)}</tr></thead>
    <tbody>${first > 0 && html`<tr aria-hidden="true"><td colspan="99" style=${{ height: `${first * ROW}px`, border: 0 }}></td></tr>`}
      ${shown.map((row, i) => html`<tr key=${keyOf(row)} class="${onOpen ? "open" : ""} ${first + i === cursor ? "at" : ""}" aria-selected=${onSelect ? String(selected.has(keyOf(row))) : undefined}
        onClick=${onOpen ? () => { setAt(first + i); onOpen(row); } : undefined}>
        ${onSelect && html`<td onClick=${(e) => e.stopPropagation()}><input type="checkbox" aria-label=${`select ${keyOf(row)}`} checked=${selected.has(keyOf(row))} onChange=${() => toggle(row)} /></td>`}
        ${columns.map((c) => html`<td class="${c.num ? "num" : ""} ${c.wide ? "wide" : ""} ${c.below ? "below" : ""} ${c.style || ""}">${c.of(row)}</td>`)}</tr>`)}
      ${until < rows.length && html`<tr aria-hidden="true"><td colspan="99" style=${{ height: `${(rows.length - until) * ROW}px`, border: 0 }}></td></tr>`}
    </tbody></table></div>`;
}
