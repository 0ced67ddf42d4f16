"""Changes that wait for a second person under four eyes: which, approve, withdraw, as `sentinel proposal`. Models and
programs have routes of their own. The actor is the authenticated user.
"""

from __future__ import annotations

import msgspec
from litestar import Response, get, post
from litestar.params import JSONBody

from console.api.problems import ProblemError
from console.api.requests import Asked, Name, desk, json
from console.api.routes.acting import Why, act_of
from core.authority import kind_of
from core.changes import event_of
from core.control_stream import history
from learners.governance import proposals
from learners.governance.proposals import ChangeAct, OpenChange


class OpenChanges(msgspec.Struct, frozen=True):
    """Open proposals of changes, oldest first. change: the fields of the event that takes effect once approved."""

    proposals: list[OpenChange]


@get("/v1/proposals", tags=["policy"], summary="Changes that wait for a second person")
async def waiting(request: Asked) -> Response[OpenChanges]:
    """Of thresholds, rules, rates, lists, experiments, the roster, and the switches themselves."""
    log = desk(request).log
    return json(OpenChanges(await desk(request).run(lambda: proposals.open_changes(history(log)))))


@post("/v1/proposals/{id:str}/approve", tags=["policy"], summary="Approve a change", status_code=200)
async def approve(request: Asked, id: Name, data: JSONBody[Why]) -> Response[ChangeAct]:
    """Another person's; it takes effect from the workers' next batch on."""
    here, act = desk(request), act_of(request, data.reason)

    def answer() -> ChangeAct:
        found = next((each for each in proposals.open_changes(history(here.log)) if each.proposal_id == id), None)
        if found is not None and (needed := roles_of(found)).isdisjoint(request.user.roles):
            raise ProblemError(
                403,
                f"{act.actor} may not change this: it takes one of the roles {', '.join(sorted(needed))}",
                reason="not_permitted",
            )
        return proposals.approve(here.log, id, act)

    return json(await here.run(answer))


def roles_of(found: OpenChange) -> frozenset[str]:
    """The roles that may make the change."""
    return kind_of(event_of(found.change)).roles


@post("/v1/proposals/{id:str}/withdraw", tags=["policy"], summary="Withdraw a change", status_code=200)
async def withdraw(request: Asked, id: Name, data: JSONBody[Why]) -> Response[ChangeAct]:
    """One's own or another's: nobody can approve it any more."""
    return json(await desk(request).run(proposals.withdraw, desk(request).log, id, act_of(request, data.reason)))


HANDLERS = [waiting, approve, withdraw]
