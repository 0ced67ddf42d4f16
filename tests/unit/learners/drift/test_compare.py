"""Comparing two windows: honest p-values for clustered rows, verdicts that need effect and significance."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import BadInput
from core.features import spec
from core.times import DAY_MS
from learners.drift import policy
from learners.drift.compare import FeatureDrift, clusters, compare, counted
from learners.drift.policy import SCORE, DriftConfig
from learners.drift.rows import Rows, empty, joined, same_hours
from learners.drift.statistics import quantile_edges
from tests.builders.drift import MONDAY, SETTLED_MS, rows

CONFIG = DriftConfig()
LATER = MONDAY + 14 * DAY_MS


def by_name(found: list[FeatureDrift]) -> dict[str, FeatureDrift]:
    return {each.feature: each for each in found}


def brute_variance(bins: list[int], windows: list[int], groups: list[object], width: int) -> np.ndarray:
    """Σ over groups of (their part of the difference of shares)², from the definition: (2, width)."""
    totals = [windows.count(w) for w in (0, 1)]
    pairs = list(zip(bins, windows, strict=True))
    shares = [[pairs.count((k, w)) / totals[w] for k in range(width)] for w in (0, 1)]
    out = np.zeros((2, width))
    for group in dict.fromkeys(groups):
        z = np.zeros(width)
        for b, w, g in zip(bins, windows, groups, strict=True):
            if g == group:
                z += (1 if w else -1) * (np.eye(width)[b] - shares[w]) / totals[w]
        out += [z**2, np.cumsum(z) ** 2]
    count = len(dict.fromkeys(groups))
    return out * (count / max(count - 2, 1))


def test_design_effects_are_those_of_the_definition() -> None:
    """Design effects equal a brute-force Taylor linearisation over accounts, days and both, at ten random windows."""
    for seed in range(10):
        before = rows(60, seed, accounts=9, days=3)
        after = rows(40, seed + 100, accounts=9, days=2, start=MONDAY + 2 * DAY_MS, shift=0.3)
        a, b = before.columns[0], after.columns[0].copy()
        b[:5] = np.nan
        edges = quantile_edges(np.sort(a), 4)
        counts, clustering = counted(a, b, edges, clusters(before, after))
        values = np.concatenate([a, b])
        bins = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values)).tolist()
        windows = [0] * 60 + [1] * 40
        accounts = [*before.accounts.tolist(), *after.accounts.tolist()]
        days = list(zip(windows, [*(before.times // DAY_MS).tolist(), *(after.times // DAY_MS).tolist()], strict=True))
        both = list(zip(accounts, days, strict=True))
        v = [brute_variance(bins, windows, list(groups), len(edges) + 2) for groups in (accounts, days, both)]
        v = [v[0], v[1], v[0] + v[1] - v[2]]
        pooled, scale = counts.sum(axis=0) / 100, 1 / 60 + 1 / 40
        used, below = pooled > 0, np.cumsum(pooled)[:-1]
        of_bins = [(x[0][used] / pooled[used]).sum() / scale / (used.sum() - 1) for x in v]
        of_values = [x[1][:-1].sum() / (below * (1 - below)).sum() / scale for x in v]
        assert clustering.bins.design_effect == pytest.approx(max(1, *of_bins))
        assert clustering.values.design_effect == pytest.approx(max(1, *of_values))


def test_identical_windows_have_not_drifted_and_different_ones_have() -> None:
    """Two samples of one distribution: no feature; log-means one deviation apart: all numeric ones and the score."""
    before = rows(4000, 1)
    same = by_name(compare(before, rows(2000, 2, start=LATER, days=7), CONFIG, SETTLED_MS))
    assert [name for name, each in same.items() if each.drifted] == []
    other = by_name(compare(before, rows(2000, 3, start=LATER, days=7, shift=1.0), CONFIG, SETTLED_MS))
    numeric = [name for name, p in policy.POLICIES.items() if p.kind == "numeric"]
    assert all(other[name].drifted and other[name].severity in ("medium", "high", "critical") for name in numeric)
    assert other[SCORE].drifted
    assert not any(other[name].drifted for name, p in policy.POLICIES.items() if p.kind != "numeric")
    assert other["amount"].effects["ks"] == pytest.approx(0.383, abs=0.03)


def test_a_tiny_difference_is_no_drift_however_many_rows_there_are() -> None:
    """At 100,000 rows a shift of 0.06 deviations is significant beyond doubt, and still not told."""
    before, after = (
        rows(100_000, 4, accounts=50_000),
        rows(100_000, 5, start=LATER, days=7, shift=0.06, accounts=50_000),
    )
    found = by_name(compare(before, after, CONFIG, SETTLED_MS))
    assert found["amount"].p_value_adjusted < 1e-6
    assert [name for name, each in found.items() if each.drifted] == []


def test_rows_of_one_account_count_as_little_as_they_say() -> None:
    """40 accounts whose every row is alike: 100 pairs of windows from fresh accounts alarm at most rarely, where
    independent rows would alarm nearly always.
    """
    alarms = naive = 0
    for seed in range(100):
        rng = np.random.Generator(np.random.PCG64(seed))
        windows = []
        for part in (0, 1):
            one = rows(2000, 2 * seed + part, accounts=40, days=7, start=MONDAY + 7 * part * DAY_MS)
            habits = rng.normal(0, 1, 40)
            one.columns[0] = habits[one.accounts.astype(np.int64)] + rng.normal(0, 0.05, 2000)
            windows.append(Rows(one.columns, one.margins, one.times, one.accounts + np.uint64(100 * part), *_rest(one)))
        found = by_name(compare(windows[0], windows[1], CONFIG, 0))["amount"]
        alarms += found.p_value <= 0.05
        naive += found.effects["ks"] * np.sqrt(1000) > 1.358
    assert alarms <= 12
    assert naive >= 90


def _rest(one: Rows) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    return one.transactions, one.models, one.digests


def test_what_moves_a_whole_day_is_not_drift() -> None:
    """Days that differ from each other as a whole make a difference between weeks that is not significant."""
    alarms = 0
    for seed in range(60):
        rng = np.random.Generator(np.random.PCG64(seed))
        windows = []
        for part in (0, 1):
            one = rows(3000, 2 * seed + part, accounts=1500, days=7, start=MONDAY + 7 * part * DAY_MS)
            one.columns[0] = rng.normal(0, 1, 8)[one.times // DAY_MS % 8] + rng.normal(0, 1, 3000)
            windows.append(one)
        alarms += by_name(compare(windows[0], windows[1], CONFIG, 0))["amount"].p_value <= 0.01
    assert alarms <= 4


def test_missing_values_are_a_bin_of_their_own() -> None:
    """A feature that stops coming drifts by PSI though the values left are the same; all NaN in both is none."""
    before, after = rows(3000, 8), rows(3000, 9, start=LATER, days=7)
    place, gone = spec.index("km_from_last"), spec.index("speed_kmh")
    after.columns[place, ::3] = np.nan
    before.columns[gone] = after.columns[gone] = np.nan
    found = by_name(compare(before, after, CONFIG, SETTLED_MS))
    assert found["km_from_last"].drifted
    assert found["km_from_last"].statistic == "psi"
    assert found["km_from_last"].missing == pytest.approx((0.0, 1 / 3))
    assert not found["speed_kmh"].drifted
    assert found["speed_kmh"].p_value == 1.0
    after.columns[place] = np.nan
    assert by_name(compare(before, after, CONFIG, SETTLED_MS))["km_from_last"].severity == "critical"


@pytest.mark.parametrize(("before_share", "after_share"), [(0.006, 0.08), (0.0, 0.05), (0.08, 0.006), (0.9, 0.999)])
def test_zero_inflated_features_are_seen_by_effect_and_by_test(before_share: float, after_share: float) -> None:
    """A feature that is 0 nearly everywhere, and then more or less often: told, by a p-value of its own bins."""
    before, after = rows(4000, 21), rows(2000, 22, start=LATER, days=7)
    place = spec.index("device_accounts_30d")
    for window, share, seed in ((before, before_share, 1), (after, after_share, 2)):
        rng = np.random.Generator(np.random.PCG64(seed))
        window.columns[place] = np.where(rng.random(len(window)) < share, rng.integers(1, 4, len(window)), 0)
    found = by_name(compare(before, after, CONFIG, SETTLED_MS))["device_accounts_30d"]
    assert found.drifted and found.statistic == "psi"
    assert found.p_value_adjusted < 1e-4


def test_constants_and_a_rare_flag() -> None:
    """A constant that stays is no drift; one that becomes another is critical; a flag that triples is seen by V."""
    before, after = rows(3000, 10), rows(3000, 11, start=LATER, days=7)
    stays, moves, flag = (spec.index(n) for n in ("count_10m", "count_1h", "device_is_new"))
    before.columns[stays] = after.columns[stays] = 0.0
    before.columns[moves], after.columns[moves] = 2.0, 3.0
    after.columns[flag] = np.random.Generator(np.random.PCG64(1)).random(3000) < 0.3
    found = by_name(compare(before, after, CONFIG, SETTLED_MS))
    assert not found["count_10m"].drifted
    assert {"ks", "psi"} <= set(found["count_10m"].effects)
    assert all(effect == pytest.approx(0, abs=1e-9) for effect in found["count_10m"].effects.values())
    assert found["count_1h"].severity == "critical"
    assert found["device_is_new"].drifted and found["device_is_new"].statistic == "cramers_v"


def test_what_is_not_tested_says_why() -> None:
    """Excluded, unsettled, too few rows or accounts, empty windows and another model: a state, no verdict, no crash."""
    before, after = rows(1000, 12), rows(1000, 13, start=LATER, days=7)
    found = by_name(compare(before, after, CONFIG, 10 * DAY_MS))
    assert found["transactions_total"].state == "excluded"
    assert found["sum_30d"].state == "settling" and found["sum_7d"].state == "tested"
    for a, b in ((before, empty()), (empty(), after), (empty(), empty()), (before, rows(100, 1, start=LATER))):
        states = {each.state for each in compare(a, b, CONFIG, SETTLED_MS)}
        assert states <= {"excluded", "too_few_rows", "model_changed"}
    few = rows(1000, 1, accounts=10, start=LATER)
    assert by_name(compare(before, few, CONFIG, SETTLED_MS))["amount"].state == "too_few_rows"
    other = Rows(
        after.columns, after.margins + 9, after.times, after.accounts, after.transactions, after.models, ("m2",)
    )
    assert by_name(compare(before, other, CONFIG, SETTLED_MS))[SCORE].state == "model_changed"
    degraded = Rows(
        *(getattr(after, n) for n in ("columns", "margins", "times", "accounts", "transactions")), after.models - 1
    )
    assert by_name(compare(before, degraded, CONFIG, SETTLED_MS))[SCORE].state == "too_few_rows"


def test_the_score_is_compared_within_one_model() -> None:
    """Rows that another model decided are left out of the score's comparison, in whichever part of the window."""
    before, after = rows(3000, 14), rows(3000, 15, start=LATER, days=7)
    models = (np.arange(3000) % 3 == 0).astype(np.int64)
    margins = after.margins + 50 * models
    mixed = Rows(after.columns, margins, after.times, after.accounts, after.transactions, models, ("m1", "m2"))
    found = by_name(compare(before, mixed, CONFIG, SETTLED_MS))[SCORE]
    assert found.state == "tested"
    assert not found.drifted


