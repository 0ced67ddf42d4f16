"""The vault's key: where it comes from, and its exchange, after which the old one opens nothing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console import findings
from console.place_findings import vault_findings
from core.errors import BadInput
from core.settings import Settings
from ingest import vault
from ingest.vault import AccountKeys, Vault, key_of, open_vault
from tests.builders.command_line import run_command

OLD, NEW = b"o" * 32, b"n" * 32
NAMES = [f"person-{n}" for n in range(1_200)]
"""More than one page of rows."""


def home(name: str) -> int:
    return len(name) % 3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vault" / "keys"


@pytest.fixture
def known(path: Path) -> dict[str, AccountKeys]:
    """The accounts of a vault under OLD."""
    made = Vault(path, OLD)
    found = made.accounts(NAMES, home)
    made.close()
    return found


def content(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def test_after_an_exchange_everything_is_the_same_but_the_key(path: Path, known: dict[str, AccountKeys]) -> None:
    """Tokens, keys of sealed values and the vault's ID; the old key is refused, and what stood under it is gone."""
    before = Vault(path, OLD)
    rows = before._ask("select found_by, secret from accounts", [])
    wrapped = before._ask("select value from meta where name = 'root'", [])[0][0]
    kept = before.key_id, before.token_secret, before.rejects_key
    assert before.rotate(NEW) == len(NAMES)
    assert before.find("person-7") == known["person-7"]  # whoever exchanged it goes on
    before.close()
    after = Vault(path, NEW)
    assert (after.key_id, after.token_secret, after.rejects_key) == kept
    assert after.accounts(NAMES, home) == known and after.count == len(NAMES)
    after.close()
    with pytest.raises(BadInput, match="is not that of the vault"):
        Vault(path, OLD)
    left = content(path)
    assert not [by for by, secret in rows if by in left or secret in left] and wrapped not in left
    assert OLD not in left and NEW not in left


def test_a_key_that_the_vault_holds_can_be_taken_out_of_it(path: Path) -> None:
    """From then on the file alone opens nothing."""
    inside = Vault(path)
    ann = inside.accounts(["Ann"], home)["Ann"]
    inside.rotate(NEW)
    inside.close()
    with pytest.raises(BadInput, match="does not hold its key"):
        Vault(path)
    assert Vault(path, NEW).find("Ann") == ann


class Watched:
    """A connection that keeps a copy of the files before each statement, as a kill at this moment would leave them."""

    def __init__(self, file: sqlite3.Connection, path: Path, copies: Path) -> None:
        self._file, self._path, self._copies = file, path, copies
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._file, name)

        def watched(*arguments: Any) -> Any:
            shutil.copytree(self._path.parent, self._copies / str(self.count))
            self.count += 1
            return call(*arguments)

        return watched


def test_a_crash_at_any_step_leaves_the_old_key_or_the_new_one(
    path: Path, known: dict[str, AccountKeys], tmp_path: Path
) -> None:
    """Killed before each statement: one of the two opens it, with every account; done again, it is complete."""
    copies = tmp_path / "copies"
    exchanging = Vault(path, OLD)
    watched = Watched(exchanging._file, path, copies)
    exchanging._file = watched  # type: ignore[assignment]
    exchanging.rotate(NEW)
    assert watched.count > 10
    opened = []
    for step in range(watched.count):
        left = copies / str(step) / path.name
        for key in (OLD, NEW):
            try:
                found = Vault(left, key)
            except BadInput:
                continue
            opened.append(key)
            assert found.accounts(NAMES, home) == known and found.count == len(NAMES), step
            if key == OLD:
                assert found.rotate(NEW) == len(NAMES)
            found.close()
            break
        again = Vault(left, NEW)
        assert again.accounts(NAMES, home) == known
        again.close()
    assert len(opened) == watched.count and set(opened) == {OLD, NEW}


