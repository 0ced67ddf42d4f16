// What an analyst does with a case. A verdict shows at once, before the log has it; undo is an act of its own, since the
// log forgets nothing.
import { html, signal } from "/vendor/preact.js";
import { can, forget, get, me, post } from "./api.js";
import { fail, isPast, say } from "./state.js";
import { Ask } from "./widgets.js";

const UNDO_S = 5;
const DRAWN_MS = 100; // until what was read again is shown
const WAITS_MS = [50, 100, 200, 300, 500, 1000, 1000, 2000, 2000, 4000, 8000];
export const OPEN = "open";
export const judged = signal({}); // case ID → the verdict, or OPEN, shown before the read models have it
const newest = new Map(); // case ID → the last verdict or reopening, as it was sent
const last = new Map(); // case ID → whatever was sent last

const pathOf = (id, act) => `/v1/cases/${encodeURIComponent(id)}/${act}`;

function mark(id, verdict) {
  const next = { ...judged.value };
  if (verdict === null) delete next[id]; else next[id] = verdict;
  judged.value = next;
}

/** Show what an act makes of a case until the read models have it. After a newer act its answer changes nothing. */
function foresee(id, verdict, sent, then) {
  const isNewest = () => newest.get(id) === sent;
  newest.set(id, sent);
  mark(id, verdict);
  sent.then((answer) => follow(id, answer, then, isNewest), (error) => { if (isNewest()) fail(error); })
    .finally(() => setTimeout(() => { if (isNewest()) mark(id, null); }, DRAWN_MS));
}

function refused() {
  if (!isPast.value) return false;
  fail({ message: "you are looking at a past moment", remedy: "press T to go back to now, then act" });
  return true;
}

/** Send what is about a case after what was sent before: whoever is fast must not overtake themselves. */
function inOrder(id, send) {
  const sent = (last.get(id) ?? Promise.resolve()).catch(() => {}).then(send);
  last.set(id, sent);
  return sent;
}

/** Judge a case: shown at once, sent at once. Its undo reopens the case, which the log records as well. */
export function judge(row, verdict, { note = "", then = () => {} } = {}) {
  const id = row.case.case_id;
  if (refused() || (judged.value[id] ?? OPEN) !== OPEN) return;
  const sent = inOrder(id, () => post(pathOf(id, "resolve"), { verdict, note }));
  foresee(id, verdict, sent, then);
  say(`${row.case.account_id}: ${verdict}`, {
    seconds: UNDO_S,
    undo: () => {
      const open = inOrder(id, () => sent.then(() => post(pathOf(id, "reopen"), { note: `undone: ${verdict}` })));
      foresee(id, OPEN, open, then);
      open.then(() => say(`${row.case.account_id}: open again`), () => {});
    },
  });
}

/** Read again, once the read models have what an act made of a case. answer: the act's, with the case's revision. */
async function follow(id, answer, then, isNewest = () => true) {
  const wanted = answer?.case?.revision ?? 0;
  forget("/v1/cases");
  for (const wait of WAITS_MS) {
    try { if ((await get(`/v1/cases/${encodeURIComponent(id)}`)).case.revision >= wanted) break; } catch { /* asked again */ }
    await new Promise((done) => { setTimeout(done, wait); });
    if (!isNewest()) return;
  }
  if (isNewest()) then();
}

async function act(id, name, body, then) {
  const sent = inOrder(id, () => post(pathOf(id, name), body));
  if (name === "reopen") foresee(id, OPEN, sent, then);
  const answer = await sent;
  if (name !== "reopen") follow(id, answer, then);
}

const HOURS = 3_600_000;
const ACTS = {
  assign: { run: (row, then) => act(row.case.case_id, "assign", { assignee: row.case.assignee === me.value.name ? "" : me.value.name }, then), done: (row) => (row.case.assignee === me.value.name ? "released" : "assigned to you") },
  snooze: { run: (row, then) => act(row.case.case_id, "snooze", { until: Date.now() + 4 * HOURS }, then), done: () => "snoozed for 4 hours" },
};

const ROUTES = { judge: "resolve", assign: "assign", snooze: "snooze", comment: "notes", escalate: "route", reopen: "reopen" };

/** Whether the person logged in may do this to a case, or to an account ("block", "unblock"), on this server. */
export const mayAct = (kind) => can(ROUTES[kind] ? `POST /v1/cases/{id}/${ROUTES[kind]}` : `POST /v1/accounts/{id}/${kind}`);

/** The acts of a map of keys that may be done. */
export const allowed = (keys) => Object.fromEntries(Object.entries(keys).filter(([, [, , kind]]) => kind === undefined || mayAct(kind)).map(([key, [run, meaning]]) => [key, [run, meaning]]));

/** An act without a text at once; one with a text through a dialog, which `show` displays. */
export async function ask(kind, row, show, then = () => {}) {
  const id = row.case.case_id;
  if (refused()) return;
  if (ACTS[kind]) {
    try { await ACTS[kind].run(row, then); say(`${row.case.account_id}: ${ACTS[kind].done(row)}`); } catch (error) { fail(error); }
    return;
  }
  const close = () => show(null);
  const dialogs = {
    comment: { title: "Note on the case", label: "Note (@name mentions somebody)", action: "Add the note", run: (note) => act(id, "notes", { note }, then) },
    escalate: { title: "Escalate", label: "Why", action: "Escalate", run: (note) => act(id, "route", { queue: "escalated", note }, then) },
    reopen: { title: "Reopen the case", label: "Why", action: "Reopen", run: (note) => act(id, "reopen", { note }, then) },
    block: { title: `Block account ${row.case.account_id}`, label: "Reason", action: "Block", run: (reason) => post(`/v1/accounts/${encodeURIComponent(row.case.account_id)}/block`, { reason, alert_id: row.case.alerts[0]?.alert_id || "" }) },
    unblock: { title: `Unblock account ${row.case.account_id}`, label: "Reason", action: "Unblock", run: (reason) => post(`/v1/accounts/${encodeURIComponent(row.case.account_id)}/unblock`, { reason }) },
  };
  const { title, label, action, run } = dialogs[kind];
  show(html`<${Ask} title=${title} label=${label} action=${action} onClose=${close} onDone=${async (text) => { await run(text); say(`${title}: done`); if (!ROUTES[kind]) setTimeout(then, 400); }} />`);
}
