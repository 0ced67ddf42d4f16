"""Carries out acts on cases: send, wait until they are in the log, look whether they had an effect.

    built ──send──► in Kafka ──(a worker records it)──► in the log ──► effective
                                                             └──► refused: somebody else was first ─► Conflict

The event on the case goes first and alone: only if it had an effect, the rest follows (verdicts, blocks), so nobody's
verdict counts for a case that another was faster to close. Killed in between, the case is closed and the rest is
missing: the same act again completes it. Each wait is one trip through Kafka and the worker, some tens of milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.codec import encode
from core.control_stream import identity_of
from core.errors import BadInput, ConcurrencyError, Unavailable
from core.events import AccountEvent, Position
from core.log.base import EventLog
from core.tokens import home
from core.validation import decode_feedback
from projections.engine.states import States
from projections.views.cases import CaseRow, Order, case_answer, cases_answer
from responders.cases.acts import Act, take
from responders.ports import Outgoing, Outlet

WAIT_S = 15.0
NEXT_TRIES = 5
POLL_S = 0.005


class Desk:
    """Acts on one log. states: the read models as of now, folded anew at each call."""

    def __init__(self, log: EventLog, outlet: Outlet, states: Callable[[], States]) -> None:
        self._log, self._outlet, self._states = log, outlet, states
        identity = identity_of(log)
        self._partition: Callable[[str], int] = lambda account: home(account, identity.partitioner, identity.partitions)

    def case(self, case_id: str, account: str | None = None) -> CaseRow:
        """The case of this ID, alias or alert. account: its account, if known, which is faster.

        Raises BadInput if there is none.
        """
        found = case_answer(self._states(), case_id, account)
        if found is None:
            raise BadInput(f"case {case_id} is not in the log; check the ID")
        return found

    def perform(self, case_id: str, events: Sequence[AccountEvent]) -> CaseRow:
        """Carry out one act on a case; returns the case afterwards. Raises as `perform_each`."""
        outcome = self.perform_each({case_id: events})[case_id]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def perform_each(self, acts: Mapping[str, Sequence[AccountEvent]]) -> dict[str, CaseRow | ConcurrencyError]:
        """Carry out an act on each of several cases, whose events begin with the one on the case. Returns for each the
        case afterwards, or what was faster.

        Raises BadInput if the worker would reject an event, Unavailable if Kafka can't be reached, or if no worker
        records the events in time: they are then still on their way.
        """
        for events in acts.values():
            for event in events:
                decode_feedback(encode(event), event.account_id.encode(), int(time.time() * 1000))
        self._send([event for events in acts.values() for event in _on_case(events)])
        outcomes = {case_id: self._outcome(case_id, events) for case_id, events in acts.items()}
        rest = [
            e for c, events in acts.items() if isinstance(outcomes[c], CaseRow) for e in events if not _is_on_case(e)
        ]
        if not rest:
            return outcomes
        self._send(rest)
        return {
            case_id: outcome if isinstance(outcome, ConcurrencyError) else self.case(case_id, outcome.case.account_id)
            for case_id, outcome in outcomes.items()
        }

    def take_next(
        self, act: Act, *, severity: str | None = None, queue: str | None = None, order: Order = "due"
    ) -> CaseRow | None:
        """Lock the next case for the actor: the first in this order that is awake and nobody else's, theirs included;
        None if there is none. Raises ConcurrencyError if others were faster NEXT_TRIES times in a row.
        """
        refused: ConcurrencyError | None = None
        for number in range(NEXT_TRIES):
            states = self._states()
            rows = cases_answer(states, severity=severity, queue=queue, order=order, is_awake=True, limit=10**9).cases
            row = next((row for row in rows if row.case.assignee in ("", act.actor)), None)
            if row is None or row.case.assignee == act.actor:
                return row
            once = act._replace(act_id=f"{act.act_id}-{number}")
            outcome = self.perform_each({row.case.case_id: take(row.case, once)})[row.case.case_id]
            if isinstance(outcome, CaseRow):
                return outcome
            refused = outcome
        assert refused is not None
        raise refused

    def _outcome(self, case_id: str, events: Sequence[AccountEvent]) -> CaseRow | ConcurrencyError:
        row = self.case(case_id, events[0].account_id)
        wanted = {getattr(event, "act_id", "") for event in events} - {""}
        refused = next((each for each in row.case.refused if each.act_id in wanted), None)
        if refused is not None:
            return ConcurrencyError(f"case {case_id} is unchanged by you: {refused.why}")
        return row

    def _send(self, events: Sequence[AccountEvent]) -> None:
        outgoing = [Outgoing(self._partition(e.account_id), e.account_id, encode(e)) for e in events]
        positions = self._outlet.send(outgoing)
        ends: dict[int, Position] = {}
        for each, position in zip(outgoing, positions, strict=True):
            ends[each.partition] = max(position, ends.get(each.partition, position))
        deadline = time.monotonic() + WAIT_S
        for partition, end in ends.items():
            while self._log.head(partition).feedback < end:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        "sent, but no worker has recorded it yet: it takes effect once one does (does sentinel ingest"
                        " run?)"
                    )
                time.sleep(POLL_S)


def _is_on_case(event: Any) -> bool:
    return hasattr(event, "case_id")


def _on_case(events: Sequence[AccountEvent]) -> list[AccountEvent]:
    return [event for event in events if _is_on_case(event)]
