"""What other settings would have decided, on a stretch of the log, and one payment with other values. Reads only."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import msgspec
from litestar import Response, post
from litestar.params import JSONBody

from console import whatif_report, wiring
from console.api.desk import Desk
from console.api.labelled import labels
from console.api.problems import ProblemError
from console.api.requests import Asked, Name, desk, json
from console.whatif_changes import OtherPayment, Wanted, check, logged_artifact, registered, scope_of, words
from console.whatif_report import Line
from core import control_stream
from core.context import Resolver
from core.errors import BadInput
from core.events import Decision, Position, TransactionScored
from core.replay import Timeline
from core.tokens import PREFIXES
from projections.audit import whatif
from projections.audit.stored_batch import NotStored
from projections.audit.whatif import Changed, Changes, Outcome, Scope
from projections.audit.whatif_columns import CURVE, Point, WhatIf
from projections.audit.whatif_payment import Answer, Answered, Question, answer_of
from projections.labelling.view import LabelView

FOLD_MAX = 20_000
"""Decisions that one request may fold, at up to 0.5 ms each. Stored columns have no such limit."""
Probability = Annotated[float, msgspec.Meta(gt=0, le=1)]
Loss = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class RuleSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters and switched-off rules that replace those in force; what is not named has its default."""

    parameters: dict[str, float] = {}
    disabled: list[str] = []


class OtherSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings to decide with instead, over those that were in force at each decision. model: a registered
    `name-version`, or the SHA-256 of an artifact in the log; "" for the one that decided. rules: replaces parameters
    and switched-off rules; `parameters` and `disabled` are then applied on top. A probability that is given takes the
    place of a loss that is not.
    """

    review: Probability | None = None
    decline: Probability | None = None
    review_loss: Loss | None = None
    decline_loss: Loss | None = None
    parameters: dict[str, float] = {}
    disabled: list[str] = []
    rules: RuleSet | None = None
    model: Annotated[str, msgspec.Meta(max_length=200)] = ""


class WhatIfAsked(OtherSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other settings, and where to try them: from `start` to `end` (event times in UTC, the end exclusive, or positions
    within each partition, inclusive), up to `as_of`, with the verdicts known then. top: changed decisions to list.
    curve: judge other thresholds for review besides.
    """

    start: str | None = None
    end: str | None = None
    as_of: str | None = None
    top: Annotated[int, msgspec.Meta(ge=0, le=200)] = 20
    curve: bool = False


class WhatIfAnswer(msgspec.Struct, frozen=True):
    """What would have been decided, saved and lost (docs/whatif.md): in total, by UTC day, and the changed decisions
    with the largest amounts. way: from stored columns, or by deciding again, and why that was needed. curve: by
    threshold for review, if asked for and possible.
    """

    as_of: str
    way: Literal["stored", "fold"]
    why: str
    changes: list[str]
    total: Line
    days: list[Line]
    table: list[Changed]
    undecidable: dict[str, int]
    curve: list[Point]


@post("/v1/whatif", tags=["policy"], summary="What other settings would have decided", status_code=200)
async def ask(request: Asked, data: JSONBody[WhatIfAsked]) -> Response[WhatIfAnswer]:
    """Thresholds, parameters and switched-off rules are judged by stored columns. Another model, and a program with
    aggregates of its own, take a fold, which a log of more than 20,000 decisions refuses: use `sentinel whatif`.
    """
    return json(await desk(request).run_heavy(_answered, desk(request), data))


def wanted_of(here: Desk, data: OtherSettings) -> Wanted:
    """The changes that are asked for. Raises BadInput for an unknown model, parameter or rule, or a bad threshold."""
    artifact = None
    if data.model:
        artifact = logged_artifact(here.log, data.model)
        if artifact is None:
            raise BadInput(
                f"model {data.model!r} is not registered; known: {', '.join(registered(here.log)) or 'none'}"
            )
    wanted = Wanted(
        artifact,
        Changes(
            review=data.review,
            decline=data.decline,
            review_loss=data.review_loss,
            decline_loss=data.decline_loss,
            rule_set=None if data.rules is None else (data.rules.parameters, tuple(data.rules.disabled)),
            parameters=data.parameters,
            disabled=tuple(data.disabled),
        ),
    )
    check(here.log, wanted)
    return wanted


