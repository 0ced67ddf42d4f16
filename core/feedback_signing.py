"""Signatures of feedback: what is signed, by whom, and whether an account's event may be accepted (ADR 38). Pure.

    signed:   "stream-sentinel feedback v1", the log's ID, the subject, and the event's canonical bytes
    subject:  SHA-256 of a nonce, the account and the device. They stand for themselves only there, because a log with
              tokens holds other text in their place: it keeps the subject and not the nonce, so that nobody can find
              the account by trying IDs
    bytes:    `core.codec.encode` of the event (fields in the order of docs/events.md, defaults left out) without
              account, device, the four fields of the signature, and what the worker sets (recorded_at, rate)

So an accepted event can be checked by the log alone, under the roster at the control position that its batch's seal
names: the worker's decision to accept is a function of the log (`core.feedback_check`). In a log with tokens, which
account the subject is stays the edge's word, as it is for payments.

A copy of a signed message adds nothing: a verdict is a repetition of itself, acts on cases name a revision, and a block
or unblock that is not newer than the account's last one is refused (`repeated`). Signing again gives the same bytes.

Cost: 0.1 ms to verify, 0.1 ms to sign; payments and unsigned feedback cost nothing.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TypeVar

from msgspec.structs import replace

from core.authority import API, RESPONDER, feedback_roles
from core.codec import encode
from core.errors import BadInput
from core.events import AccountBlocked, AccountEvent, AccountFact, AccountUnblocked, FeedbackReceived
from core.log.base import Signer
from core.persons import is_program
from core.roster import Identity, Roster
from core.signing import is_signed

DOMAIN = b"stream-sentinel feedback v1\n"
NONCE_DOMAIN = b"stream-sentinel feedback nonce v1\n"
NONCE_CHARACTERS = 32
E = TypeVar("E", bound=AccountFact)

UNSIGNED, BAD_SIGNATURE, NOT_PERMITTED, REPEATED = "unsigned", "bad_signature", "not_permitted", "repeated_act"
REASONS: dict[str, str] = {
    UNSIGNED: "feedback must be signed by a key on the roster, and is not",
    BAD_SIGNATURE: "the signature is not this key's of this feedback on this log",
    NOT_PERMITTED: "the feedback's actor is not on the roster, is not who signed it, or may not give it",
    REPEATED: "a signed block or unblock that is not newer than the account's last one: a copy, or too late",
}
"""Reason codes of rejects (docs/bad-input.md)."""


def subject_of(event: AccountFact) -> str:
    """What the signature binds the event to: 64 hex digits. Of an event as it was signed, with its nonce."""
    named = f"{event.nonce}\x1f{event.account_id}\x1f{getattr(event, 'device_id', '')}"  # type: ignore[attr-defined]
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()


def message(event: AccountFact, log_id: str) -> bytes:
    """What is signed."""
    bare = {"account_id": "", "key": "", "signature": "", "nonce": "", "subject": "", "recorded_at": 0}
    if isinstance(event, FeedbackReceived):
        bare |= {"device_id": "", "rate": 1.0}
    return DOMAIN + f"{log_id}\n{event.subject or subject_of(event)}\n".encode() + encode(replace(event, **bare))


def signed(event: E, signer: Signer, log_id: str, name: str = "") -> E:
    """The event under the signer's key; in their name if it names them, nobody or one of our programs. name: that by
    which the roster knows who tells it (`Identity.told_as`), by default the signer's.
    """
    actor = event.actor  # type: ignore[attr-defined]
    if not actor or actor == signer.name or is_program(actor):
        actor = name or signer.name
    bare = replace(event, actor=actor, key=signer.key_id, signature="", nonce="", subject="")
    secret = hashlib.sha256(signer.sign(NONCE_DOMAIN + encode(bare))).hexdigest()
    event = replace(bare, nonce=secret[:NONCE_CHARACTERS])
    return replace(event, signature=base64.b64encode(signer.sign(message(event, log_id))).decode())


def kept(event: E) -> E:
    """The event as the log holds it: bound by its nonce, or by its subject if the log does not hold what was signed."""
    if not event.key:
        return event if not (event.nonce or event.subject) else replace(event, nonce="", subject="")
    return replace(event, subject="") if subject_of(event) == event.subject else replace(event, nonce="")


def check(event: AccountEvent, roster: Roster, log_id: str) -> None:
    """Raise BadInput, with a reason of REASONS, unless somebody who may tell this stands behind the event."""
    owner = roster.owner(event.key) if event.key else None
    if owner is None:
        if roster.feedback == "signed":
            said = f"key {event.key[:32]} is not on the roster" if event.key else "it has no key"
            raise BadInput(f"feedback must be signed: {said} (docs/identity.md)", reason=UNSIGNED)
        if roster.feedback == "named":
            _check_named(event, roster)
        return
    if event.key not in owner.keys:
        raise BadInput(f"feedback must be signed: key {event.key} of {owner.name} is revoked", reason=UNSIGNED)
    if not is_signed(roster.keys[event.key], event.signature, message(event, log_id)):
        raise BadInput(
            f"the signature of key {event.key} is not that of this feedback on this log (what holds card data, or a"
            " field that the worker sets, must be signed as the log holds it)",
            reason=BAD_SIGNATURE,
        )
    _check_roles(event, _acting(event, owner, roster))


def _acting(event: AccountEvent, owner: Identity, roster: Roster) -> Identity:
    """Who tells it: the key's owner, or whom the API vouches for. Raises BadInput."""
    if event.actor == RESPONDER:
        if RESPONDER in owner.roles:
            return owner
    elif event.actor == owner.told_as or (not event.actor and _is_source(event)):
        return owner
    elif API in owner.roles:
        found = roster.find(event.actor)
        if found is not None and not found.revoked and event.actor == found.subject:
            return found
    raise BadInput(
        f"{event.actor or 'nobody'} is not {owner.told_as}, whose key signed this: names must be spelled as on the"
        " roster",
        reason=NOT_PERMITTED,
    )


