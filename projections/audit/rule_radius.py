"""What a rule or a program has touched: its decisions since when, customers, money, and what became known later.

A rule is known by its code under one program, or under all of them; a program by its SHA-256. Columns only; archived
segments without such decisions cost next to nothing. Reads only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.log.base import EventLog, Head
from core.policy import DECISIONS
from projections.audit.row_labels import RowLabels
from projections.audit.stored_batch import coded, decisions_of
from projections.audit.stored_tables import THREADS, Part, Rows, in_order, parts, rows_in_range
from projections.audit.whatif import Scope
from projections.labelling.view import FRAUD, LEGITIMATE

_COLUMNS = (
    "generation",
    "offset",
    "amount",
    "rate",
    "occurred_at",
    "account_id",
    "decision",
    "program",
    "rules",
    "shadow_rules",
    "width",
)


class Touched(msgspec.Struct):
    """Decisions that a rule hit, or that a program made. shadow: of them, hits without effect. decisions: by decision.
    alone: where no other rule hit. accounts: how many. amount: in the base currency; declined_amount: of declined ones.
    frauds, legitimate, unknown: by label as known now; wrongly_stopped: reviewed or declined, labelled legitimate, and
    wrongly_stopped_amount; missed: approved, labelled fraud, and missed_amount. first_ms, last_ms: event times, epoch
    ms. programs: decisions by the first digits of the program's SHA-256.
    """

    count: int = 0
    shadow: int = 0
    alone: int = 0
    decisions: dict[str, int] = {}
    programs: dict[str, int] = {}
    accounts: int = 0
    amount: float = 0.0
    declined_amount: float = 0.0
    frauds: int = 0
    legitimate: int = 0
    unknown: int = 0
    wrongly_stopped: int = 0
    wrongly_stopped_amount: float = 0.0
    missed: int = 0
    missed_amount: float = 0.0
    first_ms: int = 0
    last_ms: int = 0


def touched(
    log: EventLog,
    heads: dict[int, Head],
    scope: Scope,
    labels: RowLabels,
    code: str = "",
    program: str = "",
    progress: Callable[[int], None] = lambda n: None,
) -> Touched:
    """The totals. code: of a rule, "" for all decisions; program: first 16 digits of a SHA-256, "" for all programs."""
    found = Touched()
    accounts: set[str] = set()
    for partition, head in heads.items():
        end = head.transactions if scope.last is None else min(scope.last, head.transactions)
        every = parts(log, partition, scope.after, end, scope)
        for part, names, count in in_order(
            (partial(_part, each, scope, labels, code, program) for each in every), THREADS
        ):
            _add(found, part)
            accounts.update(names)
            progress(count)
    found.accounts = len(accounts)
    return found


def _part(part: Part, scope: Scope, labels: RowLabels, code: str, program: str) -> tuple[Touched, Iterable[str], int]:
    whole = Rows.of(part, _COLUMNS, {})
    kept, _ = rows_in_range(whole, scope)
    rows = whole if kept is None else whole.only(kept)
    wanted = np.ones(len(rows), dtype=np.bool_)
    live, quiet = _where(rows, "rules", code), _where(rows, "shadow_rules", code)
    if program:
        codes, names = coded(rows.column("program"))
        wanted &= np.array([name == program for name in names], dtype=np.bool_)[codes]
    if code:
        wanted &= live | quiet
    at = np.flatnonzero(wanted)
    if not len(at):
        return Touched(), (), len(whole)
    chosen = rows.only(at)
    times = chosen.column("occurred_at").cast(pa.int64()).to_numpy()
    decisions = decisions_of(chosen.column("decision"))
    amounts = chosen.column("amount").to_numpy() * chosen.column("rate").to_numpy()
    label = labels.of(chosen, times)
    stopped, missed = (decisions > 0) & (label == LEGITIMATE), (decisions == 0) & (label == FRAUD)
    rules, values = coded(chosen.column("rules"))
    single = (
        np.array([value == code for value in values], dtype=np.bool_)[rules] if code else np.zeros(len(at), np.bool_)
    )
    found = Touched(
        count=len(at),
        shadow=int(np.count_nonzero(quiet[at])) if code else 0,
        alone=int(np.count_nonzero(single)),
        decisions=_counts(decisions.astype(np.int64), DECISIONS),
        programs=_counts(*coded(chosen.column("program"))),
        amount=float(amounts.sum()),
        declined_amount=float(amounts[decisions == 2].sum()),
        frauds=int(np.count_nonzero(label == FRAUD)),
        legitimate=int(np.count_nonzero(label == LEGITIMATE)),
        unknown=int(np.count_nonzero((label != FRAUD) & (label != LEGITIMATE))),
        wrongly_stopped=int(np.count_nonzero(stopped)),
        wrongly_stopped_amount=float(amounts[stopped].sum()),
        missed=int(np.count_nonzero(missed)),
        missed_amount=float(amounts[missed].sum()),
        first_ms=int(times.min()),
        last_ms=int(times.max()),
    )
    codes, names = coded(chosen.column("account_id"))
    return found, [names[k] for k in np.unique(codes).tolist()], len(whole)


def _where(rows: Rows, column: str, code: str) -> NDArray[np.bool_]:
    codes, values = coded(rows.column(column))
    found: NDArray[np.bool_] = np.array([code in value.split(",") for value in values], dtype=np.bool_)[codes]
    return found


def _counts(codes: NDArray[np.int64], names: Iterable[str]) -> dict[str, int]:
    counts = np.bincount(codes, minlength=1).tolist()
    return {name: n for name, n in zip(names, counts, strict=False) if n}


def _add(into: Touched, part: Touched) -> None:
    """Add a part's totals, all but `accounts`."""
    if not part.count:
        return
    into.first_ms = min(into.first_ms or part.first_ms, part.first_ms)
    into.last_ms = max(into.last_ms, part.last_ms)
    for name in Touched.__struct_fields__:
        value = getattr(part, name)
        if isinstance(value, dict):
            held: dict[str, int] = getattr(into, name)
            for key, n in value.items():
                held[key] = held.get(key, 0) + n
        elif name not in ("first_ms", "last_ms", "accounts"):
            setattr(into, name, getattr(into, name) + value)
