"""One message of a stream. Loads no table library, so sending a single verdict does not wait for it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Topic = Literal["transactions", "feedback"]


class Record(NamedTuple):
    """One Kafka message. `timestamp` is event time in epoch ms; `key` is the account."""

    topic: Topic
    key: str
    timestamp: int
    value: bytes
