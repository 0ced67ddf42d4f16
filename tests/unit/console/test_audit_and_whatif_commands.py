"""`sentinel audit` and `sentinel whatif` as commands, on Valkey: what they print, write and exit with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from console.commands.audit import choose
from console.stack import Valkey
from core.codec import decode_score, decode_transaction, encode
from core.events import Position
from core.features import spec
from core.log.redis_streams import RedisLog, connect
from models.shipped import BASELINE_DIRECTORY
from tests.builders.baseline_log import PARTITIONS, fill
from tests.builders.command_line import Ran, run_command

PREFIX = f"audit-{os.getpid()}"


Sentinel = Callable[..., Ran]


@pytest.fixture(scope="module")
def log(valkey_server: Valkey) -> Iterator[RedisLog]:
    log = connect(valkey_server.host, valkey_server.port, prefix=PREFIX)
    fill(log, transactions=2500, accounts=40)
    yield log
    log.close()


@pytest.fixture
def client(valkey_server: Valkey) -> redis.Redis:
    return redis.Redis(valkey_server.host, valkey_server.port)


@pytest.fixture
def sentinel(
    log: RedisLog,
    valkey_server: Valkey,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Sentinel:
    """Runs a command on the log, in an empty directory and in this process. A traceback is an error."""
    monkeypatch.setenv("REDIS_HOST", valkey_server.host)
    monkeypatch.setenv("REDIS_PORT", str(valkey_server.port))
    monkeypatch.setenv("SENTINEL_LOG_PREFIX", PREFIX)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Ran:
        return run_command(monkeypatch, capsys, *arguments)

    return run


def keys(client: redis.Redis) -> dict[bytes, bytes | None]:
    """Every key of the server with its whole value."""
    return {key: client.dump(key) for key in client.scan_iter(count=1000)}


def alert(log: RedisLog, partition: int = 1, row: int = 3) -> tuple[Position, str, str]:
    """(position, transaction, account) of an alert."""
    position = log.read(partition, "alerts", Position(0, 0), 100)[row].id
    t = decode_transaction(log.get(partition, "transactions", position) or b"")
    return position, t.transaction_id, t.account_id


def test_an_audit_as_text_json_and_page(sentinel: Sentinel, log: RedisLog, tmp_path: Path) -> None:
    """By ID, by ID and account, and by place it is one story: identical, exit 0, with a page that is written."""
    position, transaction_id, account_id = alert(log)
    text = sentinel("audit", transaction_id, "--html", tmp_path / "a.html")
    assert text.code == 0 and "\nidentical:" in text.out and text.err == ""
    assert transaction_id in (tmp_path / "a.html").read_text(encoding="utf-8")
    by_account = sentinel("audit", transaction_id, "--account", account_id, "--json").json
    by_place = sentinel("audit", "--position", f"p01:{position}", "--json").json
    assert by_account == by_place
    assert by_place["recomputed"]["identical"] is True
    assert by_place["raw"]["transaction_id"] == by_place["transaction_id"] == transaction_id
    assert by_place["alert"]["alert_id"] == f"01:{position}"
    assert by_place["model"]["deployed"]["reason"] == "passed the checks"
    assert len(by_place["features"]) == spec.WIDTH


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-transaction"], "transaction no-such-transaction is not in the log; check the ID"),
        (["--position", "p01:9-9"], "no transaction at p01:9-9"),
        (["--position", "p77:1-1"], "no transaction at p77:1-1"),
        (["--position", "here"], "'here' is not a valid position"),
        ([], "missing transaction"),
        (["t1", "--sample", "3"], "--sample can't be combined"),
    ],
)
def test_what_is_not_there_is_one_line_and_exit_2(sentinel: Sentinel, arguments: list[str], says: str) -> None:
    """Unknown IDs and places, and options that don't go together."""
    ended = sentinel("audit", *arguments)
    assert ended.code == 2 and ended.out == ""
    assert says in ended.err and ended.err.count("\n") == 1


