"""Loads an artifact's scorer: its SHA-256 is checked first, then its content says which format it is (I10).

`KINDS` lists the supported formats, one entry each; `REFUSED` others that a team may bring, and what to save instead.
All are declarative: nothing in them is ever executed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from core.errors import BadInput, Corrupt
from core.scoring import Scorer
from models import catboost_json, linear, onnx_trees, rules_only, shap, xgboost_json
from models.forest import ForestScorer
from models.inputs import InputScorer, parts
from models.json_text import top_level
from models.linear import MAGIC, LinearScorer
from models.rules_only import RulesOnlyScorer


class ArtifactScorer(Scorer, Protocol):
    """A scorer that says which columns it reads."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns in order, as the artifact names them; () if it names none: then they are the spec's, in order."""

    @property
    def width(self) -> int | None:
        """The number of columns; None if rows of any width are scored."""


class Loader(Protocol):
    """Turns an artifact into a scorer. Raises Corrupt if its bytes are not intact, BadInput if it is not supported."""

    def __call__(
        self, content: bytes, *, version: str, spec: int, expected_digest: str | None = None
    ) -> ArtifactScorer: ...


class Kind(NamedTuple):
    """A format: its name, a description for messages, how its content is told, its loader, which of its models are
    scored, how exactly, and how its scores are explained.
    """

    name: str
    words: str
    matches: Callable[[bytes], bool]
    load: Loader
    scored: str
    exact: str
    method: str


def _begins(magic: bytes) -> Callable[[bytes], bool]:
    return lambda content: content.startswith(magic)


def _has(*members: str) -> Callable[[bytes], bool]:
    return lambda content: top_level(content) >= set(members)


KINDS: tuple[Kind, ...] = (
    Kind(
        "lightgbm",
        "LightGBM's text format",
        _begins(b"tree\n"),
        ForestScorer.load,
        "version 4, objective `binary`; categorical splits, all treatments of missing values, DART, GOSS",
        "`predict(raw_score=True)`, bit for bit",
        shap.METHOD,
    ),
    Kind(
        "linear",
        "a linear model's JSON",
        _begins(MAGIC),
        LinearScorer.load,
        "what `sentinel learn` writes (`models/linear.py`)",
        "its own definition",
        linear.METHOD,
    ),
    Kind(
        "xgboost",
        "XGBoost's JSON",
        _has("learner", "version"),
        partial(ForestScorer.load, parse=xgboost_json.parse),
        "versions 1 to 3, booster `gbtree`, `binary:logistic` or `binary:logitraw`, numeric splits",
        "`predict(output_margin=True)` on the CPU, bit for bit",
        shap.METHOD,
    ),
    Kind(
        "catboost",
        "CatBoost's JSON",
        _has("features_info", "scale_and_bias"),
        partial(ForestScorer.load, parse=catboost_json.parse),
        "`Logloss` or `CrossEntropy`, float features, trees of all grow policies",
        "`RawFormulaVal` on the CPU, bit for bit",
        shap.METHOD,
    ),
    Kind(
        "onnx",
        "an ONNX tree ensemble",
        _begins(b"\x08"),  # the field ir_version, always the first
        partial(ForestScorer.load, parse=onnx_trees.parse),
        "one `TreeEnsembleClassifier` of two classes or `TreeEnsembleRegressor` of log-odds (ai.onnx.ml 1 to 3,"
        " float32), as scikit-learn, LightGBM, XGBoost and CatBoost are converted",
        "onnxruntime's score before the post-transform with one thread, bit for bit; where it is a probability, the"
        " margin is its log-odds",
        shap.UNWEIGHTED_METHOD,
    ),
    Kind(
        "rules_only",
        "the choice of rules alone",
        _begins(rules_only.CONTENT),
        RulesOnlyScorer.load,
        "what `sentinel model register --rules-only` writes",
        "probability 0",
        rules_only.METHOD,
    ),
)

REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"\x80", "a Python pickle, which can run any code when it is loaded; save the model in its library's own format"),
    (b"{L", 'XGBoost\'s UBJSON; save it as JSON: booster.save_model("model.json")'),
    (b"binf", 'XGBoost\'s old binary format; save it as JSON: booster.save_model("model.json")'),
    (b"CBM1", 'CatBoost\'s binary format; save it as JSON: model.save_model("model.json", format="json")'),
)
"""The first bytes of formats that are never read, and what to do."""


def format_of(content: bytes) -> str:
    """The kind's name; the rest of the content is not checked. Raises Corrupt if no kind matches, BadInput for a format
    that is known and not read.
    """
    return _kind_of(parts(content).model).name


def _kind_of(content: bytes) -> Kind:
    for kind in KINDS:
        if kind.matches(content):
            return kind
    for magic, words in REFUSED:
        if content.startswith(magic):
            raise BadInput(f"the model is {words}")
    known = ", ".join(kind.words for kind in KINDS[:-1])
    raise Corrupt(f"not a model; the known formats are {known} and {KINDS[-1].words}")


def load_scorer(content: bytes, *, version: str, expected_digest: str, spec: int, columns: tuple[str, ...]) -> Scorer:
    """An artifact of any known format → its scorer, compiled and ready.

    version: the label, `baseline-1.0.0`. expected_digest: SHA-256 (hex) of the bytes. columns: the names of the feature
    spec `spec`, in order, which a model reads that lists no inputs; one that names no columns must have as many. Raises
    Corrupt if the digest differs or the bytes are not intact, BadInput if the model reads other columns or is of a kind
    that is not supported.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected_digest:
        raise Corrupt(f"model {version}: SHA-256 is {digest}, not {expected_digest}")
    inputs, model = parts(content)
    of_model = digest if inputs is None else None
    scorer = _kind_of(model).load(model, version=version, spec=spec, expected_digest=of_model)
    if inputs is None:
        _check_columns(scorer, columns, f"model {version} does not read feature spec {spec}")
        return scorer
    _check_columns(scorer, tuple(each.name for each in inputs), f"model {version} does not read the inputs it lists")
    return InputScorer(scorer, inputs, digest)


def columns_of(content: bytes) -> tuple[str, ...]:
    """The columns that a model's file names, in order; () if it names none. Raises Corrupt or BadInput."""
    return _kind_of(content).load(content, version="file", spec=0).names


def _check_columns(scorer: ArtifactScorer, columns: tuple[str, ...], fault: str) -> None:
    if scorer.width not in (None, len(columns)):
        raise BadInput(f"{fault}: it has {scorer.width} columns, not {len(columns)}")
    if scorer.names not in ((), columns):
        wrong = next(i for i, pair in enumerate(zip(scorer.names, columns, strict=True)) if pair[0] != pair[1])
        raise BadInput(f"{fault}: its column {wrong} is {scorer.names[wrong][:60]!r}, not {columns[wrong]!r}")


def markdown() -> str:
    """The table of docs/training.md."""
    rows = ["| kind | artifact | what is scored | exactness | explained by |", "|---|---|---|---|---|"]
    rows += [f"| `{kind.name}` | {kind.words} | {kind.scored} | {kind.exact} | {kind.method} |" for kind in KINDS]
    return "\n".join(rows) + "\n"
