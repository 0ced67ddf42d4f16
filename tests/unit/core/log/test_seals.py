"""Seals: which batch may follow which head, and a digest that changes with anything in the batch (I8)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.codec import decode_seal, encode
from core.errors import BadInput, Corrupt
from core.events import START, Position, Seal
from core.log import seals
from core.log.base import GENESIS_DIGEST, Batch, Entry, Head
from tests.builders.batches import batch_after

HEAD = Head(
    sequence=4,
    transactions=Position(1, 10),
    feedback=Position(1, 5),
    control=3,
    published=Position(1, 8),
    digest="17" * 32,
)


def test_a_seal_leads_to_the_next_head() -> None:
    """The new head counts on, stands where the batch ends, and is what its own payload decodes to."""
    batch = batch_after(HEAD, transactions=3, alerts=2, feedback=1, rejects=2)
    head, payload = seals.seal(batch, HEAD)
    assert (head.sequence, head.transactions, head.feedback) == (5, Position(1, 13), Position(1, 6))
    assert (head.control, head.published) == (3, Position(1, 10))
    assert seals.head_from_entry(Entry(Position(5, 1), payload)) == head
    assert decode_seal(payload).counts == (3, 2, 1, 2)


def test_published_never_goes_back() -> None:
    """A batch that knows of fewer published decisions than the head keeps the head's position."""
    batch = msgspec.structs.replace(batch_after(HEAD), published=Position(1, 2))
    assert seals.seal(batch, HEAD)[0].published == Position(1, 8)


def test_the_digest_is_the_documented_one() -> None:
    """An independent computation from the modules' own words: previous digest, root of the entries, header."""
    batch = Batch(
        control=2,
        recorded_at=1_600_000_000_000,
        transactions_end=Position(1, 2),
        feedback_end=Position(1, 1),
        control_digest="c0" * 32,
        begins="1d/7",
        transactions=[Entry(Position(1, 1), b"t1"), Entry(Position(1, 2), b"t2")],
        scores=[Entry(Position(1, 1), b"s1"), Entry(Position(1, 2), b"s2")],
        alerts=[Entry(Position(1, 2), b"a")],
        feedback=[Entry(Position(1, 1), b"f")],
    )
    header = (
        b'{"type":"seal.v1","transactions":"1-2","feedback":"1-1","control":2,"control_digest":"%b","begins":"1d/7",'
        b'"counts":[2,1,1,0],"recorded_at":1600000000000,"published":"0-0","digest":""}'
    ) % (b"c0" * 32)
    leaves = [b"decision 1-1 2 t1 2 s1", b"decision 1-2 2 t2 2 s2", b"alert 1-2 1 a", b"feedback 1-1 1 f"]
    root = hashlib.sha256(b"\x01" + b"".join(hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves)).digest()
    expected = hashlib.sha256(bytes.fromhex(GENESIS_DIGEST) + root + header).hexdigest()
    assert seals.seal(batch, Head())[0].digest == expected


