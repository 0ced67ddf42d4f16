"""Experiments over HTTP: an experiment's life, each act once, by the authenticated user, and bad requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.codec import decode_control
from core.events import ModelRegistered
from core.log.memory import MemoryLog
from learners.governance import models
from learners.governance.control_events import Act
from learners.governance.experiments import known
from tests.builders.api import Served, served
from tests.builders.events import T0
from tests.builders.experiments import ANN, ONE, TWO, experimented

ARMS = [{"name": "control", "model": "tiny-1.0.0"}, {"name": "new", "model": "tiny-1.1.0"}]


@pytest.fixture
def log() -> MemoryLog:
    registered = [
        ModelRegistered(**ANN, occurred_at=T0, name="tiny", version=v, digest=d, spec=1)
        for v, d in (("1.0.0", ONE), ("1.1.0", TWO))
    ]
    return experimented(3, 700, {40: registered})


@pytest.fixture
def api(log: MemoryLog, tmp_path: Path) -> Iterator[Served]:
    with served(log, tmp_path) as found:
        yield found


def last(log: MemoryLog) -> Any:
    return decode_control(log.read_control(log.control_head() - 1)[0][1])


def test_an_experiments_life(api: Served, log: MemoryLog) -> None:
    """Started, ramped, concluded with a named winner, which becomes champion; each act's actor is who asked, and a
    repeat appends nothing.
    """
    body = {"experiment_id": "spring", "arms": ARMS, "traffic": 10, "reason": "less friction", "worthwhile": 0.001}
    done = api.post("/v1/experiments", body, "publisher")
    assert (done.status_code, done.json()["outcome"]) == (201, "started"), done.text
    definition = known(log).experiments["spring"].definition
    assert [(a.name, a.digest, a.share) for a in definition.arms] == [("control", ONE, 5000), ("new", TWO, 5000)]
    assert (definition.traffic, definition.actor, definition.reason) == (1000, "publisher", "less friction")
    assert (definition.worthwhile, definition.primary) == (0.001, "value_lost")
    ramp = {"traffic": 50, "reason": "all well"}
    assert api.post("/v1/experiments/spring/ramp", ramp, "publisher").json()["outcome"] == "ramped"
    assert (last(log).traffic, last(log).actor) == (5000, "publisher")
    assert api.post("/v1/experiments/spring/ramp", ramp, "publisher").json()["outcome"] == "unchanged"
    early = api.post("/v1/experiments/spring/conclude", {"reason": "now"}, "publisher")
    assert early.status_code == 422 and "not conclusive" in early.json()["detail"]
    verdict = {"reason": "decided", "verdict": "promote", "winner": "new"}
    ended = api.post("/v1/experiments/spring/conclude", verdict, "publisher").json()
    assert (ended["outcome"], ended["deployment"]["model"]) == ("concluded", "tiny-1.1.0")
    assert known(log).running == ""
    head = log.control_head()
    assert api.post("/v1/experiments/spring/conclude", verdict, "publisher").json()["outcome"] == "unchanged"
    assert log.control_head() == head


def test_a_stopped_experiment_ends_for_all(api: Served, log: MemoryLog) -> None:
    """The champion decides for everybody again; a second stop changes nothing."""
    api.post("/v1/experiments", {"experiment_id": "e", "arms": ARMS, "reason": "try"}, "publisher")
    for outcome in ("stopped", "unchanged"):
        got = api.post("/v1/experiments/e/stop", {"reason": "complaints"}, "publisher")
        assert (got.status_code, got.json()["outcome"]) == (200, outcome)
    assert (last(log).actor, last(log).reason) == ("publisher", "complaints")


def test_four_eyes_only_propose_a_start(api: Served, log: MemoryLog) -> None:
    """Who proposed it can't approve it, nor can a role that starts no experiments; it can be seen and withdrawn."""
    models.set_four_eyes(log, True, Act("ann", "policy", T0))
    got = api.post("/v1/experiments", {"experiment_id": "e", "arms": ARMS, "reason": "try"}, "publisher").json()
    assert got["outcome"] == "proposed" and known(log).running == ""
    listed = api.get("/v1/proposals", "viewer").json()["proposals"]
    assert [each["proposal_id"] for each in listed] == got["proposals"] and listed[0]["about"] == "e"
    path = f"/v1/proposals/{got['proposals'][0]}"
    for role, status in (("publisher", 422), ("admin", 403), ("analyst", 403), ("viewer", 403)):
        assert api.post(f"{path}/approve", {"reason": "looked"}, role).status_code == status, role
    assert api.post(f"{path}/withdraw", {"reason": "no"}, "publisher").json()["outcome"] == "withdrawn"
    assert api.get("/v1/proposals", "viewer").json()["proposals"] == []


def test_four_eyes_only_propose_a_winner(api: Served, log: MemoryLog) -> None:
    """The winner's model waits for a second person."""
    api.post("/v1/experiments", {"experiment_id": "e", "arms": ARMS, "reason": "try"}, "publisher")
    models.set_four_eyes(log, True, Act("ann", "policy", T0))
    verdict = {"reason": "decided", "verdict": "promote", "winner": "new"}
    done = api.post("/v1/experiments/e/conclude", verdict, "publisher").json()
    assert done["deployment"]["outcome"] == "proposed" and done["deployment"]["proposal_id"]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("", {"experiment_id": "e", "arms": ARMS[:1], "reason": "r"}, 400, "arms"),
        ("", {"experiment_id": "e", "arms": ARMS, "reason": ""}, 400, "reason"),
        ("", {"experiment_id": "a b", "arms": ARMS, "reason": "r"}, 422, "names of experiments"),
        ("", {"experiment_id": "e", "arms": ARMS, "primary": "joy", "reason": "r"}, 422, "joy"),
        ("", {"experiment_id": "e", "arms": [*ARMS, {"name": "x", "model": "no-1"}], "reason": "r"}, 422, "no-1"),
        ("", {"experiment_id": "e", "arms": [*ARMS, {"name": "x", "program": "no@1"}], "reason": "r"}, 422, "no@1"),
        ("", {"experiment_id": "e", "arms": [ARMS[0] | {"percent": 5}, ARMS[1]], "reason": "r"}, 422, "every arm"),
        ("", {"experiment_id": "e", "arms": ARMS, "traffic": 101, "reason": "r"}, 400, "traffic"),
        ("/none/ramp", {"traffic": 5, "reason": "r"}, 404, "none"),
        ("/none/stop", {"reason": "r"}, 404, "none"),
        ("/none/conclude", {"reason": "r"}, 404, "none"),
    ],
)
def test_bad_acts_get_a_problem(
    api: Served, log: MemoryLog, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    """The caller's fault, in words that name it; nothing is appended."""
    before = log.control_head()
    got = api.post(f"/v1/experiments{path}", body, "publisher")
    assert got.status_code == status and words in got.json()["detail"], got.text
    assert log.control_head() == before and "--" not in got.json()["detail"]
