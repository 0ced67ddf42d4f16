"""A payment's fields as conditions read them: in canonical form, whatever the source's spelling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.features import spec
from core.identity import FIXED
from core.program.batch import lacking
from core.program.deciding import Program
from core.program.library import kernel
from core.program.loading import check
from core.program.plan import plan
from tests.builders.events import T0, transaction
from tests.builders.standard import batch

HEAD = '[program]\nname = "p"\nversion = "1.0.0"\n'
RULE = '[[rules]]\ncode = "HIT"\neffect = "flag"\nwhen = """{}"""\n'


@pytest.mark.parametrize(
    ("condition", "changes", "hits"),
    [
        ("currency == 'EUR'", {"currency": " eur "}, True),
        ("currency == 'EUR'", {"currency": "USD"}, False),
        ("currency == 'EUR'", {"currency": ""}, False),
        ("has(currency)", {"currency": ""}, False),
        ("country == 'DE'", {"country": "de"}, True),
        ("country.startsWith('D')", {"country": "de"}, True),
        ("country.startsWith('D')", {"country": "FR"}, False),
        ("merchant_id == 'Shop 1'", {"merchant_id": "shop  1 "}, True),
        ("channel in ['POS', 'atm']", {"channel": "pos"}, True),
        ("ip == '::ffff:10.0.0.1'", {"ip": "10.0.0.1"}, True),
        ("ip.startsWith('10.')", {"ip": "::ffff:10.0.0.1"}, True),
        ("card_id == '4111 1111'", {"card_id": "4111-1111"}, True),
        ("transaction_id == 'T1'", {"transaction_id": "t1"}, False),
        ("amount_sent == 20 && amount == 20", {}, True),
        ("hour == 21 && weekday == 1", {}, True),
        ("occurred_at < received_at", {}, False),
        ("currency_known", {"currency": "BTC"}, False),
    ],
)
def test_fields_are_read_in_canonical_form(condition: str, changes: dict[str, Any], hits: bool) -> None:
    """A condition holds for a payment by what the field means; alone, and beside payments of other values."""
    program = Program(plan(check((HEAD + RULE.format(condition)).encode()).checked, kernel()), FIXED.key, {}, ())
    assert T0 % 86_400_000 // 3_600_000 == 21
    mine = transaction(**changes)
    others = [
        transaction(n, currency="JPY", country="JP", channel="x", merchant_id="", ip="", card_id="c") for n in "ab"
    ]
    for payments, place in (([mine], 0), ([others[0], mine, others[1]], 1)):
        given = batch(payments, np.full((len(payments), spec.WIDTH), np.nan, dtype=np.float32))
        assert bool(program.hits(given, given.all_rows).live[place, 0]) == hits
        assert bool(program.hits(given, np.array([place])).live[0, 0]) == hits


@pytest.mark.parametrize(
    ("value", "hits"), [(float(T0 - 60_000), True), (float(T0 - 59_999), False), ("yesterday", False), (None, False)]
)
def test_an_own_time_is_epoch_ms(value: float | str | None, hits: bool) -> None:
    """A field of type time is compared as one; what is no number is missing; a required one must be there."""
    text = '[fields]\nopened = { from = "attributes.opened", type = "time", required = true }\n'
    loaded = check((HEAD + text + RULE.format("occurred_at - opened >= 60.0")).encode())
    program = Program(plan(loaded.checked, kernel()), FIXED.key, {}, ())
    mine = transaction(attributes={} if value is None else {"opened": value})
    given = batch([mine], np.full((1, spec.WIDTH), np.nan, dtype=np.float32)).under(loaded.checked.fields)
    assert bool(program.hits(given, given.all_rows).live[0, 0]) == hits
    assert lacking(program.required, mine) == ("" if isinstance(value, float) else "opened")
