"""The decision path, the same for live scoring, replay, what-if and training (I4): features → score → rules → decision
→ alert.

`decide` is a pure function of a context, the partitions' states and their next events; it changes the states and
returns the entries to append. It takes all of a worker's partitions at once, because scoring 500 rows in one call costs
a third of scoring twelve times 40. Batch boundaries leave no trace in the result: every step works row by row.

States of a row: transaction → duplicate (not scored; the caller rejects it) | scored → approve | review | decline (→
alert). Failure cases: no model, a model that raises or yields NaN, a reference table that is gone: the row is decided
by rules alone, with margin and probability 0 and `degraded` saying why. A shadow model that fails gives no margin.

While an experiment runs, an account's arm (`core.assignment`) decides which model scores its rows; the shadow model
scores every row beside it and has no say.

Cost per transaction (one core, batches of 500): columns 0.6 µs, features 0.4, score 3–4, rules and policy 0.1, encode
1.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from core import explain, policy, rules
from core.assignment import NOT_ENROLLED
from core.codec import encode
from core.control import MODEL_ERROR, SHADOW_FAILED, Context, join_reasons
from core.events import START, AccountBlocked, AccountEvent, Position, TransactionReceived, TransactionScored
from core.features import kernel, packing, reference, spec
from core.features.columns import Columns, FeedbackRow, TransactionLike, columns, feedback_row
from core.features.state import AccountState
from core.features.verdicts import Count, leave_out
from core.geography import CENTRES
from core.log.base import Entry
from core.numeric import sigmoid
from core.scoring import Scorer
from core.times import DAY_MS
from core.verdicts import RatedHour

_AMOUNT = spec.index("amount")


@dataclass(slots=True)
class Run:
    """Feedback, then the transactions decided after it. `feedback_position` is f for all of them."""

    feedback_position: Position
    feedback: list[AccountEvent] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    transactions: list[TransactionLike] = field(default_factory=list)


@dataclass(slots=True)
class Work:
    """What one partition has to decide next, in order."""

    partition: int
    state: AccountState
    runs: list[Run]


@dataclass(slots=True)
class Decided:
    """The result for one Work. Rows are its transactions in order, duplicates left out of all but `duplicates`.

    kept: indices of the scored transactions; duplicates: indices of the others. features float32 (n, WIDTH), margins
    and probabilities float64 (n,), decisions uint8 (n,) into policy.DECISIONS,
    severities int8 (n,) into policy.SEVERITIES or −1.
    """

    kept: list[int]
    duplicates: list[int]
    scores: list[Entry]
    alerts: list[Entry]
    features: NDArray[np.float32]
    margins: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    decisions: NDArray[np.uint8]
    severities: NDArray[np.int8]


def decide(context: Context, works: Sequence[Work]) -> list[Decided]:
    """Decide every transaction of `works` under `context`, updating their states."""
    flat = [t for work in works for run in work.runs for t in run.transactions]
    cols = columns(flat)
    features = np.empty((len(flat), spec.WIDTH), dtype=np.float32)
    duplicate = np.zeros(len(flat), dtype=np.bool_)
    start = 0
    for work in works:
        count = sum(len(run.transactions) for run in work.runs)
        _fold(work, cols, start, count, features, duplicate, context.quarantined)
        start += count
    reference.join(context.merchants, "merchant", cols.merchants, features)
    reference.join(context.devices, "device", cols.devices, features)
    if duplicate.any():
        features[duplicate] = 0.0
    return _judge(context, works, flat, cols, features, duplicate)


def apply(work: Work) -> None:
    """Update the partition's state only: for rebuilding from a log whose decisions are known."""
    flat = [t for run in work.runs for t in run.transactions]
    scratch = np.empty((len(flat), spec.WIDTH), dtype=np.float32)
    _fold(work, columns(flat), 0, len(flat), scratch, np.zeros(len(flat), dtype=np.bool_))


def warm_up(context: Context) -> None:
    """Run every compiled step once on throw-away state, so that no transaction waits for machine code to load."""
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
    decide(context, [Work(0, AccountState(), runs)])
    decide(context, [Work(0, AccountState(), runs[:1])])
    if context.scorer is not None:
        context.scorer.contributions(np.zeros(spec.WIDTH, dtype=np.float32))


