"""Stream-Sentinel for notebooks and scripts: read a log, as of any moment. Nothing here writes to it.

    from stream_sentinel import open_log

    with open_log(redis_port=6380) as log:
        log.decisions(start="2026-03-01", alerts=True)          # a Polars frame; .to_pandas() gives one of pandas
        log.at("2026-03-01T12:00Z").account("a7").profile       # an account as it was known then
        log.what_if("p07:1-533", decline=0.6, amount=900.0)     # one decision, made again otherwise

What is in `__all__` is stable: names and meanings stay, other things may be added.
"""

from __future__ import annotations

from core.errors import BadInput, Corrupt, SentinelError, Unavailable
from stream_sentinel.log import Log, Moment, WhatIf, open_log

__all__ = ["BadInput", "Corrupt", "Log", "Moment", "SentinelError", "Unavailable", "WhatIf", "open_log"]
