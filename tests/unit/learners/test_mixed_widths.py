"""A log whose scores hold more features from a deployment on: training sets and windows take those of the spec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.features import packing, spec
from core.log.archive import archiver
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.base import EventLog
from core.scoring import Float32
from core.times import DAY_MS
from learners.drift.windows import WindowReader
from learners.training import reading
from tests.builders.live import NOW, Live
from tests.builders.logs import entries
from tests.builders.own_program import own_log

EVER = 2**62


@pytest.fixture(scope="module")
def live() -> Live:
    return own_log()


def expected(live: Live) -> Float32:
    """The spec's features of all decisions, float32 (n, WIDTH)."""
    rows = [packing.vector(each.score.features) for each in live.decided]
    assert {len(row) for row in rows} == {spec.WIDTH, spec.WIDTH + 1}
    return np.array([row[: spec.WIDTH] for row in rows])


def archived(live: Live, folder: Path, segment: int) -> ArchivedLog:
    archive = open_archive(str(folder))
    archiver.archive_partition(live.log, archive, 0, recorded_until=EVER, segment_transactions=segment)
    return ArchivedLog(live.log, archive)


def assert_read(log: EventLog, live: Live) -> None:
    """Both readers give the spec's features, bit for bit, and the window's columns are contiguous."""
    wanted = expected(live)
    data = reading.read(log, [0])
    assert data.features.shape == wanted.shape and data.features.tobytes() == wanted.tobytes()
    rows = WindowReader(log, [0]).read(NOW - DAY_MS, NOW + DAY_MS)
    assert rows.columns.flags.c_contiguous
    assert np.ascontiguousarray(rows.columns.T).tobytes() == wanted.tobytes()


def test_a_hot_log(live: Live) -> None:
    """JSON entries of both widths on one page."""
    assert_read(live.log, live)


@pytest.mark.parametrize("segment", [8, 1000])
def test_an_archived_log(live: Live, tmp_path: Path, segment: int) -> None:
    """Segments of one width each, and one of both; every score's bytes come out of the columns again."""
    log = archived(live, tmp_path, segment)
    assert len(log.archive.rows(0)) == (1 if segment == 1000 else 2)
    assert_read(log, live)
    assert entries(log, 0, "scores") == entries(live.log, 0, "scores")
    kept = [log.archive.segment(row).table(["raw_score"])["raw_score"].null_count for row in log.archive.rows(0)]
    assert sum(kept) == len(live.decided)


def test_the_columns_say_what_the_scores_say(live: Live, tmp_path: Path) -> None:
    """Engine, program, shadow rules and effects, as readers of columns need them."""
    log = archived(live, tmp_path, 1000)
    names = ["engine", "program", "rules", "shadow_rules", "effects"]
    found = [row for held in log.archive.rows(0) for row in log.archive.segment(held).table(names).to_pylist()]
    assert [tuple(row[name] for name in names) for row in found] == [
        (s.engine, s.program, ",".join(s.rules), ",".join(s.shadow_rules), s.effects)
        for s in (each.score for each in live.decided)
    ]
    assert {row["effects"] for row in found} >= {0, 1} and {row["shadow_rules"] for row in found} == {"", "WATCHED"}
