"""Arithmetic of the core: golden bits, and accuracy against exact references."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geography import CENTRES, PLACES
from core.numeric import exp, exp2, log, sigmoid
from tests.builders.events import fuzz

GOLDEN_LOG = "1555b5bbb16b02c01655b5bbb16b0240c3716d44854387c0"


@pytest.mark.parametrize("k", [*range(-1022, 1024, 37), -1, 0, 1, 1023])
def test_exp2_of_whole_numbers_is_exact(k: int) -> None:
    """2**k is exact for every whole k of normal numbers."""
    assert exp2(float(k)) == math.ldexp(1.0, k)


@fuzz(max_examples=2000)
@given(st.floats(-1022, 1023))
def test_exp2_is_accurate(x: float) -> None:
    """The relative error against the C library's is below 1e-15."""
    wanted = math.exp2(x)
    assert abs(Fraction(exp2(x)) - Fraction(wanted)) <= Fraction(1e-15) * Fraction(wanted)


def test_exp2_outside_its_range() -> None:
    """Too small is 0, too large is infinite, NaN is NaN; nothing is read beyond the table."""
    assert [exp2(x) for x in (-1022.1, -1e300, -math.inf, 1023.5, 1024.0, 1e300, math.inf)] == [0.0] * 3 + [
        math.inf
    ] * 4
    assert math.isfinite(exp2(math.nextafter(1023.5, 0.0))) and math.isnan(exp2(math.nan))


@pytest.mark.parametrize(
    ("x", "bits"),
    [
        (0.1, "0x1.125fbee250664p+0"),
        (-0.5, "0x1.6a09e667f3bccp-1"),
        (0.5, "0x1.6a09e667f3bccp+0"),
        (0.3333333333333333, "0x1.428a2f98d728bp+0"),
        (-12.345678, "0x1.92e98bcb6cde5p-13"),
        (-700.7, "0x1.3b2c47bff827ap-701"),
        (1023.4999, "0x1.6a0379dce05ebp+1023"),
    ],
)
def test_exp2_golden_bits(x: float, bits: str) -> None:
    """The last bit is the same on every machine and in every version."""
    assert exp2(x).hex() == bits


@fuzz(max_examples=2000)
@given(st.floats(0.0, allow_infinity=False, exclude_min=True))
def test_log_is_accurate(x: float) -> None:
    """The relative error against the C library's is below 1e-15, for subnormal numbers and those near 1 too."""
    wanted = math.log(x)
    assert abs(float(log(np.array([x]))[0]) - wanted) <= 1e-15 * abs(wanted)


@fuzz(max_examples=500)
@given(st.floats(-1e-6, 1e-6))
def test_log_is_accurate_near_one(d: float) -> None:
    """The logarithm of a number near 1 keeps its leading digits."""
    wanted = math.log(1.0 + d)
    assert abs(float(log(np.array([1.0 + d]))[0]) - wanted) <= 1e-15 * abs(wanted)


@fuzz(max_examples=1000)
@given(st.floats(-700, 700))
def test_exp_is_accurate(x: float) -> None:
    """The relative error against the C library's grows with |x| only through the rounding of x / ln 2."""
    wanted = math.exp(x)
    assert abs(float(exp(np.array([x]))[0]) - wanted) <= 1e-15 * (1.0 + abs(x)) * wanted


def test_log_outside_its_range() -> None:
    """0 is −inf, infinity stays, what is below 0 is NaN; whole powers of 2 are exact multiples of ln 2."""
    found = log(np.array([0.0, -0.0, math.inf, -1.0, -math.inf, math.nan, 1.0]))
    np.testing.assert_array_equal(found, [-math.inf, -math.inf, math.inf, math.nan, math.nan, math.nan, 0.0])
    assert log(np.array([0.1, 10.0, 5e-324])).tobytes().hex() == GOLDEN_LOG


def test_exp2_golden_digest() -> None:
    """So are the bits of thirty thousand values over the whole range."""
    digest = hashlib.sha256(b"".join(exp2(i / 97.0).hex().encode() for i in range(-99_000, 99_000, 7))).hexdigest()
    assert digest == "529a211bcd8f6f45e06c3669e29d614e8d60752c75777f6eec2f9ea104743afa"


@fuzz(max_examples=500)
@given(st.lists(st.floats(-750, 750), min_size=1, max_size=5), st.sampled_from([1.0, 0.5, 2.0]))
def test_sigmoid_is_accurate_and_row_by_row(margins: list[float], slope: float) -> None:
    """1 / (1 + e**(−slope·m)) to a relative 1e-13 or 1e-300, whatever stands in the other rows."""
    got = sigmoid(np.array(margins), slope)
    for m, p in zip(margins, got.tolist(), strict=True):
        x = slope * m
        wanted = 1.0 / (1.0 + math.exp(-x)) if x > -700 else math.exp(x)
        assert math.isclose(p, wanted, rel_tol=1e-12, abs_tol=1e-300)
        assert p == sigmoid(np.array([m]), slope)[0] and 0.0 <= p <= 1.0


def test_sigmoid_golden_bits_and_edges() -> None:
    """Golden bits of common margins; infinities and NaN."""
    got = sigmoid(np.array([-2.25, 0.0, 1.0, 7.125]), 1.0)
    assert [x.hex() for x in got.tolist()] == [
        "0x1.868d2916eca5bp-4",
        "0x1.0000000000000p-1",
        "0x1.764d4f5d5a2bdp-1",
        "0x1.ff969b5a6816dp-1",
    ]
    edges = sigmoid(np.array([-np.inf, np.inf, np.nan, -1e308, 1e308]), 1.0)
    assert edges[:2].tolist() == [0.0, 1.0] and np.isnan(edges[2]) and edges[3:].tolist() == [0.0, 1.0]
    assert sigmoid(np.empty(0), 1.0).shape == (0,)


def test_country_centres() -> None:
    """Every centre is a unit vector of its own code, and known distances come out to a few hundred kilometres."""
    assert np.allclose((CENTRES**2).sum(axis=1), 1.0, atol=3e-6) and len(PLACES) == len(CENTRES) > 200

    def chord(a: str, b: str) -> float:
        return float(6371.0 * np.sqrt(((CENTRES[PLACES[a]] - CENTRES[PLACES[b]]) ** 2).sum()))

    assert abs(chord("DE", "FR") - 770) < 150 and abs(chord("ES", "NZ") - 12_742) < 100 and chord("US", "US") == 0.0
