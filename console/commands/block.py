"""`sentinel block` and `sentinel unblock`: decline every payment of an account, or decide it normally again.

An account's events go through the feedback topic, so that a block is ordered with the account's payments and replays
with them. Appending it to the log directly would not be.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from console import wiring
from console.acts import Actor, act_of, teller
from console.commands.lists import print_edits, read_lines
from console.log_options import DIRECTORY, AsOf, LogOptions, asker, opened_states, settings_of
from console.options import Config, Json, KafkaServers, LogPrefix, RedisHost, RedisPort
from console.tables import print_fields, print_json, print_table, time_text
from core.codec import encode
from core.control_stream import identity_of
from core.errors import BadInput, SentinelError, Unavailable
from core.events import AccountBlocked, AccountUnblocked, Partitioner
from core.log.readonly import ReadOnlyLog
from core.partitions import partitions_of
from core.settings import Settings
from core.tokens import home
from ingest.attesting import Attest, attestor
from ingest.producer import publish
from ingest.submission import Rejected, Tally, submit_events, unsigned
from learners.governance.control_events import Act
from projections.audit.lookup import known_accounts
from projections.views.lists import LISTS, ListEdit, Member

Accounts = Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]...", help="Account IDs, exactly as sent.")]
Why = Annotated[str, typer.Option("--reason", help="Why. Required; recorded permanently in the log.")]
File = Annotated[Path | None, typer.Option("--file", help="File with one account a line, UTF-8.")]
Show = Annotated[bool, typer.Option("--show", help="Show blocked accounts (the given ones, or all); change nothing.")]
History = Annotated[bool, typer.Option("--history", help="Show every block and unblock; change nothing.")]
NoLookup = Annotated[
    bool, typer.Option("--no-lookup", help="Don't check in the log whether the accounts exist (and don't read it).")
]


def block(
    context: typer.Context,
    accounts: Accounts = None,
    config: Config = None,
    kafka_servers: KafkaServers = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    file: File = None,
    reason: Why = "",
    actor: Actor = "",
    no_lookup: NoLookup = False,
    show: Show = False,
    history: History = False,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Block accounts: from the next batch on, every payment of theirs is declined. Or show who is blocked.

    sentinel block a17 --reason "card reported stolen"

    sentinel block --show

    The block is sent to the feedback topic; an account that the log does not know is blocked too, with a warning.
    """
    s = wiring.settings(
        config, kafka_servers=kafka_servers, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix
    )
    names = _names(accounts, file)
    if show or history:
        context.obj = LogOptions(config, redis_host, redis_port, log_prefix, DIRECTORY)
        _show(context, names, as_of, as_json, is_history=history)
        return
    _only_with_show(as_of)
    _send(s, "blocked", names, act_of(actor, reason), as_json, is_lookup=not no_lookup)


def unblock(
    accounts: Accounts = None,
    config: Config = None,
    kafka_servers: KafkaServers = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    file: File = None,
    reason: Why = "",
    actor: Actor = "",
    no_lookup: NoLookup = False,
    as_json: Json = False,
) -> None:
    """Unblock accounts: from the next batch on, their payments are decided normally again."""
    s = wiring.settings(
        config, kafka_servers=kafka_servers, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix
    )
    _send(s, "unblocked", _names(accounts, file), act_of(actor, reason), as_json, is_lookup=not no_lookup)


def _only_with_show(as_of: str | None) -> None:
    if as_of is not None:
        raise BadInput("--as-of goes with --show or --history: the past can't be changed")


def _names(accounts: list[str] | None, file: Path | None) -> list[str]:
    names = list(dict.fromkeys([*(accounts or ()), *(read_lines(file) if file is not None else ())]))
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise BadInput(f"account {name!r} is not valid UTF-8") from None
    return names


