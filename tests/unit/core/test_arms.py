"""Experiments and shadow models in the decision path: who decides, what is logged, and that it replays bit for bit."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from core.assignment import Allocation
from core.codec import decode_score, decode_transaction
from core.errors import Corrupt, Unavailable
from core.events import (
    Arm,
    ExperimentRamped,
    ExperimentStarted,
    ExperimentStopped,
    ModelDeployed,
    ModelRolledBack,
    ModelWithdrawn,
    ThresholdsChanged,
)
from core.identity import FIXED
from core.log.memory import MemoryLog
from tests.builders.arms import ANN, ONE, SHADOW, STARTED, TWO, load, load_failing
from tests.builders.events import fuzz
from tests.builders.logs import PARTITIONS, SECOND, assert_identical, entries, filled, scores_of
from tests.builders.models import TinyScorer, load_tiny


def accounts_of(log: MemoryLog) -> dict[tuple[int, Any], str]:
    return {
        (p, e.id): decode_transaction(e.payload).account_id
        for p in range(PARTITIONS)
        for e in entries(log, p, "transactions")
    }


def test_arms_decide_for_their_accounts() -> None:
    """While the experiment runs each account is decided by its arm's model, all others by the champion; it replays."""
    ramped = ExperimentRamped(**ANN, experiment_id="e1", traffic=10_000)
    stopped = ExperimentStopped(**ANN, experiment_id="e1")
    log = filled(load=load, changes={300: [STARTED], 700: [ramped], 1100: [stopped]})
    assert_identical(log, load)
    accounts = accounts_of(log)
    names = ["champion", "e1/control", "e1/new"]
    models = {"champion": ("tiny-1.0.0", ONE), "e1/control": ("tiny-1.0.0", ONE), "e1/new": ("tiny-1.1.0", TWO)}
    seen: dict[str, int] = {}
    plain = {s.features: s.margin for s in scores_of(filled(load=load))}
    for (p, position), account in accounts.items():
        payload = log.get(p, "scores", position)
        assert payload is not None
        score = decode_score(payload)
        seen[score.arm] = seen.get(score.arm, 0) + 1
        assert (score.model, score.digest) == (models[score.arm][0], models[score.arm][1][:16])
        if score.features in plain:
            assert score.margin == plain[score.features] * (2.0 if score.arm == "e1/new" else 1.0)
        if score.arm != "champion":
            everybody = replace(Allocation.of(STARTED, FIXED.key), traffic=10_000)
            assert score.arm == names[int(everybody.arms_of([account])[0]) + 1]
    assert set(seen) == set(names) and min(seen.values()) > 50


def test_shadow_scores_everything_and_decides_nothing() -> None:
    """With a shadow model every score carries its margin, and nothing else of any score differs."""
    with_shadow = filled(load=load, changes={0: [SHADOW]})
    assert_identical(with_shadow, load)
    without = filled(load=load, changes={0: [ModelDeployed(**ANN, name="x", version="1", digest=TWO, alias="other")]})
    rows = list(zip(scores_of(with_shadow), scores_of(without), strict=True))
    for a, b in rows:
        assert (a.shadow_model, a.shadow) == ("tiny-1.1.0", a.margin * 2.0)
        assert (b.shadow_model, b.shadow) == ("", None)
        assert (a.margin, a.decision, a.rules, a.features) == (b.margin, b.decision, b.rules, b.features)
    assert len(rows) > 500


def test_a_withdrawn_shadow_is_silent() -> None:
    """After ModelWithdrawn no score carries a shadow's margin."""
    log = filled(load=load, changes={100: [SHADOW], 600: [ModelWithdrawn(**ANN, alias="shadow")]})
    assert_identical(log, load)
    kinds = {s.shadow is None for s in scores_of(log)}
    assert kinds == {True, False}


