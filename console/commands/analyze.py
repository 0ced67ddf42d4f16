"""`sentinel analyze`: profile a labelled dataset or the synthetic stream."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from console.dataset_options import BadRowsOption, Dataset, Limit, Mapping, RejectsOption, choose
from console.options import Json
from console.plots.profile import write_plots
from console.terminal import console
from core.times import utc
from sources.analysis import analyze as profile_of
from sources.analysis import table
from sources.datasets import DatasetSource
from sources.rehearsal import rehearse


def analyze(
    dataset: Dataset = None,
    mapping: Mapping = None,
    limit: Limit = None,
    bad_rows: BadRowsOption = "stop",
    rejects_file: RejectsOption = None,
    plot_directory: Annotated[Path | None, typer.Option("--plots", help="Write PNG plots to this directory.")] = None,
    as_json: Json = False,
) -> None:
    """Profile a labelled dataset or the synthetic stream: fraud by hour, weekday, amount and scenario; empty values.

    Then says what the edge would do with it: messages rejected by reason, repeated IDs and spellings, with first lines.
    """
    source = choose(dataset, mapping=mapping, limit=limit, bad_rows=bad_rows, rejects_file=rejects_file)
    profile = profile_of(source)
    edge = rehearse(source)
    if plot_directory is not None:
        for path in write_plots(profile, plot_directory):
            print(path, file=sys.stderr)
    if as_json:
        rejected = dict(source.rejects.counts) if isinstance(source, DatasetSource) else {}
        summary = {
            "rows": profile.transactions,
            "amount_sum": profile.amount_total,
            "first_time": utc(profile.first).isoformat(),
            "last_time": utc(profile.last).isoformat(),
            "rejected": rejected,
            "edge": edge,
        }
        print(msgspec.json.encode(msgspec.to_builtins(profile) | summary).decode())
    else:
        console().print(table(profile))
        print("\n".join(edge.lines()))
