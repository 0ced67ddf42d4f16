"""Shadow mode: what the shadow model would have decided, compared with what was decided. Folded by partition.

Each score with a shadow margin updates its pair (deciding model, shadow model). A count is kept by decision, by the
effects of the rules that hit, and by the shadow's probability in thousandths. These counts give the shadow's alert rate
and the number of decisions it changes for any thresholds in thousandths, with the same rules for both. The pair's
newest `ROWS_MAX` transactions are also kept as rows, to compare both models with labels; a new pair replaces the rows
of older ones.

For the paired test (`projections.views.shadow_trial`) each account is enrolled with its first transaction under the
pair, and its transactions of the next `TRIAL_DAYS` are kept if either model can have alerted: decided otherwise than
approve, or by the shadow with a probability of at least 1 / `PARTS` or an expected loss of at least `LOSS_MIN`. A new
shadow replaces the accounts of older ones.

Memory per partition: 41 bytes × `ROWS_MAX`; at most a few thousand counts per pair; about 300 bytes per account
(`ACCOUNTS_MAX` at most) and 46 per kept transaction, of which an account has at most `ACCOUNT_ROWS_MAX`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.control import DEFAULT_DECLINE, DEFAULT_REVIEW
from core.currency import base_amount
from core.events import Seal, ThresholdsChanged
from core.numeric import sigmoid
from core.policy import DECISIONS, Thresholds
from core.receipt import receive_time
from core.times import DAY_MS
from projections.engine.base import DecidedTransaction, Fact, Projection
from projections.engine.states import States
from projections.labelling.consensus import MATURITY_DAYS
from projections.labelling.view import LabelView, view
from projections.views.account_labels import transaction_key
from projections.views.labels import LABELS, Labels

ROWS_MAX = 100_000
_SLACK = 10_000
"""Rows beyond the bound before the oldest are dropped, all at once."""

PARTS = 1_000
_EFFECTS = {"review": 1, "decline": 2, "allow": 4}
"""Bits of a score's `effects`."""

TRIAL_DAYS = 31
ACCOUNTS_MAX = 200_000
ACCOUNT_ROWS_MAX = 500
LOSS_MIN = 1.0

_TRIAL_ROW = struct.Struct("<8sqqddIBB")
TRIAL_ROW = np.dtype(
    [
        ("key", "<u8"),
        ("received_at", "<i8"),
        ("recorded_at", "<i8"),
        ("amount", "<f8"),
        ("shadow", "<f8"),
        ("control", "<u4"),
        ("decision", "u1"),
        ("effects", "u1"),
    ]
)
"""One transaction of an enrolled account: its `transaction_key`, receive and log time, amount, the shadow's margin, the
control position of the decision, the decision (index into DECISIONS), and the effects of the rules that hit."""

_ROW = struct.Struct("<8sqdddB")
ROW = np.dtype(
    [
        ("key", "<u8"),
        ("received_at", "<i8"),
        ("margin", "<f8"),
        ("shadow", "<f8"),
        ("amount", "<f8"),
        ("alerted", "u1"),
    ]
)
"""One transaction: its `payment_key`, receive time, both margins, amount, whether it was alerted."""


def payment_key(account: str, transaction: str) -> bytes:
    """8 bytes of BLAKE2b over both IDs, because two accounts may have transactions with the same ID."""
    both = f"{account}\x1e{transaction}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(both, digest_size=8).digest()


class Enrolment(msgspec.Struct):
    """An account under a pair, since its first transaction. Times in epoch ms; rows are of dtype `TRIAL_ROW`."""

    received_at: int
    recorded_at: int
    rows: bytearray = msgspec.field(default_factory=bytearray)


class Pair(msgspec.Struct):
    """A deciding model and a shadow. counts: by `_key`. accounts: enrolled, by ID; left_out: transactions beyond the
    limits of the module's head. Times are log times (epoch ms).
    """

    model: str
    shadow: str
    first_at: int
    last_at: int = 0
    counts: dict[int, int] = {}
    rows: bytearray = msgspec.field(default_factory=bytearray)
    accounts: dict[str, Enrolment] = {}
    left_out: int = 0


Held = tuple[int, Thresholds]
"""The control position from which thresholds hold, and the thresholds."""


class Shadows(msgspec.Struct):
    """Partition: pairs, oldest first, and the log time reached. Control stream: all thresholds so far, in order."""

    pairs: dict[str, Pair] = {}
    recorded_at: int = 0
    thresholds: list[Held] = msgspec.field(default_factory=lambda: [(0, Thresholds(DEFAULT_REVIEW, DEFAULT_DECLINE))])


def _key(decision: int, effects: int, part: int) -> int:
    return (decision * 8 + effects) * (PARTS + 1) + part


