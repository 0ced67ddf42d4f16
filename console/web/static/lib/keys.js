// The keyboard. A page names its keys while it is shown; the map (`?`) and the buttons read the same list.
// Keys do nothing while somebody types, except Escape and combinations with Ctrl or Cmd.
import { useLayoutEffect, useRef } from "/vendor/preact.js";

const WAIT_MS = 900;
export const layers = []; // [{group, keys: {"g l": [run, "Live"]}, modal}], the newest last
let pending = "";
let timer = 0;

/** Keys of this component while it is shown: `{key: [run, meaning]}`. modal: the keys below don't count meanwhile. */
export function useKeys(group, keys, { modal = false } = {}) {
  const layer = useRef(null);
  if (!layer.current) layer.current = { group, keys, modal };
  layer.current.keys = keys;
  useLayoutEffect(() => { // with the first drawing, so that no key is lost
    const mine = layer.current;
    layers.push(mine);
    return () => { layers.splice(layers.indexOf(mine), 1); };
  }, []);
}

function named(event) {
  if (event.altKey) return "";
  if (event.ctrlKey || event.metaKey) return `mod+${event.key.toLowerCase()}`;
  return event.key;
}

const isTyping = (target) => {
  const real = target.shadowRoot?.activeElement || target;
  return real.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(real.tagName) && real.type !== "checkbox";
};

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing) return;
  const key = named(event);
  if (!key || ["Shift", "Control", "Meta", "Alt"].includes(event.key)) return;
  const target = event.composedPath()[0];
  if (target instanceof Element && isTyping(target) && key !== "Escape" && !key.startsWith("mod+")) return;
  if (key === "Enter" && target instanceof Element && target.closest("a, button, summary")) return;
  const said = pending ? `${pending} ${key}` : key;
  pending = "";
  clearTimeout(timer);
  const all = [...layers].reverse();
  for (const layer of all) {
    const found = layer.keys[said];
    if (found) { event.preventDefault(); found[0](event); return; }
    if (Object.keys(layer.keys).some((each) => each.startsWith(`${said} `))) {
      event.preventDefault();
      pending = said;
      timer = setTimeout(() => { pending = ""; }, WAIT_MS);
      return;
    }
    if (layer.modal) return;
  }
});
