"""The examples of a program: short histories, decided by the real path and compared with what must hold. Pure.

An example's payments are of one account, received when they happened, the first on a Monday at noon (UTC) and the
others a minute apart, unless they say otherwise. Nothing else is known: no lists, no reference tables, no verdicts.
Every payment is decided, so conditions on earlier decisions see them; `probability` is what the model says of the last
one, and 0 before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
import numpy as np

from core import pipeline
from core.context import Context, Resolver
from core.control import ControlState
from core.errors import BadInput
from core.events import (
    START,
    Control,
    Position,
    ProgramDeployed,
    ProgramRegistered,
    TransactionReceived,
    TransactionScored,
)
from core.features import spec
from core.features.state import AccountState
from core.identity import FIXED
from core.numeric import sigmoid
from core.program import document, library
from core.program.document import Example, Payment, Program, Scalar
from core.program.document_reading import ATTRIBUTE
from core.program.fields import STANDARD
from core.program.windows import milliseconds
from core.scoring import Float32, Float64, Scorer
from core.times import MINUTE_MS
from core.work import Run, Work

ACCOUNT = "example"
BEGIN_MS = 1_767_614_400_000
"""2026-01-05T12:00:00Z, a Monday."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Outcome(NamedTuple):
    """How an example went. faults: what does not hold, in words. decision, severity ("" without an alert) and hits
    (also of rules without effect): of its last payment.
    """

    name: str
    faults: tuple[str, ...]
    decision: str
    severity: str
    hits: tuple[str, ...]


def run(program: Program) -> list[Outcome]:
    """Decide every example of a checked program, in their order. Raises BadInput for a program that can't be run."""
    context = _context(program)
    outcomes = []
    for example in program.examples:
        state = AccountState(FIXED).hold([context.program.rings] if context.program.rings is not None else [])
        *before, last = payments(program, example)
        if before:
            _decided(context, state, before, 0)
        under = replace(context, scorer=_Says(example.probability)) if example.probability else context
        outcomes.append(_judged(example, _decided(under, state, [last], len(before))))
    return outcomes


def payments(program: Program, example: Example) -> list[TransactionReceived]:
    """The payments of an example, in order."""
    found: list[TransactionReceived] = []
    now = BEGIN_MS - MINUTE_MS
    for payment in example.payments:
        step = milliseconds(payment.after) if payment.after else MINUTE_MS
        for _ in range(payment.repeat):
            now = _epoch_ms(payment.at) if payment.at else now + step
            found.append(_payment(program, payment, len(found), now))
    return found


def _payment(program: Program, payment: Payment, number: int, now: int) -> TransactionReceived:
    attributes: dict[str, float | str] = {}
    given: dict[str, Scalar] = {}
    for name, said in payment.values.items():
        field = program.fields.get(name)
        source = field.source if field is not None else name
        kind = field.type if field is not None else STANDARD[name].type
        value = float(_epoch_ms(said)) if kind == "time" and isinstance(said, str) else said
        if source.startswith(ATTRIBUTE):
            attributes[source.removeprefix(ATTRIBUTE)] = str(value).lower() if isinstance(value, bool) else value
        else:
            given[source] = value
    values: Mapping[str, object] = {
        "transaction_id": f"example-{number + 1}",
        "account_id": ACCOUNT,
        "amount": 1.0,
        "occurred_at": now,
        **given,
    }
    return msgspec.convert(
        {**values, "recorded_at": now, "received_at": now, "attributes": attributes, "type": "transaction.v1"},
        TransactionReceived,
        strict=False,
    )


def _context(program: Program) -> Context:
    digest = document.digest(program)
    blobs = {digest: document.canonical(program)} | {each: library.content(each) for each in program.uses.values()}
    state = ControlState()
    events: tuple[Control, ...] = (
        FIXED.event("example"),
        ProgramRegistered(occurred_at=0, actor="", name=program.name, version=program.version, digest=digest),
        ProgramDeployed(occurred_at=0, actor="", digest=digest),
    )
    for position, event in enumerate(events, 1):
        state.apply(position, event)
    return Resolver(blobs.__getitem__, _no_model).context(state)


def _decided(context: Context, state: AccountState, some: list[TransactionReceived], first: int) -> TransactionScored:
    """The score of the last of these payments, which come after `first` others."""
    positions = [Position(1, first + k + 1) for k in range(len(some))]
    (found,) = pipeline.decide(context, [Work(0, state, [Run(START, [], positions, list(some))])])
    if not found.scored or found.kept[-1] != len(some) - 1:
        raise BadInput("the payment repeats an earlier one: give it another transaction_id, or leave it out")
    return found.scored[-1]


def _judged(example: Example, score: TransactionScored) -> Outcome:
    hits = (*score.rules, *score.shadow_rules)
    severity = score.severity or ""
    faults = [f"{code} does not hit" for code in example.hits if code not in hits]
    faults += [f"{code} hits" for code in example.misses if code in hits]
    if example.decision and score.decision != example.decision:
        faults.append(f"the decision is {score.decision}, not {example.decision}")
    if example.severity and severity != example.severity:
        faults.append(f"the severity is {severity or 'none'}, not {example.severity}")
    return Outcome(example.name, tuple(faults), score.decision, severity, hits)


class _Says:
    """A model that says one probability of every payment."""

    version = "example-1.0.0"
    digest = "0" * 64
    spec = spec.SPEC_VERSION
    inputs = None
    method = "said by the example"

    def __init__(self, probability: float) -> None:
        low, high = -800.0, 40.0  # 0 and 1 in float64
        while (middle := (low + high) / 2) not in (low, high):
            reached = sigmoid(np.array([middle]), 1.0)[0] >= probability
            low, high = (low, middle) if reached else (middle, high)
        self._margin = high  # the smallest that reaches the probability

    def margins(self, features: Float32) -> Float64:
        return np.full(len(features), self._margin)

    def contributions(self, row: Float32) -> tuple[float, Float64]:
        return self._margin, np.zeros(len(row))


def _no_model(content: bytes, label: str, digest: str) -> Scorer:
    raise BadInput(f"an example has no model, so {label} can't be loaded")


def _epoch_ms(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)
