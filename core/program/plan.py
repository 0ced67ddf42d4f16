"""From a checked program to what runs: columns, state, and one piece of code per step. Pure; done once per program.

    event code     of a payment: what the state of aggregates is updated with; verdict code: of a verdict
    feature code   from fields and aggregates to the own features; each is rounded to float32, and stored
    rule code      from fields and stored features to the rules' conditions
    decision code  what asks for a decline and for a review, and how grave an alert is

The stored vector holds the kernel's columns (`core.features.spec`), then the own features that are logged, then those
that are not, which are computed but not stored. A feature that the kernel computes already, whatever its name, reads
the kernel's column: equal definitions are the same feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from core.features import spec
from core.program.checked import CheckedProgram
from core.program.compiling import Code, compile_expressions, structure
from core.program.language import identity
from core.program.layout import Layout
from core.program.typed import Aggregate, Apply, Column, Expression, Hit, Listed, is_single

_SINGLE = {
    "less": "less_single",
    "less_equal": "less_equal_single",
    "equal": "equal_single",
    "unequal": "unequal_single",
    "in_numbers": "in_numbers_single",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """See the module's docstring. names: the columns of the matrix that features are computed in; the first `stored`
    of them are stored. features: what the own ones are computed from, by fields, aggregates and kernel columns, in the
    order of their columns. judging_code: rules and decision in one, if the decision reads no hits. conditions: of the
    rules that are evaluated, by columns. reads_outcomes: whether the state of an aggregate depends on the program's own
    decisions.
    """

    program: CheckedProgram
    names: tuple[str, ...]
    stored: int
    layout: Layout
    event_code: Code
    verdict_code: Code
    feature_code: Code
    rule_code: Code
    decision_code: Code
    judging_code: Code | None
    severity_code: Code
    conditions: tuple[Expression, ...]
    features: tuple[Expression, ...]
    reads_outcomes: bool

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return len(self.names)


def plan(program: CheckedProgram, kernel: Mapping[str, str]) -> Plan:
    """The plan of a program. kernel: the kernel's columns by the identity of their definition."""
    found = _Features(program, kernel)
    own = found.own
    expressions = [found.inlined(each.name) for each in own]
    conditions = [_aliased(rule.when, found.aliases) for rule in program.rules if rule.mode != "off"]
    asks = [_aliased(each, found.aliases) for each in (program.decline, program.review) if each is not None]
    levels = [_aliased(each, found.aliases) for _, each in program.severity]
    state = layout_of(program, expressions)
    return Plan(
        program=program,
        names=(*spec.NAMES, *(each.name for each in own)),
        stored=len(spec.NAMES) + sum(each.is_logged for each in own),
        layout=state,
        event_code=compile_expressions(state.inputs),
        verdict_code=compile_expressions(state.verdict_inputs),
        feature_code=compile_expressions(expressions),
        rule_code=compile_expressions(conditions),
        conditions=tuple(conditions),
        features=tuple(expressions),
        decision_code=compile_expressions(asks),
        judging_code=None if any(map(_reads_hit, asks)) else compile_expressions([*conditions, *asks]),
        severity_code=compile_expressions(levels),
        reads_outcomes=any(reads_outcome(each) for each in state.inputs),
    )


def layout(program: CheckedProgram, kernel: Mapping[str, str]) -> Layout:
    """What a program's aggregates need for each account. kernel: as for `plan`."""
    found = _Features(program, kernel)
    return layout_of(program, [found.inlined(each.name) for each in found.own])


def layouts(program: CheckedProgram, kernel: Mapping[str, str]) -> dict[str, Layout]:
    """What each own feature's aggregates would need for each account if it were alone."""
    found = _Features(program, kernel)
    return {each.name: layout_of(program, [found.inlined(each.name)]) for each in found.own}


