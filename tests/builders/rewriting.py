"""Consistent rewrites: what somebody does who can write to Redis and to the archive, and has all of our code.

A history is decided by the real pipeline, archived and trimmed, and anchored meanwhile. A rewrite changes it in a
random place, decides again, chains everything again (seals, control digests, segments, manifests, recorded seals) and
copies whatever the honest history said of its checkpoints. So every rewrite is a log that is whole in itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from core.codec import encode
from core.context import Resolver
from core.events import ListChanged, RulesChanged, SealPoint, SealsRecorded, ThresholdsChanged
from core.identity import FIXED
from core.log import seals
from core.log.archive import archiver
from core.log.archive.archive import open_archive
from core.log.base import Head
from core.log.memory import MemoryLog
from core.policy import SEVERITIES
from ingest.offline import OfflineIngest
from tests.builders.decisions import append_unchecked
from tests.builders.events import T0
from tests.builders.forging import decided_under, rechained, scores_replaced, without_model
from tests.builders.logs import PARTITIONS, Record, entries, heads, records
from tests.builders.models import ARTIFACT, deployed, load_tiny

EVER = 2**62
PASSES_MAX = 8
Hook = Callable[[MemoryLog], None]


@dataclass(frozen=True)
class History:
    """What happens to a log: messages, control events before some of them, and after how many something else happens
    (`hook`), such as a checkpoint.
    """

    records: tuple[Record, ...]
    control: dict[int, Any]
    flushes: frozenset[int]
    hooks: tuple[int, ...]


def history(seed: int, size: int) -> History:
    """A random history with four control events and three hooks, the last at its end."""
    rng = random.Random(seed)
    by = {"occurred_at": T0, "actor": "ann", "reason": "after the attack of May"}
    control = {
        size // 5: ListChanged(**by, kind="merchant", effect="block", add=("m1",)),
        2 * size // 5: ThresholdsChanged(**by, review=0.3, decline=0.7),
        3 * size // 5: RulesChanged(**by, parameters={}),
        4 * size // 5: ListChanged(**by, kind="merchant", effect="watch", add=("m2", "m3")),
    }
    flushes = frozenset(n for n in range(size) if rng.random() < 0.05)
    return History(tuple(records(seed, size)), control, flushes, (size // 3, 2 * size // 3, size))


def decided(story: History, hook: Hook) -> MemoryLog:
    """The log of a history, decided by the real pipeline. The seals that it has reached are recorded at each hook."""
    log = MemoryLog()
    log.put_blob(ARTIFACT)
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=PARTITIONS, start=[deployed()])
    for number in range(len(story.records) + 1):
        if number in story.hooks:
            ingest.flush()
            points = tuple(SealPoint(p, log.head(p).sequence, log.head(p).digest) for p in range(PARTITIONS))
            append_unchecked(log, SealsRecorded(occurred_at=T0, actor="worker", seals=points))
            hook(log)
            ingest.follow_control()
        if number in story.control:
            ingest.flush()
            ingest.change([story.control[number]])
        if number in story.flushes:
            ingest.flush()
        ingest.feed(story.records[number : number + 1])
    ingest.flush()
    return log


def archived(log: MemoryLog, directory: Path) -> MemoryLog:
    """Archive a log but for its last batches, and trim half of that; the log itself is changed."""
    archive = open_archive(str(directory))
    for p in range(PARTITIONS):
        marks = heads(log, p)
        shorter = log.clone()
        shorter.truncate(p, marks[len(marks) * 4 // 5].sequence)
        archiver.archive_partition(shorter, archive, p, recorded_until=EVER, segment_transactions=40)
    archiver.record(log, archive, range(PARTITIONS), now=1)
    for p in range(PARTITIONS):
        rows = archive.rows(p)
        if rows:
            archiver.trim(log, archive, p, rows[len(rows) // 2].end, now=1)
    return log


# --- rewrites -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rewrite:
    """A rewritten log, not archived yet, and what was done."""

    log: MemoryLog
    what: str


Forger = Callable[[random.Random, History, MemoryLog], Rewrite]
"""From the honest history and its log, before it was archived."""


def _again(story: History, honest: MemoryLog, what: str) -> Rewrite:
    """Decide a changed history, with copies of what the honest log says of checkpoints."""
    said = [payload for _, payload in honest.read_control(count=10**6) if b'"checkpoint_signed.v1"' in payload]

    def copy(log: MemoryLog) -> None:
        if said:
            log.append_control([said.pop(0)], log.control_head())

    return Rewrite(decided(story, copy), what)


def amount_changed(rng: random.Random, story: History, honest: MemoryLog) -> Rewrite:
    """One payment had another amount."""
    places = [n for n, r in enumerate(story.records) if b'"amount":' in r.value and r.topic == "transactions"]
    while True:
        n = rng.choice(places)
        try:
            message = msgspec.json.decode(story.records[n].value)
            message["amount"] = round(message["amount"] * rng.choice((0.01, 0.5, 3, 40)) + 1, 2)
        except (msgspec.MsgspecError, TypeError, KeyError):
            continue
        changed = story.records[n]._replace(value=msgspec.json.encode(message))
        rows = (*story.records[:n], changed, *story.records[n + 1 :])
        return _again(replace(story, records=rows), honest, f"amount of record {n}")


def message_removed(rng: random.Random, story: History, honest: MemoryLog) -> Rewrite:
    """One payment, verdict or bad message never came."""
    n = rng.randrange(len(story.records))
    empty = story.records[n]._replace(value=b"")  # a tombstone: the offset stays, the content does not
    rows = (*story.records[:n], empty, *story.records[n + 1 :])
    if rows == story.records:
        return message_removed(rng, story, honest)
    return _again(replace(story, records=rows), honest, f"record {n} emptied")


def reason_changed(rng: random.Random, story: History, honest: MemoryLog) -> Rewrite:
    """A control event says that somebody else did it, or why."""
    place = rng.choice(sorted(story.control))
    change = rng.choice(({"actor": "bob"}, {"reason": "as told by the chief"}, {"occurred_at": T0 + 1}))
    control = {**story.control, place: msgspec.structs.replace(story.control[place], **change)}
    return _again(replace(story, control=control), honest, f"control event at {place}: {change}")


def control_removed(rng: random.Random, story: History, honest: MemoryLog) -> Rewrite:
    """A control event never was."""
    place = rng.choice(sorted(story.control))
    control = {n: event for n, event in story.control.items() if n != place}
    return _again(replace(story, control=control), honest, f"control event at {place} removed")


def decision_changed(rng: random.Random, story: History, honest: MemoryLog) -> Rewrite:
    """One payment was decided without the model, as if it had failed; its partition is sealed again."""
    while True:
        p = rng.randrange(PARTITIONS)
        held = entries(honest, p, "transactions")
        target = rng.choice(held)
        account = msgspec.json.decode(target.payload)["account_id"]
        made = decided_under(honest, p, {target.id: account}, without_model("model_error"))
        if made[target.id][0] != honest.get(p, "scores", target.id):
            forged = _consistent(scores_replaced(honest, p, made))
            return Rewrite(forged, f"decision {target.id} of partition {p}")


def severity_changed(rng: random.Random, story: History, honest: MemoryLog) -> Rewrite:
    """An alert was less severe, or graver; its partition is sealed again."""
    places = [(p, entry) for p in range(PARTITIONS) for entry in entries(honest, p, "alerts")]
    p, entry = rng.choice(places)
    was = msgspec.json.decode(entry.payload)["severity"]
    new = rng.choice([each for each in SEVERITIES if each != was])
    payload = entry.payload.replace(f'"severity":"{was}"'.encode(), f'"severity":"{new}"'.encode())

    def change(batch: Any, seal: Any) -> Any:
        batch.alerts = [each._replace(payload=payload) if each.id == entry.id else each for each in batch.alerts]
        return seal

    return Rewrite(_consistent(rechained(honest, p, change)), f"severity of alert {entry.id} in partition {p}")


def tail_cut(rng: random.Random, story: History, honest: MemoryLog) -> Rewrite:
    """The newest batches of a partition never were; nor does the control stream record them."""
    p = rng.randrange(PARTITIONS)
    last = honest.head(p).sequence
    keep = rng.randrange(1, last)
    forged = honest.clone()
    forged.truncate(p, keep)
    return Rewrite(_consistent(forged), f"partition {p} cut after seal {keep} of {last}")


def partition_deleted(rng: random.Random, story: History, honest: MemoryLog) -> Rewrite:
    """A partition never had anything."""
    p = rng.randrange(PARTITIONS)
    forged = honest.clone()
    forged.truncate(p, 0)
    return Rewrite(_consistent(forged), f"partition {p} deleted")


def partitions_exchanged(rng: random.Random, story: History, honest: MemoryLog) -> Rewrite:
    """Two partitions' streams were exchanged, and both sealed again under their new numbers."""
    a, b = rng.sample(range(PARTITIONS), 2)
    forged = honest.clone()
    forged.exchange(a, b)
    for p in (a, b):

        def change(batch: Any, seal: Any, p: int = p) -> Any:
            return msgspec.structs.replace(seal, begins=seals.begins(FIXED.log_id, p) if seal.begins else "")

        forged = rechained(forged, p, change)
    return Rewrite(_consistent(forged), f"partitions {a} and {b} exchanged")


