"""The contract of EventLog, run on every implementation (`event_log`, tests/conftest.py).

What only a Redis can get wrong (foreign keys, trimming, lost replies) is in test_redis_log.py.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import BadInput, ConcurrencyError, Corrupt
from core.events import START, Position
from core.log import seals
from core.log.base import STREAMS, Batch, Entry, EventLog, Head, Stream
from core.log.memory import MemoryLog
from tests.builders.batches import batch_after, batches_of, contents, verify


def filled(log: EventLog, partition: int = 0, batches: int = 3) -> Head:
    head = log.head(partition)
    for _ in range(batches):
        head = log.append(partition, batch_after(head), head)
    return head


# --- appending and reading back -----------------------------------------------------------------------------------


def test_an_empty_log_is_at_its_start(event_log: EventLog) -> None:
    """Nothing appended: the genesis head, no entries, control position 0."""
    assert event_log.head(5) == Head()
    assert contents(event_log, 5) == {stream: [] for stream in STREAMS}
    assert event_log.get(5, "scores", Position(1, 1)) is None
    assert [event_log.length(5, stream) for stream in STREAMS] == [0] * 6
    assert event_log.control_head() == 0
    assert event_log.read_control() == []


def test_a_batch_is_read_back_byte_for_byte(event_log: EventLog) -> None:
    """Every stream returns the entries that were appended, any bytes at all, and the head is what append returned."""
    batch = batch_after(Head(), transactions=20, alerts=7, feedback=5, rejects=3)
    head = event_log.append(3, batch, Head())
    held = contents(event_log, 3)
    assert held["transactions"] == batch.transactions
    assert held["scores"] == batch.scores
    assert held["alerts"] == batch.alerts
    assert held["feedback"] == batch.feedback
    assert held["rejects"] == batch.rejects
    assert event_log.head(3) == head == seals.head_from_entry(held["seals"][0])
    assert (head.sequence, head.transactions, head.feedback) == (1, batch.transactions_end, batch.feedback_end)
    assert [event_log.length(3, stream) for stream in STREAMS] == [20, 20, 7, 5, 3, 1]
    assert event_log.head(4) == Head()


def test_a_batch_without_entries_still_seals(event_log: EventLog) -> None:
    """A batch that only moves positions adds one seal."""
    batch = Batch(4, 1, Position(1, 9), START, control_digest="c0" * 32)
    head = event_log.append(0, batch, Head())
    assert (head.sequence, head.transactions, head.control) == (1, Position(1, 9), 4)
    assert event_log.length(0, "transactions") == 0
    assert event_log.head(0) == head


def test_ids_may_have_gaps_and_a_new_generation_starts_again(event_log: EventLog) -> None:
    """Kafka's offsets are sparse, and a recreated topic's are small again; order is by generation first."""
    head = event_log.append(0, batch_after(Head(), step=1000), Head())
    restarted = msgspec.structs.replace(head, transactions=Position(2, 0), feedback=Position(2, 0))
    batch = batch_after(restarted)
    event_log.append(0, batch, head)
    ids = [entry.id for entry in event_log.read(0, "transactions")]
    assert ids == [
        Position(1, 1000),
        Position(1, 2000),
        Position(1, 3000),
        Position(2, 1),
        Position(2, 2),
        Position(2, 3),
    ]


def test_reads_are_windows_of_the_stream(event_log: EventLog) -> None:
    """`after` is exclusive, `until` inclusive, `count` the most returned; IDs in neither need exist."""
    filled(event_log, batches=4)
    everything = event_log.read(0, "transactions")
    assert len(everything) == 12
    bounds = [START, *(Position(1, n) for n in range(1, 14)), Position(2, 0)]
    for after in bounds:
        for until in [None, *bounds]:
            for count in (0, 1, 5, 100):
                expected = [e for e in everything if after < e.id and (until is None or e.id <= until)][:count]
                assert event_log.read(0, "transactions", after, count, until) == expected


def test_get_finds_one_entry(event_log: EventLog) -> None:
    """An entry by its ID; None for an ID between, before or after the entries."""
    head = event_log.append(0, batch := batch_after(Head(), step=2), Head())
    for entry in batch.scores:
        assert event_log.get(0, "scores", entry.id) == entry.payload
    for absent in (Position(1, 1), Position(1, 3), Position(1, 99), Position(2, 2)):
        assert event_log.get(0, "scores", absent) is None
    assert event_log.get(0, "seals", Position(head.sequence, 1)) is not None
    wanted = [entry.id for entry in contents(event_log, 0)["scores"]]
    asked = [*reversed(wanted), Position(99, 1), wanted[0]]
    assert event_log.get_many(0, "scores", asked) == [event_log.get(0, "scores", each) for each in asked]
    assert event_log.get_many(0, "scores", asked)[-2] is None
    assert event_log.get_many(0, "scores", []) == []


# --- I1: all or nothing, and only if nobody else wrote ------------------------------------------------------------


def test_followers_get_what_is_new_in_each_stream(event_log: EventLog) -> None:
    """What comes after the given positions, of the given streams only; nothing for a stream at its end."""
    first = event_log.append(0, batch_after(Head(), transactions=5, alerts=2), Head())
    event_log.append(1, batch_after(Head(), transactions=3), Head())
    after: dict[tuple[int, Stream], Position] = {(0, "scores"): START, (0, "alerts"): START, (1, "scores"): START}
    found = event_log.follow(after, 0)
    assert {key: len(page) for key, page in found.items()} == {(0, "scores"): 5, (0, "alerts"): 2, (1, "scores"): 3}
    assert found[0, "scores"] == event_log.read(0, "scores")
    assert [entry.id for entry in event_log.follow({(0, "scores"): START}, 0, 2)[0, "scores"]] == [
        entry.id for entry in event_log.read(0, "scores", count=2)
    ]
    assert event_log.follow({(0, "scores"): first.transactions, (2, "scores"): START}, 10) == {}
    assert event_log.follow({}, 10) == {}


def test_a_follower_waits_for_the_next_batch(event_log: EventLog) -> None:
    """A follower at the end returns with a batch that is appended while it waits, all its streams together."""
    head = event_log.append(0, batch_after(Head(), transactions=2, alerts=1), Head())
    after: dict[tuple[int, Stream], Position] = {
        (0, "transactions"): head.transactions,
        (0, "scores"): head.transactions,
        (0, "alerts"): head.transactions,
        (1, "scores"): START,
    }
    batch = batch_after(head, transactions=4, alerts=2)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(event_log.follow, after, 4_000)
        event_log.append(0, batch, head)
        found = waiting.result(10)
    assert found == {(0, "transactions"): batch.transactions, (0, "scores"): batch.scores, (0, "alerts"): batch.alerts}


def test_a_stale_head_is_refused_whole(event_log: EventLog) -> None:
    """An append that expects an older, a newer or no head raises ConcurrencyError and changes nothing."""
    first = filled(event_log, batches=1)
    head = filled(event_log, batches=2)
    before = contents(event_log, 0)
    newer = msgspec.structs.replace(head, sequence=head.sequence + 1)
    for stale in (Head(), first, newer):
        with pytest.raises(ConcurrencyError):
            event_log.append(0, batch_after(stale), stale)
    assert contents(event_log, 0) == before
    assert event_log.append(0, batch_after(head), head).sequence == 4


def test_a_head_of_another_history_is_refused(event_log: EventLog) -> None:
    """The same sequence with another digest is refused: a crash may lose a seal, and another writer follow."""
    head = filled(event_log)
    other = msgspec.structs.replace(head, digest="ab" * 32)
    before = contents(event_log, 0)
    with pytest.raises(ConcurrencyError):
        event_log.append(0, batch_after(other), other)
    assert contents(event_log, 0) == before


def test_an_id_is_never_written_twice(event_log: EventLog) -> None:
    """Even with a head that claims an earlier position, an ID that the log has passed is refused."""
    head = filled(event_log)
    forged = msgspec.structs.replace(head, transactions=Position(1, 2), feedback=Position(1, 1))
    before = contents(event_log, 0)
    for batch in (batch_after(forged, feedback=0), batch_after(forged, transactions=0, alerts=0)):
        with pytest.raises(ConcurrencyError):
            event_log.append(0, batch, forged)
    assert contents(event_log, 0) == before


def _swap(entries: list[Entry], index: int, entry_id: Position) -> None:
    entries[index] = Entry(entry_id, entries[index].payload)


POISONS: dict[str, Callable[[Batch, int], None]] = {
    "a transaction's ID twice": lambda b, i: _swap(b.transactions, i, b.transactions[i - 1].id),
    "a score's ID is not its transaction's": lambda b, i: _swap(b.scores, i, Position(1, 77)),
    "a score is missing": lambda b, i: b.scores.pop(i),
    "a transaction is missing": lambda b, i: b.transactions.pop(i),
    "an alert without a transaction": lambda b, i: _swap(b.alerts, i, Position(1, 77)),
    "alerts out of order": lambda b, i: b.alerts.insert(0, b.alerts.pop(i)) if i else b.alerts.reverse(),
    "a feedback ID twice": lambda b, i: _swap(b.feedback, i, b.feedback[i - 1].id),
    "feedback beyond its end": lambda b, i: _swap(b.feedback, i, Position(9, i)),
    "feedback that the log has": lambda b, i: _swap(b.feedback, i, Position(1, 1)),
    "a reject's ID of another batch": lambda b, i: _swap(b.rejects, i, Position(1, i + 1)),
    "a reject's index": lambda b, i: _swap(b.rejects, i, Position(b.rejects[0].id.generation, 9)),
}


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("index", range(4))
def test_a_bad_batch_is_refused_whole(event_log: EventLog, poison: str, index: int) -> None:
    """One bad entry anywhere in a batch raises BadInput, and no entry of the batch is written."""
    head = filled(event_log, batches=2)
    before = contents(event_log, 0)
    batch = batch_after(head, transactions=4, alerts=4, feedback=4, rejects=4)
    POISONS[poison](batch, index)
    with pytest.raises(BadInput):
        event_log.append(0, batch, head)
    assert contents(event_log, 0) == before
    assert event_log.append(0, batch_after(head), head) == event_log.head(0)


def test_positions_never_go_back(event_log: EventLog) -> None:
    """A batch whose ends or control position lie before the head's is refused, with nothing written; so is one that
    moves to another control position and does not name the control stream's digest.
    """
    first = msgspec.structs.replace(batch_after(Head()), control=5, control_digest="c0" * 32)
    head = event_log.append(0, first, Head())
    empty = Batch(control=5, recorded_at=1, transactions_end=head.transactions, feedback_end=head.feedback)
    for change in ({"control": 4}, {"control": 6}, {"transactions_end": START}, {"feedback_end": Position(1, 1)}):
        with pytest.raises(BadInput):
            event_log.append(0, msgspec.structs.replace(empty, **change), head)
    assert event_log.head(0) == head
    assert event_log.length(0, "seals") == 1


def test_append_many_gives_each_batch_its_own_result(event_log: EventLog) -> None:
    """A conflict and a bad batch among good ones fail alone; a second batch may follow the first of one partition."""
    start = Head()
    good = batch_after(start)
    after_good = seals.seal(good, start)[0]
    taken = filled(event_log, partition=7, batches=1)
    bad = batch_after(start)
    bad.scores.pop()
    results = event_log.append_many(
        [(0, good, start), (7, batch_after(start), start), (2, bad, start), (0, batch_after(after_good), after_good)]
        + [(p, batch_after(start), start) for p in range(20, 30)]
    )
    assert results[0] == after_good
    assert isinstance(results[1], ConcurrencyError)
    assert isinstance(results[2], BadInput)
    assert results[3] == event_log.head(0)
    assert results[4:] == [event_log.head(p) for p in range(20, 30)]
    assert event_log.head(0).sequence == 2
    assert event_log.head(7) == taken
    assert contents(event_log, 2) == {stream: [] for stream in STREAMS}
    assert event_log.append_many([]) == []


def test_appends_of_one_call_to_one_partition_follow_or_are_refused(event_log: EventLog) -> None:
    """In one call an append may follow another; a rival of one that went in is refused whole, as is a stale one."""
    first = batch_after(Head())
    at_first = seals.seal(first, Head())[0]
    second = batch_after(at_first)
    at_second = seals.seal(second, at_first)[0]
    results = event_log.append_many(
        [
            (0, batch_after(at_second), at_second),
            (0, first, Head()),
            (0, batch_after(Head(), transactions=9, tag="rival"), Head()),
            (0, second, at_first),
            (0, batch_after(at_first, transactions=9, tag="rival"), at_first),
            (1, first, Head()),
        ]
    )
    assert [type(result) for result in results[::2]] == [ConcurrencyError] * 3
    assert results[1::2] == [at_first, at_second, at_first]
    assert verify(contents(event_log, 0)) == at_second
    assert b"rival" not in b"".join(entry.payload for entry in event_log.read(0, "transactions"))


def test_racing_writers_never_interleave(event_log: EventLog) -> None:
    """Of writers that race for one partition, exactly one wins each sequence, and no batch holds another's entries."""
    wins: list[tuple[int, str]] = []
    barrier = threading.Barrier(4)

    def write(tag: str) -> None:
        barrier.wait()
        for _ in range(25):
            head = event_log.head(0)
            try:
                done = event_log.append(0, batch_after(head, tag=tag, transactions=4), head)
            except ConcurrencyError:
                continue
            wins.append((done.sequence, tag))

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(write, tag) for tag in "wxyz"]:
            future.result()
    held = contents(event_log, 0)
    assert verify(held).sequence == len(wins)
    assert sorted(sequence for sequence, _ in wins) == list(range(1, len(wins) + 1))
    for (batch, _), (_, tag) in zip(batches_of(held), sorted(wins), strict=True):
        entries = [*batch.transactions, *batch.scores, *batch.alerts, *batch.feedback, *batch.rejects]
        assert len(entries) == 12
        assert all(b':"%s ' % tag.encode() in entry.payload for entry in entries)


