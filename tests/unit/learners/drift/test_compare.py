"""Comparing windows: honest p-values for clustered rows, verdicts that need effect and evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom
from scipy.stats import t as student

from core.errors import BadInput
from core.features import spec
from core.times import DAY_MS
from learners.drift import clustered, kernels, policy
from learners.drift.figures import figures, is_slow
from learners.drift.policy import SCORE, DriftConfig
from learners.drift.rows import Rows, empty, joined
from tests.builders.drift import MONDAY, compared, rows

CONFIG = DriftConfig()
LATER = MONDAY + 14 * DAY_MS


def brute(a: np.ndarray, b: np.ndarray, before: Rows, after: Rows, days: int) -> tuple[float, float]:
    """Difference of means and p-value of one contrast, from the definitions in `clustered`, cluster by cluster. a, b:
    the contrast's value of every row.
    """
    n, m = len(b), len(a)
    mean = (a.sum() + b.sum()) / (n + m)
    own = a.mean()
    day = before.times // DAY_MS
    noise = [
        float(np.sum(a[(before.accounts == g) & (day == d)] - own))
        for g in np.unique(before.accounts)
        for d in np.unique(day)
    ]
    per_row = sum(x * x for x in noise) / m
    shocks = sum(float(np.sum(a[day == d] - own)) ** 2 for d in np.unique(day)) * days / (days - 1) / m
    s = np.array(
        [
            np.sum(b[after.accounts == g] - mean) / n - np.sum(a[before.accounts == g] - mean) / m
            for g in np.unique(np.concatenate([before.accounts, after.accounts]))
        ]
    )
    both = 1 / n + 1 / m
    by_account = (np.sum(s**2) - s.sum() ** 2 / len(s)) * len(s) / (len(s) - 1)
    parts = [per_row * both, max(by_account - per_row * both, 0.0), max(shocks - per_row, 0.0) * both]
    held = np.array([x * x for x in noise if x])
    carried = held.sum() ** 2 / (held**2).sum() if len(held) else 0.0
    freedom = [max(carried - 1, 0.5), max((s**2).sum() ** 2 / (s**4).sum() - 1, 0.5), days - 1]
    df = sum(parts) ** 2 / sum(v * v / f for v, f in zip(parts, freedom, strict=True))
    difference = float(b.mean() - a.mean())
    return difference, float(2 * student.sf(abs(difference) / np.sqrt(sum(parts)), df))


@pytest.mark.parametrize("known", [0, 1, 2, 3, 500])
def test_names_get_their_places(known: int) -> None:
    """Each known name has its place, also 0 and those that differ in one bit; any other has −1."""
    rng = np.random.Generator(np.random.PCG64(known))
    names = np.unique(np.append(rng.integers(0, 2**64, known, dtype=np.uint64), np.uint64(0)))[:known]
    asked = rng.permutation(np.concatenate([names, names ^ np.uint64(1), np.arange(40, dtype=np.uint64)]))
    places = {name: place for place, name in enumerate(names.tolist())}
    out = np.empty(len(asked), dtype=np.int64)
    kernels.numbers_of(names, asked, out)
    assert out.tolist() == [places.get(name, -1) for name in asked.tolist()]


@pytest.mark.parametrize("seed", range(6))
def test_p_values_are_those_of_the_definition(seed: int) -> None:
    """Differences and p-values of all contrasts equal a plain loop over accounts, days and account-days."""
    before = rows(300, seed, accounts=9, days=3)
    after = rows(120, seed + 100, accounts=11, days=1, start=MONDAY + 3 * DAY_MS, shift=0.2)
    a, b = before.columns[0], after.columns[0].copy()
    b[:5] = np.nan
    of = clustered.scale("numeric", a, (), 4)
    known = clustered.frame(before.accounts, before.times)
    place = clustered.placed(known, after.accounts, after.times, MONDAY + 4 * DAY_MS, (DAY_MS,))
    seen = clustered.Yardstick(of, known, a).windows(place, b)[0]
    a_of, m_of = clustered.Yardstick(of, known, a).blocks(1)
    for number in range(of.contrasts.shape[1]):
        if number > 0 and a_of[number - 1] < clustered.RARE * m_of[number - 1]:
            continue
        value = of.contrasts[:, number]
        rows_of = [value[clustered.binned(x, of.edges)] for x in (a, b)]
        difference, p = brute(*rows_of, before, after, 3)
        assert seen.differences[number] == pytest.approx(difference, abs=1e-12)
        if np.ptp(np.concatenate(rows_of)):
            assert seen.p_values[number] == pytest.approx(p, rel=1e-6)
        else:
            assert seen.p_values[number] == 1.0


def test_rare_bins_are_tested_by_their_accounts() -> None:
    """K of N accounts now against a of M in the reference: scipy's binomial tail, given k + a, for a rate that is
    higher by the tolerated factor.
    """
    before, after = rows(4000, 1, accounts=2000), rows(300, 2, accounts=2000, start=LATER, days=1)
    a, b = np.zeros(4000, dtype=np.float32), np.zeros(300, dtype=np.float32)
    a[:40], b[:12] = 1.0, 1.0
    rng = np.random.Generator(np.random.PCG64(1))
    rng.shuffle(a)
    of = clustered.scale("numeric", a, (), 10)
    known = clustered.frame(before.accounts, before.times)
    place = clustered.placed(known, after.accounts, after.times, LATER + DAY_MS, (DAY_MS,))
    yardstick = clustered.Yardstick(of, known, a)
    seen = yardstick.windows(place, b)[0]
    days = before.times // DAY_MS
    blocks = {(g, d) for g, d in zip(before.accounts.tolist(), days.tolist(), strict=True)}
    hit = {(g, d) for g, d, x in zip(before.accounts.tolist(), days.tolist(), a.tolist(), strict=True) if x}
    a_of, m_of = yardstick.blocks(1)
    assert a_of[1] / m_of[1] == pytest.approx(len(hit) / len(blocks))
    assert 1.0 <= len(blocks) / m_of[1] < 1.1
    active, k = len(set(after.accounts.tolist())), len(set(after.accounts[b > 0].tolist()))
    spread = 1 + yardstick.shock[2] / yardstick.noise[2]
    assert spread < 2.0
    odds = clustered.TOLERANCE * active / len(blocks)
    p = 2 * binom.sf(k - 1, k + len(hit), odds / (1 + odds))
    assert np.log(seen.p_values[of.names.index("bin 1")]) * spread == pytest.approx(np.log(p), rel=0.2)


def test_a_rare_value_may_vary_by_a_quarter() -> None:
    """A share that rises from 5 % to 6 % is no evidence at all, however many accounts there are; one of 10 % is."""
    p = []
    for share in (0.06, 0.1):
        before, after = rows(40_000, 1, accounts=40_000), rows(20_000, 2, accounts=40_000, start=LATER, days=7)
        a, b = (np.zeros(len(each), dtype=np.float32) for each in (before, after))
        a[: 40_000 // 20], b[: int(20_000 * share)] = 1.0, 1.0
        rng = np.random.Generator(np.random.PCG64(1))
        rng.shuffle(a)
        rng.shuffle(b)
        of = clustered.scale("numeric", a, (), 10)
        known = clustered.frame(before.accounts, before.times)
        place = clustered.placed(known, after.accounts, after.times, LATER + 7 * DAY_MS, (7 * DAY_MS,))
        seen = clustered.Yardstick(of, known, a).windows(place, b)[0]
        p.append(seen.p_values[of.names.index("bin 1")])
    assert p[0] > 0.5 and p[1] < 1e-12


def test_rows_of_one_shop_count_as_little_as_they_say() -> None:
    """Rows of 12 shops, each with a habit of its own, from as many accounts as rows: 100 pairs of windows from fresh
    shops are rarely significant with shops as clusters, and mostly without.
    """
    alarms = naive = 0
    for seed in range(100):
        rng = np.random.Generator(np.random.PCG64(seed))
        both, values = [], []
        for part in (0, 1):
            one = rows(600, 2 * seed + part, accounts=10**6, days=7, start=MONDAY + 7 * part * DAY_MS)
            shops = rng.integers(0, 12, 600)
            values.append((rng.normal(0, 1, 12)[shops] + rng.normal(0, 0.3, 600)).astype(np.float32))
            both.append(replace(one, shops=(shops + 100 * part).astype(np.uint64)))
        before, after = both
        of = clustered.scale("numeric", values[0], (), 10)
        p = []
        for shops in ((before.shops, after.shops), (None, None)):
            known = clustered.frame(before.accounts, before.times, shops[0])
            place = clustered.placed(known, after.accounts, after.times, MONDAY + 14 * DAY_MS, (7 * DAY_MS,), shops[1])
            p.append(clustered.Yardstick(of, known, values[0], by_accounts=False).windows(place, values[1])[0])
        alarms += p[0].p_values[0] <= 0.05
        naive += p[1].p_values[0] <= 0.05
    assert alarms <= 12
    assert naive >= 60


def test_with_one_row_an_account_it_is_the_unequal_means_test() -> None:
    """Independent rows: the variance of the rank contrast is that of two means, so p is near Welch's test's."""
    from scipy.stats import ttest_ind

    before, after = rows(3000, 1, accounts=10**6), rows(900, 2, accounts=10**6, start=LATER, days=1, shift=0.1)
    of = clustered.scale("numeric", before.columns[0], (), 10)
    known = clustered.frame(before.accounts, before.times)
    place = clustered.placed(known, after.accounts, after.times, LATER + DAY_MS, (DAY_MS,))
    seen = clustered.Yardstick(of, known, before.columns[0]).windows(place, after.columns[0])[0]
    ranks = [of.contrasts[clustered.binned(x.columns[0], of.edges), 0] for x in (before, after)]
    theirs = ttest_ind(*ranks, equal_var=False)
    assert np.log(seen.p_values[0]) == pytest.approx(np.log(theirs.pvalue), rel=0.25)
    assert seen.design_effects[0] == pytest.approx(1.0, abs=0.2)


def test_identical_windows_have_not_drifted_and_different_ones_have() -> None:
    """Two samples of one distribution: no feature; log-means one deviation apart: all numeric ones and the score."""
    before = rows(4000, 1)
    same = compared(before, rows(2000, 2, start=LATER, days=7))
    assert [name for name, each in same.items() if each.drifted] == []
    other = compared(before, rows(2000, 3, start=LATER, days=7, shift=1.0))
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
    found = compared(before, after)
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
            windows.append(replace(one, accounts=one.accounts + np.uint64(100 * part)))
        found = compared(windows[0], windows[1], settled_ms=0)["amount"]
        alarms += found.p_value <= 0.05
        naive += found.effects["ks"] * np.sqrt(1000) > 1.358
    assert alarms <= 12
    assert naive >= 90


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
        alarms += compared(windows[0], windows[1], settled_ms=0)["amount"].p_value <= 0.01
    assert alarms <= 4


def test_missing_values_are_a_bin_of_their_own() -> None:
    """A feature that stops coming drifts by PSI though the values left are the same; all NaN in both is none."""
    before, after = rows(3000, 8), rows(3000, 9, start=LATER, days=7)
    place, gone = spec.index("km_from_last"), spec.index("speed_kmh")
    after.columns[place, ::3] = np.nan
    before.columns[gone] = after.columns[gone] = np.nan
    found = compared(before, after)
    assert found["km_from_last"].drifted
    assert found["km_from_last"].statistic == "psi"
    assert found["km_from_last"].missing == pytest.approx((0.0, 1 / 3))
    assert not found["speed_kmh"].drifted
    assert found["speed_kmh"].p_value == 1.0
    after.columns[place] = np.nan
    assert compared(before, after)["km_from_last"].severity == "critical"


@pytest.mark.parametrize(("before_share", "after_share"), [(0.006, 0.08), (0.0, 0.05), (0.08, 0.006), (0.9, 0.999)])
def test_zero_inflated_features_are_seen_by_effect_and_by_test(before_share: float, after_share: float) -> None:
    """A feature that is 0 nearly everywhere, and then more or less often: told, by a p-value of its own bins."""
    before, after = rows(4000, 21), rows(2000, 22, start=LATER, days=7)
    place = spec.index("device_accounts_30d")
    for window, share, seed in ((before, before_share, 1), (after, after_share, 2)):
        rng = np.random.Generator(np.random.PCG64(seed))
        window.columns[place] = np.where(rng.random(len(window)) < share, rng.integers(1, 4, len(window)), 0)
    found = compared(before, after)["device_accounts_30d"]
    assert found.drifted and found.statistic in ("h", "psi")
    assert found.p_value_adjusted < 1e-3


def test_constants_and_a_rare_flag() -> None:
    """A constant that stays is no drift; one that becomes another is critical; a flag that triples is seen."""
    before, after = rows(3000, 10), rows(3000, 11, start=LATER, days=7)
    stays, moves, flag = (spec.index(n) for n in ("count_10m", "count_1h", "device_is_new"))
    before.columns[stays] = after.columns[stays] = 0.0
    before.columns[moves], after.columns[moves] = 2.0, 3.0
    after.columns[flag] = np.random.Generator(np.random.PCG64(1)).random(3000) < 0.3
    found = compared(before, after)
    assert not found["count_10m"].drifted
    assert {"ks", "psi"} <= set(found["count_10m"].effects)
    assert all(effect == pytest.approx(0, abs=1e-9) for effect in found["count_10m"].effects.values())
    assert found["count_1h"].severity == "critical"
    assert found["device_is_new"].drifted and found["device_is_new"].effects["cramers_v"] >= 0.1


def test_what_is_not_tested_says_why() -> None:
    """Excluded, unsettled, too few rows or accounts, empty windows and another model: a state, no verdict, no crash."""
    before, after = rows(1000, 12), rows(1000, 13, start=LATER, days=7)
    found = compared(before, after, settled_ms=10 * DAY_MS)
    assert found["transactions_total"].state == "excluded"
    assert found["sum_30d"].state == "settling" and found["sum_7d"].state == "tested"
    for a, b in ((before, empty()), (empty(), after), (empty(), empty()), (before, rows(100, 1, start=LATER))):
        states = {each.state for name, each in compared(a, b).items() if not name.startswith("alerts:")}
        assert states <= {"excluded", "too_few_rows", "model_changed", "no_labels"}
    few = rows(1000, 1, accounts=10, start=LATER)
    assert compared(before, few)["amount"].state == "too_few_rows"
    other = replace(after, margins=after.margins + 9, digests=("m2",))
    assert compared(before, other)[SCORE].state == "model_changed"
    degraded = replace(after, models=after.models - 1, digests=())
    assert compared(before, degraded)[SCORE].state == "too_few_rows"


def test_the_score_is_compared_within_one_model() -> None:
    """Rows that another model decided are left out of the score's comparison, in whichever part of the window."""
    before, after = rows(3000, 14), rows(3000, 15, start=LATER, days=7)
    models = (np.arange(3000) % 3 == 0).astype(np.int64)
    margins = after.margins + 50 * models
    mixed = replace(after, margins=margins, models=models, digests=("m1", "m2"))
    found = compared(before, mixed)[SCORE]
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
    b = replace(b, models=np.arange(70) % 3 - 1, digests=("m2", "m1"))
    both = joined([a, b])
    assert (np.diff(both.times) >= 0).all()
    named = dict(zip(both.margins.tolist(), [(*both.digests, "")[m] for m in both.models.tolist()], strict=True))
    assert all(named[margin] == "m1" for margin in a.margins.tolist())
    assert [named[m] for m in b.margins.tolist()] == [("m2", "m1", "")[k] for k in b.models.tolist()]
    assert len(joined([])) == 0


