"""Every source by its name: `open_source("handbook", path)`. The only module that knows them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core.errors import BadInput
from sources.datasets import LAYOUTS, BadRow, BadRows, DatasetSource, load
from sources.source import Source, VerdictsFor
from sources.synthetic import SyntheticConfig, SyntheticStream

SOURCE_NAMES = ("synthetic", *LAYOUTS, "custom")


def open_source(
    name: str,
    path: Path | None = None,
    *,
    feedback_delay_days: float = 7.0,
    labels: VerdictsFor = "fraud",
    flush_feedback: bool = False,
    limit: int | None = None,
    mapping: Path | None = None,
    bad_rows: BadRows = "stop",
    on_bad: Callable[[BadRow], None] | None = None,
    synthetic: SyntheticConfig | None = None,
) -> Source:
    """The source of that name (SOURCE_NAMES). Raises BadInput for an unknown name, or options that it does not take.

    path: the dataset's file or folder; "synthetic" has none. mapping: the TOML file of a "custom" dataset.
    feedback_delay_days: for datasets; a synthetic stream's delay is `synthetic.label_delay_days`. limit: read only the
    first `limit` transactions of a dataset. bad_rows, on_bad: what to do with rows that can't be used, see
    DatasetSource. synthetic: the configuration of a synthetic stream, by default
    `SyntheticConfig()`.
    """
    if name == "synthetic":
        if path is not None or mapping is not None or limit is not None:
            raise BadInput("a synthetic stream takes no path, mapping or limit; its size is in its configuration")
        return SyntheticStream(synthetic, labels=labels, flush_feedback=flush_feedback)
    if name not in SOURCE_NAMES:
        raise BadInput(f"unknown source {name!r}; known: {', '.join(SOURCE_NAMES)}")
    if path is None:
        raise BadInput(f"the {name} source needs the path of its file or folder (docs/datasets.md)")
    if (mapping is not None) != (name == "custom"):
        raise BadInput("the source 'custom' needs a mapping file, and only 'custom' takes one (docs/datasets.md)")
    layout = load(mapping) if mapping is not None else LAYOUTS[name]
    return DatasetSource(
        layout,
        path,
        feedback_delay_days=feedback_delay_days,
        limit=limit,
        labels=labels,
        flush_feedback=flush_feedback,
        bad_rows=bad_rows,
        on_bad=on_bad,
    )