# --- the control stream and blobs ---------------------------------------------------------------------------------


def test_control_events_are_totally_ordered(event_log: EventLog) -> None:
    """Sequences count from 1 without gaps; reading starts after a position and stops at a count."""
    assert event_log.append_control([b"one"], 0) == 1
    assert event_log.append_control([b"two", b"\x00\r\n\xff"], 1) == 3
    assert event_log.control_head() == 3
    everything = [(1, b"one"), (2, b"two"), (3, b"\x00\r\n\xff")]
    for after in range(5):
        for count in range(5):
            assert event_log.read_control(after, count) == everything[after : after + count]
    assert event_log.append_control([], 3) == 3


def test_control_needs_the_expected_position(event_log: EventLog) -> None:
    """Appending at a stale or a future position raises ConcurrencyError and changes nothing, for no events too."""
    event_log.append_control([b"one"], 0)
    for stale in (0, 2, 10):
        for payloads in ([b"two", b"three"], []):
            with pytest.raises(ConcurrencyError):
                event_log.append_control(payloads, stale)
    assert event_log.read_control() == [(1, b"one")]


def test_racing_control_writers_take_turns(event_log: EventLog) -> None:
    """Of writers that race for one position, one wins; every win's events stand together in the stream."""
    wins: list[tuple[int, bytes]] = []
    barrier = threading.Barrier(3)

    def write(tag: bytes) -> None:
        barrier.wait()
        for n in range(30):
            try:
                end = event_log.append_control(
                    [b"%s%d first" % (tag, n), b"%s%d second" % (tag, n)], event_log.control_head()
                )
            except ConcurrencyError:
                continue
            wins.append((end, b"%s%d" % (tag, n)))

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(write, tag) for tag in (b"x", b"y", b"z")]:
            future.result()
    expected = [payload for _, tag in sorted(wins) for payload in (tag + b" first", tag + b" second")]
    assert [payload for _, payload in event_log.read_control()] == expected


