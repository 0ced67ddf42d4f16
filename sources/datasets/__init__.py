"""Labelled datasets as sources: the public ones by name, any other by a mapping file."""

from sources.datasets.layouts import LAYOUTS
from sources.datasets.mapping import Layout, load
from sources.datasets.reader import DatasetSource

__all__ = ["LAYOUTS", "DatasetSource", "Layout", "load"]
