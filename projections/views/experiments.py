"""A/B tests: which arm decided for which account, and the history of the experiments.

A partition's state holds, by experiment and account, the arm that first decided and the account's transactions under
that arm as fixed-size rows. The control stream's state holds the experiments: definition, ramps, end. Neither reads the
other: observation window, maturity and end are applied on request (`projections.views.experiments_answers`).

A lowered ramp takes accounts out of the experiment, equally in all arms, because the draw for the ramp is independent
of the arm. What these accounts do meanwhile is left out and counted as crossed. Memory: 33 bytes per transaction in an
experiment, at most the first `ROWS_MAX` of an account, and about 500 bytes per account.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec
import numpy as np

from core.currency import base_amount
from core.events import (
    CHAMPION_ARM,
    ExperimentConcluded,
    ExperimentRamped,
    ExperimentStarted,
    ExperimentStopped,
    ModelDeployed,
    ModelRolledBack,
    ProgramDeployed,
    ProgramRolledBack,
    Seal,
)
from core.governance import CHAMPION
from core.receipt import receive_time
from projections.engine.base import DecidedTransaction, Fact, Projection
from projections.views.account_labels import transaction_key

ROWS_MAX = 500

_ROW = struct.Struct("<8sqqdB")
ROW = np.dtype([("key", "<u8"), ("received_at", "<i8"), ("recorded_at", "<i8"), ("amount", "<f8"), ("alerted", "u1")])
"""One transaction under its arm; key is `transaction_key`."""

End = Literal["stopped", "concluded", "superseded"]


class Enrolment(msgspec.Struct):
    """An account in an experiment. Times in epoch ms; rows are of dtype `ROW`, in order of decision."""

    arm: str
    received_at: int
    recorded_at: int
    rows: bytearray = msgspec.field(default_factory=bytearray)
    left_out: int = 0
    """Transactions beyond `ROWS_MAX`, or under another arm."""


class Enrolled(msgspec.Struct):
    """Accounts of one experiment. crossed: number of their transactions decided outside it, by control position."""

    accounts: dict[str, Enrolment] = {}
    crossed: dict[int, int] = {}


class ExperimentChange(msgspec.Struct, frozen=True):
    """An act on an experiment. traffic: accounts in it from then on, in 1/10,000."""

    position: int
    occurred_at: int
    action: Literal["started", "ramped", "stopped", "concluded", "superseded"]
    actor: str
    reason: str
    traffic: int


class Experiment(msgspec.Struct):
    """An experiment. ended: control position of its end, 0 while it runs."""

    definition: ExperimentStarted
    position: int
    changes: list[ExperimentChange] = []
    ended: int = 0
    ended_at: int = 0
    end: End | None = None
    conclusion: ExperimentConcluded | None = None


class Experiments(msgspec.Struct):
    """Partition: enrolments by experiment, and the log time reached. Control stream: experiments, oldest first, the ID
    of the running one ("" for none), and the SHA-256 of the champion and of the deployed program ("": the default).
    """

    enrolled: dict[str, Enrolled] = {}
    recorded_at: int = 0
    experiments: dict[str, Experiment] = {}
    running: str = ""
    champion: str = ""
    program: str = ""


def _decided(state: Experiments, fact: Fact) -> None:
    decided: DecidedTransaction = fact.event
    arm, account = decided.score.arm, decided.transaction.account_id
    if arm == CHAMPION_ARM:
        if state.enrolled:
            newest = state.enrolled[next(reversed(state.enrolled))]
            if account in newest.accounts:
                position = decided.score.control_position
                newest.crossed[position] = newest.crossed.get(position, 0) + 1
        return
    experiment, _, name = arm.rpartition("/")
    enrolled = state.enrolled.get(experiment)
    if enrolled is None:
        enrolled = state.enrolled[experiment] = Enrolled()
    accounts = enrolled.accounts
    held = accounts.get(account)
    if held is None:
        held = accounts[account] = Enrolment(name, receive_time(decided.transaction), fact.recorded_at)
    if held.arm != name or len(held.rows) >= ROWS_MAX * ROW.itemsize:
        held.left_out += 1
        return
    transaction = decided.transaction
    held.rows += _ROW.pack(
        transaction_key(transaction.transaction_id),
        receive_time(transaction),
        fact.recorded_at,
        base_amount(transaction),
        decided.score.decision != "approve",
    )


def _sealed(state: Experiments, fact: Fact) -> None:
    state.recorded_at = max(state.recorded_at, fact.recorded_at)


def _governed(state: Experiments, fact: Fact) -> None:
    event: _Cause = fact.event
    position = fact.id.generation
    match event:
        case ExperimentStarted():
            state.running = event.experiment_id
            state.experiments[event.experiment_id] = Experiment(event, position)
            _changed(state.experiments[event.experiment_id], position, event, "started", event.traffic)
        case ExperimentRamped():
            _changed(state.experiments[event.experiment_id], position, event, "ramped", event.traffic)
        case ExperimentStopped():
            _end(state, position, event, "stopped")
        case ExperimentConcluded():
            state.experiments[event.experiment_id].conclusion = event
            _end(state, position, event, "concluded")
        case ModelDeployed() | ModelRolledBack() if event.alias == CHAMPION and event.digest != state.champion:
            state.champion = event.digest
            if state.running:
                _end(state, position, event, "superseded")
        case ProgramDeployed() | ProgramRolledBack() if event.digest != state.program:
            state.program = event.digest
            if state.running:
                _end(state, position, event, "superseded")
        case _:
            pass  # another alias, or the same champion or program again


_Cause = (
    ExperimentStarted
    | ExperimentRamped
    | ExperimentStopped
    | ExperimentConcluded
    | ModelDeployed
    | ModelRolledBack
    | ProgramDeployed
    | ProgramRolledBack
)


def _changed(
    held: Experiment,
    position: int,
    event: _Cause,
    action: Literal["started", "ramped", "stopped", "concluded", "superseded"],
    traffic: int,
) -> None:
    held.changes.append(ExperimentChange(position, event.occurred_at, action, event.actor, event.reason, traffic))


def _end(state: Experiments, position: int, event: _Cause, end: End) -> None:
    held = state.experiments[state.running]
    state.running = ""
    held.ended, held.ended_at, held.end = position, event.occurred_at, end
    _changed(held, position, event, end, 0)


EXPERIMENTS = Projection(
    name="experiments",
    holds=(
        "which arm decided for which account (33 bytes per transaction); experiments, ramps, ends; outcomes are "
        "computed on request"
    ),
    version=5,
    state_type=Experiments,
    handlers={
        DecidedTransaction: _decided,
        Seal: _sealed,
        ModelDeployed: _governed,
        ModelRolledBack: _governed,
        ProgramDeployed: _governed,
        ProgramRolledBack: _governed,
        ExperimentStarted: _governed,
        ExperimentRamped: _governed,
        ExperimentStopped: _governed,
        ExperimentConcluded: _governed,
    },
)
