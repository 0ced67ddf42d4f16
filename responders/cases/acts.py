"""What an analyst can do with a case, as the account events that do it. Pure.

    take, assign, release    lock it for one person against double work             CaseAssigned
    route, snooze, wake      move it; put it off                                    CaseRouted, CaseSnoozed
    note, link, unlink       write on it (@name mentions); tie cases together       CaseNoted, CaseLinked
    resolve                  close it, with a verdict on each of its payments       CaseResolved, FeedbackReceived
    undo                     reopen it, and take back one's own verdicts            CaseReopened, FeedbackReceived
    check                    a second person's verdict on a resolved case           CaseChecked
    open                     a case by hand                                         CaseOpened

Every act names the revision of the case that its actor saw, so of two people at once the first in the log wins
(`projections.views.case_work`); `responders.cases.desk` finds out and tells the other. Raises BadInput for what can't
be done, and Conflict if somebody else has the case.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any, NamedTuple

from core.errors import BadInput, Conflict
from core.events import (
    AccountBlocked,
    AccountEvent,
    AccountUnblocked,
    CaseAssigned,
    CaseChecked,
    CaseLinked,
    CaseNoted,
    CaseOpened,
    CaseReopened,
    CaseResolved,
    CaseRouted,
    CaseSnoozed,
    FeedbackReceived,
    Severity,
    Verdict,
)
from core.hashing import HashKey
from core.persons import person
from core.text import check_name
from core.times import DAY_MS
from projections.views.case_records import Case
from responders.cases.settings import NOTE_CHARACTERS_MAX, Macro

SNOOZE_MS_MAX = 90 * DAY_MS
_MENTION = re.compile(r"(?<![\w@.])@([\w][\w.-]{0,63})")


class Act(NamedTuple):
    """Who acts and when (epoch ms); act_id: unique, by which the outcome is found in the log."""

    actor: str
    now_ms: int
    act_id: str

    def on(self, case: Case) -> dict[str, Any]:
        """The fields that every event on a case has."""
        check_name("actor", self.actor)
        return {
            "account_id": case.account_id,
            "case_id": case.case_id,
            "occurred_at": self.now_ms,
            "actor": self.actor,
            "act_id": self.act_id,
        }


def take(case: Case, act: Act) -> list[AccountEvent]:
    """Lock the case for the actor."""
    return assign(case, act, act.actor)


def assign(case: Case, act: Act, assignee: str, *, force: bool = False) -> list[AccountEvent]:
    """Lock the case for somebody; "" releases it. force: also if somebody else has it."""
    if assignee:
        check_name("assignee", assignee)
    _unresolved(case)
    if case.assignee == assignee:
        raise BadInput(f"case {case.case_id} is already {f'assigned to {assignee}' if assignee else 'unassigned'}")
    if not force:
        _mine(case, act)
    return [CaseAssigned(**act.on(case), assignee=assignee, revision=case.revision)]


def route(case: Case, act: Act, queue: str) -> list[AccountEvent]:
    """Put the case into a queue."""
    check_name("queue", queue)
    return [CaseRouted(**act.on(case), queue=queue, revision=case.revision)]


def snooze(case: Case, act: Act, until: int) -> list[AccountEvent]:
    """Put the case off until then, epoch ms; 0: it is due again."""
    _unresolved(case)
    _mine(case, act)
    if until and not act.now_ms < until <= act.now_ms + SNOOZE_MS_MAX:
        raise BadInput("a case is snoozed until a time within the next 90 days")
    if not until and case.snoozed_until <= act.now_ms:
        raise BadInput(f"case {case.case_id} is not snoozed")
    return [CaseSnoozed(**act.on(case), until=until, revision=case.revision)]


def note(case: Case, act: Act, text: str) -> list[AccountEvent]:
    """Write on the case. `@name` in the text mentions somebody."""
    check_name("note", text, NOTE_CHARACTERS_MAX)
    mentions = tuple(dict.fromkeys(found.rstrip(".-") for found in _MENTION.findall(text)))
    return [CaseNoted(**act.on(case), note=text, mentions=mentions)]


def link(case: Case, other: Case, act: Act, *, linked: bool = True) -> list[AccountEvent]:
    """Tie two cases together, on both, or untie them."""
    if case.case_id == other.case_id:
        raise BadInput("a case can't be linked with itself")
    if (other.case_id in case.links) is linked:
        raise BadInput(f"cases {case.case_id} and {other.case_id} are {'already' if linked else 'not'} linked")
    return [
        CaseLinked(**act.on(one), other_case_id=another.case_id, linked=linked)
        for one, another in ((case, other), (other, case))
    ]


def resolve(case: Case, act: Act, verdict: Verdict, text: str = "", *, force: bool = False) -> list[AccountEvent]:
    """Give a verdict on each of the case's alerted payments and close it; on a closed case: correct it. force: also if
    somebody else has the case.
    """
    if text:
        check_name("note", text, NOTE_CHARACTERS_MAX)
    if case.stage == "resolved" and case.outcome == verdict:
        if case.resolved_by == act.actor and (missing := verdicts(case, act, verdict)):
            return missing  # the act was cut short, or another alert was in the case
        raise BadInput(f"case {case.case_id} is already resolved as {verdict}, by {case.resolved_by}")
    if case.stage != "resolved" and not force:
        _mine(case, act)
    closed = CaseResolved(**act.on(case), verdict=verdict, note=text, revision=case.revision)
    # The case comes first: if somebody else was, its verdicts are not sent (`responders.cases.desk`).
    return [closed, *verdicts(case, act, verdict)]


def verdicts(case: Case, act: Act, verdict: Verdict) -> list[AccountEvent]:
    """The actor's verdict on each alerted payment, where it is not so already."""
    return [_verdict(case, act, t, verdict) for t, said in _own(case, act.actor).items() if said != verdict]


