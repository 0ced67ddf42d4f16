"""Decisions: search, one in words, made again, audited."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromQuery, JSONBody, QueryParameter
from msgspec.structs import replace

from console.api import summary
from console.api.answers import DecisionDetail, DecisionPage, ReplayResult, Unmasked
from console.api.requests import Asked, AsOf, Cursor, Limit, Name, Text, Time, desk, json, time_of, unchanging
from console.api.routes.acting import Why, act_of
from console.api.unmasking import Unmasking
from core.events import Decision, Severity
from projections.tables.query import IDENTIFIERS, Query, check_query

Level = Annotated[
    int,
    QueryParameter(ge=1, le=2, description="1: only that it stands in the log, without program, model and settings."),
]
Amount = Annotated[float | None, QueryParameter(ge=0, description="In the base currency, inclusive.")]


def query_of(
    account: Text = None,
    transaction_id: Text = None,
    decision: FromQuery[Decision | None] = None,
    rule: Text = None,
    severity: FromQuery[Severity | None] = None,
    merchant: Text = None,
    device: Text = None,
    card: Text = None,
    alerts: Annotated[bool, QueryParameter(description="Only those that raised an alert.")] = False,
    start: Time = None,
    end: Time = None,
    amount_min: Amount = None,
    amount_max: Amount = None,
) -> Query:
    """The conditions of a search; all must hold. `start` is inclusive, `end` exclusive."""
    query = Query(
        account=account,
        transaction_id=transaction_id,
        decision=decision,
        rule=rule,
        severity=severity,
        merchant=merchant,
        device=device,
        card=card,
        alerts=alerts,
        start=time_of("start", start),
        end=time_of("end", end),
        low=amount_min,
        high=amount_max,
    )
    check_query(query)
    return query


def _known(request: Asked, query: Query) -> Query:
    """The conditions with identifiers as the log holds them."""
    given = {name: value for name in IDENTIFIERS if (value := getattr(query, name))}
    return replace(query, **{name: desk(request).asked(IDENTIFIERS[name], value) for name, value in given.items()})


Conditions = NamedDependency[Query]
_CONDITIONS = {"conditions": Provide(query_of, sync_to_thread=False)}


@get("/v1/decisions", tags=["decisions"], summary="Search decisions, newest first", dependencies=_CONDITIONS)
async def search(
    request: Asked, conditions: Conditions, limit: Limit = 50, cursor: Cursor = "", as_of: AsOf = None
) -> Response[DecisionPage]:
    """All conditions must hold. `start` is inclusive, `end` exclusive. Pages have the cut of the first page, so that
    new decisions neither repeat nor shift rows.
    """
    return json(await desk(request).run(desk(request).search, _known(request, conditions), limit, cursor, as_of))


@get("/v1/summary", tags=["decisions"], summary="What matches a search, counted", dependencies=_CONDITIONS)
async def summarise(request: Asked, conditions: Conditions, as_of: AsOf = None) -> Response[summary.SummaryAnswer]:
    """Exactly, over all that matches: by time and decision, and the most frequent merchants, accounts, devices, cards
    and rules, against the period before, which is as long and ends at `start`.
    """
    views, log = desk(request).views, desk(request).log
    conditions = _known(request, conditions)

    def answer() -> summary.SummaryAnswer:
        found, cut = views.looked_at(
            as_of, lambda states, c: (summary.matches(views.index, c, conditions, states.moment), states.as_of)
        )
        counted = summary.frequent(found)  # without the lock that the states are read under
        return summary.answer(found, counted, summary.named(log, counted), conditions, cut)

    return json(await desk(request).run(answer))


@get("/v1/decisions/{id:str}", tags=["decisions"], summary="One decision, with its alert in words")
async def show(request: Asked, id: Name, as_of: AsOf = None) -> Response[DecisionDetail]:
    """By the transaction's ID, its place (`p07:1-533`) or its alert's ID. An ID with a slash: search by
    `transaction_id`, then ask by place. 404 if it was not made by the moment.
    """
    return unchanging(request, await desk(request).run(desk(request).detail, id, as_of))


@get("/v1/decisions/{id:str}/replay", tags=["decisions"], summary="Make a decision again and compare it")
async def replay(request: Asked, id: Name, as_of: AsOf = None) -> Response[ReplayResult]:
    """By today's live path, from the log, under the context of its seal: `identical`, `different` (with differences),
    or `not_decidable` here (with the reason).
    """
    return json(await desk(request).run_heavy(desk(request).replay, id, as_of))


@get("/v1/decisions/{id:str}/audit", tags=["decisions"], summary="The whole story of a decision")
async def audit(request: Asked, id: Name, as_of: AsOf = None) -> Response[dict[str, Any]]:
    """What was known, which model and whose rules decided, and what came later (docs/audit.md), up to the moment:
    verdicts, actions and other events of the account.
    """
    return json(await desk(request).run_heavy(desk(request).story, id, as_of))


@get("/v1/decisions/{id:str}/proof", tags=["decisions"], summary="The proof of a decision")
async def proof(request: Asked, id: Name, as_of: AsOf = None, level: Level = 2) -> Response[dict[str, Any]]:
    """A file for whoever trusts neither this server nor its operator: `sentinel-verify` checks it offline, with the
    log's public key (docs/proofs.md). Against the newest checkpoint of the anchors in the settings: 409 if that does
    not cover the decision yet; without anchors there is none in it, and the verifier refuses it unless asked not to.
    """
    found, content = await desk(request).run_heavy(desk(request).proof, id, as_of, level)
    name = f"p{found.partition:02d}-{found.position}.proof"
    return json(content, headers={"content-disposition": f'attachment; filename="{name}"'})


@post("/v1/decisions/{id:str}/unmask", tags=["decisions"], summary="Show a masked payment", status_code=200)
async def unmask(request: Asked, id: Name, data: JSONBody[Why]) -> Response[Unmasked]:
    """The payment as logged, to somebody for whom personal data is masked. Who saw what of which payment, when and why
    is recorded before it is shown.
    """
    unmasking: Unmasking = request.app.state.unmasking
    return json(await desk(request).run(unmasking.unmask, id, act_of(request, data.reason)))


HANDLERS = [search, summarise, show, replay, audit, proof, unmask]
