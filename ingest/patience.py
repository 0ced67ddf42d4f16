"""Waits for servers that can't be reached."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from core.errors import Unavailable
from ingest import telemetry

RETRY_S = 0.2
T = TypeVar("T")


def persist(action: Callable[[], T], seconds: float, is_stopping: Callable[[], bool] = lambda: False) -> T:
    """The action's result, tried again while servers can't be reached.

    Raises Unavailable if they still can't after so many seconds, or when the process is asked to stop.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return action()
        except Unavailable as error:
            if is_stopping() or time.monotonic() > deadline:
                raise
            telemetry.logger().warning("ingest.server_unavailable", error=str(error))
            time.sleep(RETRY_S)
