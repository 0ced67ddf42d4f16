"""The table of docs/metrics.md: every metric with type, unit, labels and meaning, from the objects that export them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from console.api.metrics import Metrics
from ingest import telemetry
from ingest.families import FAMILIES
from ingest.telemetry import LabelledHistogram, LatencyCollector
from responders import metrics as of_responders

UNITS = {
    "seconds": "s",
    "bytes": "bytes",
    "messages": "messages",
    "entries": "entries",
    "ratio": "0 to 1",
    "currency": "base currency",
}


class Row(NamedTuple):
    """A metric as it is exported."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str
    by: str


def rows() -> Iterator[Row]:
    """All metrics, section by section."""
    everywhere = {"BUILD", "SPANS"}
    yield from _of((getattr(telemetry, name) for name in everywhere), "all")
    yield from _of((each for name, each in vars(telemetry).items() if name not in everywhere), "worker")
    for family in FAMILIES:
        yield Row(family.name, "gauge", family.labels, family.meaning, family.by)
    yield from _of(vars(of_responders).values(), "responder")
    yield from _of(vars(Metrics()).values(), "console")


def _of(objects: Iterable[Any], by: str) -> Iterator[Row]:
    for each in objects:
        if isinstance(each, MetricWrapperBase):
            for found in each.describe():
                name = f"{found.name}_total" if found.type == "counter" else found.name
                yield Row(name, found.type, tuple(each._labelnames), found.documentation.rstrip("."), by)
        elif isinstance(each, LatencyCollector | LabelledHistogram):
            for found in each.collect():
                labels = {name: None for sample in found.samples for name in sample.labels if name != "le"}
                yield Row(found.name, found.type, tuple(labels), found.documentation, by)


def unit(name: str) -> str:
    """The unit that a metric's name ends with; "" for a count."""
    return UNITS.get(name.removesuffix("_total").rpartition("_")[2], "")


def markdown() -> str:
    """The table."""
    lines = ["| metric | type | unit | labels | exported by | meaning |", "|---|---|---|---|---|---|"]
    for row in sorted(rows()):
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.name}` | {row.kind} | {unit(row.name)} | {labels} | {row.by} | {row.meaning} |")
    return "\n".join(lines) + "\n"
