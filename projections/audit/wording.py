"""What the rules of a decision program say of a payment: their `words` with the values put in. Pure.

A placeholder such as `{amount:,.2f}` or `{declines:.0f}` names a feature, a parameter, or a field of the payment, as in
the rule's condition. What is missing, no finite number, or not logged, reads "unknown".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.events import AlertRaised, TransactionReceived
from core.features import spec
from core.program.checked import CheckedProgram, CheckedRule, OwnField
from core.program.document_reading import placeholders
from core.program.fields import STANDARD
from core.program.language import identity, names_read
from core.program.library import kernel
from core.program.plan import Plan
from core.receipt import receive_time
from core.times import minute_text

Value = float | str | bool | None

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)(?::([^{}]*))?\}")
_COMPUTED = {"amount": "amount", "hour": "hour_of_day", "weekday": "day_of_week"}
"""Standard fields that the vector holds."""
_FLAGS = frozenset(feature.name for feature in spec.FEATURES if feature.unit == "0/1")


@dataclass(frozen=True, slots=True)
class Wording:
    """A program's rules, for readers. rules: by code. columns: of the stored vector, by the feature's name. parameters:
    defaults. Without a program, rules have only a code.
    """

    rules: Mapping[str, CheckedRule] = field(default_factory=dict)
    columns: Mapping[str, int] = field(default_factory=dict)
    fields: Mapping[str, OwnField] = field(default_factory=dict)
    parameters: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> Wording:
        """Of a program's plan."""
        program = plan.program
        columns = {name: place for place, name in enumerate(plan.names[: plan.stored])}
        columns |= {name: spec.index(column) for name, column in _aliases(program).items()}
        found = {rule.code: rule for rule in program.rules}
        return cls(found, columns, program.fields, program.parameters)

    def effect(self, code: str) -> str:
        """What the rule asks for; "" if nobody knows."""
        return self.rules[code].effect if code in self.rules else ""

    def meaning(self, code: str, values: Mapping[str, Value]) -> str:
        """What the rule says: its words with the values put in, or if it has none, its code."""
        words = self.rules[code].words if code in self.rules else ""
        return filled(words, values) if words else f"rule {code}"

    def speaks_of(self, code: str) -> frozenset[str]:
        """The features that the rule's words tell: those that they name, and 0/1 features that its condition reads."""
        rule = self.rules.get(code)
        if rule is None or not rule.words:
            return frozenset()
        read = names_read(rule.when)
        flags = (name for name in (*read.library, *read.features) if name in _FLAGS)
        return frozenset((*placeholders(rule.words), *flags))


def _aliases(program: CheckedProgram) -> dict[str, str]:
    """Own names of the kernel's columns (`core.program.plan`)."""
    known = kernel()
    named = ((each.name, known.get(identity(each.expression))) for each in program.features)
    return {name: column for name, column in named if column is not None}


def filled(words: str, values: Mapping[str, Value]) -> str:
    """The words with every placeholder replaced by its value."""
    return _PLACEHOLDER.sub(lambda found: _text(values.get(found[1]), found[2] or ""), words)


def _text(value: Value, form: str) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value or "unknown"
        case None:
            return "unknown"
        case _:
            return format(value, form or ",.6g") if math.isfinite(value) else "unknown"


def values_of(
    wording: Wording,
    row: NDArray[np.float32],
    alert: AlertRaised | None,
    transaction: TransactionReceived | None,
    parameters: Mapping[str, float],
) -> dict[str, Value]:
    """The values that a rule's words can name. row: the stored vector, float32 (W,). parameters: those in force. As in
    a condition, a field goes before a feature, and a feature before a parameter.
    """
    found: dict[str, Value] = {**parameters}
    found |= {name: row.item(column) for name, column in wording.columns.items() if column < len(row)}
    if alert is not None:
        found |= alert.values
    for name in STANDARD:
        found[name] = row.item(spec.index(_COMPUTED[name])) if name in _COMPUTED else None
    for name in wording.fields:
        found[name] = None
    if transaction is not None:
        found |= _fields(wording, transaction)
    return found


def _fields(wording: Wording, transaction: TransactionReceived) -> dict[str, Value]:
    """The payment's fields as the source sent them."""
    names = ("transaction_id", "account_id", "currency", "merchant_id", "merchant_category", "country", "channel")
    found: dict[str, Value] = {name: getattr(transaction, name) for name in (*names, "device_id", "ip", "card_id")}
    found["amount_sent"] = transaction.amount
    found["occurred_at"] = minute_text(transaction.occurred_at)
    found["received_at"] = minute_text(receive_time(transaction))
    for name, own in wording.fields.items():
        value = transaction.attributes.get(own.attribute, own.default)
        found[name] = minute_text(int(value)) if own.type == "time" and isinstance(value, int | float) else value
    return found
