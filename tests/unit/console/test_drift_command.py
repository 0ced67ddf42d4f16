"""`sentinel drift` on a log in memory: what it prints, publishes, draws and refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from console import cli, wiring
from core import control_stream
from core.codec import decode_score, decode_transaction, encode
from core.context import Resolver
from core.events import DriftDetected
from core.log.memory import MemoryLog
from ingest.offline import OfflineIngest
from sources.synthetic import SyntheticConfig, SyntheticStream
from tests.builders.logs import entries
from tests.builders.models import ARTIFACT, deployed, load_tiny

SHORT = ("--settle-days", "8", "--reference-days", "7", "--maturity-days", "1")


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out.splitlines()[-1])


Sentinel = Callable[..., Ended]


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    """32 days of 200 accounts with 5 % fraud, decided by the tiny model; honest spending rises on day 17."""
    log = MemoryLog()
    log.put_blob(ARTIFACT)
    offline = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=2, reference=False, start=[deployed()])
    config = SyntheticConfig(
        days=32,
        accounts=200,
        seed=5,
        drift_at=17 / 32,
        drift="behaviour",
        rate=0.008,
        fraud_rate=0.05,
        label_delay_days=1,
    )
    for chunk in SyntheticStream(config).records():
        offline.feed(chunk)
    offline.flush()
    return log


@pytest.fixture
def log(decided: MemoryLog) -> MemoryLog:
    """The log with a control stream of its own."""
    return decided.clone()


@pytest.fixture
def sentinel(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Sentinel:
    """Runs a command on the log, in an empty directory and in this process. A traceback is an error."""
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["sentinel", "drift", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return Ended(int(code) if isinstance(code, int) else 0, *capsys.readouterr())

    return run


def test_a_look_shows_features_and_performance_and_writes_nothing(sentinel: Sentinel, log: MemoryLog) -> None:
    """The table has every tested feature with its effects, the labels' figures and the estimate; the log stays."""
    ended = sentinel(*SHORT, "--all")
    assert ended.code == 0
    assert "amount " in ended.out and "settling" in ended.out and "excluded" in ended.out
    assert "auc_roc" in ended.out and "expected without labels" in ended.out
    assert log.control_head() == 5


def test_json_holds_the_whole_look(sentinel: Sentinel) -> None:
    """The object has windows, rows, every feature of the spec and the score, and what drifted."""
    found = sentinel(*SHORT, "--json", "--as-of", "2026-02-04").json
    look = found["look"]
    assert look["current"][1] - look["current"][0] == 7 * 86_400_000
    assert {each["feature"] for each in look["features"]} >= {"amount", "score", "day_of_week", "alerts:rate"}
    assert [each["feature"] for each in found["drifted"]]
    assert look["labels"]["now"]["rows"] > 100
    assert found["published"] == []


def test_decisions_of_another_engine_are_left_out_and_counted(sentinel: Sentinel, log: MemoryLog) -> None:
    """Those that this release can't read are no rows of a window, and the look says how many there are."""
    before = sentinel(*SHORT, "--json").json["look"]
    start, end = before["current"]
    times = [decode_transaction(entry.payload).received_at for entry in entries(log, 0, "transactions")]
    inside = [score for at, score in zip(times, entries(log, 0, "scores"), strict=True) if start <= at < end]
    for entry in inside[:3]:
        log.tamper(0, "scores", entry.id, encode(msgspec.structs.replace(decode_score(entry.payload), engine=99)))
    look = sentinel(*SHORT, "--json").json["look"]
    assert (before["left_out"], look["left_out"], look["reference_left_out"]) == (0, 3, 0)
    assert look["rows"] == before["rows"] - 3
    assert "(3 of another engine or feature spec left out)" in sentinel(*SHORT).out


def test_publishing_appends_once(sentinel: Sentinel, log: MemoryLog) -> None:
    """--publish appends what drifted with the look's windows; the same look again appends nothing."""
    first = sentinel(*SHORT, "--publish", "--json").json
    told = [event for _, event in control_stream.accepted(log) if isinstance(event, DriftDetected)]
    assert [event.feature for event in told] == [event["feature"] for event in first["published"]]
    assert told
    assert all(event.rows and event.reference_rows and event.p_value_adjusted is not None for event in told)
    before = log.control_head()
    assert sentinel(*SHORT, "--publish", "--json").json["published"] == []
    assert log.control_head() == before


def test_plots_are_pngs(sentinel: Sentinel, tmp_path: Path) -> None:
    """--plots writes the overview and one picture of each feature that drifted."""
    ended = sentinel(*SHORT, "--plots", "out", "--json")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    features = [each["feature"] for each in ended.json["drifted"] if ":" not in each["feature"]]
    assert names == {"effects.png", *(f"{feature}.png" for feature in features)}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "out").iterdir())


def test_a_young_log_is_told_when_it_can_be_looked_at(sentinel: Sentinel) -> None:
    """A log that is too short is no mistake: plain words, what it covers, when the first look is, exit code 0."""
    ended = sentinel()
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("too early to compare: the log covers 2026-01-05")
    assert "the first look is possible at 2026-02-28" in ended.out and "--settle-days 7" in ended.out
    assert sentinel("--json").json["look"] is None
    assert sentinel("--publish").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--as-of", "yesterday"), "not a valid time"),
        (("--reference-days", "10"), "whole weeks"),
        (("--window-days", "0"), "window-days"),
        (("--share", "2"), "share of accounts"),
        (("--as-of", "2026-02-01", "--follow"), "--follow"),
        ((*SHORT, "--reference-start", "2026-02-01"), "must end before"),
    ],
)
def test_what_can_not_be_done_is_one_line(sentinel: Sentinel, arguments: tuple[str, ...], words: str) -> None:
    """Too young a log and options that make no sense end with exit code 2 and one line that says why."""
    ended = sentinel(*arguments)
    assert ended.code == 2
    assert words in ended.err
    assert ended.err.count("\n") == 1
