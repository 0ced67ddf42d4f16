"""Acts on models: each is one conditional append, can be repeated, and the live fold and the registry agree on it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from core import control_stream
from core.errors import BadInput, ConcurrencyError
from core.events import ModelRegistered, ThresholdsChanged
from core.log.memory import MemoryLog
from learners.governance import models as acts
from learners.governance.control_events import Act, Artifact
from learners.governance.models import append
from projections.views.registry import champions, registry_of

ANN, BOB = Act("ann", "it is better", 1000), Act("bob", "I looked", 2000)
CONTENTS = {f"m-1.{n}.0": b"model %d" % n for n in range(4)}


def register(log: MemoryLog, label: str, content: bytes | None = None) -> acts.ModelAct:
    name, version = label.split("-")
    content = CONTENTS[label] if content is None else content
    return acts.register(log, Artifact(content, name, version, 1, {"auc_roc": 0.9}), ANN)


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog()
    for label in CONTENTS:
        register(log, label)
    return log


def champion(log: MemoryLog) -> str | None:
    """The champion by the live fold and by the registry, which must agree."""
    state = control_stream.current(log)
    registry = registry_of(control_stream.history(log))
    assert state.governance == registry.governance and state.refused == registry.refused
    live = state.champion.label if state.champion else None
    assert registry.aliases.get("champion") == live
    return live


def test_registering_stores_the_bytes_and_is_done_once(log: MemoryLog) -> None:
    """The blob is there under its SHA-256; again changes nothing; other bytes under the same name are refused."""
    before = log.control_head()
    assert register(log, "m-1.0.0").outcome == "unchanged" and log.control_head() == before
    registry = registry_of(control_stream.history(log))
    assert log.get_blob(registry.models["m-1.0.0"].digest) == CONTENTS["m-1.0.0"]
    with pytest.raises(BadInput, match="increment the version"):
        register(log, "m-1.0.0", b"other")


def test_promote_and_roll_back(log: MemoryLog) -> None:
    """Rollbacks walk back through champions one by one; one forward again starts from there."""
    for label in ("m-1.0.0", "m-1.1.0", "m-1.2.0"):
        assert acts.deploy(log, label, ANN).outcome == "deployed"
    assert acts.deploy(log, "m-1.2.0", ANN).outcome == "unchanged" and champion(log) == "m-1.2.0"
    assert acts.roll_back(log, ANN).model == "m-1.1.0" and champion(log) == "m-1.1.0"
    assert acts.roll_back(log, ANN).model == "m-1.0.0" and champion(log) == "m-1.0.0"
    with pytest.raises(BadInput, match="no earlier"):
        acts.roll_back(log, ANN)
    acts.deploy(log, "m-1.3.0", ANN)
    assert [d.model for d in champions(registry_of(control_stream.history(log)))] == ["m-1.0.0", "m-1.3.0"]
    assert acts.roll_back(log, ANN, to="m-1.2.0").model == "m-1.2.0" and champion(log) == "m-1.2.0"
    assert acts.roll_back(log, ANN, to="m-1.2.0").outcome == "unchanged"
    with pytest.raises(BadInput, match="no model"):
        acts.deploy(log, "m-9.0.0", ANN)


def test_a_rollback_needs_a_former_champion(log: MemoryLog) -> None:
    """What never decided can't be rolled back to."""
    acts.deploy(log, "m-1.0.0", ANN)
    with pytest.raises(BadInput, match="never been champion"):
        acts.roll_back(log, ANN, to="m-1.1.0")


