"""Change detection on a stream of errors, label by label: River's ADWIN and Page-Hinkley behind one small protocol.

For learners that are fed as labels arrive: predict first, take the error, learn. No windows to choose, an answer after
every label; the price is that a detector has no notion of accounts or of the week, so its false-alarm rate holds for
independent errors only. Only a rise of the error is told; getting better resets the detector silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from river.drift import ADWIN, PageHinkley

Method = Literal["adwin", "page_hinkley"]


@dataclass(frozen=True, slots=True)
class Rise:
    """The error rose: after how many errors it was seen, the mean of the window before, and after
    what is old was dropped (Page-Hinkley keeps no window: the error itself)."""

    count: int
    before: float
    since: float


class ErrorMonitor(Protocol):
    """`update` takes one error, at least 0, in order of the labels' arrival."""

    count: int

    def update(self, error: float) -> Rise | None:
        """The rise if this error shows one."""


class AdwinMonitor:
    """Adaptive windowing (Bifet, Gavaldà 2007): cuts its window wherever two parts' means differ.

    delta: bound on the chance of a false cut at each check. River checks every 32 errors.

    >>> monitor = AdwinMonitor()
    >>> rises = [monitor.update(float(i >= 500)) for i in range(1000)]
    >>> [rise.count for rise in rises if rise][0]
    512
    """

    def __init__(self, delta: float = 0.002) -> None:
        self.count = 0
        detector: Any = ADWIN
        self._detector = detector(delta=delta)

    def update(self, error: float) -> Rise | None:
        self.count += 1
        before = self._detector.estimation
        self._detector.update(error)
        since = self._detector.estimation
        return Rise(self.count, before, since) if self._detector.drift_detected and since > before else None


class PageHinkleyMonitor:
    """The Page-Hinkley test (Page 1954): the error's sum above its running mean plus `slack`, against `threshold`.

    Memory of a few floats. slack, threshold: in units of the error; errors of variance v exceed the threshold by chance
    about once in exp(2 · slack · threshold / v) excursions. No forgetting: after a long fall that would look like a
    rise. After a rise it starts anew.
    """

    def __init__(self, slack: float = 0.02, threshold: float = 20.0, errors_min: int = 30) -> None:
        self.count = 0
        self._detector: Any = PageHinkley(
            min_instances=errors_min, delta=slack, threshold=threshold, alpha=1.0, mode="up"
        )
        self._sum = 0.0
        self._seen = 0

    def update(self, error: float) -> Rise | None:
        before = self._sum / self._seen if self._seen else 0.0
        self.count += 1
        self._seen += 1
        self._sum += error
        self._detector.update(error)
        if not self._detector.drift_detected:
            return None
        self._sum, self._seen = 0.0, 0
        return Rise(self.count, before, error)


def error_monitor(method: Method) -> ErrorMonitor:
    """A monitor with the defaults of its method."""
    return AdwinMonitor() if method == "adwin" else PageHinkleyMonitor()
