"""Takes card numbers and security codes out of decoded messages, before anything of them is decided or stored.

Messages are decoded as they were sent, because an account's partition follows from its raw ID. Those that may hold card
data (a fast search of all values at once says so) are then replaced: event and bytes by what the log may hold
(`core.hiding`). With the setting `card_data = "reject"`, they become rejects instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from core.card_numbers import is_suspicious
from core.codec import encode
from core.events import AccountEvent, Transaction
from core.hiding import Hiding
from core.identity import LogIdentity
from core.settings import Settings
from core.tokens import Tokens
from ingest.intake import Message


class Protection(NamedTuple):
    """refuses: whether messages with card data are rejected. free: identifying fields that are never card numbers."""

    refuses: bool = False
    free: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings) -> Protection:
        """The settings' protection."""
        return cls(settings.card_data == "reject", frozenset(settings.card_free_fields))

    def hiding(self, identity: LogIdentity) -> Hiding:
        """What hides card data in the messages of a log."""
        return _hiding(identity, self.free)


PROTECTION = Protection()


@lru_cache(maxsize=16)
def _hiding(identity: LogIdentity, free: frozenset[str]) -> Hiding:
    return Hiding(Tokens.of(identity.key, identity.partitioner, identity.partitions), free)


class Hidden(NamedTuple):
    """What replaces a message, without its card data; kinds: of what was taken out."""

    message: Message
    event: Transaction | AccountEvent
    kinds: frozenset[str]


def is_clean(values: list[bytes], transactions: Iterable[Transaction], hiding: Hiding) -> bool:
    """Whether none of the messages can hold card data. transactions: of the messages that are payments."""
    if is_suspicious(b"".join(values)):
        return False
    return not any([hiding.is_named(t.attributes) for t in transactions if t.attributes])


def hidden(message: Message, event: Transaction | AccountEvent, hiding: Hiding) -> Hidden | None:
    """The message without card data; None if it holds none."""
    value = message.value or b""
    named = isinstance(event, Transaction) and event.attributes and hiding.is_named(event.attributes)
    if not named and not is_suspicious(value):
        return None
    without, kinds = hiding.event(event)
    if not kinds:
        return None
    key = without.account_id.encode()
    return Hidden(message._replace(key=key, value=encode(without)), without, kinds)


def words(kinds: Iterable[str]) -> str:
    """What a message held, for the detail of a reject."""
    names = {"card_number": "a card number", "security_code": "a security code", "track": "magnetic-stripe data"}
    return f"the message holds {' and '.join(names[kind] for kind in sorted(kinds))}, which must not be stored"
