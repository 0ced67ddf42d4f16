"""Seeded schedules of the adaptive loop: whatever strikes, the control stream tells the story of an undisturbed one."""

from __future__ import annotations

import pytest

from core import control_stream
from tests.simulation import learning
from tests.simulation.faults import Fault
from tests.simulation.learning import Bench

SCHEDULES = 60
FORGOTTEN = (123, 350)
"""Schedules in which the server comes back without its last second between a model's upload and its registration."""
CRASHES = 40
"""Calls at which a loop is killed here; `tests/integration/test_simulation.py` kills it at every one."""


@pytest.fixture(scope="module")
def story() -> list[dict[str, object]]:
    """What an undisturbed loop makes of the same evidence."""
    bench = Bench(0, [], loops=1)
    told = bench.run()
    assert not bench.wrong
    kinds = [event["type"] for event in told]
    assert kinds.count("retraining_finished.v1") == kinds.count("experiment_concluded.v1") == learning.RUNS
    return told


def test_two_loops_among_faults_tell_the_story_of_one(story: list[dict[str, object]]) -> None:
    """Lost and late appends, kills, frozen processes, a log without its last second: no step twice, none left out."""
    for seed in range(SCHEDULES):
        bench = Bench(seed, learning.drawn(seed))
        wrong = learning.judged(bench, story)
        assert not wrong, f"seed {seed}: {wrong}; struck: {', '.join(map(str, bench.struck))}"


def test_a_model_that_the_log_forgot_before_it_was_registered_is_stored_again(
    story: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that stores it only once tells another story then."""
    for seed in FORGOTTEN:
        assert not learning.judged(Bench(seed, learning.drawn(seed)), story), seed
    monkeypatch.setattr(control_stream.Blobs, "put", lambda blobs, content: blobs.log.put_blob(content))
    for seed in FORGOTTEN:
        assert learning.judged(Bench(seed, learning.drawn(seed)), story), f"seed {seed} no longer strikes there"


def test_a_loop_killed_at_a_call_resumes_from_the_control_stream(story: list[dict[str, object]]) -> None:
    """Before the call has its effect, and after."""
    for at in range(3, 3 + 4 * CRASHES, 4):
        for how in ("before", "after"):
            wrong = learning.judged(Bench(0, [Fault(at, "kill", how)], loops=1), story)
            assert not wrong, f"killed {how} call {at}: {wrong}"


def test_a_story_that_differs_is_found(story: list[dict[str, object]]) -> None:
    """A step left out, or told twice."""
    for other in (story[:-1], [*story, story[-1]], [*story[:3], *story[4:]]):
        assert learning.judged(Bench(0, [], loops=1), other)