def _decided(state: Shadows, fact: Fact) -> None:
    decided: DecidedTransaction = fact.event
    score, transaction = decided.score, decided.transaction
    if score.shadow is None:
        return
    name = f"{score.model} {score.shadow_model}"
    pair = state.pairs.get(name)
    if pair is None:
        for older in state.pairs.values():
            older.rows = bytearray()
            if older.shadow != score.shadow_model:
                older.accounts = {}
        pair = state.pairs[name] = Pair(score.model, score.shadow_model, fact.recorded_at)
    pair.last_at = fact.recorded_at
    effects = score.effects & 7
    probability = float(sigmoid(np.array([score.shadow]), 1.0)[0])
    key = _key(DECISIONS.index(score.decision), effects, int(probability * PARTS))
    pair.counts[key] = pair.counts.get(key, 0) + 1
    pair.rows += _ROW.pack(
        payment_key(transaction.account_id, transaction.transaction_id),
        receive_time(transaction),
        score.margin,
        score.shadow,
        base_amount(transaction),
        score.decision != "approve",
    )
    if len(pair.rows) > (ROWS_MAX + _SLACK) * ROW.itemsize:
        del pair.rows[: _SLACK * ROW.itemsize]
    _enrol(pair, decided, fact.recorded_at, effects, probability)


def _enrol(pair: Pair, decided: DecidedTransaction, recorded_at: int, effects: int, probability: float) -> None:
    """Keep the transaction for the paired test."""
    score, transaction = decided.score, decided.transaction
    held = pair.accounts.get(transaction.account_id)
    if held is None:
        if len(pair.accounts) >= ACCOUNTS_MAX:
            pair.left_out += 1
            return
        held = pair.accounts[transaction.account_id] = Enrolment(receive_time(transaction), recorded_at)
    can_alert = score.decision != "approve" or probability >= 1 / PARTS
    can_alert = can_alert or probability * base_amount(transaction) >= LOSS_MIN
    if not can_alert or recorded_at > held.recorded_at + 2 * TRIAL_DAYS * DAY_MS:
        return
    if receive_time(transaction) >= held.received_at + TRIAL_DAYS * DAY_MS:
        return
    if len(held.rows) >= ACCOUNT_ROWS_MAX * TRIAL_ROW.itemsize:
        pair.left_out += 1
        return
    held.rows += _TRIAL_ROW.pack(
        transaction_key(transaction.transaction_id),
        receive_time(transaction),
        recorded_at,
        base_amount(transaction),
        score.shadow,
        score.control_position,
        DECISIONS.index(score.decision),
        effects,
    )


def _sealed(state: Shadows, fact: Fact) -> None:
    state.recorded_at = max(state.recorded_at, fact.recorded_at)


def _thresholds(state: Shadows, fact: Fact) -> None:
    event: ThresholdsChanged = fact.event
    held = Thresholds(*(getattr(event, name) for name in Thresholds._fields))
    state.thresholds.append((fact.id.generation, held))


SHADOW = Projection(
    name="shadow",
    holds=(
        "for each pair of deciding and shadow model: counts of decisions, the newest 100,000 transactions "
        "with both margins, and each account's transactions of its first month that either model can have alerted"
    ),
    version=3,
    state_type=Shadows,
    handlers={DecidedTransaction: _decided, Seal: _sealed, ThresholdsChanged: _thresholds},
)


class Agreement(NamedTuple):
    """How far a shadow's decisions agree with those made, at given thresholds. Counts of transactions.

    alerts, shadow_alerts: decisions other than approve. changed: decisions that differ; gained, lost: alerts raised by
    the shadow only, or by the deciding model only.
    """

    decisions: int
    alerts: int
    shadow_alerts: int
    changed: int
    gained: int
    lost: int


def agreement(pairs: list[Pair], review: float, decline: float) -> Agreement:
    """Agreement over all partitions' states of one pair. The decisions made used the thresholds of their time."""
    decisions = alerts = shadow_alerts = changed = gained = lost = 0
    for pair in pairs:
        for key, count in pair.counts.items():
            head, part = divmod(key, PARTS + 1)
            made, effects = divmod(head, 8)
            would = _would(effects, part / PARTS, review, decline)
            decisions += count
            alerts += count * (made > 0)
            shadow_alerts += count * (would > 0)
            changed += count * (would != made)
            gained += count * (would > 0 and made == 0)
            lost += count * (would == 0 and made > 0)
    return Agreement(decisions, alerts, shadow_alerts, changed, gained, lost)


def _would(effects: int, probability: float, review: float, decline: float) -> int:
    """The policy (`core.policy.decide`) as an index into DECISIONS; `would_alert` is the same for arrays."""
    is_allowed = bool(effects & _EFFECTS["allow"])
    if effects & _EFFECTS["decline"] or (probability >= decline and not is_allowed):
        return 2
    return int((bool(effects & _EFFECTS["review"]) or probability >= review) and not is_allowed)


