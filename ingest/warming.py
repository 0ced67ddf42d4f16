"""Makes a worker ready to decide before it joins its group: from the moment it has partitions, their payments wait for
it. Loading the compiled code takes seconds of a processor; compiling it, a minute.
"""

from __future__ import annotations

from core import card_numbers, partitioner, pipeline, validation
from core.context import Context
from core.identity import LogIdentity
from core.log.archive import segment
from core.settings import Settings


def warm_up(settings: Settings, context: Context, identity: LogIdentity) -> None:
    """Run once whatever is compiled and decides, checks, places or reads a payment."""
    pipeline.warm_up(context, identity)
    validation.warm_up()
    partitioner.warm_up()
    card_numbers.warm_up()
    if settings.archive:
        segment.warm_up()
