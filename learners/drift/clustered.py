"""One figure in two windows: contrasts of the shares of its bins, tested with rows clustered by account and by day.

A figure's values fall into K bins (NaN is one). A contrast is a weight for each bin, and its difference between the
windows is Δ = a·(q − p), with p, q the shares in the reference and the current window:

    numeric      rank: the mid-rank of the bin in the reference (a shift, as in Wilcoxon's test), and each bin alone
    hour         cos and sin of the hour, and each hour alone
    categorical  each value alone

"Each bin alone" is what PSI is made of, so an effect and its test look at the same counts: a feature that is 0 nearly
everywhere has one bin for 0 and one for the rest. A figure's contrasts share its error budget (`sequential`): half of
it goes to rank (cos and sin) and half to the bins. Of alerts and frauds, which are too few for bins, rank gets 80 %.

Rows are not independent. With n, m rows in the current and the reference window, μ the pooled mean and x_g the sum of a
over the rows of cluster g, the variance of Δ is estimated in three parts:

    noise        b·(1/n + 1/m)                b = Σ over account-days of the reference (x_g − rows_g·μ)² / m
    persistence  max(0, A − noise)            A = Σ over accounts s_g², s_g = (x_g − n_g·μ)/n − (x'_g − m_g·μ)/m
    shocks       max(0, D − b)·(1/n + 1/m)    D = Σ over days of the reference (x_d − m_d·μ)² / m

Noise is what payments of one account on one day share. Persistence is what accounts carry from day to day; an account
in both windows is one cluster, so its own peculiarities cancel as in a paired test (Binder 1983). Alerts and frauds
come from shops as well (a terminal that copies cards, a shop that accepts stolen ones), across accounts: for them a
fourth part is what shops carry, computed as persistence is with shops in place of accounts. Shocks are what whole
days have in common (a holiday, a newly published table, the weekly rhythm); they are measured in the reference alone,
so that a change within the current window does not hide itself. The sum of the parts is that of two-way clustering
(Cameron, Gelbach, Miller 2011), with excesses not below zero. Δ / √variance is referred to Student's t with
Satterthwaite's degrees of freedom, where a part has as many as its clusters weigh, (Σs²)² / Σs⁴ − 1.

That is right for contrasts to which many accounts contribute. A rare bin (in the reference, less than `RARE` of the
accounts have a row in it within w days) is tested by its accounts instead, unless its rows depend across accounts (what
is alerted or fraud, and how often that is: `figures`): k of N active accounts now, against a of M
in the reference's blocks of w days. Without drift, k given k + a is binomial with share N / (N + M) (Przyborowski,
Wilenski 1940), whose tail is an incomplete beta function. An account counts once, however many rows it has, a and M are
divided by the design effect of the reference's accounts over its blocks, and all counts by that of shocks. What many
accounts do at once (holidays, a common device) makes rare values more or less frequent for weeks, and a reference of
two weeks cannot tell by how much: the binomial test is of a change by more than a factor of `TOLERANCE`, which is well
below every effect that is reported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, stdtr

from core.times import DAY_MS
from learners.drift import kernels, statistics

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RARE = 0.3
TOLERANCE = 1.25
NO_WEIGHTS = np.empty(0)
TINY = 1e-18
"""Variances below this are rounding errors of a contrast that does not vary."""


class Scale(NamedTuple):
    """The bins of a figure and its contrasts: edges float32 (K − 2,), contrasts float64 (K, M), weights (M,), names."""

    edges: NDArray[np.float32]
    contrasts: Floats
    weights: Floats
    names: tuple[str, ...]

    @property
    def bins(self) -> int:
        return len(self.contrasts)


def scale(
    kind: str,
    values: NDArray[np.float32],
    categories: tuple[float, ...],
    bins: int,
    weights: Floats | None = None,
    smooth_share: float = 0.5,
) -> Scale:
    """The scale of a figure with these values in the reference. kind: numeric, hour or categorical. weights (m,): what
    a row counts, 1 if None. smooth_share: how much of the error budget rank (cos and sin) get; bins get the rest.
    """
    if kind == "numeric":
        order = np.argsort(values, kind="stable")[: len(values) - int(np.isnan(values).sum())]
        edges = statistics.quantile_edges(values[order], bins, None if weights is None else weights[order])
    else:
        # Bin i is (values[i−1], values[i]]: a value that is not listed shares a bin instead of being dropped.
        edges = np.array(categories, dtype=np.float32)
    width = len(edges) + 2
    counts = np.bincount(binned(values, edges), weights, minlength=width).astype(np.float64)
    smooth: list[Floats] = []
    names: list[str] = []
    if kind == "numeric":
        held = counts[:-1].sum()
        rank = (np.cumsum(counts[:-1]) - 0.5 * counts[:-1]) / max(held, 1.0)
        smooth, names = [np.append(rank, 0.5)], ["rank"]
    elif kind == "hour":
        turn = 2.0 * np.pi * np.append(np.array(categories), [0.0, 0.0]) / len(categories)
        smooth, names = [np.cos(turn), np.sin(turn)], ["cos", "sin"]
    for each in smooth:
        each[-1] = each[:-1] @ counts[:-1] / counts[:-1].sum() if counts[:-1].sum() else 0.0
    contrasts = np.column_stack([*smooth, np.eye(width)])
    share = smooth_share if smooth else 0.0
    budget = np.concatenate([np.full(len(smooth), share / max(len(smooth), 1)), np.full(width, (1.0 - share) / width)])
    return Scale(edges, contrasts, budget, (*names, *(f"bin {k}" for k in range(width - 1)), "missing"))


def binned(values: NDArray[np.float32], edges: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The bin of each value, uint8 (n,): the number of edges below it; NaN has the last."""
    out = np.empty(len(values), dtype=np.uint8)
    kernels.bin_of(values, edges, out)
    return out


