"""Feedback behind which nobody stands who may tell it is refused by workers, and found if one accepts it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from core import control_stream
from core.authority import FEEDBACK, feedback_roles
from core.codec import decode_account_event, decode_reject, encode
from core.errors import BadInput
from core.events import (
    AccountBlocked,
    AccountEvent,
    AccountUnblocked,
    ActionSucceeded,
    CaseNoted,
    Control,
    FeedbackReceived,
    FeedbackRule,
    IdentityAdded,
    IdentityRequired,
    IdentityRevoked,
)
from core.feedback_signing import check, kept, signed, subject_of
from core.identity import FIXED
from core.roster import Roster
from tests.builders.events import transaction
from tests.builders.identities import KEYS as STAFF
from tests.builders.identities import ROLES, Key, added, by, put
from tests.builders.live import NOW, Live
from tests.builders.logs import entries

ID = FIXED.log_id
KEYS = STAFF | {name: Key(name) for name in ("disputes", "responder-1", "mallory")}
SERVICES = {"disputes": "chargeback", "responder-1": "responder"}


def service(name: str) -> IdentityAdded:
    return IdentityAdded(**by("ann"), name=name, roles=(SERVICES[name],), public_key=KEYS[name].public_key)


def roster(live: Live, feedback: FeedbackRule = "signed", *more: Control) -> Roster:
    """Staff, a source of chargebacks and a responder are on the log's roster; dora works in the console only, as
    d.jones.
    """
    dora = IdentityAdded(**by("ann"), name="dora", roles=("analyst",), subject="d.jones")
    people: list[Control] = [*(added(name) for name in ROLES), *map(service, SERVICES), dora, *more]
    required = IdentityRequired(**by("ann"), required=True, feedback=feedback)
    assert not put(live.log, *(("ann", each) for each in (*people, required)))
    return control_stream.current(live.log).governance.roster


def said(actor: str = "carol", number: int = 1, **changes: Any) -> FeedbackReceived:
    """A verdict on payment t1."""
    values = {"source": "analyst", "verdict": "fraud", "confidence": 0.9, "device_id": "d1", **changes}
    return FeedbackReceived(account_id="a1", transaction_id=f"t{number}", occurred_at=NOW, actor=actor, **values)


def of(event: AccountEvent, name: str) -> AccountEvent:
    """The event, signed by KEYS of this name, as sent."""
    return signed(event, KEYS[name], ID)


def blocked(at: int = NOW, *, on: bool = True, actor: str = "carol") -> AccountEvent:
    kind = AccountBlocked if on else AccountUnblocked
    return kind(account_id="a1", occurred_at=at, actor=actor)


ABOUT: dict[str, Any] = {"account_id": "a1", "occurred_at": NOW}
DONE = ActionSucceeded(**ABOUT, actor="responder", action="block", causation_id="p0:1-1")
NOTE = CaseNoted(**ABOUT, actor="carol", case_id="c1", note="called")
REFUSED: dict[str, tuple[AccountEvent, str]] = {
    "no signature": (said(), "unsigned"),
    "an invented analyst": (said("eve"), "unsigned"),
    "a key that nobody enrolled": (of(said("mallory"), "mallory"), "unsigned"),
    "another's name": (of(said("carol"), "ann"), "not_permitted"),
    "the name in capitals": (of(replace(said(), actor="CAROL"), "carol"), "not_permitted"),
    "the name in wide letters": (of(said("ｃａｒｏｌ"), "carol"), "not_permitted"),
    "an analyst's verdict by a source": (of(said("disputes"), "disputes"), "not_permitted"),
    "a chargeback by an analyst": (of(said(source="chargeback"), "carol"), "not_permitted"),
    "an early warning by the source of chargebacks": (
        of(said("disputes", source="early_fraud_warning"), "disputes"),
        "not_permitted",
    ),
    "a verdict by a publisher": (of(said("bob"), "bob"), "not_permitted"),
    "a block by a source": (of(blocked(actor="disputes"), "disputes"), "not_permitted"),
    "a responder's outcome by an analyst": (of(DONE, "carol"), "not_permitted"),
    "the API for a user who is not on the roster": (of(said("e.jones"), "web"), "not_permitted"),
    "the API for a name instead of a user": (of(said("dora"), "web"), "not_permitted"),
    "a person's key for a user": (of(said("d.jones"), "carol"), "not_permitted"),
    "signed for another log": (signed(said(), KEYS["carol"], "f" * 32), "bad_signature"),
    "another verdict under the signature": (replace(of(said(), "carol"), verdict="legitimate"), "bad_signature"),
    "another payment under the signature": (replace(of(said(), "carol"), transaction_id="t2"), "bad_signature"),
    "another account under the signature": (replace(of(said(), "carol"), account_id="a2"), "bad_signature"),
    "another nonce": (replace(of(said(), "carol"), nonce="0" * 32), "bad_signature"),
    "another's key under the signature": (replace(of(said(), "carol"), key=KEYS["ann"].key_id), "bad_signature"),
    "no bytes of a signature": (replace(of(said(), "carol"), signature="!"), "bad_signature"),
}
ACCEPTED: dict[str, AccountEvent] = {
    "an analyst's": of(said(), "carol"),
    "a block": of(blocked(), "carol"),
    "a note": of(NOTE, "carol"),
    "a source's, in its name": of(said("disputes", source="chargeback"), "disputes"),
    "a source's, in no name": of(said("", source="chargeback"), "disputes"),
    "a responder's": of(DONE, "responder-1"),
    "a user's, for whom the API vouches": of(said("d.jones"), "web"),
}


@pytest.mark.parametrize("attack", REFUSED)
def test_what_nobody_who_may_stands_behind_is_rejected(attack: str) -> None:
    """It is a reject with its reason code, no feedback; the message is kept as it was sent."""
    live = Live()
    roster(live)
    event, reason = REFUSED[attack]
    live.send([event])
    assert live.reasons == [reason] and not entries(live.log, 0, "feedback")
    assert decode_reject(entries(live.log, 0, "rejects")[0].payload).value == encode(event)
    assert live.verify().first_difference is None


@pytest.mark.parametrize("kind", ACCEPTED)
def test_what_is_signed_by_who_may_is_feedback(kind: str) -> None:
    """It is in the log with key, signature and nonce, and stands when the log is verified."""
    live = Live()
    roster(live)
    live.send([ACCEPTED[kind]])
    (entry,) = entries(live.log, 0, "feedback")
    event = decode_account_event(entry.payload)
    assert not live.reasons and event.signature and event.nonce and not event.subject
    assert live.verify().first_difference is None


@pytest.mark.parametrize("attack", [name for name, (_, reason) in REFUSED.items() if reason != "bad_signature"])
def test_a_worker_that_accepts_it_nevertheless_is_found(attack: str) -> None:
    """The log tells who was on the roster when the batch was decided."""
    live = Live()
    roster(live)
    live.send([transaction(1, occurred_at=NOW), ACCEPTED["a note"]])
    live.send([REFUSED[attack][0]], roster=Roster())
    assert len(entries(live.log, 0, "feedback")) == 2
    difference = live.verify().first_difference
    assert difference is not None and difference.position.offset == 2 and "although" in difference.lines[0]


def test_a_worker_that_refuses_what_it_must_accept_is_found() -> None:
    """It says that nobody stands behind the verdict, and the roster says who does."""
    live = Live()
    known = roster(live)
    without = known.copy()
    del without.owners[KEYS["carol"].key_id]
    live.send([ACCEPTED["an analyst's"]], roster=without)
    assert live.reasons == ["unsigned"]
    difference = live.verify().first_difference
    assert difference is not None and "was refused as unsigned" in difference.lines[0]


@pytest.mark.parametrize("field", [f for f in FeedbackReceived.__struct_fields__ if f not in ("recorded_at", "rate")])
def test_every_field_is_signed(field: str) -> None:
    """A verdict that is changed in any one field is refused; what only the worker sets is not signed."""
    live = Live()
    known = roster(live)
    event = of(said(number=7, currency="EUR", amount=5.5, reason="seen"), "carol")
    other = {
        str: "chargeback" if field == "source" else "unsure" if field == "verdict" else "other",
        int: 7,
        float: 0.5,
    }
    changed = replace(event, **{field: other[type(getattr(event, field))]})
    assert changed != event
    with pytest.raises(BadInput):
        check(changed, known, ID)
    check(replace(event, recorded_at=9, rate=2.0), known, ID)


def test_a_log_with_tokens_can_be_checked_without_what_they_stand_for() -> None:
    """The subject takes the place of account and device; the nonce, by which IDs could be tried, is not kept."""
    live = Live()
    known = roster(live)
    event = of(said(), "carol")
    held = kept(replace(event, account_id="acct_0_x", device_id="dev_x", subject=subject_of(event)))
    assert held.nonce == "" and held.subject == subject_of(event)
    check(held, known, ID)
    for wrong in (replace(held, subject="0" * 64), replace(held, transaction_id="t2")):
        with pytest.raises(BadInput, match="is not that of this feedback"):
            check(wrong, known, ID)
    guess = hashlib.sha256(b"\x1fa1\x1fd1").hexdigest()
    assert guess != held.subject


def test_a_message_names_no_subject_of_its_own() -> None:
    """A signature over a subject that fits another account is worth nothing: the worker sets it."""
    live = Live()
    roster(live)
    event = of(said(), "carol")
    live.send([replace(event, account_id="a2", nonce="", subject=subject_of(event))])
    assert live.reasons == ["unknown_field"]


def test_copies_of_blocks_have_no_effect() -> None:
    """An unblock that is sent again after the account was blocked again is refused, in its batch, later and by the
    partition's next owner; the next one by the analyst counts.
    """
    live = Live()
    roster(live)
    first, off, on = of(blocked(NOW), "carol"), of(blocked(NOW + 1, on=False), "carol"), of(blocked(NOW + 2), "carol")
    live.send([first, off, on, off])
    assert live.reasons == ["repeated_act"]
    live.send([off])
    live.restart()
    live.send([off, on, transaction(1, occurred_at=NOW)])
    assert live.reasons == ["repeated_act"] * 4
    assert live.decided[0].score.decision == "decline"
    live.send([of(blocked(NOW + 3, on=False), "carol"), transaction(2, occurred_at=NOW)])
    assert live.decided[1].score.decision == "approve" and live.verify().first_difference is None
    live.send([off], roster=Roster())
    assert live.verify().first_difference is None  # it is refused without a roster too: its key says that it is signed


def test_a_revoked_key_tells_nothing_more() -> None:
    """From the position of its revocation on; what it signed before stays."""
    live = Live()
    roster(live)
    live.send([of(said(number=1), "carol")])
    assert not put(live.log, ("ann", IdentityRevoked(**by("ann"), name="carol")))
    live.send([of(said(number=2), "carol")])
    assert live.reasons == ["unsigned"] and live.verify().first_difference is None


def test_named_feedback_needs_an_actor_on_the_roster() -> None:
    """Without signatures, where ACLs protect the topic: invented analysts and sources are refused, also by spelling."""
    live = Live()
    roster(live, "named")
    fine: list[AccountEvent] = [
        said(number=1),
        said("", number=2, source="chargeback"),
        DONE,
        said("d.jones", number=3),
    ]
    live.send(fine)
    assert not live.reasons and len(entries(live.log, 0, "feedback")) == len(fine)
    live.send([said("eve"), said("Carol"), said(""), said("", source="customer"), said("bob"), said("dora"), NOTE])
    assert live.reasons == ["not_permitted"] * 6 and live.verify().first_difference is None


def test_without_a_rule_one_analyst_has_one_voice_in_any_spelling() -> None:
    """Actors are texts then; case, width and white space make no second rater."""
    live = Live()
    live.send([said(name, number) for number, name in enumerate(("Ann", "ann", "ＡＮＮ", " ann  "))])
    told = [decode_account_event(entry.payload).actor for entry in entries(live.log, 0, "feedback")]
    assert told == ["ann"] * 4


def test_a_rule_is_tightened_by_one_and_loosened_by_two() -> None:
    """Under four eyes; and only while identity is required."""
    live = Live()
    roster(live, "named")
    for rule, required, refused in (("signed", True, ""), ("signed", True, "already"), ("named", False, "only while")):
        event = IdentityRequired(**by("ann"), required=required, feedback=rule)  # type: ignore[arg-type]
        why = list(put(live.log, ("ann", event)).values())
        assert refused in why[-1] if refused else not why, rule
    state = control_stream.current(live.log)
    assert state.governance.roster.feedback == "signed"
    state.governance.four_eyes = True
    assert state.governance.needs_second(IdentityRequired(**by("ann"), required=True, feedback="named"))


def test_every_kind_of_feedback_names_who_may_tell_it() -> None:
    """A new kind of account event needs its roles, else nobody could tell it where signatures are required."""
    for kind in AccountEvent.__args__:
        assert FEEDBACK[kind]
    assert feedback_roles(said(source="customer")) == {"customer", "submitter"}


def test_signing_again_gives_the_same_bytes() -> None:
    """So a file that is sent twice adds nothing; and an unsigned event has the bytes that it always had."""
    assert of(said(), "carol") == of(said(), "carol") != of(said(number=2), "carol")
    assert not {"key", "signature", "nonce", "subject"} & msgspec.json.decode(encode(said())).keys()
