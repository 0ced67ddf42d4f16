"""What a seed's simulation consists of: topics, workers, messages, acts of people. Drawn from the seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.simulation.traffic import Planned, planned

ROLES = ("transactions", "feedback")
"""The source topics, by what they bring."""


@dataclass(frozen=True)
class Act:
    """Something that a person or a command does at a time, s."""

    at: float
    name: str


ACTS = ("thresholds", "block merchant", "deploy", "shadow", "roll back", "four eyes", "propose", "approve")
PROGRAM_ACTS = (
    ("propose cards", "start cards"),
    ("start cards", "propose other cards", "start other cards"),
    ("propose cards", "propose other cards", "start cards", "take program back"),
    ("propose cards", "withdraw cards", "start other cards"),
    ("publish tables", "propose cards", "publish tables", "start cards", "take program back"),
)
"""What people do about programs and tables, in this order."""


@dataclass(frozen=True)
class Scenario:
    """is_history: everything lies in Kafka before the first worker starts, and counts as history; so the log must be
    equal to that of an undisturbed run. overlap_min: from which batch size on the next one is decided while one is in
    flight.
    """

    seed: int
    partitions: int
    workers: int
    is_cooperative: bool
    is_history: bool
    takes_append_time: bool
    batch_size: int
    linger_ms: int
    overlap_min: int
    archives: bool
    responders: int
    messages: tuple[Planned, ...]
    acts: tuple[Act, ...]


def scenario(seed: int) -> Scenario:
    """The scenario of a seed."""
    chance = random.Random(f"scenario {seed}")
    is_history = chance.random() < 0.4
    seconds = 0.0 if is_history else chance.choice((0.5, 1.5, 3.0))
    acts = []
    if not is_history:
        acts = sorted((seconds * chance.random(), chance.choice(ACTS)) for _ in range(chance.choice((0, 1, 2, 4))))
        also = random.Random(f"programs {seed}")
        story = also.choice((*PROGRAM_ACTS, *((),) * 10))
        acts += zip(sorted((seconds + 0.5) * also.random() for _ in story), story, strict=True)
    return Scenario(
        seed=seed,
        partitions=chance.choice((1, 2, 3)),
        workers=chance.choice((1, 2, 2, 3)),
        is_cooperative=chance.random() < 0.5,
        is_history=is_history,
        takes_append_time=not is_history and chance.random() < 0.6,
        batch_size=chance.choice((4, 8, 16)),
        linger_ms=chance.choice((0, 2, 20)),
        overlap_min=chance.choice((1, 3, 200)),
        archives=chance.random() < 0.25,
        responders=0 if is_history else random.Random(f"responders {seed}").choice((0, 0, 1, 2)),
        messages=tuple(planned(chance, chance.choice((20, 30, 45)), seconds=seconds, gaps=chance.random() < 0.5)),
        acts=tuple(Act(at, name) for at, name in sorted(acts)),
    )
