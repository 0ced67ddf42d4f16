"""The artifact store: what is put is what is got, or an error."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from core.errors import BadInput, Corrupt, Unavailable
from models.store import ArtifactStore, shipped_baseline


def test_what_is_put_is_got_under_its_digest(tmp_path: Path) -> None:
    """The name is the SHA-256; putting the same bytes twice stores them once; nothing else is left behind."""
    store = ArtifactStore(tmp_path / "artifacts")
    assert store.digests() == ()
    first, second = store.put(b"one"), store.put(b"")
    assert store.put(b"one") == first == hashlib.sha256(b"one").hexdigest()
    assert store.get(first) == b"one" and store.get(second) == b""
    assert store.digests() == tuple(sorted((first, second)))
    assert sorted(os.listdir(tmp_path / "artifacts")) == sorted((first, second))


def test_a_changed_file_is_corrupt_until_put_again(tmp_path: Path) -> None:
    """One flipped bit is found on the next read, and putting the true bytes heals the file."""
    store = ArtifactStore(tmp_path)
    digest = store.put(b"model")
    (tmp_path / digest).write_bytes(b"modem")
    with pytest.raises(Corrupt, match=digest):
        store.get(digest)
    assert store.put(b"model") == digest and store.get(digest) == b"model"


def test_only_digests_name_artifacts(tmp_path: Path) -> None:
    """A path, an upper-case digest or an unknown digest is refused; no file outside the store can be read."""
    (tmp_path / "secret").write_bytes(b"x")
    store = ArtifactStore(tmp_path / "artifacts")
    store.put(b"x")
    for name in ("../secret", "", "0" * 63, "A" * 64, "0" * 64, "0" * 64 + "\n"):
        with pytest.raises(BadInput):
            store.get(name)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk error before the rename is Unavailable, and neither the artifact nor a temporary file exists."""

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(Unavailable, match="No space left"):
        ArtifactStore(tmp_path).put(b"model")
    assert os.listdir(tmp_path) == []


def card(content: bytes, **changes: object) -> str:
    fields = {"name": "baseline", "version": "1.0.0", "spec": 1, "metrics": {"auc": 0.9}, "notes": "more"}
    return json.dumps(fields | {"digest": hashlib.sha256(content).hexdigest()} | changes)


def test_the_shipped_baseline_comes_with_its_card(tmp_path: Path) -> None:
    """Model and card are read together, the card's extra fields included."""
    (tmp_path / "model.txt").write_bytes(b"tree")
    (tmp_path / "card.json").write_text(card(b"tree"))
    content, read = shipped_baseline(tmp_path)
    assert content == b"tree" and read["version"] == "1.0.0" and read["notes"] == "more"


def test_an_absent_or_damaged_baseline_is_a_clear_error(tmp_path: Path) -> None:
    """A missing file is BadInput; a malformed card, or a card of another model, is Corrupt."""
    with pytest.raises(BadInput, match=r"model\.txt is missing"):
        shipped_baseline(tmp_path)
    (tmp_path / "model.txt").write_bytes(b"tree")
    with pytest.raises(BadInput, match=r"card\.json is missing"):
        shipped_baseline(tmp_path)
    for damaged in ("{", card(b"tree", spec="one"), card(b"another"), '{"name": "x"}', "\udcff"):
        (tmp_path / "card.json").write_bytes(damaged.encode(errors="surrogateescape"))
        with pytest.raises(Corrupt):
            shipped_baseline(tmp_path)
