"""Loads an artifact's scorer: its SHA-256 is checked first, then its first bytes say which format it is (I10).

`KINDS` lists the supported formats, one entry each. All are declarative: nothing in them is ever executed.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Protocol

from core.errors import BadInput, Corrupt
from core.scoring import Scorer
from models import linear, shap
from models.forest import ForestScorer
from models.linear import MAGIC, LinearScorer


class ArtifactScorer(Scorer, Protocol):
    """A scorer that says which columns it reads."""

    @property
    def feature_names(self) -> tuple[str, ...]: ...


class Loader(Protocol):
    """Turns an artifact into a scorer. Raises Corrupt if its bytes are not intact, BadInput if it is not supported."""

    def __call__(
        self, content: bytes, *, version: str, spec: int, expected_digest: str | None = None
    ) -> ArtifactScorer: ...


class Kind(NamedTuple):
    """A format: its name, a description for messages, the bytes that it begins with, its loader, and how its scores are
    explained.
    """

    name: str
    words: str
    magic: bytes
    load: Loader
    method: str


KINDS: tuple[Kind, ...] = (
    Kind("lightgbm", "LightGBM's text format", b"tree\n", ForestScorer.load, shap.METHOD),
    Kind("linear", "a linear model's JSON", MAGIC, LinearScorer.load, linear.METHOD),
)


def format_of(content: bytes) -> str:
    """The kind's name, according to the first bytes; the rest is not checked. Raises Corrupt if no kind matches."""
    return _kind_of(content).name


def _kind_of(content: bytes) -> Kind:
    for kind in KINDS:
        if content.startswith(kind.magic):
            return kind
    raise Corrupt(f"not a model; the known formats are {' and '.join(kind.words for kind in KINDS)}")


def load_scorer(content: bytes, *, version: str, expected_digest: str, spec: int, columns: tuple[str, ...]) -> Scorer:
    """An artifact of any known format → its scorer, compiled and ready.

    version: the label, `baseline-1.0.0`. expected_digest: SHA-256 (hex) of the bytes. columns: the names of the feature
    spec `spec`, in order, that the model must read. Raises Corrupt if the digest differs or the bytes are not intact,
    BadInput if the model reads other columns or is of a kind that is not supported.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected_digest:
        raise Corrupt(f"model {version}: SHA-256 is {digest}, not {expected_digest}")
    scorer = _kind_of(content).load(content, version=version, spec=spec, expected_digest=expected_digest)
    if scorer.feature_names != columns:
        raise BadInput(f"model {version} does not read feature spec {spec}: its columns have other names")
    return scorer


def markdown() -> str:
    """The table of docs/training.md."""
    rows = ["| kind | artifact | explained by |", "|---|---|---|"]
    rows += [f"| `{kind.name}` | {kind.words} | {kind.method} |" for kind in KINDS]
    return "\n".join(rows) + "\n"