CHANGES: dict[str, Callable[[Batch], object]] = {
    "recorded_at": lambda b: setattr(b, "recorded_at", b.recorded_at + 1),
    "control": lambda b: (setattr(b, "control", b.control + 1), setattr(b, "control_digest", "c0" * 32)),
    "transactions_end": lambda b: setattr(b, "transactions_end", Position(1, 99)),
    "feedback_end": lambda b: setattr(b, "feedback_end", Position(1, 99)),
    "published": lambda b: setattr(b, "published", Position(1, 9)),
    "an ID": lambda b: b.alerts.__setitem__(0, Entry(Position(1, 12), b.alerts[0].payload)),
    "transaction and score swapped": lambda b: (
        b.transactions.__setitem__(0, Entry(b.transactions[0].id, b.scores[0].payload)),
        b.scores.__setitem__(0, Entry(b.scores[0].id, b.transactions[0].payload)),
    ),
    "no last alert": lambda b: b.alerts.pop(),
    "no last reject": lambda b: b.rejects.pop(),
    "a bit of a score": lambda b: b.scores.__setitem__(1, Entry(b.scores[1].id, b.scores[1].payload[:-1] + b"|")),
    "payloads swapped": lambda b: b.scores.__setitem__(
        slice(0, 2), [Entry(b.scores[0].id, b.scores[1].payload), Entry(b.scores[1].id, b.scores[0].payload)]
    ),
    "entries in another stream": lambda b: (b.rejects.extend(b.feedback), b.feedback.clear()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_changes_the_digest(change: str) -> None:
    """Each field of the header and each property of the entries is under the digest."""
    batch = batch_after(HEAD)
    batch.published = HEAD.published
    before = seals.seal(batch, HEAD)[0].digest
    CHANGES[change](batch)
    assert seals.seal(batch, HEAD)[0].digest != before


def test_the_digest_chains() -> None:
    """The same batch after another history has another digest."""
    batch = batch_after(HEAD)
    other = msgspec.structs.replace(HEAD, digest="18" * 32)
    assert seals.seal(batch, HEAD)[0].digest != seals.seal(batch, other)[0].digest


_payloads = st.lists(st.binary(max_size=6), max_size=4)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(first=st.tuples(_payloads, _payloads), second=st.tuples(_payloads, _payloads))
def test_two_batches_share_a_digest_only_if_they_are_equal(
    first: tuple[list[bytes], list[bytes]], second: tuple[list[bytes], list[bytes]]
) -> None:
    """Bytes moved between entries or streams, or crafted to look like the frame, never give the same digest."""
    header = Seal(
        transactions="1-9", feedback="0-0", control=0, counts=(0, 0, 0, 0), recorded_at=0, published="0-0", digest=""
    )

    def digest(payloads: tuple[list[bytes], list[bytes]]) -> str:
        entries = [[Entry(Position(1, n), payload) for n, payload in enumerate(each, 1)] for each in payloads]
        batch = Batch(0, 0, Position(1, 9), START, alerts=entries[0], feedback=entries[1])
        return seals.chain(GENESIS_DIGEST, header, batch)

    assert (digest(first) == digest(second)) == (first == second)


def test_payloads_that_imitate_the_frame_are_told_apart() -> None:
    """One entry whose payload spells out two entries is not those two entries."""
    header = msgspec.structs.replace(decode_seal(seals.seal(batch_after(HEAD), HEAD)[1]), digest="")
    two = Batch(0, 0, Position(1, 9), START, alerts=[Entry(Position(1, 1), b"a"), Entry(Position(1, 2), b"b")])
    one = Batch(0, 0, Position(1, 9), START, alerts=[Entry(Position(1, 1), b"a1-2 1 b")])
    assert seals.chain(GENESIS_DIGEST, header, two) != seals.chain(GENESIS_DIGEST, header, one)


def test_valid_batches_pass() -> None:
    """Full, partial and empty batches may follow a head; ends may lie beyond the last entries."""
    seals.check(batch_after(HEAD), HEAD)
    seals.check(batch_after(HEAD, transactions=0, alerts=0), HEAD)
    empty = Batch(control=3, recorded_at=0, transactions_end=Position(1, 50), feedback_end=HEAD.feedback)
    seals.check(empty, HEAD)


REFUSED: dict[str, Callable[[Batch], object]] = {
    "the transactions' end before the head": lambda b: (
        b.transactions.clear(),
        b.scores.clear(),
        b.alerts.clear(),
        setattr(b, "transactions_end", Position(1, 9)),
    ),
    "an end before its last entry": lambda b: setattr(b, "transactions_end", Position(1, 12)),
    "an ID that the head has passed": lambda b: [
        each.insert(0, Entry(Position(1, 10), b"{}")) for each in (b.transactions, b.scores)
    ],
    "transactions in descending order": lambda b: (b.transactions.reverse(), b.scores.reverse()),
    "scores in another order": lambda b: b.scores.reverse(),
    "one score too many": lambda b: b.scores.append(Entry(Position(1, 14), b"{}")),
    "an alert between transactions": lambda b: b.alerts.append(Entry(Position(1, 99), b"{}")),
    "the same alert twice": lambda b: b.alerts.append(b.alerts[0]),
    "the same feedback twice": lambda b: b.feedback.append(b.feedback[-1]),
    "a reject of an earlier batch": lambda b: b.rejects.__setitem__(0, Entry(Position(4, 1), b"{}")),
    "a reject's index missing": lambda b: b.rejects.append(Entry(Position(5, 3), b"{}")),
    "a beginning that is not the first batch": lambda b: setattr(b, "begins", "1d/7"),
    "an earlier control position": lambda b: setattr(b, "control", 2),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_batch_that_breaks_the_rules_is_bad_input(reason: str) -> None:
    """Each rule of a batch is checked before anything is written."""
    batch = batch_after(HEAD)
    seals.check(batch, HEAD)
    REFUSED[reason](batch)
    with pytest.raises(BadInput) as raised:
        seals.check(batch, HEAD)
    assert raised.value.reason == "bad_batch"


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"type":"score.v1"}', b"\xff"])
def test_a_seal_that_does_not_decode_is_corrupt(payload: bytes) -> None:
    """Whatever else stands in the stream of seals raises Corrupt."""
    with pytest.raises(Corrupt):
        seals.head_from_entry(Entry(Position(1, 1), payload))


@given(
    positions=st.tuples(*[st.integers(0, 2**64 - 1)] * 6),
    control=st.integers(0, 2**63 - 1),
    recorded_at=st.integers(-(2**53), 2**53),
)
def test_a_seal_is_the_encoders_own_bytes(positions: tuple[int, ...], control: int, recorded_at: int) -> None:
    """The seal that an append writes is what encoding the decoded seal gives, for any positions and times."""
    ends = (Position(*positions[:2]), Position(*positions[2:4]), Position(*positions[4:]))
    batch = Batch(control, recorded_at, *ends, control_digest="c0" * 32, begins="0f/3")
    payload = seals.seal(batch, Head())[1]
    assert encode(decode_seal(payload)) == payload
