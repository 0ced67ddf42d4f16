"""The decision path, the same for live scoring, replay, what-if and training (I4): features → score → rules → decision
→ alert.

`decide` is a pure function of a context, the partitions' states and their next events; it changes the states and
returns the entries to append. It takes all of a worker's partitions at once, as one columnar batch (`Rows`): every step
is one call over all rows. Batch boundaries do not affect the result: every step works row by row.

    events of all partitions ──► Columns, one table of kernel events
                             ──► kernel: features, duplicates       (one partition after another)
                             ──► reference join → routing; then each program's rows: features → score → rules → policy
                             ──► scores and alerts as entries       (sliced by partition: `Decided`)

States of a row: transaction → duplicate (not scored; the caller rejects it) | scored → approve | review | decline (→
alert). Failure cases: no model, a model that raises or yields NaN, a missing reference table. The row is then decided
by rules alone, with margin and probability 0, and `degraded` says why (`core.routing`).

Cost per transaction (one core, batches of 1,000 over twelve partitions): columns 0.4 µs, kernel 1, score 1.2, rules and
policy 0.1, encode 1.5; a new account 4 to 9 µs more. In batches of 33 about 3 µs more per transaction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any, TypeVar

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from core import alerts, policy
from core.codec import encode, encode_each
from core.context import NO_MODEL, NO_RATES, Context
from core.events import (
    START,
    AccountBlocked,
    FeedbackReceived,
    Outcome,
    Position,
    TransactionReceived,
    TransactionScored,
)
from core.features import kernel, packing, reference, remembered, spec
from core.features.column_loops import fill_events
from core.features.columns import Columns, FeedbackRow, columns, feedback_row
from core.features.state import AccountState
from core.features.verdicts import Count, leave_out
from core.geography import CENTRES
from core.identity import LogIdentity
from core.log.base import Entry
from core.numeric import sigmoid
from core.program import rings
from core.program.batch import Batch
from core.program.codes import ENGINE
from core.program.deciding import Program, effects_of
from core.program.leaves import Words
from core.program.library import kernel as kernel_names
from core.program.loading import check
from core.program.plan import plan
from core.program.waves import waves
from core.routing import Routing
from core.times import DAY_MS
from core.verdicts import RatedHour
from core.work import Decided, Fold, Rows, Run, Work

_WITH_AGGREGATES = """
[program]
name = "warm-up"
version = "1.0.0"
uses = ["standard@1"]

