"""`sentinel case`: the analyst's queue and everything that is done with a case. Each change is an event with its actor.

Of two people who act on one case at once, the first in the log wins; the other is told (exit code 5).
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from console import answer_text, wiring
from console.acts import teller
from console.commands.query import told_case
from console.log_options import DIRECTORY, AsOf, Checkpoints, asker
from console.options import Config, Json, KafkaServers, LogPrefix, RedisHost, RedisPort
from console.tables import print_json
from core.control_stream import current, identity_of
from core.errors import BadInput, ConcurrencyError, SentinelError
from core.events import AccountEvent, Severity, Verdict
from core.log.base import EventLog
from core.settings import Settings
from core.times import DAY_MS, HOUR_MS, MINUTE_MS
from ingest.attesting import attestor
from ingest.outlet import KafkaOutlet
from projections.catalogue import ALL
from projections.engine.as_of import parse_time
from projections.engine.checkpoints import CheckpointStore
from projections.engine.states import States, open_states
from projections.views.case_records import Case
from projections.views.cases import CaseRow, Order, case_answer, cases_answer
from responders.cases import acts
from responders.cases.acts import Act
from responders.cases.desk import Desk
from responders.cases.settings import case_settings

app = typer.Typer(
    help="Work on cases: list, show, next, take, note, snooze, link, resolve, undo, check, …",
    no_args_is_help=True,
    rich_markup_mode=None,
)
CaseId = Annotated[str, typer.Argument(metavar="CASE", help="Its ID, or that of an alert in it.")]
CaseIds = Annotated[list[str], typer.Argument(metavar="CASE...", help="IDs of cases, or of alerts in them.")]
Actor = Annotated[str, typer.Option("--actor", help="Who is acting. Default: your login name.", show_default=False)]
Note = Annotated[str, typer.Option("--note", help="A note, recorded permanently; @name mentions somebody.")]
Said = Annotated[str, typer.Option("--verdict", help="fraud, legitimate or unsure.")]
Force = Annotated[bool, typer.Option("--force", help="Also if somebody else works on it.")]
Queue = Annotated[str | None, typer.Option("--queue", help="Only this queue.")]
Grade = Annotated[str | None, typer.Option("--severity", help="low, medium, high or critical.")]
Sort = Annotated[str, typer.Option("--sort", help=f"{', '.join(get_args(Order))}.")]


@dataclass(frozen=True)
class _Options:
    settings: Settings
    directory: Path

    def states(self, log: Any, as_of: str | None = None) -> States:
        store = CheckpointStore(self.directory, self.settings.log_prefix)
        return open_states(log, ALL, store, now_ms=int(time.time() * 1000), as_of=as_of)


@app.callback()
def case(
    context: typer.Context,
    config: Config = None,
    kafka_servers: KafkaServers = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    checkpoint_directory: Checkpoints = DIRECTORY,
) -> None:
    """Options that name servers come before the subcommand or after it. Acts go through Kafka, and wait until they are
    recorded.
    """
    s = wiring.settings(
        config, kafka_servers=kafka_servers, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix
    )
    context.obj = _Options(s, checkpoint_directory)


@app.command("list")
def list_cases(
    context: typer.Context,
    queue: Queue = None,
    severity: Grade = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only yours (--actor).")] = False,
    unassigned: Annotated[bool, typer.Option("--unassigned", help="Only nobody's.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Include resolved and snoozed cases.")] = False,
    sort: Sort = "due",
    limit: Annotated[int, typer.Option(help="Maximum number of rows.", min=1)] = 50,
    actor: Actor = "",
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """The queue: unresolved cases, earliest deadline first; with their amount at risk and SLA clock."""
    given: _Options = context.obj
    if mine and unassigned:
        raise BadInput("--mine and --unassigned exclude each other")
    with closing(wiring.open_log(given.settings)) as log:
        assignee = teller(log, actor) if mine else "" if unassigned else None
        answer = cases_answer(
            given.states(log, as_of),
            stages=("open", "assigned", "resolved") if everything else ("open", "assigned"),
            assignee=assignee,
            severity=_one_of("--severity", severity, Severity) if severity else None,
            limit=limit,
            queue=queue,
            is_awake=not everything,
            order=_one_of("--sort", sort, Order),
        )
    print_json(answer) if as_json else answer_text.print_cases(answer)


@app.command()
def show(context: typer.Context, case_id: CaseId, as_of: AsOf = None, as_json: Json = False) -> None:
    """One case: its alerts in words, what was done with it, notes and checks."""
    given: _Options = context.obj
    with closing(wiring.open_log(given.settings)) as log:
        states = given.states(log, as_of)
        found = case_answer(states, case_id)
        if found is None:
            raise BadInput(f"case {case_id} is not in the log; check the ID")
        told = told_case(states, found)
    print_json(told) if as_json else answer_text.print_case(told)


@app.command("next")
def next_case(
    context: typer.Context,
    queue: Queue = None,
    severity: Grade = None,
    sort: Sort = "due",
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Take the next case: yours if you have one, else the first that nobody has. Exit code 1 if there is none."""
    with _desk(context, actor) as (desk, act):
        order = _one_of("--sort", sort, Order)
        grade = _one_of("--severity", severity, Severity) if severity else None
        row = desk.take_next(act, severity=grade, queue=queue, order=order)
        if row is None:
            print("null" if as_json else "no case waits: the queue is empty, or all are snoozed or others'")
            raise typer.Exit(1)
        _show(context, row, as_json)


