"""Shadow mode: what the shadow model would have decided, compared with what was decided. Folded by partition.

Each score with a shadow margin updates its pair (deciding model, shadow model). Scores say what the program would have
decided at the shadow's probability, with the same rules, so a count by decision and by that gives the shadow's alert
rate and the number of decisions it changes, whatever the program's `[decision]`. The pair's newest `ROWS_MAX`
transactions are also kept as rows, to compare both models with labels; a new pair replaces the rows of older ones.

For the paired test (`projections.views.shadow_trial`) each account is enrolled with its first transaction under the
pair, and its transactions of the next `TRIAL_DAYS` are kept if either model alerts: if one of the two decisions is not
to approve. A new shadow replaces the accounts of older ones.

Memory per partition: 41 bytes × `ROWS_MAX`; nine counts per pair; about 300 bytes per account
(`ACCOUNTS_MAX` at most) and 34 per kept transaction, of which an account has at most `ACCOUNT_ROWS_MAX`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.currency import base_amount
from core.events import Seal
from core.policy import DECISIONS
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

TRIAL_DAYS = 31
ACCOUNTS_MAX = 200_000
ACCOUNT_ROWS_MAX = 500

_TRIAL_ROW = struct.Struct("<8sqqdBB")
TRIAL_ROW = np.dtype(
    [
        ("key", "<u8"),
        ("received_at", "<i8"),
        ("recorded_at", "<i8"),
        ("amount", "<f8"),
        ("decision", "u1"),
        ("would", "u1"),
    ]
)
"""One transaction of an enrolled account: its `transaction_key`, receive and log time, amount, the decision and the
shadow's (indices into DECISIONS)."""

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
    """A deciding model and a shadow. counts: by decision × 3 + the shadow's (indices into DECISIONS). accounts:
    enrolled, by ID; left_out: transactions beyond the limits of the module's head. Times are log times (epoch ms).
    """

    model: str
    shadow: str
    first_at: int
    last_at: int = 0
    counts: dict[int, int] = {}
    rows: bytearray = msgspec.field(default_factory=bytearray)
    accounts: dict[str, Enrolment] = {}
    left_out: int = 0


class Shadows(msgspec.Struct):
    """A partition's pairs, oldest first, and the log time reached."""

    pairs: dict[str, Pair] = {}
    recorded_at: int = 0


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
    key = DECISIONS.index(score.decision) * len(DECISIONS) + DECISIONS.index(score.shadow_decision)
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
    _enrol(pair, decided, fact.recorded_at)


def _enrol(pair: Pair, decided: DecidedTransaction, recorded_at: int) -> None:
    """Keep the transaction for the paired test."""
    score, transaction = decided.score, decided.transaction
    held = pair.accounts.get(transaction.account_id)
    if held is None:
        if len(pair.accounts) >= ACCOUNTS_MAX:
            pair.left_out += 1
            return
        held = pair.accounts[transaction.account_id] = Enrolment(receive_time(transaction), recorded_at)
    alerts = score.decision != "approve" or score.shadow_decision != "approve"
    if not alerts or recorded_at > held.recorded_at + 2 * TRIAL_DAYS * DAY_MS:
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
        DECISIONS.index(score.decision),
        DECISIONS.index(score.shadow_decision),
    )


def _sealed(state: Shadows, fact: Fact) -> None:
    state.recorded_at = max(state.recorded_at, fact.recorded_at)


SHADOW = Projection(
    name="shadow",
    holds=(
        "for each pair of deciding and shadow model: counts of decisions, the newest 100,000 transactions "
        "with both margins, and each account's transactions of its first month that either model alerts"
    ),
    version=4,
    state_type=Shadows,
    handlers={DecidedTransaction: _decided, Seal: _sealed},
)


class Agreement(NamedTuple):
    """How far a shadow's decisions agree with those made. Counts of transactions.

    alerts, shadow_alerts: decisions other than approve. changed: decisions that differ; gained, lost: alerts raised by
    the shadow only, or by the deciding model only.
    """

    decisions: int
    alerts: int
    shadow_alerts: int
    changed: int
    gained: int
    lost: int


def agreement(pairs: list[Pair]) -> Agreement:
    """Agreement over all partitions' states of one pair, each decision under the program of its time."""
    decisions = alerts = shadow_alerts = changed = gained = lost = 0
    for pair in pairs:
        for key, count in pair.counts.items():
            made, would = divmod(key, len(DECISIONS))
            decisions += count
            alerts += count * (made > 0)
            shadow_alerts += count * (would > 0)
            changed += count * (would != made)
            gained += count * (would > 0 and made == 0)
            lost += count * (would == 0 and made > 0)
    return Agreement(decisions, alerts, shadow_alerts, changed, gained, lost)


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

    clocks: log time reached by partition (epoch ms). said: the labels' states by partition, for paired tests.
    """

    as_of: str
    pairs: dict[str, dict[int, Pair]]
    labels: LabelView
    clocks: dict[int, int]
    said: Mapping[int, Labels]


def shadow_answer(states: States) -> ShadowAnswer:
    """Every shadow model, compared with the models that decided."""
    held = states.by_partition(SHADOW)
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
    return ShadowAnswer(states.as_of, pairs, view(said), clocks, said)
