"""Random syntax trees, as hypothesis strategies: whatever the parser can give, well typed or not."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from core.program.parsing import joined
from core.program.syntax import NOWHERE, Binary, Call, Choose, ListOf, Name, Node, Number, Text, Truth, Unary
from core.program.tokens import KEYWORDS, RESERVED

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True).filter(lambda n: n not in RESERVED | {*KEYWORDS})
NUMBERS = st.one_of(
    st.integers(-(2**53), 2**53).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 0.1, 1e22, 1e-7, 2.0**53, 2.0**60, 5e-324, 1.7976931348623157e308]),
)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
OPERATORS = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%"])


def _negative(operand: Node) -> Node:
    is_plain = isinstance(operand, Number) and math.copysign(1.0, operand.value) > 0
    return Number(-operand.value) if is_plain else Unary("-", operand)  # type: ignore[union-attr]


def trees(names: st.SearchStrategy[str], functions: st.SearchStrategy[str]) -> st.SearchStrategy[Node]:
    """Trees whose names and functions are these."""
    leaves: st.SearchStrategy[Node] = st.one_of(
        NUMBERS.map(Number), TEXTS.map(Text), st.booleans().map(Truth), names.map(Name)
    )

    def above(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        several = st.lists(nodes, max_size=4).map(tuple)
        return st.one_of(
            st.builds(lambda operand: Unary("!", operand), nodes),
            nodes.map(_negative),
            st.builds(Binary, OPERATORS, nodes, nodes),
            st.builds(
                lambda operator, operands: joined(operator, operands, NOWHERE),
                st.sampled_from(["&&", "||"]),
                st.lists(nodes, min_size=2, max_size=4).map(tuple),
            ),
            st.builds(Choose, nodes, nodes, nodes),
            st.builds(Call, functions, several, st.one_of(st.none(), nodes)),
            st.builds(ListOf, several),
        )

    return st.recursive(leaves, above, max_leaves=20)


TREES = trees(NAMES, NAMES)
