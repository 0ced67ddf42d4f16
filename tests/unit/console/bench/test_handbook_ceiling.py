"""The ceiling of the Handbook's data: its test rows, Bayes by hand, and that nothing is known before its time."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from console.bench import handbook_ceiling as ceiling
from console.bench.handbook_ceiling import Payments
from core.errors import BadInput
from core.times import DAY_MS
from tests.builders.handbook import START, payments, written

DAY0 = int(START.timestamp() * 1000) // DAY_MS


def made(rows: list[tuple[float, int, int, float, int]]) -> Payments:
    """Payments of (day, customer, terminal, amount, scenario)."""
    days, customers, terminals, amounts, scenarios = zip(*rows, strict=True)
    return Payments(
        np.array(days) + 20_000.0,
        np.array(customers),
        np.array(terminals),
        np.array(amounts, dtype=np.float64),
        np.array(scenarios) > 0,
        np.array(scenarios, dtype=np.int8),
    )


def at_terminal(day: float, history: list[tuple[float, int]]) -> float:
    """P(fraud) of a payment of another customer at a terminal with these (day, scenario) before it."""
    rows = [(d, 100 + n, 1, 50.0, s) for n, (d, s) in enumerate(history)]
    plain = [(day - 30 + n / 10, 1, 2, 50.0, 0) for n in range(20)]
    return float(ceiling.scores(made([*plain, *rows, (day, 1, 1, 50.0, 0)]), np.array([20 + len(rows)]))[0])


def test_the_test_rows_are_the_handbooks() -> None:
    """Customers with a fraud in training are out; with one on day d − 1 after it, out from test day d on."""
    frame = payments(days=40, seed=3, many=3)
    rows = ceiling.handbook_test_rows(_payments(frame), DAY0 + 10)
    every = list(frame.iter_rows(named=True))
    by_day = [(r["TX_DATETIME"].date() - START.date()).days for r in every]
    wanted: list[int] = []
    for day in range(24, 31):
        known = {r["CUSTOMER_ID"] for r, d in zip(every, by_day, strict=True) if r["TX_FRAUD"] and 10 <= d <= day - 8}
        wanted += [i for i, r in enumerate(every) if by_day[i] == day and r["CUSTOMER_ID"] not in known]
    assert rows.tolist() == wanted and 0 < len(wanted) < 1400


def test_a_terminal_is_certain_from_seven_days_to_its_end() -> None:
    """Nothing is known for 7 days; then fraud is certain while it must go on, and impossible 28 days after."""
    clean = [(float(d), 0) for d in range(20)]
    bad = [(20.5 + n, 2) for n in range(28)]
    hidden = at_terminal(27.4, [*clean, *bad[:7]])
    assert 0.0 < hidden < 0.01
    assert at_terminal(27.6, [*clean, *bad[:7]]) > 0.99
    assert at_terminal(47.9, [*clean, *bad]) > 0.99
    assert at_terminal(49.0, [*clean, *bad]) < 0.01


def test_the_last_day_is_as_likely_as_the_days_the_first_fraud_may_have_come_after() -> None:
    """Clean on day 10, fraud on day 14: the run began on 11 … 14 with equal odds, so on day 40 two of four go on."""
    history = [(10.2, 0), *((14.2 + n, 2) for n in range(15))]
    assert at_terminal(40.0, history) == pytest.approx(2 / 4, abs=0.01)
    assert at_terminal(38.0, history) > 0.99


def test_a_fraud_of_another_kind_says_nothing_of_the_terminal() -> None:
    """A large amount or a multiplied one at the terminal does not make the next payment there suspicious."""
    for kind in (1, 3):
        assert at_terminal(30.0, [(10.0, 0), (15.0, kind)]) < 0.01


def test_a_large_amount_is_certain() -> None:
    """Above 220 is fraud; 220 is not."""
    rows = [(d / 10, 1, 1, 90.0, 0) for d in range(50)] + [(6.0, 1, 1, 220.0, 0), (6.1, 1, 1, 220.01, 1)]
    found = ceiling.scores(made(rows), np.array([50, 51]))
    assert found[0] < 1.0 and found[1] == 1.0


def test_a_multiplied_amount_by_hand() -> None:
    """The posterior of an unusual amount is Bayes' rule; a multiplied one some days before raises it."""
    plain = [(d / 5, 1, 2, a, 0) for d, a in enumerate([10.0, 30.0] * 30)]  # none in the fortnight before day 40
    mean = (60 * 20.0 + 45.0) / 61 / (1.0 + math.exp(-2.0) / math.sqrt(2 * math.pi) / 2)

    def density(x: float) -> float:
        normal = math.exp(-2.0 * (x / mean - 1) ** 2) / (mean / 2 * math.sqrt(2 * math.pi))
        return normal + (x <= 2 * mean) * 0.02275013 / (2 * mean)

    compromised = 14 * 3 / 5_000
    fraud = compromised / 3 * density(45.0 / 5) / 5
    other = (1 - compromised / 3) * density(45.0)
    multiplied, at_a_new_terminal = fraud / (fraud + other), 28 * 2 / 10_000
    score = ceiling.scores(made([*plain, (40.0, 1, 1, 45.0, 0)]), np.array([60]))[0]
    assert score == pytest.approx(1 - (1 - multiplied) * (1 - at_a_new_terminal), rel=1e-6)
    two = made([*plain, (39.0, 1, 3, 140.0, 3), (40.0, 1, 1, 45.0, 0)])
    assert ceiling.scores(two, np.array([61]))[0] > 10 * score


def test_no_label_is_known_before_its_time() -> None:
    """Changing every label younger than 7 days, and the payments to come, changes no score but by the mean amounts."""
    world = _payments(payments(days=45, seed=5, many=2))
    now = DAY0 + 38.5
    rows = np.flatnonzero((world.times >= now) & (world.times < now + 0.2))
    before = ceiling.scores(world, rows)
    young = world.times > now - 7.0 + 0.2
    turned = np.where(young & (world.scenarios != 3), np.where(world.scenarios == 2, 0, 2), world.scenarios)
    other = replace(world, scenarios=turned.astype(np.int8), frauds=turned > 0)
    np.testing.assert_array_equal(ceiling.scores(other, rows), before)


def test_drawn_labels_follow_the_scores() -> None:
    """Labels come as often as the scores say, and the same for the same seed."""
    scores = np.repeat([0.0, 0.25, 1.0], 4_000)
    draws = ceiling.drawn(scores, 5, 7)
    for labels in draws:
        assert labels[:4_000].sum() == 0 and labels[8_000:].all()
        assert labels[4_000:8_000].mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_array_equal(draws[0], ceiling.drawn(scores, 1, 7)[0])


def test_another_file_is_refused(tmp_path: Path) -> None:
    """A file that is absent or lacks a column is BadInput."""
    with pytest.raises(BadInput):
        ceiling.load(tmp_path / "none.parquet")
    with pytest.raises(BadInput):
        ceiling.load(written(payments(days=2).drop("TX_FRAUD"), tmp_path / "x.parquet"))


def _payments(frame: object, path: Path | None = None) -> Payments:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return ceiling.load(written(frame, Path(folder) / "h.parquet"))  # type: ignore[arg-type]
