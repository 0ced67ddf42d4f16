"""A file's other columns as attributes of each payment, and as the typed [fields] of a program. Writes no file.

    with_attributes   unused columns → the mapping's [attributes], under names that a program may use
    measured          the whole file → what each attribute holds: numbers or text, how many values, how many gaps
    program_text      → a program that declares them, with a comment where a person should look

An attribute is a number only if all its values are (`sources.datasets.reader`), and so is its field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from core.errors import BadInput
from core.program.document_reading import ATTRIBUTE
from core.program.loading import check
from core.program.problems import DocumentError
from core.text import listed
from sources.datasets.detect.propose import Proposal
from sources.datasets.layout import Layout
from sources.datasets.parts import parts
from sources.datasets.reader import DatasetSource
from sources.datasets.rows import read

ALL = "all"
FIELDS_MAX = 512
"""Attributes that a payment may have (`core.validation`)."""
DISTINCT_MAX = 20_000
CODES_MAX = 1_000
"""Whole numbers with at most so many values may be codes."""
TRIES_MAX = 5
_ODD = re.compile(r"[^a-z0-9_]+")
_NAME_MAX = 60


def with_attributes(proposal: Proposal, path: Path, wanted: Sequence[str]) -> Proposal:
    """The proposal with more columns as attributes. wanted: names of columns, or ALL: every one that is no ID, time,
    amount or label, those of a joined file too. Raises BadInput for a column that does not exist, or too many.
    """
    layout = proposal.layout
    joined = _joined_columns(layout, path)
    taken = {*layout.attributes.values(), *_meanings(layout)}
    known = [*proposal.unused, *(column for column in _used(layout) if column not in proposal.unused), *joined]
    if list(wanted) == [ALL]:
        columns = [column for column in known if column not in taken]
    else:
        if strange := [column for column in wanted if column not in known and column not in layout.attributes.values()]:
            raise BadInput(
                f"--attributes: {listed(strange)} is no column of the file, or is sent already as ID, time, amount or"
                " label"
            )
        columns = [column for column in dict.fromkeys(wanted) if column not in layout.attributes.values()]
    attributes = {**layout.attributes}
    for column in dict.fromkeys(columns):
        attributes[_free(name_of(column), attributes)] = column
    if len(attributes) > FIELDS_MAX:
        raise BadInput(
            f"a payment has at most {FIELDS_MAX} attributes, not {len(attributes)}: name those that you want,"
            " --attributes COLUMN,COLUMN"
        )
    join = layout.join
    if join is not None:
        more = [column for column in columns if column in joined and column not in join.columns]
        join = replace(join, columns=(*join.columns, *more))
    unused = [column for column in proposal.unused if column not in columns]
    return replace(proposal, layout=replace(layout, attributes=attributes, join=join), unused=unused)


def _joined_columns(layout: Layout, path: Path) -> list[str]:
    """The columns of the joined file, but its key."""
    if layout.join is None:
        return []
    file = (path if path.is_dir() else path.parent) / layout.join.file
    if not file.exists():
        return []
    chunk = next(iter(read(parts(file)[0], layout.file)), None)
    return [] if chunk is None else [name for name in chunk.columns.columns if name != layout.join.on]


def _meanings(layout: Layout) -> set[str]:
    """Columns that are a field of ours alone, or what happened: they tell a model nothing more."""
    found = {column for column in layout.columns.values() if isinstance(column, str)}
    found -= {column for columns in layout.columns.values() if isinstance(columns, tuple) for column in columns}
    found |= {*layout.time.columns}
    found |= {column for column in (layout.scenario, layout.money.debit, layout.money.credit) if column}
    return found | ({layout.label.column} if layout.label is not None else set())


def _used(layout: Layout) -> list[str]:
    """Columns that are a part of an ID."""
    parts_of = [column for columns in layout.columns.values() if isinstance(columns, tuple) for column in columns]
    return list(dict.fromkeys([*parts_of, *([layout.first_seen] if layout.first_seen else [])]))


def name_of(column: str) -> str:
    """A column's name as a program may write it."""
    name = _ODD.sub("_", column.lower()).strip("_")[:_NAME_MAX]
    return name if name[:1].isalpha() else f"x_{name}".rstrip("_")


