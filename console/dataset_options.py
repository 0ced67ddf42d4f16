"""The options that choose a stream's source, shared by the commands that read one, and the source that they mean."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from core.errors import BadInput
from sources.catalogue import SOURCE_NAMES, open_source
from sources.datasets import BadRows, DatasetSource
from sources.datasets.reading import RejectsFile
from sources.source import Source, VerdictsFor

Dataset = Annotated[
    tuple[str, Path] | None,
    typer.Option(
        "--dataset",
        metavar="NAME PATH",
        help=f"Use a dataset instead: {', '.join(SOURCE_NAMES[1:])}. See docs/datasets.md.",
    ),
]
Mapping = Annotated[Path | None, typer.Option(help="With --dataset custom: TOML file that maps the columns.")]
Limit = Annotated[int | None, typer.Option(help="Use only the first so many transactions of a dataset.", min=1)]
BadRowsOption = Annotated[
    str, typer.Option("--bad-rows", help="Rows of a dataset that can't be used: stop, or reject (leave them out).")
]
RejectsOption = Annotated[
    Path | None, typer.Option("--rejects-file", help="Write those rows' lines and reasons to this CSV file.")
]


def choose(
    dataset: tuple[str, Path] | None,
    *,
    labels: str = "fraud",
    bad_rows: str = "stop",
    rejects_file: Path | None = None,
    **options: Any,
) -> Source:
    """The source given by `--dataset NAME PATH`, or the synthetic stream. Rows that are left out are said on stderr.
    Raises BadInput.
    """
    if labels not in ("fraud", "all"):
        raise BadInput(f"--labels must be fraud or all, not {labels!r}")
    if bad_rows not in ("stop", "reject"):
        raise BadInput(f"--bad-rows must be stop or reject, not {bad_rows!r}")
    name, path = dataset or ("synthetic", None)
    options |= {"labels": cast(VerdictsFor, labels), "bad_rows": cast(BadRows, bad_rows)}
    if rejects_file is None:
        source = open_source(name, path, **options)
    else:
        with RejectsFile(rejects_file) as file:
            source = open_source(name, path, on_bad=file.add, **options)
    if not isinstance(source, DatasetSource):
        return source
    for field in source.lossy:
        print(f"sentinel: warning: {field} is taken as it is, though digits may be lost ([ids] lossy)", file=sys.stderr)
    if source.rejects.total:
        where = f"; see {rejects_file}" if rejects_file else f", the first at {source.rejects.first()}"
        print(f"sentinel: left out {source.rejects.summary()}{where}", file=sys.stderr)
    return source
