"""The verdicts on one account, as the features count them (core/features/verdicts.py of Stream-Sentinel).

On one payment, in the order in which they were given: a verdict before its payment, or too long after it, does not
count; nor does a rater's repetition of itself. Of sources that exceeded their rate in an hour, that hour's are left out
from the control event on that says so. Of more than a hundred, the payments with the least recent verdicts are dropped,
and what these counted for stays counted.
"""

from typing import Any, NamedTuple

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
KEPT = 100
SKEW_MS = 300_000
DELAY_DAYS_MAX = {"chargeback": 540, "early_fraud_warning": 540, "representment": 720}

Hour = tuple[str, int]
"""What a verdict's rate is counted under, and the hour (epoch ms // HOUR_MS)."""


class Word(NamedTuple):
    """A verdict. hour: in which it was recorded, epoch ms."""

    source: str
    verdict: str
    confidence: float
    actor: str
    given_at: int
    hour: int
    paid_at: int

    @property
    def is_timely(self) -> bool:
        """Whether it comes neither before its payment nor later than its source may."""
        delay, longest = self.given_at - self.paid_at, DELAY_DAYS_MAX.get(self.source)
        return not self.paid_at or (delay >= -SKEW_MS and (longest is None or delay <= longest * DAY_MS))


class Count(NamedTuple):
    """How many count. last: when the latest fraud verdict was given, epoch ms; 0 for none."""

    frauds: int = 0
    legitimates: int = 0
    last: int = 0

    def plus(self, other: "Count") -> "Count":
        """Both together."""
        return Count(self.frauds + other.frauds, self.legitimates + other.legitimates, max(self.last, other.last))


class Verdicts:
    """The verdicts on one account, in the order of the log."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._payments: dict[str, list[Word]] = {}
        self._settled = Count()

    def add(self, event: dict[str, Any]) -> None:
        """Add a verdict: an event feedback.v1."""
        word = Word(
            event["source"], event["verdict"], float(event.get("confidence", 1.0)), event.get("actor", ""),
            event["occurred_at"], event.get("recorded_at", 0) // HOUR_MS * HOUR_MS,
            event.get("transaction_occurred_at", 0),
        )  # fmt: skip
        words = self._payments.pop(event["transaction_id"], [])
        self._payments[event["transaction_id"]] = words
        if word in words:
            return
        words.append(word)
        while sum(map(len, self._payments.values())) > KEPT:
            self._settled = self._settled.plus(_counted(self._payments.pop(next(iter(self._payments)))))

    def counted(self, left_out: set[Hour]) -> Count:
        """What counts, without the verdicts of these hours."""
        found = self._settled
        for words in self._payments.values():
            found = found.plus(_counted([word for word in words if self.rated(word) not in left_out]))
        return found

    def rated(self, word: Word) -> Hour:
        """The hour that it counts towards."""
        who = self._account if word.source == "customer" else word.actor
        return f"{word.source}:{who}", word.hour // HOUR_MS


def _counted(words: list[Word]) -> Count:
    """How many of one payment's verdicts count."""
    holds: dict[str, tuple[str, float]] = {}
    said: set[tuple[str, str, float, int]] = set()
    kept: list[Word] = []
    for word in sorted((word for word in words if word.is_timely), key=lambda word: word.given_at):
        rater = f"{word.source}:{word.actor}" if word.source == "analyst" else word.source
        exactly = (rater, word.verdict, word.confidence, word.given_at)
        if holds.get(rater) != (word.verdict, word.confidence) and exactly not in said:
            holds[rater] = (word.verdict, word.confidence)
            kept.append(word)
        said.add(exactly)
    frauds = [word.given_at for word in kept if word.verdict == "fraud"]
    return Count(len(frauds), sum(word.verdict == "legitimate" for word in kept), max(frauds, default=0))
