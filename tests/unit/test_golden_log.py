"""The golden log of each supported engine (docs/development.md): decided again for ever, from the committed bytes.

A failure here means that logs of a past release are no longer decided as they were. It is never mended by building the
log anew, unless no release has published it yet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import pytest

from console import wiring
from core import context, replay, verification
from core.codec import decode_account_event, decode_control, decode_reject, decode_score
from core.context import Resolver
from core.control_stream import fold, history
from core.events import AccountEvent, Control, ModelRegistered, TransactionScored
from core.features import packing
from core.log.archive.archived import ArchivedLog
from core.log.archive.archiver import archived_rows
from core.log.archive.control_chain import check_control, check_named
from core.log.archive.verifying import check_partition
from core.log.base import Entry, Stream
from core.log.paging import entries
from core.program import document, loading
from core.program.codes import ENGINE, Op
from core.program.functions import FUNCTIONS
from core.program.library import kernel
from core.program.plan import plan
from core.replay import Timeline
from models.artifacts import KINDS, format_of
from projections.audit import redecide
from tests.builders.golden import file

ENGINES = sorted(path.name.removesuffix(".log.xz") for path in file.DIRECTORY.glob("*.log.xz"))


DEGRADED = {
    value
    for name, value in vars(context).items()
    if name == "NO_MODEL" or name.endswith(("_UNAVAILABLE", "_ERROR", "_FAILED"))
}


class Golden(NamedTuple):
    """A golden log, opened, and the figures committed with it."""

    log: ArchivedLog
    figures: dict[str, Any]
    held: file.GoldenLog


@pytest.fixture(scope="module", params=ENGINES)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    held = file.read(file.DIRECTORY / f"{request.param}.log.xz")
    figures = json.loads((file.DIRECTORY / f"{request.param}.json").read_bytes())
    return Golden(file.opened(held, tmp_path_factory.mktemp(request.param)), figures, held)


def timeline(log: ArchivedLog) -> Timeline:
    return Timeline(history(log), Resolver(log.get_blob, wiring.load_scorer))


def all_of(golden: Golden, stream: Stream) -> Iterator[Entry]:
    for p in range(golden.figures["partitions"]):
        yield from entries(golden.log, p, stream)


def scores(golden: Golden) -> list[TransactionScored]:
    return [decode_score(entry.payload) for entry in all_of(golden, "scores")]


def test_there_is_a_golden_log_of_this_engine() -> None:
    """Whoever raises ENGINE builds its log before the release, and keeps those of the engines that are still run."""
    assert f"engine-{ENGINE}" in ENGINES


def test_every_decision_is_identical(golden: Golden) -> None:
    """All scores and alerts come out byte for byte, and folds have the committed states."""
    found = [
        verification.verify(golden.log, p, golden.log.head(p), timeline(golden.log))
        for p in range(golden.figures["partitions"])
    ]
    assert [str(each.first_difference) for each in found if each.first_difference] == []
    assert not any(each.undecidable for each in found)
    assert sum(each.identical for each in found) == sum(each.decisions for each in found) == golden.figures["decisions"]
    assert sum(each.alerts for each in found) == golden.figures["alerts"]
    assert sum(each.degraded for each in found) == golden.figures["degraded"]
    states = [
        replay.rebuild(golden.log, p, golden.log.head(p), timeline(golden.log).identity).digest()
        for p in range(golden.figures["partitions"])
    ]
    assert states == golden.figures["states_sha256"]


def test_single_decisions_are_identical(golden: Golden) -> None:
    """An audit of every fifth decision, from its account's events alone, finds no difference either."""
    for p in range(golden.figures["partitions"]):
        rows = range(0, golden.log.length(p, "scores"), 5)
        found = redecide.check(golden.log, p, rows, timeline(golden.log))
        assert (found.identical, found.differences, found.undecidable) == (len(rows), [], {})


def test_the_stored_features_are_the_committed_ones(golden: Golden) -> None:
    """The bytes of all vectors, and who decided, have the committed digests and counts."""
    digest = hashlib.sha256()
    programs: dict[str, int] = {}
    for score in scores(golden):
        digest.update(packing.vector(score.features).tobytes())
        programs[score.program] = programs.get(score.program, 0) + 1
    assert digest.hexdigest() == golden.figures["features_sha256"]
    assert programs == golden.figures["programs"] and len(programs) >= 3
    assert [golden.log.head(p).digest for p in range(golden.figures["partitions"])] == golden.figures["heads"]


