"""Erasing people from a log with tokens: nothing leads to them any more, and every decision stays provable."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from console import wiring
from console.erasing import FEW, search
from core import control_stream, verification
from core.codec import decode_transaction
from core.errors import BadInput, Unavailable
from core.events import AccountsErased, ListChanged
from core.log.memory import MemoryLog
from core.replay import Timeline
from core.sealing import unseal
from tests.builders.events import T0
from tests.builders.logs import entries
from tests.builders.tokened import PARTITIONS, Tokened


def replayed(log: MemoryLog) -> int:
    """How many decisions are identical when they are decided again, all of them, without a vault."""
    timeline = Timeline(control_stream.history(log), wiring.open_resolver(log))
    found = [verification.verify(log, p, log.head(p), timeline) for p in range(PARTITIONS)]
    assert all(each.identical == each.decisions for each in found)
    return sum(each.identical for each in found)


def test_who_is_erased_is_nobody_any_more(tmp_path: Path) -> None:
    """The keys are gone, the log says so, every decision is identical on replay, and who returns is somebody new."""
    on = Tokened(tmp_path)
    keys = on.vault.find("person-7")
    assert keys is not None
    sealed = [decode_transaction(e.payload) for p in range(PARTITIONS) for e in entries(on.log, p, "transactions")]
    mine = next(t for t in sealed if t.account_id == keys.token)
    assert unseal(keys.key, "email", str(mine.attributes["email"])) == b"person-7@example.com"
    done = on.erase("person-7")
    assert (done.accounts, done.keys_destroyed, done.still_found) == ((keys.token,), 1, {})
    assert done.searched_bytes["log"] > 10_000 and done.searched_bytes["control"] > 500
    assert on.vault.find("person-7") is None and on.vault.by_token(keys.token) is None and on.vault.count == 59
    said = control_stream.history(on.log)[-1]
    assert isinstance(said.event, AccountsErased) and not said.refused and said.position == done.position
    assert said.event.accounts == (keys.token,) and len(said.event.seals) == PARTITIONS
    assert replayed(on.log) == 120
    on.forget()
    on.pay(["person-7", "person-8"])
    assert on.tokens()[120] not in on.tokens()[:120] and on.tokens()[121] in on.tokens()[:120]
    assert replayed(on.log) == 122
    assert not any(b"person-" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_many_are_erased_at_once_by_raw_id_or_token(tmp_path: Path) -> None:
    """A pass for all of them; what has no keys is refused, and then nothing is done."""
    on = Tokened(tmp_path)
    token = on.tokens()[0]
    with pytest.raises(BadInput, match="1 of 2 accounts have no keys"):
        on.erase("person-1", "stranger")
    assert on.vault.count == 60
    done = on.erase(token, *(f"person-{n}" for n in range(1, 40)))
    assert (done.keys_destroyed, on.vault.count, done.still_found) == (40, 20, {})
    with pytest.raises(BadInput, match="no keys"):
        on.erase("person-1")
    assert replayed(on.log) == 120


@pytest.mark.parametrize("others", [0, FEW + 1])
def test_what_still_holds_the_raw_id_is_named(tmp_path: Path, others: int) -> None:
    """A note that somebody wrote, and a file: one by one or as words of many."""
    on = Tokened(tmp_path / "on")
    on.note("person-3", "called person-3, who denies it")
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "list.csv").write_text("x;person-3;y\n")
    (folder / "other.csv").write_text("x;person-59;y\n")
    names = ["person-3", *(f"person-{n}" for n in range(10, 10 + others))]
    done = on.erase(*names, folders={"exports": folder})
    assert set(done.still_found) == {"log", "exports"} and done.still_found["exports"] == ["list.csv"]
    assert len(done.still_found["log"]) == 1 and ":feedback:" in done.still_found["log"][0]
    event = control_stream.history(on.log)[-1].event
    assert isinstance(event, AccountsErased) and event.found == {"log": 1, "exports": 1}


def test_ids_that_are_no_words_are_found_among_many(tmp_path: Path) -> None:
    """With spaces and signs in them, as a search for whole words would miss."""
    on = Tokened(tmp_path / "on")
    on.pay(["Ann: 7"])
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "list.csv").write_text("x;Ann: 7;y\n")
    done = on.erase("Ann: 7", *(f"person-{n}" for n in range(FEW)), folders={"exports": folder})
    assert done.still_found == {"exports": ["list.csv"]}


def test_keys_that_can_not_be_destroyed_are_not_recorded_as_erased(tmp_path: Path) -> None:
    """The vault notes an erasure and destroys the key in one transaction."""
    on = Tokened(tmp_path, accounts=3)
    with sqlite3.connect(tmp_path / "vault" / "keys") as file:
        file.execute("create trigger stuck before delete on accounts begin select raise(abort, 'stuck'); end")
    with pytest.raises(Unavailable, match="stuck"):
        on.erase("person-1")
    assert on.vault.unrecorded == [] and on.vault.find("person-1") is not None


def test_an_erasure_that_could_not_be_recorded_is_recorded_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys are destroyed first, so that no worker reads them again; the vault remembers what the log must say."""
    on = Tokened(tmp_path)
    first, second = on.tokens()[1], on.tokens()[2]
    append = MemoryLog.append_control

    def refuse(*_: object) -> None:
        raise Unavailable("gone")

    monkeypatch.setattr(MemoryLog, "append_control", refuse)
    with pytest.raises(Unavailable):
        on.erase("person-1")
    monkeypatch.setattr(MemoryLog, "append_control", append)
    assert on.vault.find("person-1") is None and on.vault.unrecorded == [first]
    on.erase("person-2")
    event = control_stream.history(on.log)[-1].event
    assert isinstance(event, AccountsErased) and set(event.accounts) == {first, second}
    assert on.vault.unrecorded == []


def test_raw_values_stand_on_no_list(tmp_path: Path) -> None:
    """The token does, by the raw value's command; merchants are no persons."""
    on = Tokened(tmp_path)

    def put(kind: Any, *values: str) -> None:
        event = ListChanged(occurred_at=T0, actor="ann", kind=kind, effect="block", add=values)
        control_stream.append(on.log, lambda known: [event])

    for kind in ("account", "device"):
        with pytest.raises(BadInput, match="tokens"):
            put(kind, "person-1")
        put(kind, *on.protection.listed(on.identity, kind, ["Phone-Person-1" if kind == "device" else "person-1"]))
    put("merchant", "shop-66")
    assert on.protection.listed(on.identity, "account", ["person-1"]) == [on.tokens()[1]]
    with pytest.raises(BadInput, match="network"):
        on.protection.listed(on.identity, "ip", ["10.0.0.0/8"])
    on.ingest.follow_control()
    on.pay(["person-1", "person-2"])
    pages = [e for p in range(PARTITIONS) for e in entries(on.log, p, "scores")]
    assert sum(b'"decline"' in e.payload for e in pages) == 1


def test_an_empty_search_finds_nothing(tmp_path: Path) -> None:
    """Tokens only: there is no raw ID to search for."""
    on = Tokened(tmp_path, accounts=3)
    assert search(on.log, [], {}) == ({"log": 0, "control": 0}, {})
    assert on.erase(on.tokens()[0]).searched_bytes == {"log": 0, "control": 0}
