"""A model's performance against the labels and scores of the log, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from console.api.model_performance import BINS, POINTS
from core.codec import decode_score, decode_transaction
from core.log.memory import MemoryLog
from core.log.paging import decision_pages
from tests.builders.api import Served
from tests.builders.baseline_log import PARTITIONS

ACCOUNTS = 40


@pytest.fixture(scope="module")
def judged(api: Served, decided: MemoryLog) -> tuple[str, list[tuple[bool, float, float]], int]:
    """The model, of each judged payment that it decided fraud, probability and amount; and its decisions."""
    labels: dict[tuple[str, str], str] = {}
    for number in range(ACCOUNTS):
        account = f"a{number:06d}"
        for status in ("fraud", "legitimate"):
            page = api.get("/v1/labels", "auditor", account=account, status=status, limit=1000).json()
            labels |= {(account, row["transaction_id"]): status for row in page["labels"]}
    found, decisions, model = [], 0, ""
    for p in range(PARTITIONS):
        for transactions, scores in decision_pages(decided, p):
            for entry, score in zip(transactions, scores, strict=True):
                t, s = decode_transaction(entry.payload), decode_score(score.payload)
                model, decisions = s.model or model, decisions + bool(s.model)
                label = labels.get((t.account_id, t.transaction_id))
                if label and s.model:
                    found.append((label == "fraud", float(np.float32(s.probability)), t.amount * t.rate))
    return model, found, decisions


def test_the_figures_are_those_of_the_judged_payments(api: Served, judged: tuple[str, Any, int]) -> None:
    """Counts, AUC and average precision are scikit-learn's; the curve's points are those of their thresholds."""
    model, rows, decisions = judged
    told = api.get(f"/v1/models/{model}/performance", "viewer", start="2020-01-01").json()
    frauds = np.array([row[0] for row in rows])
    said, amounts = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    assert (told["decisions"], told["judged"], told["frauds"]) == (decisions, len(rows), frauds.sum())
    assert 0 < frauds.sum() < len(rows)
    assert told["auc_roc"] == pytest.approx(roc_auc_score(frauds, said))
    assert told["average_precision"] == pytest.approx(average_precision_score(frauds, said))
    assert sum(each["payments"] for each in told["bins"]) == len(rows) and len(told["bins"]) <= BINS
    assert sum(each["payments"] * each["observed"] for each in told["bins"]) == pytest.approx(frauds.sum())
    assert all(each["low"] <= each["observed"] <= each["high"] for each in told["bins"])
    assert 2 <= len(told["curve"]) <= POINTS and told["curve"][-1]["recall"] == 1.0
    for point in told["curve"]:
        alerted = said >= point["threshold"]
        assert point["alerted"] == pytest.approx(alerted.mean())
        assert point["recall"] == pytest.approx(frauds[alerted].sum() / frauds.sum())
        assert point["precision"] == pytest.approx(frauds[alerted].mean())
        assert point["value_detection_rate"] == pytest.approx(amounts[alerted & frauds].sum() / amounts[frauds].sum())


def test_a_model_or_period_without_verdicts_has_no_figures(api: Served, judged: tuple[str, Any, int]) -> None:
    """Unknown models and empty periods have no metrics; an impossible period is refused."""
    model, _, _ = judged
    for path, start in (("nobody-9.9.9", "2020-01-01"), (model, "2037-01-01")):
        told = api.get(f"/v1/models/{path}/performance", "viewer", start=start, end="2038-01-01").json()
        assert (told["decisions"], told["auc_roc"], told["bins"], told["curve"]) == (0, None, [], [])
    assert api.get(f"/v1/models/{model}/performance", "viewer", start="2026-02-01", end="2026-01-01").status_code == 400
