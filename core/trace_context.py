"""W3C Trace Context (https://www.w3.org/TR/trace-context/): the header `traceparent`, and a payment's span ID. Pure.

Nothing of a trace is stored in the log and nothing that decides reads one. The header stays where it came: in the Kafka
message, whose place is the payment's position in the log. Whoever knows the position knows the span under which the
payment was decided (`decided_span`), so workers and responders tell each other nothing.

`tracestate` and `baggage` are not passed on: they may hold anything, personal data too.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

HEADER = "traceparent"
Headers = dict[str, str | bytes | None] | list[tuple[str, str | bytes | None]]
"""As the Kafka client may give them."""
LOG_ID_CHARACTERS = 12
"""Of a log ID, where it tells logs apart in a key (`place_key`, `responders.messages.key_of`)."""
_PATTERN = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TraceContext(NamedTuple):
    """A span that may become a parent: IDs in hexadecimal. sampled: whether its trace is recorded."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def header(self) -> str:
        """The value of `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-0{int(self.sampled)}"


def parsed(header: str | bytes | None) -> TraceContext | None:
    """The context of a header; None if there is none, or it is not valid: the trace then begins anew, as W3C asks."""
    if header is None or len(header) > 512:
        return None
    text = header if isinstance(header, str) else header.decode("latin-1")
    found = _PATTERN.fullmatch(text)
    if found is None or (found[5] and found[1] == "00"):
        return None
    return TraceContext(found[2], found[3], bool(int(found[4], 16) & 1))


def of_headers(headers: Headers | None) -> TraceContext | None:
    """The context of a Kafka message's headers; the last `traceparent` counts."""
    value: str | bytes | None = None
    for name, content in headers.items() if isinstance(headers, dict) else headers or ():
        if name == HEADER:
            value = content
    return parsed(value)


def place_key(log_id: str, partition: int, position: str) -> str:
    """Names a payment's place in a log, in few characters."""
    return f"{log_id[:LOG_ID_CHARACTERS]}:{partition:02d}:{position}"


def decided_span(place: str) -> str:
    """The ID of the span under which the payment at `place_key` is decided, in any trace."""
    return hashlib.sha256(f"decided:{place}".encode()).hexdigest()[:16]
