"""Programs that an experiment compares, and a worker without Kafka that can be killed and restarted from snapshots."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.context import Resolver
from core.control import ControlState
from core.control_stream import current
from core.errors import Corrupt
from core.events import Control, ProgramRegistered
from core.identity import required
from core.log.base import Head
from core.log.memory import MemoryLog
from core.program import document, library
from core.program.loading import Loaded, check
from core.replay import rebuild
from ingest.offline import OfflineIngest
from ingest.snapshots import SnapshotStore
from tests.builders.decisions import append_unchecked
from tests.builders.events import T0
from tests.builders.logs import PARTITIONS, SECOND, Record
from tests.builders.models import ARTIFACT, deployed, load_tiny

FIRST = b"""
[program]
name = "first"
version = "1.0.0"
uses = ["standard@1"]

[features]
reviewed = "count(account, '90d', decision == 'review')"
again = "count(account, '90d', hit('AGAIN'))"
spent = "sum(account, '90d', amount)"

[[rules]]
code = "AGAIN"
when = "reviewed >= 1 && amount > 20"
effect = "review"
"""

SECOND_PROGRAM = b"""
[program]
name = "second"
version = "1.0.0"
uses = ["standard@1"]

[fields]
place = { from = "country", type = "string" }

[features]
alerts = "count(account, '90d', alerted)"
again = "count(account, '90d', hit('AGAIN'))"
frauds = "count(account, '90d', verdict == 'fraud')"
spent = "sum(account, '90d', amount)"
many = "count(account, '90d')"

[[rules]]
code = "AGAIN"
when = "many >= 8 && amount > 20"
effect = "review"

[[rules]]
code = "OTHER"
when = "alerts >= 2 && amount > 40"
effect = "decline"

[[rules]]
code = "QUIET"
when = "many > 5"
mode = "shadow"

[decision]
review = "probability >= 0.3 || spent > 600"
decline = "probability >= 0.9"

[decision.severity]
high = "decision == 'decline'"
low = "decision == 'review'"

[decision.actions]
low = ["notify_customer"]
"""

THIRD = b"""
[program]
name = "third"
version = "1.0.0"
uses = ["standard@1"]

[features]
spent = "sum(account, '90d', amount)"
few = "count(account, '24h', amount > 50)"

[[rules]]
code = "FEW"
when = "few > 2"
effect = "review"
"""


def loaded() -> tuple[Loaded, Loaded, Loaded]:
    """The three programs."""
    return check(FIRST), check(SECOND_PROGRAM), check(THIRD)


def registrations(programs: Sequence[Loaded]) -> list[Control]:
    """The events that register them."""
    return [
        ProgramRegistered(
            occurred_at=T0, actor="ann", name=each.program.name, version=each.program.version, digest=each.digest
        )
        for each in programs
    ]


class Restartable:
    """A log that is filled in batches, by a worker that may die between two of them."""

    def __init__(
        self, directory: Path, load: Any = load_tiny, start: Sequence[Control] = (), rng: random.Random | None = None
    ) -> None:
        self.log = MemoryLog()
        self._rng = rng or random.Random(1)
        for content in (ARTIFACT, SECOND):
            self.log.put_blob(content)
        for each in loaded():
            for used in each.program.uses.values():
                self.log.put_blob(library.content(used))
            self.log.put_blob(document.canonical(each.program))
        self.missing: set[str] = set()
        """Blobs that can't be loaded for a while."""
        self.resolver = Resolver(self._blob, load)
        self.ingest = OfflineIngest(
            self.log, self.resolver, partitions=PARTITIONS, start=[deployed(), *registrations(loaded()), *start]
        )
        self._snapshots = SnapshotStore(directory, "arms")

    def _blob(self, digest: str) -> bytes:
        if digest in self.missing:
            raise Corrupt("damaged")
        return self.log.get_blob(digest)

    def feed(self, records: Sequence[Record]) -> None:
        """Decide some records in batches of random size."""
        for record in records:
            self.ingest.feed([record])
            if self._rng.random() < 0.03:
                self.ingest.flush()
        self.ingest.flush()

    def change(self, *events: Control) -> None:
        """Append control events that the fold may refuse; they take effect from the next batch on."""
        append_unchecked(self.log, *events)
        self.ingest.follow_control()

    def save(self) -> None:
        """Take a snapshot of every partition."""
        for owned in self.ingest.owned:
            self._snapshots.save(owned.partition, owned.head, owned.state)

    def restart(self) -> None:
        """Lose all states, and load them as a worker does that takes the partitions."""
        state: ControlState = current(self.log)
        identity = required(state.identity)
        steps, needed = self.resolver.steps(state, "kept"), self.resolver.steps(state, "now")
        for owned in self.ingest.owned:
            head = self.log.head(owned.partition)
            known = self._snapshots.load(owned.partition, self.log, head, identity, steps, needed)
            after, base = known if known else (Head(), None)
            owned.state = rebuild(self.log, owned.partition, head, identity, base, after, steps)
