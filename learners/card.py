"""The model card as Markdown, from the card's data. Says what the model is, and what it is not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from core.control import DEFAULT_DECLINE, DEFAULT_REVIEW


def model_card(card: dict[str, Any]) -> str:
    """Markdown of a card made by learners.training.train (Mitchell et al., Model Cards for Model Reporting, 2019)."""
    split = card["split"]
    auc, ap = ((card["metrics"][name], *card["intervals"][name]) for name in ("auc_roc", "average_precision"))
    lines = [
        f"# Model card: {card['name']} {card['version']}",
        "",
        f"LightGBM, {card['trees']} trees, feature spec {card['spec']}, seed {card['seed']}.",
        f"SHA-256 `{card['digest']}`.",
        "",
        "## Data",
        "",
        f"Trained and tested on {card['data']}.",
        "Split by event time, never shuffled, with a gap of the label delay between:",
        "",
        "| | from | to | transactions | frauds |",
        "|---|---|---|---|---|",
        _period_row("train", split),
        _period_row("test", split),
        "",
        "Features are those that the worker logged at decision time; labels are the verdicts. Without a verdict a",
        "transaction counts as legitimate. Part of the training rows stand in it a second time without reference",
        "tables, so that the model knows that case.",
        "",
        "## Measured on the test period",
        "",
        "| | value | 95 % interval (bootstrap over accounts) |",
        "|---|---|---|",
        f"| area under the ROC curve | {auc[0]:.3f} | {auc[1]:.3f} … {auc[2]:.3f} |",
        f"| average precision | {ap[0]:.3f} | {ap[1]:.3f} … {ap[2]:.3f} |",
        "",
        "| alerting from | alert rate | precision | recall | value detected | false positives per hit (FP:TP) |",
        "|---|---|---|---|---|---|",
        _threshold_row(f"{DEFAULT_REVIEW} (review)", card["at_review"]),
        _threshold_row(f"{DEFAULT_DECLINE} (decline)", card["at_decline"]),
        "",
        "Most used features, by gain: " + ", ".join(f"`{name}`" for name in card["importance"]) + ".",
        "",
        "## What it is not",
        "",
        "A model knows the fraud of the data it was trained on. If that is the synthetic stream, its figures say that",
        "the pipeline works, not how well it would do on your payments: retrain on your own log (`sentinel train`)",
        "before you rely on it, and set thresholds by your own costs. Fraud that never got a verdict was learnt as",
        "legitimate. Probabilities are not calibrated to your fraud rate. No personal attribute is a feature; country",
        "and hour of day are, and may stand in for one.",
        "",
    ]
    return "\n".join(lines)


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _period_row(name: str, split: dict[str, Any]) -> str:
    start, end = split[f"{name}_ms"]
    return f"| {name} | {_day(start)} | {_day(end)} | {split[f'{name}_rows']:,} | {split[f'{name}_frauds']:,} |"


def _threshold_row(name: str, at: dict[str, float]) -> str:
    return (
        f"| {name} | {at['alert_rate']:.2%} | {at['precision']:.3f} | {at['recall']:.3f}"
        f" | {at['value_detection_rate']:.3f} | {at['false_positive_ratio']:.2f} |"
    )
