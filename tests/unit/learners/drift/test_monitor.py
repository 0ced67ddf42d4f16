"""The drift monitor's state machine: told once, worse told again, over told once; resumable, never twice a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from core import control_stream
from core.codec import decode_control, encode, encode_control
from core.context import Resolver
from core.errors import BadInput, ConcurrencyError
from core.events import DriftCleared, DriftDetected, ModelDeployed, Position, ThresholdsChanged
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.archiver import archive_partition
from core.log.memory import MemoryLog
from core.times import DAY_MS, HOUR_MS
from ingest.offline import OfflineIngest
from learners.drift.compare import FeatureDrift, Window
from learners.drift.look import Look, Looker, Serving, TooEarly, reference_window, serving
from learners.drift.monitor import DriftMonitor, MonitorState, Reported, decide, folded
from learners.drift.policy import SEVERITIES, DriftConfig
from learners.drift.windows import WindowReader
from projections.labelling.reader import LabelReader
from sources.synthetic import START_MS, SyntheticConfig, SyntheticStream
from tests.builders.batches import batch_after
from tests.builders.drift import feature, look
from tests.builders.events import fuzz
from tests.builders.models import ARTIFACT, deployed, load_tiny

CONFIG = DriftConfig(cool_down_ms=3 * DAY_MS)
DAY_0 = 100 * DAY_MS
Events = list[DriftDetected | DriftCleared]


def told(history: list[Look], config: DriftConfig = CONFIG) -> list[tuple[str, str, int]]:
    """What a monitor tells of the looks, one after another: (event, feature, day)."""
    state, out = MonitorState(), []
    for each in history:
        for event in decide(state, each, config, now_ms=7):
            state.apply(state.position + 1, event)
            out.append((type(event).__name__, event.feature, (each.current.end - DAY_0) // DAY_MS))
    return out


def days(*levels: int | FeatureDrift) -> list[Look]:
    """A look a day: a level (0 none … 4 critical) or a feature."""
    return [
        look(DAY_0 + day * DAY_MS, feature(level=each) if isinstance(each, int) else each)
        for day, each in enumerate(levels)
    ]


def test_a_drift_is_told_once_and_its_end_once() -> None:
    """Three looks with drift and two without make one detection and one clearing."""
    assert told(days(0, 1, 1, 1, 0, 0)) == [("DriftDetected", "amount", 1), ("DriftCleared", "amount", 4)]


def test_a_rising_severity_is_told_and_a_falling_one_is_not() -> None:
    """Low, medium, low, medium, critical: told at low, medium and critical."""
    assert [day for _, _, day in told(days(1, 2, 1, 2, 4))] == [0, 1, 4]


def test_what_is_told_can_be_read_again() -> None:
    """An effect that could not be computed, or without a bound, is left out of the event; the drift is told."""
    odd = feature(
        level=2, effects={"ks": 0.2, "cramers_v": float("nan"), "psi": float("inf")}, design_effect=float("inf")
    )
    events = decide(MonitorState(), look(DAY_0, odd), CONFIG, now_ms=7)
    assert [decode_control(encode_control(event)) for event in events] == events
    assert isinstance(events[0], DriftDetected) and events[0].effects == {"ks": 0.2}


def test_a_drift_that_hovers_below_the_floor_stays_open() -> None:
    """Not drifted but not clearly over: nothing is told until it is over."""
    hovering = feature(over=False)
    assert told(days(1, hovering, 1, hovering, 0)) == [("DriftDetected", "amount", 0), ("DriftCleared", "amount", 4)]


def test_inside_the_cool_down_only_a_higher_severity_is_told_again() -> None:
    """Cleared on day 1: the same severity waits until day 4, a higher one does not."""
    assert [day for _, _, day in told(days(1, 0, 1, 1, 1))] == [0, 1, 4]
    assert [day for _, _, day in told(days(1, 0, 2))] == [0, 1, 2]


def test_what_can_no_longer_be_compared() -> None:
    """Another model ends the score's drift; too few rows end nothing."""
    assert [day for _, _, day in told(days(1, feature(state="model_changed")))] == [0, 1]
    assert [day for _, _, day in told(days(1, feature(state="too_few_rows")))] == [0]


