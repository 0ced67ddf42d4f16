// The one place that talks to the HTTP API. Every GET carries the moment looked at (`as_of`), so what a page shows is as
// of then. Answers are kept by address: a page that was seen, or loaded ahead, shows at once and is then refreshed.
import { signal, useEffect, useState } from "/vendor/preact.js";
import { momentOf } from "./format.js";
import { place } from "./router.js";
import { told } from "./state.js";

export const me = signal(undefined); // undefined: not asked yet; null: not logged in
export const connection = signal("off"); // of the event stream: off, live, lost

const KEPT_MAX = 200;
const kept = new Map();

export class ApiError extends Error {
  constructor(problem, status) {
    super(problem.detail || problem.title || `the server answered ${status}`);
    this.status = status;
    this.remedy = problem.remedy || "";
    this.reason = problem.reason || "";
    this.problems = problem.problems || [];
  }
}

export function url(path, params = {}) {
  const given = { as_of: place.value.params.as_of, ...params };
  const used = Object.entries(given).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return used.length ? `${path}?${new URLSearchParams(used)}` : path;
}

async function request(method, address, body, options = {}) {
  const headers = { accept: "application/json", ...options.headers };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (options.background) headers["x-background"] = "1"; // nobody asked: it keeps no session alive
  let response;
  try {
    response = await fetch(address, {
      method, headers, signal: options.signal, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({ detail: "the server does not answer", remedy: "check that `sentinel serve` runs; this page tries again by itself" }, 0);
  }
  const text = await response.text();
  let answer = null;
  try { answer = text ? JSON.parse(text) : null; } catch { answer = { detail: text.slice(0, 300) }; }
  if (response.ok) return answer;
  if (response.status === 401 && !options.quiet) me.value = null;
  throw new ApiError(answer || {}, response.status);
}

/** Save an answer as a file, byte for byte. */
export async function save(path, name) {
  const response = await fetch(path, { headers: { accept: "application/json" }, credentials: "same-origin" });
  if (!response.ok) throw new ApiError(await response.json().catch(() => ({})), response.status);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export async function get(path, params, options) {
  const address = url(path, params);
  const answer = await request("GET", address, undefined, options);
  const moment = place.value.params.as_of;
  if (moment && told.value.as_of !== moment && momentOf(answer?.as_of) && address.includes(`as_of=${encodeURIComponent(moment)}`)) told.value = { as_of: moment, at: momentOf(answer.as_of) };
  kept.delete(address);
  kept.set(address, { answer, at: Date.now() });
  if (kept.size > KEPT_MAX) kept.delete(kept.keys().next().value);
  return answer;
}

export const send = (method, path, body, headers) => request(method, path, body ?? {}, { headers });
export const post = (path, body) => send("POST", path, body, { "idempotency-key": crypto.randomUUID() });

const WAITS_MS = [0, 100, 200, 400, 800, 1500, 3000, 5000];

/** Ask for `path` until its answer holds the control event at `position`, at most 11 s: what an act wrote is shown then. */
export async function reached(path, position) {
  for (const wait of WAITS_MS) {
    await new Promise((done) => { setTimeout(done, wait); });
    const { as_of: cut } = await get(path, { as_of: null });
    if (Number(/(?:^|,)c(\d+)/.exec(cut)?.[1]) >= position) return;
  }
}

/** Load an answer before it is asked for. */
export function ahead(path, params) {
  if (!kept.has(url(path, params))) get(path, params).catch(() => {});
}

/** Forget answers whose path begins so; what shows them is loaded again when it is looked at. */
export function forget(prefix) {
  for (const address of [...kept.keys()]) if (address.startsWith(prefix)) kept.delete(address);
}

/**
 * An answer as {data, error, loading, at, reload}. While it is refreshed or after a failure the former answer of the
 * same address stays, with the time from which it is. path: null asks nothing. every: milliseconds between refreshes,
 * only while the reader looks at the present.
 */
export function useData(path, params = {}, { every = 0 } = {}) {
  const address = path === null ? null : url(path, params);
  const [state, setState] = useState({ address: null });
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (address === null) return undefined;
    const stop = new AbortController();
    const before = kept.get(address);
    setState((was) => (was.address === address && !before ? { ...was, loading: true } : { address, data: before?.answer, at: before?.at, loading: true }));
    const load = async (background = false) => {
      try {
        const data = await get(path, params, { signal: stop.signal, background });
        setState({ address, data, at: Date.now(), loading: false });
      } catch (error) {
        if (error.name !== "AbortError") setState((was) => ({ ...was, address, error, loading: false }));
      }
    };
    load();
    const timer = every && !place.value.params.as_of ? setInterval(() => { if (!document.hidden) load(true); }, every) : 0;
    return () => { stop.abort(); clearInterval(timer); };
  }, [address, round]);
  const shown = state.address === address ? state : { data: kept.get(address)?.answer, at: kept.get(address)?.at, loading: address !== null };
  return { ...shown, reload: () => setRound((n) => n + 1) };
}

const ALIVE_MS = 60_000;
let isActive = false; // since the last time that the server was told
for (const input of ["keydown", "pointerdown", "wheel"]) addEventListener(input, () => { isActive = true; }, { passive: true });
setInterval(() => { // who reads, and asks for nothing new, is not away; the page of who is away has to go
  if (!me.value) return;
  get("/v1/me", { as_of: null }, { background: !isActive }).catch(() => {});
  isActive = false;
}, ALIVE_MS);

const listeners = new Set();
let source = null;

/** Call `listener(type, data)` for every event of the server's stream, if it has one; returns a function that stops it. */
export function listen(listener) {
  if (!can(`GET ${EVENTS}`)) return () => {};
  listeners.add(listener);
  if (!source) connect();
  return () => {
    listeners.delete(listener);
    if (!listeners.size && source) { source.close(); source = null; connection.value = "off"; }
  };
}

export const EVENTS = "/v1/events";
const STREAM = `${EVENTS}?kind=alerts`;
const TYPES = ["alert", "gap"];

function connect() {
  source = new EventSource(STREAM);
  source.onopen = () => { connection.value = "live"; };
  source.onerror = () => {
    connection.value = "lost";
    if (source && source.readyState === EventSource.CLOSED) { // EventSource itself gives up on an HTTP error
      source = null;
      setTimeout(() => { if (listeners.size && !source && me.value) connect(); }, 5000);
    }
  };
  for (const type of TYPES) {
    source.addEventListener(type, (event) => {
      let data;
      try { data = JSON.parse(event.data); } catch { return; }
      for (const each of [...listeners]) each(type, data);
    });
  }
}

export const session = {
  async load() {
    const link = location.hash.match(/^#login=([\w-]+)$/);
    if (link) {
      history.replaceState(null, "", location.pathname + location.search); // it works once, and is no secret to keep
      await request("POST", "/v1/login/link", { token: link[1] }, { quiet: true });
    }
    try { me.value = await get("/v1/me", { as_of: null }, { quiet: true }); } catch (error) {
      if (error.status !== 401) throw error;
      me.value = null;
    }
  },
  async login(name, password) {
    await request("POST", "/v1/login", { name, password }, { quiet: true });
    kept.clear();
    await session.load();
  },
  async logout() {
    try { await send("POST", "/v1/logout"); } finally { kept.clear(); me.value = null; }
  },
};

/** Whether this server has the route and the person logged in may use it: "POST /v1/lists". */
export const can = (route) => me.value?.routes?.includes(route) ?? false;
