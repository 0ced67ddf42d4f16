"""Hostile messages, from a seed: what a producer can send that no honest one does.

    mutated     a valid payment or verdict with bytes flipped, removed, inserted, doubled or cut off
    odd values  valid JSON with a field of another type, a number at or beyond every limit, a text that is huge, empty,
                invisible, a card number, a formula, a terminal's escape, a path, a surrogate
    documents   deep nesting, doubled keys, many attributes, 64 KiB, no JSON at all, no value
    keys        missing, another account's, no UTF-8, in a partition that it does not map to
    identity    IDs that return with other content, times from 2000 to 2100, new accounts without end

Messages are drawn one by one; the same seed gives the same ones.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

NUMBERS: list[Any] = [
    0,
    -0.0,
    -1,
    1e-320,
    1e12,
    1.0000001e12,
    1e308,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    10**400,
    946_684_799_999,
    4_102_444_800_000,
    -(2**63) - 1,
]
TEXTS: list[Any] = [
    "",
    " ",
    "a" * 129,
    "a" * 70_000,
    "\u0000",
    "\u001f",
    "\u202egnp.exe",
    "\u200b",
    "\ud800",
    "\uffff",
    "４１１１１１１１１１１１１１１１",
    "4111 1111 1111 1111",
    "=HYPERLINK(1)",
    "\u001b]0;x\u0007",
    "[/red]x",
    "../../etc/passwd",
    "'; DROP TABLE x; --",
    "NaN",
    "null",
    "İ",
    "ﷺ" * 40,
    "e\u0301" * 60,
]
OTHERS: list[Any] = [None, True, [], {}, [[]], {"a": 1}, ["x"] * 100]
LITERALS = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "00", "1.", "+1", "0x10", "1_000", "'x'", "undefined")


class Hostile(NamedTuple):
    """A message as sent. partition: None for where its key maps to."""

    topic: Literal["transactions", "feedback"]
    key: bytes | None
    value: bytes | None
    partition: int | None = None


def payment(rng: random.Random, number: int, now_ms: int) -> dict[str, Any]:
    """A valid payment of one of 2,000 accounts."""
    return {
        "transaction_id": f"h{number}",
        "account_id": f"a{rng.randrange(2_000)}",
        "amount": round(rng.lognormvariate(3.0, 1.2), 2),
        "occurred_at": now_ms - rng.randrange(60_000),
        "merchant_id": f"m{rng.randrange(500)}",
        "merchant_category": rng.choice(["grocery", "travel", "electronics"]),
        "country": rng.choice(["DE", "FR", "US"]),
        "device_id": f"d{rng.randrange(3_000)}",
        "attributes": {"note": "x", "score": 0.5},
    }


def verdict(rng: random.Random, number: int, now_ms: int) -> dict[str, Any]:
    """A valid verdict."""
    return {
        "type": "feedback.v1",
        "account_id": f"a{rng.randrange(2_000)}",
        "transaction_id": f"h{rng.randrange(number + 1)}",
        "verdict": rng.choice(["fraud", "legitimate"]),
        "source": rng.choice(["analyst", "customer", "chargeback"]),
        "occurred_at": now_ms - rng.randrange(60_000),
        "actor": f"x{rng.randrange(40)}",
    }


def messages(count: int, seed: int, now_ms: int, partitions: int) -> Iterator[Hostile]:
    """`count` hostile messages, with a valid one among ten. now_ms: about when they are sent."""
    rng = random.Random(seed)
    makers: list[Callable[[random.Random, dict[str, Any]], bytes | None]] = [_mutated, _mutated, _odd, _odd, _document]
    for number in range(count):
        topic: Literal["transactions", "feedback"] = "feedback" if rng.random() < 0.2 else "transactions"
        made = (verdict if topic == "feedback" else payment)(rng, number, now_ms)
        kind = rng.random()
        if kind < 0.1:
            yield Hostile(topic, made["account_id"].encode(), _text(made))
        elif kind < 0.2:
            yield _with_odd_key(rng, topic, made, partitions)
        elif kind < 0.35:
            _impersonate(rng, made)
            yield Hostile(topic, str(made["account_id"]).encode(), _text(made))
        else:
            value = rng.choice(makers)(rng, made)
            yield Hostile(topic, str(made["account_id"]).encode("utf-8", "surrogatepass"), value)


def _text(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _mutated(rng: random.Random, made: dict[str, Any]) -> bytes:
    data = bytearray(_text(made))
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randrange(1, 9)]
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 3:
                data[at:at] = data[max(0, at - 20) : at]
            case 4:
                del data[at:]
            case _:
                data[at : at + 1] = rng.choice(LITERALS).encode()
    return bytes(data)


def _odd(rng: random.Random, made: dict[str, Any]) -> bytes:
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice([*made, "rate", "received_at", "type", "ip", "card_id", "currency", "\u0000", "constructor"])
        made[name] = rng.choice(rng.choice((NUMBERS, TEXTS, OTHERS)))
    if rng.random() < 0.2:
        made["attributes"] = {str(rng.choice(TEXTS)): rng.choice(NUMBERS + TEXTS + OTHERS) for _ in range(5)}
    if rng.random() < 0.2:
        return _text(made).replace(b":", b":" + rng.choice(LITERALS).encode() + b",", 1)
    return _text(made)


def _document(rng: random.Random, made: dict[str, Any]) -> bytes | None:
    match rng.randrange(8):
        case 0:
            return None
        case 1:
            return b""
        case 2:
            depth = rng.choice((10, 1_000, 30_000))
            return b"[" * depth + b"]" * depth
        case 3:
            inner = b'{"a":' * rng.choice((10, 1_000, 10_000))
            return _text(made)[:-1] + b',"attributes":' + inner
        case 4:
            return _text(made)[:-1] + b',"amount":1,"amount":2}'
        case 5:
            made["attributes"] = {f"k{i}": i for i in range(rng.choice((511, 512, 513, 4_000)))}
            return _text(made)
        case 6:
            return _text(made | {"note": "x" * rng.choice((60_000, 65_536, 200_000))})
        case _:
            return rng.randbytes(rng.randrange(1, 2_000))


def _with_odd_key(rng: random.Random, topic: Any, made: dict[str, Any], partitions: int) -> Hostile:
    keys: list[bytes | None] = [None, b"", b"\xff\xfe", b"another", b"a" * 5_000, made["account_id"].encode()]
    return Hostile(topic, rng.choice(keys), _text(made), rng.randrange(partitions))


def _impersonate(rng: random.Random, made: dict[str, Any]) -> None:
    match rng.randrange(4):
        case 0:
            made["transaction_id"] = f"h{rng.randrange(100)}"
            made["account_id"] = f"a{rng.randrange(20)}"
        case 1:
            made["account_id"] = f"new{rng.randrange(10**9)}"
        case 2:
            made["occurred_at"] = rng.randrange(946_684_800_000, 4_102_444_800_000)
        case _:
            made["amount"] = rng.choice(NUMBERS[:7])
