"""A file → a proposed layout, what is unsure about it, and counts. Asks (`Question`) where only a person can know.

1. How the file is written (detect.writing).  2. Which column is which, by the first rows (detect.roles), or the known
layout whose columns the file has.  3. Formats, labels and IDs by all rows (detect.measures).  4. The layout. The caller
loads the whole file under it, by the same code as `sentinel analyze`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from core.errors import BadInput
from sources.datasets.chunks import Wanted, resolve
from sources.datasets.detect import meanings
from sources.datasets.detect.dates import NUMERIC_SHAPES, DateCounts, settle
from sources.datasets.detect.measures import Measures
from sources.datasets.detect.questions import Answers, Question
from sources.datasets.detect.roles import NAMES, Sample, find_columns, find_time, rank
from sources.datasets.detect.writing import Encoding, find_encoding, find_form
from sources.datasets.layout import COLUMN_FIELDS, FileFormat, Label, Layout, Money
from sources.datasets.layouts import IEEE_CIS, IEEE_SECONDS_A_ROW, LAYOUTS
from sources.datasets.parts import Part, parts
from sources.datasets.rows import read, readable
from sources.datasets.timestamps import EPOCH_PER_MS, UNITS_MS, TimeFormat, check_zone
from sources.source import OPTIONAL_TEXT

SAMPLE_ROWS = 5_000


@dataclass
class Proposal:
    """layout: as proposed, without optional columns. known: the public dataset that the file is, or "". unsure:
    sentences for a person. labels: value → (rows, True, False or None for fraud, legitimate, unlabelled). unused:
    columns not read.
    """

    layout: Layout
    known: str = ""
    unsure: list[str] = field(default_factory=list)
    labels: dict[str, tuple[int, bool | None]] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def propose(path: Path, answers: Answers, name: str) -> Proposal:
    """The proposal for a file or folder. name: the mapping's. Raises BadInput for what can't be read,
    Question if unclear.
    """
    if answers.zone:
        check_zone(answers.zone)
    found, kind = _parts(path)
    form, unsure = _form(found, kind, answers)
    sample = _sample(found[0], form)
    base = _known(sample.names, found[0])
    if base is not None and not answers.columns:
        proposal = _from_known(base, sample, found, form, answers)
    else:
        proposal = _from_names(sample, found, form, answers, name)
    proposal.unsure[:0] = unsure
    used = set(proposal.layout.needed)
    proposal.unused = [column for column in sample.names if column not in used]
    return proposal


def _parts(path: Path) -> tuple[list[Part], str]:
    if path.is_dir() and (path / "train_transaction.csv").exists():
        path = path / "train_transaction.csv"
    found = parts(path)
    return found, found[0].kind


def _form(found: list[Part], kind: str, answers: Answers) -> tuple[FileFormat, list[str]]:
    """How the files are written, by all bytes of all of them and the first lines of each."""
    form, unsure = FileFormat(sheet=answers.sheet, header=answers.header), list[str]()
    if kind in ("parquet", "xlsx"):
        return (_sheet_form(found[0], form) if kind == "xlsx" and answers.header is None else form), unsure
    encodings: dict[str, Encoding] = {}
    for part in found:
        with readable(part):
            encodings[part.name] = find_encoding(part, answers)
    unsure += dict.fromkeys(each.unsure for each in encodings.values() if each.unsure)
    named = {each.name for each in encodings.values() if each.name}
    if len(named) > 1:
        raise BadInput(f"the files have different encodings ({', '.join(sorted(named))}); map them one by one")
    form = replace(form, encoding=next(iter(named), None))
    if kind != "csv":
        return form, unsure
    forms: list[FileFormat] = []
    for part in found:
        with readable(part):
            forms.append(find_form(part, form, answers))
    first = forms[0]
    if first.quote == "":
        unsure.append("quotation marks are read as part of the values: some are never closed, or stand within values")
    if any(each.separator != first.separator for each in forms):
        first = replace(first, separator=None)
    if any(each.header != first.header for each in forms):
        raise BadInput("the files have their headers in different lines; map them one by one")
    if first.separator == "," and len(found) == 1 and first.header is None:
        first = replace(first, separator=",")
    return first, unsure


def _sheet_form(part: Part, form: FileFormat) -> FileFormat:
    """The row of a sheet's column names."""
    from sources.datasets.detect.writing import header_line

    chunk = next(iter(read(part, replace(form, header=0))), None)
    if chunk is None:
        raise BadInput(f"{part.name} can't be read: the sheet is empty")
    rows = zip(chunk.lines.tolist(), chunk.columns.head(200).iter_rows(), strict=False)
    line = header_line([(number, [cell or "" for cell in cells]) for number, cells in rows])
    return replace(form, header=None if line == int(chunk.lines[0]) else line)


