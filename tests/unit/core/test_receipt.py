"""Receive time: what a client dates wrongly moves its own account within a stated bound, and nothing else (I14)."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from msgspec.structs import replace

from core import control_stream, replay
from core.errors import BadInput
from core.events import HistoryEnded, HistoryStarted, Position, Transaction
from core.features import spec
from core.identity import FIXED
from core.receipt import AHEAD_MS, BEHIND_MS, History, covering, covering_some
from core.times import DAY_MS, HOUR_MS, MINUTE_MS
from core.validation import TIME_MAX_MS, TIME_MIN_MS
from tests.builders import feature_oracle
from tests.builders.decisions import features_of
from tests.builders.events import HISTORY, Shape, stream, transaction, verdict
from tests.builders.live import NOW, Live

FAR = TIME_MAX_MS - DAY_MS
"""The end of 2099."""


def pay(number: int, at: int = NOW, **changes: object) -> Transaction:
    return transaction(number, occurred_at=at, **changes)


def history(**changes: object) -> HistoryStarted:
    values = {"occurred_at": NOW, "actor": "ann", "earliest": TIME_MIN_MS, "latest": NOW} | changes
    return HistoryStarted(**values)  # type: ignore[arg-type]


# --- live: which times are received, and when ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "reason"),
    [
        (0, ""),
        (AHEAD_MS, ""),
        (AHEAD_MS + 1, "future_time"),
        (23 * HOUR_MS, "future_time"),
        (FAR - NOW, "future_time"),
        (-BEHIND_MS, ""),
        (-BEHIND_MS - 1, "past_time"),
        (TIME_MIN_MS - NOW, "past_time"),
    ],
)
def test_a_live_payments_own_time_is_bounded(offset: int, reason: str) -> None:
    """Up to five minutes ahead of the receive time and thirty days behind it are accepted; the rest is rejected."""
    live = Live()
    live.send([pay(1, NOW + offset)])
    assert live.reasons == ([reason] if reason else [])
    assert live.received == ([] if reason else [NOW])
    assert live.verify().first_difference is None


@pytest.mark.parametrize("field", ["occurred_at", "transaction_occurred_at"])
@pytest.mark.parametrize(("at", "reason"), [(FAR, "future_time"), (NOW + AHEAD_MS, ""), (NOW - 31 * DAY_MS, "")])
def test_a_live_verdicts_times_are_bounded(field: str, at: int, reason: str) -> None:
    """A verdict may be weeks old, but neither it nor its payment may lie in the future."""
    live = Live()
    live.send([verdict(**({"occurred_at": NOW} | {field: at}))])
    assert live.reasons == ([reason] if reason else [])


def test_the_brokers_time_of_the_append_is_the_receive_time() -> None:
    """With LogAppendTime a backlog keeps the times at which it came, never after the worker's clock."""
    live = Live()
    for number, at in enumerate([NOW - HOUR_MS, NOW - MINUTE_MS, NOW + HOUR_MS]):
        live.send([pay(number, NOW - HOUR_MS)], NOW, appended_at=at)
    assert live.received == [NOW - HOUR_MS, NOW - MINUTE_MS, NOW]
    assert live.verify().first_difference is None


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("appended", [False, True])
def test_receive_times_never_decrease(restarts: bool, appended: bool) -> None:
    """Whatever clocks say, batch by batch and owner by owner, a partition's receive times never go back."""
    rng = random.Random(4)
    live = Live()
    for number in range(40):
        at = NOW + rng.randrange(-HOUR_MS, HOUR_MS)
        came = at - rng.randrange(DAY_MS) if appended else at
        live.send([pay(number, came), pay(1000 + number, came)], at, appended_at=came if appended else 0)
        if restarts and rng.random() < 0.5:
            live.restart()
    assert live.received == sorted(live.received) and len(set(live.received)) > 1
    assert live.verify().first_difference is None


def test_a_restart_keeps_the_clock_in_snapshots_too() -> None:
    """A state that is written and read again continues from the same receive time."""
    live = Live()
    live.send([pay(1)])
    state = live.owned.state
    assert state.received_at == NOW
    again = type(state).from_bytes(state.to_bytes(), FIXED)
    live.restart()
    assert again.received_at == live.owned.state.received_at == NOW


def clock_after_duplicates(live: Live) -> None:
    """A payment, and an hour later only a repetition of it."""
    live.send([pay(1, NOW - HOUR_MS)], NOW - HOUR_MS)
    live.send([pay(1, NOW - HOUR_MS)], NOW)
    assert live.reasons == ["duplicate_transaction"]


def clock_after_history(live: Live) -> None:
    """A history that is dated in the future, loaded now."""
    live.change(history(latest=FAR))
    live.send([pay(1, FAR - DAY_MS)], NOW)
    live.change(HistoryEnded(occurred_at=NOW, actor="ann", ends={"transactions": (1,), "feedback": (0,)}))


