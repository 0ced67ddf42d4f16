"""Whatever is changed in a log is found by its replay, and the difference names what and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from core import control_stream
from core.codec import decode_alert, decode_score, decode_transaction, encode
from core.context import Resolver
from core.errors import Corrupt
from core.features import packing, spec
from core.log.base import Entry, Stream
from core.log.memory import MemoryLog
from core.replay import Timeline
from core.verification import verify
from tests.builders.logs import entries, filled, heads, verified
from tests.builders.models import load_tiny


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return filled()


def tampered(log: MemoryLog, which: Stream, row: int, change: Callable[[bytes], bytes]) -> tuple[MemoryLog, Entry]:
    """A copy of the log with partition 0's entry changed, and the entry."""
    other, before = log.clone(), entries(log, 0, which)[row]
    changed = change(before.payload)
    assert changed != before.payload
    other.tamper(0, which, before.id, changed)
    return other, before


def _score(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda payload: encode(msgspec.structs.replace(decode_score(payload), **changes))


def _flip_feature(name: str) -> Callable[[bytes], bytes]:
    def change(payload: bytes) -> bytes:
        score = decode_score(payload)
        row, column = packing.vector(score.features), spec.index(name)
        row[column : column + 1].view(np.uint32)[0] ^= 1
        return encode(msgspec.structs.replace(score, features=packing.pack(row[None, :])[0]))

    return change


def _other_severity(payload: bytes) -> bytes:
    score = decode_score(payload)
    return encode(msgspec.structs.replace(score, severity="low" if score.severity == "critical" else "critical"))


def _nudge(field: str) -> Callable[[bytes], bytes]:
    def change(payload: bytes) -> bytes:
        score = decode_score(payload)
        return encode(msgspec.structs.replace(score, **{field: float(np.nextafter(getattr(score, field), 2.0))}))

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        *(
            (_flip_feature(name), f"feature {name}: ")
            for name in ("amount", "hour_share", "merchant_count_1d", "device_reports_30d")
        ),
        (_nudge("margin"), "margin: "),
        (_nudge("probability"), "probability: "),
        (_other_severity, "severity: "),
        (_score(rules=("LIST_ALLOW",)), "rules: "),
        (_score(shadow_rules=("LIST_ALLOW",)), "shadow_rules: "),
        (_score(effects=8), "effects: "),
        (_score(program="ff"), "program: "),
        (_score(model="other-9"), "model: "),
        (_score(digest="ff"), "digest: "),
        (_score(arm="challenger"), "arm: "),
        (_score(features=b"\0" * 8), "features: "),
        (lambda payload: payload[:-1] + b" }", "same fields, different bytes"),
    ],
)
@pytest.mark.parametrize("row", [0, 77, -1])
def test_a_tampered_score_is_found(log: MemoryLog, change: Callable[[bytes], bytes], word: str, row: int) -> None:
    """One changed field of one score, down to its last bit, is found, and the difference names the field."""
    other, entry = tampered(log, "scores", row, change)
    found = verified(other)[0].first_difference
    assert found is not None and found.position == entry.id
    assert word in str(found) and str(entry.id) in str(found)


@pytest.mark.parametrize("row", [0, 77, -1])
def test_a_score_that_names_another_engine_is_not_identical(log: MemoryLog, row: int) -> None:
    """What this release can't make again is counted with its reason, neither identical nor different."""
    found = verified(tampered(log, "scores", row, _score(engine=99))[0])[0]
    assert found.first_difference is None and list(found.undecidable.values()) == [1]
    assert "engine 99" in next(iter(found.undecidable)) and found.identical == found.decisions - 1


def test_a_tampered_decision_names_both_values(log: MemoryLog) -> None:
    """The difference of a decision shows what was logged and what came."""
    row = next(i for i, e in enumerate(entries(log, 0, "scores")) if decode_score(e.payload).decision == "approve")
    found = verified(tampered(log, "scores", row, _score(decision="review"))[0])[0].first_difference
    assert found is not None and "decision: logged 'review', recomputed 'approve'" in str(found)


