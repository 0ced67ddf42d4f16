"""`sentinel respond`: carries out what alerts recommend; switches actions on and off; shows what waits and what failed.

Only actions that somebody switched on are carried out: what acts on the world is a recorded decision of a person.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import msgspec
import typer

from console import profiles, wiring
from console.acts import Actor, Reason, act_of, teller
from console.follower_health import followed
from console.log_options import DIRECTORY, Checkpoints
from console.options import Config, Json, KafkaServers, LogPrefix, RedisHost, RedisPort
from console.tables import print_fields, print_json, print_table, span_text, time_text
from core.codec import encode
from core.control_stream import current
from core.errors import BadInput, Unavailable
from core.events import ActionRequested
from core.log.base import EventLog
from core.log.readonly import ReadOnlyLog
from core.partitions import partitions_of
from core.responses import Switch
from core.settings import Settings
from ingest import telemetry
from ingest.attesting import attestor
from ingest.health import BOARD, Health
from ingest.outlet import KafkaOutlet
from ingest.responding import GroupOwner, WholeLog
from ingest.trace_origins import Traces
from projections.catalogue import ALL
from projections.engine.checkpoints import CheckpointStore
from projections.engine.states import open_states
from projections.views.responses import ResponseRow, responses_answer
from responders.engine import Responder
from responders.following import Follower
from responders.metrics import RESPONDER, begin
from responders.outbox import Item, Parked
from responders.rehearsal import Rehearsal, rehearsed
from responders.secrets import open_channels
from responders.settings import ACTIONS, NOTIFYING, UNBLOCK, RespondSettings, respond_settings
from responders.switching import Switched, Why, switch_off, switch_on

app = typer.Typer(
    help="Carry out what alerts recommend: run a responder, or switch actions on and off, show, retry.",
    rich_markup_mode=None,
)
Actions = Annotated[list[str] | None, typer.Argument(metavar="[ACTION]...", help=", ".join(ACTIONS))]


@dataclass(frozen=True)
class _Options:
    config: Path | None
    kafka_servers: str | None
    redis_host: str | None
    redis_port: int | None
    log_prefix: str | None
    directory: Path

    def settings(self) -> Settings:
        return wiring.settings(
            self.config,
            kafka_servers=self.kafka_servers,
            redis_host=self.redis_host,
            redis_port=self.redis_port,
            log_prefix=self.log_prefix,
        )


@app.callback(invoke_without_command=True)
def respond(
    context: typer.Context,
    config: Config = None,
    kafka_servers: KafkaServers = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    checkpoint_directory: Checkpoints = DIRECTORY,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be done from now on; do nothing, and write nothing anywhere."),
    ] = False,
    standby: Annotated[
        bool, typer.Option("--standby", help="Also run while no action is switched on, and wait for one.")
    ] = False,
) -> None:
    """Run a responder: carry out the actions that are switched on, for every live alert, until it is stopped.

    Start as many as you like: they share the partitions, and take over from one that dies. First switch on what they
    shall do:

    sentinel respond on queue_for_review block_account --reason "agreed with operations"

    sentinel respond

    Options that name servers come before a subcommand or after it. SIGTERM and Ctrl-C end what is running in order.
    """
    context.obj = _Options(config, kafka_servers, redis_host, redis_port, log_prefix, checkpoint_directory)
    if context.invoked_subcommand is None:
        _run(context.obj.settings(), dry_run=dry_run, standby=standby)
    elif dry_run or standby:
        raise BadInput(f"--{'dry-run' if dry_run else 'standby'} goes without a subcommand")


@app.command()
def on(
    context: typer.Context,
    reason: Reason,
    actions: Actions = None,
    actor: Actor = "",
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="Also carry out what has waited since it was switched off.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Switch actions on, for alerts from now on. Recorded permanently."""
    s: Settings = context.obj.settings()
    found = respond_settings(s.responders)
    for action in actions or ():
        if action in NOTIFYING and action not in found.actions:
            raise BadInput(
                f"{action} has no channel yet: give it one in [responders.actions.{action}] of the settings file"
            )
    with closing(wiring.open_log(s)) as log:
        done = switch_on(log, actions or [], _why(actor, reason, log), catch_up=catch_up)
    _show_switched(done, as_json)


