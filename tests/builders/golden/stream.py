"""The golden log's input: a seeded stream of payments and feedback of 70 days, with everything that the edge knows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from core.times import DAY_MS, HOUR_MS, MINUTE_MS
from sources.record import Record

BEGIN_MS = 1_766_000_000_000
"""2025-12-17 19:33 UTC."""
ACCOUNTS = 24
CURRENCIES = ("EUR", "EUR", "EUR", "USD", "jpy", "XXX", "")
MERCHANTS = ("m1", "M2", "shop 7", "  m1 ", "m99", "casino-99", "Ünal", "")
IPS = ("10.0.0.1", "::ffff:10.0.0.1", "10.0.7.9", "2001:db8::7", "")
COUNTRIES = ("DE", "de", "FR", "US", "BR", "GB", "")
BAD = (b"", b"{}", b"\xff", b"[1]", b'{"transaction_id":"x","transaction_id":"y"}', b'{"amount":-1}', b"not JSON")


def stream(payments: int, seed: int = 11) -> Iterator[Record]:
    """Payments and, mixed in by time, feedback of every kind; one message in thirty can't be taken."""
    dice = random.Random(seed)
    now = BEGIN_MS
    past: list[tuple[str, str, int, float]] = []
    for number in range(payments):
        now += dice.choice((500, 20_000, MINUTE_MS, 7 * MINUTE_MS, HOUR_MS, 3 * HOUR_MS, 5 * HOUR_MS))
        account = f"a{min(int(dice.expovariate(0.15)), ACCOUNTS - 1)}"
        value = _payment(dice, number, account, now)
        if past and dice.random() < 0.05:  # the same payment again, or another under its ID
            repeated = dice.choice(past[-8:])
            account = repeated[0]
            value |= {"transaction_id": repeated[1], "account_id": account}
        yield Record("transactions", account, now, _encoded(value))
        past.append((account, value["transaction_id"], now, value["amount"]))
        if dice.random() < 0.04:
            yield Record("transactions", account, now, _encoded(value))  # a duplicate
        if dice.random() < 0.03:
            yield Record(dice.choice(("transactions", "feedback")), account, now, dice.choice(BAD))
        if dice.random() < 0.2:
            yield _feedback(dice, number, dice.choice(past[-40:]), now)


def _payment(dice: random.Random, number: int, account: str, now: int) -> dict[str, Any]:
    late = dice.choice((0, 0, 0, 0, 30_000, 2 * HOUR_MS, 3 * DAY_MS, 40 * DAY_MS))
    value: dict[str, Any] = {
        "transaction_id": f"t{number}",
        "account_id": account,
        "amount": dice.choice((0.0, 0.01, 5.0, 20.0, 99.99, 250.0, 1200.0)) if dice.random() < 0.3
        else round(dice.lognormvariate(3.2, 1.1), 2),
        "occurred_at": now - late,
        "currency": dice.choice(CURRENCIES),
        "merchant_id": dice.choice(MERCHANTS),
        "merchant_category": dice.choice(("5411", "7995", "electronics")),
        "country": dice.choice(COUNTRIES),
        "channel": dice.choice(("card_present", "online", "pos", "")),
        "device_id": dice.choice(("d1", "d2", "D1", f"d{account}", f"new{number}", "")),
        "ip": dice.choice(IPS),
        "card_id": dice.choice(("4111 1111", "4111-1111", f"c{account}", "")),
    }  # fmt: skip
    attributes: dict[str, float | str] = {}
    if dice.random() < 0.75:
        attributes["dist1"] = dice.choice((round(dice.uniform(0, 150), 3), 0.0, "far"))
    if dice.random() < 0.8:
        attributes["card4"] = dice.choice(("visa", "mastercard", "discover", ""))
    if dice.random() < 0.6:
        attributes["P_emaildomain"] = dice.choice(("a.com", "b.org", "Ω.net", 4.5))
    if dice.random() < 0.5:
        attributes["M1"] = dice.choice(("true", "false", "1", 1.0, 0.0))
    if dice.random() < 0.5:
        attributes["opened"] = float(now - dice.randrange(300) * DAY_MS)
    return {key: each for key, each in value.items() if each != ""} | ({"attributes": attributes} if attributes else {})


def _feedback(dice: random.Random, number: int, about: tuple[str, str, int, float], now: int) -> Record:
    account, transaction, at, amount = about
    said: dict[str, Any] = {"account_id": account, "occurred_at": now}
    person = {"actor": dice.choice(("ann", "bob"))}
    case = {"case_id": f"case-{number // 3}"}
    kind = dice.choice(("feedback.v1",) * 8 + tuple(_OTHERS))
    said |= {"type": kind}
    if kind == "feedback.v1":
        said |= {
            "transaction_id": transaction, "transaction_occurred_at": at, "confidence": dice.choice((1.0, 0.7)),
            "source": dice.choice(("analyst", "customer", "chargeback", "early_fraud_warning", "representment")),
            "verdict": dice.choice(("fraud", "fraud", "legitimate", "unsure")),
            "merchant_id": dice.choice(("m1", "m99", "")), "device_id": dice.choice(("d1", "")),
            "amount": amount, "currency": dice.choice(("EUR", "USD", "")), **person,
        }  # fmt: skip
    elif kind.startswith("account_"):
        said |= person | {"reason": "seen"}
    elif kind.startswith("case_"):
        said |= person | case | {"assignee": "cho", "verdict": "fraud"}
        for name in ("assignee", "verdict"):
            if (name, kind) not in (("assignee", "case_assigned.v1"), ("verdict", "case_resolved.v1")):
                del said[name]
    else:
        said |= person | {"action": "block_account", "causation_id": "00:1-1"}
        said |= {"error": "no answer"} if kind == "action_failed.v1" else {}
    return Record("feedback", account, now, _encoded(said))


_OTHERS = (
    "account_blocked.v1", "account_unblocked.v1", "case_opened.v1", "case_assigned.v1", "case_resolved.v1",
    "action_succeeded.v1", "action_failed.v1",
)  # fmt: skip


def _encoded(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value)
