"""Shared by commands that change something: who acts and why, and how the outcome is reported."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterable
from typing import Annotated

import typer

from core import control_stream
from core.errors import BadInput
from core.log.base import EventLog
from core.persons import person
from learners.governance.control_events import Act
from learners.governance.models import ModelAct

Actor = Annotated[
    str,
    typer.Option("--actor", help="Who is acting. Default: your key's name, or your login name.", show_default=False),
]
Reason = Annotated[str, typer.Option("--reason", help="Why. Recorded permanently in the log.")]


def act_of(actor: str, reason: str, log: EventLog | None = None) -> Act:
    """An act by this person, now: by default, the owner of the key that the log was opened with, or else whoever is
    logged in. Raises BadInput if the reason is empty, or if the key is somebody else's.
    """
    signer = log.signer if log is not None else None
    if signer is not None and actor and person(actor) != person(signer.name):
        raise BadInput(f"--actor {actor}, but the key (identity_key) is {signer.name}'s")
    own = signer.name if signer is not None else ""
    return Act(own or actor or getpass.getuser(), reason, int(time.time() * 1000))


def teller(log: EventLog, actor: str = "") -> str:
    """Who tells what concerns an account, by the one name that the roster knows them by: the owner of the key that the
    log was opened with, or else the actor, by default whoever is logged in. Raises BadInput if the key is another's.
    """
    if log.signer is None:
        return actor or getpass.getuser()
    owner = control_stream.current(log).governance.roster.owner(log.signer.key_id)
    name = log.signer.name if owner is None else owner.told_as
    if actor and person(actor) not in (person(log.signer.name), person(name)):
        raise BadInput(f"--actor {actor}, but the key (identity_key) is {log.signer.name}'s")
    return name


def print_proposed(proposals: Iterable[str]) -> None:
    """How a second person approves what was only proposed."""
    for each in proposals:
        print(f"four eyes: a second person must run `sentinel proposal approve {each}`")


def print_proposal(done: ModelAct) -> None:
    """If the act was only proposed, how a second person approves it."""
    if done.proposal_id:
        group = "model" if done.model else "proposal"
        print(f"four eyes: a second person must run `sentinel {group} approve {done.proposal_id}`")
