"""Whatever a file, setting, text or stored object holds: it is read, or refused as ours are, soon and in little memory.

The seeds are fixed, so a failure repeats. SENTINEL_TEST_CASES multiplies the cases of each surface; SENTINEL_TEST_SEED
is another seed.
"""

from __future__ import annotations

import os

import pytest

from core.errors import BadInput
from tests.builders import hostile
from tests.builders.hostile import Surface
from tests.builders.hostile_surfaces import surfaces

CASES = 25 * int(os.environ.get("SENTINEL_TEST_CASES", "1"))
SEED = int(os.environ.get("SENTINEL_TEST_SEED", "1"))
NO_SAMPLE = ("time stamp", "roots", "control event")
"""Surfaces whose samples are only alike to valid ones."""


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Surface]:
    return surfaces(tmp_path_factory.mktemp("hostile"))


def test_valid_samples_are_accepted(every: dict[str, Surface]) -> None:
    """So what is refused below is refused for what was changed."""
    assert len(every) > 50
    for name, surface in every.items():
        if name not in NO_SAMPLE:
            for sample in surface.samples():
                surface.feed(sample)


@pytest.mark.parametrize("part", range(6))
def test_hostile_content_is_refused_or_read(every: dict[str, Surface], part: int) -> None:
    """CASES of each surface; the message tells the surface, the fault and the content."""
    faults = []
    for surface in list(every.values())[part::6]:
        for content in hostile.cases(surface, SEED, CASES):
            found = hostile.attempt(surface.feed, content)
            if found.fault:
                faults.append(f"{surface.name}: {found.fault}: {content[:200]!r}")
    assert faults == []


def test_the_outright_contents_are_taken_by_every_surface(every: dict[str, Surface]) -> None:
    """Nothing, zeros, no UTF-8, deep nesting, beginnings of other formats."""
    faults = []
    for surface in every.values():
        for content in hostile.OUTRIGHT:
            if fault := hostile.attempt(surface.feed, content).fault:
                faults.append(f"{surface.name}: {fault}: {content[:40]!r}")
    assert faults == []


def test_other_errors_hangs_and_memory_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt itself can fail."""

    def refuses(content: bytes) -> None:
        raise BadInput("no")

    def breaks(content: bytes) -> None:
        raise KeyError("x")

    def loops(content: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr(hostile, "SECONDS_MAX", 0.02)
    assert hostile.attempt(refuses, b"").fault == "" and not hostile.attempt(refuses, b"").accepted
    assert "KeyError" in hostile.attempt(breaks, b"").fault
    assert "no end" in hostile.attempt(loops, b"").fault
