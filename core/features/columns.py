"""Events → the kernel's columns. Only here do strings become hashes and countries become places, all but IDs of
transactions in canonical form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from core import canonical, geography
from core.events import AccountBlocked, AccountEvent, AccountUnblocked, FeedbackReceived, Transaction
from core.features import kernel
from core.features.column_loops import fill_columns
from core.features.verdicts import AccountVerdicts
from core.hashing import HashKey, joined

_countries, _channels, _categories = canonical.Few("country"), canonical.Few(None), canonical.Few(None)
_NAMES = Transaction.__struct_fields__
PLACES_REMEMBERED = 4_096
IN_PERSON_CHANNELS = {"": 1, "card_present": 1, "atm": 1, "pos": 1}
"""Channels in which the cardholder is present in the transaction's country; an unknown channel counts as one."""


class _Places(dict[tuple[str, str], int]):
    """Where the cardholder is, a row of `geography.CENTRES` or −1, by country and channel in canonical form."""

    def __missing__(self, where: tuple[str, str]) -> int:
        country, channel = where
        if len(self) >= PLACES_REMEMBERED:
            self.clear()
        self[where] = place = geography.PLACES.get(country, -1) if channel in IN_PERSON_CHANNELS else -1
        return place


_places = _Places()

HASHED = (
    "transaction_id", "account_id", "merchant_id", "merchant_category", "country", "device_id", "channel", "currency",
    "ip", "card_id", "attributes",
)  # fmt: skip
"""The rows of `Columns.hashes`. Merchant, category, country, device and channel are hashed in canonical form."""


class TransactionLike(Protocol):
    """`Transaction` at the edge, `TransactionReceived` from the log: the same fields."""

    @property
    def transaction_id(self) -> str: ...
    @property
    def account_id(self) -> str: ...
    @property
    def amount(self) -> float: ...
    @property
    def rate(self) -> float: ...
    @property
    def currency(self) -> str: ...
    @property
    def occurred_at(self) -> int: ...
    @property
    def received_at(self) -> int: ...
    @property
    def merchant_id(self) -> str: ...
    @property
    def merchant_category(self) -> str: ...
    @property
    def country(self) -> str: ...
    @property
    def channel(self) -> str: ...
    @property
    def device_id(self) -> str: ...
    @property
    def ip(self) -> str: ...
    @property
    def card_id(self) -> str: ...
    @property
    def attributes(self) -> dict[str, float | str]: ...


class Columns(msgspec.Struct, frozen=True):
    """n transactions as arrays of length n; see kernel.process for units. hashes: uint64 (len(HASHED), n)."""

    ids: NDArray[np.uint64]
    owners: NDArray[np.uint64]
    contents: NDArray[np.uint64]
    times: NDArray[np.int64]
    received: NDArray[np.int64]
    amounts: NDArray[np.float64]
    merchants: NDArray[np.uint64]
    categories: NDArray[np.uint64]
    countries: NDArray[np.uint64]
    devices: NDArray[np.uint64]
    places: NDArray[np.int16]
    hashes: NDArray[np.uint64]

    def rows(self, start: int, stop: int) -> Columns:
        """Some of the transactions."""
        if (start, stop) == (0, len(self.times)):
            return self
        return Columns(**{name: getattr(self, name)[..., start:stop] for name in self.__struct_fields__})


def columns(transactions: Sequence[TransactionLike], key: HashKey) -> Columns:
    """The columns of the transactions, hashed with the log's key. Cost: about 0.9 µs per transaction."""
    n = len(transactions)
    of = _fields(transactions)
    countries, channels = _countries.each(of["country"]), _channels.each(of["channel"])
    many = canonical.texts([*of["merchant_id"], *of["device_id"]])
    names = [
        *of["transaction_id"],
        *of["account_id"],
        *many[:n],
        *_categories.each(of["merchant_category"]),
        *countries,
        *many[n:],
        *channels,
        *of["currency"],
        *of["ip"],
        *of["card_id"],
        *[_canonical(attributes) if attributes else "" for attributes in of["attributes"]],
    ]
    words = np.empty((len(HASHED) + 3, n), dtype=np.uint64)
    times = np.array((*of["occurred_at"], *of["received_at"]), np.int64).reshape(2, n)
    numbers = np.array((*of["amount"], *of["rate"]), np.float64).reshape(2, n)
    if n:
        fill_columns(joined(names), *key.words, times, numbers, words)
    return Columns(
        ids=words[0],
        owners=words[1],
        contents=words[-1],
        received=times[1],
        times=times[0],
        amounts=numbers[1],
        merchants=words[2],
        categories=words[3],
        countries=words[4],
        devices=words[5],
        hashes=words[: len(HASHED)],
        places=np.fromiter(map(_places.__getitem__, zip(countries, channels, strict=True)), np.int16, n),
    )


def _fields(transactions: Sequence[TransactionLike]) -> dict[str, Sequence[Any]]:
    """Every field's values, by its name. Events of one kind are taken apart whole, at a fifth of the cost."""
    kinds = set(map(type, transactions))
    if len(kinds) == 1 and issubclass(kind := kinds.pop(), msgspec.Struct):
        rows = map(msgspec.structs.astuple, transactions)  # type: ignore[arg-type]
        return dict(zip(kind.__struct_fields__, zip(*rows, strict=True), strict=True))
    return {name: [getattr(t, name) for t in transactions] for name in _NAMES}


def _canonical(attributes: dict[str, float | str]) -> str:
    """The attributes as text that does not depend on their order and holds no control character."""
    return msgspec.json.encode(attributes, order="sorted").decode()


class FeedbackRow(NamedTuple):
    """An account event as kernel input. kind: `kernel.OTHER` does not affect features. time: epoch ms; for
    kernel.VERDICTS, that of the latest fraud verdict. frauds, legitimates: how many of the account's verdicts count,
    for VERDICTS only.
    """

    account_id: str
    kind: int
    time: int
    frauds: int = 0
    legitimates: int = 0


def feedback_row(verdicts: AccountVerdicts, event: AccountEvent) -> FeedbackRow:
    """An account event as kernel input; verdicts, blocks and unblocks are also added to its partition's `verdicts`."""
    if isinstance(event, FeedbackReceived):
        count = verdicts.add(event)
        return FeedbackRow(event.account_id, kernel.VERDICTS, count.last_fraud_at, count.frauds, count.legitimates)
    kind = kernel.OTHER
    if isinstance(event, AccountBlocked | AccountUnblocked):
        verdicts.acted(event)
    if isinstance(event, AccountBlocked):
        kind = kernel.BLOCK
    elif isinstance(event, AccountUnblocked):
        kind = kernel.UNBLOCK
    return FeedbackRow(event.account_id, kind, event.occurred_at)
