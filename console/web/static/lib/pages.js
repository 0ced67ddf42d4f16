// The pages in the order of the rail, with their key after `g`; null: a line between groups. isFirst: stays in the bar of a
// phone; the others are behind its "More".
import { can } from "./api.js";

export const PAGES = [
  { path: "live", name: "Live", key: "l", isFirst: true },
  { path: "queue", name: "Queue", key: "q", isFirst: true, covers: ["queue", "case"] },
  { path: "search", name: "Search", key: "s", isFirst: true, covers: ["search", "account", "decision"] },
  null,
  { path: "rules", name: "Rules", key: "r", isFirst: true },
  { path: "whatif", name: "What if", key: "w", needs: "POST /v1/whatif" },
  { path: "lists", name: "Lists", key: "i" },
  { path: "rings", name: "Rings", key: "n" },
  { path: "models", name: "Models", key: "m" },
  { path: "experiments", name: "Experiments", key: "e" },
  { path: "drift", name: "Drift", key: "d" },
  null,
  { path: "audit", name: "Audit trail", key: "a", needs: "GET /v1/control" },
  { path: "system", name: "System", key: "y" },
];

/** The pages that the person logged in may see on this server. */
export const shownPages = () => PAGES.filter((page) => page === null || !page.needs || can(page.needs));

export const NAMES = { ...Object.fromEntries(PAGES.filter(Boolean).map((page) => [page.path, page.name])), case: "Case", account: "Account", decision: "Decision" };