def _sample(part: Part, form: FileFormat) -> Sample:
    frames: list[pl.DataFrame] = []
    for chunk in read(part, form):
        if not chunk.columns.width and chunk.bad:
            raise BadInput(f"{part.name}: {part.unit} {chunk.bad[0].line:,} is {chunk.bad[0].detail}")
        frames.append(chunk.columns)
        if sum(frame.height for frame in frames) >= SAMPLE_ROWS:
            break
    if not frames:
        raise BadInput(f"{part.name} contains no rows")
    return Sample(pl.concat(frames, how="diagonal_relaxed").head(4 * SAMPLE_ROWS))


def _known(names: list[str], part: Part) -> Layout | None:
    """The known layout of which the file has all columns that must be there; the one with most columns if several."""
    best: tuple[int, Layout] | None = None
    for layout in LAYOUTS.values():
        optional = set(layout.optional)
        if layout.name == IEEE_CIS.name:
            optional |= {"TransactionDT", "isFraud"}
        wanted = Wanted(layout.needed, layout.name, frozenset(optional), layout.aliases)
        try:
            places = resolve(names, wanted, part)
        except BadInput:
            continue
        if best is None or len(places) > best[0]:
            best = len(places), layout
    return best[1] if best else None


def _from_known(base: Layout, sample: Sample, found: list[Part], form: FileFormat, answers: Answers) -> Proposal:
    """A known layout with this file's names of columns, and how it is written."""
    places = resolve(sample.names, Wanted(base.needed, base.name, frozenset(base.needed), base.aliases), found[0])
    names = {column: sample.names[place] for column, place in places.items()}
    unsure = [f"this is the public dataset {base.name}; docs/datasets.md says what its publisher left open"]
    layout = _renamed(base, names)
    if not set(base.time.columns) <= set(names):
        unsure.append(
            f"the file has no {', '.join(base.time.columns)}: its rows are taken to be {IEEE_SECONDS_A_ROW:g} s apart, "
            "as in the whole dataset on average"
        )
        layout = replace(layout, time=TimeFormat((), ("rows",), base.time.origin, every_s=IEEE_SECONDS_A_ROW))
    if layout.join is not None and not (Path(found[0].name).parent / layout.join.file).exists():
        unsure.append(f"there is no {layout.join.file} beside it: no devices are known")
        layout = replace(layout, join=None, columns={k: v for k, v in layout.columns.items() if k != "device_id"})
        layout = replace(layout, attributes={k: v for k, v in layout.attributes.items() if v in sample.names})
    fields = {name: column for name, column in layout.columns.items() if isinstance(column, str)}
    if layout.join is not None:
        fields = {name: column for name, column in fields.items() if column not in layout.join.columns}
    if layout.label is not None:
        fields["label"] = layout.label.column
    measures = _measured(found, form, fields, layout.time.columns)
    numbers, misfits = measures.money["amount"].form(answers, fields["amount"], plain=_plain(found))
    meanings.say_misfits(unsure, misfits, fields["amount"])
    time = layout.time
    if time.columns and not _fits(measures.dates, time):
        formats, more = settle(measures.dates, answers, " ".join(time.columns))
        time, unsure = replace(time, formats=formats), unsure + more
    labels, label = meanings.label(measures, answers, layout.label, unsure)
    if label is None:
        unsure.append("the file has no label: nothing is labelled")
    whole, lossy = meanings.identifiers(fields, measures, unsure)
    columns = {
        k: v for k, v in layout.columns.items() if k in fields or not (k == "transaction_id" or k in measures.ids)
    }
    layout = replace(layout, columns=columns, whole=tuple(dict.fromkeys([*layout.whole, *whole])), lossy=lossy)
    strip = form.strip or base.file.strip
    file = replace(form, strip=strip, nulls=tuple(dict.fromkeys(measures.nulls)))
    layout = replace(
        layout, file=file, numbers=numbers, time=meanings.zoned(time, answers, measures.dates, unsure), label=label
    )
    return Proposal(layout, base.name, unsure, labels)


def _renamed(base: Layout, names: dict[str, str]) -> Layout:
    """The layout with this file's columns; without those that it lacks."""

    def new(columns: str | tuple[str, ...]) -> str | tuple[str, ...] | None:
        if isinstance(columns, str):
            return names.get(columns) or (columns if base.join and columns in base.join.columns else None)
        present = tuple(names[column] for column in columns if column in names)
        return present[0] if len(present) == 1 else present or None

    joined = set(base.join.columns) if base.join else set()
    attributes = {k: names.get(v, v) for k, v in base.attributes.items() if v in names or v in joined}
    label = replace(base.label, column=names[base.label.column]) if base.label and base.label.column in names else None
    return replace(
        base,
        columns={name: column for name, columns in base.columns.items() if (column := new(columns)) is not None},
        time=replace(base.time, columns=tuple(names.get(column, column) for column in base.time.columns)),
        label=label,
        scenario=names.get(base.scenario or ""),
        attributes=attributes,
        first_seen=names.get(base.first_seen or ""),
        join=replace(base.join, on=names[base.join.on]) if base.join else None,
        optional=frozenset(),
        aliases={},
    )


