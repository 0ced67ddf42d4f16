"""The synthetic stream: reproducible to the byte, exact in its counts, and like the facts it imitates."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import polars as pl
import pytest

from core import validation
from core.errors import BadInput
from core.events import FeedbackReceived
from core.times import DAY_MS
from sources.synthetic import START_MS, SyntheticConfig, SyntheticStream

GOLDEN = "40b0c8cf6d967ea1e1569d7bd6a9ea1163f6710d9d85946083e0af3ce798cd2a"


def digest(stream: SyntheticStream, chunk_records: int = 4096) -> str:
    h = hashlib.sha256()
    for chunk in stream.records(chunk_records):
        for record in chunk:
            h.update(b"%s %s %d " % (record.topic.encode(), record.key.encode(), record.timestamp) + record.value)
    return h.hexdigest()


def frame(**options: Any) -> pl.DataFrame:
    return pl.concat(list(SyntheticStream(SyntheticConfig(**options)).tables()))


@pytest.fixture(scope="module")
def default() -> pl.DataFrame:
    """A stream with the default behaviour, large enough for shares."""
    return frame(transactions=120_000, accounts=2_000)


def test_the_bytes_of_a_seed_never_change() -> None:
    """The stream of a configuration has the same digest on every machine and version, or users' results move."""
    assert digest(SyntheticStream(SyntheticConfig(transactions=20_000, drift_at=0.5), flush_feedback=True)) == GOLDEN


def test_the_chunk_size_does_not_change_the_stream() -> None:
    """Chunks of 1,000 and of 77 hold the same records in the same order, at every call of the same object."""
    stream = SyntheticStream(SyntheticConfig(transactions=20_000, drift_at=0.5), labels="all")
    assert digest(stream, 1_000) == digest(stream, 77)


def test_another_seed_is_another_stream() -> None:
    """The seed matters."""
    first, second = (frame(transactions=500, seed=seed) for seed in (1, 2))
    assert first["amount"].to_list() != second["amount"].to_list()


def test_every_value_is_accepted_by_the_strict_edge() -> None:
    """Transactions and verdicts pass core.validation, in order of time."""
    stream = SyntheticStream(SyntheticConfig(transactions=5_000, fraud_rate=0.05), flush_feedback=True)
    last, ids, verdicts = 0, set(), 0
    for record in (r for chunk in stream.records() for r in chunk):
        assert record.timestamp >= last
        last = record.timestamp
        if record.topic == "transactions":
            t = validation.decode_transaction(record.value, record.key.encode(), record.timestamp)
            assert record.key == t.account_id and record.timestamp == t.occurred_at and t.amount >= 0.5
            ids.add(t.transaction_id)
        else:
            v = validation.decode_feedback(record.value, record.key.encode(), record.timestamp)
            assert isinstance(v, FeedbackReceived) and v.verdict == "fraud" and v.transaction_id in ids
            assert record.key == v.account_id and record.timestamp == v.occurred_at > v.transaction_occurred_at
            verdicts += 1
    assert len(ids) == 5_000 and verdicts == 250


@pytest.mark.parametrize("total", [1, 2, 99, 16_383, 16_385, 40_001])
def test_totals_are_exact_and_inside_the_time_span(total: int) -> None:
    """Exactly so many transactions and round(rate × total) frauds, within [start, start + span)."""
    config = SyntheticConfig(transactions=total, fraud_rate=0.02, accounts=200, drift_at=0.3)
    rows = pl.concat(list(SyntheticStream(config).tables()))
    assert rows.height == total and rows["transaction_id"].n_unique() == total
    assert rows["is_fraud"].sum() == round(total * 0.02)
    assert rows["occurred_at"].is_sorted()
    assert config.start <= rows["occurred_at"].min() and rows["occurred_at"].max() < config.start + config.span_ms  # type: ignore[operator]


