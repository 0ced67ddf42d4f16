"""Whether everything runs, as one answer: partitions, workers, servers, archive, read models, findings.

Everybody sees states and figures; addresses, names of hosts, paths and the words of errors are told to administrators.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Literal

import msgspec

from console.api.desk import Desk
from console.api.inspecting import Facts, Inspector, Looked
from console.server_findings import Finding, ServerFacts
from core.codec import decode_seal
from core.control import ControlState
from core.events import Position
from core.log.archive.archived import ArchivedLog
from core.log.base import EventLog
from core.log.paging import read
from ingest.backlog import Group, Member
from ingest.ownership import sources_of
from projections.engine.runner import Status

WAIT_S = 2.0


class PartitionRow(msgspec.Struct, frozen=True):
    """A partition of the log. position: of its last decision; sequence, sealed_at: its last seal, and when that was
    recorded (epoch ms, 0 for none). lag: records of Kafka that were not taken yet, at most, by topic; None: not known.
    worker: who owns it, "" for nobody. parked: why it is, "" if it is not. archived: up to which seal.
    """

    partition: int
    position: str
    sequence: int
    sealed_at: int
    lag: dict[str, int | None]
    worker: str
    parked: str
    archived: int


class WorkerRow(msgspec.Struct, frozen=True):
    """A member of the workers' group. last_seal_at: the newest seal of its partitions. host: for administrators."""

    name: str
    host: str
    partitions: tuple[int, ...]
    last_seal_at: int


class ServerRow(msgspec.Struct, frozen=True):
    """A log server. memory_max_bytes: 0 for no limit; version "": it does not say. address: for administrators."""

    address: str
    version: str
    memory_bytes: int
    memory_max_bytes: int
    clients: int
    uptime_s: int


class ArchiveRow(msgspec.Struct, frozen=True):
    """The archive. decisions: archived ones of all partitions. location: for administrators."""

    configured: bool
    location: str
    decisions: int


class ReadModelRow(msgspec.Struct, frozen=True):
    """A read model of this process. behind: entries that it has not folded yet; lag_s: since the oldest of them was
    recorded; position: where it is in each source. fault: its error, for administrators; else that it has one.
    """

    name: str
    version: int
    condition: str
    behind: int
    lag_s: float
    position: str
    fault: str


class FindingRow(msgspec.Struct, frozen=True):
    """A check of `sentinel doctor`. message and remedy are for administrators, "" for others."""

    check: str
    status: Literal["ok", "warn", "fail"]
    message: str
    remedy: str


class SystemAnswer(msgspec.Struct, frozen=True):
    """now, facts_at, findings_at: epoch ms; 0: nobody has answered yet, so ask again. group: state of the workers'
    consumer group, "" if it is not known; workers: None if the broker does not name them. problems: servers that did
    not answer, and their words for administrators.
    """

    now: int
    control: int
    partitions: list[PartitionRow]
    group: str
    workers: list[WorkerRow] | None
    log_servers: list[ServerRow]
    archive: ArchiveRow
    read_models: list[ReadModelRow]
    problems: dict[str, str]
    facts_at: int
    findings: list[FindingRow]
    findings_at: int


def system(desk: Desk, inspector: Inspector, *, has_details: bool) -> SystemAnswer:
    """The answer now. Waits up to WAIT_S for what servers say, at the first time."""
    looked, found = inspector.facts(WAIT_S), inspector.findings()
    now = int(time.time() * 1000)
    facts = looked.found if looked is not None else Facts({}, None, [], {})
    owners = facts.group.owners if facts.group is not None else ()
    names = _names(owners, has_details)
    partitions = [_partition(desk.log, desk.control, p, facts, names) for p in desk.partitions]
    sealed = {row.partition: row.sealed_at for row in partitions}
    return SystemAnswer(
        now=now,
        control=desk.control.position,
        partitions=partitions,
        group=facts.group.state if facts.group is not None else "",
        workers=_workers(facts.group, names, sealed, has_details),
        log_servers=[_server(each, has_details) for each in facts.servers],
        archive=_archive(desk, has_details),
        read_models=_read_models(desk.views.status(now), has_details),
        problems={name: said if has_details else "does not answer" for name, said in facts.problems.items()},
        facts_at=looked.at if looked is not None else 0,
        findings=_findings(found, has_details),
        findings_at=found.at if found is not None else 0,
    )


