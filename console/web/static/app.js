// The shell: who is logged in, where the reader is, and what stands on every page. Pages are loaded when first shown.
import { html, render, useEffect, useState } from "/vendor/preact.js";
import { can, connection, me, session } from "./lib/api.js";
import { useKeys } from "./lib/keys.js";
import { NAMES, PAGES, shownPages } from "./lib/pages.js";
import { go, href, place } from "./lib/router.js";
import { dismiss, isPast, setTheme, sheet, theme, toasts, undoable } from "./lib/state.js";
import { Badge, Fault, Key, Skeleton } from "./lib/widgets.js";
import { Password } from "./lib/password.js";
import { KeyMap, Pages, Palette } from "./lib/sheets.js";
import { TimeMachine } from "./lib/timemachine.js";
import { Login } from "./pages/login.js";

function Rail() {
  const here = place.value.page;
  return html`<nav class="rail" aria-label="pages"><a class="brand" href=${href("live")}><img src="/static/mark.svg" alt="" /> Sentinel</a>
    ${shownPages().map((page) => (page === null ? html`<div class="gap"></div>` : html`<a class="to ${page.isFirst ? "" : "later"}" href=${href(page.path)} aria-current=${(page.covers || [page.path]).includes(here) ? "page" : undefined}
      title=${`${page.name} (g ${page.key})`}>${page.name}</a>`))}
    <button class="more" aria-haspopup="dialog" onClick=${() => { sheet.value = "pages"; }}>More</button>
    <div class="grow"></div><${Who} /></nav>`;
}

function Who() {
  return html`<div class="who stack" style=${{ gap: "4px", padding: "8px" }}>
    <div class="clip" title=${me.value.roles.join(", ")}><b>${me.value.name}</b></div>
    <div class="small soft">${me.value.roles.map((role) => role.replace("_", " ")).join(", ")}</div>
    <select aria-label="theme" value=${theme.value} onChange=${(e) => setTheme(e.target.value)}>
      <option value="auto">system</option><option value="light">light</option><option value="dark">dark</option></select>
    ${can("POST /v1/me/password") && me.value.via === "session" && html`<button class=${me.value.has_password ? undefined : "main"} onClick=${() => { sheet.value = "password"; }}>${me.value.has_password ? "Password" : "Set a password"}</button>`}
    <button onClick=${session.logout}>Log out</button></div>`;
}

function Top() {
  const name = NAMES[place.value.page] || place.value.page;
  return html`<header class="top ${isPast.value ? "past" : ""}"><h1 class="nowrap">${name}</h1><${TimeMachine} />
    <div class="push row">${connection.value === "lost" && html`<${Badge} tone="warn" title="the stream of events broke off; it is being opened again">not live<//>`}
    <button class="plain" onClick=${() => { sheet.value = "palette"; }} title="all commands">Commands <span class="wide"><${Key}>Ctrl K<//></span></button>
    <button class="plain wide" onClick=${() => { sheet.value = "map"; }} title="the keyboard map" aria-label="keyboard map"><${Key}>?<//></button></div></header>`;
}

function Toasts() {
  const undo = (toast) => { dismiss(toast.id); if (undoable.value === toast) undoable.value = null; toast.undo(); };
  const last = undoable.value;
  useKeys("messages", last ? { z: [() => undo(last), `undo ${last.text}`] } : {});
  return html`<div class="toasts" role="status" aria-live="polite">${toasts.value.map((toast) => html`<div class="toast ${toast.kind}" key=${toast.id}>
    <span class="grow">${toast.text}</span>${toast.undo && html`<button onClick=${() => undo(toast)}>Undo <${Key}>z<//></button>`}</div>`)}</div>`;
}

const loaded = new Map();

function Page() {
  const { page } = place.value;
  const known = PAGES.concat([{ path: "case" }, { path: "account" }, { path: "decision" }]).some((each) => each?.path === page);
  const [, setReady] = useState(0);
  const [error, setError] = useState(null);
  useEffect(() => {
    setError(null);
    if (!known || loaded.has(page)) return;
    import(`./pages/${page}.js`).then((found) => { loaded.set(page, found.default); setReady((n) => n + 1); }, setError);
  }, [page]);
  useEffect(() => { document.title = `${NAMES[page] || page}${place.value.args[0] ? ` ${place.value.args[0]}` : ""} · Stream-Sentinel`; });
  if (!known) return html`<${Fault} error=${{ message: `there is no page ${page}`, remedy: "press g and q for the queue, or Ctrl K for all commands" }} />`;
  if (error) return html`<${Fault} error=${{ message: `the page could not be loaded: ${error.message}`, remedy: "reload it" }} />`;
  const Shown = loaded.get(page);
  return Shown ? html`<${Shown} key=${`${page}/${place.value.args.join("/")}`} ...${place.value} />` : html`<${Skeleton} />`;
}

function Shell() {
  useKeys("go to", {
    ...Object.fromEntries(shownPages().filter(Boolean).map((page) => [`g ${page.key}`, [() => go(page.path), page.name]])),
    "?": [() => { sheet.value = "map"; }, "keyboard map"],
    "mod+k": [() => { sheet.value = "palette"; }, "all commands"],
  });
  return html`<div class="shell"><${Rail} /><div><${Top} /><main id="main" tabindex="-1"><${Page} /></main></div></div>
    <${Toasts} />${sheet.value === "map" && html`<${KeyMap} />`}${sheet.value === "palette" && html`<${Palette} />`}${sheet.value === "password" && html`<${Password} />`}${sheet.value === "pages" && html`<${Pages}><${Who} /><//>`}`;
}

function App() {
  const [error, setError] = useState(null);
  const load = () => { setError(null); session.load().catch(setError); };
  useEffect(load, []);
  if (error) return html`<main><${Fault} error=${error} retry=${load} /></main>`;
  if (me.value === undefined) return null;
  return me.value === null ? html`<${Login} /><${Toasts} />` : html`<${Shell} />`;
}

render(html`<${App} />`, document.getElementById("app"));
