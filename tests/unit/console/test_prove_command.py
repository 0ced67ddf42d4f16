"""`sentinel prove` on a log in Valkey: what it writes, the stand-alone verifier accepts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sentinel_verify import cli as verifier

from console.stack import Valkey
from core import control_stream
from core.codec import decode_transaction
from core.events import START, CheckpointSigned
from core.log.redis_streams import RedisLog, connect
from tests.builders.baseline_log import PARTITIONS, fill
from tests.builders.command_line import run_command
from tests.builders.proofs import Corpus, anchored, corpus

PREFIX = f"prove-{os.getpid()}"

Sentinel = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def log(valkey_server: Valkey) -> Iterator[RedisLog]:
    log = connect(valkey_server.host, valkey_server.port, prefix=PREFIX)
    fill(log, transactions=400, accounts=20)
    yield log
    log.close()


@pytest.fixture
def sentinel(
    log: RedisLog,
    valkey_server: Valkey,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Sentinel:
    monkeypatch.setenv("REDIS_HOST", valkey_server.host)
    monkeypatch.setenv("REDIS_PORT", str(valkey_server.port))
    monkeypatch.setenv("SENTINEL_LOG_PREFIX", PREFIX)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        return run_command(monkeypatch, capsys, *arguments)

    return run


@pytest.fixture
def signed(log: RedisLog, tmp_path: Path) -> Corpus:
    """The log with a signed checkpoint, which lies in the folder as `checkpoint`."""
    found = corpus(log, PARTITIONS)
    (tmp_path / "checkpoint").write_bytes(found.anchor.note.content)
    return found


def alert(log: RedisLog) -> tuple[str, str]:
    """(transaction, place) of a decision with an alert."""
    position = log.read(1, "alerts", START, 100)[-1].id
    return decode_transaction(log.get(1, "transactions", position) or b"").transaction_id, f"p01:{position}"


def verified(path: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    code = verifier.main([str(path), "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_a_proof_against_anchors(
    sentinel: Sentinel, log: RedisLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest checkpoint of [anchors], or one that is given; private to its owner; verified up to level 2."""
    signed = corpus(log, PARTITIONS)
    folder = tmp_path / "anchors" / signed.log_id
    folder.mkdir(parents=True)
    (folder / "000000001.checkpoint").write_bytes(signed.anchor.note.content)
    settings = tmp_path / "sentinel.toml"
    settings.write_text(f'[anchors]\ndirectories = ["{tmp_path / "anchors"}"]\npublic_keys = ["{signed.key}"]\n')
    settings.chmod(0o600)
    name, place = alert(log)
    code, out, err = sentinel("prove", name, "--out", "a.proof", "--config", settings)
    assert (code, err) == (0, "") and f"transaction {name} at {place}" in out and "against checkpoint 1" in out
    assert (tmp_path / "a.proof").stat().st_mode & 0o777 == 0o600
    code, found = verified(tmp_path / "a.proof", "--public-key", signed.key, capsys=capsys)
    assert code == 0 and found["level"] == 2 and found["transaction"]["transaction_id"] == name
    code, out, _ = sentinel(
        "prove", "--position", place, "--out", "b.proof", "--checkpoint", folder / "000000001.checkpoint", "--json"
    )
    assert code == 0 and json.loads(out)["place"] == place
    assert (tmp_path / "b.proof").read_bytes() == (tmp_path / "a.proof").read_bytes()


