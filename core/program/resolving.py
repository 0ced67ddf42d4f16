"""From a document to a checked program: expressions parsed and typed, libraries merged. Pure.

    Program ──parsed──► syntax trees ──ordered──► features by what they name ──typed──► CheckedProgram

Whatever is wrong is handed to `report`, with its place, and the rest goes on, so that an author sees every fault at
once. Bounds on the whole (levels and parts of what a feature comes to when those that it names are put in their place)
keep every later step short, whoever wrote the document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from core.canonical import Form
from core.events import Severity
from core.features import spec
from core.policy import SEVERITIES
from core.program import document
from core.program.checked import CheckedProgram, CheckedRule, Definition, OwnField
from core.program.checking import checked
from core.program.document import Decision, Program, Rule
from core.program.document_reading import ATTRIBUTE, placeholders
from core.program.errors import ProgramError, meant
from core.program.fields import STANDARD
from core.program.formatting import formatted
from core.program.parsing import parse
from core.program.problems import Path
from core.program.scope import Scope
from core.program.syntax import Name, Node, levels
from core.program.typed import Aggregate, Apply, Column, Constant, Expression, Listed, Type
from core.times import DAY_MS

CHARACTERS_MAX = 200_000
"""Of all expressions together."""
LEVELS_MAX = 128
PARTS_MAX = 10_000
PARTS_TOTAL_MAX = 200_000
"""Of a feature, and of all, with the features that they name put in their place."""

Report = Callable[[Path, str, tuple[int, int]], None]
"""(where, what is wrong, line and column within the expression or (0, 0))."""


@dataclass(frozen=True, slots=True)
class Library:
    """A library as programs see it. features: types by name. kernel: names of features that the kernel computes."""

    label: str
    digest: str
    program: Program
    features: Mapping[str, Type]
    rules: tuple[CheckedRule, ...]
    expressions: Mapping[str, Expression]
    decline: Expression | None = None
    review: Expression | None = None
    severity: tuple[tuple[Severity, Expression], ...] = ()

    @property
    def names(self) -> Iterator[str]:
        """All that it defines."""
        yield from self.program.fields
        yield from self.program.entities
        yield from self.program.features
        yield from self.program.parameters


class Resolved(NamedTuple):
    """The program with its expressions in canonical text, and what it means."""

    program: Program
    checked: CheckedProgram
    types: Mapping[str, Type]
    expressions: Mapping[str, Expression]


@dataclass(slots=True)
class _Resolver:
    program: Program
    libraries: Sequence[Library]
    is_library: bool
    report: Report
    trees: dict[Path, Node] = field(default_factory=dict)
    types: dict[str, Type] = field(default_factory=dict)

    def fault(self, path: Path, message: str) -> None:
        self.report(path, message, (0, 0))

    # --- syntax --------------------------------------------------------------------------------------------------

    def parse(self) -> None:
        total = 0
        for path, text in expressions(self.program):
            total += len(text)
            if total > CHARACTERS_MAX:
                self.fault(path, f"the expressions up to here have more than {CHARACTERS_MAX:,} characters")
                return
            try:
                self.trees[path] = parse(text)
            except ProgramError as error:
                self.report(path, error.message, (error.line, error.column))

    # --- names ---------------------------------------------------------------------------------------------------

    def names(self) -> None:
        """What the program names must not be a library's."""
        own: dict[str, Path] = {name: ("fields", name) for name in self.program.fields}
        own |= {name: ("entities", name) for name in self.program.entities}
        own |= {name: ("features", name) for name in self.program.features}
        parameters = {name for library in self.libraries for name in library.program.parameters}
        own |= {name: ("parameters", name) for name in self.program.parameters if name not in parameters}
        taken: dict[str, str] = {}
        for library in self.libraries:
            for name in library.names:
                if name in taken:
                    self.fault(("program", "uses"), f"{taken[name]} and {library.label} both define {name}")
                taken[name] = library.label
        for name, path in own.items():
            if name in taken:
                self.fault(path, f"{name} is defined by {taken[name]}; choose another name")

    def order(self) -> list[str]:
        """The features, each after those that it names. Reports circles and what becomes too large."""
        names = {name: self._named(name) for name in self.program.features}
        done: dict[str, tuple[int, int]] = {}  # levels and parts
        ordered: list[str] = []
        total = 0
        for start in names:
            trail: dict[str, None] = {}
            waiting = [start]
            while waiting:
                name = waiting[-1]
                if name in done:
                    waiting.pop()
                    continue
                if trail and next(reversed(trail)) == name:  # all that it names is done
                    del trail[name]
                    waiting.pop()
                    done[name] = self._size(name, names[name], done)
                    ordered.append(name)
                    total += done[name][1]
                    continue
                trail[name] = None
                for other in names[name]:
                    if other in trail:
                        path = list(trail)
                        circle = " → ".join([*path[path.index(other) :], other])
                        self.fault(("features", name), f"features name each other in a circle: {circle}")
                        return []
                    if other not in done:
                        waiting.append(other)
        if total > PARTS_TOTAL_MAX:
            self.fault(("features",), f"the features come to {total:,} parts, more than {PARTS_TOTAL_MAX:,}")
            return []
        return ordered

    def _named(self, name: str) -> dict[str, tuple[int, int]]:
        """The own features that a feature names: the deepest level, and how often."""
        found: dict[str, tuple[int, int]] = {}
        tree = self.trees.get(("features", name))
        for level, node in levels(tree) if tree is not None else ():
            if isinstance(node, Name) and node.name in self.program.features:
                deepest, times = found.get(node.name, (0, 0))
                found[node.name] = max(deepest, level), times + 1
        return found

    def _size(
        self, name: str, named: Mapping[str, tuple[int, int]], done: Mapping[str, tuple[int, int]]
    ) -> tuple[int, int]:
        path = ("features", name)
        tree = self.trees.get(path)
        each = [level for level, _ in levels(tree)] if tree is not None else [1]
        depth = max([*each, *(level + done[other][0] for other, (level, _) in named.items())])
        parts = len(each) + sum(times * done[other][1] for other, (_, times) in named.items())
        if depth > LEVELS_MAX or parts > PARTS_MAX:
            self.fault(path, f"with the features that it names, {name} has {depth:,} levels and {parts:,} parts;"
                             f" {LEVELS_MAX} and {PARTS_MAX:,} are allowed")  # fmt: skip
            return 1, 1
        return depth, parts

    # --- types ---------------------------------------------------------------------------------------------------

    def scope(self) -> Scope:
        own: dict[str, tuple[Type, Form]] = {
            name: (each.type, "raw" if each.type == "string" else "") for name, each in self.program.fields.items()
        }
        for name, each in self.program.fields.items():
            if each.source in STANDARD:
                own[name] = STANDARD[each.source].type, STANDARD[each.source].form
        entities = {name: fields for name, fields in self.program.entities.items()}
        parameters = set(self.program.parameters)
        codes = {rule.code for rule in self.program.rules}
        for library in self.libraries:
            self.types |= library.features
            parameters |= library.program.parameters.keys()
            codes |= {rule.code for rule in library.rules}
            entities |= library.program.entities
        return Scope(own, self.types, frozenset(parameters), entities, frozenset(codes))

    def typed(self, path: Path, scope: Scope, expected: Sequence[Type]) -> Expression | None:
        tree = self.trees.get(path)
        if tree is None:
            return None
        try:
            return self._unaliased(checked(tree, scope, expected))
        except ProgramError as error:
            self.report(path, error.message, (error.line, error.column))
            return None

    def _unaliased(self, expression: Expression) -> Expression:
        """The expression with standard fields for own names of them."""
        match expression:
            case Column(source="field"):
                return replace(expression, name=self._source(expression.name))
            case Apply():
                return replace(expression, arguments=tuple(map(self._unaliased, expression.arguments)))
            case Aggregate():
                value, condition = expression.value, expression.condition
                return replace(
                    expression,
                    entity=tuple(map(self._source, expression.entity)),
                    value=self._unaliased(value) if value is not None else None,
                    condition=self._unaliased(condition) if condition is not None else None,
                )
            case Listed():
                value_of = self._unaliased(expression.value)
                assert isinstance(value_of, Column)
                return replace(expression, value=value_of)
            case _:
                return expression

    def _source(self, name: str) -> str:
        """The standard field for an own name of it; any other field's own name."""
        given = self.program.fields.get(name)
        return given.source if given is not None and given.source in STANDARD else name

    def features(self, scope: Scope, ordered: Sequence[str]) -> dict[str, Expression]:
        found: dict[str, Expression] = {}
        self.types |= dict.fromkeys(self.program.features, "number")  # of faulty ones, which others may name
        for name in ordered:
            if (expression := self.typed(("features", name), scope, ("number", "bool"))) is not None:
                self.types[name] = expression.type
                found[name] = expression
                if name in spec.NAMES and not self.is_library and expression != Column("number", "library", name):
                    self.fault(("features", name), f"{name} is a column of the library; choose another name")
        return found

    def own_fields(self) -> dict[str, OwnField]:
        return {
            name: OwnField(
                each.source.removeprefix(ATTRIBUTE),
                each.type,
                "raw" if each.type == "string" else "",
                each.required,
                _epoch(each.default) if each.type == "time" and isinstance(each.default, str) else each.default,
                each.personal,
            )
            for name, each in self.program.fields.items()
            if each.source not in STANDARD
        }

    def rules(self, scope: Scope) -> list[CheckedRule]:
        library_rules = {rule.code: rule for library in self.libraries for rule in library.rules}
        changed = dict(library_rules)
        own: list[CheckedRule] = []
        for i, rule in enumerate(self.program.rules):
            if not rule.when:
                if rule.code in library_rules:
                    changed[rule.code] = _changed(library_rules[rule.code], rule)
                else:
                    self.fault(("rules", i), f"{rule.code} is no library's rule, so it needs a condition (when)")
                continue
            if rule.code in library_rules:
                self.fault(
                    ("rules", i, "code"),
                    f"{rule.code} is a library's rule: leave `when` out to change its effect or mode, or choose"
                    " another code",
                )
            when = self.typed(("rules", i, "when"), scope, ("bool",))
            if when is not None:
                own.append(_changed(CheckedRule(rule.code, when, "flag"), rule))
        return [*changed.values(), *own]

    def words(self, scope: Scope) -> None:
        """Placeholders in a rule's words name values."""
        known = set(scope.names())
        for i, rule in enumerate(self.program.rules):
            for name in placeholders(rule.words or ""):
                if name not in known:
                    near = meant(name, known)
                    self.fault(("rules", i, "words"), f"nothing is called {{{name}}}{near}")

    def examples(self, codes: frozenset[str]) -> None:
        for i, example in enumerate(self.program.examples):
            for key, named in (("hits", example.hits), ("misses", example.misses)):
                for code in named:
                    if code not in codes:
                        self.fault(("examples", i, key), f"no rule has the code {code}")
            if both := [code for code in example.hits if code in example.misses]:
                self.fault(("examples", i), f"{both[0]} can't hit and miss")