def test_four_eyes(log: MemoryLog) -> None:
    """With four eyes on, a promotion awaits approval by a second person; shadows and rollbacks don't."""
    acts.deploy(log, "m-1.0.0", ANN)
    assert acts.set_four_eyes(log, True, ANN).outcome == "changed"
    assert acts.set_four_eyes(log, True, ANN).outcome == "unchanged"
    proposed = acts.deploy(log, "m-1.1.0", ANN)
    assert proposed.outcome == "proposed" and champion(log) == "m-1.0.0"
    assert acts.deploy(log, "m-1.1.0", BOB).proposal_id == proposed.proposal_id
    with pytest.raises(BadInput, match="somebody else"):
        acts.approve(log, proposed.proposal_id, ANN)
    with pytest.raises(BadInput, match="no proposal"):
        acts.approve(log, "other", BOB)
    assert acts.approve(log, proposed.proposal_id, BOB).outcome == "deployed" and champion(log) == "m-1.1.0"
    with pytest.raises(BadInput, match="no proposal"):
        acts.approve(log, proposed.proposal_id, BOB)
    assert acts.deploy(log, "m-1.2.0", ANN, "shadow").outcome == "deployed"
    assert acts.roll_back(log, ANN).model == "m-1.0.0" and champion(log) == "m-1.0.0"
    again = acts.deploy(log, "m-1.1.0", ANN)
    assert again.outcome == "proposed" and again.proposal_id != proposed.proposal_id


def test_withdraw(log: MemoryLog) -> None:
    """A shadow can go; a champion can't."""
    acts.deploy(log, "m-1.0.0", ANN)
    acts.deploy(log, "m-1.1.0", ANN, "shadow")
    assert acts.stages(log) == {
        "m-1.0.0": "champion",
        "m-1.1.0": "shadow",
        "m-1.2.0": "registered",
        "m-1.3.0": "registered",
    }
    assert acts.withdraw(log, "shadow", ANN).outcome == "withdrawn"
    assert acts.withdraw(log, "shadow", ANN).outcome == "unchanged"
    assert acts.stages(log)["m-1.1.0"] == "archived" and control_stream.current(log).shadow is None
    with pytest.raises(BadInput, match="be withdrawn"):
        acts.withdraw(log, "champion", ANN)


def test_a_promoted_shadow_is_no_shadow_any_more(log: MemoryLog) -> None:
    """Promoted or approved, it does not go on scoring beside itself; another model's shadow stays."""
    acts.deploy(log, "m-1.0.0", ANN)
    acts.deploy(log, "m-1.1.0", ANN, "shadow")
    acts.deploy(log, "m-1.2.0", ANN)
    assert acts.stages(log)["m-1.1.0"] == "shadow"
    acts.deploy(log, "m-1.1.0", ANN)
    assert acts.stages(log)["m-1.1.0"] == "champion" and control_stream.current(log).shadow is None
    acts.deploy(log, "m-1.3.0", ANN, "shadow")
    acts.set_four_eyes(log, True, ANN)
    acts.approve(log, acts.deploy(log, "m-1.3.0", ANN).proposal_id, BOB)
    assert acts.stages(log)["m-1.3.0"] == "champion" and champion(log) == "m-1.3.0"


def test_who_and_why_are_needed() -> None:
    """An act without an actor or a reason is refused."""
    for actor, reason in (("", "why"), ("ann", " ")):
        with pytest.raises(BadInput, match="actor and reason"):
            Act(actor, reason, 0)


class Busy(MemoryLog):
    """Somebody else writes first, `times` times."""

    times = 0

    def append_control(self, payloads: Any, expected: int) -> int:
        if self.times:
            self.times -= 1
            super().append_control([b'{"type":"model_withdrawn.v1","occurred_at":1,"actor":"x","alias":"x"}'], expected)
            raise ConcurrencyError("somebody was first")
        return super().append_control(payloads, expected)


def test_a_lost_race_is_run_again_on_what_is_there_now() -> None:
    """What is decided is decided from the stream as it is when it lands; after many lost races it gives up."""
    log = Busy()
    register(log, "m-1.0.0")
    log.times = 3
    assert acts.deploy(log, "m-1.0.0", ANN).outcome == "deployed" and log.control_head() == 5
    log.times = 1000
    with pytest.raises(ConcurrencyError):
        acts.deploy(log, "m-1.0.0", ANN, "shadow")


def test_nothing_that_may_not_follow_is_appended(log: MemoryLog) -> None:
    """A batch with an event that makes no sense is refused whole."""
    before = log.control_head()
    good = ModelRegistered(
        occurred_at=1, actor="a", name="x", version="1", digest=hashlib.sha256(b"").hexdigest(), spec=1
    )
    bad = ThresholdsChanged(occurred_at=1, actor="a", review=0.9, decline=0.1)
    with pytest.raises(BadInput):
        append(log, lambda registry: [good, bad])
    assert log.control_head() == before
