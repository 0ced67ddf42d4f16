"""Producers: labelled transaction streams (synthetic or from datasets), their profile, and publishing them to Kafka."""

from sources.catalogue import SOURCE_NAMES, open_source
from sources.source import Record, Source
from sources.synthetic import SyntheticConfig, SyntheticStream

__all__ = ["SOURCE_NAMES", "Record", "Source", "SyntheticConfig", "SyntheticStream", "open_source"]
