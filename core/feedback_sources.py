"""The sources of verdicts, and how far each is trusted before anything is learned about it: one entry per source.

The names are those of the wire format (`core.events.FeedbackSource`). Each of them needs an entry here, or the module
fails to import. docs/feedback.md contains the table and a test compares the two.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from core.events import FeedbackSource


class Source(NamedTuple):
    """What is assumed of a source.

    reliability: the weight of its verdict at full confidence, before anything is learned. delay_days_max: the longest
    time from payment to verdict (None: no limit). per_hour_max: the most verdicts in a clock hour of log time (None: no
    limit; processors send files). is_person: each actor is a rater of its own, and only named actors have a rate limit.
    rate_of: what the rate is counted per.
    """

    reliability: float
    delay_days_max: int | None = None
    per_hour_max: int | None = None
    is_person: bool = False
    rate_of: Literal["actor", "account"] = "actor"


SOURCES: dict[FeedbackSource, Source] = {
    "analyst": Source(0.9, per_hour_max=1_000, is_person=True),
    "customer": Source(0.6, per_hour_max=500, rate_of="account"),
    "chargeback": Source(0.95, delay_days_max=540),  # as long as card schemes accept them
    "early_fraud_warning": Source(0.7, delay_days_max=540),
    "representment": Source(0.95, delay_days_max=720),
}
_missing = set(get_args(FeedbackSource)) - set(SOURCES)
if _missing:
    raise TypeError(f"feedback sources without an entry in SOURCES: {', '.join(sorted(_missing))}")


def markdown() -> str:
    """The table of docs/feedback.md."""
    rows = ["| source | reliability | latest after the payment | verdicts an hour, at most | one rater per |"]
    rows.append("|---|---|---|---|---|")
    for name, source in SOURCES.items():
        delay = f"{source.delay_days_max} days" if source.delay_days_max else ""
        rate = f"{source.per_hour_max:,} per {source.rate_of}" if source.per_hour_max else ""
        rater = "person" if source.is_person else "source"
        rows.append(f"| `{name}` | {source.reliability} | {delay} | {rate} | {rater} |")
    return "\n".join(rows) + "\n"