def _check_named(event: AccountEvent, roster: Roster) -> None:
    """Raise BadInput unless the unsigned event names somebody on the roster who may tell it; a source or a responder
    need not be named, if there is one.
    """
    if event.actor == RESPONDER or (not event.actor and _is_source(event)):
        roles = frozenset((RESPONDER,)) & feedback_roles(event) if event.actor else feedback_roles(event)
        if not any(not each.revoked and not roles.isdisjoint(each.roles) for each in roster.identities.values()):
            raise BadInput("nobody on the roster may tell this", reason=NOT_PERMITTED)
        return
    found = roster.find(event.actor)
    if found is None or found.revoked or event.actor != found.told_as:
        raise BadInput(f"{event.actor[:64] or 'nobody'} is not on the roster, spelled so", reason=NOT_PERMITTED)
    _check_roles(event, found)


def _check_roles(event: AccountEvent, acting: Identity) -> None:
    roles = feedback_roles(event)
    if roles.isdisjoint(acting.roles):
        needed = ", ".join(sorted(roles)) or "no role"
        raise BadInput(
            f"{acting.name} ({', '.join(acting.roles)}) may not tell this: it takes {needed}", reason=NOT_PERMITTED
        )


def _is_source(event: AccountEvent) -> bool:
    """Whether it is a verdict of a source that is no person, and so needs no name."""
    return isinstance(event, FeedbackReceived) and event.source != "analyst"


def repeats(event: AccountEvent, acted_at: int) -> bool:
    """Whether a signed block or unblock is a copy of what took effect before, or older. acted_at: when the account's
    last signed one was told, epoch ms; 0 for none.
    """
    return bool(event.key) and isinstance(event, AccountBlocked | AccountUnblocked) and event.occurred_at <= acted_at
