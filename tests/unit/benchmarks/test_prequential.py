"""The week-by-week comparison on a small world: both models on the same rows, none with labels from the future."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from msgspec import structs

from benchmarks import prequential
from console.bench import handbook
from core.errors import BadInput
from core.times import DAY_MS
from learners.training.dataset import TrainingSet
from sources.catalogue import open_source
from tests.builders.handbook import payments, written


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    path = written(payments(days=80, per_day=120, seed=4, many=2), tmp_path_factory.mktemp("p") / "h.parquet")
    return prequential.decided(open_source("handbook", path=path, flush_feedback=True), 24, lambda text: None)


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handbook, "ROUNDS", 20)


def test_every_whole_week_from_day_37_on_is_tested(data: TrainingSet, tmp_path: Path) -> None:
    """80 days make six weeks, of which the fair opponent has the last; the figures are in range, and the table and the
    plot have them.
    """
    rows = prequential.weeks(data)
    result = prequential.summary(rows, rounds=20)
    origin = int(data.times[0]) // DAY_MS * DAY_MS
    assert [week["start_ms"] - origin for week in result["weeks"]] == [d * DAY_MS for d in (37, 44, 51, 58, 65, 72)]
    assert sum(week["rows"] for week in result["weeks"]) == sum(len(row["test"]) for row in rows) > 500
    assert ["frozen" in week for week in result["weeks"]] == [False] * 5 + [True]
    found = result["against"]
    assert (found["first month"]["weeks"], found["frozen"]["weeks"]) == (6, 1)
    assert 0.5 < found["first month"]["figures"]["adaptive"]["auc_roc"] <= 1.0
    gain = found["first month"]["average_precision_gain"]
    assert gain["low"] <= gain["value"] <= gain["high"] and gain["low"] < gain["high"]
    assert result["weeks"][0]["adaptive"] != result["weeks"][0]["first month"]
    assert len(prequential.table(result).splitlines()) == 2 + 6 + 2 * 5
    for name in ("p.png", "p.svg"):
        prequential.plot(result, tmp_path / name, "six weeks")
        assert (tmp_path / name).stat().st_size > 5_000


def test_no_model_knows_a_verdict_of_its_week(data: TrainingSet) -> None:
    """Verdicts that come after a week began change no score of it."""
    before = prequential.weeks(data)[0]["scores"]
    assert data.verdicts is not None
    start = int(data.times[0]) // DAY_MS * DAY_MS + 37 * DAY_MS
    late = data.verdicts.occurred_at > start
    said = [replace_verdict(s) if x else s for s, x in zip(data.verdicts.said, late.tolist(), strict=True)]
    other = prequential.weeks(replace(data, verdicts=replace(data.verdicts, said=said)))[0]
    assert other["test"].labels.sum() == 0
    for model in before:
        scored = dict(zip(_ids(other["test"]), other["scores"][model].tolist(), strict=True))
        mine = zip(_ids(prequential.weeks(data)[0]["test"]), before[model].tolist(), strict=True)
        assert all(scored[key] == score for key, score in mine)


def replace_verdict(said: object) -> object:
    return structs.replace(said, verdict="legitimate")  # type: ignore[type-var]


def _ids(test: TrainingSet) -> list[tuple[int, int]]:
    assert test.origin is not None
    return list(zip(test.origin.partitions.tolist(), test.origin.offsets.tolist(), strict=True))


def test_too_few_days_are_refused(data: TrainingSet) -> None:
    """Data that end before the first test week are BadInput."""
    with pytest.raises(BadInput):
        prequential.weeks(data.rows(np.arange(len(data)) < len(data) // 3))


def test_the_fair_opponent_is_the_adaptive_model_of_its_first_week(data: TrainingSet) -> None:
    """Trained on as many days with the labels of the same moment, it scores that week with the same bits."""
    last = prequential.weeks(data)[-1]["scores"]
    assert last["frozen"].tobytes() == last["adaptive"].tobytes() != last["first month"].tobytes()


def test_the_synthetic_stream_drifts_when_the_fair_weeks_begin() -> None:
    """Honest people spend more from that day on, and not without drift."""
    ratios = []
    for drift in ("behaviour", "none"):
        table = pl.concat(list(prequential.synthetic(drift, 3, accounts=60).tables()))
        honest = table.filter(~pl.col("is_fraud"))
        day = honest["occurred_at"] // DAY_MS - honest["occurred_at"].min() // DAY_MS  # type: ignore[operator]
        before, after = (honest.filter(part)["amount"].median() for part in (day < 70, day > 74))
        ratios.append(after / before)  # type: ignore[operator]
    assert ratios[0] > 1.2 and 0.9 < ratios[1] < 1.1