def _names(owners: Sequence[Member], has_details: bool) -> dict[str, Member]:
    """Names of the workers: the client's, with a number where several have the same; else only a number."""
    found: dict[str, Member] = {}
    for number, owner in enumerate(sorted(owners, key=lambda each: each.partitions), 1):
        name = owner.client_id if has_details else "worker"
        found[f"{name} {number}"] = owner
    return found


def _workers(
    group: Group | None, names: Mapping[str, Member], sealed: Mapping[int, int], has_details: bool
) -> list[WorkerRow] | None:
    """The group's members; None if they are not known: some brokers say "stable" and name nobody."""
    if group is None or (group.state == "stable" and not group.owners):
        return None
    return [
        WorkerRow(
            name,
            owner.host if has_details else "",
            owner.partitions,
            max((sealed.get(p, 0) for p in owner.partitions), default=0),
        )
        for name, owner in names.items()
    ]


def _partition(
    log: EventLog, control: ControlState, partition: int, facts: Facts, names: dict[str, Member]
) -> PartitionRow:
    head = log.head(partition)
    return PartitionRow(
        partition,
        str(head.transactions),
        head.sequence,
        _sealed_at(log, partition, head.sequence),
        lags(log, control, partition, facts),
        next((name for name, owner in names.items() if partition in owner.partitions), ""),
        control.parked.get(partition, ""),
        log.archive.end(partition).sequence if isinstance(log, ArchivedLog) else 0,
    )


def lags(log: EventLog, control: ControlState, partition: int, facts: Facts) -> dict[str, int | None]:
    """By topic (transactions, feedback), the partition's records that were not taken yet, at most; None: not known."""
    following = sources_of(control, partition).offsets(log.head(partition))
    lag: dict[str, int | None] = {}
    for role, offset in zip(("transactions", "feedback"), following, strict=True):
        end = facts.ends.get(role, {}).get(partition)
        lag[role] = None if end is None else max(end - max(offset, 0), 0)
    return lag


def _sealed_at(log: EventLog, partition: int, sequence: int) -> int:
    if not sequence:
        return 0
    found = read(log, partition, "seals", Position(sequence - 1, 0), 1)
    return decode_seal(found[-1].payload).recorded_at if found else 0


def _server(found: ServerFacts, has_details: bool) -> ServerRow:
    return ServerRow(
        found.address if has_details else "",
        found.version,
        found.memory_bytes,
        found.memory_max_bytes,
        found.clients,
        found.uptime_s,
    )


def _archive(desk: Desk, has_details: bool) -> ArchiveRow:
    if not isinstance(desk.log, ArchivedLog):
        return ArchiveRow(False, "", 0)
    count = sum(desk.log.archive.count(partition, "scores") for partition in desk.partitions)
    return ArchiveRow(True, str(desk.log.archive.store) if has_details else "", count)


def _read_models(found: Sequence[Status], has_details: bool) -> list[ReadModelRow]:
    ordered = sorted((each for each in found if each.current), key=lambda each: (each.projection, each.source))
    return [_read_model(name, list(each), has_details) for name, each in groupby(ordered, lambda s: s.projection)]


def _read_model(name: str, sources: Sequence[Status], has_details: bool) -> ReadModelRow:
    worst = next((each for each in sources if each.condition != "following"), sources[0])
    error = next((each.error for each in sources if each.error), "")
    return ReadModelRow(
        name,
        worst.version,
        worst.condition,
        sum(each.lag_events for each in sources),
        max(each.lag_seconds for each in sources),
        ",".join(each.place for each in sources),
        error if has_details or not error else "has an error",
    )


def _findings(found: Looked[list[Finding]] | None, has_details: bool) -> list[FindingRow]:
    if found is None:
        return []
    return [
        FindingRow(f.check, f.status, f.message if has_details else "", f.remedy if has_details else "")
        for f in found.found
    ]