def test_failing_models_never_stop_the_stream() -> None:
    """Rows that an arm's model fails on are decided by rules and say so; a failing shadow costs its margin only. Both
    replay (I9).
    """
    log = filled(load=load_failing, changes={0: [STARTED], 700: [SHADOW]})
    whys = {(s.arm, s.degraded) for s in scores_of(log)}
    assert ("e1/new", "model_error") in whys and ("e1/new", "model_error+shadow_failed") in whys
    assert ("champion", "shadow_failed") in whys and ("e1/control", None) in whys
    for s in scores_of(log):
        failed = s.degraded is not None and "model_error" in s.degraded
        assert (s.margin, s.probability) == (0.0, 0.0) if failed else s.probability > 0.0
        assert (s.shadow is None) == (s.shadow_model == "")
    assert_identical(log, load_failing)


def test_an_experiment_that_can_not_be_loaded_does_not_apply() -> None:
    """Without an arm's model everybody is decided by the champion and every score says why; it replays when the model
    is there again.
    """

    def broken(content: bytes, label: str, digest: str) -> TinyScorer:
        if content == SECOND:
            raise Corrupt("damaged")
        return load_tiny(content, label, digest)

    log = filled(load=broken, changes={0: [STARTED, SHADOW]})
    assert {(s.arm, s.model, s.degraded, s.shadow) for s in scores_of(log)} == {
        ("champion", "tiny-1.0.0", "experiment_unavailable+shadow_unavailable", None)
    }
    assert_identical(log, load)


def _random_changes(rng: random.Random, size: int) -> dict[int, list[Any]]:
    """Experiments, ramps, ends, champions, shadows and thresholds at random records; some are refused."""
    changes: dict[int, list[Any]] = {}
    for number in sorted(rng.sample(range(size), 12)):
        name, content, version = f"e{rng.randrange(4)}", *rng.choice([(ONE, "1.0.0"), (TWO, "1.1.0")])
        other = TWO if content == ONE else ONE
        share = rng.choice([1, 2500, 9999])
        arms = (Arm("control", "tiny", "x", content, share), Arm("new", "tiny", "y", other, 10_000 - share))
        model = {"name": "tiny", "version": version, "digest": content}
        changes[number] = [
            rng.choice(
                [
                    ExperimentStarted(**ANN, experiment_id=name, arms=arms, salt=name, traffic=rng.choice([100, 9000])),
                    ExperimentStarted(**ANN, experiment_id=f"{name}b", arms=arms, salt=name),
                    ExperimentRamped(**ANN, experiment_id=name, traffic=rng.randrange(10_001)),
                    ExperimentStopped(**ANN, experiment_id=name),
                    ModelDeployed(**ANN, **model, alias=rng.choice(["champion", "shadow", "shadow"])),
                    ModelRolledBack(**ANN, **model),
                    ModelWithdrawn(**ANN, alias="shadow"),
                    ThresholdsChanged(**ANN, review=0.2, decline=rng.choice([0.1, 0.6])),
                ]
            )
            for _ in range(rng.randrange(1, 3))
        ]
    return changes


@fuzz(max_examples=25)
@given(st.integers(0, 2**32))
def test_whatever_was_in_force_replays(seed: int) -> None:
    """Any control events, models that can't be loaded now and then and fail on some rows: decided again with models
    that load, every score and alert comes out the same.
    """
    rng = random.Random(seed)

    def flaky(content: bytes, label: str, digest: str) -> TinyScorer:
        if rng.random() < 0.3:
            raise Corrupt("not now")
        return load_failing(content, label, digest)

    def resolving(log: MemoryLog) -> Any:
        def blob(digest: str) -> bytes:
            if rng.random() < 0.1:
                raise Unavailable("away")
            return log.get_blob(digest)

        return blob

    size = 250
    log = filled(seed=seed % 50, size=size, load=flaky, load_blob=resolving, changes=_random_changes(rng, size))
    assert_identical(log, load_failing)
