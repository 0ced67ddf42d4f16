"""`sentinel map`: find out how a file is written and what its columns mean; write a mapping for `--dataset custom`."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import polars as pl
import typer
from rich.table import Table

from console.options import Json
from console.terminal import console
from core.errors import BadInput
from core.files import PUBLIC, write_atomic
from core.hiding import masked
from core.text import visible
from core.times import utc
from sources.analysis import Profile
from sources.analysis import analyze as profile_of
from sources.datasets import DatasetSource, mapping
from sources.datasets.detect.own_fields import measured, program_text, with_attributes
from sources.datasets.detect.propose import Proposal, propose
from sources.datasets.detect.questions import Answers, Question
from sources.datasets.detect.toml_text import text

SHOWN_ROWS = 5
_FOOTER_MAX = 5


def map_file(
    file: Annotated[Path, typer.Argument(help="A file, folder or archive of transactions.", metavar="FILE")],
    write: Annotated[
        Path | None, typer.Option("--write", help="Write the mapping here (TOML).", metavar="MAPPING")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="FIELD=COLUMN: which column is account_id, amount, time, label, debit, …; may be repeated."),
    ] = None,
    constant: Annotated[
        list[str] | None, typer.Option(help="FIELD=VALUE: one value for all rows, e.g. currency=USD; may be repeated.")
    ] = None,
    dates: Annotated[str | None, typer.Option(help="day-first or month-first, where both are possible.")] = None,
    time_format: Annotated[
        str | None, typer.Option(help="Format of times (docs/datasets.md); several with | between them.")
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Zone of times without an offset, e.g. Europe/Berlin.")] = None,
    decimal: Annotated[str | None, typer.Option(help="Decimal mark of amounts: . or , .")] = None,
    negative: Annotated[str | None, typer.Option(help="What negative amounts are: payment or refund.")] = None,
    fraud: Annotated[list[str] | None, typer.Option(help="Label value that means fraud; may be repeated.")] = None,
    legitimate: Annotated[
        list[str] | None, typer.Option(help="Label value that means legitimate; may be repeated.")
    ] = None,
    unlabelled: Annotated[
        list[str] | None, typer.Option(help="Label value that means neither; may be repeated.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Encoding of the text, e.g. cp1252.")] = None,
    separator: Annotated[str | None, typer.Option(help="Separator of columns: one character, or tab.")] = None,
    header: Annotated[int | None, typer.Option(help="Line of the column names; 0: none.", min=0)] = None,
    sheet: Annotated[str | None, typer.Option(help="Sheet of an Excel file. Default: the first with cells.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset. Default: the file's.")] = None,
    attributes: Annotated[
        str,
        typer.Option(help="Other columns to send with each payment, with commas; all: every one that is free."),
    ] = "",
    program: Annotated[
        Path | None,
        typer.Option(help="Write a program here that declares the attributes as typed fields.", metavar="PROGRAM"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find out how a file is written and what its columns mean, load all of it, and write the mapping.

    Says what it is unsure of. Where only you can know, it asks; without a terminal it stops and names the option.
    Exit code 1 if some rows can't be used under the mapping.
    """
    answers = Answers(
        encoding=encoding,
        separator="\t" if separator in ("tab", "\\t") else separator,
        header=header,
        sheet=sheet,
        decimal=_one_of("--decimal", decimal, (".", ",")),
        dates=_one_of("--dates", dates, ("day-first", "month-first")),
        time_format=time_format,
        zone=zone,
        negative=_one_of("--negative", negative, ("payment", "refund")),
        fraud=tuple(fraud or ()),
        legitimate=tuple(legitimate or ()),
        unlabelled=tuple(unlabelled or ()),
        columns=_pairs("--column", column),
        constants=_pairs("--constant", constant),
    )
    dataset = name or (write.stem if write is not None else file.name.split(".")[0]) or "dataset"
    if program is not None and program.exists():
        raise BadInput(f"--program {program} exists already; write another file, and copy its [fields]")
    proposal = _proposed(file, answers, dataset, ask=sys.stdin.isatty() and not as_json)
    if wanted := [each.strip() for each in attributes.split(",") if each.strip()]:
        proposal = with_attributes(proposal, file, wanted)
    proposal, source, profile = loaded(proposal, file)
    declared = ""
    if program is not None:
        declared, unsure = program_text(program.stem, measured(source))
        proposal.unsure += unsure
    written = text(proposal, str(file))
    if mapping.parse(written, dataset) != proposal.layout:
        raise BadInput(f"{file}: the mapping can't be written as TOML; please report this file's header")
    if write is not None:
        write_atomic(write, written.encode(), mode=PUBLIC)
    if program is not None:
        write_atomic(program, declared.encode(), mode=PUBLIC)
    if as_json:
        print(msgspec.json.encode(_summary(file, write, proposal, source, profile)).decode())
    else:
        _show(file, write, written, proposal, source, profile)
        if program is not None:
            print(f"wrote {program}; next: sentinel program propose {program} --reason …, before the file is sent")
    if source.rejects.total:
        raise typer.Exit(1)


