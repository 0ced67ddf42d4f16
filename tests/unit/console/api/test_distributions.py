"""The two windows of a detection: counted as numpy counts, and served as of the moment."""

from __future__ import annotations

import time

import numpy as np
import pytest

from console.api import distributions
from console.api.distributions import bins
from core.control_stream import append
from core.events import DriftDetected
from core.features import spec
from core.log.memory import MemoryLog
from learners.drift.windows import WindowReader
from tests.builders import baseline_log
from tests.builders.api import Served, served


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_bins_hold_nearly_all_values_and_ascend(scale: float) -> None:
    """Bins cover all but the extreme half per cent on either side, for an even and a very skewed distribution."""
    rng = np.random.default_rng(1)
    values = rng.normal(5, 1, 10_000) if scale == 1.0 else rng.lognormal(0, 3, 10_000)
    edges = np.array(bins(values))
    assert (np.diff(edges) > 0).all()
    assert 0.98 < np.mean((values >= edges[0]) & (values <= edges[-1])) <= 1.0
    assert np.isnan(bins(np.array([np.nan]))).sum() == 0


def test_one_value_has_one_bin() -> None:
    """A figure that is always the same."""
    assert bins(np.full(5, 3.0)) == [2.5, 3.5]


@pytest.fixture(scope="module")
def drifted(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryLog, dict[str, int]]:
    """A log with a detection of each kind; their control positions by figure."""
    log = MemoryLog()
    baseline_log.fill(log, transactions=600, accounts=20)
    reader = WindowReader(log, range(baseline_log.PARTITIONS))
    first, last = reader.oldest(), reader.newest()
    half = (first + last) // 2
    found = {}
    for figure in ("amount", "hour_of_day", "score", "alerts:rate"):
        event = DriftDetected(
            occurred_at=int(time.time() * 1000),
            actor="sentinel drift",
            reason="test",
            feature=figure,
            statistic="ks",
            magnitude=0.2,
            severity="low",
            reference_start=first,
            reference_end=half,
            window_start=half,
            window_end=last + 1,
            rows=300,
            reference_rows=300,
        )
        found[figure] = append(log, lambda _, event=event: [event]).position
    return log, found


@pytest.fixture(scope="module")
def api(drifted: tuple[MemoryLog, dict[str, int]], tmp_path_factory: pytest.TempPathFactory) -> Served:  # type: ignore[misc]
    """The API on that log."""
    with served(drifted[0], tmp_path_factory.mktemp("drift")) as found:
        yield found


def test_both_windows_are_counted(api: Served, drifted: tuple[MemoryLog, dict[str, int]]) -> None:
    """Shares by bin and quantiles are those of the logged features."""
    log, positions = drifted
    answer = api.get(f"/v1/drift/{positions['amount']}").json()
    current = answer["current"]
    read = WindowReader(log, range(baseline_log.PARTITIONS)).read(current["start"], current["end"])
    values = read.columns[spec.index("amount")].astype(np.float64)
    edges = np.array(answer["edges"])
    counted, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    assert current["rows"] == len(values) > 0
    assert current["shares"] == pytest.approx((counted / len(values)).tolist())
    assert current["quantiles"] == pytest.approx(np.quantile(values, distributions.QUANTILES).tolist())
    assert sum(answer["reference"]["shares"]) == pytest.approx(1.0)


def test_figures_of_few_values_are_counted_by_value(api: Served, drifted: tuple[MemoryLog, dict[str, int]]) -> None:
    """Hours of the day have 24 categories and no bins; the score has bins."""
    hours = api.get(f"/v1/drift/{drifted[1]['hour_of_day']}").json()
    assert hours["categories"] == list(range(24)) and hours["edges"] == []
    assert sum(hours["current"]["shares"]) == pytest.approx(1.0)
    assert len(api.get(f"/v1/drift/{drifted[1]['score']}").json()["edges"]) == distributions.BINS + 1


def test_what_has_no_distribution_is_refused(api: Served, drifted: tuple[MemoryLog, dict[str, int]]) -> None:
    """A rate is no value of single decisions; a detection that was not known, or never made, is not found."""
    rate = drifted[1]["alerts:rate"]
    assert api.get(f"/v1/drift/{rate}").status_code == 400
    assert api.get("/v1/drift/1").status_code == 404
    assert api.get(f"/v1/drift/{rate}?as_of=c{rate - 1}").status_code == 404
