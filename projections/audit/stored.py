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
from core.jit import njit_unlocked
from core.program.checked import OwnField
from core.program.compiling import Code, compile_expressions
from core.program.deciding import Hits, Program
from core.program.language import identity
from core.program.plan import Plan, fields_of, parts
from core.program.typed import Aggregate, Column, Expression, Hit
from projections.audit.stored_batch import NotStored, StoredBatch, column_of

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


def columns_of_field(plan: Plan, name: str) -> tuple[str, ...]:
    """The archive's columns that a field is made from."""
    return ("attributes",) if name in plan.program.fields else _COLUMNS_OF.get(name, (name,))


def has_rollouts(plan: Plan) -> bool:
    """Whether any rule is live for a part of the accounts."""
    return any(rule.mode == "live" and rule.rollout < 100.0 for rule in plan.program.rules)


def stored_places(plan: Plan, reads: Reads, logged: Plan, computed: Sequence[int] = ()) -> dict[int, int]:
    """Where the scores of the program `logged` store the features that a program reads, by column of its matrix;
    −1 − k for computed[k], whether it is stored or not. Raises NotStored that names those which they don't.
    """
    found, missing = _places(plan, reads, logged)
    found |= {column: -1 - k for k, column in enumerate(computed)}
    if missing := [column for column in missing if column not in computed]:
        names = ", ".join(plan.names[column] for column in missing)
        raise NotStored(f"the scores of {logged.program.label} don't store {names} of {plan.program.label}")
    return found


def not_stored(plan: Plan, reads: Reads, logged: Plan) -> list[int]:
    """The features that a program reads and the scores of `logged` don't store, as columns of its matrix."""
    return _places(plan, reads, logged)[1]


