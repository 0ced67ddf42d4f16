"""A partition's payments: the message as the source sends it, and its entries in the log: the transaction, its score
and its alert, or a reject.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from core.events.base import Decision, Event, Severity

CHAMPION_ARM = "champion"
"""The arm of a decision outside any experiment. The encoder omits this very object, compared by identity."""


class Outcome(NamedTuple):
    """What was decided on a payment; severity is None without an alert. hits: codes of the rules that hit."""

    decision: Decision
    severity: Severity | None
    hits: tuple[str, ...]


class Transaction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A payment as the source sends it (the value of a `transactions` message, JSON). Strict: see core.validation.

    amount is in major units of `currency` (ISO 4217), occurred_at in epoch ms UTC, country ISO 3166-1 alpha-2,
    "" means unknown. `attributes` carries whatever else the source has. `rate` (`core.currency`) and `received_at`
    (`core.receipt`) are not the source's: the worker sets them, and a message that has one is rejected.
    """

    transaction_id: str
    account_id: str
    amount: float
    occurred_at: int
    currency: str = ""
    merchant_id: str = ""
    merchant_category: str = ""
    country: str = ""
    channel: str = ""
    device_id: str = ""
    ip: str = ""
    card_id: str = ""
    attributes: dict[str, float | str] = {}
    rate: float = 1.0
    received_at: int = 0


class TransactionReceived(Event, tag="transaction.v1", tag_field="type", frozen=True, kw_only=True):
    """A transaction as logged: the fields of `Transaction`, and the time of the append. rate: the worth of one unit of
    `currency` in the base currency, as decided. received_at: the receive time, which windows, tables and read models
    follow (`core.receipt`); 0: as occurred_at.
    """

    recorded_at: int
    transaction_id: str
    account_id: str
    amount: float
    occurred_at: int
    currency: str = ""
    merchant_id: str = ""
    merchant_category: str = ""
    country: str = ""
    channel: str = ""
    device_id: str = ""
    ip: str = ""
    card_id: str = ""
    attributes: dict[str, float | str] = {}
    rate: float = 1.0
    received_at: int = 0


class TransactionScored(Event, tag="score.v1", tag_field="type", frozen=True, kw_only=True):
    """One decision, and everything that determines it (I2): the entry's ID is t; `f` and `c` are recorded here.

    program: the first 16 hex digits of the SHA-256 of the program that decided; engine: the version of the engine that
    ran it (`core.program.codes`). features: the program's stored features, float32, packed (core.features.packing;
    base64 in JSON): first those of feature spec `spec`, then the program's own.
    rules: codes of the rules that hit; shadow_rules: of those that hit without effect. effects: what the hits of
    `rules` ask for, as bits: 1 review, 2 decline, 4 allow.
    margin: the model's raw score (log-odds); probability: its logistic, in [0, 1]. Both float64, exact in JSON.
    model and digest name what decided; arm is `"champion"`, or `"<experiment>/<arm>"` for an account in an experiment.
    shadow: the shadow model's margin, which has no influence on the decision; None if no shadow ran. shadow_decision:
    what the program would have decided at its probability, with the same hits.
    """

    feedback_position: str = msgspec.field(name="f")
    control_position: int = msgspec.field(name="c")
    model: str
    digest: str
    spec: int
    engine: int
    program: str
    margin: float
    probability: float
    decision: Decision
    features: bytes
    rules: tuple[str, ...] = ()
    shadow_rules: tuple[str, ...] = ()
    effects: int = 0
    severity: Severity | None = None
    arm: str = CHAMPION_ARM
    degraded: str | None = None
    shadow_model: str = ""
    shadow: float | None = None
    shadow_decision: Decision = "approve"


class AlertRaised(Event, tag="alert.v1", tag_field="type", frozen=True, kw_only=True):
    """What a decision to alert is known by, without words: readers say what codes and values mean.

    values: the features that the hit rules read, by name, as logged with the score; null: not known.
    """

    alert_id: str
    timestamp: int
    account_id: str
    fraud_score: float
    decision: Decision
    severity: Severity
    reason_codes: tuple[str, ...]
    values: dict[str, float | None]
    recommended_actions: tuple[str, ...]
    transaction: dict[str, float | int | str | dict[str, float | str]]
    degraded: str | None = None


class TransactionRejected(Event, tag="reject.v1", tag_field="type", frozen=True, kw_only=True):
    """A message that could not be accepted, kept unchanged (I9). ID: `<seal sequence>-<index in batch + 1>`."""

    recorded_at: int
    topic: Literal["transactions", "feedback"]
    position: str
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
