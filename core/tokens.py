"""Tokens: what stands in the log in place of an identifier that it must not hold. Pure.

A token is a keyed hash (BLAKE2b, 128 bits) of the identifier under a key of the log's, so that equal identifiers have
equal tokens, and whoever has a token but not the key learns nothing by trying identifiers. Its prefix names the field:
`card_mfrggzdfmztwq2lknnwg23tpoa`.

Spellings that a list treats as the same (core.canonical) have the same token, except for accounts and transactions,
which are known by their exact IDs. An account's token names the partition of the account, `acct_3_…`: messages are
routed by the raw ID, so what is sent later about a token alone must still find its partition.
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections.abc import Callable
from hashlib import blake2b

from core.canonical import canonical
from core.events import ListKind, Partitioner
from core.hashing import HashKey
from core.partitioner import PARTITIONERS

PREFIXES = {
    "account_id": "acct",
    "card_id": "card",
    "device_id": "dev",
    "ip": "ip",
    "merchant_id": "mer",
    "transaction_id": "txn",
}
"""Prefixes of the tokens of an identifying field."""
_FORMS: dict[str, ListKind] = {"card_id": "card", "device_id": "device", "ip": "ip", "merchant_id": "merchant"}
_BYTES = 16
_ACCOUNT = re.compile(r"acct_([0-9]{1,5})_[a-z2-7]{26}")
_ANY = re.compile(r"(?:acct_[0-9]{1,5}|card|dev|ip|mer|txn|id)_[a-z2-7]{26}")


def is_token(value: str) -> bool:
    """Whether the value has the form of a token."""
    return _ANY.fullmatch(value) is not None


def home(account: str, partitioner: Partitioner, partitions: int) -> int:
    """The partition of an account: the one to which its ID maps, or which its token names."""
    named = _ACCOUNT.fullmatch(account)
    if named is not None and (partition := int(named[1])) < partitions:
        return partition
    return PARTITIONERS[partitioner](account.encode("utf-8", "replace"), partitions)


class Tokens:
    """Makes the tokens of one log."""

    def __init__(self, secret: bytes, partition: Callable[[str], int]) -> None:
        """secret: 16 to 64 bytes. partition: that of a raw account ID."""
        self._secret = secret
        self._partition = partition

    @classmethod
    def of(cls, key: HashKey, partitioner: Partitioner, partitions: int) -> Tokens:
        """The tokens of a log that has no key outside of it."""
        secret = bytes.fromhex(key.derived("tokens").text)
        return cls(secret, lambda account: home(account, partitioner, partitions))

    def token(self, field: str, value: str) -> str:
        """The token of a field's value; a token is its own."""
        if is_token(value):
            return value
        form = _FORMS.get(field)
        text = value if form is None else canonical(form, value) or value
        prefix = PREFIXES.get(field, "id")
        if field == "account_id":
            prefix = f"acct_{self._partition(value)}"
        person = field.encode()[:16]
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_BYTES, key=self._secret, person=person)
        return f"{prefix}_{b32encode(digest.digest()).decode().rstrip('=').lower()}"
