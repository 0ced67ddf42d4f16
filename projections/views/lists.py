"""Block, watch and allow lists, and blocked accounts, each with who added it, when and why. One projection, two folds:
lists over the control stream, blocked accounts over each partition's feedback.

Values are in canonical form (`core.canonical`), as decisions compare them. Removals are kept in the history. Times are
when the actor acted, epoch ms.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from core.canonical import canonical
from core.events import AccountBlocked, AccountUnblocked, ListChanged
from projections.engine.base import Fact, Projection
from projections.engine.states import States


class Member(msgspec.Struct, frozen=True):
    """A value on a list, or a blocked account. `position`: control position, or the feedback entry's ID."""

    since: int
    position: str
    actor: str
    reason: str


class ListEdit(msgspec.Struct, frozen=True):
    """One value added to or removed from one list. refused: why it had no effect, "" if it had."""

    action: Literal["add", "remove"]
    name: str
    value: str
    occurred_at: int
    position: str
    actor: str
    reason: str
    refused: str = ""


class Lists(msgspec.Struct):
    """members: `"card:block"` → value → Member. accounts: blocked accounts. history: changes, oldest first."""

    members: dict[str, dict[str, Member]] = {}
    accounts: dict[str, Member] = {}
    history: list[ListEdit] = []


def _changed(state: Lists, fact: Fact) -> None:
    event: ListChanged = fact.event
    name, position = f"{event.kind}:{event.effect}", str(fact.id.generation)
    members = state.members.setdefault(name, {})
    member = Member(event.occurred_at, position, event.actor, event.reason)
    for value in filter(None, (canonical(event.kind, given) for given in event.add)):
        if value not in members:
            members[value] = member
            state.history.append(_change("add", name, value, member))
    for value in (canonical(event.kind, given) for given in event.remove):
        if members.pop(value, None) is not None:
            state.history.append(_change("remove", name, value, member))


def _refused(state: Lists, fact: Fact) -> None:
    if isinstance(fact.event, ListChanged):
        event, name = fact.event, f"{fact.event.kind}:{fact.event.effect}"
        by = Member(event.occurred_at, str(fact.id.generation), event.actor, event.reason)
        state.history += [_change("add", name, value, by, fact.refused) for value in event.add]
        state.history += [_change("remove", name, value, by, fact.refused) for value in event.remove]


def _blocked(state: Lists, fact: Fact) -> None:
    event: AccountBlocked = fact.event
    member = Member(event.occurred_at, str(fact.id), event.actor, event.reason)
    if event.account_id not in state.accounts:
        state.accounts[event.account_id] = member
        state.history.append(_change("add", "account:blocked", event.account_id, member))


def _unblocked(state: Lists, fact: Fact) -> None:
    event: AccountUnblocked = fact.event
    if state.accounts.pop(event.account_id, None) is not None:
        by = Member(event.occurred_at, str(fact.id), event.actor, event.reason)
        state.history.append(_change("remove", "account:blocked", event.account_id, by))


def _change(action: Literal["add", "remove"], name: str, value: str, by: Member, refused: str = "") -> ListEdit:
    return ListEdit(action, name, value, by.since, by.position, by.actor, by.reason, refused)


LISTS = Projection(
    name="lists",
    holds="block, watch and allow lists; blocked accounts; all changes",
    version=2,
    state_type=Lists,
    handlers={ListChanged: _changed, AccountBlocked: _blocked, AccountUnblocked: _unblocked},
    refusal=_refused,
)


class ListsAnswer(msgspec.Struct, frozen=True):
    """Lists by `"kind:effect"`, blocked accounts, and changes of both, oldest first."""

    as_of: str
    members: dict[str, dict[str, Member]]
    blocked_accounts: dict[str, Member]
    history: list[ListEdit]


def lists_answer(states: States) -> ListsAnswer:
    """Block, watch and allow lists, and blocked accounts: since when, by whom and why."""
    control = states.of_control(LISTS)
    history, accounts = list(control.history), {}
    for state in states.by_partition(LISTS).values():
        accounts.update(state.accounts)
        history += state.history
    history.sort(key=lambda change: change.occurred_at)
    members = {name: held for name, held in sorted(control.members.items()) if held}
    return ListsAnswer(states.as_of, members, dict(sorted(accounts.items())), history)
