"""`sentinel export`: tables of the log as files of Parquet or Arrow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console import log_options
from console.log_options import DIRECTORY, AsOf, opened_log
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from console.search_options import From, To, one_of, period
from console.tables import print_fields, print_json, print_table
from core.errors import BadInput
from core.partitions import partitions_of
from projections.engine.as_of import resolve

DEFAULT = ("decisions", "alerts", "feedback", "rejects", "seals", "control")
"""What a folder gets: all that the log holds, once."""


def export(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="FOLDER|FILE", help="A folder, or a file .parquet or .arrow.")],
    stream: Annotated[
        list[str] | None,
        typer.Option(
            "--stream",
            metavar="TABLE",
            help="decisions, transactions, scores, alerts, feedback, rejects, seals or control; may be repeated."
            " Default: decisions; into a folder, all.",
        ),
    ] = None,
    start: From = None,
    end: To = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="parquet or arrow. Default: what the file's name says, or parquet.")
    ] = None,
    as_of: AsOf = None,
    as_json: Json = False,
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
) -> None:
    """Write tables of the log as Parquet or Arrow, one file each, streamed: a log of any size fits.

    --from and --to: when payments were received, alerts' payments took place, and everything else was recorded. A file
    is complete or absent; one that exists is replaced. The files hold what the log holds about people.
    """
    log_options.options(context, config, redis_host, redis_port, log_prefix, DIRECTORY)
    from projections.tables.decisions import Period  # loads Arrow
    from projections.tables.exporting import Format, format_of, write

    kind = one_of("--format", file_format, Format)
    named = format_of(target)
    if target.suffix and named is None and not target.is_dir():
        raise BadInput(f"{target}: a file's name ends in .parquet or .arrow; a folder's has no ending")
    if named is not None and len(stream or ()) > 1:
        raise BadInput(f"{target} is one file, for one table; several go into a folder")
    kind = kind or named or "parquet"
    tables = stream or (["decisions"] if named is not None else [*DEFAULT])
    files = {name: target if named is not None else target / f"{name}.{kind}" for name in tables}
    wanted = Period(*period(start, end))
    with opened_log(context) as log:
        cut = resolve(log, partitions_of(log), as_of)
        try:
            written = [write(log, cut, name, wanted, path, kind)._asdict() for name, path in files.items()]
        except (FileExistsError, NotADirectoryError) as error:
            raise BadInput(f"{error.filename}: {error.strerror}") from None
    if as_json:
        print_json({"as_of": str(cut), "files": written})
    else:
        print_table(("table", "rows", "bytes", "file"), written)
        print_fields({"as_of": str(cut)})