def layout_of(program: CheckedProgram, expressions: Iterable[Expression]) -> Layout:
    """What the aggregates of some features need. expressions: as `Plan.features`."""
    own = {name: Column(each.type, "field", name, each.form) for name, each in program.fields.items()}
    return Layout.of(_aggregates(expressions), own)


class _Features:
    """Own features with the ones that they name put in their place, each rounded as it is stored. aliases: own names of
    kernel columns; own: the features that are none, those that are logged first.
    """

    def __init__(self, program: CheckedProgram, kernel: Mapping[str, str]) -> None:
        definitions = sorted(program.features, key=lambda each: not each.is_logged)  # stable
        self._definitions = {each.name: each.expression for each in definitions}
        self._done: dict[str, Expression] = {}
        self.aliases: dict[str, str] = {}
        for each in definitions:
            if column := kernel.get(identity(each.expression)):
                self.aliases[each.name] = column
        self.own = [each for each in definitions if each.name not in self.aliases]

    def inlined(self, name: str) -> Expression:
        """The feature by fields, aggregates and kernel columns. The checker has refused circles."""
        if name not in self._done:
            inlined = rewritten(self._definitions[name], self._inline)
            self._done[name] = inlined if inlined.type == "bool" else Apply("number", "single", (inlined,))
        return self._done[name]

    def _inline(self, expression: Expression) -> Expression:
        if not isinstance(expression, Column) or expression.source != "feature":
            return expression
        column = self.aliases.get(expression.name, expression.name)
        if column in spec.NAMES:
            return Column("number", "library", column)
        return self.inlined(expression.name)


def _aliased(expression: Expression, aliases: Mapping[str, str]) -> Expression:
    """The expression with kernel columns for the features that they are."""

    def known(each: Expression) -> Expression:
        if not isinstance(each, Column) or each.source != "feature":
            return each
        column = aliases.get(each.name, each.name)
        return Column("number", "library", column) if column in spec.NAMES else each

    return rewritten(expression, known)


def rewritten(expression: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """The expression with every part replaced by `change(part)`, from the leaves up; not inside aggregates. Comparisons
    follow the precision of what they compare.
    """
    if isinstance(expression, Apply):
        arguments = tuple(rewritten(each, change) for each in expression.arguments)
        operation = expression.operation
        if operation in _SINGLE and any(map(is_single, arguments[:2])):
            operation = _SINGLE[operation]
        expression = replace(expression, operation=operation, arguments=arguments)
    return change(expression)


def parts(expression: Expression) -> Iterator[Expression]:
    """Every part of the expression, those inside aggregates too, arguments before what they are arguments of."""
    match expression:
        case Apply():
            for argument in expression.arguments:
                yield from parts(argument)
        case Aggregate():
            for inner in (expression.value, expression.condition):
                if inner is not None:
                    yield from parts(inner)
        case Listed():
            yield expression.value
        case _:
            pass
    yield expression


def fields_of(expressions: Iterable[Expression]) -> Iterator[Column]:
    """The fields that the expressions read."""
    for expression in expressions:
        yield from (each for each in parts(expression) if isinstance(each, Column) and each.source == "field")


def _aggregates(expressions: Iterable[Expression]) -> tuple[Aggregate, ...]:
    """The distinct aggregates, in the order in which they stand."""
    found = (each for expression in expressions for each in parts(expression) if isinstance(each, Aggregate))
    return tuple({structure(each): each for each in found}.values())


def _reads_hit(expression: Expression) -> bool:
    """Whether it can be evaluated only once the rules are."""
    return any(
        isinstance(each, Hit) or (isinstance(each, Column) and each.source == "outcome" and each.name == "reviews")
        for each in parts(expression)
    )


def reads_outcome(expression: Expression) -> bool:
    """Whether a condition of an aggregate depends on what the program itself decided."""
    return any(
        isinstance(each, Hit) or (isinstance(each, Column) and each.source == "outcome" and each.name != "verdict")
        for each in parts(expression)
    )
