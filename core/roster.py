"""The roster: who exists, by which keys they sign, and what their roles allow. A part of `core.governance`, which every
reader of the control stream folds. Pure.

    the first identity     an administrator adds themselves, signed by the very key that they add
    later ones             are added, changed and revoked by an administrator on the roster, whether or not identity is
                           required; everybody adds and revokes keys of their own. All of it under one's own key: the
                           API vouches for nobody here, nor for turning four eyes off
    names, users, keys     belong to one identity for ever, also after it is revoked. Names that differ by case, width,
                           white space, invisible characters or by their looks are one name (`core.persons`)
    administrators         as many remain as are needed to change the roster: two, once there were two and four eyes
                           are on, else one
    identity required      an event has an effect only if a key on the roster signed it, its actor is the key's owner
                           (or exactly a user of the API whose person is on the roster, and the key's owner has the
                           role api), and the actor's roles allow it (`core.authority`)

Whether a signature holds is checked before (`core.control`): it depends on the event's place in the log.
"""

from __future__ import annotations

import msgspec

from core.authority import ADMIN, API, WORKER, check_roles, is_service, kind_of
from core.errors import BadInput
from core.events import (
    Control,
    FeedbackRule,
    GovernanceChanged,
    IdentityAdded,
    IdentityChanged,
    IdentityKeyAdded,
    IdentityKeyRevoked,
    IdentityRequired,
    IdentityRevoked,
)
from core.persons import fault, lookalike, skeleton
from core.signing import key_id, public_bytes
from core.text import check_name, listed

IDENTITIES_MAX = 10_000
KEYS_MAX = 50
"""Keys that one identity has at once."""


_BY_OWN_KEY = (
    GovernanceChanged,
    IdentityAdded,
    IdentityChanged,
    IdentityKeyAdded,
    IdentityKeyRevoked,
    IdentityRequired,
    IdentityRevoked,
)
"""What nobody is vouched for: otherwise the API's key could make itself everybody."""


class Identity(msgspec.Struct, frozen=True):
    """A person or a service. keys: those that are valid, by ID. subject: its name as a user of the API, "" for none."""

    name: str
    roles: tuple[str, ...]
    subject: str = ""
    keys: tuple[str, ...] = ()
    revoked: bool = False

    @property
    def told_as(self) -> str:
        """The one name by which it tells what concerns an account, so that nobody has two voices."""
        return self.subject or self.name

    @property
    def is_admin(self) -> bool:
        """Whether it can change the roster: an administrator with a key."""
        return ADMIN in self.roles and bool(self.keys) and not self.revoked


