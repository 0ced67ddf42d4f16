// Where the reader is: page, arguments and parameters, all in the address. Nothing else holds the state of a view, so a
// copied address shows the same to a colleague. `as_of` stays in the address from page to page until it is cleared.
import { signal } from "/vendor/preact.js";

export const FIRST_PAGE = "live";
export const place = signal(read());

function read() {
  const [page = FIRST_PAGE, ...args] = location.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  return { page, args, params: Object.fromEntries(new URLSearchParams(location.search)) };
}

function query(params) {
  const given = Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

/** The address of a page. The moment looked at is kept unless `params` has another one (null: now). */
export function href(page, args = [], params = {}) {
  const { as_of } = place.value.params;
  return `/${[page, ...args].map(encodeURIComponent).join("/")}${query({ as_of, ...params })}`;
}

function moveTo(address, replace) {
  if (address === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", address);
  place.value = read();
}

export function go(page, args = [], params = {}) {
  moveTo(href(page, args, params));
  scrollTo(0, 0);
  document.getElementById("main")?.focus({ preventScroll: true });
}

/** Change parameters of this page: null and "" remove one. */
export function setParams(patch, { replace = false } = {}) {
  const { page, args, params } = place.value;
  const shown = location.pathname === "/" ? [FIRST_PAGE] : [page, ...args];
  moveTo(`/${shown.map(encodeURIComponent).join("/")}${query({ ...params, ...patch })}`, replace);
}

addEventListener("popstate", () => { place.value = read(); });
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (link.origin !== location.origin || link.target || link.hasAttribute("download") || link.pathname.startsWith("/v1/")) return;
  event.preventDefault();
  moveTo(link.pathname + link.search);
  scrollTo(0, 0);
});
