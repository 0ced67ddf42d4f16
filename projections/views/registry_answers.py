"""Answers of the registry: models with their stages, and rows of the reference tables that decisions joined."""

from __future__ import annotations

import msgspec
import numpy as np

from core.features import spec
from core.features.reference import COLUMNS, FIRST_COLUMN, Kind, ReferenceTable
from core.numeric import hash_strings
from projections.engine.states import States
from projections.views.registry import REGISTRY, Model, Reference, Registry, lineage, stage


class ModelRow(msgspec.Struct, frozen=True):
    """A model with its stage and lineage (itself first)."""

    model: Model
    stage: str
    lineage: list[str]


class RegistryAnswer(msgspec.Struct, frozen=True):
    """Models, deployments oldest first, and the policy in force."""

    as_of: str
    models: list[ModelRow]
    registry: Registry


class ReferenceAnswer(msgspec.Struct, frozen=True):
    """A merchant's (terminal's) or device's row in the table that decisions joined; None if there is none."""

    as_of: str
    kind: Kind
    id: str
    table: Reference | None
    values: dict[str, float | None] | None


def registry_answer(states: States) -> RegistryAnswer:
    """Models, stages, lineage; who deployed what, when and why; thresholds, rules and reference tables."""
    state = states.of_control(REGISTRY)
    rows = [ModelRow(model, stage(state, label), lineage(state, label)) for label, model in state.models.items()]
    return RegistryAnswer(states.as_of, rows, state)


def reference_answer(states: States, kind: Kind, name: str) -> ReferenceAnswer:
    """The row of a merchant (terminal) or device in the reference table in force."""
    table = states.of_control(REGISTRY).references.get(kind)
    if table is None:
        return ReferenceAnswer(states.as_of, kind, name, None, None)
    content = ReferenceTable.from_bytes(states.log.get_blob(table.digest))
    key = hash_strings([name])[0]
    row = int(np.searchsorted(content.keys, key))
    if row == len(content.keys) or content.keys[row] != key:
        return ReferenceAnswer(states.as_of, kind, name, table, None)
    first = spec.index(FIRST_COLUMN[kind])
    names = spec.NAMES[first : first + COLUMNS[kind]]
    values = [None if np.isnan(value) else float(value) for value in content.values[row]]
    return ReferenceAnswer(states.as_of, kind, name, table, dict(zip(names, values, strict=True)))
