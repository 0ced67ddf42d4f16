"""Answers of the registry: models with their stages, and rows of the reference tables that decisions joined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from core.canonical import texts
from core.control import DEFAULT_DECLINE, DEFAULT_REVIEW
from core.control_stream import identity_of
from core.features import spec
from core.features.reference import COLUMNS, FIRST_COLUMN, Kind, ReferenceTable
from core.hashing import hash_strings
from core.policy import Thresholds
from core.program.loading import default
from projections.engine.states import States
from projections.views.registry import REGISTRY, Registry, lineage, stage
from projections.views.registry_records import Model, Reference


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


class PolicyEdit(msgspec.Struct, frozen=True):
    """A change of thresholds, rules or rates: what it did, in words. refused: why it had no effect, "" if it had."""

    position: int
    occurred_at: int
    actor: str
    change: str
    reason: str
    refused: str


def policy_history(registry: Registry, of: Literal["thresholds", "rules", "rates"]) -> list[PolicyEdit]:
    """Every change of the thresholds, the rules or the rates, oldest first, with what it changed from and to.

    A change that was refused, or repeated what was so, says what it asked for.
    """
    before: dict[str, Any] = Thresholds(DEFAULT_REVIEW, DEFAULT_DECLINE)._asdict()
    before |= {"parameters": {}, "disabled": [], "base": "", "rates": {}}
    mark, words = {
        "thresholds": ("review", _threshold_words),
        "rules": ("parameters", _rule_words),
        "rates": ("base", _rate_words),
    }[of]
    found = []
    for edit in registry.policy:
        if mark not in edit.change:
            continue
        text = ", ".join(words(before, edit.change)) or "no change"
        found.append(PolicyEdit(edit.position, edit.occurred_at, edit.actor, text, edit.reason, edit.refused))
        if not edit.refused:
            before |= edit.change
    return found


def _threshold_words(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{name.replace('_', ' ')} {_level(name, before)} → {_level(name, after)}"
        for name in Thresholds._fields
        if before[name] != after[name]
    ]


def _level(name: str, state: Mapping[str, Any]) -> str:
    """A threshold; an expected loss of 0 means that the probability decides."""
    return "none" if name.endswith("_loss") and not state[name] else f"{state[name]:g}"


def _rate_words(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    was, now = before["rates"], after["rates"]
    words = [f"base {before['base'] or 'none'} → {after['base']}"] if before["base"] != after["base"] else []
    words += [f"{name} {was[name]:g} → {now[name]:g}" for name in now if name in was and was[name] != now[name]]
    words += [f"{name} {now[name]:g} added" for name in now if name not in was]
    return words + [f"{name} removed" for name in was if name not in now]


def _rule_words(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    was, now = before["parameters"], after["parameters"]
    shipped = default().checked.parameters
    words = []
    for name in dict.fromkeys([*was, *now]):
        usual = shipped.get(name)  # of a program's own parameter, only its document knows
        shown = "default" if usual is None else f"{usual:g}"
        if name not in now:
            words.append(f"{name} {was[name]:g} → {shown}{'' if usual is None else ' (default)'}")
        elif was.get(name, usual) != now[name]:
            words.append(f"{name} {f'{was[name]:g}' if name in was else shown} → {now[name]:g}")
    words += [f"{code} disabled" for code in after["disabled"] if code not in before["disabled"]]
    return words + [f"{code} enabled" for code in before["disabled"] if code not in after["disabled"]]


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
    key = hash_strings(texts([name]), identity_of(states.log).key)[0]
    row = int(np.searchsorted(content.keys, key))
    if row == len(content.keys) or content.keys[row] != key:
        return ReferenceAnswer(states.as_of, kind, name, table, None)
    first = spec.index(FIRST_COLUMN[kind])
    names = spec.NAMES[first : first + COLUMNS[kind]]
    values = [None if np.isnan(value) else float(value) for value in content.values[row]]
    return ReferenceAnswer(states.as_of, kind, name, table, dict(zip(names, values, strict=True)))