@pytest.mark.parametrize("before", [clock_after_duplicates, clock_after_history])
@pytest.mark.parametrize("restarts", [False, True])
def test_the_clock_is_the_same_live_rebuilt_and_verified(before: Callable[[Live], None], restarts: bool) -> None:
    """An owner whose clock is 20 s behind the one before it leaves a log that verifies: what the log does not hold
    moves no clock, and what it holds moves that of every reader.
    """
    live = Live()
    before(live)
    assert live.owned.state.received_at == replay.rebuild(live.log, 0, live.log.head(0), FIXED).received_at
    if restarts:
        live.restart()
    live.send([pay(2, NOW - MINUTE_MS)], NOW - 20_000)
    assert live.verify().first_difference is None


# --- what follows which time ---------------------------------------------------------------------------------------


def test_velocity_follows_the_receive_time() -> None:
    """Twenty payments dated over twenty days are twenty in ten minutes all the same, and each says how late it is."""
    live = Live()
    for number in range(20):
        at = NOW + number * 1_000
        live.send([pay(number, NOW - number * DAY_MS)], at)
    last = live.decided[-1]
    assert last.feature("count_10m") == last.feature("count_30d") == 19
    assert last.feature("seconds_since_last") == 1.0
    assert last.feature("source_delay_s") == 19 + 19 * 86_400
    assert "VELOCITY_10M" in last.score.rules and "CLOCK_SKEW" in last.score.rules


def test_zero_amounts_dated_ahead_hide_nothing() -> None:
    """Messages dated up to a day ahead, which once hid a burst after them, are rejected, and the burst is seen."""
    live = Live()
    live.send([pay(n, NOW + (n + 1) * HOUR_MS, amount=0.0) for n in range(22)], NOW)
    for number in range(40):
        live.send([pay(100 + number, NOW + 2_000 * number, amount=900.0)], NOW + 2_000 * number)
    assert live.reasons == ["future_time"] * 22
    rules = [each.score.rules for each in live.decided]
    assert all("VELOCITY_10M" in hit for hit in rules[8:]) and len(rules) == 40


def test_habits_and_travel_follow_the_sources_time() -> None:
    """An offline terminal's payment, hours late, has the hour and the speed of its own time."""
    live = Live()
    live.send([pay(1, NOW - 10 * HOUR_MS, country="DE", channel="pos")], NOW)
    live.send([pay(2, NOW - 4 * HOUR_MS, country="US", channel="pos")], NOW + 1_000)
    last = live.decided[-1]
    assert last.feature("hour_of_day") == (NOW - 4 * HOUR_MS) // HOUR_MS % 24
    assert last.feature("speed_kmh") == pytest.approx(last.feature("km_from_last") / 6.0)


@pytest.mark.parametrize("offset", [AHEAD_MS, AHEAD_MS + 1, FAR - NOW, -BEHIND_MS, TIME_MIN_MS - NOW])
def test_one_wrong_date_never_silences_the_travel_rule(offset: int) -> None:
    """After a payment with any date, impossible travel is noticed again as soon as the bound has passed."""
    live = Live()
    live.send([pay(1, NOW, country="DE", channel="pos")])
    live.send([pay(2, NOW + offset, country="DE", channel="pos")])
    later = NOW + AHEAD_MS + MINUTE_MS
    live.send([pay(3, later, country="DE", channel="pos")], later)
    live.send([pay(4, later + MINUTE_MS, country="AU", channel="pos")], later + MINUTE_MS)
    assert "IMPOSSIBLE_TRAVEL" in live.decided[-1].score.rules


@pytest.mark.parametrize("seed", range(4))
def test_features_are_the_oracles_with_two_clocks(seed: int) -> None:
    """With receive times apart from the source's, every column equals its definition."""
    rng = random.Random(seed)
    items, received = [], 0
    for item in stream(seed, 600, Shape(accounts=4)):
        if isinstance(item, Transaction):
            received = max(received, item.occurred_at + rng.choice((-AHEAD_MS, 0, 5_000, HOUR_MS, 3 * DAY_MS)))
            items.append(replace(item, received_at=received))
        else:
            items.append(item)
    wanted = feature_oracle.vectors(items)
    got = features_of(items)
    for name in wanted[0]:
        column = np.array([row[name] for row in wanted])
        close = {"rtol": 1e-5, "atol": 1e-3} if name in feature_oracle.APPROXIMATE else {"rtol": 0, "atol": 0}
        mine = got[:, spec.index(name)]
        np.testing.assert_allclose(mine, column.astype(np.float32), equal_nan=True, err_msg=name, **close)


# --- history -------------------------------------------------------------------------------------------------------


def test_history_is_received_when_it_was_dated() -> None:
    """In history mode the receive time is the payment's own, late ones included, and the delay is 0."""
    live = Live(history())
    times = [NOW - 400 * DAY_MS, NOW - 300 * DAY_MS, NOW - 350 * DAY_MS]
    live.send([pay(n, at) for n, at in enumerate(times)], NOW)
    assert live.received == times
    assert {each.feature("source_delay_s") for each in live.decided} == {0.0}
    assert live.verify().first_difference is None


