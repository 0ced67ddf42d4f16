"""Acts on cases: assign, put off, route, write, resolve, reopen, check, open. Each is an event with its actor, and is
answered once it is in the log and had an effect (`responders.cases.desk`); if somebody else was faster: 409.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from litestar import Response, post
from litestar.params import JSONBody

from console.api.desk import Desk
from console.api.problems import ProblemError, not_found
from console.api.requests import Asked, Name, json
from core.errors import Conflict, SentinelError
from core.events import AccountEvent, Position, Severity, Verdict
from ingest.outlet import KafkaOutlet
from projections.catalogue import ALL
from projections.engine.checkpoints import CheckpointStore
from projections.engine.states import States, open_states
from projections.views.case_records import Case
from projections.views.cases import CaseRow, case_answer
from responders.cases import acts
from responders.cases.acts import Act
from responders.cases.desk import Desk as CaseDesk
from responders.cases.settings import NOTE_CHARACTERS_MAX, case_settings
from responders.ports import Outgoing

BULK_MAX = 100
Note = Annotated[str, msgspec.Meta(max_length=NOTE_CHARACTERS_MAX)]
Built = Callable[[Case, Act], list[AccountEvent]]


class Seen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """revision: of the case as it was seen; if it has changed since, nothing happens (409). 0: whatever it is now."""

    revision: Annotated[int, msgspec.Meta(ge=0)] = 0


class Assigned(Seen, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """assignee: by default oneself; "" returns the case to the queue. force: also if somebody else has it."""

    assignee: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    force: bool = False


class Snoozed(Seen, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """until: epoch ms; 0: it is due again."""

    until: Annotated[int, msgspec.Meta(ge=0)]


class Routed(Seen, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """queue: where the case goes. note: why."""

    queue: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    note: Note = ""


class Noted(Seen, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """note: `@name` in it mentions somebody. mentions: ignored; the text says it."""

    note: Annotated[str, msgspec.Meta(min_length=1, max_length=NOTE_CHARACTERS_MAX)]
    mentions: list[str] = []


class Resolved(Seen, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verdict on each of the case's payments. force: also if somebody else has the case."""

    verdict: Verdict
    note: Note = ""
    force: bool = False


