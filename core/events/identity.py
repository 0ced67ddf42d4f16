"""The control events of the roster, who may act and by which keys, and of changes that need a second person
(`core.roster`, `core.governance`).
"""

from __future__ import annotations

from typing import Any, Literal

from core.events.base import ControlEvent

FeedbackRule = Literal["", "named", "signed"]


class IdentityAdded(ControlEvent, tag="identity_added.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on a person or a service of this name may act with this Ed25519 key (64 hex digits; "" for none).

    roles: core.authority. subject: a person's name as a user of the HTTP API, which vouches for them; "" for none.
    """

    name: str
    roles: tuple[str, ...]
    public_key: str = ""
    subject: str = ""


class IdentityChanged(ControlEvent, tag="identity_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on the identity has these roles and this subject. Its name and its keys stay."""

    name: str
    roles: tuple[str, ...]
    subject: str = ""


class IdentityRevoked(ControlEvent, tag="identity_revoked.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on the identity can't act. Nobody else ever gets its name or its keys."""

    name: str


class IdentityKeyAdded(ControlEvent, tag="identity_key_added.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on the identity also acts with this key."""

    name: str
    public_key: str


class IdentityKeyRevoked(ControlEvent, tag="identity_key_revoked.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on nothing that this key signs has an effect. key_id: `core.signing.key_id`."""

    name: str
    key_id: str


class IdentityRequired(ControlEvent, tag="identity_required.v1", tag_field="type", frozen=True, kw_only=True):
    """required: from here on an event has an effect only if the key of somebody on the roster signed it, whose roles
    allow it. All open proposals are closed. feedback: what an account's feedback needs to be accepted: "named", an
    actor on the roster; "signed", also their signature; "": nothing.
    """

    required: bool
    feedback: FeedbackRule = ""


class ChangeProposed(ControlEvent, tag="change_proposed.v1", tag_field="type", frozen=True, kw_only=True):
    """`actor` proposes a change that four eyes covers. It takes effect by an event with this content whose cause is
    `proposal_id` and whose actor is somebody else. change: that event without what concerns its author
    (`core.changes.content`).
    """

    proposal_id: str
    change: dict[str, Any]


class ChangeWithdrawn(ControlEvent, tag="change_withdrawn.v1", tag_field="type", frozen=True, kw_only=True):
    """`actor` withdraws the proposal of a change: it can't take effect any more."""

    proposal_id: str