@pytest.mark.parametrize("row", [0, 33])
def test_a_tampered_amount_is_found(log: MemoryLog, row: int) -> None:
    """A changed transaction amount shows as a difference of its amount feature."""

    def change(payload: bytes) -> bytes:
        t = decode_transaction(payload)
        return encode(msgspec.structs.replace(t, amount=t.amount + 1.0))

    other, entry = tampered(log, "transactions", row, change)
    found = verified(other)[0].first_difference
    assert found is not None and found.position == entry.id and "feature amount: " in str(found)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda p: encode(msgspec.structs.replace(decode_alert(p), values={"amount": 1.0})), "alert values: "),
        (lambda p: encode(msgspec.structs.replace(decode_alert(p), fraud_score=0.0)), "alert fraud_score: "),
        (lambda p: p[:-1] + b" }", "alert: same fields, different bytes"),
    ],
)
def test_a_tampered_alert_is_found(log: MemoryLog, change: Callable[[bytes], bytes], word: str) -> None:
    """A changed alert is found and the difference says which field, even if only its bytes differ."""
    other, entry = tampered(log, "alerts", 5, change)
    found = verified(other)[0].first_difference
    assert found is not None and found.position == entry.id and word in str(found)


def test_a_removed_and_an_invented_alert_are_found(log: MemoryLog) -> None:
    """An alert that is missing, or stands where none is raised or where there is no transaction, is a difference."""
    alerted = {e.id for e in entries(log, 0, "alerts")}
    removed, gone = log.clone(), entries(log, 0, "alerts")[3]
    removed.tamper(0, "alerts", gone.id, None)
    found = verified(removed)[0].first_difference
    assert found is not None and found.position == gone.id and "raised, but not in the log" in str(found)
    accepted = {e.id for e in entries(log, 0, "scores")}
    quiet = min(accepted - alerted)
    nowhere = next(gone.id._replace(offset=n) for n in range(1, 10**4) if gone.id._replace(offset=n) not in accepted)
    for position, words in ((quiet, "logged, not raised again"), (nowhere, "no decision raises")):
        invented = log.clone()
        invented.tamper(0, "alerts", position, gone.payload)
        found = verified(invented)[0].first_difference
        assert found is not None and found.position == position and words in str(found)


def test_broken_logs_are_corrupt(log: MemoryLog) -> None:
    """A missing score, bytes that don't decode, a control position beyond the stream, or feedback that a score can't
    have seen, raise Corrupt.
    """
    missing, scores = log.clone(), entries(log, 0, "scores")
    missing.tamper(0, "scores", scores[10].id, None)
    positions = [decode_score(e.payload).feedback_position for e in scores]
    middle = next(i for i in range(100, len(positions)) if positions[i - 1] == positions[i] == positions[i + 1])
    earlier, _ = tampered(log, "scores", middle, _score(feedback_position="0-0"))
    later, _ = tampered(log, "scores", -1, _score(feedback_position="1-100000"))
    nowhere, _ = tampered(log, "scores", middle, _score(feedback_position="1-5x"))
    beyond, _ = tampered(log, "scores", 10, _score(control_position=10**6))
    garbled, _ = tampered(log, "scores", 10, lambda payload: payload[5:])
    for broken in (missing, earlier, later, nowhere, beyond, garbled):
        with pytest.raises(Corrupt):
            verified(broken)


def test_a_changed_feedback_event_is_found(log: MemoryLog) -> None:
    """A verdict turned round in the log shows as a difference in a later decision of its account."""
    row, before = next(
        (i, e.payload)
        for i, e in enumerate(entries(log, 0, "feedback"))
        if b'"verdict":"fraud"' in e.payload and b"only" not in e.payload
    )
    other, _ = tampered(log, "feedback", row, lambda p: p.replace(b'"fraud"', b'"legitimate"'))
    found = verified(other)[0].first_difference
    assert found is not None and "feature fraud_verdicts: " in str(found), before


@pytest.mark.parametrize(("stream", "words"), [("alerts", "no decision raises"), ("scores", "has no transaction")])
def test_what_stands_behind_the_last_decision_is_found(log: MemoryLog, stream: Stream, words: str) -> None:
    """An alert or score that somebody appended behind the end; what a worker appended meanwhile is none of it."""
    other, last = log.clone(), entries(log, 0, stream)[-1]
    position = last.id._replace(offset=10**6)
    other.tamper(0, stream, position, last.payload)
    found = verified(other)[0].first_difference
    assert found is not None and found.position == position and words in str(found)
    before = heads(log, 0)[-9]
    timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, load_tiny))
    assert verify(log, 0, before, timeline).first_difference is None
