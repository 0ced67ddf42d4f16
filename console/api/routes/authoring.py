"""Writing programs: check, complete, try on the log, propose, approve, deploy, withdraw, roll back.

Every act is recorded under the name of whoever is logged in; the fold of the control stream decides whether it counts
(four eyes, `core.program.governance`), so these routes can't weaken a rule.
"""

from __future__ import annotations

import time
from typing import Annotated, Literal

import msgspec
from litestar import Response, get, post
from litestar.params import JSONBody

from console import backtesting
from console.api.labelled import labels
from console.api.problems import FieldProblem, ProblemError
from console.api.requests import Asked, AsOf, Name, desk, json
from console.backtest_report import Report
from console.whatif_changes import scope_of
from core.errors import Unavailable
from core.features import spec
from core.program import loading
from core.program.fields import STANDARD
from core.program.loading import Loaded
from core.program.problems import DocumentError
from learners.governance import programs
from learners.governance.control_events import Act
from projections.audit.stored_batch import NotStored
from projections.views.programs import PROGRAMS, in_force


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program as TOML."""

    toml: str


class Checked(msgspec.Struct, frozen=True):
    """ok: whether it can decide; problems: every fault with its line (0: the whole document)."""

    ok: bool
    label: str = ""
    digest: str = ""
    rules: int = 0
    features: int = 0
    problems: list[FieldProblem] = []


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to try a program on: from `start` to `end` (event time, UTC). rule: the one to tell about, "" for all.
    as_of: a moment; only decisions and labels that were known then count.
    """

    toml: str
    start: str | None = None
    end: str | None = None
    rule: str = ""
    as_of: Annotated[str, msgspec.Meta(max_length=4096)] | None = None


class Proposed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program and why."""

    toml: str
    reason: str


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why; recorded permanently."""

    reason: str


class Known(msgspec.Struct, frozen=True):
    """A name that an expression can use."""

    name: str
    kind: Literal["field", "feature", "parameter"]
    type: str
    meaning: str


@post("/v1/programs/check", tags=["programs"], summary="Check a program", status_code=200)
async def check(request: Asked, data: JSONBody[Document]) -> Response[Checked]:
    """Every fault at once, each with its line. Nothing is stored."""
    return json(await desk(request).run(_checked, data.toml))


def _checked(text: str) -> Checked:
    try:
        found = loading.check(text.encode())
    except DocumentError as error:
        return Checked(False, problems=_faults(error))
    return Checked(True, found.program.label, found.digest, len(found.checked.rules), len(found.checked.features))


def _faults(error: DocumentError) -> list[FieldProblem]:
    return [FieldProblem(p.message, ".".join(str(part) for part in p.path), p.line) for p in error.problems]


def _loaded(text: str) -> Loaded:
    """Raises ProblemError with every fault."""
    try:
        return loading.check(text.encode())
    except DocumentError as error:
        raise ProblemError(422, str(error), reason="bad_program", problems=_faults(error)) from None


@post("/v1/programs/backtest", tags=["programs"], summary="Try a program on the log", status_code=200)
async def backtest(request: Asked, data: JSONBody[Trial]) -> Response[Report]:
    """What it would have decided, against what was decided (docs/programs.md), as of now or of a moment. From stored
    columns; a program whose features must be folded from the log is refused: use `sentinel program backtest`.
    """
    here = desk(request)

    def answer() -> Report:
        program = _loaded(data.toml).program
        wanted = backtesting.Wanted("", scope_of(data.start, data.end, ("start", "end")), data.rule, None, 1)
        known, until, _ = labels(here, data.as_of)
        try:
            return backtesting.of_program(here.log, here.settings, program, wanted, known, may_fold=False, until=until)
        except NotStored as error:
            raise ProblemError(
                422,
                f"this program takes a fold of the log: {error}",
                reason="takes_a_fold",
                remedy="run `sentinel program backtest FILE`",
            ) from None

    return json(await here.run_heavy(answer))


@get("/v1/programs/completions", tags=["programs"], summary="Names that an expression can use")
async def completions(request: Asked, as_of: AsOf = None) -> Response[list[Known]]:
    """Standard fields, the library's features, and the parameters of the program in force."""
    here = desk(request)

    def answer() -> list[Known]:
        registry = here.views.looked_at(as_of, lambda states, _: states.of_control(PROGRAMS))
        checked = loading.load(in_force(registry) or registry.default, here.log.get_blob).checked
        fields = [Known(name, "field", each.type, "") for name, each in STANDARD.items()]
        features = [
            Known(each.name, "feature", each.unit, each.meaning) for each in spec.FEATURES if each.name not in STANDARD
        ]
        parameters = [Known(name, "parameter", f"{value:g}", "") for name, value in checked.parameters.items()]
        return [*fields, *features, *parameters]

    return json(await here.run(answer))


@post("/v1/programs/proposals", tags=["programs"], summary="Propose a program", status_code=201)
async def propose(request: Asked, data: JSONBody[Proposed]) -> Response[programs.ProgramAct]:
    """Stores the document and proposes that it decide. Repeated, it changes nothing."""
    here, act = desk(request), _act(request, data.reason)
    return json(await here.run(lambda: programs.propose(here.log, _loaded(data.toml).program, act)), 201)


@post("/v1/programs/proposals/{id:str}/approve", tags=["programs"], summary="Approve a proposal", status_code=200)
async def approve(request: Asked, id: Name, data: JSONBody[Reason]) -> Response[programs.ProgramAct]:
    """Another person's proposal; it decides once it is deployed."""
    return json(await desk(request).run(programs.approve, desk(request).log, id, _act(request, data.reason)))


@post("/v1/programs/proposals/{id:str}/withdraw", tags=["programs"], summary="Withdraw a proposal", status_code=200)
async def withdraw(request: Asked, id: Name, data: JSONBody[Reason]) -> Response[programs.ProgramAct]:
    """One's own or another's: it can't be approved or deployed any more."""
    return json(await desk(request).run(programs.withdraw, desk(request).log, id, _act(request, data.reason)))


@post("/v1/programs/proposals/{id:str}/deploy", tags=["programs"], summary="Let a program decide", status_code=200)
async def deploy(request: Asked, id: Name, data: JSONBody[Reason]) -> Response[programs.ProgramAct]:
    """From the workers' next batch on. 503 while workers still fold its state: ask again."""
    here, act = desk(request), _act(request, data.reason)

    def answer() -> programs.ProgramAct:
        _, lacking = programs.to_deploy(here.log, id, act)
        if lacking:
            raise Unavailable(
                f"workers still prepare partitions {', '.join(map(str, lacking))} for it; nothing is deployed"
            )
        return programs.deploy(here.log, id, act)

    return json(await here.run_heavy(answer))


@post("/v1/programs/rollback", tags=["programs"], summary="Go back to the program before", status_code=200)
async def roll_back(request: Asked, data: JSONBody[Reason]) -> Response[programs.ProgramAct]:
    """Needs no second person."""
    return json(await desk(request).run(programs.roll_back, desk(request).log, _act(request, data.reason)))


def _act(request: Asked, reason: str) -> Act:
    return Act(request.user.name, reason, int(time.time() * 1000))


HANDLERS = [check, backtest, completions, propose, approve, withdraw, deploy, roll_back]
