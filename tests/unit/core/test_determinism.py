"""A decision is a pure function of what came before: batches, partitions in one call and snapshots leave no trace
(I3).
"""

from __future__ import annotations

import base64
import copy
import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from core import pipeline
from core.codec import decode_score
from core.context import Context
from core.errors import Corrupt
from core.events import ListChanged, ReferencePublished, ThresholdsChanged, Transaction
from core.features import spec
from core.features.reference import COLUMNS, ReferenceTable
from core.features.state import AccountState
from core.hashing import hash_strings
from core.identity import FIXED
from core.log.base import Entry
from core.times import HOUR_MS
from core.work import Decided, Work
from tests.builders.decisions import context, counts, decide_in, features_of, runs
from tests.builders.events import T0, Item, Shape, fuzz, stream, transaction, verdict
from tests.builders.models import ARTIFACT, TinyScorer


def _table() -> ReferenceTable:
    keys = np.sort(hash_strings([f"m{i}" for i in range(40)], FIXED.key))
    width = COLUMNS["merchant"]
    values = np.arange(40 * width, dtype=np.float32).reshape(40, width) / 700
    return ReferenceTable("merchant", T0, keys, values)


@pytest.fixture(scope="module")
def under() -> Context:
    """A context with everything in it: model, reference table, lists, thresholds."""
    table = _table().to_bytes()
    return context(
        ThresholdsChanged(occurred_at=T0, actor="x", review=0.3, decline=0.8),
        ListChanged(occurred_at=T0, actor="x", kind="merchant", effect="watch", add=("m3",)),
        ReferencePublished(
            occurred_at=T0, actor="x", kind="merchant", digest=hashlib.sha256(table).hexdigest(), as_of=T0, rows=40
        ),
        blobs=(ARTIFACT, table),
    )


def _bytes(results: Sequence[Decided]) -> tuple[list[Entry], list[Entry]]:
    return [e for d in results for e in d.scores], [e for d in results for e in d.alerts]


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return stream(11, 900, Shape(late=0.1, duplicates=0.05))


def test_the_context_has_everything_in_it(under: Context) -> None:
    """Nothing is missing from what the stream is decided under, or the tests below would compare fallbacks."""
    assert under.degraded is None and under.scorer is not None
    assert under.merchants is not None and len(under.merchants.keys) == 40


