"""Experiments whose arms differ in their programs: who decides, under what, and that it replays bit for bit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.assignment import Allocation
from core.codec import decode_alert, decode_score, decode_transaction
from core.control_stream import current
from core.events import (
    Arm,
    ExperimentRamped,
    ExperimentStarted,
    ExperimentStopped,
    ModelDeployed,
    Position,
    ProgramDeployed,
    ProgramProposed,
    ProgramRolledBack,
    ProgramWithdrawn,
    RulesChanged,
    ThresholdsChanged,
    TransactionScored,
)
from core.features import packing, spec
from core.identity import FIXED
from core.log.memory import MemoryLog
from core.replay import rebuild
from tests.builders.arm_programs import Restartable, loaded
from tests.builders.arms import ONE, TWO, load, load_failing
from tests.builders.events import T0, Shape, fuzz
from tests.builders.logs import PARTITIONS, assert_identical, entries, records, scores_of

ANN: dict[str, Any] = {"occurred_at": T0, "actor": "ann"}
FIRST, SECOND, THIRD = loaded()
STARTED = ExperimentStarted(
    **ANN,
    experiment_id="e1",
    arms=(
        Arm("control", "tiny", "1.0.0", ONE, 3000),
        Arm("first", "tiny", "1.0.0", ONE, 3000, FIRST.digest),
        Arm("both", "tiny", "1.1.0", TWO, 4000, SECOND.digest),
    ),
    salt="s",
    traffic=9000,
)
IN_ORDER = Shape(accounts=12, late=0.0, duplicates=0.08, steps=(0, 1_000, 60_000), weights=(1, 2, 2), feedback=0.15)
"""Nothing comes late, so that a window of 90 days holds all that an account did before."""
NAMES = {"e1/first": FIRST, "e1/both": SECOND}


def decisions(log: MemoryLog) -> Iterator[tuple[str, tuple[int, Position], TransactionScored]]:
    """Account, place and score of every decision, in the order of each partition's log."""
    for p in range(PARTITIONS):
        for said, score in zip(entries(log, p, "transactions"), entries(log, p, "scores"), strict=True):
            yield decode_transaction(said.payload).account_id, (p, said.id), decode_score(score.payload)


def own(score: TransactionScored) -> dict[str, float]:
    """The features of its arm's program that a score stores, by name."""
    names = sorted(NAMES[score.arm].program.features)
    vector = packing.vector(score.features)
    assert len(vector) == spec.WIDTH + len(names)
    return dict(zip(names, vector[spec.WIDTH :].tolist(), strict=True))


def test_an_arm_decides_by_its_program_and_model(tmp_path: Path) -> None:
    """Each account by its arm's, all others by the deployed one; what was decided counts in every program's aggregates,
    whichever program decided it.
    """
    on = Restartable(tmp_path, load)
    given_ = records(1, 1500, IN_ORDER)
    on.feed(given_[:400])
    on.change(STARTED)
    on.feed(given_[400:1200])
    on.change(ExperimentStopped(**ANN, experiment_id="e1"))
    on.feed(given_[1200:])
    assert_identical(on.log, load)
    everybody = replace(Allocation.of(STARTED, FIXED.key), traffic=10_000)
    names = ["e1/control", "e1/first", "e1/both"]
    seen: Counter[str] = Counter()
    reviews: Counter[str] = Counter()
    alerts: Counter[str] = Counter()
    again: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    for account, _, score in decisions(on.log):
        seen[score.arm] += 1
        program = NAMES.get(score.arm)
        assert score.program == (program.digest[:16] if program else score.program)
        assert score.model == ("tiny-1.1.0" if score.arm == "e1/both" else "tiny-1.0.0")
        if score.arm != "champion":
            assert score.arm == names[int(everybody.arms_of([account])[0])]
        if score.arm == "e1/first":
            found = own(score)
            assert (found["reviewed"], found["again"]) == (reviews[account], again[account])
        elif score.arm == "e1/both":
            found = own(score)
            expected = alerts[account], again[account], counted[account]
            assert (found["alerts"], found["again"], found["many"]) == expected
        else:
            assert len(packing.vector(score.features)) == spec.WIDTH
        reviews[account] += score.decision == "review"
        alerts[account] += score.severity is not None
        again[account] += "AGAIN" in score.rules
        counted[account] += 1
    assert set(seen) == {"champion", *names} and min(seen.values()) > 40
    assert sum(again.values()) > 10 and sum(reviews.values()) > 50


