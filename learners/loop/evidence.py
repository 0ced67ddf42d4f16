"""Evidence from the log for the loop's next step. Reads only; everything is as of the log's heads at the time.

    labels    accepted verdicts since the last training
    guard     the champion against its predecessor on the decisions the champion made: its margins as logged, and its
              predecessor's recomputed from the logged features, bit-equal to those it would have given (I4)
    shadow    the shadow against the champion, in the same way
    trial     the paired test of the shadow (`learners.experiments.paired`)
    test      an experiment's report (`learners.experiments.report`)

Cost: guard and shadow each read the decisions since their control position, found by bisection, at most the newest
ROWS_MAX, 4 µs each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.features import spec
from core.log.base import EventLog
from core.numeric import sigmoid
from core.policy import Thresholds
from core.scoring import Scorer
from learners import metrics
from learners.drift.rows import Rows
from learners.drift.windows import WindowReader
from learners.experiments import paired
from learners.experiments import report as experiment_report
from learners.experiments.paired import PairedReport
from learners.loop.settings import LearnSettings
from learners.training.dataset import TrainingSet
from learners.training.gate import average_precision_gain
from learners.training.levels import columns_for
from learners.training.paired import decisions_of
from projections.engine.base import CONTROL, place_name
from projections.engine.runner import Runner
from projections.labelling.reader import LabelReader
from projections.labelling.verdicts import payment_keys
from projections.labelling.view import FRAUD, REVIEW, LabelView
from projections.views import shadow_trial
from projections.views.experiments import EXPERIMENTS, Experiments
from projections.views.experiments_answers import Final, observe
from projections.views.shadow import SHADOW, Shadows
from projections.views.shadow_trial import FinalDifferences

_AMOUNT = spec.index("amount")
ROWS_MAX = 500_000
"""The most decisions read for the guard or the shadow: a few seconds, 150 MB."""


class NewLabels(NamedTuple):
    """The number of accepted verdicts since a moment, and of those that say fraud."""

    verdicts: int
    frauds: int


def labels_since(labels: LabelView, moment: int) -> NewLabels:
    """Counts of the accepted verdicts recorded in the log after `moment` (epoch ms)."""
    frauds = [
        word.verdict == "fraud" for each in labels.transactions for word in each.accepted if word.recorded_at > moment
    ]
    return NewLabels(len(frauds), sum(frauds))


class ExperimentReports:
    """Reports on experiments (`learners.experiments.report`), folded incrementally from one call to the next."""

    def __init__(self, log: EventLog, partitions: Sequence[int], labels: LabelReader) -> None:
        self._partitions = list(partitions)
        self._runner = Runner(log, self._partitions, [EXPERIMENTS])
        self._labels = labels
        self._final: dict[int, Final] = {}
        self._folded: list[object] = []

    def report(self, experiment_id: str) -> experiment_report.Report | None:
        """The experiment's report at the log's heads; None if the log has no such experiment.

        Raises BadInput if it can't be made: the metric is unknown, or the read model is stalled.
        """
        self._runner.catch_up()
        for source in EXPERIMENTS.sources(self._partitions):
            view = self._runner.view(EXPERIMENTS, source)
            if view.condition != "following":
                where = place_name(source, view.place)
                raise BadInput(f"the read model {EXPERIMENTS.label} is stalled at {where}: {view.error}")
        known: Experiments = self._runner.view(EXPERIMENTS, CONTROL).state
        experiment = known.experiments.get(experiment_id)
        if experiment is None:
            return None
        states = {p: self._runner.view(EXPERIMENTS, p).state for p in self._partitions}
        of_labels = self._labels.states()  # read after the experiments, so that it has every verdict up to their clocks
        views = [self._runner.view(EXPERIMENTS, p) for p in self._partitions]
        folded = [*(view.state for view in views), *of_labels.values()]
        if any(now is not before for now, before in zip(folded, self._folded, strict=False)):
            self._final.clear()  # folded again from the start: the log lost its tail and may have other entries since
        self._folded = folded
        final = self._final.setdefault(experiment.position, {})
        seen = observe(experiment, states, of_labels, final=final)
        return experiment_report.report(
            experiment, seen, ",".join(place_name(view.source, view.place) for view in views)
        )


class ShadowTrials:
    """Paired tests of shadows (`learners.experiments.paired`), folded incrementally from one call to the next."""

    def __init__(self, log: EventLog, partitions: Sequence[int], labels: LabelReader) -> None:
        self._partitions = list(partitions)
        self._runner = Runner(log, self._partitions, [SHADOW])
        self._labels = labels
        self._final: dict[tuple[str, int, int], FinalDifferences] = {}

    def report(self, champion: str, shadow: str, settings: LearnSettings, elapsed_ms: int) -> PairedReport | None:
        """The paired test at the log's heads of these models, name-version; None if the shadow has scored nothing yet.

        elapsed_ms: since the shadow began. Raises BadInput if the read model is stalled.
        """
        self._runner.catch_up()
        views = {source: self._runner.view(SHADOW, source) for source in SHADOW.sources(self._partitions)}
        for source, view in views.items():
            if view.condition != "following":
                where = place_name(source, view.place)
                raise BadInput(f"the read model {SHADOW.label} is stalled at {where}: {view.error}")
        states: dict[int, Shadows] = {p: views[p].state for p in self._partitions}
        name = f"{champion} {shadow}"
        pairs = {p: state.pairs[name] for p, state in states.items() if name in state.pairs}
        if not pairs:
            return None
        design = settings.design()
        times = (design.window_ms, design.maturity_ms)
        trial = shadow_trial.observe(
            pairs,
            self._labels.states(),
            {p: state.recorded_at for p, state in states.items()},
            *times,
            final=self._final.setdefault((name, *times), {}),
        )
        return paired.report(trial, settings.shadow_criteria(), elapsed_ms)


class ModelComparison(msgspec.Struct, frozen=True):
    """A model and another one on the same decisions. Alert rates are shares of decisions at the thresholds in force;
    average precision is None if there are too few frauds. gain_low, gain_high: the interval of the model's average
    precision minus the other's, from a paired bootstrap over accounts. first, last: event times, epoch ms.
    """

    rows: int
    alert_rate: float
    alert_rate_other: float
    frauds: int
    average_precision: float | None = None
    average_precision_other: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    first: int = 0
    last: int = 0

    @property
    def alert_ratio(self) -> float:
        """The larger alert rate over the smaller, at least 1. Half an alert is added to both."""
        half = 0.5 / max(self.rows, 1)
        a, b = self.alert_rate + half, self.alert_rate_other + half
        return max(a / b, b / a)


def compare(
    rows: Rows,
    margins: NDArray[np.float64],
    others: NDArray[np.float64],
    labels: LabelView,
    thresholds: Thresholds,
    settings: LearnSettings,
) -> ModelComparison:
    """The comparison on `rows`: `margins` of the model and `others` of the other one, float64 (n,) each. Rows without a
    label count as legitimate; rows in conflict are left out.
    """
    count = len(rows)
    amounts = rows.columns[_AMOUNT].astype(np.float64)
    asked = [decisions_of(sigmoid(m, 1.0), amounts, thresholds) > 0 for m in (margins, others)]
    rates = [float(np.mean(alerted)) if count else 0.0 for alerted in asked]
    known = labels.of_rows(rows.accounts, rows.transactions)
    fraud, clear = known == FRAUD, known != REVIEW
    frauds = int(fraud.sum())
    span = (int(rows.times.min()), int(rows.times.max())) if count else (0, 0)
    if frauds < settings.guard_frauds_min:
        return ModelComparison(count, rates[0], rates[1], frauds, first=span[0], last=span[1])
    gate = settings.gate_settings()
    gain = average_precision_gain(
        fraud[clear],
        others[clear],
        margins[clear],
        rows.accounts[clear].view(np.int64),
        gate.rounds,
        gate.confidence,
        settings.seed,
    )
    return ModelComparison(
        count,
        rates[0],
        rates[1],
        frauds,
        metrics.average_precision(fraud[clear], margins[clear]),
        metrics.average_precision(fraud[clear], others[clear]),
        gain.low,
        gain.high,
        *span,
    )


class Seen(NamedTuple):
    """Decisions of one model, with its margins as logged and another model's recomputed, float64 (n,) each."""

    rows: Rows
    logged: NDArray[np.float64]
    other: NDArray[np.float64]


