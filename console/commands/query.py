"""`sentinel query`: what is known now, or was known at any time or position. Only reads the log.

A question of the catalogue that takes no options of its own needs no function here: `derive` makes it a subcommand,
with the question's docstring as its help.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any, get_args

import typer

from console import answer_text, wiring
from console.experiment_report import print_report
from console.log_options import AsOf, asked, opened_states, options
from console.options import Json
from console.tables import print_json
from core.errors import BadInput
from core.events import Position, Severity
from core.features.reference import FIRST_COLUMN, Kind
from core.feedback_sources import SOURCES
from learners.experiments import shadow as shadow_mode
from learners.experiments.report import report
from projections.audit.reasons import AlertReader
from projections.catalogue import QUESTIONS, Answer
from projections.engine.states import States
from projections.labelling.consensus import MATURITY_DAYS
from projections.labelling.quality import PER_HOUR_MAX, Rules
from projections.views.cases import CaseRow, case_answer, cases_answer
from projections.views.experiments_answers import experiment_answer
from projections.views.labels_answers import Filters, labels_answer, sources_answer
from projections.views.lists import lists_answer
from projections.views.profiles.answers import profile_answer
from projections.views.registry_answers import reference_answer
from projections.views.shadow import shadow_answer

app = typer.Typer(
    help="Query profiles, cases, labels, models, lists, drift and experiments, now or as of any time or position.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Limit = Annotated[int, typer.Option(help="Maximum number of rows.", min=1)]
Rates = Annotated[
    list[str] | None,
    typer.Option(
        "--rate",
        metavar="SOURCE=N",
        help="Verdicts per hour above which a source is quarantined; may be repeated. Default: "
        + ", ".join(f"{source}={count}" for source, count in PER_HOUR_MAX.items()),
    ),
]
app.callback()(options)


@app.command()
def profile(context: typer.Context, account: str, as_of: AsOf = None, as_json: Json = False) -> None:
    """One account: activity, decisions, alerts, verdicts, blocks. Takes seconds on any log.

    Exit code 1 if the account is not in the log.
    """
    with opened_states(context, as_of) as states:
        answer = profile_answer(states, asked(context, states.log, "account_id", account) or account)
    _show(answer, as_json, answer_text.print_profile)
    if answer.profile is None:
        raise typer.Exit(1)


@app.command()
def cases(
    context: typer.Context,
    account: Annotated[str | None, typer.Option(help="Only cases of this account (fast).")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Include resolved cases.")] = False,
    assignee: Annotated[str | None, typer.Option(help='Only cases of this analyst; "": unassigned cases.')] = None,
    severity: Annotated[str | None, typer.Option(help="low, medium, high or critical.")] = None,
    limit: Limit = 50,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """The case queue: unresolved cases, earliest deadline first."""
    if severity is not None and severity not in get_args(Severity):
        raise BadInput(f"--severity must be one of {', '.join(get_args(Severity))}, not {severity!r}")
    stages = ("open", "assigned", "resolved") if everything else ("open", "assigned")
    with opened_states(context, as_of) as states:
        account = asked(context, states.log, "account_id", account)
        answer = cases_answer(states, account=account, stages=stages, assignee=assignee, severity=severity, limit=limit)
    _show(answer, as_json, answer_text.print_cases)


@app.command()
def case(context: typer.Context, case_id: str, as_of: AsOf = None, as_json: Json = False) -> None:
    """One case and its alerts in words, by its ID or that of an alert in it. Exit code 1 if it is not in the log."""
    with opened_states(context, as_of) as states:
        found = case_answer(states, case_id)
        told = None if found is None else told_case(states, found)
    if told is None:
        print("null" if as_json else f"case {case_id} is not in the log; check the ID")
        raise typer.Exit(1)
    _show(told, as_json, answer_text.print_case)


def told_case(states: States, row: CaseRow) -> answer_text.ToldCase:
    reader = AlertReader(states.log, wiring.load_scorer)
    found = {a.alert_id: reader.reasons(row.partition, Position.parse(a.position)) for a in row.case.alerts}
    reasons = {alert_id: each for alert_id, each in found.items() if each is not None}
    return answer_text.ToldCase(row.case, row.partition, row.clock, row.due_in_ms, row.amount_at_risk, reasons)


@app.command()
def labels(
    context: typer.Context,
    account: Annotated[
        str | None, typer.Option(help="Only transactions of this account, including unlabelled ones.")
    ] = None,
    transaction: Annotated[str | None, typer.Option(help="Only this transaction.")] = None,
    status: Annotated[
        str | None, typer.Option(help="fraud, legitimate, review, pending or presumed_legitimate.")
    ] = None,
    suspect: Annotated[bool, typer.Option("--suspect", help="Only transactions with a quarantined verdict.")] = False,
    fixed: Annotated[
        bool, typer.Option("--fixed", help="Use fixed source reliabilities instead of learned ones.")
    ] = False,
    rate: Rates = None,
    maturity_days: Annotated[
        int, typer.Option(help="Label maturity: days without a verdict before legitimate is presumed.", min=0)
    ] = MATURITY_DAYS,
    limit: Limit = 50,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """What transactions turned out to be: the consensus of all verdicts that count; conflicts are labelled `review`.

    A verdict in brackets is quarantined, for the reason shown. Sources are weighted by their learned reliability
    (`sentinel query sources`). Exit code 1 if a given account or transaction is not in the log.
    """
    rules = _rules(rate)
    with opened_states(context, as_of) as states:
        known = asked(context, states.log, "account_id", account)
        paid = asked(context, states.log, "transaction_id", transaction)
        filters = Filters(known, paid, status, suspect, limit)
        answer = labels_answer(states, filters, maturity_days=maturity_days, rules=rules, is_fixed=fixed)
    _show(answer, as_json, answer_text.print_labels)
    if not answer.labels and (account or transaction) and not (status or suspect):
        named = " of ".join(
            f"{kind} {name}" for kind, name in (("transaction", transaction), ("account", account)) if name
        )
        print(f"{named}: not in the log, or without verdicts; check the ID", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def sources(context: typer.Context, rate: Rates = None, as_of: AsOf = None, as_json: Json = False) -> None:
    """Who gives verdicts: how many count, how reliable each source and analyst is, who agrees, and with what delay.

    Use the last table to choose a label maturity: it shows the share of frauds known so many days after the payment.
    """
    rules = _rules(rate)
    with opened_states(context, as_of) as states:
        answer = sources_answer(states, rules)
    _show(answer, as_json, answer_text.print_sources)


def _rules(rates: list[str] | None) -> Rules:
    """Quality rules with these rates instead of the defaults. Raises BadInput."""
    per_hour = dict(PER_HOUR_MAX)
    for text in rates or ():
        source, _, count = text.partition("=")
        if source not in SOURCES or not count.isascii() or not count.isdigit():
            raise BadInput(f"--rate {text!r} is not valid; write SOURCE=N, where SOURCE is one of {', '.join(SOURCES)}")
        per_hour[source] = int(count)
    return Rules(per_hour=per_hour)


@app.command()
def lists(
    context: typer.Context,
    history: Annotated[bool, typer.Option("--history", help="Show every change instead of the entries.")] = False,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Block, watch and allow lists, and blocked accounts: since when, by whom, and why."""
    with opened_states(context, as_of) as states:
        answer = lists_answer(states)
    _show(answer, as_json, answer_text.print_list_history if history else answer_text.print_lists)


