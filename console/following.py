"""Commands with --follow: one step after another, through outages of the log server and full disks.

States: stepping → (the step raises Unavailable, or its output can't be written) waiting → stepping. A step must be safe
to repeat after a failure at any point, which holds for all steps here: they fold the log from their place or append to
the control stream conditionally. Any other error ends the command, since waiting does not mend it. A command that is
not following passes every error on. Its health (`console.follower_health`) is told of each step.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from core.errors import Unavailable
from core.files import FULL_DISK, Lossy
from ingest.health import Health


def run_steps(step: Callable[[], None], *, follow: bool, interval_s: float, health: Health | None = None) -> None:
    """Call `step` once or, with `follow`, for ever, with `interval_s` seconds between two calls.

    An outage is reported once on stderr, and its end too.
    """
    report = Lossy(sys.stderr)
    waiting = ""
    while True:
        try:
            step()
        except Unavailable as error:
            failure = str(error)
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            failure = f"output can't be written: {error.strerror}"
        else:
            if waiting:
                print("sentinel: continues", file=report, flush=True)
            if not follow:
                return
            failure = ""
        if failure and not follow:
            raise Unavailable(failure)
        if failure and not waiting:
            print(f"sentinel: {failure}; trying again every {interval_s:g} s", file=report, flush=True)
        waiting = failure
        if health is not None:
            health.stepped(interval_s, failure)
        time.sleep(interval_s)
