"""The gate's verdict on a registered model that somebody wants to promote. Reads only.

Both models score the newest `holdout_days` of decisions whose labels are mature, as logged. The loop's own candidates
have not seen these rows; a model that came from elsewhere may have, and is then flattered: a failure counts, a pass
is no proof.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core.errors import BadInput, Corrupt
from core.governance import CHAMPION
from core.log.base import EventLog
from core.replay import Timeline
from core.scoring import Scorer
from core.times import DAY_MS
from learners.drift.windows import WindowReader
from learners.loop.settings import LearnSettings
from learners.training import reading
from learners.training.columns import deployed_plan, selection_of
from learners.training.dataset import labelled
from learners.training.gate import GateResult, judge
from learners.training.levels import columns_for
from learners.training.paired import PairedScores
from projections.views.registry import Registry
from projections.views.registry_records import Model


def examine(
    log: EventLog,
    partitions: Sequence[int],
    registry: Registry,
    model: Model,
    settings: LearnSettings,
    load_scorer: Callable[[bytes, str, str], Scorer],
    timer: Callable[[Callable[[], object]], float],
    timeline: Callable[[], Timeline] | None = None,
) -> GateResult | None:
    """The gate's verdict on `model` against the champion; None if there is no champion, or it is the model itself.

    timeline: for features that were not logged (`learners.training.columns`). Raises BadInput if it can't be judged: a
    model can't be loaded or reads what the program lacks, or the log has no decisions with mature labels.
    """
    champion = registry.aliases.get(CHAMPION, "")
    if not champion or registry.governance.champion == model.digest:
        return None
    maturity = int(settings.maturity_days * DAY_MS)
    newest = WindowReader(log, partitions).newest()
    start, end = settings.holdout(newest)

    def scorer_of(label: str, digest: str) -> Scorer:
        try:
            return load_scorer(log.get_blob(digest), label, digest)
        except (BadInput, Corrupt) as error:
            raise BadInput(f"model {label} can't be loaded: {error}") from error

    incumbent = scorer_of(champion, registry.governance.champion)
    scorer = scorer_of(model.label, model.digest)
    selection = selection_of(deployed_plan(log)[1], incumbent.inputs, scorer.inputs)
    data = reading.read(
        log, partitions, newest, maturity_ms=maturity, start=start, end=end, selection=selection, timeline=timeline
    )
    held = labelled(data)
    before = incumbent.margins(columns_for(held, incumbent.inputs))
    rows = columns_for(held, scorer.inputs)
    after = scorer.margins(rows)
    seconds = timer(lambda: scorer.margins(rows))
    latency_us = 1e6 * seconds / max(len(held), 1)
    paired = PairedScores(before, after, held.labels, held.accounts, held.amounts, registry.thresholds, latency_us)
    return judge(paired, settings.gate_settings(), settings.seed)