@app.command()
def experiment(
    context: typer.Context,
    experiment_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Default: the newest.")] = None,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """An A/B test: exposure by arm, sample ratio, gains with confidence sequences, the verdict so far."""
    with opened_states(context, as_of) as states:
        answer = experiment_answer(states, experiment_id)
    _show(report(answer.experiment, answer.seen, answer.as_of), as_json, print_report)


@app.command()
def shadow(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
    """Shadow models: what they would have decided beside the actual decisions, and both against labels."""
    with opened_states(context, as_of) as states:
        found = shadow_mode.report(shadow_answer(states))
    _show(found, as_json, answer_text.print_shadows)


@app.command()
def reference(context: typer.Context, kind: str, name: str, as_of: AsOf = None, as_json: Json = False) -> None:
    """What decisions know about one merchant (terminal) or device. Exit code 1 if the table has no row for it."""
    kinds: dict[str, Kind] = {known: known for known in FIRST_COLUMN}
    if kind not in kinds:
        raise BadInput(f"{kind!r} is not a kind of reference table; choose {' or '.join(kinds)}")
    with opened_states(context, as_of) as states:
        answer = reference_answer(states, kinds[kind], name)
    _show(answer, as_json, answer_text.print_reference)
    if answer.values is None:
        raise typer.Exit(1)


def _show(answer: Any, as_json: bool, layout: Callable[[Any], None]) -> None:
    if as_json:
        print_json(answer)
    else:
        layout(answer)


def derive(to: typer.Typer, name: str, question: Callable[[States], Answer]) -> None:
    """Add a subcommand for a question without options of its own."""

    def command(context: typer.Context, as_of: AsOf = None, as_json: Json = False) -> None:
        with opened_states(context, as_of) as states:
            answer = question(states)
        _show(answer, as_json, answer_text.LAYOUTS.get(name, print_json))

    to.command(name, help=question.__doc__)(command)


_OWN = {info.callback.__name__ for info in app.registered_commands if info.callback is not None}
for _name, _question in QUESTIONS.items():
    if _name not in _OWN:
        derive(app, _name, _question)