class Reopened(Seen, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """note: why."""

    note: Note = ""


class Checked(Seen, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A second person's verdict."""

    verdict: Verdict
    note: Note = ""


class Bulk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several cases, one verdict."""

    cases: Annotated[list[str], msgspec.Meta(min_length=1, max_length=BULK_MAX)]
    verdict: Verdict
    note: Note = ""
    force: bool = False


class BulkResult(msgspec.Struct, frozen=True):
    """One case of several: as it is now, or why it is as it was."""

    case_id: str
    case: CaseRow | None
    problem: str


class BulkAnswer(msgspec.Struct, frozen=True):
    """A result for each case, in the order asked."""

    results: list[BulkResult]
    resolved: int


class Opened(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A case by hand, on an account. alert_id: the alert that led to it, "" for none."""

    account_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    note: Annotated[str, msgspec.Meta(min_length=1, max_length=NOTE_CHARACTERS_MAX)]
    severity: Severity = "medium"
    queue: Annotated[str, msgspec.Meta(max_length=128)] = ""
    alert_id: Annotated[str, msgspec.Meta(max_length=128)] = ""


class Casework:
    """The desk for cases of one application: one producer, used by one act at a time."""

    def __init__(self, of: Desk) -> None:
        """Contacts nobody."""
        case_settings(of.settings.cases)
        self._desk = of
        self._store = CheckpointStore(of.checkpoints, of.settings.log_prefix)
        self._outlet = KafkaOutlet(of.settings, lambda: of.control.generations["feedback"].number, of.attest)
        self._sending = threading.Lock()
        self._cases = CaseDesk(of.log, self, self.states)

    def states(self) -> States:
        """The read models as of now, folded from checkpoints: an act must see the one before it."""
        return open_states(self._desk.log, ALL, self._store, now_ms=int(time.time() * 1000))

    def send(self, events: Sequence[Outgoing]) -> list[Position]:
        """See `responders.ports.Outlet`."""
        with self._sending:
            return self._outlet.send(events)

    def perform(self, name: str, revision: int, act: Act, build: Built) -> CaseRow:
        """Carry out one act. Raises ProblemError if there is no such case, Conflict if it has changed."""
        row = case_answer(self.states(), name)
        if row is None:
            raise not_found(f"case {name}")
        if revision and revision != row.case.revision:
            raise Conflict(f"case {row.case.case_id} has changed since you saw it")
        return self._cases.perform(row.case.case_id, build(row.case, act))

    def open_case(self, data: Opened, act: Act) -> CaseRow:
        """Open a case by hand."""
        case_id = f"m-{act.act_id}"
        account = self._desk.asked("account_id", data.account_id)
        events = acts.open_case(account, case_id, act, data.severity, data.note, data.queue, data.alert_id)
        return self._cases.perform(case_id, events)


async def _perform(request: Asked, name: str, revision: int, build: Built) -> Response[Any]:
    office: Casework = request.app.state.casework
    # The default pool: an act waits for a worker, and must not take a reader's thread meanwhile.
    return json(await asyncio.to_thread(office.perform, name, revision, _act(request), build))


def _act(request: Asked) -> Act:
    return Act(request.user.name, int(time.time() * 1000), secrets.token_hex(8))


@post("/v1/cases", tags=["cases"], summary="Open a case by hand", status_code=201)
async def open_case(request: Asked, data: JSONBody[Opened]) -> Response[CaseRow]:
    """Alerts open cases by themselves."""
    office: Casework = request.app.state.casework
    return json(await asyncio.to_thread(office.open_case, data, _act(request)), 201)


@post("/v1/cases/resolve", tags=["cases"], summary="Resolve several cases", status_code=200)
async def resolve_all(request: Asked, data: JSONBody[Bulk]) -> Response[BulkAnswer]:
    """Each on its own: one that somebody else has, or that is not there, says why."""
    office: Casework = request.app.state.casework

    def one(case_id: str) -> BulkResult:
        def build(case: Case, act: Act) -> list[AccountEvent]:
            return acts.resolve(case, act, data.verdict, data.note, force=data.force)

        try:
            return BulkResult(case_id, office.perform(case_id, 0, _act(request), build), "")
        except ProblemError as error:
            return BulkResult(case_id, None, error.problem.detail)
        except SentinelError as error:
            return BulkResult(case_id, None, str(error).replace("--force", "force"))

    results = [await asyncio.to_thread(one, case_id) for case_id in dict.fromkeys(data.cases)]
    return json(BulkAnswer(results, sum(result.case is not None for result in results)))


@post("/v1/cases/{id:str}/assign", tags=["cases"], summary="Assign a case", status_code=200)
async def assign(request: Asked, id: Name, data: JSONBody[Assigned]) -> Response[CaseRow]:
    """To oneself or another, so that nobody else works on it; or back to the queue."""
    assignee = request.user.name if data.assignee is None else data.assignee
    return await _perform(
        request, id, data.revision, lambda case, act: acts.assign(case, act, assignee, force=data.force)
    )


@post("/v1/cases/{id:str}/snooze", tags=["cases"], summary="Put a case off", status_code=200)
async def snooze(request: Asked, id: Name, data: JSONBody[Snoozed]) -> Response[CaseRow]:
    """Its SLA clock goes on."""
    return await _perform(request, id, data.revision, lambda case, act: acts.snooze(case, act, data.until))


@post("/v1/cases/{id:str}/route", tags=["cases"], summary="Put a case into another queue", status_code=200)
async def route(request: Asked, id: Name, data: JSONBody[Routed]) -> Response[CaseRow]:
    """With a note that says why."""

    def build(case: Case, act: Act) -> list[AccountEvent]:
        moved = acts.route(case, act, data.queue)
        return [*moved, *acts.note(case, act, data.note)] if data.note else moved

    return await _perform(request, id, data.revision, build)


@post("/v1/cases/{id:str}/notes", tags=["cases"], summary="Write on a case", status_code=200)
async def note(request: Asked, id: Name, data: JSONBody[Noted]) -> Response[CaseRow]:
    """`@name` mentions somebody."""
    return await _perform(request, id, data.revision, lambda case, act: acts.note(case, act, data.note))


@post("/v1/cases/{id:str}/resolve", tags=["cases"], summary="Resolve a case", status_code=200)
async def resolve(request: Asked, id: Name, data: JSONBody[Resolved]) -> Response[CaseRow]:
    """With a verdict on each of its payments, which becomes a label; on a resolved case: correct it."""
    return await _perform(
        request,
        id,
        data.revision,
        lambda case, act: acts.resolve(case, act, data.verdict, data.note, force=data.force),
    )


@post("/v1/cases/{id:str}/reopen", tags=["cases"], summary="Undo a resolution", status_code=200)
async def reopen(request: Asked, id: Name, data: JSONBody[Reopened]) -> Response[CaseRow]:
    """One's own verdicts are taken back; those of others stand."""
    return await _perform(request, id, data.revision, lambda case, act: acts.undo(case, act, data.note))


@post("/v1/cases/{id:str}/check", tags=["cases"], summary="A second person's verdict", status_code=200)
async def check(request: Asked, id: Name, data: JSONBody[Checked]) -> Response[CaseRow]:
    """On a resolved case; one that differs marks it."""
    return await _perform(request, id, data.revision, lambda case, act: acts.check(case, act, data.verdict, data.note))


HANDLERS = [open_case, resolve_all, assign, snooze, route, note, resolve, reopen, check]
