"""What producers send in a simulation: payments, some of them twice, some not valid, and verdicts and blocks."""

from __future__ import annotations

import random
from typing import NamedTuple

from core.codec import encode
from core.events import AccountBlocked, AccountUnblocked, Transaction
from core.times import DAY_MS, HOUR_MS, MINUTE_MS
from tests.builders.events import verdict
from tests.simulation.world import EPOCH_S

NOW_MS = int(EPOCH_S * 1000)


class Planned(NamedTuple):
    """A message. at: when it is sent, s from the beginning; timestamp: by its producer, epoch ms. payment: the ID of
    the payment that it brings, "" if it brings none. gap: unused offsets before it.
    """

    at: float
    role: str
    key: str
    value: bytes
    timestamp: int
    payment: str
    gap: int


def planned(
    chance: random.Random, count: int, *, seconds: float, accounts: int = 7, gaps: bool = False
) -> list[Planned]:
    """`count` messages. seconds: for how long they are sent; 0 for a history that is there before anything runs."""
    sent: list[Planned] = []
    paid: list[Transaction] = []
    past = NOW_MS - 40 * DAY_MS
    at = 0.0
    for number in range(count):
        if seconds:
            at += chance.random() * 2 * seconds / count
            time = int(NOW_MS + at * 1000) - chance.choice((0, 0, 5, 200))
        else:
            past += chance.choice((0, 1_000, 20_000, 5 * MINUTE_MS, HOUR_MS, 7 * HOUR_MS))
            time = past
        account = f"a{int(chance.random() ** 2 * accounts)}"
        kind = chance.random()
        payment, role = "", "transactions"
        if kind < 0.68 or not paid:
            t = Transaction(
                transaction_id=f"t{number}",
                account_id=account,
                amount=chance.choice((3.0, 20.0, 99.5, 750.25, 4_000.0)),
                occurred_at=time,
                currency="EUR",
                merchant_id=f"m{chance.randrange(9)}",
                merchant_category=chance.choice(("", "5411", "7995")),
                country=chance.choice(("DE", "FR", "US")),
                device_id=f"d{chance.randrange(5)}",
            )
            paid.append(t)
            value, payment = encode(t), t.transaction_id
        elif kind < 0.74:
            t = chance.choice(paid[-12:])
            account, value = t.account_id, encode(t)  # sent twice
        elif kind < 0.80:
            value = chance.choice((b"", b"{}", b"\xff\x00", b'{"transaction_id":"x"}'))
        elif kind < 0.96:
            role = "feedback"
            about = chance.choice(paid)
            account = about.account_id
            word = chance.choice(("fraud", "fraud", "legitimate"))
            told = verdict(
                account, word, time, transaction_id=about.transaction_id, transaction_occurred_at=about.occurred_at
            )
            value = encode(told)
        else:
            role = "feedback"
            blocked = chance.random() < 0.6
            event = AccountBlocked if blocked else AccountUnblocked
            value = encode(event(account_id=account, occurred_at=time, actor="ann"))
        gap = chance.choice((0, 0, 0, 1, 7)) if gaps else 0
        sent.append(Planned(at, role, account, value, time, payment, gap))
    return sent
