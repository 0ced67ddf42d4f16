"""The shortest readable rules that separate fraud which nothing caught from payments that were approved. Pure.

    missed frauds, and approved payments beside them ─► thresholds ─► beam search ─► finalists        earlier period
                                                                         finalists ─► test ─► suggestions   later period

A rule is a conjunction of at most DEPTH_MAX comparisons of a feature or field with a readable number or text. The
search is deterministic. An account counts once, however many of its payments are fraud: one mule's habit is not a
pattern.

What is found by searching many conditions looks good where it was searched, even in noise. So the search sees the
earlier period only, and each finalist is tested once on the later one, by Fisher's exact test: is the first missed
fraud of an account hit more often than the first approved payment of another account? FINALISTS_MAX tests are made at
most; each must pass at ERROR / finalists (Bonferroni), so that noise gives any suggestion with a probability of at most
ERROR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from core.program.formatting import number_text, string_text

DEPTH_MAX = 3
BEAM = 24
FINALISTS_MAX = 8
ERROR = 0.01
QUANTILES = np.array([0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98])
TEXTS_MAX = 8
"""Values of a text field that are tried: those most frequent among missed frauds."""
GAIN_MIN = 1.1
"""How much better a longer rule must be than the one that it extends."""
ACCOUNTS_MIN = 10
"""Accounts with a missed fraud that each period needs."""
HIT_MIN = 3
"""Of them, how many a rule must hit."""
OVERLAP_MAX = 0.6
"""Of two finalists, the share of the frauds that both hit among those that either does."""


class Side(NamedTuple):
    """Payments of a period: n of them. numbers: by name float64 (n,), NaN where missing. texts: by name, index (n,)
    into values, and the values; "" is missing. accounts: int64 (n,). is_fraud: bool (n,), missed fraud; the others are
    a sample of the approved ones, of which each stands for `weight`.
    """

    numbers: dict[str, NDArray[np.float64]]
    texts: dict[str, tuple[NDArray[np.int64], list[str]]]
    accounts: NDArray[np.int64]
    is_fraud: NDArray[np.bool_]
    weight: float


class Condition(NamedTuple):
    """One comparison, as the language has it."""

    text: str
    name: str
    operator: str
    value: float | str

    def hits(self, side: Side) -> NDArray[np.bool_]:
        """Which payments it holds for: bool (n,)."""
        if isinstance(self.value, str):
            codes, values = side.texts[self.name]
            found: NDArray[np.bool_] = np.array([value == self.value for value in values], dtype=np.bool_)[codes]
            return found
        values_of = side.numbers[self.name].astype(np.float32)
        bound = np.float32(self.value)
        at_least: NDArray[np.bool_] = values_of >= bound
        return at_least if self.operator != "<=" else values_of <= bound


@dataclass(frozen=True)
class Found:
    """A rule and what it does in the later period. accounts_hit of accounts: those with a missed fraud whose first one
    it hits; rate: the share of approved payments that it hits; p: the probability of so many hits by chance.
    """

    conditions: tuple[Condition, ...]
    accounts_hit: int = 0
    accounts: int = 0
    rate: float = 0.0
    p: float = 1.0
    score: float = field(default=0.0, compare=False)

    @property
    def text(self) -> str:
        """The rule's condition."""
        return " && ".join(each.text for each in self.conditions)


def suggest(earlier: Side, later: Side, flags: frozenset[str]) -> tuple[list[Found], int]:
    """The rules that pass, the best first, and how many were tested. flags: the names that stand for a truth value."""
    finalists = search(earlier, flags)
    tested = [judged_on(later, each) for each in finalists]
    passed = [each for each in tested if each.accounts_hit >= HIT_MIN and each.p <= ERROR / len(finalists)]
    return sorted(passed, key=lambda each: (each.p, each.text)), len(finalists)


def search(side: Side, flags: frozenset[str]) -> list[Found]:
    """The finalists of a period, the best first: at most FINALISTS_MAX, of which no two hit mostly the same frauds."""
    conditions = conditions_of(side, flags)
    if not conditions or not side.is_fraud.any() or side.is_fraud.all():
        return []
    weights = _once(side.accounts[side.is_fraud])
    fraud = np.stack([each.hits(side)[side.is_fraud] for each in conditions])
    other = np.packbits(np.stack([each.hits(side)[~side.is_fraud] for each in conditions]), axis=1)
    searched = _Search(fraud, other, weights, int(np.count_nonzero(~side.is_fraud)), side.weight)
    beams, best = [searched.start()], list[_Rule]()
    for _ in range(DEPTH_MAX):
        beams.append(searched.extended(beams[-1], [each.name for each in conditions]))
        best += beams[-1]
    kept: list[_Rule] = []
    for rule in sorted(best, key=lambda each: (-each.score, len(each.places), each.places)):
        if all(_overlap(rule.fraud, each.fraud, weights) <= OVERLAP_MAX for each in kept):
            kept.append(rule)
        if len(kept) == FINALISTS_MAX:
            break
    return [Found(tuple(conditions[k] for k in rule.places), score=rule.score) for rule in kept]


