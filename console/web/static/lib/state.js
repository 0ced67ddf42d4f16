// What every page shares: the moment, the theme, and short messages at the lower edge.
import { computed, signal } from "/vendor/preact.js";
import { momentOf } from "./format.js";
import { place } from "./router.js";

export const asOf = computed(() => place.value.params.as_of || "");
export const isPast = computed(() => asOf.value !== "");
export const tick = signal(Date.now());
setInterval(() => { if (!document.hidden) tick.value = Date.now(); }, 1000);

/** The time that a moment names, epoch ms: 2026-03-01, 2026-03-01T12:00Z, epoch ms, or the end of an answer's cut; else 0. */
export function timeOf(moment) {
  if (/^\d{12,}$/.test(moment)) return Number(moment);
  return (/^\d{4}-\d{2}-\d{2}/.test(moment) ? Date.parse(moment) : momentOf(moment)) || 0;
}

/** What answers told of a moment that is a position: {as_of, at}. */
export const told = signal({ as_of: "", at: 0 });

/** The moment from which ages are counted: the one looked at, else this one. */
export const now = computed(() => {
  if (!asOf.value) return tick.value;
  return timeOf(asOf.value) || (told.value.as_of === asOf.value && told.value.at) || tick.value;
});

export const theme = signal(stored("theme") || "auto");
export function stored(name) { try { return localStorage.getItem(`sentinel.${name}`); } catch { return null; } }
export function store(name, value) { try { localStorage.setItem(`sentinel.${name}`, value); } catch { /* private windows */ } }
export function setTheme(value) {
  theme.value = value;
  store("theme", value);
  if (value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
}
setTheme(theme.value);

export const toasts = signal([]);
export const undoable = signal(null); // the message of the last act that can be undone
let last = 0;

/**
 * A message for some seconds. undo: a function that takes the act back; it is offered as a button while the message is
 * shown, and by `z` until another act can be undone.
 */
export function say(text, { kind = "", seconds = 5, undo = null } = {}) {
  const toast = { id: ++last, text, kind, undo };
  if (undo) undoable.value = toast;
  toasts.value = [...toasts.value.slice(-3), toast];
  setTimeout(() => dismiss(toast.id), seconds * 1000);
  return toast.id;
}
export function dismiss(id) { toasts.value = toasts.value.filter((each) => each.id !== id); }
export const fail = (error) => say(error.remedy ? `${error.message}: ${error.remedy}` : error.message, { kind: "bad", seconds: 8 });
export const sheet = signal(""); // "", map, palette, password