[features]
payments = "count(account, '1h')"
declines = "count(account, '1h', decision == 'decline')"
"""
_EVERYWHERE = np.zeros(0, dtype=np.int64)
_entry = partial(tuple.__new__, Entry)
_V = TypeVar("_V")


def decide(context: Context, works: Sequence[Work]) -> list[Decided]:
    """Decide every transaction of `works` under `context`, updating their states.

    Raises Corrupt if a state does not hold what the program's aggregates need (`AccountState.rings`).
    """
    transactions = [t for work in works for run in work.runs for t in run.transactions]
    n = len(transactions)
    cols = columns(transactions, context.program.key)
    seen = np.zeros(n, dtype=np.uint8)
    accounts = [t.account_id for t in transactions] if context.allocation is not None else []
    routing = Routing(context, accounts, n)
    programs = routing.programs
    rows = Rows(
        transactions,
        [position for work in works for run in work.runs for position in run.positions],
        np.zeros(n, dtype=np.bool_),
        np.empty((n, max([program.width for program in programs])), dtype=np.float32),
    )
    if routing.which is not None or any([work.state.rings for work in works]):
        rows.allocate(max([len(program.rules) for program in programs]))
    own = context.program.plan.program.fields
    batch = Batch(transactions, cols, rows.features, seen, context.lists, context.rates, context.program.key, own)
    batches = [batch.under(program.plan.program.fields) for program in programs]
    for fold in _folds(works, cols, context.quarantined, rows.features, seen):
        part = slice(fold.start, fold.stop)
        features = rows.features[part]
        reference.join(context.merchants, "merchant", cols.merchants[part], features)
        reference.join(context.devices, "device", cols.devices[part], features)
        if np.count_nonzero(seen[part]):
            duplicate = np.equal(seen[part], remembered.DUPLICATE, out=rows.duplicate[part])
            features[duplicate] = 0.0
        for place, wave, aggregates in waves(programs, routing.which, batch, fold, rows):
            _decide_rows(context, programs[place], batches[place], routing, rows, wave, aggregates)
    return _results(context, works, rows, routing)


def _decide_rows(
    context: Context,
    program: Program,
    batch: Batch,
    routing: Routing,
    rows: Rows,
    wave: NDArray[np.int64],
    aggregates: Words | None,
) -> None:
    """Decide some rows by one program, into the columns of `rows`; their kernel features and aggregates are known."""
    program.features(batch, wave, aggregates)
    whole = len(wave) == len(rows.transactions)
    routing.score(wave, lambda scorer, chosen: program.columns(scorer, batch, chosen))
    margins, failed = (routing.margins, routing.failed) if whole else (routing.margins[wave], routing.failed[wave])
    probabilities = sigmoid(margins, 1.0)
    if np.count_nonzero(failed):
        probabilities[failed] = 0.0
    if context.scorer is None:
        probabilities[:] = 0.0
    hits, asked, decisions = program.judged(batch, wave, probabilities)
    severities = program.severities(batch, wave, probabilities, hits, decisions)
    quiet = None
    if routing.shadows is not None:
        shadows = routing.shadows if whole else routing.shadows[wave]
        quiet = program.decisions(batch, wave, sigmoid(shadows, 1.0), hits)
    rows.put(None if whole else wave, margins, probabilities, *hits, asked, decisions, severities, quiet)


def apply(work: Work) -> None:
    """Update only the partition's state, to rebuild it from a log whose decisions are known: with `outcomes` in
    its runs, if the state holds aggregates of decisions.
    """
    transactions = [t for run in work.runs for t in run.transactions]
    cols = columns(transactions, work.state.identity.key)
    n = len(transactions)
    features, seen = np.empty((n, spec.WIDTH), dtype=np.float32), np.zeros(n, dtype=np.uint8)
    batch = Batch(transactions, cols, features, seen, {}, NO_RATES, work.state.identity.key, {})
    outcomes = [outcome for run in work.runs for outcome in run.outcomes]
    for fold in _folds([work], cols, frozenset(), features, seen):
        rings.apply(batch, fold, outcomes)


def warm_up(context: Context, identity: LogIdentity) -> None:
    """Run every compiled step once on temporary state, so that no transaction waits for machine code to load: also
    those that only a program with aggregates needs, which may be proposed at any time.
    """
    card = TransactionReceived(
        recorded_at=0,
        transaction_id="warm-up",
        account_id="warm-up",
        amount=1.0,
        occurred_at=DAY_MS,
        merchant_id="m",
        device_id="d",
    )
    blocked = AccountBlocked(account_id="warm-up", occurred_at=DAY_MS, actor="warm-up")
    position = Position(1, 1)
    runs = [Run(START, [], [position], [card]), Run(position, [blocked], [Position(1, 2)], [card])]
    decide(context, [Work(0, AccountState(identity).hold(context.steps), runs)])
    decide(context, [Work(0, AccountState(identity).hold(context.steps), runs[:1])])
    own = Program(plan(check(_WITH_AGGREGATES.encode()).checked, kernel_names()), identity.key, {})
    under = dataclasses.replace(
        context, program=own, scorer=None, shadow=None, allocation=None, arms=(), degraded=NO_MODEL
    )
    decide(under, [Work(0, AccountState(identity).hold(under.steps), runs)])
    logged = Run(START, [], [position], [card], [Outcome("decline", "high", ())])
    apply(Work(0, AccountState(identity).hold(under.steps), [logged]))


def _folds(
    works: Sequence[Work],
    cols: Columns,
    quarantined: frozenset[RatedHour],
    features: NDArray[np.float32],
    seen: NDArray[np.uint8],
) -> Iterator[Fold]:
    """Run the kernel over all events: nearly always at once, else up to where accounts must be evicted. Fills features
    (n, W) and what each of the n transactions is (n,), a constant of `core.features.remembered`.

    Verdicts of the hours in `quarantined` are left out of features; the state keeps them.
    """
    first = 0
    for part in _parts(works):
        stop = first
        for work in part:
            payments = work.payments
            work.state.remembered.reserve(payments)
            stop += payments
        events, ends, held, verdicts = _events(part, cols.rows(first, stop), quarantined)
        kernel.process_all(
            np.array([work.state.addresses for work in part], dtype=np.int64).reshape(-1, 8),
            np.array(ends, dtype=np.int64),
            events,
            CENTRES,
            features[first:stop],
            seen[first:stop],
        )
        leave_out(features[first:stop], cols.received[first:stop], held)
        yield Fold(part, first, stop, events, ends, verdicts)
        first = stop


def _parts(works: Sequence[Work]) -> Iterator[Sequence[Work]]:
    """The works in parts that can be folded at once, in order: nearly always all of them. A work whose new accounts do
    not fit is cut before each eviction, which happens once its events before are folded.
    """
    if all(work.size <= work.state.room or work.state.fits(work.accounts) == work.size for work in works):
        yield works
        return
    for work in works:
        accounts, start = work.accounts, 0
        while start < len(accounts):
            size = work.state.fits(accounts[start:])
            if size:
                yield [work.part(start, start + size)]
                start += size
            else:
                work.state.evict()


def _events(
    works: Sequence[Work], cols: Columns, quarantined: frozenset[RatedHour]
) -> tuple[NDArray[np.void], list[int], list[tuple[int, Count]], list[tuple[int, FeedbackReceived]]]:
    """All events in order as kernel.EVENT (m,); where each work's events end; the rows whose account has verdicts that
    are left out, each with the count of the remaining ones; and the verdicts, each with its place among the events.
    """
    slots: list[int] = []
    ends: list[int] = []
    feedback: list[tuple[int, FeedbackRow]] = []  # with their places among the events
    held: list[tuple[int, Count]] = []
    verdicts: list[tuple[int, FeedbackReceived]] = []
    row = 0
    for work in works:
        accounts: list[str] = []
        for run in work.runs:
            for event in run.feedback:
                if isinstance(event, FeedbackReceived):
                    verdicts.append((len(slots) + len(accounts), event))
                feedback.append((len(slots) + len(accounts), feedback_row(work.state.verdicts, event)))
                accounts.append(event.account_id)
            if quarantined:
                without = work.state.verdicts.without(quarantined)
                counts = enumerate((without.get(t.account_id) for t in run.transactions), row)
                held += [(place, count) for place, count in counts if count is not None]
            accounts += [t.account_id for t in run.transactions]
            row += len(run.transactions)
        slots += work.state.slots(accounts)
        ends.append(len(slots))
    events = np.zeros(len(slots), dtype=kernel.EVENT)
    events["slot"] = slots
    if not feedback:
        _fill(events, cols, _EVERYWHERE)
        return events, ends, held, verdicts
    is_transaction = np.ones(len(slots), dtype=np.bool_)
    is_transaction[[place for place, _ in feedback]] = False
    _fill(events, cols, np.flatnonzero(is_transaction))
    for place, given in feedback:
        event_row = events[place]
        event_row["kind"], event_row["time"] = given.kind, given.time
        event_row["frauds"], event_row["legitimates"] = given.frauds, given.legitimates
    return events, ends, held, verdicts


def _fill(events: NDArray[np.void], cols: Columns, at: NDArray[np.int64]) -> None:
    fill_events(
        events, at, cols.times, cols.received, cols.amounts, cols.ids, cols.owners, cols.contents, cols.merchants,
        cols.categories, cols.countries, cols.devices, cols.places,
    )  # fmt: skip


def _results(context: Context, works: Sequence[Work], rows: Rows, routing: Routing) -> list[Decided]:
    """Scores and alerts of all rows, encoded together and split by partition."""
    duplicate = rows.duplicate.tolist() if np.count_nonzero(rows.duplicate) else None
    codes = _by_program(routing, lambda program, at: program.names(rows.hits[at, : len(program.rules)]))
    scored = _scored(context, works, rows, routing, codes, duplicate)
    kept_rows = range(len(rows.positions)) if duplicate is None else [i for i, d in enumerate(duplicate) if not d]
    positions = rows.positions if duplicate is None else [rows.positions[i] for i in kept_rows]
    scores = list(map(_entry, zip(positions, encode_each(scored), strict=True)))
    alerts_raised = rows.severities >= 0
    if duplicate is not None:
        alerts_raised &= ~rows.duplicate
    alerting = alerts_raised.nonzero()[0].tolist()
    results = []
    start = done = raised = 0
    for work in works:
        stop = start + work.payments
        kept: Sequence[int] = range(stop - start)
        duplicates: list[int] = []
        if duplicate is not None and any(duplicate[start:stop]):
            kept = [i for i in kept if not duplicate[start + i]]
            duplicates = [i for i in range(stop - start) if duplicate[start + i]]
        raised_here = []
        while raised < len(alerting) and alerting[raised] < stop:
            row = alerting[raised]
            event = alerts.alert(routing.of(row), work.partition, _judged(rows, row, codes[row]))
            raised_here.append(Entry(rows.positions[row], encode(event)))
            raised += 1
        mine = slice(done, done + len(kept))
        results.append(Decided(rows, start, stop, kept, duplicates, scored[mine], scores[mine], raised_here))
        start, done = stop, mine.stop
    return results


def _by_program(routing: Routing, make: Callable[[Program, NDArray[np.int64] | slice], Sequence[_V]]) -> Sequence[_V]:
    """A value for every row: what `make` gives for the rows of each program."""
    if routing.which is None:
        return make(routing.programs[0], slice(None))
    found: list[Any] = [None] * len(routing.which)
    for place, program in enumerate(routing.programs):
        at = np.flatnonzero(routing.which == place)
        for row, value in zip(at.tolist(), make(program, at), strict=True):
            found[row] = value
    return found


def _judged(rows: Rows, row: int, codes: tuple[str, ...]) -> alerts.Judged:
    return alerts.Judged(
        rows.positions[row],
        rows.transactions[row],
        rows.features[row],
        rows.hits[row],
        codes,
        bool(rows.asked[row]),
        float(rows.probabilities[row]),
        int(rows.decisions[row]),
        int(rows.severities[row]),
    )


def _scored(
    context: Context,
    works: Sequence[Work],
    rows: Rows,
    routing: Routing,
    codes: Sequence[tuple[str, ...]],
    duplicate: list[bool] | None,
) -> list[TransactionScored]:
    """The score of every row that is not a duplicate."""
    seen = [f for work in works for run in work.runs for f in (str(run.feedback_position),) * len(run.positions)]
    shadows = routing.shadows.tolist() if routing.shadows is not None else None
    would = rows.shadow_decisions.tolist() if shadows is not None else []
    has_quiet = any([each.has_shadows for each in routing.programs])
    is_uniform = routing.is_uniform
    names, levels = policy.DECISIONS, policy.SEVERITIES
    under, plain = context, _score_under(context, context.position, shadows is not None)
    plains = {id(context): plain}
    effects = effects_of(rows.counts)
    scored = []
    for i, (f, margin, probability, hit, quiet, decision, severity, features) in enumerate(
        zip(
            seen,
            rows.margins.tolist(),
            rows.probabilities.tolist(),
            codes,
            _by_program(routing, lambda program, at: program.names(rows.shadow_hits[at, : len(program.rules)]))
            if has_quiet
            else repeat((), len(seen)),
            rows.decisions.tolist(),
            rows.severities.tolist(),
            _by_program(routing, lambda program, at: packing.pack(rows.features[at, : program.plan.stored])),
            strict=True,
        )
    ):
        if duplicate is not None and duplicate[i]:
            continue
        if not is_uniform:
            under = routing.of(i)
            if id(under) not in plains:
                plains[id(under)] = _score_under(under, context.position, shadows is not None)
            plain = plains[id(under)]
        # A copy with a few fields takes a quarter of the time of a new score; with a dictionary of fields it takes all.
        if not (hit or quiet or severity >= 0 or shadows is not None):
            score = replace(
                plain,
                feedback_position=f,
                margin=margin,
                probability=probability,
                decision=names[decision],
                features=features,
            )
        else:
            more: dict[str, Any] = {}
            if hit:
                more["rules"], more["effects"] = hit, effects[i]
            if quiet:
                more["shadow_rules"] = quiet
            if severity >= 0:
                more["severity"] = levels[severity]
            if shadows is not None and under.shadow is not None:
                more["shadow"] = shadows[i]
                if would[i]:
                    more["shadow_decision"] = names[would[i]]
            score = replace(
                plain,
                feedback_position=f,
                margin=margin,
                probability=probability,
                decision=names[decision],
                features=features,
                **more,
            )
        scored.append(score)
    return scored


def _score_under(context: Context, position: int, has_shadow: bool) -> TransactionScored:
    """What the scores of a context have in common. position: c. has_shadow: whether a shadow model runs."""
    return TransactionScored(
        feedback_position="",
        control_position=position,
        model=context.model,
        digest=context.digest,
        spec=spec.SPEC_VERSION,
        engine=ENGINE,
        program=context.program.digest,
        margin=0.0,
        probability=0.0,
        decision="approve",
        features=b"",
        arm=context.arm,
        degraded=context.degraded,
        shadow_model=context.shadow_model if has_shadow and context.shadow is not None else "",
    )
