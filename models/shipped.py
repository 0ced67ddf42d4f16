"""The baseline model that ships with the project, and its card; the SHA-256 is checked on every read (I10)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from core.errors import BadInput, Corrupt

BASELINE_DIRECTORY = Path(__file__).resolve().parent / "baseline"


class _Card(msgspec.Struct):
    """The fields that a model card must have; it may have more."""

    name: str
    version: str
    spec: int
    digest: str
    metrics: dict[str, float]


def shipped_baseline(directory: str | os.PathLike[str] = BASELINE_DIRECTORY) -> tuple[bytes, dict[str, Any]]:
    """(model.txt's bytes, card.json as a dict) of the model that ships with the project; the SHA-256 is checked.

    Raises BadInput if a file is absent, Corrupt if the card is malformed or its digest is not the model's.
    """
    folder = Path(directory)
    try:
        content = (folder / "model.txt").read_bytes()
        card_json = (folder / "card.json").read_bytes()
    except FileNotFoundError as error:
        raise BadInput(f"the shipped baseline model is incomplete: {error.filename} is missing") from None
    try:
        card = msgspec.json.decode(card_json, type=dict[str, Any])
        digest = msgspec.convert(card, _Card).digest
    except msgspec.DecodeError as error:  # ValidationError is one too
        raise Corrupt(f"the model card {folder / 'card.json'} is not valid: {error}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise Corrupt(f"{folder / 'model.txt'} does not match its card: the SHA-256 differs")
    return content, card