@app.command()
def take(
    context: typer.Context, case_id: CaseId, actor: Actor = "", force: Force = False, as_json: Json = False
) -> None:
    """Lock a case for you, so that nobody else works on it."""
    _do(context, [case_id], actor, lambda held, act: acts.assign(held, act, act.actor, force=force), as_json)


@app.command()
def assign(
    context: typer.Context,
    case_id: CaseId,
    assignee: Annotated[str, typer.Argument(help="Who shall work on it.")],
    actor: Actor = "",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Assign a case to somebody."""
    _do(context, [case_id], actor, lambda held, act: acts.assign(held, act, assignee, force=force), as_json)


@app.command()
def release(
    context: typer.Context, case_id: CaseId, actor: Actor = "", force: Force = False, as_json: Json = False
) -> None:
    """Give a case back to the queue."""
    _do(context, [case_id], actor, lambda held, act: acts.assign(held, act, "", force=force), as_json)


@app.command()
def route(
    context: typer.Context,
    case_id: CaseId,
    queue: Annotated[str, typer.Argument(help="The queue.")],
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Put a case into another queue."""
    _do(context, [case_id], actor, lambda held, act: acts.route(held, act, queue), as_json)


@app.command()
def note(
    context: typer.Context,
    case_id: CaseId,
    text: Annotated[str, typer.Argument(help="The note; @name mentions somebody.")],
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Write on a case."""
    _do(context, [case_id], actor, lambda held, act: acts.note(held, act, text), as_json)


@app.command()
def snooze(
    context: typer.Context,
    case_id: CaseId,
    until: Annotated[str, typer.Argument(help="30m, 4h, 2d, or a time such as 2026-03-01T09:00.")],
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Put a case off. Its SLA clock goes on."""
    _do(context, [case_id], actor, lambda held, act: acts.snooze(held, act, _until(until, act.now_ms)), as_json)


@app.command()
def wake(context: typer.Context, case_id: CaseId, actor: Actor = "", as_json: Json = False) -> None:
    """End a snooze."""
    _do(context, [case_id], actor, lambda held, act: acts.snooze(held, act, 0), as_json)


@app.command()
def link(
    context: typer.Context,
    case_id: CaseId,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The other case.")],
    remove: Annotated[bool, typer.Option("--remove", help="Untie them.")] = False,
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Tie two cases together, of whatever accounts."""
    with _desk(context, actor) as (desk, act):
        one, another = desk.case(case_id).case, desk.case(other).case
        row = desk.perform(one.case_id, acts.link(one, another, act, linked=not remove))
        _show(context, row, as_json)


@app.command("close", help="As `case resolve`.")
@app.command()
def resolve(
    context: typer.Context,
    case_ids: CaseIds,
    verdict: Said,
    note: Note = "",
    actor: Actor = "",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Close cases with a verdict on their payments, which becomes a label. Several at once are allowed."""
    word = _one_of("--verdict", verdict, Verdict)
    _do(context, case_ids, actor, lambda held, act: acts.resolve(held, act, word, note, force=force), as_json)


@app.command()
def macro(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A macro of [cases.macros] in the settings file.")],
    case_ids: CaseIds,
    actor: Actor = "",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Run a macro: a verdict with its note, and a block or unblock."""
    found = case_settings(context.obj.settings.cases).macro(name)
    _do(context, case_ids, actor, lambda held, act: acts.run(held, act, found, force=force), as_json)


@app.command("reopen", help="As `case undo`.")
@app.command()
def undo(context: typer.Context, case_ids: CaseIds, note: Note = "", actor: Actor = "", as_json: Json = False) -> None:
    """Reopen resolved cases and take back your own verdicts on them; those of others stand."""
    _do(context, case_ids, actor, lambda held, act: acts.undo(held, act, note), as_json)


@app.command()
def check(
    context: typer.Context,
    case_id: Annotated[
        str | None, typer.Argument(metavar="[CASE]", help="Default: show what is to be checked.")
    ] = None,
    verdict: Said = "",
    note: Note = "",
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """A supervisor's check: a second verdict on resolved cases of the sample. One that differs marks the case."""
    if case_id is not None:
        word = _one_of("--verdict", verdict, Verdict)
        _do(context, [case_id], actor, lambda held, act: acts.check(held, act, word, note), as_json)
        return
    given: _Options = context.obj
    share = case_settings(given.settings.cases).check_share
    with closing(wiring.open_log(given.settings)) as log:
        who = teller(log, actor)
        key = identity_of(log).key
        answer = cases_answer(given.states(log), stages=("resolved",), order="age", limit=10**9)
    rows = [
        row
        for row in answer.cases
        if not row.case.checks and row.case.resolved_by != who and acts.is_sampled(row.case, key, share)
    ]
    found = type(answer)(answer.as_of, answer.counts, rows, answer.queues)
    print_json(found) if as_json else answer_text.print_cases(found)


@app.command("open")
def open_case(
    context: typer.Context,
    account: Annotated[str, typer.Argument(help="The account.")],
    note: Annotated[str, typer.Option("--note", help="What it is about. Required.")],
    severity: Annotated[str, typer.Option("--severity", help="low, medium, high or critical.")] = "medium",
    queue: Annotated[str, typer.Option("--queue", help="The queue.")] = "",
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Open a case by hand, on an account without an alert."""
    given: _Options = context.obj
    grade = _one_of("--severity", severity, Severity)
    with closing(wiring.open_log(given.settings)) as log:
        act = _act(log, actor)
        case_id = f"m-{act.act_id}"
        account = asker(given.settings, log)("account_id", account)
        row = _desk_on(given, log).perform(case_id, acts.open_case(account, case_id, act, grade, note, queue))
    _show(context, row, as_json)


def _do(
    context: typer.Context,
    case_ids: Sequence[str],
    actor: str,
    build: Callable[[Case, Act], list[AccountEvent]],
    as_json: bool,
) -> None:
    """Carry out one act on each of the cases. The first failure is the exit code, after all were tried."""
    failures: list[SentinelError] = []
    with _desk(context, actor) as (desk, act):
        planned: dict[str, list[AccountEvent]] = {}
        for case_id in dict.fromkeys(case_ids):
            try:
                held = desk.case(case_id).case
                planned[held.case_id] = build(held, act)
            except SentinelError as error:
                failures.append(error)
        for outcome in desk.perform_each(planned).values() if planned else ():
            if isinstance(outcome, ConcurrencyError):
                failures.append(outcome)
            else:
                _show(context, outcome, as_json)
    for failure in failures[:-1]:
        print(f"sentinel: {failure}", file=sys.stderr)
    if failures:
        raise failures[-1]


def _show(context: typer.Context, row: CaseRow, as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    held = row.case
    state = f"resolved as {held.outcome} by {held.resolved_by}" if held.stage == "resolved" else held.stage
    if held.stage == "assigned":
        state = f"assigned to {held.assignee}"
    due = "" if row.due_in_ms is None else f", due in {row.due_in_ms / MINUTE_MS:+.0f} min"
    where = f", queue {held.queue}" if held.queue else ""
    print(f"case {held.case_id} ({held.severity or 'no severity'}, account {held.account_id}{where}): {state}{due}")


@contextmanager
def _desk(context: typer.Context, actor: str) -> Iterator[tuple[Desk, Act]]:
    """The desk, and an act by this person, now."""
    given: _Options = context.obj
    with closing(wiring.open_log(given.settings)) as log:
        yield _desk_on(given, log), _act(log, actor)


def _desk_on(given: _Options, log: EventLog) -> Desk:
    identity_of(log)
    generation = current(log).generations["feedback"].number
    outlet = KafkaOutlet(given.settings, lambda: generation, attestor(given.settings, log))
    return Desk(log, outlet, lambda: given.states(log))


def _act(log: EventLog, actor: str) -> Act:
    return Act(teller(log, actor), int(time.time() * 1000), secrets.token_hex(6))


def _one_of(option: str, text: str, kind: Any) -> Any:
    """The text, if it is one of the literal's values."""
    if text not in get_args(kind):
        raise BadInput(f"{option} must be one of {', '.join(get_args(kind))}, not {text!r}")
    return text


def _until(text: str, now_ms: int) -> int:
    units = {"m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
    if text[-1:] in units and text[:-1].isascii() and text[:-1].isdigit():
        return now_ms + int(text[:-1]) * units[text[-1]]
    found = parse_time(text)
    if found is None:
        raise BadInput(f"{text!r} is not a time: write 30m, 4h, 2d or 2026-03-01T09:00")
    return found