def test_a_proof_with_the_account_s_history(
    sentinel: Sentinel, log: RedisLog, signed: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Level 3 on a server, whole and of a day; the verifier then asks for level 3 by itself."""
    _, place = alert(log)
    asked = ("prove", "--position", place, "--checkpoint", "checkpoint", "--level", 3)
    assert sentinel(*asked, "--out", "a.proof")[0] == 0
    assert (tmp_path / "a.proof").stat().st_mode & 0o777 == 0o600
    code, found = verified(tmp_path / "a.proof", "--public-key", signed.key, capsys=capsys)
    assert code == 0 and found["level"] == 3 and found["history"]["before"] == 0
    assert sentinel(*asked, "--days", 1, "--out", "b.proof")[0] == 0
    code, part = verified(tmp_path / "b.proof", "--public-key", signed.key, capsys=capsys)
    held, whole = part["history"], found["history"]
    assert code == 0 and held["payments"] + held["before"] == whole["payments"]
    assert verifier.main([str(tmp_path / "a.proof"), "--public-key", signed.key]) == 0
    out = capsys.readouterr().out
    assert "level 3    features recomputed: from all" in out and "taken from the record (reference tables)" in out


def test_a_proof_without_anchors(
    sentinel: Sentinel, log: RedisLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says that nothing vouches for it, and so does the verifier."""
    name, _ = alert(log)
    code, _, err = sentinel("prove", name, "--out", "a.proof")
    assert code == 0 and err.startswith("unanchored: no checkpoint of this log has been signed yet")
    key = corpus(log, PARTITIONS).key
    assert verified(tmp_path / "a.proof", "--public-key", key, capsys=capsys)[0] == 3
    assert verified(tmp_path / "a.proof", "--unanchored", capsys=capsys)[0] == 0


def test_what_it_refuses(sentinel: Sentinel, log: RedisLog, tmp_path: Path) -> None:
    """Each mistake is one line, and nothing is written."""
    name, place = alert(log)
    signed = corpus(log, PARTITIONS)
    early = anchored(log, signed.log_id, PARTITIONS, seals=1)
    (tmp_path / "early").write_bytes(early.note.content)
    (tmp_path / "other").write_bytes(anchored(log, "1" * 32, PARTITIONS).note.content)
    (tmp_path / "none").write_bytes(b"hello\n")
    for arguments, exit_code, says in (
        (["no-such", "--out", "a"], 2, "transaction no-such is not in the log; check the ID"),
        ([name], 2, "missing --out"),
        (["--out", "a"], 2, "missing transaction"),
        ([name, "--out", "nowhere/a"], 2, "does not exist"),
        ([name, "--out", "a", "--days", "9"], 2, "only --level 3 holds"),
        ([name, "--out", "a", "--level", "1", "--whole-control"], 2, "levels 2 and 3"),
        (["--position", place, "--out", "a", "--checkpoint", "early"], 2, "sign a later one (sentinel anchor)"),
        (["--position", place, "--out", "a", "--checkpoint", "other"], 2, "is of log"),
        (["--position", place, "--out", "a", "--checkpoint", "none"], 3, "the note"),
        (["--position", place, "--out", "a", "--checkpoint", "missing"], 2, "can't read the checkpoint"),
    ):
        code, out, err = sentinel("prove", *arguments)
        assert code == exit_code and says in err and out == "" and err.count("\n") == 1, (arguments, err)
    assert not (tmp_path / "a").exists()


def test_a_proof_without_rules_and_model(
    sentinel: Sentinel, log: RedisLog, signed: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of level 1: small, without program, model and control events; verified to that level, and no further."""
    name, _ = alert(log)
    assert sentinel("prove", name, "--out", "a.proof", "--checkpoint", "checkpoint", "--level", "1")[0] == 0
    proof = json.loads((tmp_path / "a.proof").read_bytes())
    assert proof["blobs"] == {} and proof["control"] == [] and "stream" not in proof
    code, found = verified(tmp_path / "a.proof", "--public-key", signed.key, "--level", "1", capsys=capsys)
    assert (code, found["level"]) == (0, 1)
    code, found = verified(tmp_path / "a.proof", "--public-key", signed.key, capsys=capsys)
    assert code == 1 and "made for level 1" in found["not_reached"]
    assert sentinel("prove", name, "--out", "a", "--level", "1", "--whole-control")[0] == 2


def test_a_proof_for_auditors(
    sentinel: Sentinel, log: RedisLog, signed: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With all control events the settings are complete, and lists are recomputed."""
    name, _ = alert(log)
    assert sentinel("prove", name, "--out", "a.proof", "--checkpoint", "checkpoint", "--whole-control")[0] == 0
    code, found = verified(tmp_path / "a.proof", "--public-key", signed.key, capsys=capsys)
    assert code == 0 and found["level"] == 2 and found["settings_complete"]
    assert not any("lists of identifiers" in each for each in found["taken_from_record"])


def test_a_checkpoint_that_was_signed_but_not_given(sentinel: Sentinel, log: RedisLog) -> None:
    """It says which one there is, and how to name it."""
    event = CheckpointSigned(occurred_at=1, actor="notary", number=7, state="0" * 64, digest="0" * 64)
    control_stream.append(log, lambda known: [event])
    code, _, err = sentinel("prove", alert(log)[0], "--out", "a.proof")
    assert code == 0 and err.startswith("unanchored: checkpoint 7 of this log has been signed")
    assert "(--checkpoint)" in err and "(--config)" in err and err.count("\n") == 1