def _answered(here: Desk, data: WhatIfAsked) -> WhatIfAnswer:
    wanted, scope = wanted_of(here, data), scope_of(data.start, data.end, ("start", "end"))
    known, until, cut = labels(here, data.as_of)
    control = control_stream.history(here.log)
    changes = wanted.loaded()
    way: Literal["stored", "fold"] = "stored"
    why, curve = "", list[Point]()
    try:
        by_columns = WhatIf(here.log, control, changes, known, curve=CURVE if data.curve else (), top=data.top)
        outcome, curve = by_columns.run(until, scope)
    except NotStored as error:
        way, why = "fold", str(error)
        _check_size(here, why)
        timeline = Timeline(control, Resolver(here.log.get_blob, wiring.load_scorer))
        outcome = _folded(here, timeline, changes, scope, known, until, data.top)
    found = whatif_report.report(outcome, words(wanted, "the request" if data.rules is not None else ""))
    return WhatIfAnswer(cut, way, why, found.changes, found.total, found.days, found.table, found.undecidable, curve)


def _check_size(here: Desk, why: str) -> None:
    decisions = sum(here.log.length(partition, "scores") for partition in here.partitions)
    if decisions > FOLD_MAX:
        raise ProblemError(
            422,
            f"this takes a fold of {decisions:,} decisions ({why}); one request may fold {FOLD_MAX:,}",
            reason="takes_a_fold",
            remedy="run `sentinel whatif`",
        )


def _folded(
    here: Desk,
    timeline: Timeline,
    changes: Changes,
    scope: Scope,
    known: LabelView,
    until: dict[int, Position],
    top: int,
) -> Outcome:
    parts = []
    for partition, end in until.items():
        within = replace(scope, last=end if scope.last is None else min(scope.last, end))
        labelled = known.of_partition(partition)
        head = here.log.head(partition)
        parts.append(whatif.run(here.log, partition, head, timeline, changes, within, labelled, top=top))
    return Outcome.joined(parts, top)


class PaymentAsked(OtherSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other settings, and other values of the payment. undo: also tell what would have turned the decision."""

    payment: OtherPayment = OtherPayment()
    undo: bool = False


class FeatureChange(msgspec.Struct, frozen=True):
    """A feature that differs; None: missing."""

    name: str
    was: float | None
    now: float | None


class Turn(msgspec.Struct, frozen=True):
    """A single change that turns the logged decision, in words, and what it turns it into."""

    change: str
    decision: Decision


class PaymentAnswer(msgspec.Struct, frozen=True):
    """One payment decided with the changes. reproduced: whether without them today's path gives the logged decision,
    bit for bit. features: those that differ. undo: without each rule that hit, without all of them, and without what
    the model asks for; only those that turn the decision.
    """

    place: str
    transaction_id: str
    changes: list[str]
    logged: Answer
    whatif: Answer
    reproduced: bool
    features: list[FeatureChange]
    undo: list[Turn]


@post("/v1/decisions/{id:str}/whatif", tags=["decisions"], summary="Decide one payment otherwise", status_code=200)
async def ask_payment(request: Asked, id: Name, data: JSONBody[PaymentAsked]) -> Response[PaymentAnswer]:
    """From the account's state before it, under the settings of its moment with the changes: nothing is written."""
    return json(await desk(request).run_heavy(_of_payment, desk(request), id, data))


def _of_payment(here: Desk, name: str, data: PaymentAsked) -> PaymentAnswer:
    wanted = wanted_of(here, data)
    values = {key: value for key, value in msgspec.structs.asdict(data.payment).items() if value is not None}
    values |= {key: here.asked(key, values[key]) for key in PREFIXES.keys() & values.keys()}
    found = here.find(name)
    turns = _turns(here.score_of(found)) if data.undo else []
    answered = here.ask(found, [Question(wanted.loaded(), values), *(question for _, question in turns)])
    now, (made, *others) = answered.now, answered.made
    was = now.decision.score
    said = words(wanted, "the request" if data.rules is not None else "")
    return PaymentAnswer(
        str(found.place),
        now.decision.transaction.transaction_id,
        [*said, *(f"{key} {value}" for key, value in values.items())],
        answer_of(was),
        made,
        now.identical,
        _differences(answered),
        [Turn(text, o.decision) for (text, _), o in zip(turns, others, strict=True) if o.decision != was.decision],
    )


def _differences(answered: Answered) -> list[FeatureChange]:
    """The features that the first question changed."""
    was, now = ([_known(value) for value in row] for row in answered.features[:2].tolist())
    rows = zip(answered.names, was, now, strict=True)
    return [FeatureChange(name, before, after) for name, before, after in rows if before != after]


def _turns(score: TransactionScored) -> list[tuple[str, Question]]:
    """Changes that may turn the decision, each by itself."""
    single = [(f"without {code}", Question(Changes(disabled=(code,)))) for code in score.rules]
    every = [("without any of its rules", Question(Changes(disabled=score.rules)))] if len(score.rules) > 1 else []
    model = (
        "without what the model asks for",
        Question(Changes(review=1.0, decline=1.0, review_loss=0.0, decline_loss=0.0)),
    )
    return [*single, *every, *([model] if score.probability < 1.0 else [])]


def _known(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None


HANDLERS = [ask, ask_payment]