@app.command()
def off(
    context: typer.Context, reason: Reason, actions: Actions = None, actor: Actor = "", as_json: Json = False
) -> None:
    """The kill switch: hold these actions back, or all, at once and everywhere. Recorded permanently."""
    with closing(wiring.open_log(context.obj.settings())) as log:
        done = switch_off(log, actions or [], _why(actor, reason, log))
    _show_switched(done, as_json)


def _why(actor: str, reason: str, log: EventLog | None = None) -> Why:
    act = act_of(actor, reason, log)
    return Why(act.actor, act.reason, act.now_ms)


def _show_switched(done: Switched, as_json: bool) -> None:
    if as_json:
        print_json({"position": done.position, "changed": done.changed, "switches": done.switches})
        return
    held = {name: "on" if switch.enabled else "off" for name, switch in done.switches.items() if name != UNBLOCK}
    print_fields(held or {"actions": "none is switched on"})
    print("changed" if done.changed else "nothing to change")


@app.command()
def status(context: typer.Context, as_json: Json = False) -> None:
    """What is switched on, what waits, what is parked, and how soon actions followed their alerts."""
    given: _Options = context.obj
    s = given.settings()
    settings = respond_settings(s.responders)
    with _followed(s) as follower:
        parts = [follower.part(partition) for partition in follower.partitions]
        waiting = sorted((item for part in parts for item in part.waiting.values()), key=lambda i: i.requested_at)
        parked = sorted((each for part in parts for each in part.parked.values()), key=lambda p: p.failed_at)
        store = CheckpointStore(given.directory, s.log_prefix)
        states = open_states(follower.log, ALL, store, now_ms=int(time.time() * 1000))
        sla_ms = {str(severity): int(seconds * 1000) for severity, seconds in settings.sla_s.items()}
        answer = responses_answer(states, sla_ms)
        switches = follower.rules.switches
    if as_json:
        print_json(
            {
                "switches": switches,
                "waiting": [_waiting(item) for item in waiting],
                "parked": [_parked(each) for each in parked],
                "repeated": sum(part.repeated for part in parts),
                "responses": answer.responses,
            }
        )
        return
    now = int(time.time() * 1000)
    print_table(("action", "severity", "succeeded", "failed", "median", "p99", "in time"), map(_row, answer.responses))
    print_table(("alert", "action", "account", "code", "error", "since"), map(_parked, parked[-20:]))
    print_fields({name: "on" if each.enabled else "off" for name, each in switches.items() if name != UNBLOCK})
    oldest = span_text(max(now - waiting[0].requested_at, 0)) if waiting else "none"
    print_fields({"waiting": len(waiting), "oldest": oldest, "parked": len(parked)})
    if parked:
        print("try one again: sentinel respond retry ALERT ACTION --reason …")


def _row(row: ResponseRow) -> dict[str, Any]:
    return {
        **msgspec.to_builtins(row),
        "failed": ", ".join(f"{code} {count:,}" for code, count in row.failed.items()),
        "median": "" if row.p50_ms is None else span_text(row.p50_ms),
        "p99": "" if row.p99_ms is None else span_text(row.p99_ms),
        "in time": "" if row.met is None or row.sla_ms is None else f"{row.met:.1%} ≤ {span_text(row.sla_ms)}",
    }


def _waiting(item: Item) -> dict[str, Any]:
    return {
        "alert": item.alert_id,
        "action": item.action,
        "account": item.account_id,
        "severity": item.severity,
        "requested_at": item.requested_at,
    }


def _parked(each: Parked) -> dict[str, Any]:
    return {
        "alert": each.item.alert_id,
        "action": each.item.action,
        "account": each.item.account_id,
        "code": each.code,
        "error": each.error,
        "since": time_text(each.failed_at),
    }


