"""What anchors cost: signing a checkpoint, and verifying a log against it, all of it and only what is new.

    python -m benchmarks.anchors [synthetic | handbook PATH] [--limit N] [--partitions N] [--json]

The stream is decided offline with the shipped model and archived, but for its last tenth, which comes after the first
checkpoint. Times are CPU seconds of one process. `sign_first_s` reads the log from its beginning, `sign_next_s` the
last tenth; `verify_all_s` is `sentinel verify` with anchors, `verify_plain_s` without, and `verify_new_s` with
--incremental after the first checkpoint.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.arguments import chosen_source, source_parser
from console import wiring
from console.anchoring.destinations import Directory
from console.anchoring.notary import Notary
from console.anchoring.reading import anchors_of, read_anchors
from console.anchoring.running import Anchoring
from console.commands.verify import Found, run
from core.context import Resolver
from core.events import ModelDeployed
from core.log.archive import archiver
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.growth import upto
from core.log.memory import MemoryLog
from core.settings import Settings
from ingest.offline import OfflineIngest
from models.shipped import shipped_baseline

T = TypeVar("T")
LIMIT, PARTITIONS, NEW = 100_000, 4, 10
NOW = 1_800_000_000_000
BATCH = 200
"""Records in a batch over all partitions, as a worker under load takes them."""


def main() -> None:
    arguments = source_parser(__doc__, LIMIT, PARTITIONS).parse_args()
    records = [record for chunk in chosen_source(arguments).records() for record in chunk]
    content, card = shipped_baseline()
    log = MemoryLog()
    log.put_blob(content)
    deployed = ModelDeployed(
        occurred_at=0, actor="bench", name=card["name"], version=card["version"], digest=card["digest"]
    )
    resolver = Resolver(log.get_blob, wiring.load_scorer)
    offline = OfflineIngest(log, resolver, partitions=arguments.partitions, start=[deployed])
    private = Ed25519PrivateKey.generate()
    with tempfile.TemporaryDirectory() as folder:
        archive, worm = open_archive(f"{folder}/archive"), Directory(f"{folder}/worm")
        both = ArchivedLog(log, archive)
        old = len(records) * (NEW - 1) // NEW
        _feed(offline, records[:old])
        for p in range(arguments.partitions):
            archiver.archive_partition(log, archive, p, recorded_until=2**62)
        archiver.record(log, archive, range(arguments.partitions), now=1)
        for p in range(arguments.partitions):
            archiver.trim(log, archive, p, archive.end(p), now=1)
        notary = Notary(both, Path(folder) / "state", private)
        anchoring = Anchoring(notary, [worm], [])
        first, sign_first_s = _timed(lambda: anchoring.round(NOW))
        offline.follow_control()
        _feed(offline, records[old:])
        _, sign_next_s = _timed(lambda: anchoring.round(NOW + 1))
        keys = [notary.key]
        settings = Settings(log_prefix="bench", snapshot_directory=f"{folder}/none")

        def verified(since: Any = None) -> Found:
            read = read_anchors([f"{folder}/worm"], keys, [])
            found = run(settings, log, open_archive(f"{folder}/archive"), None, anchors_of(read, since), read)
            if found.faults:
                raise SystemExit("\n".join(found.faults))
            return found

        assert first.signed is not None
        places = first.signed.checkpoint, first.signed.note, upto(both, first.signed.checkpoint)
        plain, verify_plain_s = _timed(lambda: run(settings, log, open_archive(f"{folder}/archive")))
        everything, verify_all_s = _timed(verified)
        new, verify_new_s = _timed(lambda: verified(places))
    figures = {
        "decisions": everything.decisions,
        "decisions_new": new.decisions,
        "seals": sum(checked.head.sequence for checked in plain.partitions),
        "sign_first_s": sign_first_s,
        "sign_next_s": sign_next_s,
        "verify_plain_s": verify_plain_s,
        "verify_all_s": verify_all_s,
        "verify_new_s": verify_new_s,
    }
    if arguments.json:
        print(msgspec.json.encode(figures).decode())
        return
    for name, value in figures.items():
        print(f"{name:<16} {value:>12,.3f}" if isinstance(value, float) else f"{name:<16} {value:>12,}")


def _feed(offline: OfflineIngest, records: Iterable[Any]) -> None:
    left = iter(records)
    while batch := list(islice(left, BATCH)):
        offline.feed(batch)
        offline.flush()


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.process_time()
    found = work()
    return found, time.process_time() - started


if __name__ == "__main__":
    main()