def _fits(dates: DateCounts, time: TimeFormat) -> bool:
    """Whether a known layout's own format is that of all values."""
    if dates.typed:
        return True
    if dates.lengths and not set(time.formats) & {*UNITS_MS, *EPOCH_PER_MS, "excel"}:
        return False
    texts = {shape: count for shape, count in dates.shapes.items() if not (dates.lengths and shape in NUMERIC_SHAPES)}
    return all(max((dates.fits[shape][each] for each in time.formats), default=0) >= n for shape, n in texts.items())


def _check_columns(answers: Answers, names: list[str]) -> None:
    """Raise BadInput for a field or column that does not exist."""
    known = (*COLUMN_FIELDS, "time", "label", "debit", "credit", "scenario")
    for field_, said in answers.columns.items():
        if field_ not in known:
            raise BadInput(f"--column {field_}={said}: unknown field {field_}; known: {', '.join(known)}")
        for column in said.split(",") if field_ in ("time", "account_id") else [said]:
            if column.strip() not in names:
                shown = ", ".join(names[:30])
                raise BadInput(f"--column {field_}={said}: the file has no column {column.strip()!r}; it has {shown}")


def _ask_for(field_: str, what: str, option: str, sample: Sample) -> Question:
    names = sample.names
    asked = f"no column looks like the {what} among {', '.join(names[:30])}"
    if field_ == "amount":
        odd = [
            (name, each[0]) for name in names if rank(name, NAMES["amount"]) == 0 and len(each := sample.given(name))
        ]
        asked += "".join(
            f" ({name} has values such as {value!r}, which are not read as numbers)" for name, value in odd
        )
    return Question(asked, "columns", option, tuple(names), field_)


def _from_names(sample: Sample, found: list[Part], form: FileFormat, answers: Answers, name: str) -> Proposal:
    """A layout by the names of columns and what they hold."""
    _check_columns(answers, sample.names)
    fields = find_columns(sample, answers)
    joined = tuple(part.strip() for part in answers.columns.get("account_id", "").split(",") if part.strip())
    if "account_id" not in fields and len(joined) < 2 and "account_id" not in answers.constants:
        option = "--column account_id=NAME, or --constant account_id=all"
        raise _ask_for("account_id", "account", option, sample)
    if "amount" not in fields and "debit" not in fields:
        raise _ask_for("amount", "amount", "--column amount=NAME", sample)
    time, others = find_time(sample, answers, [*fields.values()])
    if not time and answers.time_format != "rows":
        option = "--column time=NAME (or --time-format rows: a second apart, in file order)"
        raise _ask_for("time", "time", option, sample)
    measures = _measured(found, form, fields, time, joined)
    unsure = [
        f"{fields[name]} is taken for the {name.removesuffix('_id')} by what it holds (--column {name}=NAME)"
        for name in ("account_id", "amount", "label")
        if name in fields and name not in answers.columns and rank(fields[name], NAMES[name]) is None
    ]
    if others and "time" not in answers.columns:
        unsure.append(
            f"the time is read from {' and '.join(time)}; {', '.join(others)} could be it too (--column time=NAME)"
        )
    money, numbers = meanings.money(fields, measures, answers, _plain(found), unsure)
    labels, label = meanings.label(measures, answers, Label(fields["label"]) if "label" in fields else None, unsure)
    constants = dict(answers.constants)
    own_currency = meanings.currency(fields, measures, constants, unsure)
    whole, lossy = meanings.identifiers(fields, measures, unsure)
    columns: dict[str, str | tuple[str, ...]] = {
        k: v for k, v in fields.items() if k in ("transaction_id", "account_id", "amount", *OPTIONAL_TEXT)
    }
    if len(joined) > 1:
        columns = {"account_id": joined, **columns}
    nulls = tuple(dict.fromkeys(measures.nulls))
    layout = Layout(
        name=name,
        columns=columns,
        time=meanings.time(measures.dates, time, answers, unsure),
        file=replace(form, nulls=nulls),
        numbers=numbers,
        money=Money(
            debit=fields.get("debit"),
            credit=fields.get("credit"),
            negative=money.negative,
            divide=money.divide,
            currency=own_currency,
        ),
        label=label,
        scenario=fields.get("scenario"),
        constants=constants,
        whole=whole,
        lossy=lossy,
    )
    if label is None:
        unsure.append("no column looks like the label: nothing is labelled (--column label=NAME)")
    return Proposal(layout, "", unsure, labels)


def _measured(
    found: list[Part], form: FileFormat, fields: dict[str, str], time: tuple[str, ...], more: tuple[str, ...] = ()
) -> Measures:
    """Counts over all rows of all files."""
    measures = Measures(fields, time)
    wanted = Wanted(tuple(dict.fromkeys([*fields.values(), *time, *more])), "")
    for part in found:
        for chunk in read(part, form, wanted):
            measures.add(chunk, form.strip)
    if not measures.rows:
        raise BadInput(f"{found[0].name} contains no rows")
    return measures


def _plain(found: list[Part]) -> bool:
    return found[0].kind in ("json", "jsonl", "xlsx", "parquet")
