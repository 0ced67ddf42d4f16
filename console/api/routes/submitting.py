"""Payments: decided one at a time, as a batch, or later."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from litestar import Response, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody
from litestar.params import HeaderParameter, QueryParameter

from console.api.problems import Problem, ProblemError
from console.api.requests import Asked, json
from console.api.submitting import Awaited, Idempotency, Submitter
from console.api.tail import Decided
from core.codec import decode_alert, decode_score, decode_transaction
from core.errors import UNDECODABLE, Unavailable
from core.events import Decision, Severity, Transaction
from core.trace_context import HEADER, TraceContext, parsed
from core.validation import ID_CHARACTERS_MAX, VALUE_BYTES_MAX
from projections.audit.redecide import DecisionPlace

BATCH_MAX = 1_000
WAIT_MS_MAX = 10_000

WaitMs = Annotated[
    int, QueryParameter(ge=0, le=WAIT_MS_MAX, description="How long to wait for the decision before answering 202.")
]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(name="Idempotency-Key", max_length=255, description="Repeats get the first answer."),
]
Prefer = Annotated[
    str | None,
    HeaderParameter(name="Prefer", max_length=255, description="`respond-async`: answer 202 once Kafka has it."),
]


class Answer(msgspec.Struct, frozen=True, tag_field="status", tag="decided"):
    """A durable decision. place: in the log; alert_id: "" without an alert; actions: what the program recommends."""

    transaction_id: str
    account_id: str
    place: str
    decision: Decision
    severity: Severity | None
    probability: float
    rules: tuple[str, ...]
    alert_id: str
    actions: tuple[str, ...]
    model: str
    program: str
    degraded: str | None
    recorded_at: int


class Accepted(msgspec.Struct, frozen=True, tag_field="status", tag="accepted"):
    """A payment that Kafka has, and that will be decided. location: where to ask for the decision."""

    transaction_id: str
    account_id: str
    place: str
    location: str


class Rejected(msgspec.Struct, frozen=True, tag_field="status", tag="rejected"):
    """A payment of a batch that can't be accepted."""

    problem: Problem


class Unconfirmed(msgspec.Struct, frozen=True, tag_field="status", tag="unavailable"):
    """A payment of a batch that Kafka did not confirm: send it again."""

    problem: Problem


Result = Answer | Accepted | Rejected | Unconfirmed


class BatchAnswer(msgspec.Struct, frozen=True):
    """One result for each payment, in the order sent, and how many there are of each status."""

    results: list[Result]
    counts: dict[str, int]


def _schema() -> dict[str, Any]:
    """JSON schema of a payment, without the fields that the worker sets."""
    text = {"type": "string", "maxLength": ID_CHARACTERS_MAX}
    named = {name: text for name in Transaction.__struct_fields__}
    for ours in ("rate", "received_at"):
        del named[ours]
    named["transaction_id"] = named["account_id"] = text | {"minLength": 1}
    named["amount"] = {"type": "number", "minimum": 0, "maximum": 1e12, "description": "In major units of currency."}
    named["occurred_at"] = {"type": "integer", "description": "Epoch ms UTC; at most 5 minutes ahead, 30 days back."}
    named["attributes"] = {"type": "object", "additionalProperties": {"type": ["number", "string"]}}
    return {
        "type": "object",
        "properties": named,
        "required": ["transaction_id", "account_id", "amount", "occurred_at"],
        "additionalProperties": False,
    }


def _body(schema: dict[str, Any]) -> RequestBody:
    return RequestBody(content={"application/json": OpenAPIMediaType(schema=schema)}, required=True)  # type: ignore[arg-type]


@dataclass
class OnePayment(Operation):
    """The description's request body of one payment, which the handler reads as bytes."""

    def __post_init__(self) -> None:
        self.request_body = _body(_schema())


@dataclass
class ManyPayments(Operation):
    """The description's request body of a batch."""

    def __post_init__(self) -> None:
        self.request_body = _body({"type": "array", "items": _schema(), "maxItems": BATCH_MAX})