def test_the_stream_is_worth_deciding(items: list[Item], under: Context) -> None:
    """The stream that the other tests cut up has alerts, duplicates, and all three decisions."""
    decided = decide_in(items, [], under)[0][0]
    assert decided.alerts and decided.duplicates and set(decided.decisions.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("size", [1, 7, 500])
def test_batch_size_leaves_no_trace(items: list[Item], under: Context, size: int) -> None:
    """Batches of 1, 7 or 500 give the score and alert bytes of one single batch."""
    whole = _bytes(decide_in(items, [], under)[0])
    assert _bytes(decide_in(items, range(size, len(items), size), under)[0]) == whole


def test_partitions_in_one_call_are_independent(items: list[Item], under: Context) -> None:
    """Three partitions decided in one call get the bytes that each gets alone."""
    streams = [stream(seed, 300, Shape(duplicates=0.05)) for seed in (1, 2, 3)]
    together = pipeline.decide(under, [Work(0, AccountState(FIXED), runs(s)) for s in streams])
    alone = [decide_in(s, [], under)[0][0] for s in streams]
    assert [_bytes([d]) for d in together] == [_bytes([d]) for d in alone]
    assert [d.duplicates for d in together] == [d.duplicates for d in alone]


@fuzz(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 160)), min_size=1, max_size=5),
    st.lists(st.lists(st.integers(0, 160), min_size=5, max_size=5), max_size=4),
    st.sets(st.integers(0, 3), max_size=3),
)
def test_any_partitions_in_any_cuts_are_each_alone(
    under: Context, shapes: list[tuple[int, int]], rounds: list[list[int]], hours: set[int]
) -> None:
    """Partitions decided together, a part of each at a time and many parts empty, with verdicts that are left out: the
    scores, alerts, duplicates, features and states of each partition decided alone in one go. A snapshot between two
    rounds changes nothing either, nor does the table of records growing there.
    """
    first = T0 // HOUR_MS
    under = replace(under, quarantined=frozenset(("analyst:", first + hour) for hour in hours))
    shape = Shape(accounts=150, late=0.1, duplicates=0.1, feedback=0.25)
    streams: list[list[Item]] = []
    for seed, size in shapes:
        items = stream(seed, size, shape)
        streams.append(
            [
                item if isinstance(item, Transaction) else structs.replace(item, recorded_at=T0 + n * HOUR_MS // 40)
                for n, item in enumerate(items)
            ]
        )
    edges = [sorted({0, len(s), *(min(cut[p], len(s)) for cut in rounds)}) for p, s in enumerate(streams)]
    states = [AccountState(FIXED) for _ in streams]
    parts: list[list[Decided]] = [[] for _ in streams]
    for n in range(max(map(len, edges))):
        if n == 1:
            states = [AccountState.from_bytes(state.to_bytes(), FIXED) for state in states]
        works = []
        for p, items in enumerate(streams):
            begin, end = [*edges[p], *[len(items)] * 9][n : n + 2]
            works.append(Work(p, states[p], runs(items[begin:end], counts(items[:begin]))))
        for p, decided in enumerate(pipeline.decide(under, works)):
            parts[p].append(decided)
    for p, items in enumerate(streams):
        alone = AccountState(FIXED)
        whole = pipeline.decide(under, [Work(p, alone, runs(items))])
        assert _bytes(parts[p]) == _bytes(whole)
        assert [len(d.duplicates) for d in whole] == [sum(len(d.duplicates) for d in parts[p])]
        for column in ("features", "margins", "probabilities", "decisions", "severities"):
            joined = np.concatenate([getattr(d, column) for d in parts[p]])
            assert joined.tobytes() == getattr(whole[0], column).tobytes()
        assert states[p].digest() == alone.digest()
        assert states[p].to_bytes() == alone.to_bytes()


@pytest.mark.parametrize("size", [1, 63, 64, 65, 127, 128, 129, 257])
def test_growth_of_the_records_leaves_no_trace(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """New accounts at once or one by one, around every size at which the table of records grows: equal states."""
    monkeypatch.setattr("core.features.state.CAPACITY_MIN", 64)
    items = [transaction(n, account_id=f"a{n}") for n in range(size)]
    at_once, one_by_one = AccountState(FIXED), AccountState(FIXED)
    pipeline.apply(Work(0, at_once, runs(items)))
    for n, item in enumerate(items):
        pipeline.apply(Work(0, one_by_one, runs([item], (n, 0))))
    restored = AccountState.from_bytes(at_once.to_bytes(), FIXED)
    assert len(one_by_one.records) == 64 * 2 ** max(0, (size - 1) // 64).bit_length()
    assert at_once.digest() == one_by_one.digest() == restored.digest()
    for state in (at_once, one_by_one, restored):
        pipeline.apply(Work(0, state, runs([transaction(size, account_id="new")], (size, 0))))
    assert at_once.to_bytes() == one_by_one.to_bytes() == restored.to_bytes()


def test_a_state_is_not_copied_behind_its_back() -> None:
    """A copy would share the address of the records with its original, and the kernel would write there."""
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="to_bytes"):
            copied(AccountState(FIXED))


def test_an_empty_partition_and_an_empty_call_are_fine(under: Context) -> None:
    """Work without events, and no work at all, decide nothing."""
    assert pipeline.decide(under, []) == []
    only_feedback = Work(1, AccountState(FIXED), runs([verdict()]))
    nothing = Work(0, AccountState(FIXED), [])
    assert [len(d.scores) for d in pipeline.decide(under, [nothing, only_feedback])] == [0, 0]
    assert len(only_feedback.state) == 1


def test_apply_gives_the_state_that_decide_gives(items: list[Item], under: Context) -> None:
    """Rebuilding without scoring leaves the same state (duplicates included)."""
    state = AccountState(FIXED)
    pipeline.apply(Work(0, state, runs(items)))
    assert state.digest() == decide_in(items, [], under)[1].digest()


@fuzz(max_examples=25)
@given(st.integers(0, 300))
def test_a_snapshot_leaves_no_trace(cut: int) -> None:
    """Going on from a snapshot's bytes gives the decisions and the state of never having stopped."""
    items = stream(4, 300, Shape(late=0.2, accounts=100))
    under = context()
    whole, state = decide_in(items, [cut], under)
    first, before = decide_in(items[:cut], [], under)
    restored = AccountState.from_bytes(before.to_bytes(), FIXED)
    assert restored.digest() == before.digest()
    assert restored.to_bytes() == before.to_bytes()
    work = Work(0, restored, runs(items[cut:], counts(items[:cut])))
    rest = pipeline.decide(under, [work])
    assert _bytes([*first, *rest]) == _bytes(whole)
    assert restored.digest() == state.digest()


def test_a_damaged_snapshot_is_refused() -> None:
    """One flipped bit anywhere, in the header's account names as in the records, or a missing or added tail, is
    Corrupt.
    """
    content = decide_in(stream(4, 40), [])[1].to_bytes()
    header_end = content.index(b'"}') + 2
    places = [*range(header_end + 3), *range(header_end + 3, len(content), 997), len(content) - 1]
    for at in places:
        damaged = bytearray(content)
        damaged[at] ^= 1
        with pytest.raises(Corrupt):
            AccountState.from_bytes(bytes(damaged), FIXED)
    for size in (0, 5, 30, header_end, len(content) - 1):
        with pytest.raises(Corrupt):
            AccountState.from_bytes(content[:size], FIXED)
    with pytest.raises(Corrupt):
        AccountState.from_bytes(content + b"\0", FIXED)


def test_snapshot_of_nothing() -> None:
    """An empty state has a snapshot too."""
    assert len(AccountState.from_bytes(AccountState(FIXED).to_bytes(), FIXED)) == 0


class Gone(TinyScorer):
    """A model whose explanations fail."""

    def contributions(self, row: np.ndarray) -> tuple[float, np.ndarray]:
        raise RuntimeError("no explanation")


class Short(TinyScorer):
    """A model that returns fewer margins than rows."""

    def margins(self, features: np.ndarray) -> np.ndarray:
        return super().margins(features)[1:]


@pytest.mark.parametrize("kind", [Gone, Short])
def test_a_broken_model_never_stops_the_stream(kind: type[TinyScorer], items: list[Item], under: Context) -> None:
    """A model that fails in explaining, or returns the wrong number of margins, does not raise out of the pipeline
    (I9).
    """
    decided = decide_in(items, [], replace(under, scorer=kind()))[0][0]
    assert len(decided.scores) == len(decided.kept) > 500


# --- golden bytes: a change here is a change of logged history ---------------------------------------------------

GOLDEN_ITEMS: list[Item] = [
    transaction(1, occurred_at=T0, amount=20.5),
    transaction(2, occurred_at=T0 + 90_000, amount=3.25, merchant_id="m2", country="FR", channel="online"),
    verdict(occurred_at=T0 + 100_000),
    transaction(
        3, occurred_at=T0 + 200_000, amount=1500.0, merchant_id="m3", country="US", device_id="d2", channel="atm"
    ),
    transaction(4, occurred_at=T0 + 40_000, amount=9.99, merchant_id="", device_id=""),
]
GOLDEN_FEATURES = (
    "AACkQQAAqEEAAIA/AAAAAAAAAAAAAMB/AADAfwAAAAAAAAAAAAAAAAAAwH8AAMB/AAAAAAAAAAAAAAAAAADAfwAAwH8AAAAAAAAAAAAAAAAAAMB/AADA"
    "fwAAAAAAAAAAAAAAAAAAwH8AAMB/AAAAAAAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAAAAAAMB/AADAfwAAAAAAAAAAAAAAAAAA"
    "wH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAAAAAADAfwAAAAAAAAAAAADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8A"
    "AMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAAAAAABQQAAAqEEAAIA/AACAPwAApEEAAKRBAACkQQAAgD8AAIA/AACkQQAApEEAAKRBAACAPwAAgD8AAKRB"
    "AACkQQAApEEAAIA/AACAPwAApEEAAKRBAACkQQAAgD8AAIA/AACkQQAApEEAAKRBAACAP2pXIj5qVyI+alciPgAApEEAAAAAEnegwgAApEFqVyI+AADA"
    "fwAAAAAAALRCiYiIOgAAgD8AAIA/AACkQQAAgD8AAIA/AAAAAAAAgD8AAAAAAADAfwAAwH8AAAAAAADAfwAAAAAAAAAAAADAfwAAwH8AAMB/AADAfwAA"
    "wH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAAAAAIC7RAAAqEEAAIA/AAAAQAAAvkEAAD5BAACkQQAAAEAA"
    "AABAAAC+QQAAPkEAAKRBAAAAQAAAAEAAAL5BAAA+QQAApEEAAABAAAAAQAAAvkEAAD5BAACkQQAAAEAAAABAAAC+QQAAPkEAAKRBAAAAQK+h/EKvofxC"
    "aleSQpP/PUEAAApBpf8pQwAAPkGvofxCAADAfwAAAAAAANxCJrQXOwAAAEAAAABAAAC+QQAAgD8AAIA/AAAAAAAAgD8AAIA/HufiRQJE/0cAAIA/JrSX"
    "OgAAAAAAAAAAAADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAAAACtcfQQAA"
    "qEEAAIA/AACAPwAApEEAAKRBAACkQQAAgD8AAEBAAHi+RFX1/UMAgLtEZmZGQAAAQEAAeL5EVfX9QwCAu0RmZkZAAABAQAB4vkRV9f1DAIC7RGZmRkAA"
    "AEBAAHi+RFX1/UMAgLtEZmZGQAEgoTwBIKE8ITzaOxT3/UMkYy9EpWQ0v1X1/UMBIKE8AADAfwAAAAAAACDD1rnyOQAAQEAAAEBAAHi+RAAAgD8AAMB/"
    "AAAAAAAAAAAAAMB/HufiRYGKH0gAAIA/YQs2ugAAAAAAAAAAAADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADAfwAAwH8AAMB/AADA"
    "fwAAwH8AAMB/AADAfwAAwH8AAAAA"
)
GOLDEN_MARGINS = [-2.918, -3.6418780500888825, 60.0, -2.9482388523370027]
GOLDEN_SCORE = (
    b'{"type":"score.v1","f":"1-1","c":1,"model":"tiny-1.0.0","digest":"98a73d045a4a7d81","spec":3,"engine":1,'
    b'"program":"b1c8ab1fc75c3497","margin":60.0,"probability":1.0,"decision":"decline","features":"SACrv/7666'
    b"+////huqLvUFVVVRUAgLtEFQECAAC+QQAAPkEAAKRBAgIAAL5BAAA+QQAApEECAgAAvkEAAD5BAACkQQICAAC+QQAAPkEAAKRBAgIAAL"
    b'5BAAA+QQAApEECr6H8Qq+h/EJqV5JCk/89QQAACkGl/ylDAAA+Qa+h/EJuJrQXOwICAAC+QQEBAQEe5+JFAkT/RwEmtJc6","rules":'
    b'["AMOUNT_HIGH","AMOUNT_VS_AVERAGE","IMPOSSIBLE_TRAVEL","NEW_MERCHANT","NEW_DEVICE_AND_COUNTRY","RECENT_F'
    b'RAUD"],"effects":1,"severity":"critical"}'
)
GOLDEN_ALERT = (
    b'{"type":"alert.v1","alert_id":"00:1-3","timestamp":1524000200000,"account_id":"a1","fraud_score":1.0,"de'
    b'cision":"decline","severity":"critical","reason_codes":["MODEL_SCORE","AMOUNT_HIGH","AMOUNT_VS_AVERAGE",'
    b'"IMPOSSIBLE_TRAVEL","NEW_MERCHANT","NEW_DEVICE_AND_COUNTRY","RECENT_FRAUD"],"values":{"amount":1500.0,"a'
    b'mount_to_mean_30d":126.31578826904297,"km_from_last":7260.8896484375,"speed_kmh":130696.015625,"merchant'
    b'_is_new":1.0,"device_is_new":1.0,"country_is_new":1.0,"days_since_fraud":0.0011574074160307646,"fraud_ve'
    b'rdicts":1.0},"recommended_actions":["decline_transaction","block_account","queue_for_review","notify_cus'
    b'tomer","notify_fraud_team"],"transaction":{"transaction_id":"t3","amount":1500.0,"occurred_at":152400020'
    b'0000,"currency":"EUR","merchant_id":"m3","merchant_category":"5411","country":"US","channel":"atm","devi'
    b'ce_id":"d2"}}'
)


def test_golden_feature_bytes() -> None:
    """The feature bytes of a fixed small stream are what they have always been."""
    got = features_of(GOLDEN_ITEMS)
    golden = base64.b64decode(GOLDEN_FEATURES)
    assert len(golden) == got.nbytes, f"the spec's width has changed: {base64.b64encode(got.tobytes()).decode()}"
    wanted = np.frombuffer(golden, "<f4").reshape(-1, spec.WIDTH)
    different = [(int(i), spec.NAMES[j]) for i, j in np.argwhere(got.view("<u4") != wanted.view("<u4"))]
    assert different == []


def test_golden_score_and_alert() -> None:
    """The score's and the alert's JSON of a fixed transaction are what they have always been."""
    decided = decide_in(GOLDEN_ITEMS, [], context())[0][0]
    assert [decode_score(e.payload).margin for e in decided.scores] == GOLDEN_MARGINS
    assert decided.scores[2].payload == GOLDEN_SCORE
    assert dict(decided.alerts)[decided.scores[2].id] == GOLDEN_ALERT
    assert decode_score(GOLDEN_SCORE).decision == "decline"
