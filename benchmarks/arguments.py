"""Command-line arguments of benchmarks on a stream of transactions: which source, and how much of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from sources.catalogue import open_source
from sources.source import Source
from sources.synthetic import SyntheticConfig


def source_parser(description: str | None, limit: int, partitions: int) -> argparse.ArgumentParser:
    """A parser of the source, `--limit`, `--partitions` and `--json`, with these defaults. description: a docstring
    whose first line is shown.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("source", nargs="?", default="synthetic")
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--limit", type=int, default=limit, help="transactions")
    parser.add_argument("--partitions", type=int, default=partitions)
    parser.add_argument("--json", action="store_true")
    return parser


def chosen_source(arguments: argparse.Namespace, *, flush_feedback: bool = False) -> Source:
    """The source that the arguments of `source_parser` name."""
    if arguments.source == "synthetic":
        synthetic = SyntheticConfig(transactions=arguments.limit)
        return open_source("synthetic", flush_feedback=flush_feedback, synthetic=synthetic)
    return open_source(arguments.source, arguments.path, limit=arguments.limit, flush_feedback=flush_feedback)
