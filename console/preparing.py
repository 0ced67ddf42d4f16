"""Waits until workers are prepared for programs: they fold the aggregates beside their work (`ingest.preparing`)."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Annotated

import typer

from core.control_stream import ControlStream
from core.errors import Unavailable
from core.log.base import EventLog
from learners.governance.programs import unprepared

POLL_S = 0.5
"""Between looks."""

Wait = Annotated[float, typer.Option("--wait", min=0.0, help="Seconds to wait for workers to fold its aggregates.")]
Now = Annotated[bool, typer.Option("--now", help="Don't wait: partitions that are not prepared pause until they are.")]


def await_prepared(log: EventLog, lacking: Mapping[str, list[int]], wait_s: float, what: str) -> None:
    """Wait until no partition lacks a program's aggregates. lacking: the partitions that do, by the program's SHA-256.

    Raises Unavailable if some still do then; nothing is `what` ("deployed").
    """
    until, stream = time.monotonic() + wait_s, ControlStream()
    for digest, first in lacking.items():
        partitions = first
        if partitions:
            print(f"waiting for {len(partitions)} partitions to fold the aggregates of {digest[:16]}", file=sys.stderr)
        while partitions:
            if time.monotonic() >= until:
                raise Unavailable(
                    f"not {what}: partitions {', '.join(map(str, partitions))} are not prepared after {wait_s:g} s. Is"
                    " a worker running (sentinel ingest)? Try again to go on waiting, or with --now to let them pause"
                )
            time.sleep(POLL_S)
            partitions = unprepared(log, digest, stream)