def judged_on(side: Side, rule: Found) -> Found:
    """The rule with its figures on a period that the search has not seen."""
    hits = np.logical_and.reduce([each.hits(side) for each in rule.conditions])
    frauds = np.flatnonzero(side.is_fraud)
    _, first = np.unique(side.accounts[frauds], return_index=True)
    others = np.flatnonzero(~side.is_fraud)
    _, single = np.unique(side.accounts[others], return_index=True)
    hit, alike = (int(np.count_nonzero(hits[rows])) for rows in (frauds[first], others[single]))
    # Fisher's exact test (1935), one-sided: every account counts once on either side.
    p = float(hypergeom.sf(hit - 1, len(first) + len(single), hit + alike, len(first)))
    rate = float(np.mean(hits[others])) if len(others) else 0.0
    return Found(rule.conditions, hit, len(first), rate, p, rule.score)


def conditions_of(side: Side, flags: frozenset[str]) -> list[Condition]:
    """The comparisons that the search tries: thresholds are quantiles of either kind of payment, rounded."""
    found: dict[str, Condition] = {}
    for name, values in side.numbers.items():
        for each in _of_numbers(name, values, side.is_fraud, name in flags):
            found[each.text] = each
    for name, (codes, texts) in side.texts.items():
        counts = np.bincount(codes[side.is_fraud], minlength=len(texts)).tolist()
        for count, value in sorted(zip(counts, texts, strict=True), key=lambda each: (-each[0], each[1]))[:TEXTS_MAX]:
            if value and count >= HIT_MIN:
                text = f"{name} == {string_text(value)}"
                found[text] = Condition(text, name, "==", value)
    return list(found.values())


def _of_numbers(name: str, values: NDArray[np.float64], is_fraud: NDArray[np.bool_], is_flag: bool) -> list[Condition]:
    known = np.isfinite(values)
    if not known[is_fraud].any() or values[known].min() == values[known].max():
        return []
    if is_flag:
        return [Condition(name, name, ">=", 1.0), Condition(f"!{name}", name, "<=", 0.0)]
    quantiles = [np.quantile(values[known & kind], QUANTILES) for kind in (is_fraud, ~is_fraud) if (known & kind).any()]
    is_whole = bool((values[known] == np.round(values[known])).all())
    bounds = sorted({readable(bound, is_whole) for bound in np.concatenate(quantiles).tolist()})
    return [
        Condition(f"{name} {operator} {number_text(bound)}", name, operator, bound)
        for bound in bounds
        for operator in (">=", "<=")
    ]


def readable(value: float, is_whole: bool = False) -> float:
    """The value with two significant digits; a whole one if all values are."""
    return float(f"{round(value) if is_whole else value:.2g}")


class _Rule(NamedTuple):
    """places: of its conditions, ascending."""

    places: tuple[int, ...]
    score: float
    fraud: NDArray[np.bool_]
    other: NDArray[np.uint8]


class _Search:
    """fraud: bool (conditions, m), where each holds for missed frauds. other: bits (conditions, n / 8), for the others.
    weights: of the frauds, (m,): an account's add up to 1. count: n; weight: for how many each of them stands.
    """

    def __init__(
        self,
        fraud: NDArray[np.bool_],
        other: NDArray[np.uint8],
        weights: NDArray[np.float64],
        count: int,
        weight: float,
    ) -> None:
        self._fraud, self._other, self._weights, self._weight = fraud, other, weights, weight
        self._base = float(weights.sum()) / (float(weights.sum()) + count * weight)

    def start(self) -> list[_Rule]:
        every = np.full(self._other.shape[1], 255, dtype=np.uint8)
        return [_Rule((), 0.0, np.ones(self._fraud.shape[1], dtype=np.bool_), every)]

    def extended(self, beam: Sequence[_Rule], names: Sequence[str]) -> list[_Rule]:
        """The best rules that are one condition longer."""
        found: dict[tuple[int, ...], tuple[float, _Rule, int]] = {}
        for rule in beam:
            hit = (self._fraud & rule.fraud) @ self._weights
            false = np.bitwise_count(self._other & rule.other).sum(axis=1, dtype=np.int64)
            scores = self._scores(hit, false)
            used = {names[k] for k in rule.places}
            for k in np.argsort(-scores, kind="stable")[: 4 * BEAM].tolist():
                places = tuple(sorted((*rule.places, k)))
                if k in rule.places or hit[k] < HIT_MIN or scores[k] <= rule.score * GAIN_MIN:
                    continue
                if names[k] in used and len(rule.places) + 1 == DEPTH_MAX:
                    continue
                if places not in found:
                    found[places] = (float(scores[k]), rule, k)
        best = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))[:BEAM]
        return [
            _Rule(places, score, rule.fraud & self._fraud[k], rule.other & self._other[k])
            for places, (score, rule, k) in best
        ]

    def _scores(self, hit: NDArray[np.float64], false: NDArray[np.int64]) -> NDArray[np.float64]:
        """How much fraud a rule hits × how many times more often than by chance, as a logarithm."""
        precision = hit / np.maximum(hit + false * self._weight, 1e-12)
        with np.errstate(divide="ignore"):
            lift = np.log2(np.maximum(precision / self._base, 1e-12))
        return np.where(lift > 0.0, hit * lift, 0.0)


def _once(accounts: NDArray[np.int64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(accounts, return_inverse=True, return_counts=True)
    return 1.0 / counts[inverse]


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    return float((one & other) @ weights / max(float((one | other) @ weights), 1e-12))
