"""Amounts in other currencies: converted for limits and features, flagged where they can't be, checked by replay."""

from __future__ import annotations

import msgspec
import pytest

from core import control_stream, currency
from core.codec import decode_score, decode_transaction, encode
from core.context import Resolver
from core.currency import Rates, base_amount, set_rates
from core.errors import BadInput
from core.events import ListChanged, RatesChanged, Transaction
from core.features import packing, spec
from core.log.memory import MemoryLog
from core.replay import Timeline
from core.verification import verify
from ingest.offline import OfflineIngest
from projections.audit.redecide import check
from sources.record import Record
from tests.builders.decisions import context, decide_in
from tests.builders.events import T0, transaction, verdict
from tests.builders.models import load_tiny

RATES = RatesChanged(occurred_at=T0, actor="ann", base="EUR", rates={"USD": 0.5, "btc": 60_000.0})


def decided(*items: Transaction, set_to: RatesChanged | None = RATES) -> list[dict[str, float | tuple[str, ...] | str]]:
    """Decision, rules and amount feature of each item."""
    under = context(*([set_to] if set_to else []), scorer=False)
    set_rates(under.rates, items)
    found = []
    for chunk in decide_in(list(items), [], under)[0]:
        for score in map(decode_score, [entry.payload for entry in chunk.scores]):
            amount = float(packing.vector(score.features)[spec.index("amount")])
            found.append({"decision": score.decision, "rules": score.rules, "amount": amount})
    return found


@pytest.mark.parametrize("code", ["BTC", "btc", " Btc ", "ＢＴＣ"])
def test_limits_on_amounts_hold_in_every_currency(code: str) -> None:
    """900 BTC are above a limit of 1,000 EUR, however the code is spelled; 1,500 USD are below it."""
    (found,) = decided(transaction(amount=900.0, currency=code))
    assert found["amount"] == 54_000_000.0 and "AMOUNT_HIGH" in found["rules"]
    (found,) = decided(transaction(amount=1500.0, currency="USD"))
    assert found["amount"] == 750.0 and found["rules"] == ()


def test_severity_and_features_use_the_base_currency() -> None:
    """A block of 10 BTC is critical, of 10 USD high; sums and ratios of an account mix currencies rightly."""
    block = ListChanged(occurred_at=T0, actor="x", kind="account", effect="block", add=("a1",))
    for code, severity in (("BTC", "critical"), ("USD", "high")):
        item = transaction(amount=10.0, currency=code)
        under = context(RATES, block, scorer=False)
        set_rates(under.rates, [item])
        (alert,) = decide_in([item], [], under)[0][0].alerts
        assert msgspec.json.decode(alert.payload)["severity"] == severity
        assert msgspec.json.decode(alert.payload)["transaction"]["rate"] == under.rates.of(code)
    items = [
        transaction(n, amount=a, currency=c, occurred_at=T0 + n)
        for n, (a, c) in enumerate([(10, "EUR"), (20, "USD"), (10, "EUR")])
    ]
    under = context(RATES, scorer=False)
    set_rates(under.rates, items)
    rows = decide_in(items, [], under)[0][0].features
    assert rows[2][spec.index("sum_24h")] == 20.0 and rows[2][spec.index("amount_to_mean_7d")] == 1.0


@pytest.mark.parametrize(
    ("code", "set_to", "is_unknown"),
    [
        ("EUR", RATES, False),
        ("usd", RATES, False),
        ("", RATES, False),
        ("GBP", RATES, True),
        ("DOGE", RATES, True),
        ("EUR\u200bX", RATES, True),
        ("EUR", None, False),
        ("JPY", None, False),
        ("", None, False),
        ("BTC", None, True),
        ("XXX", None, True),
    ],
)
def test_a_currency_that_cannot_be_compared_is_reviewed(
    code: str, set_to: RatesChanged | None, is_unknown: bool
) -> None:
    """Neither base nor rated; without a base, what is no money of ISO 4217."""
    (found,) = decided(transaction(amount=5.0, currency=code), set_to=set_to)
    assert (("UNKNOWN_CURRENCY" in found["rules"]), found["decision"] == "review") == (is_unknown, is_unknown)
    if is_unknown:
        assert found["amount"] == 5.0


