"""Who gives verdicts, and how far each source is trusted before anything is learned of it: one entry a source.

The names are the wire's (`core.events.FeedbackSource`); every one of them needs an entry here, or the module does not
load. docs/feedback.md holds the table and a test compares the two.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from core.events import FeedbackSource


class Source(NamedTuple):
    """What is assumed of a source.

    reliability: how much its word weighs at full confidence, before anything is learned. delay_days_max: the longest
    from payment to verdict (None: no limit). per_hour_max: the most verdicts in a clock hour of log time (None: no
    limit; processors send files). is_person: each actor is a voice of his own, and only a named one has a rate.
    rate_of: whom the rate is counted for.
    """

    reliability: float
    delay_days_max: int | None = None
    per_hour_max: int | None = None
    is_person: bool = False
    rate_of: Literal["actor", "account"] = "actor"


SOURCES: dict[FeedbackSource, Source] = {
    "analyst": Source(0.9, per_hour_max=1_000, is_person=True),
    "customer": Source(0.6, per_hour_max=500, rate_of="account"),
    "chargeback": Source(0.95, delay_days_max=540),  # as long as card schemes take them
    "early_fraud_warning": Source(0.7, delay_days_max=540),
    "representment": Source(0.95, delay_days_max=720),
}
_missing = set(get_args(FeedbackSource)) - set(SOURCES)
if _missing:
    raise TypeError(f"feedback sources without an entry in SOURCES: {', '.join(sorted(_missing))}")


def markdown() -> str:
    """The table of docs/feedback.md."""
    rows = ["| source | reliability | at most so long after the payment | verdicts an hour | a voice is |"]
    rows.append("|---|---|---|---|---|")
    for name, source in SOURCES.items():
        delay = f"{source.delay_days_max} days" if source.delay_days_max else ""
        rate = f"{source.per_hour_max:,} of one {source.rate_of}" if source.per_hour_max else ""
        voice = "a person" if source.is_person else "the source"
        rows.append(f"| `{name}` | {source.reliability} | {delay} | {rate} | {voice} |")
    return "\n".join(rows) + "\n"