def test_the_event_says_what_was_found() -> None:
    """A detection carries windows, rows, statistic, effect sizes and the adjusted p-value; NaN is left out."""
    found = feature(level=3, design_effect=float("nan"))
    event = decide(MonitorState(), look(DAY_0, found), CONFIG, now_ms=7, actor="me")[0]
    assert event == DriftDetected(
        occurred_at=7,
        actor="me",
        feature="amount",
        statistic="ks",
        magnitude=found.magnitude,
        severity="high",
        window_start=DAY_0 - 7 * DAY_MS,
        window_end=DAY_0,
        kind="numeric",
        test="ks",
        p_value_adjusted=1e-8,
        effects=found.effects,
        reference_start=0,
        reference_end=14 * DAY_MS,
        rows=1000,
        reference_rows=2000,
    )


levels = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=25)


@fuzz(max_examples=100)
@given(levels, st.integers(0, 25), st.integers(0, 25))
def test_resumed_anywhere_nothing_is_told_twice(history: list[tuple[int, bool]], killed: int, back: int) -> None:
    """A monitor that starts again `back` looks before where it was killed tells the same events as one that ran
    through; detections alternate with clearings except for a rising severity.
    """
    looks = days(*(feature(level=n) if n else feature(over=over) for n, over in history))
    straight, state = MonitorState(), MonitorState()
    expected: Events = []
    for each in looks:
        for event in decide(straight, each, CONFIG, 7):
            straight.apply(straight.position + 1, event)
            expected.append(event)
    log: Events = []
    for each in [*looks[:killed], *looks[max(killed - back, 0) :]]:
        if each is looks[min(killed, len(looks) - 1)]:
            state = folded(enumerate(log, 1))
        for event in decide(state, each, CONFIG, 7):
            state.apply(state.position + 1, event)
            log.append(event)
    assert log == expected
    was_open, worst = False, 0
    for event in expected:
        if isinstance(event, DriftDetected):
            level = SEVERITIES.index(event.severity) + 1
            assert not was_open or level > worst
            was_open, worst = True, level
        else:
            assert was_open
            was_open = False


def test_old_events_without_a_window_fold() -> None:
    """Events from before the windows were recorded in a clearing keep the detection's window; others change nothing."""
    detected = DriftDetected(
        occurred_at=1, actor="a", feature="amount", statistic="psi", magnitude=1.0, severity="high", window_start=1,
        window_end=9,
    )  # fmt: skip
    cleared = DriftCleared(occurred_at=2, actor="a", feature="amount")
    other = ThresholdsChanged(occurred_at=2, actor="a", review=0.1, decline=0.5)
    state = folded([(1, detected), (2, other), (3, cleared), (4, DriftCleared(occurred_at=2, actor="a", feature="x"))])
    assert state.reported == {"amount": Reported(False, 3, 9)}
    assert state.position == 4


def test_the_reference_is_frozen_at_the_champions_deployment() -> None:
    """It begins at the deployment or when the log has settled, on a step; too young a log is bad input in days."""
    config = DriftConfig(step_ms=6 * HOUR_MS, settle_ms=31 * DAY_MS)
    settled = reference_window(config, oldest=0, deployed=0, as_of=90 * DAY_MS)
    assert settled == Window(31 * DAY_MS, 45 * DAY_MS)
    late = reference_window(config, oldest=0, deployed=40 * DAY_MS + 1, as_of=90 * DAY_MS)
    assert late.start == 40 * DAY_MS + 6 * HOUR_MS
    with pytest.raises(TooEarly, match=r"45\.5 days; the first look is possible at 1970-02-16"):
        reference_window(config, oldest=0, deployed=0, as_of=45 * DAY_MS + 12 * HOUR_MS)
    assert reference_window(config, oldest=0, deployed=0, as_of=46 * DAY_MS) == settled
    model: dict[str, Any] = {"occurred_at": 1, "actor": "a", "name": "m", "version": "1", "digest": "0"}
    shadow = ModelDeployed(**model, alias="shadow")
    changed = ThresholdsChanged(occurred_at=2, actor="a", review=0.2, decline=0.5)
    assert serving([(1, ModelDeployed(**model)), (2, shadow), (3, changed)]) == Serving(1, 0.2)


# --- on a log -------------------------------------------------------------------------------------------------------