def _send(s: Settings, what: str, accounts: Sequence[str], act: Act, as_json: bool, *, is_lookup: bool) -> None:
    """Send one event for each account and wait until every delivery is confirmed."""
    if not accounts:
        raise BadInput("no account given: name accounts, or a file of them with --file")
    found = _looked_up(s, accounts, act, is_lookup=is_lookup) if is_lookup or s.identity_key else _Found(act.actor)
    unknown = found.unknown
    kind = AccountBlocked if what == "blocked" else AccountUnblocked
    lines = []
    for number, account in enumerate(accounts, 1):
        event = kind(account_id=account, occurred_at=act.now_ms, actor=found.actor, reason=act.reason)
        lines.append((number, encode(event)))
    refused: list[Rejected] = []
    records = list(submit_events(lines, int(time.time() * 1000), Tally(), refused.append, found.attest))
    if refused:
        raise BadInput(f"{accounts[refused[0].line - 1]!r} can't be {what}: {refused[0].detail}")
    report = publish(records, s, timestamps="now", partitioner=found.partitioner)
    if report.interrupted:
        raise _Interrupted(
            f"interrupted after {report.sent['feedback']:,} of {len(accounts):,} accounts; send them again"
        )
    if as_json:
        print_json({"accounts": accounts, "outcome": what, "sent": report.sent["feedback"], "not_in_log": unknown})
        return
    for account in unknown:
        print(f"warning: account {account} has no transaction in the log; check the ID", file=sys.stderr)
    print(f"{len(accounts):,} sent to be {what}; a worker applies them with its next batch (sentinel block --show)")


class _Interrupted(SentinelError):
    exit_code = 130


class _Found(NamedTuple):
    """What the log tells: who acts, the log's partitioner (None: the settings'), the accounts without a transaction in
    it, and what signs.
    """

    actor: str
    partitioner: Partitioner | None = None
    unknown: Sequence[str] = ()
    attest: Attest = unsigned


def _looked_up(s: Settings, accounts: Sequence[str], act: Act, *, is_lookup: bool) -> _Found:
    try:
        log = ReadOnlyLog(wiring.open_log(s))
    except Unavailable as error:
        raise Unavailable(f"{error}; --no-lookup sends without reading the log") from error
    with closing(log):
        try:
            partitions = partitions_of(log)
        except BadInput as error:
            raise BadInput(f"{error}; --no-lookup sends without reading the log") from error
        name = identity_of(log).partitioner
        actor = teller(log) if log.signer is not None else act.actor
        found = _Found(actor, name, attest=attestor(s, log))
        if not is_lookup:
            return found
        asked = asker(s, log)
        known = {account: asked("account_id", account) for account in accounts}
        own = {home(account, name, len(partitions)) for account in known.values()}
        seen = known_accounts(log, sorted(own), list(known.values()))
    return found._replace(unknown=[account for account, held in known.items() if held not in seen])


def _show(context: typer.Context, names: list[str], as_of: str | None, as_json: bool, *, is_history: bool) -> None:
    """Blocked accounts, or every block and unblock; of the given accounts, or of all."""
    blocked: dict[str, Member] = {}
    edits: list[ListEdit] = []
    with opened_states(context, as_of) as states:
        asked = asker(settings_of(context), states.log)
        names = [asked("account_id", name) for name in names]
        moment = states.as_of
        own = {p for name in names for p in states.partitions_of_account(name)} if names else states.partitions
        for partition in sorted(own):
            state = states.of(LISTS, partition)
            blocked |= state.accounts
            edits += state.history
    wanted = set(names)
    edits = sorted((e for e in edits if not wanted or e.value in wanted), key=lambda edit: edit.occurred_at)
    held = {name: by for name, by in sorted(blocked.items()) if not wanted or name in wanted}
    if as_json:
        answer: dict[str, Any] = {"history": edits} if is_history else {"blocked_accounts": held}
        print_json({"as_of": moment, **answer})
        return
    if is_history:
        print_edits(edits)
        print_fields({"changes": len(edits), "as_of": moment})
        return
    rows = [{**msgspec.to_builtins(by), "account": name, "since": time_text(by.since)} for name, by in held.items()]
    print_table(("account", "since", "actor", "reason", "position"), rows)
    print_fields({"blocked": len(held), "as_of": moment})
