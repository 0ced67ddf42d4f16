"""What must hold when a simulation has ended, whatever struck it.

    chain        every partition's entries are what its seals cover, and the seals chain
    once         every message that Kafka held is in the log at its own position, exactly once, as a decision, an
                 account event or a reject; the log holds nothing else; no payment is decided twice
    same bits    a replay from the log decides every payment to the same bytes
    published    every decision of the log was published, and nothing but what a log held
    undisturbed  where the order is given (a history in Kafka), the log is that of an undisturbed run

Where a fault makes a difference that the design names, it is named here, too.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any, NamedTuple

import msgspec

from core import control_stream, verification
from core.codec import decode_reject, decode_score, decode_seal
from core.context import Resolver
from core.errors import SentinelError
from core.events import DegradationStarted, MessagesSkipped, Position, SourceGenerationStarted
from core.log.archive.control_chain import Named, check_control, check_named
from core.log.base import Entry, EventLog, Head
from core.log.seals import head_of
from core.replay import Timeline
from tests.builders import batches
from tests.builders.models import load_tiny
from tests.simulation import responding
from tests.simulation.scenario import ROLES
from tests.simulation.stage import Sent, Stage

NOT_COMPARED = ("recreated", "grown", "expired", "emptied with evidence", "emptied without evidence", "begun anew")
"""After these, the log holds other messages than an undisturbed run's, or under other positions."""


class Held(NamedTuple):
    """A partition without what two runs may differ in: when it was recorded, under which c, where batches were cut."""

    transactions: list[tuple[Position, dict[str, Any]]]
    scores: list[tuple[Position, dict[str, Any]]]
    alerts: list[Entry]
    feedback: list[tuple[Position, dict[str, Any]]]
    rejects: list[tuple[str, Position, str, bytes | None, bytes | None]]


def held(log: EventLog, partition: int) -> Held:
    """What the log holds of a partition."""
    streams = batches.contents(log, partition)

    def bare(entries: list[Entry], *without: str) -> list[tuple[Position, dict[str, Any]]]:
        decoded = [(e.id, msgspec.json.decode(e.payload, type=dict[str, Any])) for e in entries]
        for _, event in decoded:
            for name in without:
                event.pop(name, None)
        return decoded

    rejects = [decode_reject(entry.payload) for entry in streams["rejects"]]
    return Held(
        bare(streams["transactions"], "recorded_at"),
        bare(streams["scores"], "c"),
        streams["alerts"],
        bare(streams["feedback"], "recorded_at"),
        sorted((r.topic, Position.parse(r.position), r.reason, r.key, r.value) for r in rejects),
    )


def judged(stage: Stage, log: EventLog, undisturbed: list[Held] | None) -> list[str]:
    """What is wrong with the log; [] if nothing is."""
    wrong: list[str] = []
    partitions = range(stage.scenario.partitions)
    try:
        entries = control_stream.history(log)
        for partition in partitions:
            wrong += _chain(log, partition)
            wrong += _once(stage, log, partition, entries)
            wrong += _published(stage, log, partition)
        wrong += _same_bits(stage, log, partitions)
        if stage.scenario.responders and not any(stage.happened[name] for name in NOT_COMPARED if name != "expired"):
            is_exact = {fault.kind for fault in stage.struck} <= set(responding.HARMLESS)
            is_damaged = bool(stage.server.lost_tail)
            wrong += responding.judged(log, partitions, stage.receiver, is_exact=is_exact, is_damaged=is_damaged)
    except (SentinelError, AssertionError) as error:
        return [*wrong, f"the log can't be read: {type(error).__name__}: {error}"]
    is_degraded = any(isinstance(entry.event, DegradationStarted) for entry in entries)
    if undisturbed is not None and not is_degraded and not any(stage.happened[name] for name in NOT_COMPARED):
        for partition in partitions:
            wrong += _different(partition, held(log, partition), undisturbed[partition])
    return wrong


def _chain(log: EventLog, partition: int) -> list[str]:
    streams = batches.contents(log, partition)
    if batches.verify(streams) != log.head(partition):
        return [f"partition {partition}: the chain does not end at the head"]
    for name, entries in streams.items():
        ids = [entry.id for entry in entries]
        if not all(a < b for a, b in itertools.pairwise(ids)):
            return [f"partition {partition}: the IDs of {name} do not ascend"]
    return []


