"""A log that a program with own fields, features, rules and words decides from the middle on."""

from __future__ import annotations

from collections.abc import Sequence

from core.events import Control, ProgramDeployed, ProgramRegistered, Transaction
from core.program import document, library, loading
from core.program.inputs import own_offers
from core.program.loading import Loaded
from core.program.plan import plan
from tests.builders.events import T0, transaction
from tests.builders.live import NOW, Live

TOML = b"""
[program]
name = "house"
version = "1.0.0"
uses = ["standard@1"]

[fields]
distance_km = { from = "attributes.dist1", type = "number" }
shelf = { from = "attributes.shelf", type = "string", default = "none" }

[parameters]
far_km = 100

[features]
far = { value = "distance_km / 10.0", unit = "10 km" }
amount_again = "amount"
kept_out = { value = "distance_km + 1.0", log = false }

[[rules]]
code = "FAR"
when = "far * 10.0 > far_km && kept_out > 0"
effect = "review"
words = "{distance_km:.0f} km ({far:.1f} tens, {kept_out}) > {far_km:,.0f}, {amount_again:,.2f} {currency} {shelf}"

[[rules]]
code = "SILENT"
when = "far > 1000"
effect = "decline"

[[rules]]
code = "WATCHED"
when = "shelf == 'top'"
effect = "decline"
mode = "shadow"
words = "shelf {shelf}"

[[rules]]
code = "AMOUNT_HIGH"
words = "house limit: {amount:,.0f}, {distance_km:.1f} km"

[decision.actions]
low = ["notify_customer"]
"""


def house() -> Loaded:
    """The program."""
    return loading.check(TOML)


def deployment(loaded: Loaded) -> list[Control]:
    """The events that make a program decide whose document is in the log."""
    name, version = loaded.program.name, loaded.program.version
    offered = own_offers(plan(loaded.checked, library.kernel()))
    return [
        ProgramRegistered(
            occurred_at=T0, actor="ann", name=name, version=version, digest=loaded.digest, offers=offered
        ),
        ProgramDeployed(occurred_at=T0, actor="ann", digest=loaded.digest),
    ]


def payments(first: int, count: int, amount: float = 20.0) -> list[Transaction]:
    """Payments of five accounts, a minute apart, from farther and farther away; every fourth one states no distance."""
    return [
        transaction(
            n,
            account_id=f"a{n % 5}",
            amount=amount,
            occurred_at=NOW + 60_000 * n,
            attributes={"shelf": "top" if n % 3 else "low"} | ({"dist1": 20.0 * n} if n % 4 else {}),
        )
        for n in range(first, first + count)
    ]


def own_log(before: int = 8, after: int = 16, more: Sequence[Transaction] = ()) -> Live:
    """`before` payments decided by the standard program, then `after` and `more` by `house`."""
    live = Live()
    live.send(payments(0, before), NOW + 60_000 * before)
    live.log.put_blob(document.canonical(house().program))
    live.change(*deployment(house()))
    items = [*payments(before, after), *more]
    live.send(items, NOW + 60_000 * (before + len(items)))
    return live