def test_the_log_verifies(golden: Golden) -> None:
    """Seals, segments, manifest, control stream, blobs, and that every decision names its seal's context."""
    control = check_control(golden.log.hot)
    assert control.fault == ""
    archived = archived_rows(golden.log)
    found = [
        check_partition(golden.log.hot, golden.log.archive, p, archived, control.evidence_of(p), control.log_id)
        for p in range(golden.figures["partitions"])
    ]
    assert [each.fault for each in found] == [""] * len(found)
    assert check_named(golden.log, control, [named for each in found for named in each.named]) == ""
    assert sum(each.segments for each in found) > 0 and golden.log.archive.count(0, "scores") > 0
    assert golden.log.hot.length(0, "scores") < golden.log.length(0, "scores")


def test_every_kind_of_event_is_in_it(golden: Golden) -> None:
    """Whoever adds an event type builds the log again, before its engine is released."""
    control = {type(decode_control(payload)) for _, payload in golden.log.read_control(count=10_000)}
    assert set(get_args(Control)) - control == set()
    feedback = {type(decode_account_event(entry.payload)) for entry in all_of(golden, "feedback")}
    assert set(get_args(AccountEvent)) - feedback == set()
    for stream in ("transactions", "scores", "alerts", "rejects", "seals"):
        assert sum(1 for _ in all_of(golden, stream)) > 20, stream  # type: ignore[arg-type]
    assert not fold(history(golden.log)).refused


def test_every_way_to_decide_is_in_it(golden: Golden) -> None:
    """Degradations, arms, shadow models and rules, severities, kinds of models, and many reasons for rejects."""
    held = scores(golden)
    reasons = {reason for score in held if score.degraded for reason in score.degraded.split("+")}
    assert DEGRADED - reasons == set()
    assert {score.decision for score in held} == {"approve", "review", "decline"}
    assert {score.severity for score in held} == {None, "low", "medium", "high", "critical"}
    assert any(score.shadow_rules for score in held) and any(score.shadow is not None for score in held)
    assert len({score.arm for score in held}) >= 5
    assert len({score.program for score in held if score.arm.startswith("second/")}) == 2
    registered = [decode_control(payload) for _, payload in golden.log.read_control(count=10_000)]
    models = [golden.held.blobs[event.digest] for event in registered if isinstance(event, ModelRegistered)]
    assert {format_of(content) for content in models} == {kind.name for kind in KINDS}
    champions = {score.digest for score in held}
    kinds = {format_of(content) for content in models if hashlib.sha256(content).hexdigest()[:16] in champions}
    assert kinds == {kind.name for kind in KINDS}
    rejected = {decode_reject(entry.payload).reason for entry in all_of(golden, "rejects")}
    assert len(rejected) >= 8, rejected


def test_every_function_of_the_language_is_in_it(golden: Golden) -> None:
    """A program of the log calls each function, and its code has each operation of the engine."""
    programs = [
        document.decode(content) for content in golden.held.blobs.values() if content.startswith(b'{"decision"')
    ]
    texts = "\n".join(document.canonical(each).decode() for each in programs)
    assert [f.name for f in FUNCTIONS if f"{f.name}(" not in texts] == []
    used: set[int] = set()
    for each in programs:
        if each.name == "standard":
            continue
        made = plan(loading.of_program(each, golden.log.get_blob).checked, kernel())
        for code in (
            made.event_code,
            made.verdict_code,
            made.feature_code,
            made.rule_code,
            made.decision_code,
            made.severity_code,
        ):
            used |= set(code.instructions[:, 0].tolist())
    assert [op.name for op in Op if int(op) not in used] == []


def test_it_names_no_place_of_the_machine_that_built_it(golden: Golden) -> None:
    """No paths, no addresses; and it is small."""
    everything = b"".join(
        (*golden.held.control, *(payload for p in golden.held.streams for each in p.values() for *_, payload in each))
    )
    for text in (b"/tmp/", b"/home/", b"/usr/", b"127.0.0.1", b"localhost", bytes(file.DIRECTORY.parents[1])):
        assert text not in everything
    assert golden.figures["bytes"] < 2**20


def test_a_fold_reads_the_same_from_the_archives_columns(golden: Golden) -> None:
    """Without the scores' entries, chunks hold the same runs, keys and spans, across the seam too."""
    for p in range(golden.figures["partitions"]):
        until = golden.log.head(p)
        whole = list(replay.chunks(golden.log, p, replay.Head(), until))
        lean = list(replay.chunks(golden.log, p, replay.Head(), until, has_scores=False))

        def joined(found: list[replay.Chunk]) -> list[object]:
            runs = [run for chunk in found for run in chunk.runs]
            rows = [
                (run.feedback_position, position, transaction, outcome)
                for run in runs
                for position, transaction, outcome in zip(run.positions, run.transactions, run.outcomes, strict=True)
            ]
            said = [(run.feedback_position, event) for run in runs for event in run.feedback]
            return [rows, said, [key for chunk in found for key in chunk.keys]]

        assert joined(lean) == joined(whole)
        assert not any(chunk.scores for chunk in lean)
        assert sum(count for chunk in lean for _, count in chunk.spans) == golden.log.length(p, "scores")
