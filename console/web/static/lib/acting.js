// Control events in words: what an act changed.
import * as f from "./format.js";

/** What happens by itself, and tells an auditor little. */
export const ROUTINE = new Set(["seals_recorded.v1", "checkpoint_signed.v1", "reference_published.v1", "program_prepared.v1"]);

const list = (values) => (values || []).slice(0, 6).join(", ") + ((values || []).length > 6 ? ` and ${values.length - 6} more` : "");
const model = (e) => `${e.name}-${e.version}`;

const TEXTS = {
  log_created: (e) => `created the log: ${e.partitions} partitions, partitioner ${e.partitioner}`,
  source_generation_started: (e) => `saw topic ${e.topic_name} with ${e.partitions} partitions`,
  partition_parked: (e) => `parked partition ${e.partition} (${e.code})`,
  partition_resumed: (e) => `resumed partition ${e.partition}`,
  messages_skipped: (e) => `skipped messages ${e.first_offset} to ${e.next_offset - 1} of ${e.topic} ${e.partition} (${e.code})`,
  history_started: (e) => `began to load history, ${f.dayOf(e.earliest)} to ${f.dayOf(e.latest)}`,
  history_ended: () => "ended loading history",
  model_registered: (e) => `registered model ${model(e)}`,
  model_deployed: (e) => `made ${model(e)} ${e.alias || "champion"}`,
  model_rolled_back: (e) => `rolled ${e.alias || "champion"} back to ${model(e)}`,
  model_withdrawn: (e) => `withdrew the ${e.alias}`,
  governance_changed: (e) => `turned four eyes ${e.four_eyes ? "on" : "off"}`,
  identity_added: (e) => `put ${e.name} on the roster (${list(e.roles)})`,
  identity_changed: (e) => `gave ${e.name} the roles ${list(e.roles)}`,
  identity_revoked: (e) => `revoked ${e.name}`,
  identity_key_added: (e) => `added a key of ${e.name}`,
  identity_key_revoked: (e) => `revoked key ${e.key_id} of ${e.name}`,
  identity_required: (e) => `${e.required ? "required identity" : "stopped requiring identity"}`,
  change_proposed: (e) => `proposed: ${actText({ type: e.change.type, event: e.change })}`,
  change_withdrawn: (e) => `withdrew proposal ${e.proposal_id}`,
  deployment_proposed: (e) => `proposed ${model(e)} as ${e.alias || "champion"}`,
  deployment_withdrawn: () => "withdrew a proposal",
  thresholds_changed: (e) => `set thresholds: review ${f.percent(e.review)}, decline ${f.percent(e.decline)}${e.review_loss ? `, review from an expected loss of ${e.review_loss}` : ""}${e.decline_loss ? `, decline from ${e.decline_loss}` : ""}`,
  rules_changed: (e) => `set rules: ${Object.entries(e.parameters || {}).map(([k, v]) => `${k} = ${v}`).join(", ") || "default parameters"}${(e.disabled || []).length ? `; off: ${list(e.disabled)}` : ""}`,
  list_changed: (e) => [(e.add || []).length && `put ${list(e.add)} on ${e.kind} ${e.effect}`, (e.remove || []).length && `took ${list(e.remove)} off ${e.kind} ${e.effect}`].filter(Boolean).join("; "),
  program_registered: (e) => `registered program ${e.name}@${e.version}`,
  program_proposed: (e) => `proposed program ${e.proposal_id || ""}`,
  program_approved: (e) => `approved program ${e.proposal_id || ""}`,
  program_withdrawn: (e) => `withdrew program ${e.proposal_id || ""}`,
  program_deployed: (e, names) => `deployed program ${names[e.digest] || e.proposal_id || f.shortened(e.digest || "", 14)}`,
  program_rolled_back: (e, names) => `rolled back to program ${names[e.digest] || f.shortened(e.digest || "", 14)}`,
  drift_detected: (e) => `found drift in ${e.feature}: ${f.figure(e.magnitude)}`,
  drift_cleared: (e) => `cleared drift of ${e.feature}`,
  experiment_started: (e) => `started experiment ${e.experiment_id}`,
  experiment_ramped: (e) => `gave experiment ${e.experiment_id} other shares of the traffic`,
  experiment_stopped: (e) => `stopped experiment ${e.experiment_id}`,
  experiment_concluded: (e) => `concluded experiment ${e.experiment_id}: ${f.words(e.verdict)}${e.winner ? `, ${e.winner} won` : ""}`,
  retraining_started: (e) => `began to retrain (${f.words(e.trigger)})`,
  retraining_finished: (e) => `retrained ${model(e)}`,
  retraining_rejected: () => "rejected what retraining gave",
  degradation_detected: (e) => `found that ${e.model} performs worse: ${f.words(e.metric)} ${f.figure(e.value)}, limit ${f.figure(e.limit)}`,
  degradation_started: (e) => `could not load ${list((e.artifacts || []).map((each) => f.shortened(each, 14))) || "what decides"}: decisions are degraded in ${f.plural((e.partitions || []).length, "partition")}`,
  degradation_ended: (e) => `decides in full again in ${f.plural((e.partitions || []).length, "partition")}`,
  source_quarantined: (e) => `quarantined verdicts of ${e.source}`,
  responses_changed: (e) => `switched ${list(e.actions)} ${e.enabled ? "on" : "off"}`,
  program_prepared: (e, names) => `prepared program ${names[e.digest] || f.shortened(e.digest || "", 14)} in ${f.plural((e.partitions || []).length, "partition")}`,
  reference_published: (e) => `published the table of ${e.kind}s: ${f.plural(e.rows, "row")}`,
  seals_recorded: (e) => `recorded the heads of ${f.plural((e.seals || []).length, "partition")}`,
  checkpoint_signed: (e) => `signed checkpoint ${f.count(e.number)}`,
  segment_archived: (e) => `archived partition ${e.partition} up to seal ${f.count(e.last_sequence)}`,
  log_trimmed: (e) => `trimmed partition ${e.partition} up to seal ${f.count(e.up_to_sequence)}`,
  accounts_erased: (e) => `destroyed the keys of ${f.plural((e.accounts || []).length, "account")}`,
  sealed_values_opened: (e) => `opened ${list(e.fields)} of the payment at ${e.place}`,
  values_unmasked: (e) => `unmasked ${list(e.fields)} of the payment at ${e.place}`,
  rates_changed: (e) => `set rates to ${e.base}: ${Object.keys(e.rates || {}).length} currencies`,
};

/** names: of programs, by SHA-256, where they are known. */
export function actText(entry, names = {}) {
  const name = entry.type.replace(/\.v\d+$/, "");
  const told = TEXTS[name]?.(entry.event, names);
  if (told) return told;
  const rest = Object.entries(entry.event || {}).filter(([, value]) => typeof value !== "object" && value !== "").slice(0, 4).map(([key, value]) => `${f.words(key)} ${value}`);
  return `${f.words(name)}${rest.length ? `: ${rest.join(", ")}` : ""}`;
}
