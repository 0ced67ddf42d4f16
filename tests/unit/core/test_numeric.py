"""Arithmetic of the core: golden bits, and accuracy against exact references."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geography import CENTRES, PLACES
from core.numeric import exp, exp2, exp_of, log, log10_of, sigmoid
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


@pytest.mark.parametrize("k", range(-308, 309))
def test_log10_of_powers_of_ten_is_exact(k: int) -> None:
    """The float64 nearest to 10**k has the decimal logarithm k, and its neighbours have nearly that."""
    power = float(f"1e{k}")
    assert log10_of(power) == float(k)
    if k > -300 and k % 7:
        below, above = math.nextafter(power, 0.0), math.nextafter(power, math.inf)
        assert abs(log10_of(below) - k) < 1e-13 and abs(log10_of(above) - k) < 1e-13


@fuzz(max_examples=2000)
@given(st.floats(5e-324, 1.7e308))
def test_log10_is_accurate(x: float) -> None:
    """The relative error against the C library's is below 2e-15."""
    assert log10_of(x) == pytest.approx(math.log10(x), rel=2e-15, abs=0)


@fuzz(max_examples=2000)
@given(st.floats(-708, 709.78))
def test_exp_of_one_number_is_accurate(x: float) -> None:
    """The relative error against the C library's is below 1e-15, for large and small powers alike."""
    assert exp_of(x) == pytest.approx(math.exp(x), rel=1e-15, abs=0)


def test_log10_and_exp_outside_their_ranges() -> None:
    """−inf for 0, NaN below; e**x is 0 or infinite where its range ends; NaN stays NaN."""
    assert [log10_of(x) for x in (0.0, -0.0, math.inf)] == [-math.inf, -math.inf, math.inf]
    assert all(math.isnan(f(math.nan)) for f in (log10_of, exp_of)) and math.isnan(log10_of(-1.0))
    assert [exp_of(x) for x in (-math.inf, -746.0, 709.79, math.inf, 0.0)] == [0.0, 0.0, math.inf, math.inf, 1.0]
    assert exp_of(-745.0) == 5e-324 and exp_of(709.78) < math.inf


@pytest.mark.parametrize(
    ("function", "x", "bits"),
    [
        (log10_of, 2.0, "0x1.34413509f79ffp-2"),
        (log10_of, 0.3, "-0x1.0bb6c34d81502p-1"),
        (log10_of, 123456.789, "0x1.45db61a282513p+2"),
        (log10_of, 5e-324, "-0x1.434e6420f4373p+8"),
        (exp_of, 1.0, "0x1.5bf0a8b14576ap+1"),
        (exp_of, -12.5, "0x1.f42ed3f68e690p-19"),
        (exp_of, 700.1, "0x1.058614179b2a5p+1010"),
    ],
)
def test_log10_and_exp_golden_bits(function: Callable[[float], float], x: float, bits: str) -> None:
    """The last bit is the same on every machine and in every version."""
    assert function(x).hex() == bits
