"""What an installation needs for the payments that it must take: partitions, workers, memory, disk. Pure.

All of it follows from `FIGURES`, each of which was measured and says where, from sizes that the code fixes (such as an
account's record), and from `MARGINS`, which are choices. tests/unit/console/test_capacity.py measures the sizes again.

    a worker's CPU a second = PAYMENT_US · payments + APPEND_US · appends
    appends a second        = LOOPS · the partitions that a loop's payments fall into

Payments come at random, so m payments of one loop fall into k·(1 − (1 − 1/k)^m) of a worker's k partitions. A busy
worker makes fewer and larger appends, down to `slow_loops`, before it falls behind.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from core.errors import BadInput
from core.features.record import ACCOUNT
from core.features.remembered import KEY, KEYS_MAX
from core.features.spec import DUPLICATE_MEMORY
from core.settings import Settings

DAY_S = 86_400
WORKERS_MAX = 1_000
IDLE_CORES = 0.005
"""A worker that payments take less of than this has time to spare, however small its appends are."""


class Figure(NamedTuple):
    """A measured figure, its unit, and where it was measured."""

    value: float
    unit: str
    source: str


FIGURES = {
    "payment": Figure(20, "µs of a worker's CPU a payment", "docs/benchmarks.md, Throughput and latency"),
    "append": Figure(170, "µs of a worker's CPU a partition and append", "docs/benchmarks.md, Throughput and latency"),
    "loops": Figure(
        58,
        "appends a second to each busy partition, at 5,000/s",
        "docs/benchmarks.md: 7.1 payments a partition and batch",
    ),
    "aggregate": Figure(0.45, "µs a payment and aggregate", "docs/benchmarks.md, Experiments between programs"),
    "tokens": Figure(1.15, "times the CPU, in a log with tokens", "docs/privacy.md, The vault"),
    "log_server": Figure(15.7, "µs of the log server's CPU a payment", "docs/benchmarks.md, on the local stack"),
    "hot": Figure(771, "bytes a payment in the hot log", "docs/benchmarks.md, Parts"),
    "archive": Figure(160, "bytes a payment in the archive", "docs/reliability.md, Soak"),
    "message": Figure(260, "bytes of a message in Kafka, with its key", "tests/unit/console/test_capacity.py"),
    "worker": Figure(284, "MB of a worker without accounts", "docs/reliability.md, Real faults"),
    "name": Figure(512, "bytes an account, beside its record", "docs/settings.md, accounts_max: 5 kB each"),
    "index": Figure(103, "bytes of the console's memory a decision of the log", "console/api/index.py"),
    "labels": Figure(12, "bytes a payment of the last 180 days", "docs/queries.md, labels"),
    "verify": Figure(22, "µs to verify an archived payment", "docs/backup.md, Restoring"),
    "replay": Figure(17, "µs to decide an archived payment again", "docs/benchmarks.md, Replay and folding"),
}
"""What the calculation rests on, by name."""

MARGINS = {
    "core_share": (
        0.8,
        "of a core is the most that a worker may use while one of its fellows is gone, or a log server",
    ),
    "slow_loops": (10.0, "appends a second to each busy partition are enough meanwhile: a payment waits 100 ms"),
    "memory_share": (0.8, "of maxmemory is used, and maxmemory is as much of the machine's memory"),
    "file_times": (3.0, "times the log's size on its disk: the file doubles before it is written anew, beside itself"),
    "accounts_share": (0.8, "of a partition's accounts_max is in use"),
}
"""Choices, not measurements."""


class Demand(NamedTuple):
    """What is to be taken. payments_per_s: at the busiest; payments_per_day: on an average day. aggregates,
    program_bytes: of a program of one's own. hot_hours, archive_days, kafka_days: how long each keeps payments.
    accounts_max: of a partition.
    """

    payments_per_s: float
    payments_per_day: float
    accounts: int
    hot_hours: float = 24.0
    archive_days: float = 365.0
    kafka_days: float = 7.0
    aggregates: int = 0
    program_bytes: int = 0
    tokens: bool = False
    accounts_max: int = Settings().accounts_max
    hot_bytes: float = FIGURES["hot"].value
    archive_bytes: float = FIGURES["archive"].value


class Capacity(NamedTuple):
    """What that needs. Sizes in bytes, of one worker where the name says so; CPU in cores; times in hours of one core.

    workers: so many that one may be lost. log_server_bytes: of the log alone; log_server_memory_bytes: of the machine,
    or of all masters together. notes: what to look at, in words.
    """

    partitions: int
    workers: int
    worker_cores: float
    account_bytes: int
    worker_memory_bytes: int
    snapshot_bytes: int
    log_server_cores: float
    log_server_masters: int
    log_server_bytes: int
    log_server_maxmemory_bytes: int
    log_server_memory_bytes: int
    log_server_disk_bytes: int
    kafka_bytes: int
    archive_bytes_a_day: int
    archive_bytes: int
    console_index_bytes: int
    labels_bytes: int
    verify_hours: float
    replay_hours: float
    notes: tuple[str, ...]


def plan(demand: Demand) -> Capacity:
    """What the demand needs. Raises BadInput if a number makes no sense, or no number of workers is enough."""
    _check(demand)
    partitions, workers = _shared(demand)
    left = workers - 1
    record = ACCOUNT.itemsize + demand.program_bytes + int(FIGURES["name"].value)
    held = demand.accounts * record
    hot = demand.payments_per_day * demand.hot_hours / 24 * demand.hot_bytes
    share = MARGINS["memory_share"][0]
    cores = demand.payments_per_s * FIGURES["log_server"].value / 1e6
    kept = demand.payments_per_day * demand.archive_days
    return Capacity(
        partitions=partitions,
        workers=workers,
        worker_cores=round(min(cores_of(demand, partitions, workers), MARGINS["core_share"][0]), 3),
        account_bytes=record,
        worker_memory_bytes=int(
            FIGURES["worker"].value * 1e6 + held / left + held / partitions + _remembered(demand) * partitions / left
        ),
        snapshot_bytes=held,
        log_server_cores=round(cores, 3),
        log_server_masters=max(1, math.ceil(cores / MARGINS["core_share"][0])),
        log_server_bytes=int(hot),
        log_server_maxmemory_bytes=int(hot / share),
        log_server_memory_bytes=int(hot / share / share),
        log_server_disk_bytes=int(hot * MARGINS["file_times"][0]),
        kafka_bytes=int(demand.payments_per_day * demand.kafka_days * FIGURES["message"].value),
        archive_bytes_a_day=int(demand.payments_per_day * demand.archive_bytes),
        archive_bytes=int(kept * demand.archive_bytes),
        console_index_bytes=int(kept * FIGURES["index"].value),
        labels_bytes=int(demand.payments_per_day * min(demand.archive_days, 180) * FIGURES["labels"].value),
        verify_hours=round(kept * FIGURES["verify"].value / 3.6e9, 3),
        replay_hours=round(kept * FIGURES["replay"].value / 3.6e9, 3),
        notes=tuple(_notes(demand, partitions, workers, cores)),
    )


def cores_of(demand: Demand, partitions: int, workers: int, loops: float = FIGURES["loops"].value) -> float:
    """CPU of one of so many workers at the busiest, in cores, if it makes so many loops a second."""
    payments, owned = demand.payments_per_s / workers, partitions / workers
    fallen = payments / loops
    touched = owned * (1 - (1 - 1 / owned) ** fallen) if owned > 1 else min(fallen, 1.0)
    payment = FIGURES["payment"].value + demand.aggregates * FIGURES["aggregate"].value
    times = FIGURES["tokens"].value if demand.tokens else 1.0
    return (payment * payments + FIGURES["append"].value * loops * touched) * times / 1e6


def cores_at_most(demand: Demand, partitions: int, workers: int) -> float:
    """CPU of one of so many workers at the busiest if it makes its batches as large as it may."""
    loops = max(MARGINS["slow_loops"][0], demand.payments_per_s / workers / Settings().batch_size)
    return cores_of(demand, partitions, workers, loops)


def _check(demand: Demand) -> None:
    for name, value in demand._asdict().items():
        least = 1 if name in ("accounts", "accounts_max") else 0
        if not math.isfinite(value) or value < least or (name == "payments_per_s" and value == 0):
            raise BadInput(f"{name.replace('_', ' ')}: {value:g} is too small, or no number")
    if demand.payments_per_day > demand.payments_per_s * DAY_S:
        raise BadInput(
            f"{demand.payments_per_day:,.0f} payments a day are more than {demand.payments_per_s:g} a second, all day"
        )


def _shared(demand: Demand) -> tuple[int, int]:
    """Partitions and workers: more workers need more partitions, and more partitions cost workers more."""
    partitions, workers = 0, 2
    while (wanted := _partitions(demand, workers)) > partitions:
        partitions, workers = wanted, _workers(demand, wanted)
    return partitions, workers


def _partitions(demand: Demand, workers: int) -> int:
    """A multiple of twelve, which many numbers of workers divide: two for each worker, and room for the accounts."""
    accounts = demand.accounts / (demand.accounts_max * MARGINS["accounts_share"][0])
    return 12 * math.ceil(max(1.0, 2 * workers / 12, accounts / 12))


def _workers(demand: Demand, partitions: int) -> int:
    """The least number, at least two, of which one may be lost."""
    for workers in range(2, WORKERS_MAX + 1):
        if cores_at_most(demand, partitions, workers - 1) <= MARGINS["core_share"][0]:
            return workers
    raise BadInput(f"{demand.payments_per_s:,.0f} payments a second are more than {WORKERS_MAX} workers decide")


def _remembered(demand: Demand) -> float:
    """Bytes for payments of the last day beyond those in accounts' records, of a partition, at most."""
    if demand.payments_per_day <= demand.accounts * DUPLICATE_MEMORY:
        return 0.0
    return float(KEYS_MAX * (KEY.itemsize + 2 * 4))


def _notes(demand: Demand, partitions: int, workers: int, log_server: float) -> list[str]:
    found = []
    paid = FIGURES["payment"].value * demand.payments_per_s / workers / 1e6
    if paid > IDLE_CORES and cores_of(demand, partitions, workers) > 2 * paid:
        found.append("there are many partitions for so few payments: small appends take more CPU than the payments")
    if log_server > MARGINS["core_share"][0]:
        found.append("one log server is too slow: use a cluster, or several logs")
    if demand.payments_per_day * demand.archive_days > 1e9:
        found.append(
            "the console's index holds every decision of the log in memory: a log of this size is too large for it"
        )
    if demand.accounts / partitions > demand.accounts_max * MARGINS["accounts_share"][0]:
        found.append("accounts will be evicted")
    return found
