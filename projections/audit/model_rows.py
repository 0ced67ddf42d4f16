"""What a model read of a logged payment, made again from what the log stores of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.context import NO_RATES
from core.errors import BadInput
from core.events import TransactionReceived
from core.features import spec
from core.features.columns import columns
from core.program.batch import Batch
from core.program.deciding import Program
from core.program.inputs import offers
from core.scoring import Input, Scorer


class ModelInput(NamedTuple):
    """An input of a model and its value. column: of the program's matrix, −1 for a field. shown: what a category's
    number stands for; "" for a number.
    """

    name: str
    column: int
    value: float
    shown: str


def model_row(
    program: Program, scorer: Scorer, vector: NDArray[np.float32], transaction: TransactionReceived | None
) -> NDArray[np.float32]:
    """The model's columns, float32 (F,). vector: the first columns of the program's matrix, float32 (W,). Raises
    BadInput if that does not hold what the model reads.
    """
    if scorer.inputs is None:
        return vector[: spec.WIDTH]
    if transaction is None:
        raise BadInput("the log does not hold the transaction")
    program.serve(scorer)
    if program.reach(scorer) > len(vector):
        raise BadInput("it reads features that scores don't store")
    matrix = np.full((1, program.width), np.nan, dtype=np.float32)
    matrix[0, : len(vector)] = vector[: program.width]
    own = program.plan.program.fields
    seen = np.zeros(1, dtype=np.uint8)
    batch = Batch([transaction], columns([transaction], program.key), matrix, seen, {}, NO_RATES, program.key, own)
    row: NDArray[np.float32] = program.columns(scorer, batch, batch.all_rows)[0]
    return row


def model_inputs(program: Program, scorer: Scorer, row: NDArray[np.float32]) -> list[ModelInput]:
    """The inputs of a model that `row` (F,) holds the values of."""
    if scorer.inputs is None:
        return [ModelInput(name, k, float(row[k]), "") for k, name in enumerate(spec.NAMES)]
    known = offers(program.plan)
    return [
        ModelInput(
            each.name,
            known[each.identity].column if each.identity in known else -1,
            float(row[k]),
            _shown(each, float(row[k])),
        )
        for k, each in enumerate(scorer.inputs)
    ]


def _shown(each: Input, value: float) -> str:
    if each.kind != "category" or value != value:
        return ""
    return repr(each.levels[int(value)]) if value < len(each.levels) else "another value than the model knows"


def shares_by_column(inputs: list[ModelInput], shares: NDArray[np.float64], stored: int) -> Mapping[int, float]:
    """The shares of inputs that are stored columns."""
    return {each.column: float(share) for each, share in zip(inputs, shares, strict=True) if 0 <= each.column < stored}
