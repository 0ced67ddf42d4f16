"""Decides a stream by the checkout that it is run in, and writes every decision as columns. A part of
`benchmarks.compare_decisions`, which runs it in two checkouts: it uses only what both have.

    python decisions_of.py SOURCE ROWS DIRECTORY      SOURCE: a Handbook file, or `synthetic`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from console import wiring
from core.codec import decode_score
from core.events import ListChanged, ModelDeployed, ModelRegistered
from core.features import packing, spec
from core.log.memory import MemoryLog
from ingest.offline import OfflineIngest
from models.shipped import shipped_baseline
from sources.record import Record
from sources.synthetic import SyntheticConfig, SyntheticStream

try:
    from core.context import Resolver
except ImportError:  # before it had a module of its own
    from core.control import Resolver  # type: ignore[attr-defined,no-redef]

PARTITIONS = 4
AGAIN_EVERY = 997
"""Every so many payments one comes again with another amount: an ID conflict."""
WATCHED, ALLOWED, BLOCKED = 7, 11, 13
"""Merchants whose number leaves no rest are on a list."""


class Harvest(MemoryLog):
    """A log that keeps no entries: every score becomes a row."""

    def __init__(self) -> None:
        super().__init__()
        self.features: list[np.ndarray] = []
        self.rows: list[tuple[int, int, str, str, str, float]] = []

    def start_append(self, appends: Any) -> Any:
        pending = super().start_append(appends)
        for partition, sealed in appends:
            for entry in sealed.batch.scores:
                score = decode_score(entry.payload)
                self.features.append(_vector(score))
                rules = ",".join(sorted(score.rules))
                severity = score.severity or ""
                self.rows.append((partition, entry.id.offset, score.decision, severity, rules, score.margin))
            for stream in ("transactions", "scores", "alerts", "feedback", "rejects"):
                self._streams[partition, stream] = self._streams.get((partition, stream), [])[-1:]
        return pending


def _vector(score: Any) -> np.ndarray:
    try:
        return packing.vector(score.features)
    except TypeError:  # it asked for the spec
        return packing.vector(score.spec, score.features)  # type: ignore[call-arg]


def records(source: str, rows: int) -> Iterator[Record]:
    """At most so many payments, with the feedback between them, and some again with another amount."""
    if source == "synthetic":
        chunks = SyntheticStream(SyntheticConfig(transactions=rows, days=60.0, seed=5), labels="all").records()
    else:
        from sources.catalogue import open_source

        chunks = open_source("handbook", path=Path(source), flush_feedback=True).records()
    count = 0
    for chunk in chunks:
        for record in chunk:
            yield Record(*record)
            if record.topic != "transactions":
                continue
            count += 1
            if count % AGAIN_EVERY == 0:
                value = json.loads(record.value)
                yield Record(*record)._replace(value=json.dumps(value | {"amount": value["amount"] + 1.0}).encode())
            if count >= rows:
                return


def lists(source: str) -> list[ListChanged]:
    """Some merchants are watched, allowed or blocked."""
    names = [f"m{n:05d}" for n in range(400)] if source == "synthetic" else [str(n) for n in range(400)]
    names += [f"m{n}" for n in range(400)] + [f"terminal-{n}" for n in range(400)]

    def every(step: int) -> tuple[str, ...]:
        return tuple(name for name in names if int("".join(filter(str.isdigit, name))) % step == 0)

    act = {"occurred_at": 0, "actor": "benchmark", "kind": "merchant"}
    return [
        ListChanged(**act, effect="watch", add=every(WATCHED)),  # type: ignore[arg-type]
        ListChanged(**act, effect="allow", add=every(ALLOWED)),  # type: ignore[arg-type]
        ListChanged(**act, effect="block", add=every(BLOCKED)),  # type: ignore[arg-type]
    ]


def main() -> None:
    source, rows, directory = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    log = Harvest()
    content, card = shipped_baseline()
    named: Any = {"name": card["name"], "version": card["version"], "digest": log.put_blob(content)}
    by: Any = {"occurred_at": 0, "actor": "benchmark"}
    start = [ModelRegistered(**by, **named, spec=card["spec"]), ModelDeployed(**by, **named), *lists(source)]
    resolver = Resolver(log.get_blob, wiring.load_scorer)
    ingest = OfflineIngest(log, resolver, partitions=PARTITIONS, start=start)  # type: ignore[arg-type]
    ingest.feed(records(source, rows))
    ingest.flush()
    partitions, offsets, decisions, severities, rules, margins = zip(*log.rows, strict=True)
    np.savez(
        directory / "rows.npz",
        place=np.array([partitions, offsets], dtype=np.int64).T,
        decisions=np.array(decisions),
        severities=np.array(severities),
        rules=np.array(rules),
        margins=np.array(margins),
    )
    np.save(directory / "features.npy", np.array([row[: spec.WIDTH] for row in log.features], dtype=np.float32))
    (directory / "about.json").write_text(json.dumps({"spec": spec.SPEC_VERSION, "names": list(spec.NAMES)}))


if __name__ == "__main__":
    main()
