"""The package for notebooks: each method gives what the reader behind it gives, as of any moment. It only reads."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import stream_sentinel
from console import wiring
from core.codec import decode_score
from core.errors import Unavailable
from core.log.memory import MemoryLog
from core.log.readonly import ReadOnlyLog
from core.settings import Settings
from projections.catalogue import ALL
from projections.engine.states import open_states
from projections.views.profiles.answers import profile_answer
from stream_sentinel import BadInput, Log, open_log
from tests.builders import baseline_log, log_notebook
from tests.builders.logs import entries
from tests.builders.tokened import Tokened


@pytest.fixture(scope="module")
def memory() -> MemoryLog:
    """A month of payments, decided."""
    found = MemoryLog()
    baseline_log.fill(found, transactions=1200, accounts=30)
    return found


@pytest.fixture
def log(memory: MemoryLog, tmp_path: Path) -> Iterator[Log]:
    """The log, opened so that whoever writes to it fails."""
    yield Log(ReadOnlyLog(memory), Settings(), checkpoints=tmp_path)


def test_decisions_are_a_frame_of_what_matches(log: Log) -> None:
    """Newest first, with times in any of their forms, and only the columns asked for."""
    everything = log.decisions()
    assert everything.height == 1200 and everything["received_at"].is_sorted(descending=True)
    assert "features" not in everything.columns and log.decisions(columns=["features"], limit=1).width == 1
    moment = datetime(2026, 1, 12, tzinfo=UTC)
    forms: list[Any] = [moment, moment.replace(tzinfo=None), "2026-01-12", int(moment.timestamp() * 1000)]
    found = [log.decisions(start=form, min_amount=50, alerts=True) for form in forms]
    wanted = everything.filter(
        pl.col("received_at") >= moment, pl.col("amount_base") >= 50, pl.col("severity").is_not_null()
    )
    assert wanted.height > 5 and all(each.equals(wanted) for each in found)
    assert found[0].to_pandas()["amount"].sum() == pytest.approx(wanted["amount"].sum())


def test_tables_and_sql_agree(log: Log) -> None:
    """A table read whole is what SELECT * gives; a period is a part of it."""
    for name in ("alerts", "feedback", "seals", "control"):
        assert log.sql(f"select * from {name}").sort("payload").equals(log.table(name).sort("payload"))
    part = log.table("transactions", start="2026-01-12", end="2026-01-14", columns=["place", "received_at"])
    days = part["received_at"].dt.day().unique().sort().to_list()
    assert days == [12, 13] and part.columns == ["place", "received_at"]
    assert log.table("rejects").height == 0
    assert log.sql("select 1 as x, 2 as x").row(0, named=True) == {"x": 1, "x_1": 2}


def test_an_account_is_what_was_known(log: Log, memory: MemoryLog) -> None:
    """As of now and of a decision; the log's own reader says the same."""
    place, account = log.decisions(limit=600).select("place", "account_id").row(-1)
    for moment in (None, place):
        states = open_states(memory, ALL, now_ms=0, as_of=moment)
        at = log if moment is None else log.at(moment)
        assert at.account(account).profile == profile_answer(states, account).profile
    then, now = log.at(place).account(account).profile, log.account(account).profile
    assert then is not None and now is not None and 0 < then.transactions < now.transactions
    assert log.account("nobody").profile is None


def test_as_of_a_moment_everything_is_as_it_was(log: Log) -> None:
    """Searches, tables and SQL see the same payments; nothing later."""
    then = log.at("p01:1-100")
    count = then.decisions().height
    assert 0 < count < 1200 and count == then.table("scores").height
    assert then.sql("select count(*) as n from decisions")["n"][0] == count


def test_a_what_if_is_the_live_path_with_changes(log: Log, memory: MemoryLog) -> None:
    """Without a change it is the logged decision, bit for bit; with other thresholds or values another one."""
    declined = log.decisions(decision="decline", limit=1)
    place, name = declined["place"][0], declined["transaction_id"][0]
    same = log.what_if(place)
    entry = next(e for e in entries(memory, int(place[1:3]), "scores") if str(e.id) == place[4:])
    score = decode_score(entry.payload)
    assert same.reproduced and same.logged == same.changed and same.logged.margin == score.margin
    milder = log.what_if(name, review=0.9999, decline=1.0, disabled=score.rules)
    assert (milder.place, milder.changed.decision) == (place, "approve")
    assert log.at(place).what_if(place) == same == log.at(place).what_if(name)
    other = log.what_if(place, amount=1.0, country="DE")
    assert other.changed.margin != score.margin