def _free(name: str, taken: Iterable[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found


@dataclass(slots=True)
class Held:
    """What an attribute holds. distinct: different values, at most DISTINCT_MAX; rows, given: of the file, with a
    value; is_whole: no number has a fraction.
    """

    name: str
    is_text: bool = False
    is_whole: bool = True
    rows: int = 0
    given: int = 0
    values: set[object] = field(default_factory=set)

    @property
    def distinct(self) -> int:
        return len(self.values)

    @property
    def may_be_code(self) -> bool:
        return not self.is_text and self.is_whole and 2 < self.distinct <= CODES_MAX

    @property
    def may_name_somebody(self) -> bool:
        return self.is_text and (self.distinct >= DISTINCT_MAX or 2 * self.distinct > max(self.given, 100))


def measured(source: DatasetSource) -> list[Held]:
    """What the attributes of all rows hold, in the order of the mapping."""
    found: dict[str, Held] = {}
    for table in source.tables():
        if "attributes" not in table.columns:
            return []
        for column in table["attributes"].struct.unnest().get_columns():
            held = found.setdefault(column.name, Held(column.name))
            given = column.drop_nulls()
            held.rows += len(column)
            held.given += len(given)
            held.is_text = column.dtype == pl.String
            if not held.is_text:
                held.is_whole = held.is_whole and bool((given == given.floor()).all())
            if held.distinct < DISTINCT_MAX:
                held.values.update(given.unique().head(DISTINCT_MAX).to_list())
    return list(found.values())


def program_text(name: str, held: Sequence[Held]) -> tuple[str, list[str]]:
    """A program that declares the attributes, and what a person should check. Columns without any value are left out.

    Raises BadInput if there is none.
    """
    kept = [each for each in held if each.given]
    if not kept:
        raise BadInput(
            "the mapping has no attributes with values, so there are no fields to declare (--attributes all)"
        )
    names = {each.name: name_of(each.name) for each in kept}
    for _ in range(TRIES_MAX):
        text = _text(name, kept, names)
        try:
            check(text.encode())
        except DocumentError as error:
            wrong = {str(problem.path[1]) for problem in error.problems if problem.path[:1] == ("fields",)}
            if not wrong:
                raise
            names = {each: _free(f"{own}_sent", names.values()) if own in wrong else own for each, own in names.items()}
            continue
        return text, _unsure(held, names)
    raise BadInput(f"the columns' names can't be those of fields: {listed(sorted(wrong))}; rename them in [attributes]")


def _text(name: str, held: Sequence[Held], names: dict[str, str]) -> str:
    lines = [
        "[program]",
        f'name = "{_ODD.sub("-", name.lower()).strip("-_") or "own"}"',
        'version = "1.0.0"',
        'uses = ["standard@1"]',
        "",
        "[fields]",
        "# what the mapping sends beside the standard fields; a model may read all but personal data",
    ]
    for each in held:
        kind = "string" if each.is_text else "number"
        personal = ', personal = "pseudonym"' if each.may_name_somebody else ""
        source = (ATTRIBUTE + each.name).replace("\\", "\\\\").replace('"', '\\"')
        line = f'{names[each.name]} = {{ from = "{source}", type = "{kind}"{personal} }}'
        shown = f"{each.distinct:,}{'+' if each.distinct >= DISTINCT_MAX else ''} values"
        lines.append(f"{line}  # {shown}, {1 - each.given / each.rows:.0%} missing")
    return "\n".join(lines) + "\n"


def _unsure(held: Sequence[Held], names: dict[str, str]) -> list[str]:
    codes = [names[each.name] for each in held if each.given and each.may_be_code]
    people = [names[each.name] for each in held if each.given and each.may_name_somebody]
    empty = [each.name for each in held if not each.given]
    found = []
    if codes:
        found.append(
            f"{listed(codes)}: whole numbers with at most {CODES_MAX:,} values. They are declared as numbers; if they"
            " are codes, send them as text for a model to read them as categories"
        )
    if people:
        found.append(
            f"{listed(people)}: nearly every row has another value, so it may name somebody. It is declared as a"
            " pseudonym, which a model reads only if you name it"
        )
    if empty:
        found.append(f"{listed(empty)}: no row has a value, so no field is declared")
    return found