def test_a_process_with_the_old_key_stops_instead_of_making_new_accounts(
    path: Path, known: dict[str, AccountKeys]
) -> None:
    """Every way into the vault says that the key was exchanged; no row is added or destroyed."""
    running, exchanging = Vault(path, OLD), Vault(path, OLD)
    exchanging.rotate(NEW)
    token = known["person-1"].token
    for ask in (
        lambda: running.accounts(["person-1"], home),
        lambda: running.accounts(["somebody new"], home),
        lambda: running.find("person-1"),
        lambda: running.by_token(token),
        lambda: running.erase([token]),
        lambda: running.rotate(b"x" * 32),
    ):
        with pytest.raises(BadInput, match="was exchanged: start again"):
            ask()
    assert exchanging.count == len(NAMES) and exchanging.by_token(token) == known["person-1"]


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No vault is open in this process."""
    vault._opened.cache_clear()
    yield
    vault._opened.cache_clear()


def test_the_key_comes_from_a_file_that_only_its_owner_reads(path: Path, tmp_path: Path, fresh: None) -> None:
    """Otherwise it is refused, and doctor says what to do."""
    file = tmp_path / "vault.key"
    file.write_text(OLD.hex() + "\n")
    file.chmod(0o600)
    s = Settings(tokenise=True, vault=str(path), vault_key_file=str(file))
    opened = open_vault(s)
    assert opened is not None and opened.key_id == Vault(path, OLD).key_id
    assert [each.status for each in findings.guarded(vault_findings, s)] == ["ok"]
    file.chmod(0o644)
    with pytest.raises(BadInput, match="may be read or changed by others"):
        open_vault(s)
    (found,) = findings.guarded(vault_findings, s)
    assert (found.check, found.status) == ("vault", "fail") and "chmod 600" in found.message
    inside = Settings(tokenise=True, vault=str(tmp_path / "inside" / "keys"))
    open_vault(inside)
    assert [each.status for each in findings.guarded(vault_findings, inside)] == ["warn"]
    assert any(check.ask is vault_findings for check in findings.CHECKS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(vault_key="ab"), "must be 64 hexadecimal digits"),
        (Settings(vault_key="zz" * 32), "must be 64 hexadecimal digits"),
        (Settings(vault_key="ab" * 32, vault_key_file="vault.key"), "give the vault's key once"),
        (Settings(vault_key_file="nowhere"), "can't be read"),
    ],
)
def test_a_key_that_is_none_is_refused(settings: Settings, said: str) -> None:
    """By its setting's name, and without repeating it."""
    with pytest.raises(BadInput, match=said) as refused:
        key_of(settings)
    assert "abab" not in str(refused.value)


def test_commands_make_and_exchange_keys(
    path: Path, known: dict[str, AccountKeys], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """A new key file is private and never overwritten; the exchange may be repeated; a wrong key is one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTINEL_VAULT", str(path))
    monkeypatch.setenv("SENTINEL_VAULT_KEY", OLD.hex())
    new = tmp_path / "new.key"

    def run(*arguments: object) -> tuple[int, str]:
        return run_command(monkeypatch, capsys, "vault", *arguments).told

    assert run("new-key", new)[0] == 0 and new.stat().st_mode & 0o777 == 0o600
    assert run("new-key", new)[0] == 2
    assert "the setting vault_key" in run("show")[1]
    for _ in range(2):
        code, said = run("rotate", new)
        assert code == 0 and "1,200 accounts" in said, said
    assert run("show")[0] == 2
    monkeypatch.delenv("SENTINEL_VAULT_KEY")
    monkeypatch.setenv("SENTINEL_VAULT_KEY_FILE", str(new))
    code, said = run("show")
    assert code == 0 and "1200" in said.replace(",", "") and str(new) in said
    code, said = run("rotate", new)
    assert code == 2 and "holds the key that the vault has already" in said
    assert Vault(path, bytes.fromhex(new.read_text())).find("person-3") == known["person-3"]
