"""E-mail, Slack, Teams, PagerDuty and about a hundred other services, through the library apprise.

Such services know no idempotency key: a message that is repeated after a crash arrives twice. apprise tells only
whether a message was delivered, not why, so what was not is tried again until the responder gives up.
"""

from __future__ import annotations

import logging
from typing import Any

from core.errors import BadInput
from responders.channels.base import DELIVERED, Message, Result


class Service:
    """A channel to one apprise URL. Raises BadInput if apprise does not know such a URL; it is not repeated."""

    def __init__(self, where: str, url: str, timeout_s: float) -> None:
        # Its log lines hold URLs with their secrets.
        logging.getLogger("apprise").addHandler(logging.NullHandler())
        logging.getLogger("apprise").propagate = False
        import apprise

        self._kinds = apprise.NotifyType
        made: Any = apprise.Apprise.instantiate(url, suppress_exceptions=True)
        if made is None:
            raise BadInput(
                f"{where}: apprise does not know a service with such a URL (apprise's wiki lists their forms)"
            )
        made.socket_connect_timeout = made.socket_read_timeout = timeout_s
        self._service = made

    def send(self, message: Message) -> Result:
        """See `responders.channels.base`."""
        kind = self._kinds.FAILURE if message.is_urgent else self._kinds.WARNING
        try:
            sent = self._service.notify(title=message.title, body=message.text, notify_type=kind)
        except Exception as error:  # noqa: BLE001 - a plugin of a service may raise anything; it must not end the rest
            return Result("unavailable", type(error).__name__)
        return DELIVERED if sent else Result("unavailable", "the service did not take the message")