def test_a_repeated_id_lists_its_places(sentinel: Sentinel, log: RedisLog, client: redis.Redis) -> None:
    """Two accounts may use one ID: the audit asks which, and --account or --position answers."""
    position, transaction_id, account_id = alert(log, 0)
    other = log.read(2, "transactions", Position(0, 0), 1)[0]
    twin = encode(msgspec.structs.replace(decode_transaction(other.payload), transaction_id=transaction_id))
    with swapped(client, log.key(2, "transactions"), other.id, twin):
        ended = sentinel("audit", transaction_id)
        assert ended.code == 2
        assert f"p00:{position} (account {account_id})" in ended.err and f"p02:{other.id}" in ended.err
        assert sentinel("audit", transaction_id, "--account", account_id).code == 0
        assert sentinel("audit", transaction_id, "--position", f"p00:{position}").code == 0


def test_a_tampered_score_is_shown_and_exits_1(sentinel: Sentinel, log: RedisLog, client: redis.Redis) -> None:
    """Not identical: the difference is named in the audit, its page, its JSON and the sample."""
    position, transaction_id, _ = alert(log)
    score = decode_score(log.get(1, "scores", position) or b"")
    forged = encode(msgspec.structs.replace(score, probability=0.001, decision="approve"))
    with swapped(client, log.key(1, "scores"), position, forged):
        ended = sentinel("audit", transaction_id, "--html", "a.html")
        assert ended.code == 1 and "NOT identical" in ended.out
        assert "decision: logged 'approve', recomputed 'review'" in ended.out or "recomputed 'decline'" in ended.out
        assert "NOT identical" in Path("a.html").read_text(encoding="utf-8")
        as_json = sentinel("audit", transaction_id, "--json")
        assert as_json.code == 1 and as_json.json["recomputed"]["identical"] is False
        total = sum(log.length(p, "scores") for p in range(PARTITIONS))
        sampled = sentinel("audit", "--sample", total, "--jobs", "1")
        assert sampled.code == 1
        assert sampled.out == f"{total:,} audited, {total - 1:,} identical\n"
        assert f"p01:{position}, transaction {transaction_id}:" in sampled.err


def test_a_sample_is_identical_in_any_number_of_processes(sentinel: Sentinel) -> None:
    """The line that the runbook reads, and the same as JSON."""
    ended = sentinel("audit", "--sample", "200", "--seed", "5", "--jobs", "2")
    assert (ended.code, ended.out, ended.err) == (0, "200 audited, 200 identical\n", "")
    assert sentinel("audit", "--sample", "50", "--jobs", "1", "--json").json == {
        "audited": 50,
        "identical": 50,
        "undecidable": {},
        "different": [],
    }


def test_a_sample_is_drawn_over_all_partitions() -> None:
    """Every row is as likely as any other, rows are within their partition, and a seed repeats the choice."""
    lengths = {0: 10, 1: 0, 5: 1000}
    assert choose(lengths, 2000, 1) == {0: list(range(10)), 5: list(range(1000))}
    drawn = choose(lengths, 500, 1)
    assert drawn == choose(lengths, 500, 1) != choose(lengths, 500, 2)
    assert sum(map(len, drawn.values())) == 500 and max(drawn[5]) < 1000
    assert choose({}, 5, 1) == {}


def test_whatif_without_a_change_changes_nothing(sentinel: Sentinel, log: RedisLog) -> None:
    """No option: every decision comes out as logged."""
    found = sentinel("whatif", "--json", "--jobs", "1").json
    assert found["total"]["decisions"] == sum(log.length(p, "scores") for p in range(PARTITIONS))
    assert (found["total"]["changed"], found["table"], found["changes"]) == (0, [], [])


