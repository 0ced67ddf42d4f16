"""What the aggregates of a program cost: ns of CPU a transaction and aggregate, by number, accounts and batch size.

    python -m benchmarks.rings [--accounts 1000,200000] [--aggregates 1,10,50] [--apart]

Accounts pay three times a day, in random order, so of 200,000 accounts nearly every one is in no cache. They have ten
payments of history. With `--apart` every aggregate has a condition of its own, so none share a ring. One thread, the
best of five runs.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.program import folding
from core.program.layout import Layout
from core.program.state import ProgramState
from core.program.typed import Aggregate, Apply, Column, Constant, Expression
from core.times import DAY_MS, HOUR_MS, MINUTE_MS

BATCHES = (33, 1000)
RUNS = 5
START_MS = 1_700_000_000_000
HISTORY = 10
_PAYMENTS_A_DAY = 3
_EVENTS = 60_000  # of a run

_AMOUNT = Column("number", "field", "amount")
_MERCHANT = Column("string", "field", "merchant_id", "text")
_CATEGORY = Column("string", "field", "merchant_category", "text")
_WINDOWS = (24 * HOUR_MS, 7 * DAY_MS, HOUR_MS, 30 * DAY_MS, 10 * MINUTE_MS)
_FUNCTIONS: tuple[tuple[str, Expression | None], ...] = (
    ("count", None),
    ("sum", _AMOUNT),
    ("mean", _AMOUNT),
    ("max", _AMOUNT),
    ("distinct", _MERCHANT),
)


def _condition(number: int) -> Expression:
    return Apply("bool", "equal_string", (_CATEGORY, Constant("string", f"category {number}")))


def chosen(count: int, *, apart: bool) -> list[Aggregate]:
    """So many aggregates: functions over windows, then the same of one category, and so on. apart: each of its own."""
    out = []
    for i in range(count):
        function, value = _FUNCTIONS[i // len(_WINDOWS) % len(_FUNCTIONS)]
        group = i if apart else i // (len(_WINDOWS) * len(_FUNCTIONS))
        condition = _condition(group) if group or apart else None
        window = _WINDOWS[i % len(_WINDOWS)]
        out.append(Aggregate("number", function, window_ms=window, value=value, condition=condition))
    return out


class _Stream:
    """Events in batches, and a state that they are folded into."""

    def __init__(self, layout: Layout, accounts: int) -> None:
        self.layout = layout
        self.random = np.random.default_rng(1)
        self.accounts = accounts
        self.now = START_MS
        self.state = ProgramState(layout)
        self.state.begin(np.arange(accounts))
        for _ in range(max(HISTORY * accounts // _EVENTS, 1)):
            self.fold(self.events(), 1000)

    def events(self) -> tuple[NDArray[Any], ...]:
        """Slots, times, inputs and validity of the next _EVENTS payments."""
        gap = DAY_MS / (_PAYMENTS_A_DAY * self.accounts)
        times = self.now + np.sort(self.random.random(_EVENTS) * gap * _EVENTS).astype(np.int64)
        self.now += int(gap * _EVENTS)
        inputs = np.empty((len(self.layout.inputs), _EVENTS), dtype=np.uint64)
        for row, expression in enumerate(self.layout.inputs):
            if expression.type == "number":
                inputs[row] = self.random.lognormal(3.5, 1.2, _EVENTS).view(np.uint64)
            elif expression.type == "bool":
                inputs[row] = self.random.random(_EVENTS) < 0.3
            else:
                inputs[row] = self.random.integers(1, 2**63, _EVENTS, dtype=np.uint64)
        slots = self.random.integers(0, self.accounts, _EVENTS).astype(np.int32)
        return slots, times, inputs, np.ones(inputs.shape, dtype=np.uint8)

    def fold(self, events: tuple[NDArray[Any], ...], batch: int) -> float:
        """Seconds that folding takes, in calls of so many events."""
        parts = []
        for start in range(0, _EVENTS - batch + 1, batch):
            slots, times, inputs, present = (np.ascontiguousarray(a[..., start : start + batch]) for a in events)
            out = np.empty((len(self.layout.aggregates), batch), dtype=np.uint64)
            parts.append((slots, times, inputs, present, out, np.empty(out.shape, dtype=np.uint8)))
        none = np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros((0, 0), np.uint64), np.zeros((0, 0), np.uint8)
        rows = np.arange(batch)
        begin = time.thread_time()
        for slots, times, inputs, present, out, valid in parts:
            folding.fold(self.layout.table, self.state.records, rows, slots, times, inputs, present, *none, out, valid)
        return (time.thread_time() - begin) / (len(parts) * batch)


def measure(accounts: int, counts: list[int], *, apart: bool) -> list[dict[str, Any]]:
    """Figures for each number of aggregates and each batch size."""
    out = []
    for count in counts:
        layout = Layout.of(chosen(count, apart=apart))
        stream = _Stream(layout, accounts)
        for batch in BATCHES:
            seconds = min(stream.fold(stream.events(), batch) for _ in range(RUNS))
            out.append(
                {
                    "accounts": accounts,
                    "aggregates": count,
                    "batch": batch,
                    "bytes_account": layout.bytes_account,
                    "ns_transaction": seconds * 1e9,
                    "ns_aggregate": seconds * 1e9 / count,
                }
            )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", default="1000,200000")
    parser.add_argument("--aggregates", default="1,10,50")
    parser.add_argument("--apart", action="store_true", help="no two aggregates share a ring")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    counts = [int(text) for text in arguments.aggregates.split(",")]
    lines = [
        line for text in arguments.accounts.split(",") for line in measure(int(text), counts, apart=arguments.apart)
    ]
    if arguments.json:
        print(json.dumps(lines, indent=2))
        return
    print(
        f"{'accounts':>9}{'aggregates':>12}{'batch':>7}{'bytes/account':>15}{'ns/transaction':>16}{'ns/aggregate':>14}"
    )
    for line in lines:
        print(
            f"{line['accounts']:>9,}{line['aggregates']:>12}{line['batch']:>7}{line['bytes_account']:>15,}"
            f"{line['ns_transaction']:>16.0f}{line['ns_aggregate']:>14.0f}"
        )


if __name__ == "__main__":
    main()