def _fold(
    work: Work,
    cols: Columns,
    start: int,
    count: int,
    features: NDArray[np.float32],
    duplicate: NDArray[np.bool_],
    quarantined: frozenset[RatedHour] = frozenset(),
) -> None:
    """Run the kernel over one partition's events; rows start … start+count of `cols`, `features` and `duplicate` are
    its own. Verdicts of the hours in `quarantined` are left out of features; the state keeps them.
    """
    end = start + count
    held: list[tuple[int, Count]] = []
    taken = 0
    if not quarantined and not any(run.feedback for run in work.runs):
        slots = work.state.slots((t.account_id for run in work.runs for t in run.transactions), count)
        kinds = np.zeros(count, dtype=np.uint8)
        at: NDArray[np.int64] | slice = slice(None)
        out, flags, total = features[start:end], duplicate[start:end], count
    else:
        accounts: list[str] = []
        codes: list[int] = []
        given: list[FeedbackRow] = []
        for run in work.runs:
            fresh = [feedback_row(work.state.verdicts, event) for event in run.feedback]
            accounts += [row.account_id for row in fresh]
            codes += [row.kind for row in fresh]
            given += fresh
            if quarantined:
                without = work.state.verdicts.without(quarantined)
                counts = [without.get(t.account_id) for t in run.transactions]
                held += [(row, count) for row, count in enumerate(counts, start + taken) if count is not None]
                taken += len(counts)
            accounts += [t.account_id for t in run.transactions]
            codes += [-1] * len(run.transactions)
        total = len(codes)
        slots = work.state.slots(accounts, total)
        marked = np.array(codes, dtype=np.int64)
        at = np.flatnonzero(marked < 0)
        kinds = np.where(marked < 0, kernel.TRANSACTION, marked).astype(np.uint8)
        out = np.empty((total, spec.WIDTH), dtype=np.float32)
        flags = np.zeros(total, dtype=np.bool_)
    if total == 0:
        return

    def spread(column: NDArray[np.generic]) -> NDArray[np.generic]:
        if isinstance(at, slice):
            return column[start:end]
        wide = np.zeros(total, dtype=column.dtype)
        wide[at] = column[start:end]
        return wide

    times, amounts, merchants = spread(cols.times), spread(cols.amounts), spread(cols.merchants)
    if not isinstance(at, slice):
        rows = np.flatnonzero(marked >= 0)
        times[rows] = [row.time for row in given]
        amounts[rows] = [row.frauds for row in given]
        merchants[rows] = [row.legitimates for row in given]
    kernel.mark_duplicates(work.state.records, kinds, slots, spread(cols.ids), flags)
    kernel.process(
        work.state.records,
        kinds,
        slots,
        times,
        amounts,
        merchants,
        spread(cols.categories),
        spread(cols.countries),
        spread(cols.devices),
        spread(cols.places),
        flags,
        CENTRES,
        out,
    )
    if not isinstance(at, slice):
        features[start:end] = out[at]
        duplicate[start:end] = flags[at]
    leave_out(features, cols.times, held)


def _list_bits(context: Context, transactions: Sequence[TransactionLike]) -> NDArray[np.uint32]:
    bits = np.zeros(len(transactions), dtype=np.uint32)
    effect_bits = {"block": rules.LIST_BLOCK_BIT, "watch": rules.LIST_WATCH_BIT, "allow": rules.LIST_ALLOW_BIT}
    for (kind, effect), members in context.lists.items():
        name = {"ip": "ip", "country": "country"}.get(kind, f"{kind}_id")
        bit = effect_bits[effect]
        for i, t in enumerate(transactions):
            if getattr(t, name) in members:
                bits[i] |= bit
    return bits


