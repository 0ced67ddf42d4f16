"""The levels of a model's categories, chosen on its training rows, and a set's columns as a model reads them. Pure.

LightGBM's histograms have 255 bins, so the LEVELS_MAX most frequent values are levels; every other value, also one that
is first seen later, is one more number. Values below ROWS_MIN rows are no levels: they tell nothing that lasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.features import spec
from core.program.inputs import kernel_identities
from core.scoring import Input
from core.text import listed
from learners.training.dataset import TrainingSet

LEVELS_MAX = 254
ROWS_MIN = 10


def chosen(training: TrainingSet) -> tuple[Input, ...] | None:
    """The inputs of a model trained on these rows; None if they have the kernel's columns only."""
    if training.inputs is None:
        return None
    return tuple(
        each._replace(levels=_frequent(training.features[:, k], each.levels)) if each.kind == "category" else each
        for k, each in enumerate(training.inputs)
    )


def _frequent(column: NDArray[np.float32], values: Sequence[str]) -> tuple[str, ...]:
    counts = np.bincount(column[~np.isnan(column)].astype(np.int64), minlength=len(values))[: len(values)]
    order = np.argsort(-counts, kind="stable")[:LEVELS_MAX]  # ties in the order of the values
    return tuple(sorted(values[i] for i in order.tolist() if counts[i] >= ROWS_MIN))


def under(data: TrainingSet, inputs: tuple[Input, ...] | None) -> TrainingSet:
    """The set with the columns of a model that has these inputs. Raises BadInput if it lacks any."""
    if data.inputs == inputs:
        return data
    return replace(data, features=columns_for(data, inputs), inputs=inputs)


def columns_for(data: TrainingSet, inputs: Sequence[Input] | None) -> NDArray[np.float32]:
    """A set's rows as a model reads them: float32 (n, F), C-contiguous; inputs None: the kernel's columns. Raises
    BadInput if the set lacks any.
    """
    if inputs is None and data.inputs is None:
        return data.features
    places = {each.identity: k for k, each in enumerate(data.inputs)} if data.inputs is not None else _kernel()
    wanted = [Input(identity, name) for identity, name in zip(kernel_identities(), spec.NAMES, strict=True)]
    reads = wanted if inputs is None else list(inputs)
    if missing := [each.name for each in reads if each.identity not in places]:
        raise BadInput(f"the training rows lack {listed(missing)}")
    out = np.empty((len(data), len(reads)), dtype=np.float32)
    for k, each in enumerate(reads):
        column = data.features[:, places[each.identity]]
        held = data.inputs[places[each.identity]] if data.inputs is not None else each
        out[:, k] = column if held.levels == each.levels else _recoded(column, held.levels, each.levels)
    return out


def _kernel() -> Mapping[str, int]:
    return {identity: k for k, identity in enumerate(kernel_identities())}


def _recoded(column: NDArray[np.float32], held: Sequence[str], levels: Sequence[str]) -> NDArray[np.float32]:
    """The numbers of other levels; what is none of them, and was none before, is their number."""
    known = {level: k for k, level in enumerate(levels)}
    table = np.array([*(known.get(value, len(levels)) for value in held), len(levels)], dtype=np.float32)
    out = np.full(len(column), np.nan, dtype=np.float32)
    is_there = ~np.isnan(column)
    out[is_there] = table[column[is_there].astype(np.int64)]
    return out
