"""`sentinel identity`: from the first key to identity required, as its users type it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from console import identity_keys, wiring
from core import control_stream
from core.errors import BadInput
from core.log.memory import MemoryLog
from core.settings import Settings
from tests.builders.baseline_log import fill
from tests.builders.command_line import run_command

Run = Callable[..., tuple[int, str]]
WHY = ("--reason", "season")


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    log = MemoryLog()
    fill(log, transactions=200, accounts=20)
    return log


@pytest.fixture
def log(decided: MemoryLog) -> MemoryLog:
    return decided.clone()


@pytest.fixture
def run(log: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """run(key's owner, *command line) → (exit code, what it said); "" for no key."""
    monkeypatch.chdir(tmp_path)

    def opened(settings: Settings) -> MemoryLog:
        key = settings.identity_key
        log.signer = identity_keys.read(Path(key), os.environ) if key else None
        return log

    monkeypatch.setattr(wiring, "open_log", opened)

    def call(who: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setenv("SENTINEL_IDENTITY_KEY", str(tmp_path / f"{who}.pem") if who else "")
        return run_command(monkeypatch, capsys, *arguments).told

    return call


def made(run: Run, name: str) -> str:
    """Makes a key; returns the public one."""
    code, said = run("", "identity", "new", name, "--out", f"{name}.pem", "--json")
    assert code == 0
    return str(json.loads(said)["public_key"])


def enrolled(run: Run) -> None:
    """Ann and Bob administer, the worker works."""
    keys = {name: made(run, name) for name in ("Ann", "Bob", "worker-1", "web")}
    assert run("Ann", "identity", "add", "--role", "admin", "--role", "publisher")[0] == 0
    both = ("--role", "admin", "--role", "publisher", "--user", "b.smith")
    assert run("Ann", "identity", "add", "worker-1", "--role", "worker", "--public-key", keys["worker-1"])[0] == 0
    assert run("Ann", "identity", "add", "web", "--role", "api", "--public-key", keys["web"])[0] == 0
    assert run("Ann", "identity", "add", "Bob", *both, "--public-key", keys["Bob"])[0] == 0


def test_from_the_first_key_to_identity_required(run: Run, log: MemoryLog) -> None:
    """Nobody is locked out, and afterwards only what somebody on the roster signed has an effect."""
    made(run, "Ann")
    assert os.stat("Ann.pem").st_mode & 0o777 == 0o600
    for name in ("Ann.pem", "worker-1.pem"):
        Path(name).unlink(missing_ok=True)
    enrolled(run)
    code, said = run("Ann", "identity", "require", *WHY)
    assert code == 0 and "identity is required, and feedback must be signed at c" in said
    code, said = run("", "threshold", "set", "--decline", "0.95", *WHY)
    assert code == 2 and "it is not signed" in said
    code, said = run("Ann", "threshold", "set", "--decline", "0.95", *WHY)
    assert code == 0 and control_stream.current(log).decline == 0.95
    code, said = run("worker-1", "threshold", "set", "--decline", "0.5", *WHY)
    assert code == 2 and "may not do this" in said
    shown = json.loads(run("", "identity", "list", "--json")[1])
    assert (
        shown["required"]
        and shown["feedback"] == "signed"
        and [each["name"] for each in shown["identities"]] == ["Ann", "Bob", "web", "worker-1"]
    )
    assert not control_stream.current(log).refused


def test_an_actor_is_the_keys_owner(run: Run, log: MemoryLog) -> None:
    """Their name without being told; another name is refused before anything is appended."""
    enrolled(run)
    head = log.control_head()
    code, said = run("Ann", "threshold", "set", "--decline", "0.95", "--actor", "bob", *WHY)
    assert code == 2 and "the key (identity_key) is Ann's" in said and log.control_head() == head
    assert run("Ann", "threshold", "set", "--decline", "0.95", "--actor", "ann", *WHY)[0] == 0
    last = control_stream.history(log)[-1].event
    assert last.actor == "Ann" and last.key and last.signature


def test_under_four_eyes_two_keys_act(run: Run, log: MemoryLog) -> None:
    """A third administrator waits for the second one; so does turning off that identity is required."""
    enrolled(run)
    dan = made(run, "Dan")
    assert run("Ann", "model", "four-eyes", "on", *WHY)[0] == 0
    assert run("Ann", "identity", "require", *WHY)[0] == 0
    code, said = run("Ann", "identity", "add", "Dan", "--role", "admin", "--public-key", dan)
    assert code == 0 and "sentinel proposal approve identity_added:" in said
    name = said.strip().split()[-1].strip("`")
    assert run("Ann", "proposal", "approve", name, *WHY)[0] == 2
    assert run("Bob", "proposal", "approve", name, *WHY)[0] == 0
    assert "Dan" in run("", "identity", "list")[1]
    code, said = run("Dan", "identity", "require", "off", *WHY)
    name = said.strip().split()[-1].strip("`")
    assert run("Bob", "proposal", "approve", name, *WHY)[0] == 0
    state = control_stream.current(log)
    assert not state.governance.roster.required and not state.refused


def test_rotation(run: Run, log: MemoryLog) -> None:
    """A new key beside the old one, which it then revokes."""
    enrolled(run)
    old = identity_keys.read(Path("Bob.pem"), os.environ).key_id
    assert run("Bob", "identity", "rotate", "--out", "new.pem")[0] == 0
    code, said = run("new", "identity", "revoke", "Bob", "--key", old, *WHY)
    assert code == 0 and f"key {old} of Bob is revoked" in said
    code, said = run("Bob", "threshold", "set", "--decline", "0.95", *WHY)
    assert code == 2 and "is revoked" in said
    assert run("new", "threshold", "set", "--decline", "0.95", *WHY)[0] == 0


def test_the_api_vouches_for_its_users(run: Run, log: MemoryLog) -> None:
    """The user b.smith is Bob; a user who is on no roster can't act, nor Ann, who is no user."""
    from learners.governance import business
    from learners.governance.control_events import Act

    enrolled(run)
    assert run("Ann", "identity", "require", *WHY)[0] == 0
    log.signer = identity_keys.read(Path("web.pem"), os.environ)
    assert business.set_thresholds(log, Act("b.smith", "season", 1), decline=0.95).changed
    for nobody in ("Ann", "carol", "web"):
        with pytest.raises(BadInput):
            business.set_thresholds(log, Act(nobody, "season", 1), decline=0.9)


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (("identity", "new", "sentinel ingest"), "is the name of a program"),
        (("identity", "new", "аnn"), "mixes letters of Cyrillic and Latin"),
        (("identity", "new", "Bob", "--out", "Bob.pem"), "never overwritten"),
        (("identity", "add", "Eve", "--role", "root", "--user", "eve"), "unknown role"),
        (("identity", "add", "Eve", "--user", "eve"), "at least one role"),
        (("identity", "add", "Eve", "--role", "viewer"), "needs a key, or a user"),
        (("identity", "add", "B0b", "--role", "viewer", "--user", "x"), "can't be told from Bob"),
        (("identity", "add", "Eve", "--role", "viewer", "--user", "B.Smith"), "is Bob's"),
        (("identity", "add", "Eve", "--role", "viewer", "--public-key", "ab"), "64 hex digits"),
        (("identity", "change", "Eve", "--role", "viewer"), "not on the roster"),
        (("identity", "revoke", "Eve", *WHY), "not on the roster"),
        (("identity", "revoke", "Bob", "--key", "ab", *WHY), "has no key 'ab'"),
        (("identity", "require", "maybe", *WHY), "on or off"),
    ],
)
def test_mistakes_are_told_in_one_line(run: Run, act: tuple[str, ...], why: str) -> None:
    """Exit code 2, and no traceback."""
    enrolled(run)
    code, said = run("Ann", *act)
    assert code == 2 and why in said and said.count("\n") == 1, said