def resolve(program: Program, libraries: Sequence[Library], report: Report, *, is_library: bool = False) -> Resolved:
    """Check a program that was read or decoded. What is returned is complete only if nothing was reported."""
    found = _Resolver(program, libraries, is_library, report)
    found.parse()
    found.names()
    scope = found.scope()
    features = found.features(scope, found.order())
    rule_scope, decision_scope = replace(scope, place="rule"), replace(scope, place="decision")
    rules = found.rules(rule_scope)
    asked = {key: found.typed(("decision", key), decision_scope, ("bool",)) for key in ("decline", "review")}
    grades = {
        grade: found.typed(("decision", "severity", grade), decision_scope, ("bool",))
        for grade in program.decision.severity
    }
    for library in libraries:
        asked = {key: expression or getattr(library, key) for key, expression in asked.items()}
        grades = {**dict(library.severity), **grades}
    actions: dict[Severity, tuple[str, ...]] = {}
    for each in (*(library.program for library in libraries), program):
        actions |= each.decision.actions
    found.words(rule_scope)
    found.examples(scope.codes)
    parameters = {name: value for library in libraries for name, value in library.program.parameters.items()}
    canonical = _canonical_text(program, found.trees)
    meant = CheckedProgram(
        digest=document.digest(canonical),
        label=program.label,
        parameters=parameters | program.parameters,
        fields=found.own_fields(),
        features=tuple(Definition(name, features[name], program.features[name].log) for name in sorted(features)),
        rules=tuple(rules),
        decline=asked["decline"],
        review=asked["review"],
        severity=tuple((grade, of) for grade in reversed(SEVERITIES) if (of := grades.get(grade)) is not None),
        actions=actions,
    )
    return Resolved(canonical, meant, {name: each.type for name, each in features.items()}, features)


