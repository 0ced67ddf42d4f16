"""The profile of a source, against polars over the whole data, and its three forms."""

from __future__ import annotations

import struct
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from console.plots.profile import write_plots
from sources.analysis import AMOUNT_BANDS, Profile, Slice, analyze, table
from sources.catalogue import open_source
from sources.synthetic import SyntheticConfig, SyntheticStream


@pytest.fixture(scope="module")
def source() -> SyntheticStream:
    return SyntheticStream(SyntheticConfig(transactions=40_000, fraud_rate=0.03, accounts=300))


@pytest.fixture(scope="module")
def rows(source: SyntheticStream) -> pl.DataFrame:
    return pl.concat(list(source.tables())).with_columns(pl.from_epoch("occurred_at", "ms").alias("at"))


@pytest.fixture(scope="module")
def profile(source: SyntheticStream) -> Profile:
    return analyze(source)


def counted(rows: pl.DataFrame, key: pl.Expr) -> dict[object, tuple[int, int]]:
    grouped = rows.group_by(key.alias("key")).agg(pl.len(), pl.col("is_fraud").sum())
    return {key: (n, frauds) for key, n, frauds in grouped.iter_rows()}


def test_breakdowns_agree_with_a_group_by(profile: Profile, rows: pl.DataFrame) -> None:
    """Hours, weekdays and days hold what a group-by over the calendar finds."""
    for slices, key, name in (
        (profile.hours, pl.col("at").dt.hour(), lambda k: f"{k:02d}"),
        (profile.weekdays, pl.col("at").dt.strftime("%A"), str),
        (profile.days, pl.col("at").dt.date(), str),
    ):
        expected = {name(k): v for k, v in counted(rows, key).items()}
        assert {s.name: (s.transactions, s.frauds) for s in slices} == expected


def test_amount_bands_are_closed_below_and_complete(profile: Profile, rows: pl.DataFrame) -> None:
    """A band takes its lower edge, not its upper; the bands add up to everything."""
    assert [s.name for s in profile.amounts] == list(AMOUNT_BANDS)
    assert profile.amounts[0].transactions == (rows["amount"] < 5).sum()
    assert profile.amounts[1].transactions == ((rows["amount"] >= 5) & (rows["amount"] < 10)).sum()
    assert sum(s.transactions for s in profile.amounts) == 40_000
    assert sum(s.frauds for s in profile.amounts) == profile.frauds == 1_200


def test_totals_quantiles_scenarios_and_missing_fields(profile: Profile, rows: pl.DataFrame) -> None:
    """The remaining figures agree with polars."""
    per_account = rows.group_by("account_id").len()["len"]
    assert profile.accounts == per_account.len()
    assert profile.per_account["0.5"] == per_account.median()
    assert profile.amount_frauds["1.0"] == rows.filter("is_fraud")["amount"].max()
    assert profile.amount_legitimate["0.5"] == pytest.approx(
        rows.filter(~pl.col("is_fraud"))["amount"].median(), abs=0.01
    )
    assert profile.amount_fraud == pytest.approx(rows.filter("is_fraud")["amount"].sum())
    assert profile.missing["device_id"] == (rows["device_id"] == "").sum() / 40_000
    assert profile.missing["currency"] == 0
    assert {s.name: s.frauds for s in profile.scenarios} == dict(
        rows.filter("is_fraud").group_by("scenario").len().iter_rows()
    )
    assert (profile.first, profile.last) == (rows["occurred_at"].min(), rows["occurred_at"].max())


def test_the_table_shows_the_main_figures(profile: Profile) -> None:
    """A person sees totals, the fraud rate, hours, bands and scenarios."""
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(profile))
    text = console.export_text()
    for expected in ("40,000 transactions", "1,200 (3.00%", "by hour (UTC)", "below 5", "stolen_card", "quantiles"):
        assert expected in text


def test_plots_are_png_files_of_some_size(profile: Profile, tmp_path: Path) -> None:
    """One picture a breakdown, in a directory that is made if missing."""
    files = write_plots(profile, tmp_path / "plots")
    assert [f.name for f in files] == ["hours.png", "weekdays.png", "amounts.png", "days.png", "scenarios.png"]
    for file in files:
        content = file.read_bytes()
        assert content.startswith(b"\x89PNG") and struct.unpack(">II", content[16:24]) == (1080, 540)


def test_data_without_labels_have_a_profile(tmp_path: Path) -> None:
    """No label column: no frauds, everything unlabelled, and the table still renders."""
    (tmp_path / "m.toml").write_text(
        '[columns]\naccount_id = "a"\namount = "x"\n[time]\ncolumn = "t"\nformat = "epoch_s"\n', encoding="utf-8"
    )
    (tmp_path / "d.csv").write_text("a,x,t\n1,2.5,1800000000\n1,3.5,1800000060\n", encoding="utf-8")
    profile = analyze(open_source("custom", tmp_path / "d.csv", mapping=tmp_path / "m.toml"))
    assert (profile.transactions, profile.frauds, profile.unlabelled) == (2, 0, 2)
    assert profile.amount_frauds == {} and profile.scenarios == ()
    Console(width=100, file=(tmp_path / "out.txt").open("w")).print(table(profile))
    assert len(write_plots(profile, tmp_path)) == 4


def test_an_empty_slice_has_a_rate_of_zero() -> None:
    """No transactions, no division by zero."""
    assert Slice("03", 0, 0).fraud_rate == 0.0
