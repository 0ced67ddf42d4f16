"""A model's metrics on the test period, as plain data for the card. Evaluates only; nothing is selected here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.control import DEFAULT_DECLINE, DEFAULT_REVIEW
from learners import metrics
from learners.training.dataset import TrainingSet

CARDS_A_DAY = 100
ALERT_RATES = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The test period with the model's probabilities, float64 (n,): calibrated, as they would be logged, and
    uncalibrated.
    """

    data: TrainingSet
    probabilities: NDArray[np.float64]
    uncalibrated: NDArray[np.float64]


def evaluate(held: HeldOut, seed: int) -> dict[str, Any]:
    """The card's evaluation: `metrics` (name → float), `intervals`, `calibration`, `at_review`, `at_decline`,
    `thresholds`, `cards`.
    """
    labels, amounts, p = held.data.labels, held.data.amounts, held.probabilities
    found = metrics.bootstrap(labels, p, held.data.accounts, seed)
    days = metrics.card_precision_at_k(labels, p, held.data.times, held.data.accounts, CARDS_A_DAY)
    calibration = {
        when: {
            "ece": metrics.ece(labels, q),
            "brier": metrics.brier(labels, q),
            "log_loss": metrics.log_loss(labels, q),
        }
        for when, q in (("before", held.uncalibrated), ("after", p))
    }
    values = {name: interval.value for name, interval in found.items()}
    values["ece"] = calibration["after"]["ece"]
    values[f"card_precision_{CARDS_A_DAY}"] = metrics.mean_card_precision(days)
    return {
        "metrics": values,
        "intervals": {name: [interval.low, interval.high] for name, interval in found.items()},
        "calibration": calibration,
        "at_review": metrics.at_threshold(labels, p >= DEFAULT_REVIEW, amounts)._asdict(),
        "at_decline": metrics.at_threshold(labels, p >= DEFAULT_DECLINE, amounts)._asdict(),
        "thresholds": [_threshold(held, rate) for rate in ALERT_RATES],
        "cards": {"k": CARDS_A_DAY, "days": [day._asdict() for day in days]},
    }


def _threshold(held: HeldOut, rate: float) -> dict[str, float]:
    """The threshold that alerts on at most this share of the test period, and the metrics at it."""
    ordered = np.sort(held.probabilities)[::-1]
    allowed = int(len(ordered) * rate)
    threshold = float(np.nextafter(ordered[allowed], 2.0)) if allowed < len(ordered) else 0.0
    at = metrics.at_threshold(held.data.labels, held.probabilities >= threshold, held.data.amounts)
    return {"alert_rate_allowed": rate, "threshold": threshold, **at._asdict()}
