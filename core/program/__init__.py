"""Decision programs: what decides, as a typed document in the log (ADR 24)."""
