"""What commands that change something share: who acts and why, and what is said when it is done."""

from __future__ import annotations

import getpass
import time
from typing import Annotated

import typer

from learners.governance.control_events import Act
from learners.governance.models import Done

Actor = Annotated[str, typer.Option("--actor", help="Who acts; default: your login name.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the log for ever.")]


def act_of(actor: str, reason: str) -> Act:
    """This person, now. Raises BadInput without a reason."""
    return Act(actor or getpass.getuser(), reason, int(time.time() * 1000))


def print_proposal(done: Done) -> None:
    """How the act is carried out, if it is only proposed."""
    if done.proposal_id:
        print(f"four eyes: somebody else carries it out with `sentinel model approve {done.proposal_id}`")