def test_every_feature_has_a_policy_with_a_reason() -> None:
    """The policies name the spec's features, in its order, each with a reason; categories ascend."""
    assert tuple(policy.POLICIES) == spec.NAMES
    assert all(p.reason for p in policy.POLICIES.values())
    assert all(list(p.categories) == sorted(p.categories) for p in policy.POLICIES.values())


def test_rows_join_by_time_and_keep_their_models() -> None:
    """Parts with models of their own numbering come out in order of time, each row with its digest."""
    a, b = rows(50, 1), rows(70, 2)
    b = Rows(b.columns, b.margins, b.times, b.accounts, b.transactions, np.arange(70) % 3 - 1, ("m2", "m1"))
    both = joined([a, b])
    assert (np.diff(both.times) >= 0).all()
    named = dict(zip(both.margins.tolist(), [(*both.digests, "")[m] for m in both.models.tolist()], strict=True))
    assert all(named[margin] == "m1" for margin in a.margins.tolist())
    assert [named[m] for m in b.margins.tolist()] == [("m2", "m1", "")[k] for k in b.models.tolist()]
    assert len(joined([])) == 0


def test_a_short_window_is_compared_with_the_same_hours_of_the_week() -> None:
    """For a window of a Tuesday morning the reference keeps Tuesday mornings; for a week it keeps everything."""
    before = rows(5000, 3)
    start = MONDAY + 15 * DAY_MS + 6 * spec.HOUR_MS
    kept = same_hours(before, start, start + 6 * spec.HOUR_MS)
    hours = (kept.times - MONDAY) // spec.HOUR_MS % 168
    assert set(hours.tolist()) == set(range(30, 36))
    assert len(same_hours(before, LATER, LATER + 7 * DAY_MS)) == 5000


def test_configurations_that_make_no_sense_are_refused() -> None:
    """Levels must ascend from above 0, q be a rate, counts be positive."""
    for wrong in (
        {"levels": policy.LEVELS | {"ks": (0.2, 0.1, 0.3, 0.4)}},
        {"levels": policy.LEVELS | {"psi": (0.0, 0.1, 0.2, 0.3)}},
        {"q": 1.0},
        {"rows_min": 0},
        {"bins": 99},
    ):
        with pytest.raises(BadInput):
            DriftConfig(**wrong)