def test_blobs_are_found_by_what_they_are(event_log: EventLog) -> None:
    """A blob comes back by its SHA-256; storing it again is the same blob; any bytes, and none, are a blob."""
    for content in (b"", b"model \x00\r\n\xff", bytes(range(256)) * 5000):
        digest = event_log.put_blob(content)
        assert event_log.put_blob(content) == digest
        assert event_log.get_blob(digest) == content
    assert event_log.put_blob(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_empty_partition_may_begin_after_a_seal(event_log: EventLog) -> None:
    """As if it had been trimmed up to it: batches continue it. The same again is nothing, anything else is refused."""
    archived, head = MemoryLog(), Head()
    for _ in range(3):
        head = archived.append(0, batch_after(head), head)
    earlier, seal = archived.read(0, "seals")[1:]
    for _ in range(2):
        event_log.continue_after(0, seal)
    assert event_log.head(0) == head and event_log.begin(0, "scores") == head.transactions
    for other in (earlier, archived.read(0, "seals")[0]):
        with pytest.raises(ConcurrencyError):
            event_log.continue_after(0, other)
    assert event_log.length(0, "seals") == 1
    following = event_log.append(0, batch_after(head), head)
    assert event_log.head(0) == following and following.sequence == 4
    with pytest.raises(ConcurrencyError):
        event_log.continue_after(0, seal)


def test_a_removed_blob_is_gone(event_log: EventLog) -> None:
    """Those held are told in order; removing one again, or one that never was, does nothing; it can be stored again."""
    first, second = event_log.put_blob(b"first"), event_log.put_blob(b"second")
    assert event_log.held_blobs([second, "0" * 64, first]) == [second, first]
    for digest in (first, first, "0" * 64):
        event_log.remove_blob(digest)
    assert event_log.held_blobs([first, second]) == [second] and event_log.held_blobs([]) == []
    with pytest.raises(BadInput):
        event_log.get_blob(first)
    assert event_log.put_blob(b"first") == first and event_log.get_blob(first) == b"first"


@pytest.mark.parametrize("digest", ["0" * 64, "", "xyz", "../etc", "BA" * 32])
def test_an_unknown_blob_is_the_callers_fault(event_log: EventLog, digest: str) -> None:
    """A digest that names nothing, or is none, raises BadInput."""
    with pytest.raises(BadInput):
        event_log.get_blob(digest)


# --- I8: the chain of seals, as stored ----------------------------------------------------------------------------


def test_the_stored_entries_match_their_seals(event_log: EventLog) -> None:
    """The chain recomputed from what is read back ends at the head's digest."""
    head = filled(event_log, batches=6)
    assert verify(contents(event_log, 0)) == head


def test_any_damage_breaks_the_chain(event_log: EventLog) -> None:
    """One flipped bit, a removed entry, swapped payloads or swapped batches: the recomputed chain no longer matches."""
    head = filled(event_log, batches=3)
    for stream in STREAMS:
        held = contents(event_log, 0)
        for index, (entry_id, payload) in enumerate(held[stream]):
            for bit in (0, 4 * len(payload) + 3, 8 * len(payload) - 1):
                flipped = bytearray(payload)
                flipped[bit // 8] ^= 1 << bit % 8
                changed = [*held[stream]]
                changed[index] = Entry(entry_id, bytes(flipped))
                assert _verdict(held | {stream: changed}) != head
            assert _verdict(held | {stream: held[stream][:index] + held[stream][index + 1 :]}) != head
        swapped = [*held[stream]]
        swapped[0], swapped[1] = Entry(swapped[0].id, swapped[1].payload), Entry(swapped[1].id, swapped[0].payload)
        assert _verdict(held | {stream: swapped}) != head


def _verdict(held: dict[Stream, list[Entry]]) -> Head | str:
    """The head that the chain leads to, or why it does not hold."""
    try:
        return verify(held)
    except (AssertionError, Corrupt, ValueError) as error:
        return str(error)


# --- any sequence of operations, against the reference ------------------------------------------------------------

_fresh_partitions = itertools.count(100, 10)
_operation = st.tuples(
    st.sampled_from(["append", "stale", "bad", "control", "stale control"]),
    st.integers(0, 2),
    st.tuples(*[st.integers(0, 4)] * 4),
    st.sampled_from([1, 7, 2**31, 2**53]),
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(_operation, max_size=12))
def test_any_history_agrees_with_the_reference(
    event_log: EventLog, operations: list[tuple[str, int, tuple[int, ...], int]]
) -> None:
    """After any operations, good and bad, every head, entry, control event and kind of error is the MemoryLog's."""
    reference = MemoryLog()
    offset = next(_fresh_partitions)
    control_from = event_log.control_head()
    history: dict[int, list[Head]] = {}
    for kind, partition, (transactions, alerts, feedback, rejects), step in operations:
        heads = history.setdefault(partition, [Head()])
        expected = heads[0] if kind == "stale" else heads[-1]
        batch = batch_after(expected, transactions, alerts, feedback, rejects, step=step)
        if kind == "bad":
            batch.scores.append(Entry(Position(9, 9), b"{}"))
        if kind.endswith("control"):
            at = reference.control_head() + (kind != "control")
            payloads = [b"%d" % n for n in range(rejects)]
            ours = _attempt(lambda: event_log.append_control(payloads, at + control_from) - control_from)  # noqa: B023
            assert ours == _attempt(lambda: reference.append_control(payloads, at))  # noqa: B023
            continue
        ours = _attempt(lambda: event_log.append(offset + partition, batch, expected))  # noqa: B023
        assert ours == _attempt(lambda: reference.append(partition, batch, expected))  # noqa: B023
        if isinstance(ours, Head):
            heads.append(ours)
    for partition in range(3):
        assert event_log.head(offset + partition) == reference.head(partition)
        assert contents(event_log, offset + partition) == contents(reference, partition)
    assert [p for _, p in event_log.read_control(control_from)] == [p for _, p in reference.read_control()]


def _attempt(operation: Callable[[], object]) -> object:
    try:
        return operation()
    except (BadInput, ConcurrencyError) as error:
        return type(error)


# --- trimming -----------------------------------------------------------------------------------------------------


def test_trimming_removes_what_the_seals_cover(event_log: EventLog) -> None:
    """Up to a seal every stream loses exactly its sealed entries; that seal stays as the anchor, and so does the
    head.
    """
    middle = filled(event_log, batches=4)
    head = filled(event_log, batches=3)
    before = contents(event_log, 0)
    other = filled(event_log, partition=1)
    removed = event_log.trim(0, middle)
    after = contents(event_log, 0)
    assert after["transactions"] == before["transactions"][12:]
    assert after["scores"] == before["scores"][12:]
    assert after["alerts"] == before["alerts"][4:]
    assert after["feedback"] == before["feedback"][8:]
    assert after["rejects"] == before["rejects"][4:]
    assert after["seals"] == before["seals"][3:]
    assert removed == sum(len(before[stream]) - len(after[stream]) for stream in STREAMS)
    assert event_log.head(0) == head
    assert event_log.head(1) == other and event_log.length(1, "seals") == 3
    assert event_log.trim(0, middle) == 0
    assert contents(event_log, 0) == after


def test_trimming_to_the_head_leaves_one_seal_and_the_log_goes_on(event_log: EventLog) -> None:
    """Everything but the last seal may go; no ID that the log has passed can come back, and appends go on."""
    head = filled(event_log)
    event_log.trim(0, head)
    assert [event_log.length(0, stream) for stream in STREAMS] == [0, 0, 0, 0, 0, 1]
    assert event_log.head(0) == head
    forged = msgspec.structs.replace(head, transactions=Position(1, 2), feedback=Position(1, 1))
    for batch in (batch_after(forged, feedback=0), batch_after(forged, transactions=0, alerts=0)):
        with pytest.raises(ConcurrencyError):
            event_log.append(0, batch, forged)
    following = event_log.append(0, batch_after(head), head)
    assert event_log.head(0) == following
    assert [e.id for e in event_log.read(0, "seals")] == [Position(3, 1), Position(4, 1)]


def test_trimming_to_an_earlier_head_removes_nothing(event_log: EventLog) -> None:
    """A head whose seal is trimmed already, or the empty log's, is behind the log: nothing to do."""
    early = filled(event_log, batches=1)
    head = filled(event_log, batches=2)
    assert event_log.trim(0, Head()) == 0
    event_log.trim(0, head)
    before = contents(event_log, 0)
    assert event_log.trim(0, early) == 0
    assert contents(event_log, 0) == before


def test_trimming_by_another_history_is_refused(event_log: EventLog) -> None:
    """A seal that is another one, or is yet to come, raises ConcurrencyError and removes nothing."""
    head = filled(event_log)
    before = contents(event_log, 0)
    future = seals.seal(batch_after(head), head)[0]
    for wrong in (msgspec.structs.replace(head, digest="ab" * 32), future):
        with pytest.raises(ConcurrencyError):
            event_log.trim(0, wrong)
    with pytest.raises(ConcurrencyError):
        event_log.trim(7, head)
    assert contents(event_log, 0) == before