def ingested(log: MemoryLog) -> MemoryLog:
    """Payments in three currencies, before, under and after the rates."""
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=1, reference=False)
    for step, change in enumerate((None, RATES, msgspec.structs.replace(RATES, rates={"USD": 0.6}))):
        if change is not None:
            ingest.change([change])
        items = [
            transaction(10 * step + n, amount=100.0, currency=code, occurred_at=T0 + 10 * step + n)
            for n, code in enumerate(("EUR", "USD", "BTC"))
        ]
        said = verdict(occurred_at=T0 + 10 * step + 5, amount=7.0, currency="usd")
        ingest.feed([Record("transactions", "a1", item.occurred_at, encode(item)) for item in items])
        ingest.feed([Record("feedback", "a1", said.occurred_at, encode(said))])
        ingest.flush()
    return log


def test_the_rate_is_logged_and_replay_checks_it() -> None:
    """Payments and verdicts carry the rate at their control position; 1 is left out; replay is identical."""
    log = ingested(MemoryLog())
    payloads = [entry.payload for entry in log.read(0, "transactions")]
    rates = [decode_transaction(payload).rate for payload in payloads]
    assert rates == [1.0, 1.0, 1.0, 1.0, 0.5, 60_000.0, 1.0, 0.6, 1.0]
    assert [b'"rate"' in payload for payload in payloads] == [rate != 1.0 for rate in rates]
    assert [base_amount(decode_transaction(p)) for p in payloads][4:6] == [50.0, 6_000_000.0]
    assert [msgspec.json.decode(e.payload).get("rate", 1.0) for e in log.read(0, "feedback")] == [1.0, 0.5, 0.6]
    timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, load_tiny))
    found = verify(log, 0, log.head(0), timeline)
    assert (found.decisions, found.identical, found.first_difference) == (9, 9, None)


@pytest.mark.parametrize(("row", "rate"), [(0, 0.5), (4, 1.0), (7, 0.5)])
def test_a_forged_rate_is_found(row: int, rate: float) -> None:
    """A logged rate that is not that of the payment's control position is a difference, even if nothing else is."""
    log = ingested(MemoryLog())
    entry = log.read(0, "transactions")[row]
    log.tamper(
        0, "transactions", entry.id, encode(msgspec.structs.replace(decode_transaction(entry.payload), rate=rate))
    )
    timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, load_tiny))
    found = verify(log, 0, log.head(0), timeline)
    assert found.identical < 9 and found.first_difference is not None
    assert f"rate: logged {rate}, but that of" in str(found.first_difference)
    (audited,) = check(log, 0, [row], timeline).differences
    assert any(line.startswith(f"rate: logged {rate}") for line in audited[2])


@pytest.mark.parametrize(
    ("base", "rates"),
    [
        ("", {}),
        ("E", {}),
        ("€UR", {}),
        ("EUR", {"USD": 0.0}),
        ("EUR", {"USD": -1.0}),
        ("EUR", {"USD": 1e10}),
        ("EUR", {"usd": 1.0, "USD": 2.0}),
        ("EUR", {"eur": 2.0}),
    ],
)
def test_invalid_rates_have_no_effect(base: str, rates: dict[str, float]) -> None:
    """Whoever wrote the event, the fold refuses it and keeps the rates before it."""
    event = RatesChanged(occurred_at=T0, actor="x", base=base, rates=rates)
    with pytest.raises(BadInput):
        currency.check_rates(event)
    assert context(RATES, event, scorer=False).rates == Rates("EUR", {"USD": 0.5, "BTC": 60_000.0})
