"""What reads decisions, on decisions made in an arm by a linear model and under a linear shadow: audits, what-if, blast
radius, archive.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from console.audit_page import page
from console.audit_text import text
from console.wiring import load_scorer
from core import control_stream
from core.codec import decode_score
from core.context import Resolver
from core.events import Arm, ExperimentStarted, ModelDeployed, TransactionScored
from core.features import spec
from core.log.archive import archiver
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.memory import MemoryLog
from core.replay import Timeline
from core.verification import verify
from ingest.offline import OfflineIngest
from learners.drift.windows import WindowReader
from learners.loop.orchestrator import Orchestrator, Tools
from learners.loop.settings import LearnSettings
from models.linear import METHOD, LinearModel, render
from models.shipped import shipped_baseline
from projections.audit import redecide
from projections.audit.blast_radius import affected
from projections.audit.redecide import DecisionPlace
from projections.audit.story import tell
from projections.audit.whatif import Changes, Outcome, Scope, run
from projections.labelling.reader import LabelReader
from sources.catalogue import open_source
from sources.synthetic import SyntheticConfig
from tests.builders.logs import entries

ANN: dict[str, Any] = {"occurred_at": 5, "actor": "ann"}


def _linear() -> bytes:
    rng = np.random.default_rng(5)
    n = spec.WIDTH
    return render(
        LinearModel(
            spec.NAMES,
            (100,) * n,
            tuple(rng.uniform(0.0, 10.0, n).tolist()),
            tuple(rng.uniform(0.5, 50.0, n).tolist()),
            tuple(rng.normal(0.0, 0.3, n).tolist()),
            -1.0,
            0.0,
            5.0,
            100,
        )
    )


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    """One partition: under the champion alone, then with a linear shadow, then with a linear arm as well."""
    log = MemoryLog()
    champion, linear = log.put_blob(shipped_baseline()[0]), log.put_blob(_linear())
    deployed = ModelDeployed(**ANN, name="baseline", version="1.0.0", digest=champion)
    shadow = ModelDeployed(**ANN, name="line", version="2.0.0", digest=linear, alias="shadow")
    started = ExperimentStarted(
        **ANN,
        experiment_id="e1",
        arms=(Arm("control", "baseline", "1.0.0", champion, 5000), Arm("line", "line", "2.0.0", linear, 5000)),
        salt="s",
        traffic=8000,
    )
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_scorer), partitions=1, start=[deployed])
    config = SyntheticConfig(transactions=900, days=10.0, accounts=40, fraud_rate=0.05, seed=3)
    source = open_source("synthetic", labels="all", flush_feedback=True, synthetic=config)
    records = [record for chunk in source.records() for record in chunk]
    for number, record in enumerate(records):
        change = {len(records) // 8: shadow, len(records) // 4: started}.get(number)
        if change is not None:
            ingest.flush()
            ingest.change([change])
        ingest.feed([record])
        if number % 97 == 0:
            ingest.flush()
    ingest.flush()
    return log


def timeline(log: Any) -> Timeline:
    return Timeline(control_stream.history(log), Resolver(log.get_blob, load_scorer))


def scores(log: MemoryLog) -> list[tuple[Any, TransactionScored]]:
    return [(e.id, decode_score(e.payload)) for e in entries(log, 0, "scores")]


def test_audits_of_arms_and_shadows_are_identical(log: MemoryLog) -> None:
    """Every row, decided again from its account alone; the stream holds every kind of decision."""
    arms = {(s.arm, s.model, s.shadow_model) for _, s in scores(log)}
    assert {("e1/line", "line-2.0.0", "line-2.0.0"), ("e1/control", "baseline-1.0.0", "line-2.0.0")} <= arms
    assert ("champion", "baseline-1.0.0", "") in arms and len(arms) == 5 - 1
    count = log.length(0, "scores")
    assert redecide.check(log, 0, range(count), timeline(log)) == (count, count, {}, [])


def test_the_story_of_a_linear_models_decision(log: MemoryLog) -> None:
    """Its shares are its terms: they add up to the margin, the method says so, and text and page are made."""
    position, score = next((i, s) for i, s in reversed(scores(log)) if s.arm == "e1/line")
    found = redecide.at_place(log, DecisionPlace(0, position))
    assert found is not None
    told = tell(log, found, control_stream.history(log), timeline(log))
    assert told.recomputed.identical and told.method == METHOD and told.bias is not None
    shares = [f.share for f in told.features if f.share is not None]
    assert len(shares) == spec.WIDTH and told.bias + sum(shares) == pytest.approx(score.margin)
    assert (
        told.model is not None
        and told.model.deployed is not None
        and told.model.deployed.type == "experiment_started.v1"
    )
    assert "Sundararajan" in text(told) and "Sundararajan" in page(told)


def outcome(log: Any, changes: Changes) -> Outcome:
    return run(log, 0, log.head(0), timeline(log), changes, Scope(), {})


def test_what_if_with_arms(log: MemoryLog) -> None:
    """Without a change every arm decides as it did; another model decides for every arm alike."""
    same = outcome(log, Changes())
    assert (same.was == same.now).all() and not same.changed
    digest = hashlib.sha256(_linear()).hexdigest()
    everywhere = outcome(log, Changes(model=load_scorer(_linear(), "line-2.0.0", digest)))
    of_line = np.array([s.arm == "e1/line" for _, s in scores(log)])
    assert (everywhere.was == everywhere.now)[of_line].all() and (everywhere.was != everywhere.now)[~of_line].any()


def test_archived_arms_and_shadows(log: MemoryLog, tmp_path: Path) -> None:
    """From the log and from an archive that most of it was trimmed into: one blast radius, one window of decisions, one
    step of the loop, and a replay without a difference.
    """
    digest = hashlib.sha256(_linear()).hexdigest()
    wanted = [(str(i), s.decision, s.arm) for i, s in scores(log) if s.arm == "e1/line"]
    hot, store = log.clone(), open_archive(str(tmp_path))
    archiver.archive_partition(hot, store, 0, recorded_until=2**62, segment_transactions=100)
    archived = ArchivedLog(hot, store)
    archived.trim(0, next(r for r in reversed(store.rows(0)) if r.end.transactions < hot.head(0).transactions).end)
    assert 0 < hot.length(0, "scores") < log.length(0, "scores")
    for each in (log, archived):
        assert [
            (r.position, r.decision, r.arm) for r in affected(each, [0], digest, LabelReader(each, [0]).view)
        ] == wanted and wanted
        found = verify(each, 0, each.head(0), timeline(each))
        assert found.first_difference is None and found.identical == log.length(0, "scores")
    loops = [Orchestrator(each, [0], LearnSettings(), Tools(load_scorer, lambda call: 0.0)) for each in (log, archived)]
    seen = [repr(loop.look(2**41)) for loop in loops]  # repr: NaN equals NaN
    assert seen[0] == seen[1] and "Report(" in seen[0]
    one, other = (WindowReader(each, [0]).read(0, 2**62) for each in (log, archived))
    assert one.digests == other.digests and (one.margins == other.margins).all() and (one.models == other.models).all()
