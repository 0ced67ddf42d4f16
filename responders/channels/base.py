"""The channel protocol: one message, sent once, and what became of it.

    delivered      the receiver took it
    refused        it never will: sending again is useless (a wrong address, a wrong secret, a bad request)
    unavailable    it may take it later: the caller tries again, after `wait_s` if the receiver said so

A channel never retries by itself, keeps no state between messages and may be called by several threads.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

Fate = Literal["delivered", "refused", "unavailable"]


class Message(NamedTuple):
    """What is sent. key: the idempotency key: a receiver that knows it already has done what is asked. kind: such as
    `alert.notify_customer`. at: when it is sent, epoch s. body: JSON; title and text: the same for people. trace: the
    header `traceparent`, for channels that can carry it; "" for none.
    """

    key: str
    kind: str
    at: int
    body: bytes
    title: str
    text: str
    is_urgent: bool = False
    trace: str = ""


class Result(NamedTuple):
    """What became of a message. error: why it was not delivered, without secrets; "" if it was."""

    fate: Fate
    error: str = ""
    wait_s: float = 0.0


DELIVERED = Result("delivered")


class Channel(Protocol):
    """See the module's head."""

    def send(self, message: Message) -> Result:
        """Send it once. Never raises for what a receiver or the network does."""