def test_history_rejects_what_lies_outside_its_range() -> None:
    """A message of either topic outside the stated range is no part of the history."""
    live = Live(history(earliest=NOW - 10 * DAY_MS, latest=NOW - DAY_MS))
    ahead = NOW + AHEAD_MS + 1
    verdicts = [verdict(occurred_at=ahead), verdict(occurred_at=NOW, transaction_occurred_at=ahead)]
    live.send([pay(1, NOW - 11 * DAY_MS), pay(2, NOW - DAY_MS), pay(3, NOW), *verdicts], NOW)
    assert live.reasons == ["outside_history"] * 4
    assert live.received == [NOW - DAY_MS]


@pytest.mark.parametrize("occurred_at", [NOW - 11 * DAY_MS, NOW - DAY_MS + 1, NOW])
def test_a_verdict_may_follow_the_history_of_its_payment(occurred_at: int) -> None:
    """What could be received live is taken in a history too: verdicts on its last payments come after its range."""
    live = Live(history(earliest=NOW - 10 * DAY_MS, latest=NOW - DAY_MS))
    live.send([pay(1, NOW - DAY_MS), verdict(occurred_at=occurred_at)], NOW)
    assert live.reasons == []


def test_a_history_covers_its_offsets_and_no_others() -> None:
    """Live messages before and after a history are live, and those within are history, whenever they are decided."""
    live = Live()
    live.change(history(begins={"transactions": (1,), "feedback": (0,)}))
    live.change(HistoryEnded(occurred_at=NOW, actor="ann", ends={"transactions": (3,), "feedback": (0,)}))
    old = NOW - 300 * DAY_MS
    live.send([pay(1), pay(2, old), pay(3, old + 1), pay(4), pay(5, old)], NOW)
    assert live.received == [NOW, old, old + 1, NOW]
    assert live.reasons == ["past_time"]
    assert live.verify().first_difference is None


def test_the_future_of_a_history_does_not_advance_the_live_clock() -> None:
    """A stream dated in the future is loaded, and live payments after it are received now, in any owner."""
    live = Live(history(latest=FAR))
    live.send([pay(1, FAR - DAY_MS)], NOW)
    live.restart()
    live.change(HistoryEnded(occurred_at=NOW, actor="ann"))
    live.send([pay(2)], NOW)
    assert live.received == [FAR - DAY_MS, NOW]
    assert live.verify().first_difference is None


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([history(), history()], "already open"),
        ([HistoryEnded(occurred_at=1, actor="a")], "no history is open"),
        ([history(earliest=5, latest=4)], "can.t end"),
        ([history(begins={"decisions": (1,)})], "by topic"),
        ([history(begins={"feedback": (-1,)})], "by topic"),
    ],
)
def test_histories_open_and_end_in_turn(events: list[object], words: str) -> None:
    """A history is opened once, ended once, and has a range and offsets that make sense."""
    with pytest.raises(BadInput, match=words):
        Live(*events)  # type: ignore[arg-type]
    assert control_stream.current(Live(HISTORY).log).histories[0].ends is None


def test_covering_some_agrees_with_covering() -> None:
    """The quick answer for a batch of messages is the answer for each of them."""
    rng = random.Random(1)
    for _ in range(300):
        histories, at = [], 0
        for _ in range(rng.randrange(4)):
            begin = at + rng.randrange(4)
            at = begin + rng.randrange(5)
            histories.append(History(0, 1, {"transactions": 1}, {"transactions": (begin,)}, {"transactions": (at,)}))
        if histories and rng.random() < 0.4:
            histories[-1] = histories[-1]._replace(ends=None)
        generation, first = rng.choice((1, 1, 1, 2)), rng.randrange(1, 12)
        positions = [Position(generation, first + i) for i in range(rng.randrange(1, 8))]
        some = covering_some(histories, "transactions", 0, positions[0], positions[-1])
        for position in positions:
            assert covering(histories, "transactions", 0, position) == covering(some, "transactions", 0, position)


# --- replay finds what was not received so -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "changes", "words"),
    [
        (1, {"received_at": NOW - 5_000}, "is before"),
        (2, {"received_at": NOW + HOUR_MS}, "is after"),
        (1, {"received_at": 0, "occurred_at": NOW - 40 * DAY_MS}, "is before"),
        (1, {"occurred_at": NOW - 40 * DAY_MS}, "may not be received live"),
        (3, {"received_at": NOW + 3_000}, "belongs to a history"),
        (3, {"occurred_at": TIME_MIN_MS - 1, "received_at": TIME_MIN_MS - 1}, "belongs to a history"),
    ],
)
def test_verification_finds_receive_times_that_can_not_be(row: int, changes: dict[str, int], words: str) -> None:
    """A live receive time that goes back or lies ahead, and one of a history that is not its own time, are reported."""
    live = Live()
    for number in range(3):
        live.send([pay(number, NOW + 1_000 * number)], NOW + 1_000 * number)
    live.change(history(begins={"transactions": (3,)}))
    live.send([pay(3, NOW - 90 * DAY_MS)], NOW + 3_000)
    assert live.verify().first_difference is None
    live.tamper(row, **changes)
    found = live.verify().first_difference
    assert found is not None and any(words in line and "received_at" in line for line in found.lines), found
