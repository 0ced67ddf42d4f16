"""Shared by commands that change something: who acts and why, and how the outcome is reported."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterable
from typing import Annotated

import typer

from learners.governance.control_events import Act
from learners.governance.models import ModelAct

Actor = Annotated[str, typer.Option("--actor", help="Who is acting. Default: your login name.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="Why. Recorded permanently in the log.")]


def act_of(actor: str, reason: str) -> Act:
    """An act by this person, now. Raises BadInput if the reason is empty."""
    return Act(actor or getpass.getuser(), reason, int(time.time() * 1000))


def print_proposed(proposals: Iterable[str]) -> None:
    """How a second person approves what was only proposed."""
    for each in proposals:
        print(f"four eyes: a second person must run `sentinel proposal approve {each}`")


def print_proposal(done: ModelAct) -> None:
    """If the act was only proposed, how a second person approves it."""
    if done.proposal_id:
        group = "model" if done.model else "proposal"
        print(f"four eyes: a second person must run `sentinel {group} approve {done.proposal_id}`")
