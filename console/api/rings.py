"""Rings: accounts that devices and cards connect, from the index. Pure but for `named`, which reads the log.

A ring is a connected component, of at least MEMBERS_MIN accounts, of the graph of accounts and the devices and cards
they paid with within RANGE_MS before the moment. What more than COMMON_MAX accounts share connects nobody and is
counted: a hotel's tablet is no ring. Merchants connect nobody: everybody buys somewhere. The rings with most money
declined come first, then those with most alerts and members.

Cost: two groupings of the range's rows by hash, off the lock, 0.3 s of CPU for two million decisions; and one round
trip to the log for each partition. Components: scipy's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from console.api.index import DECISIONS
from console.api.places import PLACE, Row, payments_at, place_of, table
from console.api.related import COMMON_MAX, Standing
from console.api.views import Columns
from core.events import TransactionReceived
from core.log.base import EventLog
from core.times import DAY_MS

RANGE_MS = 30 * DAY_MS
MEMBERS_MIN = 3
NAMED_MAX = 8
KINDS = ("device", "card")
"""What connects accounts, by the names of the index's columns."""
_READ = ("at", "amount", "account", "decision", "severity", *KINDS)
_DECLINED = DECISIONS.index("decline")


class Member(msgspec.Struct, frozen=True):
    """An account of a ring. payments: in the range. fraud: verdicts of fraud on it; blocked: whether it is."""

    account: str
    payments: int
    fraud: int
    blocked: bool


class Thing(msgspec.Struct, frozen=True):
    """A device or card that connects accounts, and how many."""

    kind: str
    id: str
    accounts: int


class Ring(msgspec.Struct, frozen=True):
    """accounts, devices, cards: how many there are; members and things: at most NAMED_MAX of them, those with most
    declined payments and most accounts first. Amounts in the base currency, times in epoch ms.
    """

    accounts: int
    devices: int
    cards: int
    payments: int
    alerts: int
    declined: int
    amount: float
    amount_declined: float
    first: int
    last: int
    members: list[Member]
    things: list[Thing]


class RingsAnswer(msgspec.Struct, frozen=True):
    """The first rings of `found`. as_of: the cut of the payments; asked as of now, verdicts and blocks may be those of
    a moment later. since: epoch ms of receipt. left_out: by kind, how many things were too common to connect anybody.
    """

    as_of: str
    since: int
    rings: list[Ring]
    found: int
    left_out: dict[str, int]


class Found(NamedTuple):
    """Rings without names, in the order of the answer: a row for each, its members (ring, payments) and its things
    (ring, kind, accounts), the last two with the place of a payment that names them.
    """

    rings: pl.DataFrame
    members: pl.DataFrame
    things: pl.DataFrame
    found: int
    left_out: dict[str, int]


def rows_since(columns: Mapping[int, Columns], since: int) -> pl.DataFrame:
    """What `find` needs of the payments received at `since` (epoch ms) or later."""
    return table(columns, _READ, lambda c: c["at"] >= since)


def find(rows: pl.DataFrame, count: int) -> Found:
    """The first `count` rings of these payments."""
    links, left_out = [], {}
    for kind in KINDS:
        shared = _shared(rows, kind)
        left_out[kind] = shared.filter(pl.col("accounts") > COMMON_MAX)["thing"].n_unique()
        links.append(shared.filter(pl.col("accounts") <= COMMON_MAX))
    joined = pl.concat(links)
    accounts = joined.select("account").unique()
    accounts = accounts.with_columns(component=pl.Series(_components(joined, accounts["account"]), dtype=pl.Int64))
    large = accounts.filter(pl.len().over("component") >= MEMBERS_MIN)
    payments = rows.join(large, "account")
    declined = pl.col("decision") == _DECLINED
    rings = payments.group_by("component").agg(
        accounts=pl.col("account").n_unique(),
        payments=pl.len(),
        alerts=(pl.col("severity") > 0).sum(),
        declined=declined.sum(),
        amount=pl.col("amount").sum(),
        amount_declined=pl.col("amount").filter(declined).sum(),
        first=pl.col("at").min(),
        last=pl.col("at").max(),
        row=pl.col("row").min(),
    )
    order = ["amount_declined", "alerts", "accounts", "row"]
    rings = rings.sort(order, descending=[True, True, True, False])
    shown = rings.head(count).with_row_index("ring").drop("row")
    of = shown.select("component", "ring")
    members = (
        payments.join(of, "component")
        .group_by("ring", "account")
        .agg(pl.col("row").min(), payments=pl.len(), declined=declined.sum())
        .join(rows.select("row", *PLACE), "row")
        .sort(["ring", "declined", "payments", "row"], descending=[False, True, True, False])
    )
    things = (
        joined.join(large, "account")
        .join(of, "component")
        .group_by("ring", "kind", "thing")
        .agg(pl.col("row").min(), pl.col("accounts").first())
        .join(rows.select("row", *PLACE), "row")
        .sort(["ring", "accounts", "row", "kind"], descending=[False, True, False, False])
    )
    return Found(shown, members, things, len(rings), left_out)


