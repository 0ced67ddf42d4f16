"""`sentinel program radius`: what a rule or a program touched, as a recount of the log has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console import wiring
from core.codec import decode_score, decode_transaction
from core.control_stream import identity_of
from core.log.archive import archiver
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.memory import MemoryLog
from projections.labelling.reader import LabelReader
from tests.builders.baseline_log import PARTITIONS, fill
from tests.builders.command_line import run_command
from tests.builders.logs import entries

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> ArchivedLog:
    """Partition 0 in an archive, the others hot."""
    hot = MemoryLog()
    fill(hot, transactions=1500, accounts=30)
    found = ArchivedLog(hot, open_archive(str(tmp_path_factory.mktemp("archive"))))
    archiver.archive_partition(hot, found.archive, 0, recorded_until=2**62, segment_transactions=200)
    return found


@pytest.fixture
def run(log: ArchivedLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)

    def run(*arguments: str) -> tuple[int, str]:
        return run_command(monkeypatch, capsys, "program", "radius", *arguments).told

    return run


def test_a_rules_radius_is_a_recount(run: Run, log: ArchivedLog) -> None:
    """Hits, customers, amounts and later labels of a rule, from archive and hot log."""
    code, out = run("--rule", "LIST_WATCH", "--json")
    assert code == 0, out
    found: Any = json.loads(out.splitlines()[-1])["touched"]
    labels = LabelReader(log, range(PARTITIONS)).view()
    accounts, amount, wrong, frauds, times, alone = set(), 0.0, 0, 0, [], 0
    for p in range(PARTITIONS):
        for t, s in zip(entries(log, p, "transactions"), entries(log, p, "scores"), strict=True):
            payment, score = decode_transaction(t.payload), decode_score(s.payload)
            if "LIST_WATCH" not in score.rules:
                continue
            label = labels.label(payment.account_id, payment.transaction_id)
            accounts.add(payment.account_id)
            times.append(payment.occurred_at)
            amount += payment.amount
            wrong += label == "legitimate" and score.decision != "approve"
            frauds += label == "fraud"
            alone += score.rules == ("LIST_WATCH",)
    assert found["count"] == len(times) > 20 and found["accounts"] == len(accounts)
    assert found["amount"] == pytest.approx(amount)
    assert (found["wrongly_stopped"], found["frauds"], found["alone"]) == (wrong, frauds, alone) and wrong > 0
    assert (found["first_ms"], found["last_ms"]) == (min(times), max(times))
    assert found["programs"] == {identity_of(log).program[:16]: len(times)}


def test_a_program_and_text_for_people(run: Run, log: ArchivedLog) -> None:
    """A program's radius is all that it decided; the words say how much and what became known."""
    code, out = run("default", "--json")
    total = sum(log.length(p, "scores") for p in range(PARTITIONS))
    assert code == 0 and json.loads(out.splitlines()[-1])["touched"]["count"] == total
    code, out = run("default", "--rule", "LIST_WATCH")
    assert code == 0 and "wrongly stopped" in out and "customers" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a program, a rule"),
        (("--rule", "LIST_WACH"), "no program that decided here"),
        (("nobody",), "nobody"),
    ],
)
def test_mistakes_are_named(run: Run, arguments: tuple[str, ...], said: str) -> None:
    """Nothing named, an unknown rule or program: exit code 2 and a sentence that says what is wrong."""
    code, out = run(*arguments)
    assert code == 2 and said in out and "Traceback" not in out, out
