"""What goes wrong in a simulation: a list of faults, each of which strikes at a call of some process.

A schedule is its seed and this list, so a failing one is shortened by leaving faults out. `KINDS` is the catalogue.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple


class Fault(NamedTuple):
    """Strikes at call number `at` of the simulation, or soon after. how, seconds: what they mean depends on the kind.
    place: a number from which a partition or such is chosen.
    """

    at: int
    kind: str
    how: str = ""
    seconds: float = 0.0
    place: int = 0

    def __str__(self) -> str:
        details = [self.how] * bool(self.how) + [f"{self.seconds:g} s"] * bool(self.seconds)
        return f"{self.kind}({', '.join(details)})@{self.at}"


KINDS: dict[str, str] = {
    "kill": "a process is killed, before or after a call",
    "power": "the machine loses its power: all processes, and what no disk has synced",
    "stop": "a worker is asked to stop, and started again",
    "freeze": "a process is stopped for a while, and goes on as a zombie",
    "cut off": "a worker's heartbeats do not arrive: it goes on as a zombie",
    "request": "a request to the log server, or its answer, is lost or late",
    "log refuses": "the log server is away, loads, is read-only or out of memory",
    "log forgets": "the log server comes back without its last second",
    "log emptied": "the log server comes back empty, until its backup is restored",
    "kafka away": "no broker answers",
    "slow fetch": "one topic's partition is not delivered for a while",
    "produce": "a produced message, or the report of it, is lost",
    "receiver": "whom responders tell is away, or takes a message and does not answer",
    "recreated": "a source topic is deleted and made again",
    "grown": "a source topic gets more partitions, until that is undone",
    "expired": "Kafka deletes messages before they are decided",
    "clock": "a process's clock jumps",
    "disk full": "the disk takes no more for a while",
}
"""Every kind of fault, in words."""

_COMMON = ("kill", "request", "freeze", "cut off", "power", "stop")
_USUAL = ("log refuses", "kafka away", "slow fetch", "produce", "clock", "disk full", "receiver")
_RARE = ("log forgets", "log emptied", "recreated", "grown", "expired")


def drawn(seed: int, calls: int) -> list[Fault]:
    """The faults of a seed, in the order in which they strike. calls: how many calls the schedule has, about."""
    chance = random.Random(f"faults {seed}")
    count = chance.choice((1, 2, 2, 3, 3, 4, 5, 7))
    kinds: list[str] = []
    for _ in range(count):
        pool: Sequence[str] = chance.choices((_COMMON, _USUAL, _RARE), (7, 3, 1))[0]
        kinds.append(chance.choice(pool))
    return sorted(one(chance, kind, chance.randrange(calls)) for kind in kinds)


def one(chance: random.Random, kind: str, at: int) -> Fault:
    """A fault of this kind, with random details."""
    how, seconds = "", 0.0
    match kind:
        case "kill":
            how = chance.choice(("before", "after"))
        case "freeze" | "cut off":
            seconds = chance.choice((0.2, 0.7, 1.4, 2.5, 5.0))
        case "request":
            how = chance.choice(("lose_request", "lose_answer", "late"))
            seconds = chance.choice((0.05, 0.3, 0.8, 2.5))
        case "log refuses":
            how = chance.choice(("", "LOADING", "READONLY", "OOM"))
            seconds = chance.choice((0.1, 0.8, 2.0, 4.0))
        case "log forgets":
            seconds = chance.choice((0.02, 0.1, 0.4, 1.0))
        case "log emptied" | "grown" | "kafka away":
            seconds = chance.choice((0.3, 1.0, 2.5))
        case "slow fetch" | "disk full" | "receiver":
            seconds = chance.choice((0.1, 0.5, 2.0))
        case "produce":
            how = chance.choice(("refused", "no_answer"))
        case "clock":
            seconds = chance.choice((-90.0, -30.0, -2.0, 0.5, 20.0, 90.0))
        case _:
            pass
    return Fault(at, kind, how, seconds, chance.randrange(1_000))
