"""A trained model enters the registry: its bytes into the log's blobs, then one control event that names them."""

from __future__ import annotations

from typing import Any

from core.codec import decode_control, encode
from core.errors import BadInput, ConcurrencyError
from core.events import ModelRegistered
from core.log.base import EventLog
from learners.training import Trained

ATTEMPTS_MAX = 20


def register(log: EventLog, trained: Trained, actor: str, reason: str, now_ms: int) -> int:
    """Store the artifact and append ModelRegistered; the position of that event. now_ms: epoch ms.

    Steps: 1 put the blob (safe to repeat), 2 read the control stream to its end, 3 append if nothing came since, else
    again from 2. A model that is registered already under its name and version is not registered twice: its position is
    returned. Raises BadInput if that name and version are another artifact's, Conflict if others keep writing first.
    """
    card: dict[str, Any] = trained.card
    event = ModelRegistered(
        occurred_at=now_ms,
        actor=actor,
        reason=reason,
        name=card["name"],
        version=card["version"],
        digest=log.put_blob(trained.content),
        spec=card["spec"],
        metrics={name: value for name, value in card["metrics"].items() if value == value},
        parent=card.get("parent", ""),
    )
    for _ in range(ATTEMPTS_MAX):
        position, found = _registered(log, event.name, event.version)
        if found is not None:
            if found[1] != event.digest:
                raise BadInput(
                    f"{event.name} {event.version} is another model already ({found[1][:16]}): raise the version"
                )
            return found[0]
        try:
            return log.append_control([encode(event)], position)
        except ConcurrencyError:
            continue
    raise ConcurrencyError(f"others wrote to the control stream first, {ATTEMPTS_MAX} times in a row")


def _registered(log: EventLog, name: str, version: str) -> tuple[int, tuple[int, str] | None]:
    """(the control stream's end, (position, digest) of the name and version if registered)."""
    end, found = 0, None
    while page := log.read_control(end):
        for position, payload in page:
            event = decode_control(payload)
            if isinstance(event, ModelRegistered) and (event.name, event.version) == (name, version):
                found = (position, event.digest)
        end = page[-1][0]
    return end, found