def test_scenarios_keep_their_shares(default: pl.DataFrame) -> None:
    """The mix holds to the row; legitimate rows have no scenario."""
    counts = dict(default.group_by("scenario").len().iter_rows())
    assert counts == {
        "": 118_800,
        "stolen_card": 360,
        "card_testing": 300,
        "account_takeover": 240,
        "compromised_terminal": 216,
        "friendly_fraud": 84,
    }


def test_frauds_peak_at_eight_and_many_are_small(default: pl.DataFrame) -> None:
    """The hour with the most frauds is 8, and at least a sixth of the frauds are below 5."""
    frauds = default.filter("is_fraud").with_columns(hour=pl.col("occurred_at") // 3_600_000 % 24)
    assert frauds["hour"].value_counts().sort("count")["hour"][-1] == 8
    assert (frauds["amount"] < 5).sum() > frauds.height / 6


def test_each_scenario_has_its_signals(default: pl.DataFrame) -> None:
    """What tells a scenario from honest spending is in the data, and honest spending has some of it too."""
    home = default.group_by("account_id").agg(pl.col("country").mode().first().alias("home"))
    rows = default.join(home, on="account_id").with_columns(abroad=pl.col("country") != pl.col("home"))
    by = {name: part for (name,), part in rows.partition_by("scenario", as_dict=True).items()}
    median = {name: part["amount"].median() for name, part in by.items()}
    assert median["card_testing"] < 5 and median["stolen_card"] > 4 * median[""]  # type: ignore[operator]
    assert by["stolen_card"]["abroad"].mean() > 0.5 > 0.15 > by[""]["abroad"].mean() > 0.05  # type: ignore[operator]
    assert by["account_takeover"]["channel"].is_in(["online", "transfer"]).all()
    honest_devices = set(by[""]["device_id"])
    assert by["account_takeover"]["device_id"].is_in(honest_devices).mean() < 0.3  # type: ignore[operator]
    assert by["friendly_fraud"]["device_id"].is_in(honest_devices).mean() > 0.9  # type: ignore[operator]
    terminals = by["compromised_terminal"]["merchant_id"].value_counts()
    assert terminals["count"].median() >= 10  # type: ignore[operator]


def test_honest_accounts_also_do_suspicious_things(default: pl.DataFrame) -> None:
    """Large purchases and bursts of three small payments in ten minutes happen without fraud."""
    honest = default.filter(~pl.col("is_fraud"))
    assert (honest["amount"] > 1_000).sum() > 100
    small = honest.filter(pl.col("amount") < 8).sort("account_id", "occurred_at")
    third = small.select(
        quick=(pl.col("occurred_at").shift(-2).over("account_id") - pl.col("occurred_at")) < 10 * 60_000
    )
    assert third["quick"].sum() > 100


def test_reports_come_from_their_source_after_their_delay(default: pl.DataFrame) -> None:
    """A takeover is noticed in days by its victim; a friendly fraud takes at least the full label delay."""
    delay = default.with_columns(days=(pl.col("verdict_at") - pl.col("occurred_at")) / DAY_MS)
    takeover = delay.filter(pl.col("scenario") == "account_takeover")
    friendly = delay.filter(pl.col("scenario") == "friendly_fraud")
    assert set(takeover["verdict_source"]) == {"customer"} and takeover["days"].max() < 2.5  # type: ignore[operator]
    assert set(friendly["verdict_source"]) == {"chargeback"} and friendly["days"].min() >= 6.99  # type: ignore[operator]
    assert (delay["verdict_at"] > delay["occurred_at"]).all()


def test_drift_changes_what_comes_after_it_only() -> None:
    """Amount drift makes later frauds smaller; honest rows before the turn stay as they were."""
    options: dict[str, Any] = {"transactions": 60_000, "fraud_rate": 0.05, "accounts": 1_000, "seed": 3}
    config = SyntheticConfig(**options)
    turn = config.start + config.span_ms // 2
    plain, drifted = frame(**options), frame(**options, drift_at=0.5, drift="amount")
    stolen = pl.col("scenario") == "stolen_card"
    before = drifted.filter(stolen & (pl.col("occurred_at") < turn))["amount"].median()
    after = drifted.filter(stolen & (pl.col("occurred_at") >= turn))["amount"].median()
    assert after < 0.65 * before  # type: ignore[operator]
    spent = [
        rows.filter(~pl.col("is_fraud") & (pl.col("occurred_at") >= turn))["amount"].sum() for rows in (plain, drifted)
    ]
    assert spent[0] == pytest.approx(spent[1], rel=1e-9)
    richer = frame(**options, drift_at=0.5, drift="behaviour")
    assert richer.filter(pl.col("occurred_at") < turn)["amount"].median() == pytest.approx(
        plain.filter(pl.col("occurred_at") < turn)["amount"].median(), rel=0.03
    )
    assert richer.filter(pl.col("occurred_at") >= turn)["amount"].median() > 1.2 * plain["amount"].median()  # type: ignore[operator]


def test_hours_and_mix_drift() -> None:
    """Hours drift moves the fraud peak to the evening; mix drift doubles the takeovers' share."""
    options: dict[str, Any] = {"transactions": 60_000, "fraud_rate": 0.1, "accounts": 1_000, "drift_at": 0.5}
    later = pl.col("is_fraud") & (pl.col("occurred_at") > START_MS + SyntheticConfig(**options).span_ms * 0.55)
    hours = frame(**options, drift="hours").filter(later)["occurred_at"] // 3_600_000 % 24
    assert 19 <= hours.value_counts().sort("count")["occurred_at"][-1] <= 22
    mix = frame(**options, drift="mix").filter(later)["scenario"]
    assert (mix == "account_takeover").mean() == pytest.approx(0.4, abs=0.05)


def test_size_follows_from_any_two() -> None:
    """Transactions, days and rate determine each other."""
    assert SyntheticConfig(days=2, rate=0.5).total == 86_400
    assert SyntheticConfig(transactions=86_400, rate=1).span_ms == DAY_MS
    assert SyntheticConfig(transactions=1_000, days=3).span_ms == 3 * DAY_MS
    assert SyntheticConfig(accounts=100, days=10).total == 3_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraud_rate": 0.6}, "fraud_rate must be between 0 and 0.5"),
        ({"transactions": 0}, "transactions must be between 1"),
        ({"transactions": 10, "days": 1, "rate": 1}, "at most two"),
        ({"accounts": 3}, "accounts must be"),
        ({"merchants": 20}, "merchants must be"),
        ({"drift_at": 1.0}, "drift_at must be a share"),
        ({"drift": "sideways"}, "drift must be one of"),
        ({"mix": {"phishing": 1.0}}, "unknown scenarios in the mix: phishing"),
        ({"mix": {"stolen_card": 0.0}}, "at least one above 0"),
        ({"mix": {"stolen_card": float("nan")}}, "shares of 0 or more"),
        ({"fraud_rate": float("nan")}, "fraud_rate must be"),
        ({"transactions": 5, "rate": 1000}, "must last between a minute"),
    ],
)
def test_bad_configurations_say_what_is_wrong(options: dict[str, Any], message: str) -> None:
    """Every bad value is refused with its name and the allowed range."""
    with pytest.raises(BadInput, match=message):
        SyntheticConfig(**options)


def test_a_mix_of_one_scenario() -> None:
    """A mix may leave scenarios out."""
    rows = frame(transactions=5_000, fraud_rate=0.1, mix={"card_testing": 3.0})
    assert set(rows["scenario"]) == {"", "card_testing"} and rows["is_fraud"].sum() == 500


def test_few_accounts_and_devices_still_work() -> None:
    """The smallest world: every pick stays in range."""
    rows = frame(transactions=3_000, accounts=10, devices=10, fraud_rate=0.3)
    assert rows["account_id"].n_unique() == 10
    assert not np.isnan(rows["amount"].to_numpy()).any()
