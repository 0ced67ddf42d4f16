// The pages in the order of the rail, with their key after `g`; null: a line between groups.
export const PAGES = [
  { path: "live", name: "Live", key: "l" },
  { path: "queue", name: "Queue", key: "q", covers: ["queue", "case"] },
  { path: "search", name: "Search", key: "s", covers: ["search", "account", "decision"] },
  null,
  { path: "rules", name: "Rules", key: "r" },
  { path: "whatif", name: "What-if", key: "w" },
  { path: "lists", name: "Lists", key: "i" },
  { path: "models", name: "Models", key: "m" },
  { path: "experiments", name: "Experiments", key: "e" },
  { path: "drift", name: "Drift", key: "d" },
  null,
  { path: "audit", name: "Audit trail", key: "a" },
  { path: "system", name: "System", key: "y" },
];

export const NAMES = { ...Object.fromEntries(PAGES.filter(Boolean).map((page) => [page.path, page.name])), case: "Case", account: "Account", decision: "Decision" };
