"""Verifies one decision of a Stream-Sentinel log, offline. Standard library only; shares no code with Stream-Sentinel.

Read in this order: `bundle` (the file), `ed25519`, `checkpoint`, `trees`, `record` (level 1), then `forms`, `language`,
`values`, `program`, `settings`, `payment`, `model`, `score` (level 2), `history`, `aggregates`, `verdicts`, `account`,
`features` (level 3), and `cli`. docs/proofs.md of Stream-Sentinel describes the format.
"""

__version__ = "0.1.0"
