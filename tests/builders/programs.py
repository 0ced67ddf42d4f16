"""A program as a fraud team would write it, and ways to put programs into logs."""

from __future__ import annotations

from core.events import Control, ProgramDeployed, ProgramRegistered
from core.log.base import EventLog
from core.program import document, library
from core.program.inputs import own_offers
from core.program.loading import Loaded, check
from core.program.plan import plan

CARDS = b"""
[program]
name = "cards"
version = "1.0.0"
uses = ["standard@1"]

[entities]
pair = ["account_id", "merchant_id"]

[features]
reviews_1d = "count(account, '24h', decision == 'review')"
alerts_7d = "count(account, '7d', alerted)"
again_30d = "count(account, '30d', hit('AGAIN'))"
big_30d = "sum(account, '30d', amount, amount > 100)"
country_changed = "default(last(account, country) != country, false)"
spread = "default(std(account, '30d', amount), -1)"
frauds_30d = "count(account, '30d', verdict == 'fraud')"
at_merchant = "count(pair, '30d')"
big_share = "ratio(big_30d, sum_30d)"

[[rules]]
code = "AGAIN"
when = "reviews_1d >= 1 && amount > 20"
effect = "review"
words = "{reviews_1d:.0f} reviews within a day before"

[[rules]]
code = "QUIET"
when = "alerts_7d > 2 && country_changed"
effect = "decline"
mode = "shadow"
words = "another country after {alerts_7d:.0f} alerts"

[[rules]]
code = "PARTLY"
when = "spread > 30 && frauds_30d == 0"
effect = "review"
rollout = 20
words = "amounts vary by {spread:,.2f}"
"""


def stored(log: EventLog, content: bytes = CARDS) -> Loaded:
    """The program, stored in the log with the libraries that it uses."""
    loaded = check(content)
    for digest in loaded.program.uses.values():
        log.put_blob(library.content(digest))
    assert log.put_blob(document.canonical(loaded.program)) == loaded.digest
    return loaded


def deployed(loaded: Loaded, occurred_at: int = 6) -> list[Control]:
    """The events that register the program and let it decide."""
    name, version = loaded.program.name, loaded.program.version
    offered = own_offers(plan(loaded.checked, library.kernel()))
    return [
        ProgramRegistered(
            occurred_at=occurred_at, actor="ann", name=name, version=version, digest=loaded.digest, offers=offered
        ),
        ProgramDeployed(occurred_at=occurred_at, actor="ann", digest=loaded.digest),
    ]
