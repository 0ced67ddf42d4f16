"""Decides again from what scores store: the same compiled code as live, over columns of the archive. Pure.

A program whose rules, `[decision]` and severity read only features that the logged scores store needs no fold: the
stored float32 values are what its rules would have read. A feature of another name with the same definition is the
same feature. Aggregates of the program's own decisions are taken as logged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core import policy
from core.features import spec
from core.program.checked import OwnField
from core.program.compiling import compile_expressions
from core.program.deciding import Hits, Program
from core.program.language import identity
from core.program.plan import Plan, fields_of, parts
from core.program.typed import Aggregate, Column, Expression, Hit
from projections.audit.stored_batch import NotStored, StoredBatch

_COLUMNS_OF = {
    "amount": ("amount", "rate"),
    "amount_sent": ("amount",),
    "hour": ("occurred_at",),
    "weekday": ("occurred_at",),
    "currency_known": ("currency",),
    "id_conflict": ("rules", "shadow_rules"),
}
"""Columns of the archive that a field is made from, where it is not one of the same name."""


class Reads(NamedTuple):
    """What a program's rules, decision and severity read. features: columns of its matrix; fields: names."""

    features: tuple[int, ...]
    fields: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan) -> Reads:
        """Raises NotStored if it reads an aggregate outside of features."""
        places = {name: place for place, name in enumerate(plan.names)}
        features: dict[int, None] = {}
        fields: dict[str, None] = {}
        for leaf in _leaves(plan):
            for each in parts(leaf):
                match each:
                    case Aggregate():
                        raise NotStored("a condition reads an aggregate that is no stored feature")
                    case Column(_, "library" | "feature", name):
                        features[places[name]] = None
                    case Column(_, "field", name):
                        fields[name] = None
                    case _:
                        pass
        return cls(tuple(features), tuple(fields))


def _leaves(plan: Plan) -> Iterator[Expression]:
    return chain(plan.rule_code.leaves, plan.decision_code.leaves, plan.severity_code.leaves)


def columns_read(plan: Plan, reads: Reads) -> list[str]:
    """The archive's columns that its fields are made from, without features."""
    own = plan.program.fields
    named = [("attributes",) if name in own else _COLUMNS_OF.get(name, (name,)) for name in reads.fields]
    rollouts = (
        [("account_id",)] if any(rule.mode == "live" and rule.rollout < 100.0 for rule in plan.program.rules) else []
    )
    return list(dict.fromkeys(chain.from_iterable([*named, *rollouts])))


def stored_places(plan: Plan, reads: Reads, logged: Plan) -> dict[int, int]:
    """Where the scores of the program `logged` store the features that a program reads, by column of its matrix.

    Raises NotStored that names those which they don't.
    """
    known = {
        (identity(expression), *_sources(logged, expression)): spec.WIDTH + k
        for k, expression in enumerate(logged.features)
        if spec.WIDTH + k < logged.stored
    }
    found: dict[int, int] = {}
    missing: list[str] = []
    for column in reads.features:
        if column < spec.WIDTH:
            found[column] = column
            continue
        expression = plan.features[column - spec.WIDTH]
        place = known.get((identity(expression), *_sources(plan, expression)))
        if place is None:
            missing.append(plan.names[column])
        else:
            found[column] = place
    if missing:
        raise NotStored(
            f"the scores of {logged.program.label} don't store {', '.join(missing)} of {plan.program.label}"
        )
    return found


def _sources(plan: Plan, expression: Expression) -> list[OwnField]:
    """The program's own fields that the expression reads: another source under the same name is another feature."""
    own = plan.program.fields
    return [own[name] for name in sorted({each.name for each in fields_of([expression])}) if name in own]


def conflict_codes(logged: Plan) -> tuple[str, ...]:
    """Rules of the program that hit exactly where a transaction ID was sent before with other content."""
    return tuple(
        rule.code
        for rule, condition in zip(
            (rule for rule in logged.program.rules if rule.mode != "off"), logged.conditions, strict=True
        )
        if condition == Column("bool", "field", "id_conflict")
    )


class Made(NamedTuple):
    """Decisions made from columns. pattern: int64 (n,), which combination of hits each row has; live, shadow: uint8 (K,
    R), the combinations. decisions uint8 (n,) into policy.DECISIONS; severities int8 (n,) or −1.
    """

    pattern: NDArray[np.int64]
    live: NDArray[np.uint8]
    shadow: NDArray[np.uint8]
    decisions: NDArray[np.uint8]
    severities: NDArray[np.int8]


def unchanged(program: Program, places: Mapping[int, int], logged: Program) -> list[bool]:
    """Which of a program's rules hit exactly where a rule of this code hit in the logged scores: of equal condition,
    effect, mode and roll-out, over the same columns, fields and values of parameters.
    """
    known = {rule.code: (rule, condition) for rule, condition in zip(logged.rules, logged.plan.conditions, strict=True)}
    out = []
    for rule, condition in zip(program.rules, program.plan.conditions, strict=True):
        other = known.get(rule.code)
        same = (
            other is not None
            and (rule.effect, rule.mode, rule.rollout) == (other[0].effect, other[0].mode, other[0].rollout)
            and condition == other[1]
            and (rule.code in program.disabled) == (rule.code in logged.disabled)
        )
        out.append(same and all(_is_same(each, program, places, logged) for each in parts(condition)))
    return out


