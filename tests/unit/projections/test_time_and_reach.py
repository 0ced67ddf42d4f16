"""Whatever one message claims about time, tables, windows and everybody else's labels stay as they are (I14)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from msgspec.structs import replace

from core import control_stream
from core.events import FeedbackReceived, Transaction
from core.features.reference import FIRST_COLUMN, Kind, ReferenceTable
from core.identity import FIXED
from core.times import DAY_MS
from core.validation import TIME_MAX_MS, TIME_MIN_MS
from learners.drift.windows import WindowReader
from learners.training import reading
from projections.catalogue import ALL
from projections.engine.states import open_states
from projections.labelling.view import view
from projections.reference.publisher import ReferencePublisher
from projections.reference.tables import ReferenceBuilder
from projections.views.labels import LABELS, newest
from tests.builders.events import Item, transaction, verdict
from tests.builders.live import NOW, Live

FAR = TIME_MAX_MS - DAY_MS
DAYS = 45
END = NOW + (DAYS - 1) * DAY_MS + 10_000
"""When the last message comes."""


def one_day(day: int) -> list[Item]:
    """A day's payments at six merchants by ten accounts, and a verdict on one of eight days before."""
    at = NOW + day * DAY_MS
    found: list[Item] = []
    for account in range(10):
        number = day * 10 + account
        found.append(
            transaction(
                number,
                account_id=f"a{account}",
                occurred_at=at,
                merchant_id=f"m{number % 6}",
                device_id=f"d{account % 4}",
                amount=10.0 + number % 7,
            )
        )
    if day >= 8:
        paid = (day - 8) * 10
        found.append(
            verdict(
                "a0",
                occurred_at=at,
                transaction_id=f"t{paid}",
                merchant_id=f"m{paid % 6}",
                device_id="d0",
                transaction_occurred_at=NOW + (day - 8) * DAY_MS,
                source="chargeback",
            )
        )
    return found


def filled(extra: Sequence[Item] = ()) -> Live:
    """Forty-five live days, with the extra messages on the last but one."""
    live = Live()
    for day in range(DAYS):
        at = NOW + day * DAY_MS + 10_000
        live.send(one_day(day), at)
        if day == DAYS - 2:
            live.send(extra, at)
    return live


def tables(live: Live) -> dict[Kind, ReferenceTable]:
    """The tables that a publisher that follows the log publishes."""
    ReferencePublisher(live.log, [0]).step()
    found = control_stream.current(live.log).references
    return {kind: ReferenceTable.from_bytes(live.log.get_blob(found[kind][0])) for kind in FIRST_COLUMN}


def odd_payment(at: int) -> Transaction:
    return transaction(9_000, account_id="odd", occurred_at=at, amount=1.0, merchant_id="m1", device_id="d1")


def odd_verdict(**times: int) -> FeedbackReceived:
    told = {"occurred_at": END - DAY_MS} | times
    return verdict("a1", transaction_id="none", source="customer", **told)  # type: ignore[arg-type]


ODD: list[Item] = [
    odd_payment(FAR),
    odd_payment(TIME_MIN_MS),
    odd_payment(END + 20 * DAY_MS),
    odd_payment(END - 20 * DAY_MS),
    odd_verdict(occurred_at=FAR),
    odd_verdict(occurred_at=TIME_MIN_MS),
    odd_verdict(transaction_occurred_at=FAR),
    odd_verdict(transaction_occurred_at=TIME_MIN_MS),
]


@pytest.fixture(scope="module")
def plain() -> Live:
    return filled()


@pytest.fixture(scope="module", params=ODD, ids=lambda item: f"{type(item).__name__}-{item.occurred_at}")
def odd(request: pytest.FixtureRequest) -> Live:
    return filled([request.param])


def test_tables_stay_as_they_are(plain: Live, odd: Live) -> None:
    """Every merchant and device has the figures that it has without the message, but for the payment itself."""
    for kind, table in tables(odd).items():
        wanted = tables(plain)[kind]
        assert table.as_of == wanted.as_of
        assert np.array_equal(table.keys, wanted.keys)
        assert np.nanmax(wanted.values) > 1.0
        accounts = 1.0 if kind == "device" else 0.0  # the odd account may have used a device, once
        assert np.nanmax(np.abs(table.values - wanted.values)) <= accounts
        assert np.array_equal(np.isnan(table.values), np.isnan(wanted.values))


@pytest.mark.parametrize("at", [FAR, TIME_MIN_MS])
def test_tables_ignore_what_a_payment_says_of_its_time(at: int) -> None:
    """Whatever the edge let through, a payment counts on the day on which it was received."""
    honest, lying = ReferenceBuilder(FIXED.key), ReferenceBuilder(FIXED.key)
    for day in range(20):
        received = NOW + day * DAY_MS
        payment = transaction(day, occurred_at=received, received_at=received)
        honest.add_transactions(0, [payment])
        lying.add_transactions(0, [replace(payment, occurred_at=at)])
    for kind in FIRST_COLUMN:
        one, other = (builder.table(kind, NOW + 19 * DAY_MS) for builder in (honest, lying))
        assert one.values[0, 0] > 0
        assert one.to_bytes() == other.to_bytes()


def test_other_accounts_are_decided_as_before(plain: Live, odd: Live) -> None:
    """The decisions on all other accounts after the message have the same features."""
    mine = {d.transaction.transaction_id: d.score.features for d in plain.decided if d.transaction.account_id != "odd"}
    theirs = {d.transaction.transaction_id: d.score.features for d in odd.decided if d.transaction.account_id != "odd"}
    changed = [name for name in mine if mine[name] != theirs[name]]
    assert all(name.endswith("1") for name in changed), "only the account of the verdict"


def test_windows_and_labels_stay_where_they_are(plain: Live, odd: Live) -> None:
    """The newest moment of drift's windows, of training and of the labels is that of the log."""
    for live in (plain, odd):
        reader = WindowReader(live.log, [0])
        assert reader.newest() == END
        assert reader.oldest() == NOW + 10_000
        data = reading.read(live.log, [0])
        assert int(data.times.max()) == END
        states = open_states(live.log, ALL, now_ms=END)
        held = states.by_partition(LABELS)
        assert newest(held) == (END // DAY_MS + 1) * DAY_MS
        frauds = [each for each in view(held).transactions if each.consensus is not None]
        assert len(frauds) >= DAYS - 8
