"""Labelled datasets as sources: the public ones by name, any other by a mapping file."""

from sources.datasets.chunks import BadRow
from sources.datasets.layout import Layout
from sources.datasets.layouts import LAYOUTS
from sources.datasets.mapping import load
from sources.datasets.reader import BadRows, DatasetSource

__all__ = ["LAYOUTS", "BadRow", "BadRows", "DatasetSource", "Layout", "load"]