ReadFor = Callable[[Scorer, int, int], TrainingSet]
"""The decisions in a range of receive time (epoch ms), with what a model reads."""


def decided_by(
    reader: WindowReader, position: int, digest: str, other: Scorer, read_for: ReadFor | None = None
) -> Seen | None:
    """The decisions of the model with this SHA-256 since control `position`, among about the newest `ROWS_MAX`; None if
    there are none yet. Degraded decisions are left out. read_for: for another model that lists its inputs.
    """
    start = reader.decided_since(position)
    if start is None:
        return None
    rows = reader.read(max(start, reader.newest_since(ROWS_MAX)), reader.newest() + 1)
    if digest[:16] not in rows.digests:
        return None
    rows = rows.take(rows.models == rows.digests.index(digest[:16]))
    if other.inputs is None or read_for is None:
        return Seen(rows, rows.margins, other.margins(np.ascontiguousarray(rows.columns.T)))
    data = read_for(other, int(rows.times[0]), int(rows.times[-1]) + 1)
    assert data.origin is not None
    order = np.argsort(data.origin.keys, kind="stable")
    places = order[np.searchsorted(data.origin.keys, payment_keys(rows.accounts, rows.transactions), sorter=order)]
    return Seen(rows, rows.margins, other.margins(columns_for(data, other.inputs)[places]))
