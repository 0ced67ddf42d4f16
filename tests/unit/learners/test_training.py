"""Training from the log: labels as known, splits by time, the same bytes for the same seed."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from console.wiring import load_scorer
from core.control import Resolver
from core.errors import BadInput
from core.features import spec
from core.features.spec import DAY_MS
from core.log.memory import MemoryLog
from ingest.offline import OfflineIngest
from ingest.producers.synthetic import SyntheticConfig, SyntheticStream
from learners import training
from learners.card import model_card

PARTITIONS = 2


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    """20,000 synthetic transactions with 4 % fraud over 33 days, decided offline without a model."""
    config = SyntheticConfig(transactions=20_000, accounts=200, merchants=400, fraud_rate=0.04, seed=3)
    memory = MemoryLog()
    offline = OfflineIngest(memory, Resolver(memory.get_blob, load_scorer), partitions=PARTITIONS)
    for chunk in SyntheticStream(config, flush_feedback=True).records():
        offline.feed(chunk)
    offline.flush()
    return memory


def test_rows_are_the_logged_decisions_in_order_of_event_time(log: MemoryLog) -> None:
    """Every decision is a row, ascending in event time, with as many frauds as verdicts."""
    data = training.read(log, range(PARTITIONS))
    assert data.features.shape == (20_000, spec.WIDTH)
    assert data.features.dtype == np.float32
    assert (np.diff(data.times) >= 0).all()
    assert int(data.labels.sum()) == 800
    assert np.array_equal(data.features[:, spec.index("amount")], data.amounts.astype(np.float32))


def test_labels_are_those_known_at_the_time(log: MemoryLog) -> None:
    """A verdict that came after `known_until` is not seen; none had come before the stream began."""
    everything = training.read(log, range(PARTITIONS))
    half = int(everything.times[len(everything.times) // 2])
    known = training.read(log, range(PARTITIONS), known_until=half)
    assert 0 < known.labels.sum() < everything.labels.sum()
    assert not known.labels[known.times > half].any()
    assert not training.read(log, range(PARTITIONS), known_until=0).labels.any()


def test_the_same_log_and_seed_give_the_same_model_and_a_loadable_one(log: MemoryLog) -> None:
    """Two trainings give the same bytes; our scorer loads them; the card says what was measured, in Markdown too."""
    data = training.read(log, range(PARTITIONS))
    split = training.split_by_time(data.times, test_share=0.25, gap_days=3.0, warm_up_days=3.0)
    first, again = (training.train(data, split, seed=1, version="9.9.9", data_description="a test") for _ in range(2))
    assert first.content == again.content
    scorer = load_scorer(first.content, "baseline-9.9.9", first.digest)
    rows = data.features[data.times >= split.test_start]
    labels = data.labels[data.times >= split.test_start]
    assert scorer.margins(rows)[labels].mean() > scorer.margins(rows)[~labels].mean()
    card = msgspec.json.decode(msgspec.json.encode(first.card))
    assert card["split"]["train_ms"][1] <= card["split"]["test_ms"][0] - 3 * DAY_MS
    assert "9.9.9" in model_card(card)
    assert first.digest in model_card(card)


def test_rows_without_tables_differ_only_in_reference_columns(log: MemoryLog) -> None:
    """The added rows are copies of others with every reference column missing."""
    data = training.read(log, range(PARTITIONS))
    more = training.without_tables(data, seed=1)
    extra = more.features[len(data.labels) :]
    first = spec.index("merchant_count_1d")
    assert 0.25 < len(extra) / len(data.labels) < 0.35
    assert np.isnan(extra[:, first:]).all()
    assert not np.isnan(extra[:, 0]).any()


def test_too_little_data_is_said_in_one_line(log: MemoryLog) -> None:
    """An empty log, too short a span and too few frauds are bad input."""
    with pytest.raises(BadInput, match="no transaction"):
        training.read(MemoryLog(), [0])
    times = np.arange(0, 5 * DAY_MS, DAY_MS // 4, dtype=np.int64)
    with pytest.raises(BadInput, match="too few"):
        training.split_by_time(times, test_share=0.25, gap_days=7.0, warm_up_days=7.0)
    data = training.read(log, range(PARTITIONS), known_until=0)
    split = training.split_by_time(data.times, test_share=0.25, gap_days=3.0, warm_up_days=3.0)
    with pytest.raises(BadInput, match="too few frauds"):
        training.train(data, split, seed=1, version="1.0.0", data_description="")
