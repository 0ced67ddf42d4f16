"""Which scorer an artifact is for: the bytes say what they are; their SHA-256 is checked first (I10).

Two formats are known: LightGBM's text (`models.lightgbm_text`) and the linear model's JSON (`models.linear`). Both are
declarative: nothing in them is ever run.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from core.errors import BadInput, Corrupt
from core.scoring import Scorer
from models.forest import ForestScorer
from models.linear import MAGIC, LinearScorer

Format = Literal["lightgbm", "linear"]


def format_of(content: bytes) -> Format:
    """What the bytes say they are; whether they are whole is another question. Raises Corrupt if they say nothing."""
    if content.startswith(b"tree\n"):
        return "lightgbm"
    if content.startswith(MAGIC):
        return "linear"
    raise Corrupt("not a model: neither LightGBM's text format nor a linear model's JSON")


def load_scorer(content: bytes, *, version: str, expected_digest: str, spec: int, columns: tuple[str, ...]) -> Scorer:
    """An artifact of any known format → its scorer, compiled and ready.

    version: the label, `baseline-1.0.0`. expected_digest: SHA-256 (hex) of the bytes. columns: the names of the feature
    spec `spec`, in order, that the model must read. Raises Corrupt if the digest differs or the bytes are damaged,
    BadInput if the model reads other columns or is of a kind that is not scored here.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected_digest:
        raise Corrupt(f"model {version}: SHA-256 is {digest}, not {expected_digest}")
    kind = ForestScorer if format_of(content) == "lightgbm" else LinearScorer
    scorer = kind.load(content, version=version, spec=spec, expected_digest=expected_digest)
    if scorer.feature_names != columns:
        raise BadInput(f"model {version} does not read feature spec {spec}: its columns have other names")
    return scorer
