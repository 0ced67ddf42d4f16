"""Names in a model's file → what it reads by definition, for models that a team trained elsewhere. Pure.

A file whose column names are features and fields of a program reads these. What a category's numbers mean stands in
LightGBM's text if the model was trained on pandas columns of type `category`; no other format says it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from core.errors import UNDECODABLE, BadInput
from core.program.inputs import offers
from core.program.plan import Plan
from core.scoring import Input
from core.text import listed, visible
from models.artifacts import columns_of
from models.inputs import joined, parts

_PANDAS = re.compile(rb"^pandas_categorical:(.*)$", re.MULTILINE)


def named(content: bytes, standard: tuple[str, ...], program: Callable[[], Plan]) -> bytes:
    """The artifact with what it reads written into it; unchanged if it says so already, names no columns, or those of
    the feature spec.

    standard: the spec's columns. program: the one whose names are meant. Raises BadInput if it lacks a column, or
    nobody knows what a category's numbers mean; Corrupt if the file is not intact.
    """
    if parts(content).inputs is not None:
        return content
    names = columns_of(content)
    if names in ((), standard):
        return content
    made = program()
    known = {each.name: each for each in offers(made).values()}
    if missing := [visible(name) for name in names if name not in known]:
        raise BadInput(
            f"the model reads {listed(missing)}, and the program {made.program.label} has no such feature or field:"
            " name its columns as the program does, or deploy a program that defines them"
        )
    reads = [known[name] for name in names]
    levels = _levels(content, [each.name for each in reads if each.kind == "category"])
    return joined([Input(each.identity, each.name, each.kind, levels.get(each.name, ())) for each in reads], content)


def _levels(content: bytes, categories: list[str]) -> dict[str, tuple[str, ...]]:
    """The levels of the categories, as pandas had them."""
    if not categories:
        return {}
    lines = _PANDAS.findall(content)
    try:
        found = msgspec.json.decode(lines[-1], type=list[tuple[str, ...]] | None) if lines else None
    except UNDECODABLE:
        found = None
    if found is None or len(found) != len(categories):
        raise BadInput(
            f"{listed(categories)}: text in the program, and the file does not say which number stands for which value."
            " Train with `sentinel train`, or a LightGBM model on a pandas frame where these columns, and no others,"
            " have the type category"
        )
    return dict(zip(categories, found, strict=True))
