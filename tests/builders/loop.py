"""What the loop meets: control events of a model's life, and evidence."""

from __future__ import annotations

import hashlib
from typing import Any

from core import events
from core.events import Arm, Control
from learners.experiments.paired import PairedReport
from learners.experiments.verdict import Action, Verdict
from learners.loop.evidence import ModelComparison
from tests.builders.models import ARTIFACT

NOW = 1_770_000_000_000
ONE, TWO, THREE = ARTIFACT, ARTIFACT + b" ", ARTIFACT + b"  "


def by(actor: str = "ann", **more: Any) -> dict[str, Any]:
    return {"occurred_at": NOW, "actor": actor, "reason": "r"} | more


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def model(content: bytes, version: str, name: str = "m") -> dict[str, str]:
    return {"name": name, "version": version, "digest": sha(content)}


def arm(name: str, content: bytes, version: str, share: int = 5000, of: str = "m") -> Arm:
    return Arm(name, of, version, sha(content), share)


def registered(content: bytes, version: str, name: str = "m") -> events.ModelRegistered:
    return events.ModelRegistered(**by(), **model(content, version, name), spec=1)


FIRST: tuple[Control, ...] = (registered(ONE, "1.0.0"), events.ModelDeployed(**by(), **model(ONE, "1.0.0")))


def experiment(experiment_id: str = "e1", actor: str = "loop", **changes: Any) -> events.ExperimentStarted:
    fields: dict[str, Any] = {
        "experiment_id": experiment_id,
        "arms": (arm("control", ONE, "1.0.0"), arm("candidate", TWO, "1.1.0")),
        "salt": "s",
        "traffic": 1000,
        "causation_id": "m-1.1.0" if actor == "loop" else "",
    }
    return events.ExperimentStarted(**(by(actor) | fields | changes))


def paired_trial(action: Action = "promote", mature: int = 4000) -> PairedReport:
    """The paired test of a shadow with this verdict, reached on `mature` accounts."""
    return PairedReport(5000, mature, 40, 0, [], Verdict(action, "shadow", ("as the pairs say",)))


def comparison(rate: float = 0.02, other: float = 0.02, rows: int = 5000, **more: Any) -> ModelComparison:
    return ModelComparison(rows, rate, other, more.pop("frauds", 0), **more)
