"""Acts over HTTP: verdicts and blocks by way of Kafka; lists, thresholds, rules and models by the same functions as the
command line's. The actor is always the authenticated user.

A governance act is one conditional append to the control stream, or none if it already has its result, so each can be
repeated after an unknown outcome.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, patch, post
from litestar.params import JSONBody

from console.api.problems import ProblemError
from console.api.requests import Asked, Name, desk, json
from console.api.submitting import Submitter, rejected
from core.codec import encode
from core.events import (
    AccountBlocked,
    AccountEvent,
    AccountUnblocked,
    FeedbackSource,
    ListEffect,
    ListKind,
    Verdict,
)
from ingest.submission import Rejected, Tally, submit, submit_events
from learners.governance import business, models
from learners.governance.business import ListAct
from learners.governance.control_events import Act
from learners.governance.models import Alias, ModelAct
from sources.feedback_files import Row
from sources.record import Record

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class VerdictGiven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A verdict on a payment. account_id: needed only if several accounts have a payment with this ID, or if the log
    does not have it yet. amount: in dispute, by default the payment's. occurred_at: by default now.
    """

    transaction_id: Id
    verdict: Verdict
    source: FeedbackSource = "analyst"
    account_id: str = ""
    confidence: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    amount: Annotated[float, msgspec.Meta(ge=0)] | None = None
    currency: str = ""
    reason: Annotated[str, msgspec.Meta(max_length=128)] = ""
    occurred_at: int | None = None


class Sent(msgspec.Struct, frozen=True):
    """An event that Kafka has: it counts once a worker has appended it, with the account's next payment."""

    account_id: str
    type: str
    actor: str
    occurred_at: int