def test_an_arm_decides_as_if_its_program_were_deployed(tmp_path: Path) -> None:
    """A program without conditions on own decisions decides an arm's payments exactly as it decides them deployed."""
    given_ = records(2, 1200)
    logs = {}
    for name, digest in (("third", THIRD.digest), ("default", "")):
        on = Restartable(tmp_path / name, load, [ProgramDeployed(**ANN, digest=digest)] if digest else [])
        on.feed(given_)
        logs[name] = {place: score for _, place, score in decisions(on.log)}
    arms = (Arm("control", "tiny", "1.0.0", ONE, 5000), Arm("third", "tiny", "1.0.0", ONE, 5000, THIRD.digest))
    on = Restartable(tmp_path / "both", load)
    on.feed(given_[:300])
    on.change(ExperimentStarted(**ANN, experiment_id="e1", arms=arms, salt="s"))
    on.feed(given_[300:])
    assert_identical(on.log, load)
    seen: Counter[str] = Counter()
    for _, place, score in decisions(on.log):
        alone = logs["third" if score.arm == "e1/third" else "default"][place]
        for name in ("program", "features", "margin", "decision", "severity", "rules", "shadow_rules", "effects"):
            assert getattr(score, name) == getattr(alone, name), (place, name)
        seen[score.arm] += 1
    assert min(seen.values()) > 200 and len(seen) == 3


def test_alerts_follow_the_arm_s_program(tmp_path: Path) -> None:
    """Reason codes, values and recommended actions of an alert are those of the program that decided."""
    on = Restartable(tmp_path, load)
    on.change(STARTED)
    on.feed(records(3, 900))
    found: Counter[str] = Counter()
    for p in range(PARTITIONS):
        scores = {entry.id: decode_score(entry.payload) for entry in entries(on.log, p, "scores")}
        for entry in entries(on.log, p, "alerts"):
            alert, score = decode_alert(entry.payload), scores[entry.id]
            codes = [code for code in alert.reason_codes if code != "MODEL_SCORE"]
            assert codes == list(score.rules)
            if "AGAIN" in codes and score.arm == "e1/first":
                assert alert.values["reviewed"] == own(score)["reviewed"]
            if "OTHER" in codes:
                assert score.arm == "e1/both" and alert.values["alerts"] == own(score)["alerts"]
            if score.severity == "low":
                theirs = "notify_customer" if score.arm == "e1/both" else "queue_for_review"
                assert alert.recommended_actions == (theirs,)
            found.update(codes)
    assert found["AGAIN"] > 3 and found["OTHER"] > 3


def test_an_experiment_whose_program_can_not_be_loaded_does_not_apply(tmp_path: Path) -> None:
    """Everybody is decided by the champion under the deployed program, and every score says why; it replays."""
    on = Restartable(tmp_path, load)
    on.missing.add(SECOND.digest)
    on.change(STARTED)
    on.feed(records(4, 200))
    assert {(s.arm, s.model, s.degraded) for s in scores_of(on.log)} == {
        ("champion", "tiny-1.0.0", "experiment_unavailable")
    }
    assert_identical(on.log, load)


def test_an_experiment_does_not_apply_without_its_control(tmp_path: Path) -> None:
    """While the deployed program can't be loaded, the default decides for all, in no arm; then the arms do again."""
    on = Restartable(tmp_path, load, [ProgramDeployed(**ANN, digest=THIRD.digest)])
    on.missing.add(THIRD.digest)
    on.change(STARTED)
    given_ = records(5, 400)
    on.feed(given_[:200])
    on.missing.clear()
    on.feed(given_[200:])
    whys = Counter((s.arm, s.degraded) for s in scores_of(on.log))
    assert whys["champion", "program_unavailable"] > 50 and whys["e1/first", None] > 10
    assert {arm for arm, why in whys if why} == {"champion"}
    assert_identical(on.log, load)


