"""The model card as Markdown: data, evaluation, calibration, parameters and limitations of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from core.control import DEFAULT_DECLINE, DEFAULT_REVIEW
from core.times import DAY_MS, date_text, minute_text

MEASURES = {
    "auc_roc": "area under the ROC curve",
    "average_precision": "average precision",
    "brier": "Brier score",
    "log_loss": "log loss",
    "ece": "expected calibration error",
}
CLOCKS = {"log": "from its log time on", "event": "from its event time on"}


def model_card(card: dict[str, Any], plots: Sequence[str] = ()) -> str:
    """Markdown of a card made by `learners.training.training` (Mitchell et al., Model Cards for Model Reporting, 2019).

    plots: names of image files in the same folder.
    """
    parent = f", successor of {card['parent']}" if card.get("parent") else ""
    lines = [
        f"# Model card: {card['name']} {card['version']}",
        "",
        f"LightGBM, {card['trees']} trees, feature spec {card['spec']}, seed {card['seed']}{parent}.",
        f"SHA-256 `{card['digest']}`.",
        "",
        *_data(card),
        *_measured(card),
        *_calibration(card),
        *_cards(card),
        *_how(card),
        *(line for name in plots for line in (f"![{name.rpartition('.')[0]}]({name})", "")),
        *_limits(card),
    ]
    return "\n".join(lines)


def _data(card: dict[str, Any]) -> list[str]:
    split = card["split"]
    lines = [
        "## Data",
        "",
        f"Trained and tested on {card['data'] or 'the decisions of a log'}:"
        f" {card['rows']:,} from {minute_text(card['range_ms'][0])} to {minute_text(card['range_ms'][1])}.",
        *_left_out(card.get("left_out", 0)),
        f"Split by event time, not shuffled; training and test are separated by the label maturity"
        f" ({split['gap_days']:g} days):",
        "",
        "| | from | to | transactions | frauds |",
        "|---|---|---|---|---|",
        _period_row("train", split),
        _period_row("test", split),
        "",
        "Features are as logged by the worker at decision time.",
        *_columns(card.get("columns")),
    ]
    if known := card.get("known"):
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in known["statuses"].items())
        lines += [
            f"Labels are the consensus of the verdicts known at {minute_text(known['training_until_ms'])} for training"
            f" and at {minute_text(known['until_ms'])} for the test; a verdict is known {CLOCKS[known['clock']]}."
            f" At the latter time: {counts}.",
            "Rows in review or pending are left out; a payment without a verdict is presumed legitimate after"
            f" {known['maturity_days']:g} days.",
        ]
    if split.get("test_excluded"):
        lines.append(
            f"{split['test_excluded']:,} test rows are excluded: their accounts were already known to be compromised on"
            " the test day."
        )
    if card["missing_tables_share"]:
        lines.append(
            f"{card['missing_tables_share']:.0%} of the training rows are repeated without reference tables, so that"
            " the model can score while tables are missing."
        )
    return [*lines, ""]


def _left_out(count: int) -> list[str]:
    if not count:
        return []
    return [f"{count:,} more decisions are left out: they are of another engine or feature spec."]


def _columns(columns: dict[str, Any] | None) -> list[str]:
    """What the model reads beside the features of the spec, if anything."""
    if columns is None:
        return []
    levels = [f"{name} ({count:,} levels)" for name, count in columns["categories"].items()]
    lines = [f"It reads {columns['read']:,} columns; beside those of standard@1: {', '.join(columns['own'] + levels)}."]
    if columns["folded"]:
        rows = ", ".join(f"{name} ({count:,})" for name, count in columns["folded"].items())
        lines.append(f"Computed again from the log for rows whose scores do not store them: {rows}.")
    return lines


def _measured(card: dict[str, Any]) -> list[str]:
    rows = []
    for name, words in MEASURES.items():
        low, high = card["intervals"].get(name, (None, None))
        interval = "" if low is None else f"{low:.4g} … {high:.4g}"
        rows.append(f"| {words} | {card['metrics'][name]:.4g} | {interval} |")
    return [
        "## Evaluation on the test period",
        "",
        "| | value | 95 % interval (bootstrap over accounts) |",
        "|---|---|---|",
        *rows,
        "",
        "| threshold | alert rate | precision | recall | value detected | false positives per true positive (FP:TP) |",
        "|---|---|---|---|---|---|",
        _threshold_row(f"{DEFAULT_REVIEW} (review)", card["at_review"]),
        _threshold_row(f"{DEFAULT_DECLINE} (decline)", card["at_decline"]),
        *(
            _threshold_row(f"{at['threshold']:.4f} (at most {at['alert_rate_allowed']:.2%} alerts)", at)
            for at in card["thresholds"]
        ),
        "",
    ]


def _calibration(card: dict[str, Any]) -> list[str]:
    found = card["calibration"]
    how = (
        f"Platt's method on {found['rows']:,} later, held-out rows:"
        f" log-odds = {found['a']:.4g} × margin {found['b']:+.4g}, folded into the model's leaves."
        if found["fitted"]
        else "Not calibrated: the probabilities are those of the trained forest."
    )
    return [
        "## Calibration",
        "",
        how,
        "",
        "| on the test period | before | after |",
        "|---|---|---|",
        *(
            f"| {MEASURES[name]} | {found['before'][name]:.4g} | {found['after'][name]:.4g} |"
            for name in ("ece", "brier", "log_loss")
        ),
        "",
    ]


def _cards(card: dict[str, Any]) -> list[str]:
    k, days = card["cards"]["k"], card["cards"]["days"]
    return [
        f"## Card precision@{k}, day by day",
        "",
        f"The share of the {k} highest-scoring accounts of a day that had a fraud; accounts found on an earlier day are"
        f" excluded. Mean {card['metrics'][f'card_precision_{k}']:.3f}.",
        "",
        "| day | accounts | compromised | found | precision |",
        "|---|---|---|---|---|",
        *(
            f"| {date_text(day['day'] * DAY_MS)} | {day['accounts']:,} | {day['compromised']:,} | {day['found']:,}"
            f" | {day['precision']:.3f} |"
            for day in days
        ),
        "",
    ]


def _how(card: dict[str, Any]) -> list[str]:
    shown = ", ".join(f"{name} {_short(value)}" for name, value in sorted(card["parameters"].items()))
    lines = ["## Training", "", f"LightGBM with {shown}.", ""]
    if search := card["search"]:
        lines += [
            f"Hyperparameter search: {len(search['trials'])} trials, compared by average precision on later folds of"
            " the training period; the test period was not used.",
            "",
            "| trial | average precision | folds | parameters |",
            "|---|---|---|---|",
            *(
                f"| {number}{' (chosen)' if number == search['best'] else ''} | {trial['average_precision']:.4f} |"
                f" {' '.join(f'{value:.3f}' for value in trial['folds'])}{' pruned' if trial['pruned'] else ''} |"
                f" {', '.join(f'{name} {_short(value)}' for name, value in trial['overrides'].items())} |"
                for number, trial in enumerate(search["trials"])
            ),
            "",
        ]
    return [*lines, "Most important features, by gain: " + ", ".join(f"`{n}`" for n in card["importance"]) + ".", ""]


def _limits(card: dict[str, Any]) -> list[str]:
    return [
        "## Limitations",
        "",
        "A model detects the kinds of fraud in its training data. If that is the synthetic stream, the figures show",
        "that the pipeline works, not how well the model would do on your payments: retrain on your own log",
        "(`sentinel train`) before you rely on it, and set thresholds by your own costs. Fraud that never received",
        "a verdict was learned as legitimate; a declined payment has a label only if an analyst gave one.",
        "Probabilities are calibrated for the fraud rate of the calibration period; another fraud rate shifts them.",
        "No personal attribute is a feature; country and hour of day are, and may act as proxies for one.",
        "",
    ]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _period_row(name: str, split: dict[str, Any]) -> str:
    start, end = map(minute_text, split[f"{name}_ms"])
    return f"| {name} | {start} | {end} | {split[f'{name}_rows']:,} | {split[f'{name}_frauds']:,} |"


def _threshold_row(name: str, at: dict[str, float]) -> str:
    return (
        f"| {name} | {at['alert_rate']:.2%} | {_figure(at['precision'], 3)} | {_figure(at['recall'], 3)}"
        f" | {_figure(at['value_detection_rate'], 3)} | {_figure(at['false_positive_ratio'], 2)} |"
    )


def _figure(value: float, digits: int) -> str:
    """A figure, or a dash where there were no alerts and it is undefined."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"
