"""Who else: the accounts that share a device, a card or a merchant with an account, from the index. Pure but for
`names`, which reads the log.

Of what many share, little follows: a merchant of more than COMMON_MAX accounts is left out and counted. Within RANGE_MS
before the moment. At most NODES_MAX nodes; rarer things go first, devices and cards before merchants.

Cost: a scan of the columns for each kind, 10 ms for a million decisions, and one read of the log for each node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from console.api.index import KINDS
from console.api.places import Row, payments_at
from console.api.views import Columns
from core.events import Position, TransactionReceived
from core.log.base import EventLog
from core.times import DAY_MS

NODES_MAX = 40
SHARED_MAX = 12
COMMON_MAX = 10
RANGE_MS = 90 * DAY_MS
_ORDER = ("device", "card", "merchant")

_LOW_BITS = 0xFFFF
"""Of a hash: most rows are told from those wanted by them alone."""


class Node(msgspec.Struct, frozen=True):
    """An account, or what accounts share. id: `"device:d1"`. count: payments of it in the range. fraud: verdicts of
    fraud on an account; blocked: whether it is.
    """

    id: str
    kind: str
    count: int
    fraud: int = 0
    blocked: bool = False


class Link(msgspec.Struct, frozen=True):
    """Payments of an account by or at a shared thing."""

    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")
    count: int = 0


class RelatedAnswer(msgspec.Struct, frozen=True):
    """as_of: the cut of the payments; asked as of now, verdicts and blocks may be those of a moment later. left_out: by
    kind, how many things are shared with others but not shown."""

    as_of: str
    nodes: list[Node]
    links: list[Link]
    left_out: dict[str, int]


class Standing(NamedTuple):
    """What is known of an account: verdicts of fraud, and whether it is blocked."""

    fraud: int
    blocked: bool


class Shared(NamedTuple):
    """Something shared: kind and hash; accounts: the others' hashes with their payments and one of these."""

    kind: str
    mine: int
    example: Row
    accounts: dict[int, tuple[int, Row]]


def shared_with(columns: Mapping[int, Columns], account: str, moment: int) -> tuple[list[Shared], dict[str, int]]:
    """What the account shares with others in the range before the moment (epoch ms), and how much more by kind."""
    left_out = dict.fromkeys(KINDS, 0)
    found: list[Shared] = []
    for kind in _ORDER:
        shared, common = _shared(columns, kind, hash(account), moment - RANGE_MS)
        kept = sorted(shared, key=lambda each: len(each.accounts))[: SHARED_MAX - len(found)]
        left_out[kind] = common + len(shared) - len(kept)
        found += kept
    return found, left_out


def _shared(columns: Mapping[int, Columns], kind: str, account: int, since: int) -> tuple[list[Shared], int]:
    """What the account's payments have in common with others', and how many things more than COMMON_MAX share."""
    mine: dict[int, tuple[int, Row]] = {}
    nothing = hash("")
    for partition, c in columns.items():
        rows = np.flatnonzero((c["account"] == account) & (c["at"] >= since) & (c[kind] != nothing))
        for value, row, count in _counted(c[kind][rows], rows):
            mine[value] = (count, _row(partition, c, row))  # all payments of an account are in one partition
    wanted = np.array(list(mine), dtype=np.int64)
    others: dict[int, dict[int, tuple[int, Row]]] = {}
    is_possible = np.zeros(_LOW_BITS + 1, np.bool_)
    is_possible[wanted & _LOW_BITS] = True
    for partition, c in columns.items():
        rows = np.flatnonzero(is_possible[c[kind] & _LOW_BITS])  # few, so what follows costs little
        rows = rows[(c["at"][rows] >= since) & (c["account"][rows] != account) & np.isin(c[kind][rows], wanted)]
        for value in np.unique(c[kind][rows]).tolist():
            of = rows[c[kind][rows] == value]
            held = others.setdefault(value, {})
            for other, row, count in _counted(c["account"][of], of):
                held[other] = (count, _row(partition, c, row))
    found = [Shared(kind, *mine[value], held) for value, held in others.items() if len(held) <= COMMON_MAX]
    return found, len(others) - len(found)


def _counted(values: NDArray[np.int64], rows: NDArray[np.intp]) -> Iterator[tuple[int, int, int]]:
    """Each different value with one of its rows and how many it has."""
    different, first, counts = np.unique(values, return_index=True, return_counts=True)
    return zip(different.tolist(), rows[first].tolist(), counts.tolist(), strict=True)


def _row(partition: int, c: Columns, row: int) -> Row:
    return Row(partition, Position(int(c["generation"][row]), int(c["offset"][row])))


def names(log: EventLog, found: list[Shared]) -> dict[Row, TransactionReceived]:
    """The payments that name what is shown, read from the log."""
    wanted: list[Row] = []
    accounts: set[int] = set()
    for shared in found:
        wanted.append(shared.example)
        for other, (_, row) in shared.accounts.items():
            if len(accounts) < NODES_MAX or other in accounts:
                accounts.add(other)
                wanted.append(row)
    return payments_at(log, wanted)


def graph(
    found: list[Shared],
    read: Mapping[Row, TransactionReceived],
    account: str,
    left_out: dict[str, int],
    standing: Callable[[str], Standing],
    as_of: str,
) -> RelatedAnswer:
    """The answer. standing: looks up another account."""
    nodes = {f"account:{account}": Node(f"account:{account}", "account", sum(each.mine for each in found))}
    links = []
    hidden: set[int] = set()
    for shared in found:
        name = f"{shared.kind}:{getattr(read[shared.example], f'{shared.kind}_id')}"
        nodes[name] = Node(name, shared.kind, shared.mine + sum(n for n, _ in shared.accounts.values()))
        links.append(Link(f"account:{account}", name, shared.mine))
        for other, (count, row) in shared.accounts.items():
            named = f"account:{read[row].account_id}" if row in read else ""
            known = nodes.get(named)
            if known is None and (not named or len(nodes) >= NODES_MAX):
                hidden.add(other)
                continue
            at = standing(named.removeprefix("account:")) if known is None else Standing(known.fraud, known.blocked)
            nodes[named] = Node(named, "account", count + (known.count if known else 0), at.fraud, at.blocked)
            links.append(Link(name, named, count))
    return RelatedAnswer(as_of, list(nodes.values()), links, {**left_out, "account": len(hidden)})