def _once(stage: Stage, log: EventLog, partition: int, entries: list[Any]) -> list[str]:
    taken, payments = _taken(log, partition)
    generations: dict[tuple[str, str], list[int]] = {}
    begins: dict[tuple[str, int], int] = {}
    skipped: list[MessagesSkipped] = []
    for entry in entries:
        if isinstance(entry.event, SourceGenerationStarted):
            topic, number = entry.event.topic, entry.event.generation
            generations.setdefault((topic, entry.event.topic_id), []).append(number)
            if stage.server.emptied and entry.event.starts:  # Kafka held nothing older when the log was begun anew
                begins[topic, number] = entry.event.starts[partition]
        if isinstance(entry.event, MessagesSkipped):
            skipped.append(entry.event)
    wrong: list[str] = []
    expected: set[tuple[str, Position]] = set()
    for sent in stage.sent:
        role, identity = sent.role, sent.topic_id
        if sent.partition != partition or identity != stage.broker.topics[role].identity:
            continue
        places = [(role, Position(n, sent.offset + 1)) for n in generations.get((role, identity), [-1])]
        expected.update(places)
        is_older = any(sent.offset < begins.get((role, at.generation), 0) for _, at in places)
        if not is_older and not any(taken[place] or _is_skipped(sent, place[1], skipped) for place in places):
            wrong.append(f"lost: partition {partition}, {role} {places[-1][1]}")
        elif any(taken[place] > 1 for place in places):
            wrong.append(f"twice: partition {partition}, {role} {places[-1][1]}")
    if not stage.happened["recreated"]:
        wrong += [f"out of nowhere: partition {partition}, {place}" for place in sorted(taken.keys() - expected)]
    if not stage.scenario.is_history:
        wrong += [f"decided twice: payment {name}" for name, count in payments.items() if count > 1]
    return wrong


def _taken(log: EventLog, partition: int) -> tuple[Counter[tuple[str, Position]], Counter[str]]:
    """How often the log has what each source position brought, and each payment."""
    streams = batches.contents(log, partition)
    taken: Counter[tuple[str, Position]] = Counter()
    payments: Counter[str] = Counter()
    for entry in streams["transactions"]:
        taken[ROLES[0], entry.id] += 1
        event = msgspec.json.decode(entry.payload, type=dict[str, Any])
        payments[event["transaction_id"]] += 1
    for entry in streams["feedback"]:
        taken[ROLES[1], entry.id] += 1
    for entry in streams["rejects"]:
        reject = decode_reject(entry.payload)
        taken[reject.topic, Position.parse(reject.position)] += 1
    return taken, payments


def _is_skipped(sent: Sent, position: Position, skipped: list[MessagesSkipped]) -> bool:
    return any(
        (each.topic, each.partition, each.generation) == (sent.role, sent.partition, position.generation)
        and each.first_offset <= sent.offset < each.next_offset
        for each in skipped
    )


def _published(stage: Stage, log: EventLog, partition: int) -> list[str]:
    scores = {entry.id: decode_score(entry.payload) for entry in log.read(partition, "scores", count=10**6)}
    missing = [position for position in scores if (partition, position) not in stage.published]
    wrong = [f"not published: partition {partition}, {position}" for position in missing]
    is_damaged = stage.server.lost_tail or stage.server.emptied
    for (number, position), said in stage.published.items():
        if number != partition or is_damaged:
            continue
        score = scores.get(position)
        if score is None or said != {(score.decision, score.probability)}:
            wrong.append(f"published otherwise than logged: partition {partition}, {position}: {said}")
    return wrong


def _same_bits(stage: Stage, log: EventLog, partitions: range) -> list[str]:
    timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, load_tiny))
    wrong = []
    for partition in partitions:
        head = log.head(partition)
        if stage.server.lost_tail and (told := _told_from(log, partition)) is not None:
            stage.happened["decided under lost events"] += 1
            head = told
        found = verification.verify(log, partition, head, timeline)
        if found.identical != found.decisions or found.first_difference is not None or found.undecidable:
            wrong.append(
                f"different bits: partition {partition}, {found.decisions - found.identical} of {found.decisions},"
                f" first {str(found.first_difference)[:300]}, {found.undecidable}"
            )
    return wrong


def _told_from(log: EventLog, partition: int) -> Head | None:
    """Where the partition's log ends before the first seal that names another control stream than the log's, which
    `sentinel verify` tells: that batch was on its way under events that the log server lost with its last second,
    before their reader knew. None if no seal does.
    """
    before = Head()
    chain = check_control(log)
    for entry in log.read(partition, "seals", count=10**6):
        sealed = decode_seal(entry.payload)
        number = entry.id.generation
        if sealed.control_digest:
            named = Named(partition, number, sealed.control, sealed.control_digest)
            if check_named(log, chain, [named]):
                return before
        before = head_of(number, sealed)
    return None


def _different(partition: int, found: Held, expected: Held) -> list[str]:
    for name in Held._fields:
        a, b = getattr(found, name), getattr(expected, name)
        if a != b:
            first = next((pair for pair in itertools.zip_longest(a, b) if pair[0] != pair[1]), None)
            return [f"not as undisturbed: partition {partition}, {name}: {str(first)[:600]}"]
    return []
