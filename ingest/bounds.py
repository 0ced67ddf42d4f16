"""Makes visible what the bounds of account states make a partition forget: metrics, and a warning when it happens.

What is forgotten is a function of the log (core.features.state, core.features.remembered); this module only looks.
"""

from __future__ import annotations

from collections.abc import Iterable

from ingest import telemetry
from ingest.partition import Owned

EVERY_S = 1.0
WARN_S = 60.0
"""At most one warning per partition in so many seconds."""


class Bounds:
    """Compares each owned partition's counters with those seen last."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Owned, tuple[int, int, int]]] = {}
        self._looked_at = -EVERY_S
        self._warned: dict[tuple[int, str], float] = {}
        self._logger = telemetry.logger()

    def look(self, partitions: Iterable[Owned], now: float) -> None:
        """Count and warn, at most once a second. now: monotonic seconds."""
        if now - self._looked_at < EVERY_S:
            return
        self._looked_at = now
        held = 0
        for owned in partitions:
            state = owned.state
            held += len(state)
            counts = state.evicted, state.evicted_protected, state.remembered.forgotten
            before = self._seen.get(owned.partition)
            self._seen[owned.partition] = owned, counts
            if before is None or before[0] is not owned:
                continue
            evicted, protected, forgotten = (a - b for a, b in zip(counts, before[1], strict=True))
            telemetry.EVICTED.inc(evicted)
            telemetry.FORGOTTEN.inc(forgotten / 2)
            if evicted:
                bound = state.identity.accounts_max
                self._warn(owned, now, "ingest.accounts_evicted", evicted=evicted, accounts_max=bound)
            if protected:
                self._warn(owned, now, "ingest.protected_accounts_evicted", evicted=protected)
            if forgotten:
                self._warn(owned, now, "ingest.payments_forgotten", payments=forgotten // 2)
        telemetry.ACCOUNTS.set(held)

    def _warn(self, owned: Owned, now: float, event: str, **counts: int) -> None:
        key = owned.partition, event
        if now - self._warned.get(key, -WARN_S) >= WARN_S:
            self._warned[key] = now
            self._logger.warning(event, partition=owned.partition, **counts)
