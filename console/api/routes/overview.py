"""What the console's pages need beside the read models: the last half hour, who else, and rings."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from litestar import Response, get

from console.api import rings
from console.api.overview import LiveAnswer, live
from console.api.related import RelatedAnswer, Standing, graph, names, shared_with
from console.api.requests import Asked, AsOf, Limit, Name, desk, json
from projections.engine.states import States
from projections.views.labels import LABELS, Labels
from projections.views.lists import LISTS, Lists


@get("/v1/live", tags=["system"], summary="What was decided in the last half hour, and what is in force")
async def live_now(request: Asked, as_of: AsOf = None) -> Response[LiveAnswer]:
    """By minute of recording, up to the moment."""
    asked = desk(request)
    look = partial(live, changes=asked.changes)
    return json(await asked.run(asked.views.looked_at, as_of, look))


@get("/v1/accounts/{id:str}/related", tags=["accounts"], summary="Accounts that share a device, card or merchant")
async def related_to(request: Asked, id: Name, as_of: AsOf = None) -> Response[RelatedAnswer]:
    """Within 90 days before the moment; at most 40 nodes. What more than 10 accounts share is left out."""
    views, log = desk(request).views, desk(request).log
    account = desk(request).asked("account_id", id)

    def answer() -> RelatedAnswer:
        (found, left_out), cut = views.looked_at(
            as_of, lambda states, c: (shared_with(c, account, states.moment), states.as_of)
        )
        read = names(log, found)  # without the lock that the states are read under
        return views.looked_at(as_of, lambda states, _: graph(found, read, account, left_out, _standing(states), cut))

    return json(await desk(request).run(answer))


@get("/v1/rings", tags=["accounts"], summary="Accounts that shared devices and cards connect")
async def rings_found(request: Asked, limit: Limit = 20, as_of: AsOf = None) -> Response[rings.RingsAnswer]:
    """Of three accounts and more, within 30 days before the moment; those with most money declined first. What more
    than 10 accounts share connects nobody.
    """
    views, log = desk(request).views, desk(request).log

    def answer() -> rings.RingsAnswer:
        since, rows, cut = views.looked_at(
            as_of, lambda states, c: (s := states.moment - rings.RANGE_MS, rings.rows_since(c, s), states.as_of)
        )
        found = rings.find(rows, limit)  # without the lock that the states are read under
        read = rings.named(log, found)
        return views.looked_at(as_of, lambda states, _: rings.answer(found, read, _standing(states), cut, since))

    return json(await desk(request).run(answer))


def _standing(states: States) -> Callable[[str], Standing]:
    """Looks up accounts in the read models of their partitions, each of which is made once."""

    @cache
    def held(partition: int) -> tuple[Lists, Labels]:
        return states.of(LISTS, partition), states.of(LABELS, partition)

    def look(name: str) -> Standing:
        frauds, is_blocked = 0, False
        for lists, labels in map(held, states.partitions_of_account(name)):
            is_blocked |= name in lists.accounts
            if (own := labels.accounts.get(name)) is not None:
                frauds += sum(word.verdict == "fraud" for words in own.verdicts.values() for word in words)
        return Standing(frauds, is_blocked)

    return look


HANDLERS = [live_now, related_to, rings_found]
