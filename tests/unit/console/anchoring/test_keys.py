"""The file of the notary's key: who may read it, on a disk or as a container platform or systemd gives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.anchoring import keys
from core.errors import BadInput


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A new key."""
    keys.create(tmp_path / "notary.key")
    return tmp_path / "notary.key"


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_group_may_read_a_key(path: Path, mode: int) -> None:
    """Secrets are mounted as root's, readable by the process's group."""
    path.chmod(mode)
    assert keys.load(path).private_bytes_raw()


@pytest.mark.parametrize("mode", [0o444, 0o660, 0o604, 0o602])
def test_a_key_of_others_is_refused(path: Path, mode: int) -> None:
    """The message says what to do."""
    path.chmod(mode)
    with pytest.raises(BadInput, match="chmod 600"):
        keys.load(path)


def test_a_key_that_is_missing_can_be_made(tmp_path: Path) -> None:
    """The message names the command."""
    with pytest.raises(BadInput, match="--new-key"):
        keys.load(tmp_path / "none")
