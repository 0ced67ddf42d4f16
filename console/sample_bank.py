"""What `sentinel sample` does: a living bank (`sources.bank`) whose customers pay and report, and a colleague in its
fraud team who closes the cases that nobody got to in time.

On a log without payments, the weeks before come first, as history; then `queue_for_review` is switched on. The
colleague decides by what customers and card schemes reported: fraud if one of a case's payments was reported, else
legitimate.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import structlog

from console import wiring
from core.control_stream import current
from core.errors import SentinelError
from core.events import Verdict
from core.log.base import EventLog
from core.partitions import partitions_of
from core.settings import Settings
from core.times import MINUTE_MS
from ingest import history
from ingest.history import loading
from ingest.outlet import KafkaOutlet
from ingest.producer import publish
from projections.catalogue import ALL
from projections.engine.checkpoints import CheckpointStore
from projections.engine.states import States, open_states
from projections.views.case_records import Case
from projections.views.cases import cases_answer
from responders.cases.acts import Act, resolve
from responders.cases.desk import Desk
from responders.settings import QUEUE
from responders.switching import Why, switch_on
from sources.bank import Bank, live, past
from sources.record import Record

ACTOR, COLLEAGUE = "sentinel sample", "sam.ple"
REASON = "the sample bank"
ROUND_S = 60.0
ROUND_CASES_MAX = 50
GRACE_MS = 15 * MINUTE_MS
"""How long after its deadline the colleague takes up a case: others come first."""


class SampleBank:
    """One bank on one log. bank: its sizes. checkpoints: where the read models' are, if anywhere."""

    def __init__(self, settings: Settings, bank: Bank, checkpoints: Path) -> None:
        self._settings, self._bank, self._checkpoints = settings, bank, checkpoints
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End `run` soon. May be called from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Send until stopped. Raises SentinelError if messages can't be delivered."""
        with closing(wiring.open_log(self._settings)) as log:
            self._begin(log)
        colleague = threading.Thread(target=self._work, name="colleague", daemon=True)
        colleague.start()
        publish(live(self._bank, _now, self._stopping.wait), self._settings)
        colleague.join(5.0)

    def _begin(self, log: EventLog) -> None:
        opened = current(log).histories
        if opened and opened[-1].ends is None:  # this process was ended while it loaded
            history.stop(log, self._settings, actor=ACTOR, reason=REASON, occurred_at=_now())
        if not any(log.length(p, "transactions") for p in partitions_of(log)):
            source = past(self._bank, _now())
            chunks = self._until_stopped(_payments_first(source.records()))
            with loading(lambda: wiring.open_log(self._settings), self._settings, chunks, REASON, source.last) as sent:
                publish(sent, self._settings)
            structlog.get_logger().info("sample.history_sent", payments=source.total)
        if QUEUE not in current(log).responses:
            switch_on(log, [QUEUE], Why(ACTOR, REASON, _now()))

    def _until_stopped(self, chunks: Iterator[list[Record]]) -> Iterator[list[Record]]:
        for chunk in chunks:
            if self._stopping.is_set():
                return
            yield chunk

    def _work(self) -> None:
        said = ""
        while not self._stopping.wait(ROUND_S):
            try:
                with closing(wiring.open_log(self._settings)) as log:
                    close_overdue(log, self._settings, self._checkpoints)
                said = ""
            except SentinelError as error:  # an outage; the cases wait for the next round
                if not said:
                    structlog.get_logger().warning("sample.colleague_waits", error=str(error))
                said = str(error)


def _payments_first(chunks: Iterable[list[Record]]) -> Iterator[list[Record]]:
    """The payments of a stream, then its verdicts: sent as fast as possible, a verdict could overtake its payment on
    the way through two topics.
    """
    verdicts: list[Record] = []
    for chunk in chunks:
        verdicts += [record for record in chunk if record.topic == "feedback"]
        yield [record for record in chunk if record.topic == "transactions"]
    yield verdicts


def close_overdue(log: EventLog, s: Settings, checkpoints: Path) -> int:
    """Resolve up to ROUND_CASES_MAX cases that are overdue by GRACE_MS and nobody's; returns how many."""

    def states() -> States:
        return open_states(log, ALL, CheckpointStore(checkpoints, s.log_prefix), now_ms=_now())

    rows = cases_answer(states(), stages=("open",), limit=ROUND_CASES_MAX).cases
    overdue = [row.case for row in rows if row.due_in_ms is not None and row.due_in_ms < -GRACE_MS]
    if not overdue:
        return 0
    generation = current(log).generations["feedback"].number
    desk = Desk(log, KafkaOutlet(s, lambda: generation), states)
    act = Act(COLLEAGUE, _now(), secrets.token_hex(6))
    desk.perform_each({case.case_id: resolve(case, act, _verdict(case), "overdue; by reports") for case in overdue})
    return len(overdue)


def _verdict(case: Case) -> Verdict:
    return "fraud" if any(said.verdict == "fraud" for said in case.verdicts) else "legitimate"


def _now() -> int:
    return int(time.time() * 1000)