SMALL = DriftConfig(settle_ms=9 * DAY_MS, reference_ms=7 * DAY_MS)
PARTITIONS = [0, 1]
NAMES = ("margins", "times", "accounts", "transactions", "models")


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    """27 days of 60 accounts, decided by the tiny model; honest spending rises on day 17."""
    log = MemoryLog()
    log.put_blob(ARTIFACT)
    offline = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=2, reference=False, start=[deployed()])
    config = SyntheticConfig(days=27, accounts=60, seed=5, drift_at=17 / 27, drift="behaviour", rate=0.004)
    for chunk in SyntheticStream(config).records():
        offline.feed(chunk)
    offline.flush()
    return log


def monitor(log: Any) -> DriftMonitor:
    return DriftMonitor(log, Looker(WindowReader(log, PARTITIONS), LabelReader(log, PARTITIONS), SMALL), SMALL)


def told_events(log: MemoryLog) -> Events:
    return [e for _, e in control_stream.accepted(log) if isinstance(e, DriftDetected | DriftCleared)]


def test_windows_are_read_by_event_time(decided: MemoryLog) -> None:
    """A window holds exactly the decisions of its span, in order, with features and margins as logged."""
    reader = WindowReader(decided, PARTITIONS)
    everything = reader.read(0, 2**60)
    assert len(everything) == sum(decided.length(p, "scores") for p in PARTITIONS)
    start, end = START_MS + 9 * DAY_MS, START_MS + 13 * DAY_MS
    part, expected = reader.read(start, end), everything.between(start, end)
    assert sorted(part.transactions.tolist()) == sorted(expected.transactions.tolist())
    assert (part.columns == expected.columns).sum() > 0.5 * part.columns.size
    assert (part.times >= start).all() and (part.times < end).all()
    assert len(part.digests) == 1 and deployed().digest.startswith(part.digests[0])
    assert reader.oldest() == everything.times[0]
    assert reader.newest() == everything.times[-1]
    assert reader.decided_since(1) == everything.times[0]
    assert reader.decided_since(10**6) is None
    assert len(reader.read(end, start)) == 0


def test_a_share_of_accounts_is_whole_accounts(decided: MemoryLog) -> None:
    """With a share, all rows of the chosen accounts are read and none of the others."""
    everything = WindowReader(decided, PARTITIONS).read(0, 2**60)
    reader = WindowReader(decided, PARTITIONS)
    assert reader.newest_since(10**9) == 0
    for rows in (20, 200, 1000):
        newest = reader.read(reader.newest_since(rows), 2**60)
        assert 1 <= len(newest) <= rows + len(PARTITIONS)
    some = WindowReader(decided, PARTITIONS, share=0.4).read(0, 2**60)
    chosen = set(some.accounts.tolist())
    assert 10 <= len(chosen) <= 40
    assert len(some) == sum(account in chosen for account in everything.accounts.tolist())
    with pytest.raises(BadInput):
        WindowReader(decided, PARTITIONS, share=0.0)


def test_a_log_of_rejects_alone_is_bad_input() -> None:
    """Its position in the payments has moved, and it holds none: there is nothing to look at either."""
    log = MemoryLog()
    batch = batch_after(log.head(0), transactions=0, alerts=0, feedback=0, rejects=3)
    log.append(0, replace(batch, transactions_end=Position(1, 3)), log.head(0))
    with pytest.raises(BadInput, match="no decision"):
        WindowReader(log, [0]).newest()


def test_an_empty_log_is_bad_input() -> None:
    """There is nothing to look at, in one line."""
    with pytest.raises(BadInput, match="no decision"):
        WindowReader(MemoryLog(), PARTITIONS).newest()
    with pytest.raises(BadInput, match="no decision"):
        WindowReader(MemoryLog(), PARTITIONS).oldest()


def test_a_look_does_not_depend_on_the_looks_before_it(decided: MemoryLog) -> None:
    """The reference is kept between looks, with reports once their window is over; an earlier moment is without."""
    looker = Looker(WindowReader(decided, PARTITIONS), LabelReader(decided, PARTITIONS), SMALL)
    serves = Serving(champion_since=0)
    moments = [START_MS + day * DAY_MS for day in (19, 27, 20, 26)]
    groups = set()
    for moment in moments:
        fresh = Looker(WindowReader(decided, PARTITIONS), LabelReader(decided, PARTITIONS), SMALL)
        expected = fresh.look(serves, moment)
        assert repr(looker.look(serves, moment)) == repr(expected)
        groups.add(tuple(f.state for f in expected.features if f.feature == "fraud:rate"))
    assert len(groups) > 1, "reports must be in some of the looks only"