@pytest.mark.parametrize(
    "change",
    [ProgramDeployed(**ANN, digest=SECOND.digest), ProgramRolledBack(**ANN, digest="")],
    ids=["deploy", "back"],
)
def test_another_deployed_program_ends_the_experiment(tmp_path: Path, change: Any) -> None:
    """Its control is gone. The same program again changes nothing."""
    on = Restartable(tmp_path, load, [ProgramDeployed(**ANN, digest=THIRD.digest)])
    on.change(STARTED)
    on.change(ProgramDeployed(**ANN, digest=THIRD.digest))
    on.feed(records(5, 100))
    assert current(on.log).experiment == STARTED
    on.change(change)
    state = current(on.log)
    assert state.experiment is None and "e1" in state.governance.ended
    on.feed(records(5, 300)[100:])
    programs = {(s.arm == "champion", s.program) for s in scores_of(on.log)}
    assert (True, change.digest[:16] or FIXED.program[:16]) in programs
    assert_identical(on.log, load)


def _changes(rng: random.Random, number: int) -> list[Any]:
    """A few events, sensible or not."""
    digests = [FIRST.digest, SECOND.digest, THIRD.digest]
    model, other = rng.choice([(ONE, TWO), (ONE, ONE), (TWO, ONE)])
    arms = (
        Arm("control", "tiny", "x", model, 4000, rng.choice(["", "", rng.choice(digests)])),
        Arm("new", "tiny", "y", other, 5000, rng.choice(["", *digests])),
        Arm("third", "tiny", "y", other, 1000, rng.choice(["", *digests])),
    )
    name = f"e{number}"
    return [
        rng.choice(
            [
                ExperimentStarted(**ANN, experiment_id=name, arms=arms, salt=name, traffic=rng.choice([3000, 10_000])),
                ExperimentStarted(**ANN, experiment_id=f"{name}b", arms=arms, salt=name),
                ExperimentRamped(**ANN, experiment_id=f"e{number - 1}", traffic=rng.randrange(10_001)),
                ExperimentStopped(**ANN, experiment_id=f"e{number - 1}"),
                ProgramDeployed(**ANN, digest=rng.choice(digests)),
                ProgramRolledBack(**ANN, digest=rng.choice(["", *digests])),
                ProgramProposed(**ANN, proposal_id=f"p{number}", digest=rng.choice(digests)),
                ProgramWithdrawn(**ANN, proposal_id=f"p{number - 1}"),
                ModelDeployed(
                    **ANN, name="tiny", version="1.1.0", digest=TWO, alias=rng.choice(["champion", "shadow"])
                ),
                ThresholdsChanged(**ANN, review=0.2, decline=rng.choice([0.1, 0.6])),
                RulesChanged(**ANN, disabled=rng.choice([(), ("AGAIN",), ("OTHER", "FEW")])),
            ]
        )
        for _ in range(rng.randrange(1, 3))
    ]


@fuzz(max_examples=25)
@given(st.integers(0, 2**32))
def test_whatever_happens_decisions_are_those_of_a_fold_from_zero(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Random deployments, rollbacks, experiments and withdrawals, models that fail on some rows, and restarts from
    older snapshots: every score and alert comes out the same when the log is decided again from its beginning.
    """
    rng = random.Random(seed)
    on = Restartable(tmp_path_factory.mktemp("arms"), load_failing, rng=rng)
    given_ = records(seed % 50, 260)
    cuts = sorted(rng.sample(range(len(given_)), 12))
    for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(given_)], strict=True)):
        on.feed(given_[begin:end])
        if rng.random() < 0.7:
            on.change(*_changes(rng, number))
        if rng.random() < 0.4:
            on.save()
        if rng.random() < 0.4:
            on.restart()
    assert_identical(on.log, load_failing)


def test_the_state_of_an_arm_s_program_is_that_of_a_fold(tmp_path: Path) -> None:
    """For all accounts, in the experiment or not: what the stop leaves behind equals a fold from the beginning."""
    on = Restartable(tmp_path, load)
    given_ = records(7, 800)
    on.feed(given_[:200])
    on.change(msgspec.structs.replace(STARTED, traffic=2000))
    on.feed(given_[200:])
    state = current(on.log)
    steps = on.resolver.steps(state, "now")
    assert len(steps) == 2
    for owned in on.ingest.owned:
        again = rebuild(on.log, owned.partition, owned.head, owned.state.identity, steps=steps)
        assert again.digest() == owned.state.digest()
        assert all(np.array_equal(owned.state.rings[s.digest].records, again.rings[s.digest].records) for s in steps)