def _one_of(option: str, value: str | None, choices: tuple[str, ...]) -> str | None:
    if value is not None and value not in choices:
        raise BadInput(f"{option} is {' or '.join(choices)}, not {value!r}")
    return value


def _pairs(option: str, values: list[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for each in values or ():
        field, equals, value = each.partition("=")
        if not equals or not field or not value:
            raise BadInput(f"{option} {each!r} is not valid; write FIELD=VALUE, e.g. account_id=customer")
        pairs[field.strip()] = value
    return pairs


def _proposed(file: Path, answers: Answers, dataset: str, *, ask: bool) -> Proposal:
    """The proposal; asks the person at the terminal what the file leaves open."""
    while True:
        try:
            return propose(file, answers, dataset)
        except Question as question:
            if not ask:
                raise BadInput(f"{file}: {question}", reason=question.reason) from None
            shown = f" ({', '.join(question.choices[:12])})" if question.choices else ""
            said = typer.prompt(
                f"{question.asked[0].upper()}{question.asked[1:]}.\n{question.key.replace('_', ' ')}{shown}", err=True
            )
            answers = _answered(answers, question, said.strip())


def _answered(answers: Answers, question: Question, said: str) -> Answers:
    changed: dict[str, Any] = {question.key: said}
    if question.key in ("columns", "constants"):
        changed[question.key] = {**getattr(answers, question.key), question.name: said}
    elif question.key == "fraud":
        changed[question.key] = tuple(each.strip() for each in said.split(","))
    return replace(answers, **changed)


def loaded(proposal: Proposal, file: Path) -> tuple[Proposal, DatasetSource, Profile]:
    """The whole file under the mapping, and its profile. Last lines that are not data (a total) are left out."""
    source = DatasetSource(proposal.layout, file, bad_rows="reject")
    footer = _footer(source)
    if footer:
        layout = replace(proposal.layout, file=replace(proposal.layout.file, footer=footer))
        proposal.layout = layout
        proposal.unsure.append(
            f"the last {f'{footer} lines are' if footer > 1 else 'line is'} taken for a footer, not data"
        )
        source = DatasetSource(layout, file, bad_rows="reject")
    return proposal, source, profile_of(source)


def _footer(source: DatasetSource) -> int:
    """How many last rows of every file are no data: bad ones after its last usable one, in all files as many."""
    rejects = source.rejects
    files = [part.name for part in source.parts]
    if not 0 < rejects.total <= _FOOTER_MAX * len(files) or any(
        part.kind not in ("csv", "xlsx") for part in source.parts
    ):
        return 0
    bad = [row for rows in rejects.examples.values() for row in rows]
    if any(
        row.reason not in ("wrong_cells", "not_csv") and not (row.reason == "bad_time" and "= ''" in row.detail)
        for row in bad
    ):
        return 0
    last: dict[str, int] = {}
    for table in source.tables():
        for name, line in table.group_by("file").agg(pl.col("line").max()).iter_rows():
            last[name] = max(last.get(name, 0), line)
    after = Counter(row.file for row in bad if row.line > last.get(row.file, 0))
    counts = {after[name] for name in files}
    return counts.pop() if len(counts) == 1 and sum(after.values()) == rejects.total else 0


def _summary(
    file: Path, write: Path | None, proposal: Proposal, source: DatasetSource, profile: Profile
) -> dict[str, Any]:
    layout = proposal.layout
    form = {key: getattr(layout.file, key) for key in ("encoding", "separator", "quote", "header", "footer", "nulls")}
    return {
        "file": str(file),
        "mapping": str(write) if write is not None else None,
        "attributes": layout.attributes,
        "layout": proposal.known or None,
        "format": {**form, "encoding": form["encoding"] or "utf-8"} | {"kind": source.parts[0].kind},
        "columns": {
            **layout.columns,
            "time": layout.time.columns,
            "label": layout.label.column if layout.label else None,
        },
        "time_format": layout.time.formats,
        "zone": layout.time.zone,
        "decimal": layout.numbers.decimal,
        "thousands": layout.numbers.thousands,
        "labels": {value: {"rows": rows, "fraud": means} for value, (rows, means) in proposal.labels.items()},
        "rows": profile.transactions,
        "accounts": profile.accounts,
        "amount_sum": profile.amount_total,
        "frauds": profile.frauds,
        "unlabelled": profile.unlabelled,
        "first": profile.first,
        "last": profile.last,
        "first_time": utc(profile.first).isoformat(),
        "last_time": utc(profile.last).isoformat(),
        "rejected": dict(source.rejects.counts),
        "sample": _sample(source),
        "unsure": proposal.unsure,
        "unused": proposal.unused,
    }


def _sample(source: DatasetSource) -> list[dict[str, Any]]:
    """The first rows as they would be sent."""
    rows = next(source.tables()).head(SHOWN_ROWS).to_dicts()
    hidden = ("verdict_at", "verdict_source", "file")
    shown = [
        {key: value for key, value in row.items() if key not in hidden and value not in ("", None)} for row in rows
    ]
    return [
        {key: masked(value) if isinstance(value, str) else value for key, value in row.items()}
        | {"occurred_at": utc(row["occurred_at"]).isoformat()}
        for row in shown
    ]


def _show(
    file: Path, write: Path | None, written: str, proposal: Proposal, source: DatasetSource, profile: Profile
) -> None:
    if write is None:
        print(written)
    labelled = f", {profile.frauds:,} frauds, {profile.unlabelled:,} not labelled"
    print(
        f"{file}: {profile.transactions:,} rows, {profile.accounts:,} accounts, "
        f"sum {profile.amount_total:,.2f}{labelled}, "
        f"{utc(profile.first):%Y-%m-%d %H:%M} … {utc(profile.last):%Y-%m-%d %H:%M} UTC"
    )
    sample = _sample(source)
    names = list(dict.fromkeys(name for row in sample for name in row if name != "attributes"))
    table = Table(title="the first rows, as they would be sent")
    for each in names:
        table.add_column(visible(each), overflow="fold")
    for row in sample:
        table.add_row(*(visible(str(row.get(each, ""))) for each in names))
    console().print(table)
    if proposal.labels:
        means = {True: "fraud", False: "legitimate", None: "not labelled"}
        shown = sorted(proposal.labels.items(), key=lambda item: -item[1][0])[:12]
        print("labels: " + ", ".join(f"{v!r} {n:,} {means[m]}" for v, (n, m) in shown))
    for each in proposal.unsure:
        print(f"please check: {each}")
    if source.rejects.total:
        print(
            f"sentinel: {source.rejects.summary()} can't be used, the first at {source.rejects.first()}",
            file=sys.stderr,
        )
    if write is not None:
        print(f"wrote {write}; next: sentinel analyze --dataset custom {file} --mapping {write}")
