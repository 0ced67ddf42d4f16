"""Programs: registered, proposed and deployed ones; a document; differences."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, get

from console.api.problems import not_found
from console.api.requests import Asked, AsOf, Name, Text, asked
from core.errors import BadInput
from core.log.base import EventLog
from core.program import document, library, loading
from core.program.differences import differences
from core.program.document import Program
from core.program.document_writing import tables, toml
from core.program.shipped import LIBRARIES
from learners.governance import programs as acts
from projections.engine.states import States
from projections.views.programs import PROGRAMS, ProgramRegistry, find, in_force


class ProgramsAnswer(msgspec.Struct, frozen=True):
    """decides: SHA-256 of the program in force."""

    as_of: str
    decides: str
    registry: ProgramRegistry


class ProgramAnswer(msgspec.Struct, frozen=True):
    """A program as TOML in canonical form, and as tables. decides: whether it does, as of the moment."""

    as_of: str
    digest: str
    label: str
    decides: bool
    toml: str
    document: dict[str, Any]


class DiffAnswer(msgspec.Struct, frozen=True):
    """What changes from one program (SHA-256) to another, in words."""

    before: str
    after: str
    differences: list[str]


@get("/v1/programs", tags=["programs"], summary="Programs, proposals, deployments, refused acts")
async def programs(request: Asked, as_of: AsOf = None) -> Response[ProgramsAnswer]:
    """Who proposed, approved and deployed what, when and why."""

    def question(states: States) -> ProgramsAnswer:
        registry = states.of_control(PROGRAMS)
        return ProgramsAnswer(states.as_of, in_force(registry) or registry.default, registry)

    return await asked(request, "programs", question, as_of)


@get("/v1/programs/{id:str}", tags=["programs"], summary="One program as TOML and as tables")
async def program(request: Asked, id: Name, as_of: AsOf = None) -> Response[ProgramAnswer]:
    """By `name@version`, the first digits of its SHA-256, `default`, `current`, or a library such as `standard@1`."""

    def question(states: States) -> ProgramAnswer:
        registry = states.of_control(PROGRAMS)
        found = named(states.log, registry, id)
        digest = document.digest(found)
        deciding = in_force(registry) or registry.default
        return ProgramAnswer(states.as_of, digest, found.label, digest == deciding, toml(found), tables(found))

    return await asked(request, f"program {id}", question, as_of)


@get("/v1/programs/{id:str}/diff", tags=["programs"], summary="What changes from one program to another")
async def diff(request: Asked, id: Name, against: Text = None, as_of: AsOf = None) -> Response[DiffAnswer]:
    """From `against` to this one."""

    def question(states: States) -> DiffAnswer:
        registry = states.of_control(PROGRAMS)
        old, new = named(states.log, registry, against or "current"), named(states.log, registry, id)
        return DiffAnswer(document.digest(old), document.digest(new), differences(old, new))

    return await asked(request, f"diff {id} {against}", question, as_of)


def named(log: EventLog, registry: ProgramRegistry, name: str) -> Program:
    """The program that a name means. Raises ProblemError (404) if there is none."""
    if name in LIBRARIES:
        return library.library(LIBRARIES[name]).program
    try:
        digest = in_force(registry) if name == "current" else _digest(registry, name)
    except BadInput as error:
        raise not_found(f"program {name}", str(error)) from None
    return acts.stored(log, digest) if digest else loading.load(registry.default, log.get_blob).program


def _digest(registry: ProgramRegistry, name: str) -> str:
    proposal = registry.proposals.get(name)
    return find(registry, name) if proposal is None else proposal.digest


HANDLERS = [programs, program, diff]
