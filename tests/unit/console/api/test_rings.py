"""Rings against a plain search through the graph of accounts, devices and cards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

from console.api import rings
from console.api.index import DECISIONS
from console.api.related import COMMON_MAX
from core.codec import decode_score, decode_transaction
from core.log.memory import MemoryLog
from core.log.paging import decision_pages
from tests.builders.api import Served
from tests.builders.baseline_log import PARTITIONS


class Paid(NamedTuple):
    """A payment, as much as rings need of it."""

    account: str
    device: str
    card: str
    amount: float
    declined: bool
    alert: bool
    at: int


def components(paid: Iterable[Paid]) -> list[set[str]]:
    """The rings' accounts, by search from each account: no union-find, no matrix."""
    users: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in paid:
        for kind in ("device", "card"):
            if name := getattr(each, kind):
                users[kind, name].add(each.account)
    beside: dict[str, set[str]] = defaultdict(set)
    for who in users.values():
        if 2 <= len(who) <= COMMON_MAX:
            for account in who:
                beside[account] |= who
    seen: set[str] = set()
    found = []
    for account in beside:
        if account in seen:
            continue
        ring, waiting = {account}, [account]
        while waiting:
            for other in beside[waiting.pop()] - ring:
                ring.add(other)
                waiting.append(other)
        seen |= ring
        if len(ring) >= rings.MEMBERS_MIN:
            found.append(ring)
    return found


def figures(ring: set[str], paid: Iterable[Paid]) -> dict[str, Any]:
    """What an answer says of a ring, counted."""
    mine = [each for each in paid if each.account in ring]
    return {
        "accounts": len(ring),
        "payments": len(mine),
        "alerts": sum(each.alert for each in mine),
        "declined": sum(each.declined for each in mine),
        "amount": pytest.approx(sum(each.amount for each in mine)),
        "amount_declined": pytest.approx(sum(each.amount for each in mine if each.declined)),
        "first": min(each.at for each in mine),
        "last": max(each.at for each in mine),
    }


def columns(paid: list[Paid]) -> Mapping[int, dict[str, np.ndarray[Any, Any]]]:
    """The index's columns of payments in two partitions, by account."""
    parts: dict[int, list[Paid]] = {0: [], 1: []}
    for each in paid:
        parts[len(each.account) % 2].append(each)
    return {
        p: {
            "generation": np.ones(len(part), np.int32),
            "offset": np.arange(len(part), dtype=np.int64),
            "at": np.array([each.at for each in part], dtype=np.int64),
            "amount": np.array([each.amount for each in part]),
            "account": np.array([hash(each.account) for each in part], dtype=np.int64),
            "device": np.array([hash(each.device) for each in part], dtype=np.int64),
            "card": np.array([hash(each.card) for each in part], dtype=np.int64),
            "decision": np.array([DECISIONS.index("decline" if e.declined else "approve") for e in part], np.int8),
            "severity": np.array([int(each.alert) for each in part], np.int8),
        }
        for p, part in parts.items()
    }


@pytest.mark.parametrize("seed", range(12))
def test_rings_are_the_components_of_what_few_share(seed: int) -> None:
    """On random payments, sparse and dense: the same rings, figures and order as by plain search."""
    random = np.random.Generator(np.random.PCG64(seed))
    things = (5, 30, 120, 400)[seed % 4]
    paid = [
        Paid(
            f"a{random.integers(0, 120)}",
            "" if random.random() < 0.3 else f"d{random.integers(0, things)}",
            "" if random.random() < 0.5 else f"c{random.integers(0, 2 * things)}",
            round(float(random.exponential(50)), 2),
            bool(random.random() < 0.1),
            bool(random.random() < 0.1),
            int(random.integers(1_000, 2_000)),
        )
        for _ in range(300)
    ]
    recent = [each for each in paid if each.at >= 1_200]
    found = rings.find(rings.rows_since(columns(paid), 1_200), 1_000)
    expected = [figures(ring, recent) for ring in components(recent)]
    got = found.rings.drop("component", "ring").to_dicts()
    assert found.found == len(got) == len(expected)
    for each in got:
        expected.remove(each)
    order = [(each["amount_declined"], each["alerts"], each["accounts"]) for each in got]
    assert order == sorted(order, reverse=True)
    users: dict[str, set[str]] = defaultdict(set)
    for each in recent:
        users[each.device].add(each.account)
    assert found.left_out["device"] == sum(len(who) > COMMON_MAX for name, who in users.items() if name)
    assert rings.find(rings.rows_since(columns(paid), 1_200), 1).found == found.found


def test_nothing_shared_is_no_ring() -> None:
    """Accounts without devices and cards, and pairs, make none; nor does an empty log."""
    nobody = rings.find(rings.rows_since(columns([]), 0), 20)
    assert (nobody.found, len(nobody.rings), len(nobody.members)) == (0, 0, 0)
    pair = [Paid("a1", "d1", "", 1.0, False, False, 5), Paid("a22", "d1", "", 1.0, False, False, 6)]
    alone = [Paid(f"a{n}", "", "", 1.0, False, False, 5) for n in range(9)]
    assert rings.find(rings.rows_since(columns([*pair, *alone]), 0), 20).found == 0


def test_the_route_names_members_and_what_connects_them(api: Served, decided: MemoryLog) -> None:
    """Names, counts and standing are those of the log."""
    paid, newest = [], 0
    for p in range(PARTITIONS):
        for transactions, scores in decision_pages(decided, p):
            for entry, score in zip(transactions, scores, strict=True):
                t, s = decode_transaction(entry.payload), decode_score(score.payload)
                at, is_declined = t.received_at or t.occurred_at, s.decision == "decline"
                alert, newest = s.severity is not None, max(newest, t.recorded_at)
                paid.append(Paid(t.account_id, t.device_id, t.card_id, t.amount * t.rate, is_declined, alert, at))
    answer = api.get("/v1/rings", "auditor", limit=500, as_of=str(newest)).json()
    since = [each for each in paid if each.at >= answer["since"]]
    expected = components(since)
    assert answer["found"] == len(answer["rings"]) == len(expected) > 0
    for ring in answer["rings"]:
        whole = next(each for each in expected if ring["members"][0]["account"] in each)
        assert figures(whole, since) == {name: ring[name] for name in figures(whole, since)}
        assert {member["account"] for member in ring["members"]} <= whole
        assert len(ring["members"]) == min(len(whole), rings.NAMED_MAX)
        for member in ring["members"]:
            assert member["payments"] == sum(each.account == member["account"] for each in since)
            profile = api.get(f"/v1/accounts/{member['account']}", "auditor", as_of=str(newest)).json()["profile"]
            assert member["blocked"] == profile["blocked"]
        for thing in ring["things"]:
            users = {each.account for each in since if getattr(each, thing["kind"]) == thing["id"]}
            assert users <= whole and thing["accounts"] == len(users)
        for kind in ("device", "card"):
            shared = defaultdict(set)
            for each in since:
                shared[getattr(each, kind)].add(each.account)
            few = [n for n, who in shared.items() if n and 2 <= len(who) <= COMMON_MAX and who <= whole]
            assert ring[f"{kind}s"] == len(few)
