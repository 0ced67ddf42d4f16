"""`sentinel learn`: runs the adaptive loop (retrain, shadow, test, promote, roll back), or shows its next step."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Annotated, Literal, get_args

import msgspec
import typer

from console import profiles, wiring
from console.follower_health import followed
from console.following import run_steps
from console.gc_tuning import tune_for_reading
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from console.tables import print_fields, print_json, shown, time_text
from console.timing import seconds_of
from core.errors import BadInput
from core.events import (
    ChangeProposed,
    Control,
    DegradationDetected,
    DeploymentProposed,
    ExperimentConcluded,
    ExperimentStarted,
    ModelDeployed,
    ModelRolledBack,
    RetrainingFinished,
    RetrainingRejected,
)
from core.log.base import EventLog
from core.log.readonly import ReadOnlyLog
from core.partitions import partitions_of
from ingest.families import PHASE
from ingest.health import BOARD
from learners.loop.orchestrator import Orchestrator, Tools
from learners.loop.policy import Evidence, Step
from learners.loop.settings import learn_settings
from learners.loop.state import LoopState, Phase
from projections.engine.feed import newest_receipt

STEPS_AT_ONCE_MAX = 20
TRAINING_S = 6 * 3600.0
"""How long a step may take: one trains and judges all candidates."""
METRICS_SHOWN = (
    "rows",
    "frauds",
    "champion_average_precision",
    "average_precision",
    "champion_ece",
    "ece",
    "decisions_changed",
)
"""The candidate's metrics that fit on one line; the log and `sentinel model show` have all of them."""


def learn(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the loop's state, its evidence, and its next step with the reason.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Keep running.")] = False,
    interval_s: Annotated[float, typer.Option(help="With --follow: polling interval in seconds.", min=0.1)] = 60.0,
    clock: Annotated[
        str, typer.Option(help="wall, or log: when the log's newest payment was received (for history loaded in bulk).")
    ] = "wall",
    as_json: Json = False,
) -> None:
    """Take the next steps of the adaptive loop: enough labels or drift → retrain → gate → shadow → A/B test → promote;
    a champion that performs worse than its predecessor → roll back.

    Every step is one control event with its reasons. Kill it at any time: it resumes from the log. All thresholds are
    in the [learn] table of the settings file (docs/settings.md). Run one process beside the workers.
    """
    if clock not in ("wall", "log"):
        raise BadInput(f"--clock must be wall or log, not {clock!r}")
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
    settings = learn_settings(s.learn)
    tune_for_reading()
    with closing(profiles.open_log(s, profiles.LOG_ONLY)) as log:
        partitions = partitions_of(log)
        now = _clock("log" if clock == "log" else "wall", log, partitions)
        tools = Tools(wiring.load_scorer, seconds_of)
        loop = Orchestrator(ReadOnlyLog(log) if dry_run else log, partitions, settings, tools)

        health = followed(s, log, TRAINING_S) if follow else None

        def next_steps() -> None:
            if dry_run:
                _show(*loop.look(now()), as_json)
            else:
                _steps(loop, now, as_json, quiet=follow)

        run_steps(next_steps, follow=follow, interval_s=interval_s, health=health)


def _steps(loop: Orchestrator, now: Callable[[], int], as_json: bool, *, quiet: bool) -> None:
    """Step until there is nothing to do but wait. quiet: print nothing for a step that only waits."""
    for _ in range(STEPS_AT_ONCE_MAX):
        moment = now()
        step, events = loop.step(moment)
        phases = {(phase,): phase == step.phase for phase in get_args(Phase)}
        BOARD.put("loop", lambda phases=phases: [PHASE.of(phases)])  # type: ignore[misc]
        if events or not quiet:
            _print_step(step, events, moment, as_json)
        if not events:
            return


def event_text(event: Control) -> str:
    """What an event of the loop adds to its step's reason, as text; "" if nothing."""
    match event:
        case RetrainingRejected():
            return f"no candidate: {event.reason}"
        case RetrainingFinished():
            measured = ", ".join(
                f"{name} {event.metrics[name]:,.4g}" for name in METRICS_SHOWN if name in event.metrics
            )
            return f"{event.name}-{event.version} passed the gate" + (f": {measured}" if measured else "")
        case DegradationDetected():
            return f"{event.model}: {event.metric} {shown(event.value)}, limit {shown(event.limit)}"
        case ExperimentStarted():
            return f"experiment {event.experiment_id}: " + " against ".join(
                f"{arm.model}-{arm.version}" for arm in event.arms
            )
        case ExperimentConcluded():
            return f"experiment {event.experiment_id}: {event.verdict} {event.winner}".rstrip()
        case ModelDeployed():
            return f"{event.name}-{event.version} is {event.alias}"
        case ModelRolledBack():
            return f"{event.name}-{event.version} decides again"
        case DeploymentProposed():
            return f"awaiting approval by a second person: sentinel model approve {event.proposal_id}"
        case ChangeProposed():
            return f"awaiting approval by a second person: sentinel proposal approve {event.proposal_id}"
        case _:
            return ""


def _print_step(step: Step, events: list[Control], moment: int, as_json: bool) -> None:
    tags = [str(event.__struct_config__.tag) for event in events]
    if as_json:
        texts = [text for text in map(event_text, events) if text]
        print(msgspec.json.encode({"at": moment, "step": step, "events": tags, "said": texts}).decode(), flush=True)
        return
    changes = f"  [{', '.join(tags)}]" if tags else ""
    print(f"{time_text(moment)}  {step.phase:<9}  {step.action:<9}  {step.reason}{changes}", flush=True)
    for text in filter(None, map(event_text, events)):
        print(f"{'':<44}{text}", flush=True)


def _show(state: LoopState, evidence: Evidence, step: Step, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "position": state.position,
                "phase": state.phase,
                "champion": state.champion,
                "candidate": state.candidate,
                "drifting": {f: drift.severity for f, drift in state.drifting.items()},
                "evidence": msgspec.to_builtins(evidence),
                "step": step,
            }
        )
        return
    print_fields(
        {
            "phase": state.phase,
            "champion": state.champion,
            "candidate": state.candidate,
            "open drift": [f"{f} ({drift.severity})" for f, drift in state.drifting.items()],
            "new verdicts": f"{evidence.labels.verdicts:,}, {evidence.labels.frauds:,} of fraud",
            "rollback target": evidence.way_back,
            "next step": step.action,
            "because": step.reason,
            "control position": f"c{state.position}",
        }
    )


def _clock(kind: Literal["wall", "log"], log: EventLog, partitions: list[int]) -> Callable[[], int]:
    def newest() -> int:
        return max((newest_receipt(log, p) for p in partitions), default=0)

    return newest if kind == "log" else lambda: int(time.time() * 1000)
