"""`sentinel train`: from a log to a folder with a model and its card, into the registry, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from console import wiring
from console.cli import application
from core.codec import decode_control
from core.context import Resolver
from core.errors import BadInput
from core.events import ModelRegistered
from core.log.memory import MemoryLog
from core.times import DAY_MS
from ingest.offline import OfflineIngest
from sources.synthetic import SyntheticConfig, SyntheticStream

SHORT = ("--gap-days", "2", "--warm-up-days", "2", "--no-plots")


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    config = SyntheticConfig(transactions=8_000, accounts=120, merchants=200, fraud_rate=0.06, seed=5)
    log = MemoryLog()
    offline = OfflineIngest(log, Resolver(log.get_blob, wiring.load_scorer), partitions=2)
    for chunk in SyntheticStream(config, flush_feedback=True).records():
        offline.feed(chunk)
    offline.flush()
    return log


@pytest.fixture
def log(decided: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    monkeypatch.setattr(wiring, "open_log", lambda s: decided)
    return decided


def run(*arguments: str) -> Any:
    found = CliRunner().invoke(application(["train"]), ["train", *arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found


def test_a_model_with_its_card_is_written_and_registered(log: MemoryLog, tmp_path: Path) -> None:
    """model.txt is what card and registry name; running again gives the same bytes and registers once."""
    arguments = ("--output", str(tmp_path), "--name", "champ", "--version", "2.1.0", "--register", "--actor", "ann")
    card = msgspec.json.decode(run(*arguments, *SHORT, "--reason", "weekly", "--json").stdout.splitlines()[-1])
    content = (tmp_path / "model.txt").read_bytes()
    event = decode_control(log.read_control(card["registered_at"] - 1, 1)[0][1])
    assert isinstance(event, ModelRegistered)
    assert (event.name, event.version, event.actor, event.reason) == ("champ", "2.1.0", "ann", "weekly")
    assert log.get_blob(event.digest) == content
    assert msgspec.json.decode((tmp_path / "card.json").read_bytes())["digest"] == event.digest == card["digest"]
    assert "champ 2.1.0" in (tmp_path / "card.md").read_text(encoding="utf-8")
    wiring.load_scorer(content, "champ-2.1.0", event.digest)
    again = msgspec.json.decode(run(*arguments, *SHORT, "--json").stdout.splitlines()[-1])
    assert again == card


def test_the_window_flags_choose_the_days(log: MemoryLog, tmp_path: Path) -> None:
    """--from, --until, --test-days, --gap-days and --known-until are in the card; a first training takes no warm-up."""
    card = msgspec.json.decode(
        run(
            *("--from", "2026-01-07", "--until", "2026-01-26", "--test-days", "6", "--gap-days", "3", "--known-until"),
            *("2026-02-20", "--known-by", "event", "--class-weight", "balanced", "--no-exclude-known", "--no-plots"),
            *("--missing-tables", "0", "--no-calibrate", "--output", str(tmp_path), "--json"),
        ).stdout.splitlines()[-1]
    )
    split, known = card["split"], card["known"]
    assert split["train_ms"][0] == 1767744000000  # 2026-01-07
    assert 0 <= 1769385600000 - split["test_ms"][1] < DAY_MS  # 2026-01-26, less what no payment reaches
    assert split["test_ms"][1] - split["test_ms"][0] == 6 * DAY_MS
    assert split["test_ms"][0] - split["train_ms"][1] == 3 * DAY_MS
    assert (known["clock"], known["maturity_days"], known["until_ms"]) == ("event", 3.0, 1771545600000)
    assert card["parameters"]["scale_pos_weight"] > 1 and not card["calibration"]["fitted"]
    assert split["test_excluded"] == card["missing_tables_share"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "yesterday"), "--from 'yesterday' is not a valid time"),
        (("--from", "2031-01-01"), "no transactions in the window"),
        (("--version", "1.0"), "not a semantic version"),
        (("--name", "a b"), "--name 'a b' is not valid"),
        (("--known-by", "me"), "--known-by"),
        (("--class-weight", "heavy"), "--class-weight"),
        (("--class-weight", "-1"), "class weight"),
        (("--maturity-days", "30"), "must not exceed --gap-days"),
        (("--gap-days", "60"), "too little data"),
        (("--test-days", "0.1"), "too few frauds"),
        (("--known-until", "2026-01-06"), "none of them is mature at 2026-01-06 00:00"),
        (("--synthetic", "10000", "--register"), "--register can't be combined with --synthetic"),
    ],
)
def test_what_can_not_be_trained_is_said_in_one_line(
    log: MemoryLog, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """Unknown dates, empty windows, too little data and flags that make no sense are bad input."""
    with pytest.raises(BadInput) as error:
        run(*SHORT, *arguments, "--output", str(tmp_path / "none"))
    assert words in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "none").exists()
