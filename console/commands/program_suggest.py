"""`sentinel program suggest`: rules that would have caught fraud which nothing caught."""

from __future__ import annotations

from typing import Annotated

import typer

from console.log_options import opened_log, settings_of
from console.options import Json, moment
from console.tables import print_json
from core.text import visible


def suggest(
    context: typer.Context,
    start: Annotated[
        str | None, typer.Option("--from", help="First event time (2026-01-31[T12:00], UTC) or position (1-533).")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="End of the range: an event time (exclusive) or the last position.")
    ] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="Only verdicts given by this time.")] = None,
    as_json: Json = False,
) -> None:
    """Suggest short rules that separate fraud which nothing caught from payments that were approved.

    Searches the earlier part of the range, tests what it finds on the later part, which it has not seen, and shows only
    what passes: the figures are of the later part. Each suggestion is a [[rules]] block in shadow mode. Reads only.
    """
    from console import suggestions  # with the decision path

    known_until = moment("--as-of", as_of)
    with opened_log(context) as log:
        found = suggestions.run(
            log, settings_of(context), context.obj.directory, start, end, known_until, quiet=as_json
        )
    if as_json:
        print_json(found)
    else:
        print(visible(suggestions.text(found), lines=True))
