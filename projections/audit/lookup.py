"""Looks up transactions in the log by ID, many in one pass over the partitions that may hold them. Reads only.

Cost: 2 µs per entry scanned, however many IDs are searched for; for a single ID 0.3 µs, plus reading the entry.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from core.codec import decoded, encode
from core.log.base import EventLog
from core.log.paging import pages


class Payment(msgspec.Struct, frozen=True):
    """The fields of a transaction that a verdict needs. Times in epoch ms, amount in major units."""

    transaction_id: str
    account_id: str
    amount: float
    occurred_at: int
    merchant_id: str = ""
    device_id: str = ""
    currency: str = ""


_payment = msgspec.json.Decoder(Payment)


def known_accounts(log: EventLog, partitions: Sequence[int], accounts: Collection[str]) -> set[str]:
    """Those of the accounts that have a transaction in one of the partitions. Stops as soon as it has found all."""
    missing = {b'"account_id":' + encode(account): account for account in accounts}
    found: set[str] = set()
    for partition in partitions:
        for page in pages(log, partition, "transactions"):
            for needle in [needle for needle in missing if any(needle in entry.payload for entry in page)]:
                found.add(missing.pop(needle))
            if not missing:
                return found
    return found


def find_payments(
    log: EventLog, partitions: Sequence[int], wanted: Collection[tuple[str, str]]
) -> dict[str, list[Payment]]:
    """By transaction ID, the log's transactions with that ID, in log order within a partition.

    wanted: (transaction ID, account ID or "" for any). The search ends early only if every account is given. Raises
    Corrupt if an entry can't be decoded.
    """
    ids = {transaction for transaction, _ in wanted}
    missing = set(wanted)
    is_open = any(not account for _, account in wanted)
    needle = encode(next(iter(ids))) if len(ids) == 1 else None
    found: dict[str, list[Payment]] = {}
    for partition in partitions:
        for page in pages(log, partition, "transactions"):
            for entry in page:
                if needle is not None and needle not in entry.payload and b"\\" not in entry.payload:
                    continue
                payment = decoded(_payment, entry.payload)
                if payment.transaction_id in ids:
                    found.setdefault(payment.transaction_id, []).append(payment)
                    missing.discard((payment.transaction_id, payment.account_id))
            if not missing and not is_open:
                return found
    return found
