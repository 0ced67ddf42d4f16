"""core/private_files.py: which files and folders are nobody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from core.private_files import may_be_changed_by_others


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "a" / "b"
    made.mkdir(parents=True, mode=0o700)
    return made


def test_a_folder_of_ones_own(folder: Path) -> None:
    """Below folders of this user and of root, and below a sticky one."""
    assert may_be_changed_by_others(folder) == ""
    folder.parent.chmod(0o1777)
    assert may_be_changed_by_others(folder) == ""


@pytest.mark.parametrize("which", ["itself", "parent"])
def test_a_folder_that_everybody_may_write(folder: Path, which: str) -> None:
    """It names the folder and its mode."""
    changed = folder if which == "itself" else folder.parent
    changed.chmod(0o777)
    assert may_be_changed_by_others(folder) == f"{changed} may be written by others (mode 777)"
    folder.chmod(0o1777)  # sticky does not help the folder itself: files can be added
    assert may_be_changed_by_others(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_folder_of_another_user(folder: Path) -> None:
    """Whoever owns a folder above can replace it."""
    os.chown(folder.parent, 12345, -1)
    assert may_be_changed_by_others(folder) == f"{folder.parent} belongs to user 12345"


def test_a_link_is_judged_by_where_it_leads(folder: Path, tmp_path: Path) -> None:
    """A link from a good place into a bad one."""
    bad = tmp_path / "bad"
    bad.mkdir()
    bad.chmod(0o777)
    link = folder / "link"
    link.symlink_to(bad)
    assert str(bad) in may_be_changed_by_others(link)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """It is no folder to load code from."""
    assert "No such file" in may_be_changed_by_others(tmp_path / "none")