def _is_same(part: Expression, program: Program, places: Mapping[int, int], logged: Program) -> bool:
    match part:
        case Column(_, "parameter", name):
            return program.parameters[name] == logged.parameters[name]
        case Column(_, "field", name):
            return program.plan.program.fields.get(name) == logged.plan.program.fields.get(name)
        case Column(_, "library" | "feature", name):
            return places[program.plan.names.index(name)] == logged.plan.names.index(name)
        case _:
            return True


class Judge:
    """A program that judges rows whose scores another program wrote, both with the parameters in force. Rules that
    are `unchanged` are not evaluated: the scores say where they hit.
    """

    def __init__(self, program: Program, places: Mapping[int, int], logged: Program) -> None:
        self._program = program
        kept = unchanged(program, places, logged)
        self._kept = [(k, rule.code) for k, (rule, same) in enumerate(zip(program.rules, kept, strict=True)) if same]
        self._changed = [k for k, same in enumerate(kept) if not same]
        self._part = _only(program, self._changed) if len(self._changed) < len(kept) else program
        effects = [policy.EFFECTS.index(rule.effect) for rule in program.rules]
        self._effects = np.zeros((len(effects), len(policy.EFFECTS)), dtype=np.int64)
        self._effects[np.arange(len(effects)), effects] = 1
        self._asks_by_hits = any(
            isinstance(each, Hit) or (isinstance(each, Column) and (each.source, each.name) == ("outcome", "reviews"))
            for each in program.plan.decision_code.leaves
        )

    def decide(self, batch: StoredBatch, probabilities: NDArray[np.float64]) -> Made:
        """What the program decides on the rows of a batch, given the logged probabilities, float64 (n,)."""
        program, rows = self._program, batch.all_rows
        pattern, live, shadow = self._patterns(batch)
        counts = live.astype(np.int64) @ self._effects
        whole = self._hits(live, shadow, counts, pattern) if self._asks_by_hits else _no_hits(len(rows))
        asked = program.asked(batch, rows, probabilities, whole)
        by_pattern = np.stack(
            [policy.decide(np.full(len(live), bool(k & 2)), np.full(len(live), bool(k & 1)), counts) for k in range(4)],
            axis=1,
        )
        decisions = by_pattern.ravel()[pattern * 4 + asked.decline * 2 + asked.review]
        severities = np.full(len(rows), -1, dtype=np.int8)
        alerts = np.flatnonzero(decisions)
        severities[alerts] = program.severities(
            batch, alerts, probabilities[alerts], self._hits(live, shadow, counts, pattern[alerts]), decisions[alerts]
        )
        return Made(pattern, live, shadow, decisions, severities)

    @staticmethod
    def _hits(
        live: NDArray[np.uint8], shadow: NDArray[np.uint8], counts: NDArray[np.int64], pattern: NDArray[np.int64]
    ) -> Hits:
        return Hits(live[pattern], shadow[pattern], counts[pattern])

    def _patterns(self, batch: StoredBatch) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]:
        """The combinations of hits: index (n,), live and shadow (K, R)."""
        count = len(self._program.rules)
        pattern, names = np.zeros(len(batch.all_rows), dtype=np.int64), [("", "")]
        if self._kept:
            codes, values = batch.codes("rules")
            quiet_codes, quiet_values = batch.codes("shadow_rules")
            pattern = codes * len(quiet_values) + quiet_codes
            names = [(value, quiet) for value in values for quiet in quiet_values]
        live, shadow = np.zeros((len(names), count), np.uint8), np.zeros((len(names), count), np.uint8)
        for hit, which in ((live, 0), (shadow, 1)):
            split = [set(name[which].split(",")) for name in names]
            for k, code in self._kept:
                hit[:, k] = [code in codes_of for codes_of in split]
        if self._changed:
            found = self._part.hits(batch, batch.all_rows)
            for i, k in enumerate(self._changed):
                pattern, live, shadow = _extended(pattern, live, shadow, k, found.live[:, i], found.shadow[:, i])
        return pattern, live, shadow


def _extended(
    pattern: NDArray[np.int64],
    live: NDArray[np.uint8],
    shadow: NDArray[np.uint8],
    k: int,
    is_live: NDArray[np.uint8],
    is_shadow: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]:
    """The combinations with what rule k does too; those that no row has are left out."""
    pattern = pattern * 3 + is_live + 2 * is_shadow
    used = np.flatnonzero(np.bincount(pattern, minlength=3 * len(live)))
    live, shadow = live[used // 3], shadow[used // 3]
    live[:, k], shadow[:, k] = used % 3 == 1, used % 3 == 2
    place = np.zeros(int(used[-1]) + 1 if len(used) else 1, dtype=np.int64)
    place[used] = np.arange(len(used))
    return place[pattern], live, shadow


def _only(program: Program, rules: Sequence[int]) -> Program:
    """The program with only these of its rules."""
    whole = program.plan
    conditions = tuple(whole.conditions[k] for k in rules)
    part = replace(whole.program, rules=tuple(program.rules[k] for k in rules))
    less = replace(whole, program=part, conditions=conditions, rule_code=compile_expressions(conditions))
    return Program(less, program.key, program.parameters, program.disabled)


def _no_hits(rows: int) -> Hits:
    return Hits(np.zeros((rows, 0), np.uint8), np.zeros((rows, 0), np.uint8), np.zeros((rows, 0), np.int64))