def test_a_drift_in_a_log_is_told_in_its_control_stream(decided: MemoryLog) -> None:
    """A week after the change amounts are told; killed and started at every look, the same."""
    through, resumed = decided.clone(), decided.clone()
    one = monitor(through)
    for day in (24, 24, 25, 26, 27, 27):
        one.step(START_MS + day * DAY_MS, now_ms=9)
        monitor(resumed).step(START_MS + day * DAY_MS, now_ms=9)
    found = told_events(through)
    assert any(e.feature == "amount" for e in found if isinstance(e, DriftDetected))
    assert told_events(resumed) == found


def test_a_look_that_nobody_sees_tells_the_same(decided: MemoryLog) -> None:
    """Without what is only displayed the events are equal to the last figure, also that of a drift without evidence
    that ends; the look itself lacks the effects of figures that are neither evident nor open, and nothing else.
    """
    moment = START_MS + 27 * DAY_MS
    opened = DriftDetected(
        occurred_at=1,
        actor="me",
        feature="hour_of_day",
        statistic="psi",
        magnitude=0.3,
        severity="medium",
        window_start=START_MS,
        window_end=START_MS + 20 * DAY_MS,
    )
    found, events = [], []
    for for_display in (True, False):
        log = decided.clone()
        log.append_control([encode(opened)], log.control_head())
        reader, labels = WindowReader(log, PARTITIONS), LabelReader(log, PARTITIONS)
        looker = Looker(reader, labels, SMALL, for_display=for_display)
        look, appended = DriftMonitor(log, looker, SMALL).step(moment, now_ms=9)
        found.append({each.feature: each for each in look.findings})
        events.append(appended)
    assert events[0] == events[1]
    (cleared,) = [e for e in events[1] if isinstance(e, DriftCleared)]
    assert cleared.feature == "hour_of_day" and cleared.magnitude is not None
    shown, unseen = found
    assert list(shown) == list(unseen)
    without = [name for name, each in unseen.items() if shown[name].effects and not each.effects]
    assert len(without) > 10 and "amount" not in without and "hour_of_day" not in without
    for name in without:
        assert not shown[name].drifted and shown[name].over and unseen[name].over
    assert all(repr(unseen[name]) == repr(each) for name, each in shown.items() if name not in without)


class Contested:
    """A log in which somebody else appends right before the first conditional append, once."""

    def __init__(self, log: MemoryLog, event: Any) -> None:
        self._log, self._event, self.refused = log, event, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append_control(self, payloads: Any, expected: int) -> int:
        if self._event is not None:
            event, self._event = self._event, None
            self._log.append_control([encode(event)], self._log.control_head())
        try:
            return self._log.append_control(payloads, expected)
        except ConcurrencyError:
            self.refused += 1
            raise


def test_somebody_else_first_is_folded_and_decided_again(decided: MemoryLog) -> None:
    """If another monitor told the same window first, nothing is told twice; the append that came late is refused."""
    end = START_MS + 26 * DAY_MS
    _, new = monitor(decided.clone()).step(end, now_ms=9)
    assert len(new) >= 2
    log = Contested(decided.clone(), new[0])
    monitor(log).step(end, now_ms=9)
    assert log.refused == 1
    assert told_events(log) == list(new)


def test_an_archived_log_gives_the_same_windows(decided: MemoryLog, tmp_path: Path) -> None:
    """Half archived and trimmed, half hot: the same rows, bit for bit, verdicts too."""
    hot = decided.clone()
    archived = ArchivedLog(hot, open_archive(str(tmp_path)))
    middle = START_MS + 14 * DAY_MS
    for p in PARTITIONS:
        archive_partition(hot, archived.archive, p, recorded_until=middle)
        archived.archive.refresh(p)
        archived.trim(p, archived.archive.end(p))
        assert 0 < hot.length(p, "scores") < decided.length(p, "scores")
    for start, end in ((0, 2**60), (middle - 4 * DAY_MS, middle + 4 * DAY_MS)):
        one, other = (WindowReader(log, PARTITIONS).read(start, end) for log in (decided, archived))
        assert one.columns.tobytes() == other.columns.tobytes()
        assert [getattr(one, n).tolist() for n in NAMES] == [getattr(other, n).tolist() for n in NAMES]
    labels = [LabelReader(log, PARTITIONS) for log in (decided, archived)]
    assert labels[0].states() == labels[1].states()
    assert labels[0].view(middle).transactions == labels[1].view(middle).transactions
    assert len(labels[0].view(middle).transactions) > 3