def test_without_a_key_the_roster_does_not_change(run: Run) -> None:
    """It says how to make one."""
    code, said = run("", "identity", "add", "Ann", "--role", "admin")
    assert code == 2 and "sentinel identity new" in said


SECRET: Mapping[str, str] = {"SENTINEL_IDENTITY_PASSPHRASE": "correct horse"}


def test_an_encrypted_key(tmp_path: Path) -> None:
    """Readable with its passphrase alone; the same key comes back."""
    key = identity_keys.new("Ann")
    identity_keys.write(tmp_path / "a.pem", key, SECRET)
    assert identity_keys.read(tmp_path / "a.pem", SECRET).key_id == key.key_id
    with pytest.raises(BadInput, match="set SENTINEL_IDENTITY_PASSPHRASE"):
        identity_keys.read(tmp_path / "a.pem", {})
    with pytest.raises(BadInput, match="can't be decrypted"):
        identity_keys.read(tmp_path / "a.pem", {"SENTINEL_IDENTITY_PASSPHRASE": "wrong"})


def test_a_file_that_is_no_key(tmp_path: Path) -> None:
    """Others may read it, it is something else, or damaged."""
    path = tmp_path / "a.pem"
    identity_keys.write(path, identity_keys.new("Ann"), {})
    content = path.read_text()
    path.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        identity_keys.read(path, {})
    for text, why in (
        (content.partition("\n")[2], "does not begin with"),
        ("Name: Ann\nhello", "no private key"),
        (content.replace("MC4", "MC5"), "no private key"),
        ("", "empty"),
    ):
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(BadInput, match=why):
            identity_keys.read(path, {})
    with pytest.raises(BadInput, match="can't be read"):
        identity_keys.read(tmp_path / "none.pem", {})


def test_every_command_acts_in_the_keys_name(run: Run, log: MemoryLog) -> None:
    """Under identity, what people append by any command has an effect without their saying who they are."""
    enrolled(run)
    assert run("Ann", "identity", "require", *WHY)[0] == 0
    acts = (
        ("respond", "on", "queue_for_review", *WHY),
        ("respond", "off", *WHY),
        ("rule", "set", "amount_high=1234", *WHY),
        ("rates", "set", "rates.csv", "--base", "EUR", *WHY),
        ("model", "register", "--rules-only", *WHY),
        ("model", "promote", "rules-only-1.0.0", "--no-check", *WHY),
        ("model", "rollback", *WHY),
        ("model", "four-eyes", "on", *WHY),
    )
    Path("rates.csv").write_text("USD,0.9\n")
    for act in acts:
        head = log.control_head()
        code, said = run("Ann", *act)
        assert code == 0 and log.control_head() > head, (act, said)
    assert {each.event.actor for each in control_stream.history(log) if each.event.key} == {"Ann"}
