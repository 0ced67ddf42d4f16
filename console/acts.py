"""Shared by commands that change something: who acts and why, and how the outcome is reported."""

from __future__ import annotations

import getpass
import time
from typing import Annotated

import typer

from learners.governance.control_events import Act
from learners.governance.models import ModelAct

Actor = Annotated[str, typer.Option("--actor", help="Who is acting. Default: your login name.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="Why. Recorded permanently in the log.")]


def act_of(actor: str, reason: str) -> Act:
    """An act by this person, now. Raises BadInput if the reason is empty."""
    return Act(actor or getpass.getuser(), reason, int(time.time() * 1000))


def print_proposal(done: ModelAct) -> None:
    """If the act was only proposed, how a second person approves it."""
    if done.proposal_id:
        print(f"four eyes: a second person must run `sentinel model approve {done.proposal_id}`")
