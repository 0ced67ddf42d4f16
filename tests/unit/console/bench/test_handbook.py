"""The Handbook's protocol on a small world: the deployed models decide the test, and their scores come from the log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from console.bench import handbook
from console.bench.handbook import Protocol
from core.errors import BadInput, Corrupt
from core.log.base import EventLog
from core.times import DAY_MS
from learners.training.splits import Split
from tests.builders.handbook import START, payments, written

DAY0 = int(START.timestamp() * 1000)
PROTOCOL = Protocol(Split(*(DAY0 + d * DAY_MS for d in (38, 45, 52, 59))))


@pytest.fixture(autouse=True, scope="module")
def _daily_tables() -> object:
    """Tables once a day and few trees: the test is about the path, not about the figures."""
    patch = pytest.MonkeyPatch()
    patch.setattr(handbook, "REFERENCE_HOURS", 24)
    patch.setattr(handbook, "ROUNDS", 30)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(payments(days=60, per_day=150, seed=2, many=2), tmp_path_factory.mktemp("h") / "h.parquet")


def test_the_whole_protocol(path: Path) -> None:
    """Both models find fraud, the rows are the Handbook's, live scores are the log's, and it is the same every time."""
    first = handbook.run(path, PROTOCOL)
    assert first["live_equals_offline"] and first["test_rows"] < 7 * 150 and first["test_frauds"] > 10
    for name in ("7_days", "all_history"):
        assert first[name]["auc_roc"] > 0.6 and first[name]["share_of_ceiling"]["average_precision"] > 0
    assert first["7_days"]["digest"] != first["all_history"]["digest"]
    again = handbook.run(path, PROTOCOL)
    assert {**first, "cpu_s": 0} == {**again, "cpu_s": 0}
    assert "of ceiling" in handbook.table(first)


def test_a_live_score_that_differs_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of difference between what was deployed and what is scored from the log stops the benchmark."""
    real = handbook.live_scores

    def one_bit_off(log: EventLog, test: handbook.TrainingSet) -> handbook.Scores:
        scores = real(log, test)
        scores["all_history"][5] = np.nextafter(scores["all_history"][5], np.inf)
        return scores

    monkeypatch.setattr(handbook, "live_scores", one_bit_off)
    with pytest.raises(Corrupt):
        handbook.run(path, PROTOCOL)


def test_other_data_is_refused(path: Path) -> None:
    """A file that gives another number of test rows than the published one is not measured."""
    with pytest.raises(BadInput, match="58,264"):
        handbook.run(path, Protocol(PROTOCOL.split, 58_264))
