"""Casework over broker, worker and log: of two analysts at once one wins, verdicts become labels, replay agrees."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from console.stack import Broker, Valkey
from core.codec import encode
from core.control_stream import current
from core.errors import ConcurrencyError
from core.events import Transaction
from core.log.base import EventLog
from ingest.outlet import KafkaOutlet
from learners.governance.business import change_list
from learners.governance.control_events import Act as Why
from projections.catalogue import ALL
from projections.engine.states import States, open_states
from projections.labelling.consensus import MATURITY_DAYS
from projections.views.cases import CaseRow, cases_answer
from projections.views.labels_answers import Filters, labels_answer
from responders.cases import acts
from responders.cases.acts import Act
from responders.cases.desk import Desk
from sources.record import Record
from tests import worker_harness as h
from tests.worker_harness import Stage

ACCOUNTS = 6


def states_of(log: EventLog) -> States:
    return open_states(log, ALL, now_ms=int(time.time() * 1000))


@contextmanager
def desk(on: Stage) -> Iterator[Desk]:
    """An analyst's desk, on connections of its own."""
    with on.log() as log:
        generation = current(log).generations["feedback"].number
        yield Desk(log, KafkaOutlet(on.settings, lambda: generation), lambda: states_of(log))


def act(actor: str, number: int = 0) -> Act:
    return Act(actor, int(time.time() * 1000), f"{actor}-{number}")


def payments() -> list[Record]:
    now = int(time.time() * 1000)
    made = [
        Transaction(transaction_id=f"t{n}", account_id=f"a{n}", amount=50.0, occurred_at=now, merchant_id="bad")
        for n in range(ACCOUNTS)
    ]
    return [Record("transactions", t.account_id, now, encode(t)) for t in made]


def at_once(on: Stage, work: dict[str, Any]) -> dict[str, CaseRow | ConcurrencyError | None]:
    """Run each analyst's work in a thread, from the same moment on."""
    start, outcomes = threading.Barrier(len(work)), dict[str, CaseRow | ConcurrencyError | None]()

    def run(actor: str) -> None:
        with desk(on) as mine:
            start.wait()
            try:
                outcomes[actor] = work[actor](mine)
            except ConcurrencyError as error:
                outcomes[actor] = error

    threads = [threading.Thread(target=run, args=(actor,)) for actor in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    return outcomes


def test_two_analysts_never_work_on_one_case(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """The same key: one wins, the other is told; `next` gives different cases; verdict and undo reach the labels."""
    on = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, history=False)
    on.create_topics()
    with h.Threaded(on), on.log() as log:
        h.wait_for(lambda: current(log).champion is not None, "the worker's start")
        change_list(log, "merchant", "block", Why("ann", "test", 1), add=["bad"])
        on.produce(payments())
        h.wait_for_decisions(on, log, ACCOUNTS)
        first = cases_answer(states_of(log)).cases[0].case

        seen = first  # both look at the same case before either acts
        work = {
            name: lambda mine, name=name: mine.perform(seen.case_id, acts.take(seen, act(name)))
            for name in ("ann", "bob")
        }
        outcomes = at_once(on, work)
        (winner,) = (name for name, outcome in outcomes.items() if isinstance(outcome, CaseRow))
        (told,) = (str(outcome) for outcome in outcomes.values() if isinstance(outcome, ConcurrencyError))
        assert f"{winner} was first and assigned it to {winner}" in told

        others = [f"analyst-{n}" for n in range(4)]
        taken = at_once(on, {name: lambda mine, name=name: mine.take_next(act(name)) for name in others})
        rows = [row for row in taken.values() if isinstance(row, CaseRow)]
        assert len({row.case.case_id for row in rows}) == len(rows) == 4
        assert all(taken[row.case.assignee] is row for row in rows)

        with desk(on) as mine:
            row = mine.perform(first.case_id, acts.resolve(mine.case(first.case_id).case, act(winner, 1), "fraud"))
            assert (row.case.stage, row.case.outcome) == ("resolved", "fraud")
            transaction = row.case.alerts[0].transaction_id
            assert label(log, transaction) == "fraud"
            again = mine.perform(first.case_id, acts.undo(row.case, act(winner, 2)))
            assert (again.case.stage, again.case.assignee) == ("assigned", winner)
            assert label(log, transaction) != "fraud"
    h.assert_sound(on)


def label(log: EventLog, transaction: str) -> str:
    answer = labels_answer(states_of(log), Filters(None, transaction, None, False, 10), maturity_days=MATURITY_DAYS)
    return answer.labels[0].status