@app.command()
def retry(
    context: typer.Context,
    alert: Annotated[str, typer.Argument(help="The alert's ID, as `sentinel respond status` shows it.")],
    action: Annotated[str, typer.Argument(help="The parked action.")],
    reason: Reason,
    actor: Actor = "",
) -> None:
    """Ask for a parked action again. Its idempotency key stays the same."""
    s: Settings = context.obj.settings()
    with _followed(s) as follower:
        why = _why(teller(follower.log, actor), reason)
        why.check()
        parts = [follower.part(partition) for partition in follower.partitions]
        found = next((part.parked[alert, action] for part in parts if (alert, action) in part.parked), None)
        if found is None:
            raise BadInput(f"{action} of alert {alert} is not parked; sentinel respond status shows what is")
        item = found.item
        event = ActionRequested(
            account_id=item.account_id,
            action=action,
            occurred_at=why.now_ms,
            actor=why.actor,
            causation_id=alert,
            reason=why.reason[:500],
        )
        generation = current(follower.log).generations["feedback"].number
        KafkaOutlet(s, lambda: generation, attestor(s, follower.log)).send([item.outgoing(encode(event))])
    print("sent; a responder carries it out once a worker has recorded it")


@contextmanager
def _followed(s: Settings) -> Iterator[Follower]:
    """The outbox as of now."""
    with closing(ReadOnlyLog(wiring.open_log(s))) as log:
        follower = Follower(log, partitions_of(log))
        follower.step()
        yield follower


def _run(s: Settings, *, dry_run: bool, standby: bool) -> None:
    telemetry.configure_logging(s)
    settings = respond_settings(s.responders)
    with closing(profiles.open_log(s, profiles.WITHOUT_VAULT)) as log:
        partitions = partitions_of(log)
        switches = current(log).responses
        if dry_run:
            _rehearse(log, partitions, settings)
            return
        if not switches and not standby:
            raise BadInput(f'no action is switched on: sentinel respond on ACTION… --reason "…" ({", ".join(ACTIONS)})')
        traces = Traces(s, lambda: responder.follower.control.state.generations["transactions"].number)
        channels = traces.around(open_channels(settings, os.environ))
        health = followed(s, log)
        owner = GroupOwner(s, log)
        responder: Responder
        attest = attestor(s, log, checks=False) if log.signer is not None else None
        outlet = KafkaOutlet(s, lambda: responder.follower.control.state.generations["feedback"].number, attest)
        responder = Responder(log, partitions, settings, channels, outlet, owner)
        health.check("partitions", lambda: _fenced(responder))
        begin(ACTIONS, channels)
        BOARD.put("responder", RESPONDER.collect)
        owner.join(responder.released, responder.lost)
        try:
            _loop(responder, settings.poll_ms / 1000, health)
        finally:
            owner.close()
            responder.close()
            traces.close()


def _rehearse(log: EventLog, partitions: Sequence[int], settings: RespondSettings) -> None:
    heads = tuple(log.head(partition).sequence for partition in partitions)
    assumed = {
        action: Switch(True, heads) for action in ACTIONS if action not in NOTIFYING or action in settings.actions
    }
    rehearsal = Rehearsal(lambda line: print(line, flush=True))
    channels = rehearsed(settings, rehearsal)
    responder = Responder(log, partitions, settings, channels, rehearsal, WholeLog(partitions))
    responder.follower.assumed = assumed
    print(f"dry run: {', '.join(assumed)}; nothing is done (Ctrl-C ends it)", file=sys.stderr)
    _loop(responder, settings.poll_ms / 1000, Health())


def _fenced(responder: Responder) -> str:
    count = len(responder.fenced)
    return f"{count} partitions wait until the log has what Kafka has: is a worker running?" if count else ""


def _loop(responder: Responder, poll_s: float, health: Health) -> None:
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        responder.wake()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    waiting = ""
    while not stopping:
        try:
            responder.step()
        except Unavailable as error:
            if not waiting:
                telemetry.logger().warning("respond.unavailable", error=str(error))
            waiting = str(error)
            health.stepped(1.0, waiting)
            responder.wait(1.0)
            continue
        if waiting:
            telemetry.logger().info("respond.continues")
            waiting = ""
        health.stepped(poll_s)
        responder.wait(poll_s)
