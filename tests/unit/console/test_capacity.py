"""What `sentinel capacity` works out: its sizes measured again, and that it errs on no side unnoticed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import archive as sizes
from console.capacity import FIGURES, Demand, cores_at_most, cores_of, plan
from console.commands.capacity import size_text
from core.errors import BadInput
from core.features.record import ACCOUNT
from core.log.archive import archiver
from core.log.archive.archive import open_archive
from core.log.memory import MemoryLog
from sources.catalogue import open_source
from sources.synthetic import SyntheticConfig
from tests.builders.command_line import run_command

ROOT = Path(__file__).resolve().parents[3]
PARTITIONS = 2
PAYMENTS = 20_000
USUAL = Demand(payments_per_s=100, payments_per_day=2e6, accounts=100_000)
"""Few enough that nothing but the least is needed."""


@dataclass
class Measured:
    """Bytes a payment in Kafka, in the hot log and in the archive."""

    message: float
    hot: float
    archive: float


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """A synthetic stream, decided as a worker does, in a log server and in an archive."""
    source = open_source("synthetic", synthetic=SyntheticConfig(transactions=PAYMENTS))
    sent = [r for chunk in source.records() for r in chunk if r.topic == "transactions"]
    log, folder = MemoryLog(), tmp_path_factory.mktemp("capacity")
    sizes.decide(source, log, PARTITIONS)
    archive = open_archive(str(folder / "archive"))
    for p in range(PARTITIONS):
        archiver.archive_partition(log, archive, p, recorded_until=sizes.EVER)
    return Measured(
        sum(len(r.value) + len(r.key) for r in sent) / len(sent),
        sizes.hot_bytes(log, PARTITIONS, folder / "valkey"),
        sizes.sizes(archive, folder / "archive", PARTITIONS)["archive_bytes_everything"],
    )


@pytest.mark.parametrize("name", ["message", "hot", "archive"])
def test_sizes_are_as_measured(measured: Measured, name: str) -> None:
    """Bytes a payment are within a quarter of what the calculation takes them for."""
    assert getattr(measured, name) == pytest.approx(FIGURES[name].value, rel=0.25)


def test_figures_stand_where_they_say() -> None:
    """A figure whose source is a page stands there, unless it follows from figures that do."""
    derived = {"loops", "aggregate", "name"}
    for name, each in FIGURES.items():
        page = re.match(r"docs/[\w-]+\.md", each.source)
        if page and name not in derived:
            text = (ROOT / page[0]).read_text(encoding="utf-8")
            assert re.search(rf"(?<![\d.]){re.escape(f'{each.value:g}')}(?!\d)", text), f"{name}: {each}"


def test_a_small_bank_needs_the_least() -> None:
    """Two workers, of which one may be lost, and twelve partitions; nothing is noted."""
    found = plan(USUAL)
    assert (found.partitions, found.workers, found.log_server_masters, found.notes) == (12, 2, 1, ())
    assert found.worker_memory_bytes > 100_000 * ACCOUNT.itemsize


def test_the_formula_gives_the_benchmark() -> None:
    """At 5,000/s on twelve partitions, one worker used 45.3 µs a payment (docs/benchmarks.md)."""
    demand = USUAL._replace(payments_per_s=5_000, payments_per_day=1e6)
    assert cores_of(demand, 12, 1) / 5_000 * 1e6 == pytest.approx(45.3, rel=0.1)


@pytest.mark.parametrize(
    ("more", "grows"),
    [
        ({"payments_per_s": 80_000.0}, ("workers", "log_server_cores", "log_server_masters")),
        ({"payments_per_day": 8e6}, ("log_server_bytes", "archive_bytes", "kafka_bytes", "verify_hours")),
        ({"accounts": 5_000_000}, ("partitions", "worker_memory_bytes", "snapshot_bytes")),
        ({"hot_hours": 72.0}, ("log_server_bytes", "log_server_maxmemory_bytes", "log_server_disk_bytes")),
        ({"archive_days": 730.0}, ("archive_bytes", "console_index_bytes", "replay_hours")),
        ({"program_bytes": 4_000}, ("account_bytes", "worker_memory_bytes")),
        ({"aggregates": 50, "tokens": True}, ("worker_cores",)),
    ],
)
def test_more_needs_more(more: dict[str, float], grows: tuple[str, ...]) -> None:
    """Each part of the demand shows where it must, and nothing shrinks by it."""
    before, after = plan(USUAL)._asdict(), plan(USUAL._replace(**more))._asdict()  # type: ignore[arg-type]
    assert all(after[name] > before[name] for name in grows)
    shrunk = [n for n in before if n not in ("notes", "worker_cores", "worker_memory_bytes") and after[n] < before[n]]
    assert shrunk == []


def test_no_partition_is_full_and_a_worker_may_be_lost() -> None:
    """Whatever the demand: accounts fit, every worker has partitions, and the others take over."""
    for rate in (1, 300, 4_000, 30_000, 200_000):
        for accounts in (1_000, 900_000, 20_000_000):
            demand = Demand(payments_per_s=rate, payments_per_day=rate * 20_000, accounts=accounts)
            found = plan(demand)
            assert found.partitions * demand.accounts_max * 0.8 >= accounts
            assert found.partitions >= 2 * found.workers
            assert cores_at_most(demand, found.partitions, found.workers - 1) <= 0.8


@pytest.mark.parametrize(
    "wrong",
    [
        {"payments_per_s": 0.0},
        {"payments_per_s": float("nan")},
        {"accounts": 0},
        {"hot_hours": -1.0},
        {"payments_per_day": 1e9},
        {"payments_per_s": 1e9, "payments_per_day": 1.0},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    """No payments, no accounts, negative times, more a day than all day long, more than workers can decide."""
    with pytest.raises(BadInput):
        plan(USUAL._replace(**wrong))  # type: ignore[arg-type]


def test_the_command_says_where_its_figures_come_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With --json: demand, plan and every figure's source; a program's aggregates take memory."""
    program = tmp_path / "own.toml"
    program.write_text(
        '[program]\nname = "own"\nversion = "1.0.0"\nuses = ["standard@1"]\n'
        "[features]\nlast_hour = \"count(account, '1h', amount > 100)\"\n",
        encoding="utf-8",
    )
    given = ("capacity", "--payments-per-second", 100, "--accounts", 1000, "--json")
    plain = run_command(monkeypatch, capsys, *given).json
    own = run_command(monkeypatch, capsys, *given, "--program", program).json
    assert plain["demand"]["payments_per_day"] == 8_640_000 and plain["workers"] == 2
    assert set(plain["figures"]) == set(FIGURES) and all(each["source"] for each in plain["figures"].values())
    assert own["demand"]["aggregates"] == 1 and own["account_bytes"] > plain["account_bytes"]


def test_the_command_speaks_to_people(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a figure, with its unit; what is remarkable is noted."""
    ran = run_command(
        monkeypatch, capsys, "capacity", "--payments-per-second", 90_000, "--accounts", 3_000_000, "--tokens"
    )
    assert ran.code == 0 and re.search(r"^archive_bytes +\d\S* TB$", ran.out, re.M)
    assert "note: one log server is too slow" in ran.out and "note: the console's index" in ran.out


def test_sizes_have_units() -> None:
    """Each size in the largest unit that it fills."""
    assert [size_text(size) for size in (999, 1_500, 2e6, 3.25e9, 1e12, 7e15)] == [
        *("999 bytes", "1.5 kB", "2 MB", "3.25 GB", "1 TB", "7 PB")
    ]
