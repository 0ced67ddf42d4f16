"""Random sets of aggregates and random streams for them, as the oracle and as the compiled code take them.

    python -m tests.builders.aggregate_streams [--sets 20000] [--first 1000]

compares both on more sets than the tests do.
"""

from __future__ import annotations

import argparse
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.program import folding
from core.program.layout import Layout, text_of
from core.program.state import ProgramState
from core.program.typed import AGGREGATES, Aggregate, Apply, Column, Constant, Expression
from core.times import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS
from tests.builders.slow_aggregates import SlowAggregates, Value, Values

T0 = 1_524_000_000_000

AMOUNT = Column("number", "field", "amount")
OCCURRED = Column("time", "field", "occurred_at")
MERCHANT = Column("string", "field", "merchant_id", "text")
COUNTRY = Column("string", "field", "country", "country")
SCORE = Column("number", "field", "score")
FLAG = Column("bool", "field", "flag")
DECISION = Column("string", "outcome", "decision")
VERDICT = Column("string", "outcome", "verdict")
PLUS = Apply("number", "add", (AMOUNT, SCORE))
BIG = Apply("bool", "less", (Constant("number", 50.0), AMOUNT))
DECLINED = Apply("bool", "equal_string", (DECISION, Constant("string", "decline")))
FRAUD = Apply("bool", "equal_string", (VERDICT, Constant("string", "fraud")))

NUMBERS = (AMOUNT, SCORE, PLUS)
ANY = (AMOUNT, SCORE, MERCHANT, COUNTRY, FLAG, OCCURRED)
CONDITIONS = (None, None, BIG, FLAG, DECLINED)
ENTITIES: tuple[tuple[str, ...], ...] = ((), (), (), ("merchant_id",), ("merchant_id", "country"), ("score",))
WINDOWS = (
    30 * SECOND_MS, 10 * MINUTE_MS, HOUR_MS, 100 * MINUTE_MS, 24 * HOUR_MS, 7 * DAY_MS, 30 * DAY_MS, 60 * DAY_MS,
    90 * DAY_MS,
)  # fmt: skip
OWN_FIELDS = {"score": SCORE}


def aggregates(rng: random.Random, size: int) -> list[Aggregate]:
    """A random set of aggregates."""
    return [_aggregate(rng) for _ in range(size)]


def _aggregate(rng: random.Random) -> Aggregate:
    function = rng.choice((*AGGREGATES, "count", "sum", "distinct"))
    on_verdicts = rng.random() < 0.1
    takes = {"sum", "mean", "min", "max", "std", "decayed", "typical"}
    if function in takes or function in ("distinct", "first", "last", "is_new"):
        on_verdicts = False
    value: Expression | None = None
    if function in takes:
        value = rng.choice(NUMBERS)
    elif function in ("distinct", "first", "last", "is_new"):
        value = rng.choice(ANY[:-1] if function in ("distinct", "is_new") else ANY)
    condition = rng.choice((None, FRAUD)) if on_verdicts else rng.choice(CONDITIONS)
    if function == "share" and condition is None:
        condition = FRAUD if on_verdicts else BIG
    window = rng.choice(WINDOWS) if function not in ("first", "last", "since", "typical", "is_new") else 0
    return Aggregate(
        type="number",
        function=function,
        entity=rng.choice(ENTITIES),
        window_ms=window,
        value=value,
        condition=condition,
        size=rng.choice((1, 2, 3, 8, 64)) if function == "is_new" else 0,
        on_verdicts=on_verdicts,
    )


@dataclass(frozen=True)
class Event:
    """A payment, or a verdict on the account."""

    slot: int
    time: int
    values: Values
    verdict: bool = False