def would_alert(rows: NDArray[np.void], thresholds: list[Held]) -> NDArray[np.bool_]:
    """Whether the shadow would have alerted, at the thresholds of each decision's time: rows of dtype TRIAL_ROW, bool
    (n,). See `core.policy.decide`.
    """
    positions = np.array([position for position, _ in thresholds])
    at = np.searchsorted(positions, rows["control"], side="right") - 1
    levels = np.array([held for _, held in thresholds], dtype=np.float64)[at]
    p, effects = sigmoid(rows["shadow"].astype(np.float64), 1.0), rows["effects"]
    loss = p * rows["amount"].astype(np.float32).astype(np.float64)
    review, decline, review_loss, decline_loss = levels.T
    by_model = np.where(review_loss > 0.0, loss >= review_loss, p >= review)
    by_model |= np.where(decline_loss > 0.0, loss >= decline_loss, p >= decline)
    is_allowed = effects & _EFFECTS["allow"] > 0
    by_rules = effects & _EFFECTS["review"] > 0
    declined = effects & _EFFECTS["decline"] > 0
    return np.asarray(declined | (~is_allowed & (by_rules | by_model)))


class LabelledMargins(NamedTuple):
    """Transactions whose label is known: fraud, both margins, amounts, alerted; arrays (n,). unlabelled: number of
    transactions pending or in review.
    """

    fraud: NDArray[np.bool_]
    margin: NDArray[np.float64]
    shadow: NDArray[np.float64]
    amount: NDArray[np.float64]
    alerted: NDArray[np.bool_]
    unlabelled: int


def labelled(
    pairs: Mapping[int, Pair],
    labels: LabelView,
    clocks: Mapping[int, int],
    maturity_days: int = MATURITY_DAYS,
) -> LabelledMargins:
    """One pair's newest transactions with labels; a transaction without a label is legitimate once mature.

    clocks: log time reached by partition. Transactions with conflicting verdicts are left out.
    """
    judged = [each for each in labels.transactions if each.consensus is not None]
    keys = np.frombuffer(
        b"".join(payment_key(each.judged.account_id, each.judged.transaction_id) for each in judged), dtype="<u8"
    )
    words = np.array([each.consensus.label for each in judged if each.consensus is not None], dtype="U10")
    frauds, legitimate = keys[words == "fraud"], keys[words == "legitimate"]
    kept: list[NDArray[np.void]] = []
    truths: list[NDArray[np.bool_]] = []
    unlabelled = 0
    for partition in sorted(pairs):
        rows = np.frombuffer(bytes(pairs[partition].rows), dtype=ROW)
        is_fraud = np.isin(rows["key"], frauds)
        is_clear = is_fraud | np.isin(rows["key"], legitimate)
        is_mature = rows["received_at"] + maturity_days * DAY_MS <= clocks[partition]
        use = is_clear | (~np.isin(rows["key"], keys) & is_mature)
        unlabelled += int((~use).sum())
        kept.append(rows[use])
        truths.append(is_fraud[use])
    rows = np.concatenate(kept) if kept else np.empty(0, dtype=ROW)
    fraud = np.concatenate(truths) if truths else np.empty(0, dtype=np.bool_)
    return LabelledMargins(fraud, rows["margin"], rows["shadow"], rows["amount"], rows["alerted"] == 1, unlabelled)


class ShadowAnswer(NamedTuple):
    """Pairs of deciding and shadow model by name, oldest first, each by partition; for `learners.experiments.shadow`.

    clocks: log time reached by partition (epoch ms). thresholds: all so far, in order; the last are in force. said:
    the labels' states by partition, for paired tests.
    """

    as_of: str
    pairs: dict[str, dict[int, Pair]]
    labels: LabelView
    clocks: dict[int, int]
    thresholds: list[Held]
    said: Mapping[int, Labels]

    @property
    def in_force(self) -> tuple[float, float]:
        """(review, decline) now."""
        return self.thresholds[-1][1][:2]


def shadow_answer(states: States) -> ShadowAnswer:
    """Every shadow model, compared with the models that decided."""
    control, held = states.of_control(SHADOW), states.by_partition(SHADOW)
    first: dict[str, int] = {}
    for state in held.values():
        for name, pair in state.pairs.items():
            first[name] = min(first.get(name, pair.first_at), pair.first_at)
    pairs = {
        name: {p: state.pairs[name] for p, state in held.items() if name in state.pairs}
        for name in sorted(first, key=lambda name: (first[name], name))
    }
    said = states.by_partition(LABELS) if pairs else {}
    clocks = {p: state.recorded_at for p, state in held.items()}
    return ShadowAnswer(states.as_of, pairs, view(said), clocks, control.thresholds, said)
