"""Producers: labelled transaction streams (synthetic or from datasets), their profile, and publishing them to Kafka."""

from ingest.producers.registry import SOURCE_NAMES, open_source
from ingest.producers.source import Record, Source
from ingest.producers.synthetic import SyntheticConfig, SyntheticStream

__all__ = ["SOURCE_NAMES", "Record", "Source", "SyntheticConfig", "SyntheticStream", "open_source"]