def _places(plan: Plan, reads: Reads, logged: Plan) -> tuple[dict[int, int], list[int]]:
    known = {
        (identity(expression), *_sources(logged, expression)): spec.WIDTH + k
        for k, expression in enumerate(logged.features)
        if spec.WIDTH + k < logged.stored
    }
    found: dict[int, int] = {}
    missing: list[int] = []
    for column in reads.features:
        if column < spec.WIDTH:
            found[column] = column
            continue
        expression = plan.features[column - spec.WIDTH]
        place = known.get((identity(expression), *_sources(plan, expression)))
        if place is None:
            missing.append(column)
        else:
            found[column] = place
    return found, missing


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
    are `unchanged` are not evaluated: the scores say where they hit. Nor are decisions where nothing that they depend
    on differs.
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
        self._logged_effects = {rule.code: policy.EFFECTS.index(rule.effect) for rule in logged.rules}
        self._is_alike = decides_alike(program, places, logged)
        self._alike: dict[tuple[str, bytes], bool] = {}
        self._kept_by: dict[str, NDArray[np.uint8]] = {}
        plan = program.plan
        self._asked_hits = {
            leaf.code
            for code in (plan.decision_code, plan.severity_code)
            for leaf in code.leaves
            if isinstance(leaf, Hit)
        }
        self._asks_by_hits = any(
            isinstance(each, Hit) or (isinstance(each, Column) and (each.source, each.name) == ("outcome", "reviews"))
            for each in plan.decision_code.leaves
        )
        self._condition_columns = _columns_of(self._part.plan.rule_code, plan, places)
        self._decision_columns = [
            "probability",
            *_columns_of(plan.decision_code, plan, places),
            *_columns_of(plan.severity_code, plan, places),
        ]

    def decide(self, batch: StoredBatch, decided: NDArray[np.uint8], graded: NDArray[np.int8]) -> Made:
        """What the program decides on the rows of a batch. decided, graded: the logged decisions, uint8 (n,), and
        severities, int8 (n,) or −1.
        """
        pattern, live, shadow, alike = self._patterns(batch)
        if alike.all():
            return Made(pattern, live, shadow, decided, graded)
        rows = np.flatnonzero(~alike[pattern]) if alike.any() else batch.all_rows
        if not len(rows):
            return Made(pattern, live, shadow, decided, graded)
        batch.need(self._decision_columns)
        decisions, severities = decided.copy(), graded.copy()
        decisions[rows], severities[rows] = self._judged(batch, rows, pattern[rows], live, shadow)
        return Made(pattern, live, shadow, decisions, severities)

    def _judged(
        self,
        batch: StoredBatch,
        rows: NDArray[np.int64],
        pattern: NDArray[np.int64],
        live: NDArray[np.uint8],
        shadow: NDArray[np.uint8],
    ) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
        """Decisions and severities of some rows, by the logged probabilities."""
        program = self._program
        probabilities: NDArray[np.float64] = batch.column("probability").to_numpy()[rows]
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
        hits = self._hits(live, shadow, counts, pattern[alerts])
        severities[alerts] = program.severities(batch, rows[alerts], probabilities[alerts], hits, decisions[alerts])
        return decisions, severities

    @staticmethod
    def _hits(
        live: NDArray[np.uint8], shadow: NDArray[np.uint8], counts: NDArray[np.int64], pattern: NDArray[np.int64]
    ) -> Hits:
        return Hits(live[pattern], shadow[pattern], counts[pattern])

    def _patterns(
        self, batch: StoredBatch
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
        """The combinations of hits: index (n,), live and shadow (K, R), and whether each asks for what the logged hits
        asked for, bool (K,).
        """
        count = len(self._program.rules)
        pattern, names = np.zeros(len(batch.all_rows), dtype=np.int64), [("", "")]
        if self._kept or self._is_alike:
            codes, values = batch.codes("rules")
            quiet_codes, quiet_values = batch.codes("shadow_rules")
            pattern = codes if len(quiet_values) == 1 else codes * len(quiet_values) + quiet_codes
            names = [(value, quiet) for value in values for quiet in quiet_values]
        live = np.array([self._kept_of(value) for value, _ in names], dtype=np.uint8).reshape(-1, count)
        shadow = np.array([self._kept_of(quiet) for _, quiet in names], dtype=np.uint8).reshape(-1, count)
        origin = np.arange(len(names))
        if self._changed:
            batch.need(self._condition_columns)
            found = self._part.hits(batch, batch.all_rows)
            for i, k in enumerate(self._changed):
                pattern, used = extended(pattern, len(live), found.live, found.shadow, i)
                live, shadow, origin = live[used // 3], shadow[used // 3], origin[used // 3]
                live[:, k], shadow[:, k] = used % 3 == 1, used % 3 == 2
        alike = [self._asks_alike(names[k][0], now) for k, now in zip(origin.tolist(), live, strict=True)]
        return pattern, live, shadow, np.array(alike, dtype=np.bool_)

    def _kept_of(self, logged: str) -> NDArray[np.uint8]:
        """Which rules that are not evaluated hit by the logged codes: uint8 (R,)."""
        if logged not in self._kept_by:
            hits = np.zeros(len(self._program.rules), dtype=np.uint8)
            codes = set(logged.split(","))
            for k, code in self._kept:
                hits[k] = code in codes
            self._kept_by[logged] = hits
        return self._kept_by[logged]

    def _asks_alike(self, logged: str, now: NDArray[np.uint8]) -> bool:
        """Whether decision and severity follow from the live hits as from the logged codes."""
        if not self._is_alike:
            return False
        key = logged, now.tobytes()
        if key not in self._alike:
            self._alike[key] = self._compared(set(logged.split(",")) - {""}, now)
        return self._alike[key]

    def _compared(self, before: set[str], now: NDArray[np.uint8]) -> bool:
        counts = np.zeros(len(policy.EFFECTS), dtype=np.int64)
        for code in before:
            if code not in self._logged_effects:
                return False
            counts[self._logged_effects[code]] += 1
        hits = {code for code, hit in zip(self._program.codes, now, strict=True) if hit}
        return bool((now @ self._effects == counts).all()) and hits & self._asked_hits == before & self._asked_hits


def decides_alike(program: Program, places: Mapping[int, int], logged: Program) -> bool:
    """Whether a program's `[decision]` and severity follow from hits, probability, features and fields as those of the
    program that decided.
    """

    def shape(of: Program) -> tuple[object, ...]:
        checked = of.plan.program
        return checked.decline is None, checked.review is None, [level for level, _ in checked.severity]

    mine, other = program.plan, logged.plan
    pairs = ((mine.decision_code, other.decision_code), (mine.severity_code, other.severity_code))
    return shape(program) == shape(logged) and all(
        _is_same_code(one, two)
        and all(program.parameters[name] == logged.parameters[name] for _, name in one.parameters)
        and all(_is_same(part, program, places, logged) for leaf in one.leaves for part in parts(leaf))
        for one, two in pairs
    )


def _is_same_code(one: Code, two: Code) -> bool:
    same = (one.leaves, one.texts, one.parameters, one.lists) == (two.leaves, two.texts, two.parameters, two.lists)
    return same and np.array_equal(one.words, two.words) and np.array_equal(one.instructions, two.instructions)


def _columns_of(code: Code, plan: Plan, places: Mapping[int, int]) -> list[str]:
    """The archive's columns that a code reads."""
    names: list[str] = []
    for each in chain.from_iterable(map(parts, code.leaves)):
        match each:
            case Column(_, "library" | "feature", name):
                names.append(column_of(places[plan.names.index(name)]))
            case Column(_, "field", name):
                names += columns_of_field(plan, name)
            case _:
                pass
    return list(dict.fromkeys(names))


@njit_unlocked
def extended(
    pattern: NDArray[np.int64], count: int, live: NDArray[np.uint8], shadow: NDArray[np.uint8], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The combinations with what one more rule does: index (n,), and by combination 3 × the one of `count` that it
    extends + 0, 1 or 2 for no hit, a live and a shadow hit. Combinations that no row has are left out.

    live, shadow: (n, R), of which column k is the rule's.
    """
    out = np.empty_like(pattern)
    places = np.full(3 * count, -1, dtype=np.int64)
    for i in range(pattern.shape[0]):
        each = pattern[i] * 3 + live[i, k] + 2 * shadow[i, k]
        out[i] = each
        places[each] = 0
    used = np.flatnonzero(places == 0)
    for j in range(used.shape[0]):
        places[used[j]] = j
    for i in range(pattern.shape[0]):
        out[i] = places[out[i]]
    return out, used


def _only(program: Program, rules: Sequence[int]) -> Program:
    """The program with only these of its rules."""
    whole = program.plan
    conditions = tuple(whole.conditions[k] for k in rules)
    part = replace(whole.program, rules=tuple(program.rules[k] for k in rules))
    less = replace(whole, program=part, conditions=conditions, rule_code=compile_expressions(conditions))
    return Program(less, program.key, program.parameters, program.disabled)


def _no_hits(rows: int) -> Hits:
    return Hits(np.zeros((rows, 0), np.uint8), np.zeros((rows, 0), np.uint8), np.zeros((rows, 0), np.int64))