def expressions(program: Program) -> Iterator[tuple[Path, str]]:
    """Every expression of a program with its path."""
    for name, feature in program.features.items():
        yield ("features", name), feature.value
    for i, rule in enumerate(program.rules):
        if rule.when:
            yield ("rules", i, "when"), rule.when
    for key in ("decline", "review"):
        if text := getattr(program.decision, key):
            yield ("decision", key), text
    for grade, text in program.decision.severity.items():
        yield ("decision", "severity", grade), text


def _canonical_text(program: Program, trees: Mapping[Path, Node]) -> Program:
    text = {path: formatted(tree) for path, tree in trees.items()}

    def of(path: Path, given: str) -> str:
        return text.get(path, given)

    decision = program.decision
    return msgspec.structs.replace(
        program,
        features={
            name: msgspec.structs.replace(each, value=of(("features", name), each.value))
            for name, each in program.features.items()
        },
        rules=tuple(
            msgspec.structs.replace(rule, when=of(("rules", i, "when"), rule.when))
            for i, rule in enumerate(program.rules)
        ),
        decision=decision
        if decision == document.NO_DECISION
        else Decision(
            decline=of(("decision", "decline"), decision.decline),
            review=of(("decision", "review"), decision.review),
            severity={grade: of(("decision", "severity", grade), given) for grade, given in decision.severity.items()},
            actions=decision.actions,
        ),
    )


def _changed(rule: CheckedRule, by: Rule) -> CheckedRule:
    when = rule.when
    if by.expires:
        end = Constant("time", _epoch(by.expires + "T00:00:00Z"))
        when = Apply("bool", "and", (Apply("bool", "less_time", (Column("time", "field", "received_at"), end)), when))
    return CheckedRule(
        rule.code,
        when,
        by.effect or rule.effect,
        by.mode or rule.mode,
        by.rollout if by.rollout is not None else rule.rollout,
        by.words if by.words is not None else rule.words,
    )


def _epoch(text: str) -> float:
    """Epoch ms of a time as the document holds it."""
    since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    return float(since.days * DAY_MS + since.seconds * 1000 + since.microseconds // 1000)