@post(
    "/v1/decisions",
    tags=["decisions"],
    summary="Decide one payment",
    status_code=200,
    operation_class=OnePayment,
    request_max_body_size=VALUE_BYTES_MAX + 1,
    responses={202: ResponseSpec(Accepted, generate_examples=False, description="Kafka has it; not decided yet.")},
)
async def decide(
    request: Asked, wait_ms: WaitMs = 2_000, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Response[Answer]:
    """The payment goes through Kafka and the log like any other, and is answered once its decision is durable. A
    payment that was decided before gets its first decision. If it takes longer than `wait_ms`: 202 with a `Location`.
    """
    body = await request.body()
    submitter: Submitter = request.app.state.submitter
    trace = parsed(request.headers.get(HEADER))
    if prefer is not None and "respond-async" in prefer:
        return _accepted(await submitter.send(body, trace))

    def make() -> asyncio.Future[Decided | Awaited]:
        return asyncio.ensure_future(submitter.decide(body, wait_ms / 1000, trace))

    if idempotency_key is None:
        outcome = await make()
    else:
        kept: Idempotency[Decided | Awaited] = request.app.state.idempotency
        outcome = await kept.once((request.user.name, idempotency_key), body, make)
    return _accepted(outcome) if isinstance(outcome, Awaited) else json(answer_of(outcome))


@post(
    "/v1/decisions/batch",
    tags=["decisions"],
    summary="Decide up to 1,000 payments",
    status_code=200,
    operation_class=ManyPayments,
)
async def batch(request: Asked, wait_ms: WaitMs = 5_000) -> Response[BatchAnswer]:
    """A JSON array of payments. Each has its own result, whatever becomes of the others; an account's payments are
    decided in the order sent.
    """
    try:
        payments = msgspec.json.decode(await request.body(), type=list[msgspec.Raw])
    except UNDECODABLE as error:
        raise ProblemError(422, f"not a JSON array of payments: {error}", reason="not_json") from None
    if len(payments) > BATCH_MAX:
        raise ProblemError(413, f"{len(payments)} payments, more than {BATCH_MAX}", reason="too_large")
    submitter: Submitter = request.app.state.submitter
    trace = parsed(request.headers.get(HEADER))
    calls = [_result(submitter, bytes(payment), wait_ms / 1000, trace) for payment in payments]
    results = list(await asyncio.gather(*calls))
    counts: dict[str, int] = {}
    for result in results:
        status = str(result.__struct_config__.tag)
        counts[status] = counts.get(status, 0) + 1
    return json(BatchAnswer(results, counts))


async def _result(submitter: Submitter, payment: bytes, wait_s: float, trace: TraceContext | None) -> Result:
    try:
        outcome = await submitter.decide(payment, wait_s, trace)
    except ProblemError as error:
        return Rejected(error.problem)
    except Unavailable as error:
        return Unconfirmed(Problem("Service Unavailable", 503, str(error), reason="unavailable"))
    return _accepted_of(outcome) if isinstance(outcome, Awaited) else answer_of(outcome)


def answer_of(decided: Decided) -> Answer:
    """The decision as the API tells it."""
    t, score = decode_transaction(decided.transaction), decode_score(decided.score)
    alert = None if decided.alert is None else decode_alert(decided.alert)
    return Answer(
        transaction_id=t.transaction_id,
        account_id=t.account_id,
        place=str(DecisionPlace(decided.partition, decided.position)),
        decision=score.decision,
        severity=score.severity,
        probability=score.probability,
        rules=score.rules,
        alert_id="" if alert is None else alert.alert_id,
        actions=() if alert is None else alert.recommended_actions,
        model=score.model,
        program=score.program,
        degraded=score.degraded,
        recorded_at=t.recorded_at,
    )


def _accepted_of(awaited: Awaited) -> Accepted:
    place = str(awaited.place)
    location = f"/v1/decisions/{quote(place, safe=':')}"
    return Accepted(awaited.transaction_id, awaited.account_id, place, location)


def _accepted(awaited: Awaited) -> Response[Any]:
    answer = _accepted_of(awaited)
    return json(answer, 202, {"location": answer.location, "retry-after": "1"})


HANDLERS = [decide, batch]
