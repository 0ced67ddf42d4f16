"""The control events of experiments (`core.assignment` says who is in which arm)."""

from __future__ import annotations

from typing import Literal

import msgspec

from core.events.base import ControlEvent


class Arm(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One side of an experiment: the model, and the program by its SHA-256, that decide for `share` of the experiment's
    accounts (of 10,000). program: "" for the one that is deployed.
    """

    name: str
    model: str
    version: str
    digest: str
    share: int
    program: str = ""


class ExperimentStarted(ControlEvent, tag="experiment_started.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on each account in the experiment is decided by its arm's program and model. See core.assignment.

    arms: the first is the control and must be the champion under the deployed program; shares add up to 10,000.
    traffic: how many of 10,000 accounts are in the experiment. An account counts once, with the transactions of its
    first `window_ms` in the experiment, when labels of age `maturity_ms` are known. alpha: the error level of all
    statements together. primary: the metric that decides; worthwhile: the smallest gain on it that makes an arm worth
    promoting; guardrails: metrics that must not get worse by more than guardrail_margin (a share of accounts: 0.002 is
    two in a thousand). After `duration_max_ms` it ends without a winner. is_guardrail: the arm was shown to be better
    before, by `evidence`, and wins if no guardrail is breached (learners.experiments.verdict).
    """

    experiment_id: str
    arms: tuple[Arm, ...]
    salt: str
    traffic: int = 10_000
    window_ms: int = 604_800_000
    maturity_ms: int = 604_800_000
    alpha: float = 0.05
    primary: str = "value_lost"
    guardrails: tuple[str, ...] = ("missed_fraud", "false_positive")
    accounts_min: int = 1000
    duration_max_ms: int = 7_776_000_000
    guardrail_margin: float = 0.0
    worthwhile: float = 0.0
    is_guardrail: bool = False
    evidence: dict[str, float] = {}


class ExperimentRamped(ControlEvent, tag="experiment_ramped.v1", tag_field="type", frozen=True, kw_only=True):
    """The share of accounts in the experiment changes. Raising it keeps every account's arm."""

    experiment_id: str
    traffic: int


class ExperimentStopped(ControlEvent, tag="experiment_stopped.v1", tag_field="type", frozen=True, kw_only=True):
    """The experiment ended without a conclusion; the champion decides again for everybody."""

    experiment_id: str


class ExperimentConcluded(ControlEvent, tag="experiment_concluded.v1", tag_field="type", frozen=True, kw_only=True):
    """The experiment ended with a verdict; a winner becomes champion by a ModelDeployed of its own.

    winner: an arm's name, "" for none. evidence: the figures behind the verdict, by name (`docs/experiments.md`).
    """

    experiment_id: str
    verdict: Literal["promote", "keep", "rollback"]
    winner: str = ""
    evidence: dict[str, float] = {}
