"""Questions about past decisions: recompute one, tell its story, what-if analysis, blast radius, lookup by ID."""
