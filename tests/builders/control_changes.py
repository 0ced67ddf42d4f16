"""Control events of every kind that the fold may refuse, some sensible and some not, for tests with random writers."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from core.control import ControlState
from core.events import (
    Arm,
    Control,
    DeploymentProposed,
    DeploymentWithdrawn,
    ExperimentConcluded,
    ExperimentRamped,
    ExperimentStarted,
    ExperimentStopped,
    GovernanceChanged,
    ListChanged,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    ModelWithdrawn,
    RatesChanged,
    RulesChanged,
    ThresholdsChanged,
)

DIGESTS = [hashlib.sha256(b"model %d" % n).hexdigest() for n in range(4)]


def anything(rng: random.Random, state: ControlState, serial: str) -> Control:
    """An event that may follow `state` or not; `serial` makes it unlike every other one."""
    by: dict[str, Any] = {"occurred_at": 1, "actor": rng.choice(["ann", "bob"]), "reason": serial}
    number = rng.randrange(4)
    model = {"name": "m", "version": f"1.{number}.0", "digest": DIGESTS[number]}
    known = state.governance
    champion = known.champion if known.champion and rng.random() < 0.8 else rng.choice(DIGESTS)
    running = known.experiment if known.experiment and rng.random() < 0.8 else f"e{serial}"
    proposals = [*known.proposals, "p"]
    kinds: list[Control] = [
        ModelRegistered(**by, **(model | ({"digest": rng.choice(DIGESTS)} if rng.random() < 0.3 else {})), spec=1),
        ModelDeployed(**by, **model, alias=rng.choice(["champion", "champion", "shadow"])),
        ModelDeployed(**by, **model, causation_id=rng.choice(proposals)),
        ModelRolledBack(**by, **model),
        ModelWithdrawn(**by, alias=rng.choice(["champion", "shadow"])),
        GovernanceChanged(**by, four_eyes=rng.random() < 0.3),
        DeploymentProposed(**by, **model, proposal_id=rng.choice([*proposals, serial])),
        DeploymentWithdrawn(**by, proposal_id=rng.choice(proposals)),
        ExperimentStarted(
            **by,
            experiment_id=rng.choice([f"e{serial}", *known.ended]),
            arms=(Arm("control", "m", "1", champion, 5000), Arm("new", "m", "2", rng.choice(DIGESTS), 5000)),
            salt="s",
        ),
        ExperimentRamped(**by, experiment_id=running, traffic=rng.choice([-1, 100, 5000])),
        ExperimentStopped(**by, experiment_id=running),
        ExperimentConcluded(**by, experiment_id=running, verdict="keep"),
        ThresholdsChanged(**by, review=rng.choice([0.2, 0.9]), decline=0.7, review_loss=rng.choice([0.0, 20.0])),
        RulesChanged(**by, disabled=rng.choice([(), ("UNUSUAL_HOUR",), ("NO_SUCH_RULE",)])),
        RatesChanged(**by, base="EUR", rates={rng.choice(["USD", "usd", "EUR", ""]): rng.choice([0.5, 0.0])}),
        ListChanged(**by, kind="country", effect="watch", add=("FR",)),
    ]
    return rng.choice(kinds)