def stream(rng: random.Random, size: int) -> list[Event]:
    """Events of a few accounts: many at the same time, gaps of all lengths, some late by minutes to months."""
    accounts = rng.choice((1, 2, 4))
    late = rng.choice((0.0, 0.0, 0.1, 0.5))
    verdicts = rng.choice((0.0, 0.2))
    merchants = rng.choice((3, 40))
    gaps = rng.choice(
        ((0, 1, 700, 9_000), (0, MINUTE_MS, 7 * MINUTE_MS, HOUR_MS), (0, 5 * HOUR_MS, DAY_MS, 9 * DAY_MS))
    )
    time, out = T0 - rng.choice((0, T0)), []
    for _ in range(size):
        time += rng.choice(gaps) * rng.choice((0, 1, 1, 2))
        at = time - (rng.choice((rng.randrange(5 * MINUTE_MS), rng.randrange(DAY_MS), rng.randrange(99 * DAY_MS)))
                     if rng.random() < late else 0)  # fmt: skip
        verdict = rng.random() < verdicts
        out.append(Event(rng.randrange(accounts), at, _values(rng, at, merchants), verdict))
    return out


def _values(rng: random.Random, at: int, merchants: int) -> Values:
    amount = rng.choice((0.0, 1.0, 9.99, 50.0, 50.01, 1e12, round(rng.lognormvariate(3.5, 1.2), 2)))
    score = rng.choice((None, -3.5, 0.0, -0.0, 0.1, 0.2, 1e300, 7.0, 7.0, rng.gauss(0, 1)))
    if rng.random() < 0.02:
        score = rng.choice((float("nan"), float("inf"), float("-inf")))
    return {
        AMOUNT: amount,
        OCCURRED: float(at - rng.randrange(HOUR_MS)),
        MERCHANT: _hash(rng.randrange(merchants)) if rng.random() < 0.9 else None,
        COUNTRY: _hash(100 + rng.randrange(3)) if rng.random() < 0.8 else None,
        SCORE: score,
        FLAG: rng.choice((True, True, False, None)),
        PLUS: None if score is None else amount + score,
        BIG: amount > 50.0,
        DECLINED: rng.random() < 0.3,
        FRAUD: rng.random() < 0.5,
    }


def _hash(number: int) -> int:
    return random.Random(number).getrandbits(64) or 1


def word(value: Value) -> int:
    """A value as a 64-bit word; 0 for a missing one."""
    if isinstance(value, float):
        return int.from_bytes(struct.pack("<d", value), "little")
    return int(value or 0)


@dataclass
class Columns:
    """Events as the compiled code takes them, payments and verdicts apart, in order."""

    layout: Layout
    slots: list[NDArray[np.int32]]
    times: list[NDArray[np.int64]]
    inputs: list[NDArray[np.uint64]]
    present: list[NDArray[np.uint8]]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, layout: Layout, events: Sequence[Event]) -> Columns:
        kinds = [[e for e in events if e.verdict == verdict] for verdict in (False, True)]
        needs = (layout.inputs, layout.verdict_inputs)
        seen, rows = [0, 0], []
        for e in events:
            rows.append(-1 - seen[1] if e.verdict else seen[0])
            seen[e.verdict] += 1
        return cls(
            layout,
            [np.array([e.slot for e in kind], dtype=np.int32) for kind in kinds],
            [np.array([e.time for e in kind], dtype=np.int64) for kind in kinds],
            [_matrix([[word(e.values[x]) for e in kind] for x in need], len(kind), np.uint64)
             for kind, need in zip(kinds, needs, strict=True)],
            [_matrix([[e.values[x] is not None for e in kind] for x in need], len(kind), np.uint8)
             for kind, need in zip(kinds, needs, strict=True)],
            np.array(rows, dtype=np.int64),
        )  # fmt: skip

    def outputs(self) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
        """Where results go, filled with what no result is."""
        shape = (len(self.layout.aggregates), len(self.times[0]))
        return np.full(shape, 0xDEAD, dtype=np.uint64), np.full(shape, 7, dtype=np.uint8)

    def fold(self, state: ProgramState, rows: NDArray[np.int64], out: NDArray[Any], valid: NDArray[Any]) -> None:
        """Fold some events with one call of `fold`."""
        folding.fold(
            self.layout.table, state.records, rows, self.slots[0], self.times[0], self.inputs[0], self.present[0],
            self.slots[1], self.times[1], self.inputs[1], self.present[1], out, valid,
        )  # fmt: skip

    def read(self, state: ProgramState, rows: NDArray[np.int64], out: NDArray[Any], valid: NDArray[Any]) -> None:
        """Read before payments, with the inputs that are only known later made unreadable."""
        inputs, present = self.inputs[0].copy(), self.present[0].copy()
        late = [i for i in range(len(self.layout.inputs)) if i not in self.layout.own]
        inputs[late], present[late] = 0x7FF8BADBADBADBAD, 1
        folding.read(self.layout.table, state.records, rows, self.slots[0], self.times[0], inputs, present, out, valid)

    def update(self, state: ProgramState, rows: NDArray[np.int64], *, verdicts: bool) -> None:
        """Fold payments or verdicts without reading."""
        k = int(verdicts)
        folding.update(
            self.layout.table, state.records, rows, self.slots[k], self.times[k], self.inputs[k], self.present[k],
            verdicts,
        )  # fmt: skip


