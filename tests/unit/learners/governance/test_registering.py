"""Registering a trained model: the bytes are in the log, the event names them, and nobody is overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from core.codec import decode_control, encode
from core.errors import BadInput, ConcurrencyError
from core.events import ModelRegistered, ThresholdsChanged
from core.log.memory import MemoryLog
from learners.governance import models
from learners.governance.control_events import Act, Artifact

NOW = 1_770_000_000_000


def register(
    log: MemoryLog, content: bytes = b"model", version: str = "1.0.0", actor: str = "ann", now_ms: int = NOW
) -> int:
    """Register a trained model by its card; the control position of its event."""
    card: dict[str, Any] = {
        "name": "champ",
        "version": version,
        "spec": 1,
        "parent": "baseline-1.0.0",
        "metrics": {"auc_roc": 0.9, "lift": float("nan")},
    }
    return models.register(log, Artifact.of_card(content, card), Act(actor, "weekly", now_ms)).position


class Busy(MemoryLog):
    """Somebody else appends just before each of the first `times` appends."""

    times = 2

    def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
        if self.times:
            self.times -= 1
            other = ThresholdsChanged(occurred_at=NOW, actor="ann", review=0.3, decline=0.9)
            super().append_control([encode(other)], self.control_head())
        return super().append_control(payloads, expected)


def test_the_artifact_and_its_event_are_in_the_log() -> None:
    """The event has name, version, digest, spec, finite metrics, parent, actor and reason; the blob is the bytes."""
    log = MemoryLog()
    position = register(log)
    event = decode_control(log.read_control(position - 1, 1)[0][1])
    assert isinstance(event, ModelRegistered)
    assert log.get_blob(event.digest) == b"model"
    assert (event.name, event.version, event.spec, event.parent) == ("champ", "1.0.0", 1, "baseline-1.0.0")
    assert (event.actor, event.reason, event.occurred_at) == ("ann", "weekly", NOW)
    assert event.metrics == {"auc_roc": 0.9}


def test_registering_again_changes_nothing_and_another_model_is_refused() -> None:
    """The same name, version and bytes: the first event's position. Other bytes: raise the version."""
    log = MemoryLog()
    first = register(log)
    second = register(log, version="1.1.0")
    assert (register(log, actor="bob", now_ms=NOW + 1), second) == (first, first + 1)
    assert log.control_head() == second
    with pytest.raises(BadInput, match="increment the version"):
        register(log, b"other")


def test_others_who_write_at_the_same_time_are_let_by() -> None:
    """A lost race is run again on the new head; somebody who always wins is a conflict, and nothing was registered."""
    log = Busy()
    assert register(log) == 3
    log = Busy()
    log.times = 10**6
    with pytest.raises(ConcurrencyError, match="in a row"):
        register(log)
    assert all(isinstance(decode_control(payload), ThresholdsChanged) for _, payload in log.read_control())
