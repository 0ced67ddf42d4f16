"""The loop judges models that read own columns: their margins on logged decisions, and candidates of their kind."""

from __future__ import annotations

from typing import Any

import pytest

from console.wiring import load_scorer
from core.context import Resolver
from core.control_stream import history
from core.log.memory import MemoryLog
from core.policy import Thresholds
from core.replay import Timeline
from core.scoring import Scorer
from ingest.offline import OfflineIngest
from learners.drift.windows import WindowReader
from learners.loop import candidates
from learners.loop.candidates import Incumbent
from learners.loop.evidence import decided_by
from learners.loop.settings import LearnSettings
from learners.training import training
from learners.training.columns import deployed_plan, selection_of
from learners.training.dataset import TrainingSet
from learners.training.reading import read
from models.inputs import parts
from tests.builders.own_columns import PROGRAM, deployment, inputs, stored, stream, trained
from tests.builders.own_columns import program as own_program
from tests.builders.programs import deployed
from tests.builders.programs import stored as stored_program


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    log = MemoryLog()
    stored_program(log, PROGRAM.encode())
    reads = inputs(own_program())
    registered = stored(log, trained(reads)[0], reads)
    events = [*deployed(own_program()), *registered, deployment(registered[0])]
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_scorer), partitions=2, start=events)
    ingest.feed(stream(1500))
    ingest.flush()
    return log


def champion(log: MemoryLog) -> Scorer:
    digest = trained_digest(log)
    return load_scorer(log.get_blob(digest), "named-1.0.0", digest)


def trained_digest(log: MemoryLog) -> str:
    return next(e.event.digest for e in history(log) if type(e.event).__name__ == "ModelRegistered")  # type: ignore[union-attr]


def test_margins_of_another_model_are_those_of_its_own_columns(log: MemoryLog) -> None:
    """The champion itself as the other model: its margins on the rows read again are the logged ones, bit for bit."""
    scorer = champion(log)

    def read_for(model: Scorer, start: int, end: int) -> TrainingSet:
        return read(
            log,
            (0, 1),
            start=start,
            end=end,
            selection=selection_of(deployed_plan(log)[1], model.inputs),
            timeline=lambda: Timeline(history(log), Resolver(log.get_blob, load_scorer)),
        )

    found = decided_by(WindowReader(log, [0, 1]), 1, scorer.digest, scorer, read_for)
    assert found is not None and len(found.logged) == 1500
    assert found.logged.tobytes() == found.other.tobytes() and len(set(found.logged.tolist())) > 300


def test_a_retrained_candidate_reads_what_the_champion_reads(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same definitions in the same order, compared on the same rows; other kinds of candidates are refused."""
    monkeypatch.setattr(training, "FRAUDS_TO_TRAIN", 3)
    monkeypatch.setattr(training, "FRAUDS_TO_TEST", 1)
    scorer = champion(log)
    content = log.get_blob(scorer.digest)
    incumbent = Incumbent("named", "1.0.0", content, scorer, Thresholds(0.4, 0.8))
    settings: dict[str, Any] = {"train_days": 12.0, "holdout_days": 5.0, "maturity_days": 1.0}
    learn = LearnSettings(candidates=("retrained", "boosted"), **settings)
    newest = WindowReader(log, [0, 1]).newest()
    made = {
        each.kind: each
        for each in candidates.make(log, [0, 1], incumbent, newest, learn, load_scorer, lambda call: (call(), 0.001)[1])
    }
    assert "cannot be boosted: retrain it" in made["boosted"].result.reason
    new, old = parts(made["retrained"].content).inputs, scorer.inputs
    assert new is not None and old is not None
    assert [(each.identity, each.kind) for each in new] == [(each.identity, each.kind) for each in old]
    assert made["retrained"].result.metrics["rows"] > 50
