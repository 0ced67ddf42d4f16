"""Signs feedback on its way into the log, in the name of whoever opened it (`core.feedback_signing`).

What is signed is what the log will hold, so card data is taken out before. Whether the log would accept it is told at
once, by the same check as the worker's, and not by a reject that nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable

from core import control_stream, feedback_signing
from core.control import ControlState
from core.events import AccountEvent
from core.hiding import without_notes
from core.identity import required
from core.log.base import EventLog, Signer
from core.settings import Settings
from ingest.protecting import Protection

Attest = Callable[[AccountEvent], AccountEvent]


def attestor(settings: Settings, log: EventLog, *, checks: bool = True) -> Attest:
    """What signs an event with the log's signer, if it has one, and, if it `checks`, raises BadInput for an event that
    workers would refuse. Raises BadInput if the log has no identity.
    """
    state = control_stream.current(log)
    signer = log.signer
    owner = state.governance.roster.owner(signer.key_id) if signer is not None else None
    name = owner.told_as if owner is not None else ""
    hide = _hiding(settings, state)

    def attest(event: AccountEvent) -> AccountEvent:
        if signer is not None and not event.key:
            event = signed(hide(event), signer, state, name)
        if checks:
            check(event, state)
        return event

    return attest


def signed(event: AccountEvent, signer: Signer, state: ControlState, name: str = "") -> AccountEvent:
    """The event, signed for this log. name: as for `feedback_signing.signed`."""
    return feedback_signing.signed(event, signer, required(state.identity).log_id, name)


def check(event: AccountEvent, state: ControlState) -> None:
    """Raise BadInput if workers would refuse the event, as far as the roster tells."""
    feedback_signing.check(event, state.governance.roster, required(state.identity).log_id)


def _hiding(settings: Settings, state: ControlState) -> Attest:
    """What takes card data out. In a log with tokens, which takes the vault, only out of what people write."""
    identity = required(state.identity)
    if identity.tokens:
        return without_notes
    hiding = Protection(free=frozenset(settings.card_free_fields)).hiding(identity)
    return lambda event: hiding.event(event)[0]