def _matrix(rows: list[list[Any]], width: int, dtype: Any) -> NDArray[Any]:
    return np.array(rows, dtype=dtype).reshape(len(rows), width)


def started(layout: Layout, events: Sequence[Event]) -> ProgramState:
    """A state with all accounts of the events."""
    state = ProgramState(layout)
    state.begin(sorted({e.slot for e in events}))
    return state


def slow(aggregates: Sequence[Aggregate], events: Sequence[Event]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """The oracle's outputs: words and validity, (aggregates, payments)."""
    oracle = SlowAggregates(list(aggregates))
    results = []
    for e in events:
        if not e.verdict:
            results.append(oracle.read(e.slot, e.time, e.values))
        oracle.add(e.slot, e.time, e.values, verdict=e.verdict)
    columns = [[row[i] for row in results] for i in range(len(aggregates))]
    words = [[0x7FF8000000000000 if v != v else word(v) for v in column] for column in columns]
    valid = [[v is not None for v in column] for column in columns]
    return _matrix(words, len(results), np.uint64), _matrix(valid, len(results), np.uint8)


def difference(aggregates: Sequence[Aggregate], got: tuple[Any, Any], wanted: tuple[Any, Any]) -> str:
    """Words about the first result that differs, "" if none does."""
    bad = np.argwhere((got[0] != wanted[0]) | (got[1] != wanted[1]))
    if not len(bad):
        return ""
    a, row = bad[0]
    values = [(w[0][a, row : row + 1].view(np.float64)[0], hex(w[0][a, row]), w[1][a, row]) for w in (got, wanted)]
    what = aggregates[a]
    about = f"{what.function} {what.entity} {what.window_ms} of [{text_of(what.value)}] if [{text_of(what.condition)}]"
    return f"{about} at payment {row}: got {values[0]}, wanted {values[1]}; {len(bad)} differ"


def folded(aggregates: Sequence[Aggregate], events: Sequence[Event]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """The compiled code's outputs by one call of `fold`: words and validity, (aggregates, payments)."""
    layout = Layout.of(aggregates, OWN_FIELDS)
    columns = Columns.of(layout, events)
    out = columns.outputs()
    columns.fold(started(layout, events), columns.rows, *out)
    return out


def compare(seed: int) -> tuple[str, int]:
    """(words about the first difference on a random set and stream, or "", and how many results were compared)."""
    rng = random.Random(seed)
    chosen = aggregates(rng, rng.randrange(1, 12))
    events = stream(rng, rng.choice((10, 40, 80)))
    got = folded(chosen, events)
    return difference(chosen, got, slow(chosen, events)), got[0].size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=1_000, help="seed of the first")
    arguments = parser.parse_args()
    results = 0
    for seed in range(arguments.first, arguments.first + arguments.sets):
        different, size = compare(seed)
        results += size
        if different:
            raise SystemExit(f"seed {seed}: {different}")
    print(f"{arguments.sets:,} sets of aggregates, {results:,} results, all equal to the oracle's bits")


if __name__ == "__main__":
    main()
