"""Labelled datasets as sources: the public ones by name, any other by a mapping file."""

from ingest.producers.datasets.layouts import LAYOUTS
from ingest.producers.datasets.mapping import Layout, load
from ingest.producers.datasets.reader import DatasetSource

__all__ = ["LAYOUTS", "DatasetSource", "Layout", "load"]