@dataclass(frozen=True, slots=True)
class Frame:
    """The rows of the reference by account and day: accounts uint64 (A,) ascending; of each row (m,) its account and
    its account-day; of each account-day its account and its day; the number of days. shops uint64 (S,) ascending, and
    of each row its shop (m,): None unless rows depend by shop.
    """

    accounts: NDArray[np.uint64]
    account: Ints
    group: Ints
    account_of_group: Ints
    day_of_group: Ints
    days: int
    shops: NDArray[np.uint64] | None = None
    shop: Ints | None = None


def frame(accounts: NDArray[np.uint64], times: Ints, shops: NDArray[np.uint64] | None = None) -> Frame:
    """The frame of these rows. shops (m,): None unless rows depend by shop."""
    names, account = np.unique(accounts, return_inverse=True)
    day_names, day = np.unique(times // DAY_MS, return_inverse=True)
    days = max(len(day_names), 1)
    groups, group = np.unique(account.astype(np.int64) * days + day, return_inverse=True)
    shop_names, shop = (None, None) if shops is None else np.unique(shops, return_inverse=True)
    return Frame(
        names, account.astype(np.int64), group.astype(np.int64), groups // days, groups % days, days, shop_names, shop
    )


@dataclass(frozen=True, slots=True)
class Placed:
    """The rows of the current windows: of each row its account (the frame's accounts first, then new ones) and the
    shortest window that holds it; the number of accounts; the windows' lengths, ms, ascending; shops as accounts.
    """

    account: Ints
    window: Ints
    accounts: int
    windows: tuple[int, ...]
    shop: Ints | None = None
    shops: int = 0


def placed(
    known: Frame,
    accounts: NDArray[np.uint64],
    times: Ints,
    end: int,
    windows: tuple[int, ...],
    shops: NDArray[np.uint64] | None = None,
) -> Placed:
    """These rows, at `times` in [end − windows[-1], end), beside the reference. shops: if the frame has them."""
    account, total = _numbered(known.accounts, accounts)
    none = Placed(account, np.empty(0, dtype=np.int64), total, ())
    if known.shops is not None and shops is not None:
        shop, shops_total = _numbered(known.shops, shops)
        none = replace(none, shop=shop, shops=shops_total)
    return in_windows(none, times, end, windows)


def in_windows(rows: Placed, times: Ints, end: int, windows: tuple[int, ...]) -> Placed:
    """The same rows in other windows, the longest of which is as long."""
    window = np.searchsorted(np.array(windows), end - times, side="left").astype(np.int64)
    return replace(rows, window=window, windows=windows)


def _numbered(known: NDArray[np.uint64], names: NDArray[np.uint64]) -> tuple[Ints, int]:
    """The number of each name: its place in `known` (ascending), or else one after them; and how many there are."""
    number = np.empty(len(names), dtype=np.int64)
    kernels.numbers_of(known, names, number)
    is_new = number < 0
    new, place = np.unique(names[is_new], return_inverse=True)
    number[is_new] = len(known) + place
    return number, len(known) + len(new)


class Seen(NamedTuple):
    """One figure in one window. p_values, differences, design_effects (M,), by contrast; p_value: combined."""

    rows: float
    accounts: int
    counts: Floats
    p_values: Floats
    differences: Floats
    design_effects: Floats
    p_value: float

    def best(self, of: Scale) -> int:
        """The contrast with the most evidence."""
        return int(np.argmin(self.p_values / of.weights))


class Yardstick:
    """A figure in the reference, ready to be compared with any number of windows."""

    def __init__(
        self,
        of: Scale,
        known: Frame,
        values: NDArray[np.float32],
        weights: Floats | None = None,
        by_accounts: bool = True,
    ) -> None:
        """Values (m,): of the frame's rows. weights (m,): what a row counts, 1 if None. by_accounts: whether rare bins
        are tested by their accounts.
        """
        self.scale, self.frame, self.values = of, known, values
        width = of.bins
        groups = len(known.account_of_group)
        codes = binned(values, of.edges)
        by_group = _counted(known.group, groups, codes, width, weights)
        rows = by_group.sum(axis=1)
        x = by_group @ of.contrasts
        accounts = len(known.accounts)
        self.counts = by_group.sum(axis=0)
        self.rows = float(rows.sum())
        self.by_account = _summed(x, known.account_of_group, accounts)
        self.rows_by_account = np.bincount(known.account_of_group, rows, minlength=accounts).astype(np.float64)
        self.by_shop, self.rows_by_shop = np.empty((0, x.shape[1])), np.empty(0)
        if known.shops is not None and known.shop is not None:
            of_shops = _counted(known.shop, len(known.shops), codes, width, weights)
            self.by_shop, self.rows_by_shop = of_shops @ of.contrasts, of_shops.sum(axis=1)
        m = max(self.rows, 1.0)
        mean = self.counts @ of.contrasts / m
        off = x - rows[:, None] * mean
        squares = off * off
        self.noise = squares.sum(axis=0) / m
        self.noise_freedom = _participation(squares)
        by_day = _summed(off, known.day_of_group, known.days)
        excess = (by_day * by_day).sum(axis=0) * (known.days / max(known.days - 1, 1)) / m - self.noise
        self.shock = np.maximum(excess, 0.0)

        self._by_accounts = by_accounts
        self._squared = of.contrasts * of.contrasts
        self._by_group = by_group > 0
        self._blocks: dict[int, tuple[Floats, Floats]] = {}

    def blocks(self, days: int) -> tuple[Floats, Floats]:
        """(a, M) of each bin, float64 (K,): accounts with a row in it, and active accounts, over the reference's blocks
        of `days` days, both divided by the design effect of accounts that are the same in several blocks.
        """
        if days not in self._blocks:
            known, count = self.frame, max(self.frame.days // days, 1)
            block = known.day_of_group // days
            held = block < count
            key, accounts = (known.account_of_group * count + block)[held], len(known.accounts)
            active = np.bincount(key, minlength=accounts * count) > 0
            present = np.stack(
                [
                    np.bincount(key, column, minlength=accounts * count) > 0
                    for column in self._by_group[held].T.astype(np.float64)
                ],
                axis=1,
            )
            m, a = float(active.sum()), present.sum(axis=0).astype(np.float64)
            off = present - active[:, None] * (a / max(m, 1.0))
            alone = (off * off).sum(axis=0)
            together = (off.reshape(accounts, count, -1).sum(axis=1) ** 2).sum(axis=0)
            effect = np.maximum(np.divide(together, alone, out=np.ones(len(alone)), where=alone > TINY), 1.0)
            self._blocks[days] = a / effect, m / effect
        return self._blocks[days]

    @cached_property
    def ascending(self) -> NDArray[np.float32]:
        """The values without NaN, sorted."""
        ascending = np.sort(self.values)
        return ascending[: len(ascending) - int(np.isnan(ascending).sum())]

    def windows(self, rows: Placed, values: NDArray[np.float32], weights: Floats | None = None) -> list[Seen]:
        """The figure in each of the windows, shortest first. values (n,): of the rows."""
        width, lengths = self.scale.bins, len(rows.windows)
        codes = binned(values, self.scale.edges)

        def parts(cluster: Ints, clusters: int) -> Floats:
            out = np.zeros((lengths, clusters, width))
            kernels.count_windows(rows.window, cluster, codes, NO_WEIGHTS if weights is None else weights, out)
            return out

        by_account = parts(rows.account, rows.accounts)
        by_shop = None if rows.shop is None else parts(rows.shop, rows.shops)
        empty = int((by_account.sum(axis=(1, 2)) <= 0).sum()) if self.rows > 0 else lengths  # windows are nested
        nothing = np.full(self.scale.contrasts.shape[1], np.nan)
        found = [Seen(0.0, 0, np.zeros(width), nothing, nothing, nothing, 0.0)] * empty
        if empty < lengths:
            found += self._seen(by_account[empty:], None if by_shop is None else by_shop[empty:], rows.windows[empty:])
        return found

    def _seen(self, by_account: Floats, by_shop: Floats | None, lengths: tuple[int, ...]) -> list[Seen]:
        """The comparison with windows of these lengths, ms, none of them empty. by_account (windows, accounts, K): what
        accounts have in each bin; by_shop (windows, shops, K): what shops have, if rows depend by shop.
        """
        contrasts = self.scale.contrasts
        counts = by_account.sum(axis=1)
        n, m = counts.sum(axis=1)[:, None], self.rows
        together = counts + self.counts
        mean = np.stack([each @ contrasts for each in together]) / (n + m)
        accounts = _carried(by_account, contrasts, self.by_account, self.rows_by_account, mean)
        both = 1.0 / n + 1.0 / m
        noise, shock = self.noise * both, self.shock * both
        persistence = np.maximum(accounts.variance - noise, 0.0)
        variance = noise + persistence + shock
        unsure = np.zeros(variance.shape)
        if by_shop is not None:
            shops = _carried(by_shop, contrasts, self.by_shop, self.rows_by_shop, mean)
            carried = np.maximum(shops.variance - noise, 0.0)
            variance = variance + carried
            unsure = carried**2 / np.maximum(shops.participation - 1, 0.5)
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = variance**2 / (
                noise**2 / np.maximum(self.noise_freedom - 1, 0.5)
                + persistence**2 / np.maximum(accounts.participation - 1, 0.5)
                + shock**2 / max(self.frame.days - 1, 0.5)
                + unsure
            )
            z = accounts.difference / np.sqrt(variance)
            independent = both * np.stack([self._spread(each) for each in together / (n + m)])
            effects = np.where(independent > TINY, np.maximum(variance / independent, 1.0), 1.0)
        varies = variance > TINY
        p = np.where(varies, 2.0 * stdtr(np.where(varies, freedom, 1.0), -np.abs(np.where(varies, z, 0.0))), 1.0)
        if self._by_accounts:
            bins = slice(-self.scale.bins, None)
            p[:, bins] = self._rare(accounts, lengths, p[:, bins])
        least = np.fmin.reduce(p / self.scale.weights, axis=1, initial=1.0)  # as `sequential.combined`
        return [
            Seen(float(n[w, 0]), int(accounts.active[w]), counts[w], p[w], accounts.difference[w], effects[w], float(e))
            for w, e in enumerate(least)
        ]

    def _rare(self, accounts: _Carried, lengths: tuple[int, ...], p: Floats) -> Floats:
        """The p-values of the bins (windows, K), those of rare bins replaced by the test of their accounts."""
        blocks = [self.blocks(max(round(length / DAY_MS), 1)) for length in lengths]
        a, m = (np.stack(each) for each in zip(*blocks, strict=True))
        rare = a < RARE * m
        if not rare.any():
            return p
        k, active = accounts.present, accounts.active[:, None]
        bins = slice(-self.scale.bins, None)
        noise, shock = self.noise[bins], self.shock[bins]
        spread = 1.0 + np.divide(shock, noise, out=np.zeros(len(noise)), where=noise > TINY)
        share = active / (active + m)
        high = share * TOLERANCE / (1.0 - share + share * TOLERANCE)
        low = share / (share + TOLERANCE * (1.0 - share))
        more = betainc(np.maximum(k / spread, 1e-9), a / spread + 1.0, high)
        less = betainc(np.maximum(a / spread, 1e-9), k / spread + 1.0, 1.0 - low)
        exact = np.minimum(2.0 * np.minimum(more, less), 1.0)
        return np.where(rare & (k + a > 0), exact, p)

    def _spread(self, shares: Floats) -> Floats:
        """The variance of each contrast over independent rows with these shares."""
        mean = shares @ self.scale.contrasts
        return np.asarray(shares @ self._squared - mean * mean)


def _counted(place: Ints, size: int, codes: NDArray[np.uint8], width: int, weights: Floats | None) -> Floats:
    """Rows (or their weights) by place and bin: float64 (size, width)."""
    flat = np.bincount(place * width + codes, weights, minlength=size * width)
    return flat.reshape(size, width).astype(np.float64)


class _Carried(NamedTuple):
    """What clusters contribute to a difference Δ of contrasts (windows, M): the variance A of it, and how many carry
    that; the clusters with rows in the window (windows,), and with rows in each bin (windows, K).
    """

    difference: Floats
    variance: Floats
    participation: Floats
    active: Ints
    present: Floats


def _carried(now: Floats, contrasts: Floats, before: Floats, rows_before: Floats, mean: Floats) -> _Carried:
    """Of contrasts (K, M) whose pooled means are `mean` (windows, M). now (windows, G, K): the clusters' rows by bin;
    before (B, M), rows_before (B,): the contrasts' sums and the rows in the reference, of the first clusters.
    """
    windows, _, bins = now.shape
    sums, present = np.empty((windows, 3, mean.shape[1])), np.empty((windows, 1 + bins), dtype=np.int64)
    used = np.empty(windows, dtype=np.int64)
    smooth = np.ascontiguousarray(contrasts[:, : mean.shape[1] - bins])
    kernels.carried_windows(now, before, rows_before, smooth, mean, sums, present, used)
    groups = np.maximum(used, 2)[:, None]
    difference, squares, fourth = (sums[:, i] for i in range(3))
    variance = np.maximum(squares - difference**2 / groups, 0.0) * groups / (groups - 1)
    participation = _effective(squares, fourth)
    return _Carried(difference, variance, participation, present[:, 0], present[:, 1:].astype(np.float64))


def _summed(x: Floats, place: Ints, size: int) -> Floats:
    """Sums of the rows of x (n, M) by place: (size, M)."""
    return np.stack([np.bincount(place, column, minlength=size) for column in x.T], axis=1).astype(np.float64)


def _participation(squares: Floats) -> Floats:
    """How many clusters carry a variance, from their shares of it: squares (G, M)."""
    return _effective(squares.sum(axis=0), (squares * squares).sum(axis=0))


def _effective(squares: Floats, fourth: Floats) -> Floats:
    """(Σs²)² / Σs⁴; 0 if nothing varies."""
    return np.asarray(np.divide(squares**2, fourth, out=np.zeros(fourth.shape), where=fourth > 0))