def restored(rng: random.Random, story: History, honest: MemoryLog) -> Rewrite:
    """The whole log went back to what it was at an earlier time, and went on from there otherwise."""
    at = rng.randrange(len(story.records) // 4, len(story.records) - 20)
    rows = (*story.records[:at], *(r._replace(value=b"") for r in story.records[at:]))
    return _again(replace(story, records=rows), honest, f"went on without any payment after record {at}")


FORGERS: tuple[Forger, ...] = (
    amount_changed,
    message_removed,
    reason_changed,
    control_removed,
    decision_changed,
    severity_changed,
    tail_cut,
    partition_deleted,
    partitions_exchanged,
    restored,
)


def _consistent(forged: MemoryLog) -> MemoryLog:
    """Make the control stream record seals that are there, and seals name its digests, until both hold: a recorded seal
    changes the digests after it, these the seals after them, and these what is recorded next.
    """
    for _ in range(PASSES_MAX):
        known = [heads(forged, p) for p in range(PARTITIONS)]
        before = forged.read_control(count=10**6)
        digests = [seals.GENESIS_DIGEST]
        for number, payload in before:
            said = _recording(number, payload, known)
            forged.tamper_control(number, said)
            digests.append(seals.control_digest(digests[-1], number, said))

        def change(batch: Any, seal: Any, digests: list[str] = digests) -> Any:
            return msgspec.structs.replace(seal, control_digest=digests[seal.control] if seal.control_digest else "")

        for p in range(PARTITIONS):
            if entries(forged, p, "seals"):
                forged = rechained(forged, p, change)
        if forged.read_control(count=10**6) == before and [heads(forged, p) for p in range(PARTITIONS)] == known:
            return forged
    raise AssertionError("the rewrite does not become consistent")


def _recording(number: int, payload: bytes, known: list[list[Head]]) -> bytes:
    """A control event, with recorded seals that are there and were sealed before it."""
    if b'"seals_recorded.v1"' not in payload:
        return payload
    event = msgspec.json.decode(payload, type=SealsRecorded)
    points = []
    for each in event.seals:
        held = [h for h in known[each.partition] if h.sequence <= each.sequence and h.control < number]
        points.append(SealPoint(each.partition, held[-1].sequence, held[-1].digest))
    return encode(msgspec.structs.replace(event, seals=tuple(points)))