def test_neither_command_writes_a_key(sentinel: Sentinel, client: redis.Redis, log: RedisLog, tmp_path: Path) -> None:
    """Every key of the server has the same value before and after, whatever is changed."""
    before = keys(client)
    assert len(before) > 3 * PARTITIONS
    (tmp_path / "rules.toml").write_text('disabled = ["CARD_TESTING"]\n[parameters]\nvelocity_10m = 3\n')
    model = BASELINE_DIRECTORY / "model.txt"
    changed = ["--review", "0.1", "--decline", "0.3", "--rule", "amount_high=10", "--disable", "UNUSUAL_HOUR"]
    ended = sentinel(
        "whatif", *changed, "--rules", "rules.toml", "--model", model, "--plot", "p.png", "--jobs", "2", "--json"
    )
    assert ended.code == 0 and ended.json["total"]["changed"] > 0
    assert (tmp_path / "p.png").stat().st_size > 10_000
    assert "model model (" in ended.json["changes"][0]
    assert sentinel("audit", alert(log)[1]).code == 0
    assert sentinel("audit", "--sample", "20", "--jobs", "1").code == 0
    assert keys(client) == before


def test_whatif_over_a_stretch_with_a_model_of_the_log(sentinel: Sentinel, log: RedisLog) -> None:
    """A blob's digest is a model too; times and positions bound the stretch."""
    card = msgspec.json.decode((BASELINE_DIRECTORY / "card.json").read_bytes())
    days = sentinel("whatif", "--json", "--jobs", "1").json["days"]
    day = days[len(days) // 2]
    options = ["--from", day["day"], "--to", days[len(days) // 2 + 1]["day"], "--jobs", "1", "--json"]
    found = sentinel("whatif", *options, "--model", card["digest"]).json
    assert found["total"]["decisions"] == day["decisions"] and [d["day"] for d in found["days"]] == [day["day"]]
    last = log.read(1, "scores", Position(0, 0), 40)[-1].id
    some = sentinel("whatif", "--partition", "1", "--to", last, "--json").json
    assert some["total"]["decisions"] == 40


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--review", "1.5"], "--review"),
        (["--review", "0.8", "--decline", "0.2"], "thresholds"),
        (["--review", "0.99"], "thresholds"),
        (["--rule", "velocity_10m"], "NAME=VALUE"),
        (["--rule", "nonsense=1"], "nonsense"),
        (["--disable", "NONSENSE"], "NONSENSE"),
        (["--rules", "missing.toml"], "missing.toml"),
        (["--model", "missing.txt"], "missing.txt"),
        (["--model", "0" * 64], "no blob"),
        (["--model", __file__], "model"),
        (["--from", "yesterday"], "--from"),
        (["--from", "2100-01-01"], "no decision"),
        (["--partition", "99"], "partition 99"),
        (["--plot", "no/such/folder.png"], "no/such/folder.png"),
    ],
)
def test_whatif_refuses_in_one_line(sentinel: Sentinel, arguments: list[str], says: str) -> None:
    """A change that could not be in force, a file that is not there, an empty stretch."""
    ended = sentinel("whatif", *arguments, "--jobs", "1")
    assert ended.code == 2 and ended.out == ""
    assert says in ended.err and ended.err.count("\n") == 1


class swapped:
    """A stream entry with other bytes, for the length of a `with`: the stream is rebuilt, and put back after."""

    def __init__(self, client: redis.Redis, key: bytes, position: Position, payload: bytes) -> None:
        self._client, self._key, self._id, self._payload = client, key, str(position).encode(), payload

    def __enter__(self) -> None:
        self._before = self._client.dump(self._key)
        entries: Any = self._client.xrange(self._key)
        self._client.delete(self._key)
        assert self._id in [i for i, _ in entries]
        for i, fields in entries:
            self._client.xadd(self._key, {"e": self._payload} if i == self._id else fields, id=i)

    def __exit__(self, *exception: object) -> None:
        self._client.restore(self._key, 0, self._before, replace=True)
