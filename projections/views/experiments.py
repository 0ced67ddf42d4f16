"""A/B tests: who was decided by which arm, and what people did to them.

A partition's state holds, by experiment and account, the arm that first decided and its transactions under that arm as
fixed rows; the control stream's state holds the experiments: definition, ramps, end. Neither looks at the other:
window, maturity and end are applied when the model is asked (`projections.views.experiments_answers`).

A lowered ramp takes accounts out of the experiment, all arms alike, since the draw for it is independent of the arm;
what they do meanwhile is left out and counted as crossed. Memory: 33 bytes a transaction in an experiment, at most
`ROWS_MAX` an account (the first ones), and some 500 bytes an account.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.events import (
    CHAMPION_ARM,
    ExperimentConcluded,
    ExperimentRamped,
    ExperimentStarted,
    ExperimentStopped,
    ModelDeployed,
    ModelRolledBack,
    Seal,
)
from core.governance import CHAMPION
from projections.engine.base import Decided, Fact, Projection

ROWS_MAX = 500

_ROW = struct.Struct("<8sqqdB")
ROW = np.dtype([("key", "<u8"), ("occurred_at", "<i8"), ("recorded_at", "<i8"), ("amount", "<f8"), ("alerted", "u1")])
"""One transaction under its arm; key is `transaction_key`."""

End = Literal["stopped", "concluded", "superseded"]


def transaction_key(transaction_id: str) -> bytes:
    """8 bytes of BLAKE2b of a transaction's ID."""
    return hashlib.blake2b(transaction_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def transaction_keys(ids: Sequence[str]) -> NDArray[np.uint64]:
    """Keys of n transactions as rows hold them: uint64 (n,)."""
    return np.frombuffer(b"".join(map(transaction_key, ids)), dtype="<u8")


class Enrolment(msgspec.Struct):
    """An account in an experiment. Times in epoch ms; rows are of dtype `ROW`, in order of decision."""

    arm: str
    occurred_at: int
    recorded_at: int
    rows: bytearray = msgspec.field(default_factory=bytearray)
    left_out: int = 0
    """Transactions beyond `ROWS_MAX`, or under another arm."""


class Enrolled(msgspec.Struct):
    """Accounts of one experiment; crossed: their transactions decided outside it, by control position."""

    accounts: dict[str, Enrolment] = {}
    crossed: dict[int, int] = {}


class Change(msgspec.Struct, frozen=True):
    """What somebody did to an experiment. traffic: accounts of 10,000 in it from then on."""

    position: int
    occurred_at: int
    action: Literal["started", "ramped", "stopped", "concluded", "superseded"]
    actor: str
    reason: str
    traffic: int


class Experiment(msgspec.Struct):
    """An experiment. ended 0: it runs."""

    definition: ExperimentStarted
    position: int
    changes: list[Change] = []
    ended: int = 0
    ended_at: int = 0
    end: End | None = None
    conclusion: ExperimentConcluded | None = None


class Experiments(msgspec.Struct):
    """Of a partition: enrolments by experiment, and the log time reached. Of control: experiments, oldest first, the ID
    of the running one ("" for none), and the champion's SHA-256.
    """

    enrolled: dict[str, Enrolled] = {}
    recorded_at: int = 0
    experiments: dict[str, Experiment] = {}
    running: str = ""
    champion: str = ""


def _decided(state: Experiments, fact: Fact) -> None:
    decided: Decided = fact.event
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
        held = accounts[account] = Enrolment(name, decided.transaction.occurred_at, fact.recorded_at)
    if held.arm != name or len(held.rows) >= ROWS_MAX * ROW.itemsize:
        held.left_out += 1
        return
    transaction = decided.transaction
    held.rows += _ROW.pack(
        transaction_key(transaction.transaction_id),
        transaction.occurred_at,
        fact.recorded_at,
        transaction.amount,
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
        case _:
            pass  # another alias, or the same champion again


_Cause = (
    ExperimentStarted | ExperimentRamped | ExperimentStopped | ExperimentConcluded | ModelDeployed | ModelRolledBack
)


def _changed(
    held: Experiment,
    position: int,
    event: _Cause,
    action: Literal["started", "ramped", "stopped", "concluded", "superseded"],
    traffic: int,
) -> None:
    held.changes.append(Change(position, event.occurred_at, action, event.actor, event.reason, traffic))


def _end(state: Experiments, position: int, event: _Cause, end: End) -> None:
    held = state.experiments[state.running]
    state.running = ""
    held.ended, held.ended_at, held.end = position, event.occurred_at, end
    _changed(held, position, event, end, 0)


EXPERIMENTS = Projection(
    name="experiments",
    holds=(
        "who was decided by which arm, with 33 bytes a transaction; experiments, ramps, ends; outcomes are "
        "computed when asked"
    ),
    version=3,
    state_type=Experiments,
    handlers={
        Decided: _decided,
        Seal: _sealed,
        ModelDeployed: _governed,
        ModelRolledBack: _governed,
        ExperimentStarted: _governed,
        ExperimentRamped: _governed,
        ExperimentStopped: _governed,
        ExperimentConcluded: _governed,
    },
)
