"""Training sets with a program's features and fields: as logged, or folded where they were not, and as models read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from console.wiring import load_scorer
from core.codec import decode_score, decode_transaction, encode
from core.context import Resolver
from core.control_stream import history
from core.errors import BadInput
from core.events import START, Arm, Control, ExperimentStarted, ProgramDeployed
from core.features import packing, spec
from core.log.archive import archiver
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.memory import MemoryLog
from core.program.inputs import kernel_identities
from core.replay import Timeline
from core.scoring import Input
from core.times import DAY_MS
from core.verification import verify
from ingest.offline import OfflineIngest
from learners.governance import models
from learners.governance.control_events import Act, Artifact
from learners.training import levels, training
from learners.training.columns import OWN, STANDARD, Selection, deployed_plan, select, selection_of
from learners.training.dataset import TrainingSet
from learners.training.reading import read
from learners.training.splits import last_split
from tests.builders import arm_programs
from tests.builders.arms import ANN, ONE
from tests.builders.events import Shape
from tests.builders.logs import PARTITIONS as LOG_PARTITIONS
from tests.builders.logs import records
from tests.builders.models import load_tiny
from tests.builders.own_columns import PROGRAM, stream
from tests.builders.programs import deployed
from tests.builders.programs import stored as stored_program

PARTITIONS = (0, 1)


def log_of(share: float, text: str = PROGRAM, transactions: int = 1500) -> MemoryLog:
    """The stream, decided by the program from a share of it on."""
    log = MemoryLog()
    loaded = stored_program(log, text.encode())
    events: list[Control] = deployed(loaded)
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_scorer), partitions=2, start=events if not share else [])
    records = stream(transactions)
    place = int(share * len(records))
    ingest.feed(records[:place])
    ingest.flush()
    if share:
        ingest.change(events)
    ingest.feed(records[place:])
    ingest.flush()
    return log


def timeline(log: MemoryLog) -> Timeline:
    return Timeline(history(log), Resolver(log.get_blob, load_scorer))


def data_of(log: MemoryLog, names: tuple[str, ...]) -> tuple[Selection, TrainingSet]:
    chosen = select(*deployed_plan(log), names)
    return chosen, read(log, PARTITIONS, clock="event", selection=chosen, timeline=lambda: timeline(log))


@pytest.fixture(scope="module")
def whole() -> MemoryLog:
    return log_of(0.0)


def test_the_default_is_all_that_is_logged(whole: MemoryLog) -> None:
    """The kernel's columns, then the program's stored features and its fields; not what is not stored."""
    chosen, data = data_of(whole, (STANDARD, OWN))
    assert data.names == (*spec.NAMES, "far", "visas", "brand", "distance_km", "email", "present")
    assert not data.folded and not chosen.is_standard
    plain = read(whole, PARTITIONS, clock="event")
    assert data.features[:, : spec.WIDTH].tobytes() == plain.features.tobytes()
    assert plain.inputs is None and select(*deployed_plan(whole), [STANDARD]).is_standard


def test_values_are_those_logged_and_sent(whole: MemoryLog) -> None:
    """Every own column equals the stored vector's, or what plain Python reads from the payment's attributes."""
    _, data = data_of(whole, (OWN, "country"))
    assert data.origin is not None and data.inputs is not None
    column = {name: data.features[:, k] for k, name in enumerate(data.names)}
    values = {each.name: each.levels for each in data.inputs}
    assert list(values["brand"]) == sorted(values["brand"])
    for i in range(0, len(data), 7):
        p = int(data.origin.partitions[i])
        at = [e.id for e in whole.read(p, "transactions", START, 10**6)]
        place = next(x for x in at if x.offset == int(data.origin.offsets[i]))
        sent = decode_transaction(whole.get(p, "transactions", place) or b"")
        vector = packing.vector(decode_score(whole.get(p, "scores", place) or b"").features)
        assert column["far"][i].tobytes() == vector[spec.WIDTH].tobytes()
        assert column["visas"][i].tobytes() == vector[spec.WIDTH + 1].tobytes()
        given = sent.attributes.get("dist1")
        number = np.float32(given) if isinstance(given, float | int) else np.float32(np.nan)
        assert np.array_equal(column["distance_km"][i], number, equal_nan=True)
        for name, text in (
            ("brand", sent.attributes.get("card4") or "none"),
            ("email", sent.attributes.get("P_emaildomain")),
            ("country", sent.country),
        ):
            expected = text if isinstance(text, str) and text else None
            code = column[name][i]
            assert (None if np.isnan(code) else values[name][int(code)]) == expected, name


def test_what_was_not_logged_is_folded_and_counted() -> None:
    """A program that decides from the middle on: earlier rows have the values that the same program logs if it decides
    from the beginning; a feature that is never stored has those that its formula gives.
    """
    late, early = log_of(0.6), log_of(0.0)
    _, folded = data_of(late, (STANDARD, OWN, "kept_out"))
    _, logged = data_of(early, (STANDARD, OWN, "kept_out"))
    assert folded.names == logged.names
    assert folded.features.tobytes() == logged.features.tobytes()
    assert 600 < folded.folded["far"] == folded.folded["visas"] < len(folded) == folded.folded["kept_out"]
    assert logged.folded == {"kept_out": len(logged)}
    column = {name: folded.features[:, k] for k, name in enumerate(folded.names)}
    expected = (column["distance_km"].astype(np.float64) + column["count_24h"]).astype(np.float32)
    assert np.array_equal(column["kept_out"], expected, equal_nan=True)
    with pytest.raises(BadInput, match="does not hold far, visas"):
        chosen = select(*deployed_plan(late), (OWN,))
        read(late, PARTITIONS, clock="event", selection=chosen)


def test_rows_that_the_program_of_an_arm_decided_are_read(tmp_path: Path) -> None:
    """A program that decides in an experiment only: what its scores store is read as logged, the rest is folded."""
    first, second, _ = arm_programs.loaded()
    on = arm_programs.Restartable(tmp_path)
    given = records(4, 600, Shape(accounts=12))
    on.change(ProgramDeployed(**ANN, digest=first.digest))
    on.feed(given[:300])
    arms = (Arm("control", "tiny", "1.0.0", ONE, 5000), Arm("second", "tiny", "1.0.0", ONE, 5000, second.digest))
    on.change(ExperimentStarted(**ANN, experiment_id="e1", arms=arms, salt="s"))
    on.feed(given[300:])
    chosen = select(*deployed_plan(on.log), (OWN,))
    whens = Timeline(history(on.log), Resolver(on.log.get_blob, load_tiny))
    data = read(on.log, range(LOG_PARTITIONS), clock="event", selection=chosen, timeline=lambda: whens)
    assert data.names == ("again", "reviewed", "spent") and data.origin is not None
    scores = {
        (p, entry.id.offset): decode_score(entry.payload)
        for p in range(LOG_PARTITIONS)
        for entry in on.log.read(p, "scores", START, 10**6)
    }
    by_second = {place for place, score in scores.items() if score.program == second.digest[:16]}
    assert 50 < len(by_second) == data.folded["reviewed"] and set(data.folded) == {"reviewed"}
    stored = {
        name: (sorted(first.program.features).index(name), sorted(second.program.features).index(name))
        for name in ("again", "spent")
    }
    for i, place in enumerate(zip(data.origin.partitions.tolist(), data.origin.offsets.tolist(), strict=True)):
        vector = packing.vector(scores[place].features)[spec.WIDTH :]
        for name, places in stored.items():
            assert data.features[i, data.names.index(name)] == vector[places[place in by_second]]


def test_an_archived_log_gives_the_same_set_without_rows_of_another_engine(whole: MemoryLog, tmp_path: Path) -> None:
    """Read from the archive as from the hot log; a row of an engine that this release lacks is left out, whatever
    program decided it.
    """
    names = (STANDARD, OWN, "kept_out", "country")
    _, data = data_of(whole, names)
    archive = open_archive(str(tmp_path / "whole"))
    for p in PARTITIONS:
        archiver.archive_partition(whole, archive, p, recorded_until=2**62, segment_transactions=100)
    archived = ArchivedLog(whole, archive)
    chosen = select(*deployed_plan(archived), names)
    made = read(archived, PARTITIONS, clock="event", selection=chosen, timeline=lambda: timeline(whole))
    assert made.features.tobytes() == data.features.tobytes() and made.inputs == data.inputs
    log = log_of(0.0, transactions=300)
    entry = log.read(0, "scores", START, 10**6)[40]
    strange = msgspec.structs.replace(decode_score(entry.payload), engine=99, program="f" * 16)
    log.tamper(0, "scores", entry.id, encode(strange))
    _, rest = data_of(log, (STANDARD, OWN, "kept_out"))
    assert len(rest) == 299 and rest.folded == {"kept_out": 299}


def test_names_that_mean_nothing_are_refused(whole: MemoryLog) -> None:
    """Unknown features, unknown exclusions, nothing left, and personal data, which must be named."""
    document, made = deployed_plan(whole)
    with pytest.raises(BadInput, match="has no feature or field 'fax'"):
        select(document, made, ["fax"])
    with pytest.raises(BadInput, match="nothing is called fax"):
        select(document, made, [STANDARD], ["fax"])
    with pytest.raises(BadInput, match="no feature is left"):
        select(document, made, ["far"], ["far"])
    text = PROGRAM.replace(
        '"attributes.P_emaildomain", type', '"attributes.P_emaildomain", personal = "personal", type'
    )
    log = log_of(0.0, text, 300)
    chosen = select(*deployed_plan(log), [OWN])
    assert chosen.set_aside == ("email",) and "email" not in {each.name for each in chosen.offers}
    assert select(*deployed_plan(log), [OWN, "email"]).set_aside == ()


def test_levels_come_from_the_training_rows_alone() -> None:
    """Frequent values, sorted; the others, and values that only later rows have, are one more number."""
    values = ("a", "b", "c", "d")
    column = np.array([0] * 30 + [1] * 12 + [2] * 9 + [np.nan] * 5, dtype=np.float32)
    n = len(column)
    data = TrainingSet(
        column[:, None], np.zeros(n, np.bool_), np.arange(n), np.ones(n), np.arange(n),
        inputs=(Input("0" * 64, "x", "category", values),),
    )  # fmt: skip
    (found,) = levels.chosen(data) or ()
    assert found.levels == ("a", "b")
    later = TrainingSet(
        np.array([[0], [1], [2], [3], [np.nan]], np.float32), np.zeros(5, np.bool_), np.arange(5), np.ones(5),
        np.arange(5), inputs=data.inputs,
    )  # fmt: skip
    assert np.array_equal(levels.under(later, (found,)).features[:, 0], [0, 1, 2, 2, np.nan], equal_nan=True)
    swapped = found._replace(levels=("b", "z", "a"))
    assert np.array_equal(
        levels.under(levels.under(later, (found,)), (swapped,)).features[:, 0], [2, 0, 3, 3, np.nan], equal_nan=True
    )
    many = TrainingSet(
        np.repeat(np.arange(300), np.arange(300) + 1).astype(np.float32)[:, None],
        *[np.zeros(45150, t) for t in (np.bool_, np.int64, np.float64, np.int64)],
        inputs=(Input("0" * 64, "x", "category", tuple(f"{i:03}" for i in range(300))),),
    )
    (most,) = levels.chosen(many) or ()
    assert most.levels == tuple(f"{i:03}" for i in range(300 - levels.LEVELS_MAX, 300))


def test_a_model_reads_kernel_columns_of_any_set(whole: MemoryLog) -> None:
    """A standard model and one with inputs are scored on the same set, each with its own columns."""
    _, data = data_of(whole, (OWN, STANDARD))
    plain = read(whole, PARTITIONS, clock="event")
    assert levels.columns_for(data, None).tobytes() == plain.features.tobytes()
    reads = [Input(identity, name) for identity, name in zip(kernel_identities(), spec.NAMES, strict=True)][5:9]
    assert levels.columns_for(plain, reads).tobytes() == np.ascontiguousarray(plain.features[:, 5:9]).tobytes()
    both = selection_of(deployed_plan(whole)[1], None, data.inputs)
    assert len(both.offers) == spec.WIDTH + 6
    with pytest.raises(BadInput, match="lack far"):
        levels.columns_for(plain, data.inputs)


def test_trained_promoted_decided_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the log to a champion that reads own numbers and categories: training again gives the same bytes, the
    margins that it logs are those on the training set's columns, and a replay is identical.
    """
    monkeypatch.setattr(training, "FRAUDS_TO_TRAIN", 5)
    monkeypatch.setattr(training, "FRAUDS_TO_TEST", 2)
    log = MemoryLog()
    loaded = stored_program(log, PROGRAM.encode())
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_scorer), partitions=2, start=deployed(loaded))
    records = stream(2000)
    ingest.feed(records[:1700])
    ingest.flush()
    names = (STANDARD, OWN, "kept_out", "country")
    _, data = data_of(log, names)
    split = last_split(int(data.times[0]), int(data.times[-1]), 1.0, 3 * DAY_MS)
    recipe = training.Recipe(overrides={"min_data_in_leaf": 5, "min_data_per_group": 5})
    made = training.train(data, split, seed=3, recipe=recipe)
    assert training.train(data, split, seed=3, recipe=recipe).content == made.content
    about = cast(dict[str, Any], made.card["columns"])
    assert about["read"] == spec.WIDTH + 8 and about["folded"] == {"kept_out": len(data)}
    assert about["own"] == ["far", "visas", "distance_km", "present", "kept_out"]
    assert set(about["categories"]) == {"brand", "email", "country"} and about["categories"]["brand"] == 4

    act = Act("ann", "test", 7)
    models.register(log, Artifact.of_card(made.content, made.card), act)
    models.deploy(log, "baseline-1.0.0", act)
    ingest.follow_control()
    ingest.feed(records[1700:])
    ingest.flush()
    _, data = data_of(log, names)
    assert data.origin is not None
    scorer = load_scorer(made.content, "baseline-1.0.0", made.digest)
    expected = scorer.margins(levels.columns_for(data, scorer.inputs))
    logged = {}
    for p in PARTITIONS:
        for entry in log.read(p, "scores", START, 10**6):
            score = decode_score(entry.payload)
            if score.model == "baseline-1.0.0":
                logged[p, entry.id.offset] = score.margin
    places = zip(data.origin.partitions.tolist(), data.origin.offsets.tolist(), strict=True)
    found = {place: margin for place, margin in zip(places, expected.tolist(), strict=True) if place in logged}
    assert found == logged and len(logged) > 250
    for p in PARTITIONS:
        verified = verify(log, p, log.head(p), timeline(log))
        assert verified.first_difference is None and verified.identical == verified.decisions > 0
