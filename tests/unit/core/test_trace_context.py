"""W3C Trace Context: which headers are read, and what is sent on."""

from __future__ import annotations

import pytest

from core.trace_context import TraceContext, decided_span, of_headers, parsed, place_key

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-bring", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
    ],
)
def test_a_valid_header_is_read(header: str, sampled: bool) -> None:
    """Of this version and of later ones, as text and as bytes; unknown flags are not passed on."""
    assert parsed(header) == parsed(header.encode()) == TraceContext(TRACE, SPAN, sampled)
    again = parsed(header)
    assert again is not None and again.header == f"00-{TRACE}-{SPAN}-0{int(sampled)}"


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "00", b"\xff\x00", "x" * 10_000, f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE}-{SPAN}-01\n"),
        *(f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{SPAN}-1"),
        *(
            f"00-{TRACE.upper()}-{SPAN}-01",
            f"00-{TRACE[:-1]}-{SPAN}-01",
            f"0-{TRACE}-{SPAN}-01",
            f" 00-{TRACE}-{SPAN}-01",
        ),
    ],
)
def test_an_invalid_header_is_none(header: str | bytes | None) -> None:
    """The trace then begins anew; nothing raises."""
    assert parsed(header) is None


def test_of_several_headers_the_last_counts() -> None:
    """As Kafka's own clients take it; other headers are not looked at."""
    first, last = f"00-{TRACE}-{SPAN}-00".encode(), f"00-{TRACE}-{SPAN}-01".encode()
    assert of_headers([("traceparent", first), ("x", b"\xff"), ("traceparent", last)]) == parsed(last)
    assert of_headers([("TraceParent", last)]) is of_headers([]) is of_headers(None) is None
    assert of_headers([("traceparent", None)]) is None


def test_a_place_has_one_span_that_no_other_place_has() -> None:
    """The ID is valid, the same in every process, and another one in another log, partition or position."""
    places = {
        place_key(log, p, f"{g}-{o}") for log in ("a" * 32, "b" * 32) for p in (0, 1) for g in (1, 2) for o in (1, 2)
    }
    spans = {decided_span(place) for place in places}
    assert len(places) == len(spans) == 16
    assert all(parsed(f"00-{TRACE}-{span}-01") is not None for span in spans)
    assert decided_span("aaaaaaaaaaaa:00:1-1") == decided_span(place_key("a" * 32, 0, "1-1")) == "bbe6d832ef7b32f1"
