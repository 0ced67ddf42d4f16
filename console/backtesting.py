"""Runs a backtest of a program on a log's partitions: by stored columns, or where these don't do by a fold."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from console import backtest_report, pool, wiring
from console.backtest_report import Report, Way
from console.program_names import program_named, registry_of
from core import control_stream
from core.codec import decode_transaction
from core.context import Resolver
from core.errors import BadInput, Corrupt, NotDecidable
from core.events import Position
from core.log.base import EventLog, Head
from core.partitions import partitions_of
from core.program import loading
from core.program.document import Program
from core.program.library import kernel
from core.program.plan import plan
from core.replay import Timeline
from core.settings import Settings
from projections.audit.backtest import Backtest
from projections.audit.stored_batch import NotStored
from projections.audit.tally import Change, Tally
from projections.audit.whatif import Scope
from projections.engine.checkpoints import CheckpointStore
from projections.engine.states import open_states
from projections.labelling.view import LabelView, given_until, view_of
from projections.views import labels as labels_view
from projections.views.labels import LABELS


class Wanted(NamedTuple):
    """What was asked for. which: the program; rule: the one to tell about, "" for all. known_until: only verdicts given
    by then, epoch ms. jobs: processes that fold. sample: a share of the accounts.
    """

    which: str
    scope: Scope
    rule: str
    known_until: int | None
    jobs: int
    sample: float | None = None


def run(log: EventLog, s: Settings, wanted: Wanted, checkpoints: Path, *, quiet: bool) -> Report:
    """The report. checkpoints: where `sentinel project` keeps the labels; it may be missing. Raises BadInput for a
    program, rule or range that there is not.
    """
    program = program_named(log, registry_of(log), wanted.which)
    labels = labels_of(log, CheckpointStore(checkpoints, s.log_prefix), wanted.known_until)
    return of_program(log, s, program, wanted, labels, quiet=quiet)


def of_program(
    log: EventLog,
    s: Settings,
    program: Program,
    wanted: Wanted,
    labels: LabelView,
    *,
    quiet: bool = True,
    may_fold: bool = True,
    until: Mapping[int, Position] | None = None,
) -> Report:
    """The report on a program that is at hand; `wanted.which` does not count. until: the last decision of each
    partition that counts, by default the log's. Raises BadInput for a rule or range that there is not, and NotStored if
    it takes a fold and there may be none.
    """
    checked = loading.of_program(program, log.get_blob).checked
    rules = [each for each in checked.rules if each.mode != "off"]
    if wanted.rule not in ("", *(each.code for each in rules)):
        known = ", ".join(each.code for each in rules)
        raise BadInput(f"rule {wanted.rule}: {program.label} has no such rule that is on; it has {known}")
    heads = {p: log.head(p) for p in partitions_of(log)}
    if until is not None:
        heads = {p: msgspec.structs.replace(head, transactions=until[p]) for p, head in heads.items()}
    began = time.perf_counter()
    tally, way, why = _run(log, s, program, heads, labels, wanted, quiet, may_fold)
    seconds = time.perf_counter() - began
    if not tally.days and tally.undecidable:
        raise NotDecidable(f"no decision in this range can be made again here: {next(iter(tally.undecidable))}")
    if not tally.days:
        raise BadInput(
            f"no decision is in this range ({tally.unreadable:,} can't be judged): leave out its bounds, or see"
            " `sentinel query stats` for the times that the log holds"
        )
    return backtest_report.report(
        tally,
        rules,
        program.limits,
        {each: _names(log, each) for each in (*tally.stricter, *tally.milder)},
        program=program.label,
        digest=checked.digest,
        way=way,
        why=why,
        seconds=seconds,
        only=wanted.rule,
        share=wanted.sample,
    )


def labels_of(log: EventLog, store: CheckpointStore, known_until: int | None) -> LabelView:
    """The labels, from checkpoints as far as there are any. known_until: only verdicts given by then, epoch ms."""
    states = open_states(log, (LABELS,), store, now_ms=int(time.time() * 1000)).by_partition(LABELS)
    claims = list(labels_view.claims(states))
    given = claims if known_until is None else given_until(claims, known_until)
    return view_of(given, labels_view.newest(states), key=control_stream.identity_of(log).key)


def _run(
    log: EventLog,
    s: Settings,
    program: Program,
    heads: dict[int, Head],
    labels: LabelView,
    wanted: Wanted,
    quiet: bool,
    may_fold: bool,
) -> tuple[Tally, Way, str]:
    """The tally of all partitions, how it was made, and why not from what is stored; "" if it was."""
    total = sum(log.length(p, "scores") for p in heads)
    test = _test(log, program, labels, wanted.sample)
    why = ""
    for way in (test.run, test.run_columns):
        try:
            calls = [(way, p, head, wanted.scope) for p, head in heads.items()]
            parts = pool.each(_by_columns, calls, jobs=1, title="judging", total=total, quiet=quiet)
            return sum(parts[1:], parts[0]), "computed" if why else "stored", why
        except NotStored as error:
            why = f"{why}; {error}" if why else str(error)
    if not may_fold:
        raise NotStored(why)
    if wanted.sample is not None:
        raise BadInput(f"--sample: only the live path can decide this program, and it takes all accounts: {why}")
    folds = [(s, program, p, head, wanted.scope, _of_partition(labels, p)) for p, head in heads.items()]
    parts = pool.each(_fold, folds, jobs=wanted.jobs, title="deciding", total=total, quiet=quiet)
    return sum(parts[1:], parts[0]), "fold", why


def _test(log: EventLog, program: Program, labels: LabelView, sample: float | None = None) -> Backtest:
    candidate = plan(loading.of_program(program, log.get_blob).checked, kernel())
    return Backtest(log, control_stream.history(log), candidate, labels, sample=sample)


def _by_columns(way: Callable[..., Tally], partition: int, head: Head, scope: Scope) -> Tally:
    return way(partition, head, scope, pool.report)


def _fold(s: Settings, program: Program, partition: int, head: Head, scope: Scope, labels: LabelView) -> Tally:
    with closing(wiring.open_log(s)) as log:
        timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, wiring.load_scorer))
        return _test(log, program, labels).run_fold(partition, head, scope, timeline, pool.report)


def _of_partition(labels: LabelView, partition: int) -> LabelView:
    mine = [each for each in labels.transactions if each.judged.partition == partition]
    return LabelView(mine, labels.learning, labels.key)


def _names(log: EventLog, change: Change) -> tuple[str, str]:
    """Transaction and account of a change."""
    payload = log.get(change.partition, "transactions", Position(change.generation, change.offset))
    if payload is None:
        raise Corrupt(f"partition {change.partition}: {change.generation}-{change.offset} is gone while it was read")
    transaction = decode_transaction(payload)
    return transaction.transaction_id, transaction.account_id