def test_configurations_that_make_no_sense_are_refused() -> None:
    """Levels must ascend from above 0, q be a rate, counts be positive."""
    for wrong in (
        {"levels": policy.LEVELS | {"ks": (0.2, 0.1, 0.3, 0.4)}},
        {"levels": policy.LEVELS | {"psi": (0.0, 0.1, 0.2, 0.3)}},
        {"alpha": 1.0},
        {"alpha_clear": 0.0},
        {"windows_ms": (2, 1)},
        {"windows_ms": ()},
        {"rows_min": 0},
        {"bins": 99},
    ):
        with pytest.raises(BadInput):
            DriftConfig(**wrong)


def test_short_windows_see_what_has_just_begun() -> None:
    """A change of one day is told by the window of a day, with the figure's own window and rows."""
    before, calm, new = rows(6000, 31), rows(2600, 32, start=LATER, days=6), rows(430, 33, days=1, shift=0.6)
    new = replace(new, times=new.times + 20 * DAY_MS)
    found = compared(before, joined([calm, new]))["amount"]
    assert found.drifted and found.window_ms == DAY_MS and found.rows == (430, 6000)
    assert not compared(before, calm)["amount"].drifted


def test_volumes_follow_the_calendar() -> None:
    """Three busy days, as at the end of a month, are no drift of a count over a day; a busy week is."""
    before, after = rows(6000, 34), rows(3000, 35, start=LATER, days=7)
    place = spec.index("count_24h")
    busy = after.times >= LATER + 4 * DAY_MS
    after.columns[place, busy] *= 1.5
    assert not compared(before, after)["count_24h"].drifted
    after.columns[place] *= 3.0
    found = compared(before, after)["count_24h"]
    assert found.drifted and found.window_ms == 7 * DAY_MS and found.level >= 2


def test_every_figure_is_named_and_shared_out_once() -> None:
    """Names are unique; shares of the error budget sum to at most 1, with performance's three; slow figures exist."""
    every = figures(CONFIG, 0.0)
    assert len({each.name for each in every}) == len(every)
    assert [each.name for each in every][: len(spec.NAMES)] == list(spec.NAMES)
    spent = sum(each.share for each in every if each.kind != "excluded") + 3 * policy.SHARES["performance"] / 4
    assert spent == pytest.approx(1.0)
    assert {name for name in spec.NAMES if is_slow(name)} >= {"count_24h", "sum_7d", "typical_amount"}
    assert not is_slow("device_accounts_30d") and not is_slow("amount")