def _margins(scorer: Scorer | None, features: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Margins (n,) and which rows the model failed on (n,); without a model zeros, and none."""
    n = len(features)
    if scorer is None:
        return np.zeros(n), np.zeros(n, dtype=np.bool_)
    try:
        margins = scorer.margins(features)
        bad = ~np.isfinite(margins)
    except Exception:  # noqa: BLE001 - I9: whatever a model does, the stream goes on; the score says so
        return np.zeros(n), np.ones(n, dtype=np.bool_)
    if margins.shape != (n,):
        return np.zeros(n), np.ones(n, dtype=np.bool_)
    return np.where(bad, 0.0, margins), bad


def _score(
    context: Context, arms: NDArray[np.int8] | None, features: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """As `_margins`, each row by its arm's model; one call a model."""
    if arms is None:
        return _margins(context.scorer, features)
    rows_of: dict[str, tuple[Scorer | None, NDArray[np.bool_]]] = {}
    for arm, under in enumerate((context, *context.arms), NOT_ENROLLED):
        scorer, rows = rows_of.get(under.digest, (under.scorer, np.zeros(len(arms), dtype=np.bool_)))
        rows_of[under.digest] = (scorer, rows | (arms == arm))
    margins, failed = np.zeros(len(arms)), np.zeros(len(arms), dtype=np.bool_)
    for scorer, rows in rows_of.values():
        if rows.any():
            margins[rows], failed[rows] = _margins(scorer, features[rows])
    return margins, failed


class _Contexts:
    """The context that each row is explained and logged under: its arm's, less what failed for the row."""

    def __init__(
        self,
        context: Context,
        arms: NDArray[np.int8] | None,
        failed: NDArray[np.bool_],
        shadow_failed: NDArray[np.bool_],
    ) -> None:
        self._context = context
        self._arms = arms.tolist() if arms is not None else None
        self._failed = failed.tolist() if failed.any() else None
        self._shadow_failed = shadow_failed.tolist() if shadow_failed.any() else None
        self._known: dict[tuple[int, bool, bool], Context] = {}
        self.plain = self._arms is None and self._failed is None and self._shadow_failed is None

    def of(self, row: int) -> Context:
        """The row's context."""
        if self.plain:
            return self._context
        key = (
            self._arms[row] if self._arms is not None else NOT_ENROLLED,
            self._failed is not None and self._failed[row],
            self._shadow_failed is not None and self._shadow_failed[row],
        )
        if key not in self._known:
            self._known[key] = self._make(*key)
        return self._known[key]

    def _make(self, arm: int, failed: bool, shadow_failed: bool) -> Context:
        under = self._context if arm == NOT_ENROLLED else self._context.arms[arm]
        reasons = under.degraded.split("+") if under.degraded else []
        if failed:
            reasons.append(MODEL_ERROR)
            under = replace(under, scorer=None, degraded=join_reasons(reasons))
        if shadow_failed:
            reasons.append(SHADOW_FAILED)
            under = replace(under, shadow=None, shadow_model="", degraded=join_reasons(reasons))
        return under


def _judge(
    context: Context,
    works: Sequence[Work],
    flat: list[TransactionLike],
    cols: Columns,
    features: NDArray[np.float32],
    duplicate: NDArray[np.bool_],
) -> list[Decided]:
    arms = context.allocation.arms_of([t.account_id for t in flat]) if context.allocation is not None else None
    margins, failed = _score(context, arms, features)
    shadows, shadow_failed = _margins(context.shadow, features)
    contexts = _Contexts(context, arms, failed, shadow_failed)
    probabilities = sigmoid(margins, 1.0)
    if context.scorer is None:
        probabilities[:] = 0.0
    elif not contexts.plain:
        probabilities[failed] = 0.0
    hits = _list_bits(context, flat)
    rules.evaluate(features, context.parameters, context.enabled, hits)
    decisions, severities = policy.decide(
        probabilities, hits, features[:, _AMOUNT], context.review, context.decline, context.amount_high
    )
    results = []
    start = 0
    for work in works:
        positions = [p for run in work.runs for p in run.positions]
        fs = [f for run in work.runs for f in [str(run.feedback_position)] * len(run.positions)]
        n = len(positions)
        mine = slice(start, start + n)
        flags = duplicate[mine].tolist()
        kept = [i for i in range(n) if not flags[i]]
        scores, alerts = _entries(
            context,
            work.partition,
            positions,
            fs,
            kept,
            flat[mine],
            features[mine],
            margins[mine].tolist(),
            probabilities[mine].tolist(),
            hits[mine].tolist(),
            decisions[mine].tolist(),
            severities[mine].tolist(),
            shadows[mine].tolist() if context.shadow is not None else None,
            contexts,
            start,
        )
        keep: NDArray[np.bool_] | slice = ~duplicate[mine] if len(kept) < n else slice(None)
        results.append(
            Decided(
                kept=kept,
                duplicates=[i for i in range(n) if flags[i]],
                scores=scores,
                alerts=alerts,
                features=features[mine][keep],
                margins=margins[mine][keep],
                probabilities=probabilities[mine][keep],
                decisions=decisions[mine][keep],
                severities=severities[mine][keep],
            )
        )
        start += n
    return results


def _entries(
    context: Context,
    partition: int,
    positions: list[Position],
    fs: list[str],
    kept: list[int],
    transactions: list[TransactionLike],
    features: NDArray[np.float32],
    margins: list[float],
    probabilities: list[float],
    hits: list[int],
    decisions: list[int],
    severities: list[int],
    shadows: list[float] | None,
    contexts: _Contexts,
    start: int,
) -> tuple[list[Entry], list[Entry]]:
    """The score and alert entries of one partition's kept rows, which are rows `start` … of the batch."""
    scores: list[Entry] = []
    alerts: list[Entry] = []
    packed = packing.pack(features)
    names = policy.DECISIONS
    under = context
    for i in kept:
        if not contexts.plain:
            under = contexts.of(start + i)
        severity = severities[i]
        scores.append(
            Entry(
                positions[i],
                encode(
                    TransactionScored(
                        feedback_position=fs[i],
                        control_position=context.position,
                        model=under.model,
                        digest=under.digest,
                        spec=spec.SPEC_VERSION,
                        margin=margins[i],
                        probability=probabilities[i],
                        decision=names[decisions[i]],
                        features=packed[i],
                        rules=rules.codes_of(hits[i]) if hits[i] else (),
                        severity=policy.SEVERITIES[severity] if severity >= 0 else None,
                        arm=under.arm,
                        degraded=under.degraded,
                        shadow_model=under.shadow_model,
                        shadow=shadows[i] if shadows is not None and under.shadow is not None else None,
                    )
                ),
            )
        )
        if severity >= 0:
            raised = explain.alert(
                under,
                partition,
                positions[i],
                transactions[i],
                features[i],
                hits[i],
                probabilities[i],
                decisions[i],
                severity,
            )
            alerts.append(Entry(positions[i], encode(raised)))
    return scores, alerts
