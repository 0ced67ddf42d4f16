"""An artifact that says what it reads: one line of JSON before a model of any kind. Owns that line.

    {"format":"sentinel_inputs.v1","inputs":[{"identity":"…","name":"dist1","kind":"number"},
     {"identity":"…","name":"card_brand","kind":"category","levels":["discover","visa"]}]}⏎
    the model's own bytes (`models.artifacts.KINDS`)

Input k is the model's column k. A model without this line reads the columns of the feature spec. Identities are those
of `core.program.inputs`, names are for people. Levels are canonical strings: a log's key hashes them when the model is
bound, so an artifact may be moved between logs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import UNDECODABLE, BadInput, Corrupt
from core.scoring import Input, InputKind, Scorer

FORMAT = "sentinel_inputs.v1"
MAGIC = b'{"format":"sentinel_inputs.v1",'
INPUTS_MAX = 4_096
LEVELS_MAX = 65_536
LEVEL_CHARACTERS_MAX = 1_024
HEADER_BYTES_MAX = 16 * 2**20
_IDENTITY = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class _Input(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    identity: str
    name: str
    kind: InputKind
    levels: tuple[str, ...] = ()


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    inputs: tuple[_Input, ...]


_header = msgspec.json.Decoder(_Header)


class Parts(NamedTuple):
    """An artifact: what it reads (None: the columns of the feature spec), and the model's own bytes."""

    inputs: tuple[Input, ...] | None
    model: bytes


def joined(inputs: Sequence[Input], model: bytes) -> bytes:
    """The artifact of a model that reads these inputs. Raises BadInput if they are not valid."""
    if fault := _fault(inputs):
        raise BadInput(fault)
    header = _Header(FORMAT, tuple(_Input(*each) for each in inputs))
    return msgspec.json.encode(header) + b"\n" + model


def parts(content: bytes) -> Parts:
    """An artifact's parts. Raises Corrupt if its first line is not intact."""
    if not content.startswith(MAGIC):
        return Parts(None, content)
    end = content.find(b"\n", 0, HEADER_BYTES_MAX)
    if end < 0:
        raise Corrupt("the model's list of inputs is truncated or larger than 16 MiB")
    try:
        header = _header.decode(content[:end])
    except UNDECODABLE as error:
        raise Corrupt(f"the model's list of inputs is not intact: {error}") from None
    inputs = tuple(Input(each.identity, each.name, each.kind, each.levels) for each in header.inputs)
    if fault := _fault(inputs):
        raise Corrupt(fault)
    return Parts(inputs, content[end + 1 :])


def _fault(inputs: Sequence[Input]) -> str:
    """What is wrong with a list of inputs; "" for nothing."""
    if not 1 <= len(inputs) <= INPUTS_MAX:
        return f"a model reads 1 to {INPUTS_MAX:,} inputs, not {len(inputs):,}"
    for values, what in (([each.identity for each in inputs], "identity"), ([each.name for each in inputs], "name")):
        if len(set(values)) != len(values):
            twice = next(value for value in values if values.count(value) > 1)
            return f"two of the model's inputs have the {what} {twice[:64]!r}"
    for each in inputs:
        if not _IDENTITY.fullmatch(each.identity) or not _NAME.fullmatch(each.name):
            return f"the model's input {each.name[:64]!r} has no valid name or identity"
        if each.levels and each.kind != "category":
            return f"the model's input {each.name} is a number and has levels"
        if len(each.levels) > LEVELS_MAX or len(set(each.levels)) != len(each.levels):
            return f"the model's input {each.name} has a level twice, or more than {LEVELS_MAX:,}"
        if any(not 0 < len(level) <= LEVEL_CHARACTERS_MAX for level in each.levels):
            return f"the model's input {each.name} has a level that is empty or too long"
    return ""


class InputScorer:
    """A model's scorer with what its artifact says that it reads."""

    def __init__(self, scorer: Scorer, inputs: tuple[Input, ...], digest: str) -> None:
        """digest: SHA-256 of the whole artifact."""
        self._scorer, self._inputs, self._digest = scorer, inputs, digest

    @property
    def version(self) -> str:
        """Name and semantic version."""
        return self._scorer.version

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of the artifact's bytes."""
        return self._digest

    @property
    def spec(self) -> int:
        """The feature spec version of the kernel's columns among its inputs."""
        return self._scorer.spec

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What it reads, in order."""
        return self._inputs

    @property
    def method(self) -> str:
        """How `contributions` are computed, in words."""
        return self._scorer.method

    def margins(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Raw scores of rows (n, inputs)."""
        return self._scorer.margins(features)

    def contributions(self, row: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
        """(bias, share of each input) of one row (inputs,)."""
        return self._scorer.contributions(row)