def test_no_what_if_about_a_decision_after_the_moment(log: Log) -> None:
    """By place or ID, of the moment's partition or of another; the log as of now answers."""
    then = log.at("p01:1-100")
    for place, name in log.decisions(limit=3).select("place", "transaction_id").rows():
        for asked in (place, name):
            with pytest.raises(BadInput, match=f"{place} was decided after p01:1-100"):
                then.what_if(asked)
        assert log.what_if(place).reproduced


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda log: log.decisions(start="soon"), "'soon' is not a time"),
        (lambda log: log.decisions(start="2026-02-01", end="2026-01-01"), "start must be before end"),
        (lambda log: log.decisions(columns=["score"]), "decisions has no column 'score'"),
        (lambda log: log.decisions(account=""), "account is empty"),
        (lambda log: log.decisions(card="", account="a1"), "card is empty"),
        (lambda log: log.decisions(limit=0), "limit is 0"),
        (lambda log: log.decisions(limit=-1), "limit is -1"),
        (lambda log: log.decisions(limit=2**33), "limit is 8589934592"),
        (lambda log: log.decisions(columns=["place", "place"]), "'place' is named twice"),
        (lambda log: log.table("seals", columns=["place", "digest", "digest"]), "seals has no column 'place'"),
        (lambda log: log.table("seals", columns=["digest", "digest"]), "'digest' is named twice"),
        (lambda log: log.table("scores", start=2**70), "is not a time"),
        (lambda log: log.sql("select 1", memory_mb=-1), "64 at least"),
        (lambda log: log.sql("select 1 as one, interval 1 month as span"), r"span \(month_day_nano"),
        (lambda log: log.table("payments"), "there is no table 'payments'"),
        (lambda log: log.sql("drop table decisions"), "give one SELECT"),
        (lambda log: log.at("never"), "is not a time"),
        (lambda log: log.what_if("nothing"), "is not in the log"),
        (lambda log: log.what_if("p00:1-1", colour="red"), "colour"),
        (lambda log: log.what_if("p00:1-1", amount=-1.0), "amount"),
        (lambda log: log.what_if("p00:1-1", review=2.0), "at most 1"),
        (lambda log: open_log(colour="red"), "colour"),
    ],
)
def test_a_mistake_is_one_line(call: Any, said: str, log: Log) -> None:
    """BadInput, with what is wrong."""
    with pytest.raises(BadInput, match=said) as refused:
        call(log)
    assert "\n" not in str(refused.value)


def test_a_log_that_is_not_there_is_unavailable() -> None:
    """As for every command."""
    with pytest.raises(Unavailable):
        open_log(redis_port=1)


def test_open_log_reads_as_of_a_moment(memory: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment is checked at once, and a log that is not used is closed."""
    closed: list[bool] = []
    monkeypatch.setattr(wiring, "open_log", lambda settings: memory)
    monkeypatch.setattr(memory, "close", lambda: closed.append(True), raising=False)
    with open_log(as_of="p01:1-100") as then:
        assert 0 < then.decisions().height < 1200 and not closed
    assert closed == [True]
    with pytest.raises(BadInput):
        open_log(as_of="never")
    assert closed == [True, True]


def test_a_log_with_tokens_is_asked_by_raw_identifiers(tmp_path: Path) -> None:
    """Where its vault is; what it answers with are tokens."""
    tokened = Tokened(tmp_path)
    log = Log(tokened.log, Settings(tokenise=True, vault=str(tmp_path / "vault" / "keys")), checkpoints=tmp_path)
    found = log.decisions(account="person-7")
    assert found.height == 2 and found["account_id"].str.starts_with("acct_").all()
    profile = log.account("person-7").profile
    assert profile is not None and profile.transactions == 2


def test_what_is_public_is_annotated_and_described() -> None:
    """Every name of `__all__`, and every public method of a log."""
    assert sorted(stream_sentinel.__all__) == stream_sentinel.__all__
    methods = [each for name, each in inspect.getmembers(Log, inspect.isfunction) if not name.startswith("_")]
    assert len(methods) >= 7
    for each in [*methods, open_log]:
        found = inspect.signature(each)
        assert each.__doc__ and found.return_annotation is not inspect.Signature.empty
        named = [p for p in found.parameters.values() if p.name != "self"]
        assert all(p.annotation is not inspect.Parameter.empty for p in named), each


def test_the_notebook_is_up_to_date() -> None:
    """Run again, it gives what it shows; if not: python -m tests.builders.notebook."""
    assert log_notebook.FILE.read_text(encoding="utf-8") == log_notebook.written()