class Roster(msgspec.Struct):
    """The fold. identities: by `skeleton` of the name. names: whose a name or user is, by its skeleton. keys: public
    keys (64 hex digits) by ID, revoked ones too; owners: whose they are, or were. shared: whether there ever were two
    administrators. feedback: what feedback needs to be accepted (`core.feedback_signing`).
    """

    identities: dict[str, Identity] = {}
    names: dict[str, str] = {}
    keys: dict[str, str] = {}
    owners: dict[str, str] = {}
    required: bool = False
    shared: bool = False
    feedback: FeedbackRule = ""

    def copy(self) -> Roster:
        """A copy on which events can be tried."""
        copies = dict(self.identities), dict(self.names), dict(self.keys), dict(self.owners)
        return Roster(*copies, self.required, self.shared, self.feedback)

    # --- who ---

    def find(self, name: str) -> Identity | None:
        """The identity that has this name, or this user of the API."""
        return self.identities.get(self.names.get(skeleton(name), ""))

    def owner(self, key: str) -> Identity | None:
        """The identity whose key this ID is, valid or revoked; None if it was never on the roster."""
        return self.identities.get(self.owners.get(key, ""))

    def unknown(self, name: str) -> BadInput:
        """The error that nobody on the roster has a name."""
        names = listed(sorted(each.name for each in self.identities.values())) or "nobody"
        return BadInput(f"{name} is not on the roster (on it: {names})")

    def who(self, actor: str) -> str:
        """What people are told apart by: equal for all names of one identity, and for all spellings of a name."""
        found = self.find(actor)
        return skeleton(actor if found is None else found.name)

    def admins(self) -> int:
        """How many identities can change the roster."""
        return sum(each.is_admin for each in self.identities.values())

    def check_second(self, approver: str, proposer: str, what: str) -> None:
        """Raise BadInput unless the approver is another person than the proposer; a service approves nothing."""
        if self.who(approver) == self.who(proposer):
            raise BadInput(f"four eyes: {proposer} proposed this {what}, so somebody else must approve it")
        for name in (approver, proposer):
            if why := lookalike(name):
                raise BadInput(f"four eyes: {name} can't be told from others: {why}")
        found, by = self.find(approver), self.find(proposer)
        if found is not None and is_service(found.roles):
            raise BadInput(f"four eyes: {found.name} is a service, and a person must approve this {what}")
        if by is not None and by.revoked:
            raise BadInput(f"four eyes: {by.name}, who proposed this {what}, is revoked: propose it again")

    # --- what may come next ---

    def check(self, event: Control, four_eyes: bool) -> None:
        """Raise BadInput if nobody who may stands behind the event, or it may not follow the events before it."""
        if not (event.key or self.required or isinstance(event, _BY_OWN_KEY)):
            return
        acting = self._acting(event)
        if acting is not None and event.key not in acting.keys:
            acting = None if isinstance(event, _BY_OWN_KEY) else acting  # the API vouches for it
        match event:
            case GovernanceChanged(four_eyes=False) if self.required and acting is None:
                raise BadInput("four eyes are turned off under an administrator's own key, not through the API")
            case IdentityAdded():
                self._check_added(event, acting)
            case IdentityChanged():
                self._check_admin(acting)
                known = self._known(event.name)
                self._check_roles(known.name, event.roles, bool(known.keys), event.subject)
                self._check_user(event.subject, known)
                self._check_left(known, msgspec.structs.replace(known, roles=event.roles), four_eyes)
            case IdentityRevoked():
                self._check_admin(acting)
                known = self._known(event.name)
                self._check_left(known, msgspec.structs.replace(known, revoked=True), four_eyes)
            case IdentityKeyAdded():
                known = self._known(event.name)
                self._check_own(acting, known)
                self._check_key(event.public_key)
                if len(known.keys) >= KEYS_MAX:
                    raise BadInput(f"{known.name} has {KEYS_MAX} keys already: revoke one")
            case IdentityKeyRevoked():
                known = self._known(event.name)
                self._check_own(acting, known)
                if event.key_id not in known.keys:
                    raise BadInput(f"{known.name} has no key {event.key_id[:32]!r}; theirs: {', '.join(known.keys)}")
                self._check_left(known, _without(known, event.key_id), four_eyes)
            case IdentityRequired():
                self._check_admin(acting)
                self._check_required(event, four_eyes)
            case _:
                pass

    def _acting(self, event: Control) -> Identity | None:
        """Who acts, as far as a key of the roster says. Raises BadInput if the key is revoked, or if identity is
        required and it does not stand for the actor, or their roles don't allow the act.
        """
        owner = self.owner(event.key) if event.key else None
        if owner is not None and event.key not in owner.keys:
            raise BadInput(f"key {event.key} of {owner.name} is revoked")
        if owner is None:
            if self.required:
                said = f"key {event.key} is not on the roster" if event.key else "it is not signed"
                raise BadInput(f"identity is required: {said} (docs/identity.md)")
            return None
        acting: Identity | None = owner
        if self.who(event.actor) != skeleton(owner.name):
            acting = self._vouched(owner, event.actor)
            if acting is None and self.required:
                raise BadInput(f"{event.actor} is not {owner.name}, whose key signed this")
        if self.required and acting is not None:
            roles = kind_of(event).roles
            if roles.isdisjoint(acting.roles):
                needed = ", ".join(sorted(roles)) or "no role"
                raise BadInput(f"{acting.name} ({', '.join(acting.roles)}) may not do this: it takes {needed}")
        return acting

    def _vouched(self, owner: Identity, actor: str) -> Identity | None:
        """The person that the API's key vouches for; None if it can't."""
        found = self.find(actor)
        if API not in owner.roles or found is None or found.revoked:
            return None
        return found if actor == found.subject else None  # users whose names look alike are different users

    def _check_admin(self, acting: Identity | None) -> None:
        if acting is None or ADMIN not in acting.roles:
            raise BadInput("the roster is changed by an administrator on it, signed by their own key (identity_key)")

    def _check_own(self, acting: Identity | None, known: Identity) -> None:
        if acting != known:
            self._check_admin(acting)

    def _known(self, name: str) -> Identity:
        found = self.find(name)
        if found is None or skeleton(found.name) != skeleton(name):
            raise self.unknown(name)
        if found.revoked:
            raise BadInput(f"{found.name} is revoked, for ever: add another identity")
        return found

    def _check_added(self, event: IdentityAdded, acting: Identity | None) -> None:
        if not self.identities:
            if ADMIN not in event.roles or not event.public_key:
                raise BadInput("the first identity on the roster is an administrator with a key")
            if skeleton(event.actor) != skeleton(event.name) or event.key != key_id(public_bytes(event.public_key)):
                raise BadInput("the first administrator adds themselves, signed by the key that they add")
        else:
            self._check_admin(acting)
        if len(self.identities) >= IDENTITIES_MAX:
            raise BadInput(f"the roster holds {IDENTITIES_MAX:,} identities already")
        check_name("the name", event.name)
        if why := fault(event.name):
            raise BadInput(f"{event.name} can't be an identity's name: {why}")
        if (taken := self.names.get(skeleton(event.name))) is not None:
            known = self.identities[taken].name
            raise BadInput(f"{event.name} can't be told from {known}, who is or was on the roster")
        self._check_roles(event.name, event.roles, bool(event.public_key), event.subject)
        self._check_user(event.subject, None)
        if event.public_key:
            self._check_key(event.public_key)

    def _check_roles(self, name: str, roles: tuple[str, ...], has_key: bool, subject: str) -> None:
        if why := check_roles(roles):
            raise BadInput(f"{name}: {why}")
        if is_service(roles) and (subject or not has_key):
            raise BadInput(f"{name} is a service: it has a key, and is no user of the API")
        if not has_key and not subject:
            raise BadInput(f"{name} needs a key, or a user of the API")

    def _check_user(self, subject: str, known: Identity | None) -> None:
        if not subject:
            return
        check_name("the user of the API", subject)
        taken = self.names.get(skeleton(subject))
        if taken is not None and (known is None or taken != skeleton(known.name)):
            raise BadInput(f"the user {subject} is {self.identities[taken].name}'s")

    def _check_key(self, public_key: str) -> None:
        key = key_id(public_bytes(public_key))
        if key in self.owners:
            raise BadInput(
                f"key {key} is or was {self.identities[self.owners[key]].name}'s: each has keys of their own"
            )

    def _check_left(self, before: Identity, after: Identity, four_eyes: bool) -> None:
        """Raise BadInput if too few administrators would be left to change the roster."""
        left = self.admins() - before.is_admin + after.is_admin
        if before.is_admin and not after.is_admin and left < _needed(four_eyes and self.shared):
            raise BadInput(f"only {left} administrators would be left: add another one first")

    def _check_required(self, event: IdentityRequired, four_eyes: bool) -> None:
        if (event.required, event.feedback) == (self.required, self.feedback):
            raise BadInput(f"identity is {'required' if self.required else 'not required'} already, for feedback too")
        if not event.required:
            if event.feedback:
                raise BadInput("feedback needs an actor on the roster only while identity is required")
            return
        if self.admins() < (needed := _needed(four_eyes)):
            raise BadInput(f"{needed} administrators with keys must be on the roster first: {self.admins()} are")
        if not any(WORKER in each.roles and each.keys and not each.revoked for each in self.identities.values()):
            raise BadInput("a worker must be on the roster first: what workers append would have no effect")

    # --- fold ---

    def apply(self, event: Control) -> None:
        """Fold an event that passed `check`."""
        if not isinstance(event, _BY_OWN_KEY):
            return
        match event:
            case IdentityAdded():
                known = Identity(event.name, event.roles, event.subject)
                self._put(known if not event.public_key else self._with_key(known, event.public_key))
            case IdentityChanged():
                self._put(msgspec.structs.replace(self._known(event.name), roles=event.roles, subject=event.subject))
            case IdentityRevoked():
                self._put(msgspec.structs.replace(self._known(event.name), revoked=True, keys=()))
            case IdentityKeyAdded():
                self._put(self._with_key(self._known(event.name), event.public_key))
            case IdentityKeyRevoked():
                self._put(_without(self._known(event.name), event.key_id))
            case IdentityRequired():
                self.required, self.feedback = event.required, event.feedback
            case _:
                return
        self.shared |= self.admins() >= 2

    def _put(self, identity: Identity) -> None:
        whose = skeleton(identity.name)
        self.identities[whose] = identity
        self.names[whose] = whose
        if identity.subject:
            self.names[skeleton(identity.subject)] = whose

    def _with_key(self, identity: Identity, public_key: str) -> Identity:
        key = key_id(public_bytes(public_key))
        self.keys[key], self.owners[key] = public_key, skeleton(identity.name)
        return msgspec.structs.replace(identity, keys=(*identity.keys, key))


def _needed(two: bool) -> int:
    return 2 if two else 1


def _without(identity: Identity, key: str) -> Identity:
    return msgspec.structs.replace(identity, keys=tuple(each for each in identity.keys if each != key))
