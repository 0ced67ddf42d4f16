"""The shipped baseline is read with its card, or there is a clear error."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from core.errors import BadInput, Corrupt
from models.shipped import shipped_baseline


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