def undo(case: Case, act: Act, text: str = "") -> list[AccountEvent]:
    """Reopen the case. The actor's own verdicts are taken back ("unsure"); other people's stand."""
    if case.stage != "resolved":
        raise BadInput(f"case {case.case_id} is not resolved: there is nothing to undo")
    if text:
        check_name("note", text, NOTE_CHARACTERS_MAX)
    back = [
        _verdict(case, act, t, "unsure") for t, said in _own(case, act.actor).items() if said not in (None, "unsure")
    ]
    return [CaseReopened(**act.on(case), note=text, revision=case.revision), *back]


def check(case: Case, act: Act, verdict: Verdict, text: str = "") -> list[AccountEvent]:
    """A second person's look at a resolved case."""
    if case.stage != "resolved":
        raise BadInput(f"case {case.case_id} is not resolved: there is nothing to check")
    if act.actor == case.resolved_by:
        raise BadInput(f"{act.actor} resolved case {case.case_id}: somebody else must check it")
    if text:
        check_name("note", text, NOTE_CHARACTERS_MAX)
    return [CaseChecked(**act.on(case), verdict=verdict, note=text, revision=case.revision)]


def open_case(
    account: str, case_id: str, act: Act, severity: Severity, text: str, queue: str = "", alert_id: str = ""
) -> list[AccountEvent]:
    """A case by hand. Its deadline follows from the severity."""
    check_name("account", account)
    check_name("actor", act.actor)
    check_name("note", text, NOTE_CHARACTERS_MAX)
    return [
        CaseOpened(
            account_id=account,
            case_id=case_id,
            occurred_at=act.now_ms,
            actor=act.actor,
            alert_id=alert_id,
            severity=severity,
            queue=queue,
            note=text,
            act_id=act.act_id,
        )
    ]


def run(case: Case, act: Act, macro: Macro, *, force: bool = False) -> list[AccountEvent]:
    """All that a macro does."""
    events = resolve(case, act, macro.verdict, macro.note, force=force)
    about: dict[str, Any] = {"account_id": case.account_id, "occurred_at": act.now_ms, "actor": act.actor}
    reason = f"case {case.case_id}: {macro.note or macro.verdict}"[:500]
    if macro.block:
        events.append(AccountBlocked(**about, reason=reason, causation_id=case.case_id))
    if macro.unblock:
        events.append(AccountUnblocked(**about, reason=reason, causation_id=case.case_id))
    return events


def is_sampled(case: Case, key: HashKey, share: float) -> bool:
    """Whether a second person shall look at a resolved case: a share of them, which analysts can't foretell."""
    digest = hmac.new(key.text.encode(), f"check:{case.case_id}:{case.resolved_at}".encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:7], "big") / 2**56 < share


def _own(case: Case, actor: str) -> dict[str, Verdict | None]:
    """The actor's last verdict on each alerted payment; None if there is none."""
    said: dict[str, Verdict | None] = dict.fromkeys(alert.transaction_id for alert in case.alerts)
    for each in sorted(case.verdicts, key=lambda v: v.occurred_at):
        if each.source == "analyst" and person(each.actor) == person(actor) and each.transaction_id in said:
            said[each.transaction_id] = each.verdict
    return said


def _verdict(case: Case, act: Act, transaction_id: str, verdict: Verdict) -> FeedbackReceived:
    alert = next(alert for alert in case.alerts if alert.transaction_id == transaction_id)
    return FeedbackReceived(
        account_id=case.account_id,
        transaction_id=transaction_id,
        occurred_at=act.now_ms,
        source="analyst",
        verdict=verdict,
        actor=act.actor,
        amount=alert.amount,
        currency=alert.currency,
        transaction_occurred_at=alert.paid_at,
        reason=f"case {case.case_id}"[:128],
    )


def _unresolved(case: Case) -> None:
    if case.stage == "resolved":
        raise BadInput(f"case {case.case_id} is resolved ({case.outcome}, by {case.resolved_by}): undo that first")


def _mine(case: Case, act: Act) -> None:
    if case.assignee not in ("", act.actor):
        raise Conflict(f"{case.assignee} works on case {case.case_id}; --force takes it over")