def _shared(rows: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Each account of each thing that two or more paid with: thing, account, row, accounts, kind. Most things have one
    account; the least and the greatest tell, for less than all pairs would cost.
    """
    payments, account = rows.lazy().filter(pl.col(kind) != hash("")), pl.col("account")
    things = payments.group_by(kind).agg(account.min().alias("least"), account.max().alias("greatest"))
    several = things.filter(pl.col("least") != pl.col("greatest"))
    pairs = payments.join(several, on=kind, how="semi").group_by(pl.col(kind).alias("thing"), "account")
    first = pairs.agg(pl.col("row").min())
    return first.with_columns(pl.len().over("thing").alias("accounts"), pl.lit(kind).alias("kind")).collect()


def _components(links: pl.DataFrame, accounts: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """The component of each account, by the links between accounts and things."""
    things = links.select("kind", "thing").unique().with_row_index("node", len(accounts))
    numbered = pl.DataFrame({"account": accounts}).with_row_index("member")
    edges = links.join(things, ["kind", "thing"]).join(numbered, "account")
    size = len(accounts) + len(things)
    ends = edges["member"].to_numpy(), edges["node"].to_numpy()
    _, found = connected_components(coo_array((np.ones(len(edges), np.int8), ends), (size, size)), directed=False)
    part: np.ndarray[tuple[int], np.dtype[np.int32]] = found[: len(accounts)]
    return part


def named(log: EventLog, found: Found) -> dict[Row, TransactionReceived]:
    """The payments that name the members and things that are shown, read from the log."""
    shown = [each for frame in (found.members, found.things) for each in _shown(frame)]
    return payments_at(log, map(place_of, shown))


def answer(
    found: Found,
    read: Mapping[Row, TransactionReceived],
    standing: Callable[[str], Standing],
    as_of: str,
    since: int,
) -> RingsAnswer:
    """The answer. standing: looks up an account."""
    members: list[list[Member]] = [[] for _ in range(len(found.rings))]
    things: list[list[Thing]] = [[] for _ in range(len(found.rings))]
    for each in _shown(found.members):
        account = read[place_of(each)].account_id
        members[each["ring"]].append(Member(account, each["payments"], *standing(account)))
    for each in _shown(found.things):
        name = getattr(read[place_of(each)], f"{each['kind']}_id")
        things[each["ring"]].append(Thing(each["kind"], name, each["accounts"]))
    counts = found.things.group_by("ring", "kind").len()
    by_kind = {(ring, kind): count for ring, kind, count in counts.iter_rows()}
    rings = [
        Ring(
            **{name: each[name] for name in Ring.__struct_fields__ if name in each},
            devices=by_kind.get((number, "device"), 0),
            cards=by_kind.get((number, "card"), 0),
            members=members[number],
            things=things[number],
        )
        for number, each in enumerate(found.rings.to_dicts())
    ]
    return RingsAnswer(as_of, since, rings, found.found, found.left_out)


def _shown(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The first NAMED_MAX rows of each ring."""
    return frame.group_by("ring", maintain_order=True).head(NAMED_MAX).to_dicts()
