"""A dry run: what would be done is told, and nothing is done. No message leaves, and nothing is written to Kafka."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core.codec import decode_account_event
from core.events import START, ActionFailed, ActionSucceeded, Position
from responders.channels.base import DELIVERED, Channel, Message, Result
from responders.ports import Outgoing
from responders.settings import RespondSettings


@dataclass(frozen=True)
class Rehearsal:
    """Takes the place of Kafka. tell: where lines go."""

    tell: Callable[[str], None]

    def send(self, events: Sequence[Outgoing]) -> list[Position]:
        """See `responders.ports.Outlet`."""
        for each in events:
            event = decode_account_event(each.payload)
            if isinstance(event, ActionSucceeded):
                self.tell(f"would do    {event.action:<30} alert {event.causation_id}, account {event.account_id}")
            elif isinstance(event, ActionFailed):
                what = f"{event.action:<30} alert {event.causation_id}, account {event.account_id}"
                self.tell(f"would park  {what}: {event.error}")
        return [START] * len(events)


@dataclass(frozen=True)
class _Told:
    """Takes the place of a channel."""

    name: str
    rehearsal: Rehearsal

    def send(self, message: Message) -> Result:
        self.rehearsal.tell(f"would send  {self.name:<30} {message.text}")
        return DELIVERED


def rehearsed(settings: RespondSettings, rehearsal: Rehearsal) -> Mapping[str, Channel]:
    """A stand-in for every channel; no secret is read."""
    return {name: _Told(name, rehearsal) for name in settings.channels}