class Why(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reason of an act, recorded for ever."""

    reason: Text


class Blocking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reason, recorded for ever. alert_id: the alert that led to it, "" for none."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    alert_id: Annotated[str, msgspec.Meta(max_length=128)] = ""


class ListEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Values to put on a list and to take from it."""

    kind: ListKind
    effect: ListEffect
    reason: Text
    add: Annotated[list[str], msgspec.Meta(max_length=10_000)] = []
    remove: Annotated[list[str], msgspec.Meta(max_length=10_000)] = []


class ThresholdsEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds to set; what is not given stays. A loss decides instead of that probability; setting that ends it."""

    reason: Text
    review: float | None = None
    decline: float | None = None
    review_loss: float | None = None
    decline_loss: float | None = None


class RulesEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters to set and to reset, rules to disable and to enable; all others stay."""

    reason: Text
    parameters: dict[str, float] = {}
    reset: list[str] = []
    disable: list[str] = []
    enable: list[str] = []


class Done(msgspec.Struct, frozen=True):
    """An act's control position. changed: false if everything was so already, or waits for a second person. proposals:
    IDs of what waits.
    """

    position: int
    changed: bool
    proposals: list[str] = []


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Give a model an alias."""

    reason: Text
    alias: Alias = "champion"


class Return(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Return to an earlier champion; by default to the previous one."""

    reason: Text
    to: str | None = None


class Switch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Turn something on or off."""

    on: bool
    reason: Text


def act_of(request: Asked, reason: str) -> Act:
    """An act by the user who asks, now."""
    return Act(request.user.name, reason, _now())


def _now() -> int:
    return int(time.time() * 1000)


# --- by way of Kafka ----------------------------------------------------------------------------------------------


@post("/v1/feedback", tags=["feedback"], summary="Give a verdict on a payment", status_code=202)
async def feedback(request: Asked, data: JSONBody[VerdictGiven]) -> Response[Sent]:
    """Checked as the worker will. Analysts give verdicts as `analyst`, submitters those of the other sources."""
    role = "analyst" if data.source == "analyst" else "submitter"
    if role not in request.user.roles:
        raise ProblemError(
            403,
            f"a verdict of the source {data.source} needs the role {role}",
            reason="not_permitted",
            field="source",
        )
    given = {name: value for name, value in msgspec.structs.asdict(data).items() if value not in (None, "")}
    record = await desk(request).run(_checked, request, {**given, "actor": request.user.name})
    return await _sent(request, record)


def _checked(request: Asked, values: dict[str, Any]) -> Record:
    refused: list[Rejected] = []
    rows = submit([Row(1, values)], {}, _now(), desk(request).payments, Tally(), refused.append)
    return _one(list(rows), refused)


def _one(chunks: list[list[Record]], refused: list[Rejected]) -> Record:
    if refused:
        raise rejected(refused[0].reason, refused[0].detail)
    return next(record for chunk in chunks for record in chunk)


async def _tell(request: Asked, event: AccountEvent) -> Response[Any]:
    """Check an account's event as the worker will, and send it."""
    refused: list[Rejected] = []
    chunks = list(submit_events([(1, encode(event))], _now(), Tally(), refused.append))
    return await _sent(request, _one(chunks, refused))


async def _sent(request: Asked, record: Record) -> Response[Any]:
    submitter: Submitter = request.app.state.submitter
    event = msgspec.json.decode(record.value)
    account = await submitter.send_feedback(event["account_id"], record.value)
    return json(Sent(account, event["type"], event["actor"], event["occurred_at"]), 202)


@post("/v1/accounts/{id:str}/block", tags=["accounts"], summary="Decline an account's payments", status_code=202)
async def block(request: Asked, id: Name, data: JSONBody[Blocking]) -> Response[Sent]:
    """From the account's next payment on."""
    return await _tell(request, AccountBlocked(account_id=id, **_about(request, data)))


@post("/v1/accounts/{id:str}/unblock", tags=["accounts"], summary="Decide them normally again", status_code=202)
async def unblock(request: Asked, id: Name, data: JSONBody[Blocking]) -> Response[Sent]:
    """From the account's next payment on."""
    return await _tell(request, AccountUnblocked(account_id=id, **_about(request, data)))


def _about(request: Asked, data: Blocking) -> dict[str, Any]:
    act = act_of(request, data.reason)
    return {"occurred_at": act.now_ms, "actor": act.actor, "reason": act.reason, "causation_id": data.alert_id}


# --- what decides -------------------------------------------------------------------------------------------------


@post("/v1/lists", tags=["policy"], summary="Put values on a list, take others from it", status_code=200)
async def change_list(request: Asked, data: JSONBody[ListEdit]) -> Response[ListAct]:
    """From the workers' next batch on; says what was on the list already, or was not."""
    act, log = act_of(request, data.reason), desk(request).log
    submitter: Submitter = request.app.state.submitter
    add, remove = submitter.listed(data.kind, data.add), submitter.listed(data.kind, data.remove)
    call = desk(request).run(business.change_list, log, data.kind, data.effect, act, add=add, remove=remove)
    return json(await call)


@patch("/v1/thresholds", tags=["policy"], summary="Set thresholds")
async def set_thresholds(request: Asked, data: JSONBody[ThresholdsEdit]) -> Response[Done]:
    """From the workers' next batch on."""
    act = act_of(request, data.reason)
    done = await desk(request).run(
        business.set_thresholds,
        desk(request).log,
        act,
        data.review,
        data.decline,
        review_loss=data.review_loss,
        decline_loss=data.decline_loss,
    )
    return json(Done(done.position, done.changed, done.proposals))


@patch("/v1/rules", tags=["policy"], summary="Set parameters, disable and enable rules")
async def change_rules(request: Asked, data: JSONBody[RulesEdit]) -> Response[Done]:
    """Of the program in force, from the workers' next batch on."""
    act = act_of(request, data.reason)
    done = await desk(request).run(
        business.change_rules,
        desk(request).log,
        act,
        parameters=data.parameters,
        reset=data.reset,
        disable=data.disable,
        enable=data.enable,
    )
    return json(Done(done.position, done.changed, done.proposals))


@post("/v1/models/{id:str}/deploy", tags=["models"], summary="Deploy a model", status_code=200)
async def deploy_model(request: Asked, id: Name, data: JSONBody[Deployment]) -> Response[ModelAct]:
    """As champion (with four eyes on, only a proposal) or as shadow."""
    return json(await desk(request).run(models.deploy, desk(request).log, id, act_of(request, data.reason), data.alias))


@post("/v1/models/proposals/{id:str}/approve", tags=["models"], summary="Approve a proposal", status_code=200)
async def approve_model(request: Asked, id: Name, data: JSONBody[Why]) -> Response[ModelAct]:
    """Another person's; this deploys the model."""
    return json(await desk(request).run(models.approve, desk(request).log, id, act_of(request, data.reason)))


@post("/v1/models/proposals/{id:str}/withdraw", tags=["models"], summary="Withdraw a proposal", status_code=200)
async def withdraw_model(request: Asked, id: Name, data: JSONBody[Why]) -> Response[ModelAct]:
    """Nobody can approve it any more."""
    return json(await desk(request).run(models.withdraw_proposal, desk(request).log, id, act_of(request, data.reason)))


@post("/v1/models/rollback", tags=["models"], summary="Return to an earlier champion", status_code=200)
async def roll_back_model(request: Asked, data: JSONBody[Return]) -> Response[ModelAct]:
    """At once, without a second person."""
    return json(await desk(request).run(models.roll_back, desk(request).log, act_of(request, data.reason), data.to))


@post("/v1/models/shadow/withdraw", tags=["models"], summary="Remove the shadow", status_code=200)
async def withdraw_shadow(request: Asked, data: JSONBody[Why]) -> Response[ModelAct]:
    """It no longer scores."""
    alias: Literal["shadow"] = "shadow"
    return json(await desk(request).run(models.withdraw, desk(request).log, alias, act_of(request, data.reason)))


@post("/v1/four-eyes", tags=["policy"], summary="Turn four eyes on or off", status_code=200)
async def four_eyes(request: Asked, data: JSONBody[Switch]) -> Response[ModelAct]:
    """Whether champions and programs need a second person's approval."""
    act = act_of(request, data.reason)
    return json(await desk(request).run(models.set_four_eyes, desk(request).log, data.on, act))


HANDLERS = [
    *(feedback, block, unblock),
    *(change_list, set_thresholds, change_rules),
    *(deploy_model, approve_model, withdraw_model, roll_back_model, withdraw_shadow, four_eyes),
]
