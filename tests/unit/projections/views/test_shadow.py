"""Shadow mode: agreement of decisions and measures on labels, against the log written out."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from core import policy, rules
from core.events import ListChanged, ModelDeployed, ModelWithdrawn, ThresholdsChanged
from core.log.memory import MemoryLog
from core.numeric import sigmoid
from core.scoring import Float32, Float64
from core.times import DAY_MS, HOUR_MS
from learners.experiments import shadow as shadow_mode
from learners.metrics import average_precision, roc_auc
from projections.catalogue import ALL
from projections.engine.base import CONTROL, fold
from projections.engine.feed import batches
from projections.engine.states import open_states
from projections.labelling.consensus import MATURITY_DAYS
from projections.labelling.reader import LabelReader
from projections.views.shadow import ROW, SHADOW, shadow_answer
from tests.builders.events import T0
from tests.builders.experiments import ANN, TWO, experimented
from tests.builders.logs import PARTITIONS, SECOND
from tests.builders.models import ARTIFACT, TinyScorer, load_tiny
from tests.builders.views import plain, truncated


class Other(TinyScorer):
    """Another model: the first one's margins, bent."""

    def margins(self, features: Float32) -> Float64:
        return TinyScorer(ARTIFACT).margins(features) * 0.6 + 0.2 * np.sin(features[:, 0].astype(np.float64))


def load(content: bytes, label: str, digest: str) -> TinyScorer:
    tiny = load_tiny(content, label, digest)
    return Other(content) if content == SECOND else tiny


@cache
def log_with_a_shadow() -> MemoryLog:
    """A shadow over most of 50 days; thresholds in thousandths from before its first score on."""
    at: dict[str, Any] = ANN | {"occurred_at": T0}
    changes: dict[int, list[Any]] = {
        40: [
            ListChanged(**at, kind="account", effect="allow", add=tuple(f"a{n}" for n in range(12))),
            ListChanged(**at, kind="account", effect="watch", add=("a20", "a21", "a22")),
            ThresholdsChanged(**at, review=0.35, decline=0.625),
            ModelDeployed(**at, name="tiny", version="1.1.0", digest=TWO, alias="shadow"),
        ],
        1500: [ModelWithdrawn(**at, alias="shadow")],
    }
    return experimented(5, 1200, changes, step_ms=HOUR_MS, load=load)


def rows_of(log: MemoryLog) -> list[tuple[int, dict[str, Any]]]:
    return [
        (p, e)
        for p in range(PARTITIONS)
        for kind, _, e, _ in plain(log, p)
        if kind == "decided" and "shadow" in e["score"]
    ]


def test_agreement_is_what_the_policy_says() -> None:
    """Alert rates, changed, gained and lost decisions equal the policy run on the shadow's probabilities."""
    log = log_with_a_shadow()
    (found,) = shadow_mode.report(shadow_answer(open_states(log, ALL, now_ms=0)))
    rows = [e for _, e in rows_of(log)]
    hits = np.array(
        [sum(1 << rules.CODES.index(code) for code in e["score"].get("rules", ())) for e in rows], dtype=np.uint32
    )
    margins = np.array([e["score"]["shadow"] for e in rows])
    amounts = np.array([e["transaction"]["amount"] for e in rows], dtype=np.float32)
    would, _ = policy.decide(sigmoid(margins, 1.0), hits, amounts, policy.Thresholds(0.35, 0.625), 1e9)
    made = np.array([policy.DECISIONS.index(e["score"]["decision"]) for e in rows])
    assert found.decisions == len(rows) > 800
    assert (found.model, found.shadow) == ("tiny-1.0.0", "tiny-1.1.0")
    for got, expected in (
        (found.alert_rate, made > 0),
        (found.shadow_alert_rate, would > 0),
        (found.changed, would != made),
        (found.gained, (would > 0) & (made == 0)),
        (found.lost, (would == 0) & (made > 0)),
    ):
        assert got == pytest.approx(expected.mean())
    assert 0 < found.changed < 1 and found.shadow_alert_rate != found.alert_rate


def test_measures_are_over_transactions_with_a_known_label() -> None:
    """AUC and AP of both models equal those over the log's own rows: verdicts, or legitimate once mature."""
    log = log_with_a_shadow()
    (found,) = shadow_mode.report(shadow_answer(open_states(log, ALL, now_ms=0)))
    fraud, margins, shadows, unlabelled = [], [], [], 0
    clocks = {p: max(at for *_, at in plain(log, p)) for p in range(PARTITIONS)}
    labels = LabelReader(log, range(PARTITIONS)).view()
    for p, e in rows_of(log):
        label = labels.label(e["transaction"]["account_id"], e["transaction"]["transaction_id"])
        is_mature = e["transaction"]["occurred_at"] + MATURITY_DAYS * DAY_MS <= clocks[p]
        if label == "review" or (label is None and not is_mature):
            unlabelled += 1
            continue
        fraud.append(label == "fraud")
        margins.append(e["score"]["margin"])
        shadows.append(e["score"]["shadow"])
    truth = np.array(fraud)
    assert (found.labelled, found.frauds, found.unlabelled) == (len(truth), truth.sum(), unlabelled)
    assert found.auc_roc == pytest.approx(roc_auc(truth, np.array(margins)))
    assert found.shadow_auc_roc == pytest.approx(roc_auc(truth, np.array(shadows)))
    assert found.average_precision == pytest.approx(average_precision(truth, np.array(margins)))
    assert found.shadow_average_precision == pytest.approx(average_precision(truth, np.array(shadows)))
    assert found.unlabelled > 50 and 50 < found.frauds < found.labelled


def test_time_travel_and_resumption() -> None:
    """As of a seal the view is that of the log that ended there; from its stored form it goes on to the same end."""
    log = log_with_a_shadow()
    for p in range(PARTITIONS):
        facts = [fact for batch in batches(log, p, 0, log.head(p).sequence) for fact in batch.facts]
        whole = SHADOW.digest(fold(SHADOW, facts))
        half = SHADOW.decode(SHADOW.encode(fold(SHADOW, facts[: len(facts) // 2])))
        assert SHADOW.digest(fold(SHADOW, facts[len(facts) // 2 :], half)) == whole
    ends = {p: log.head(p).sequence // 2 for p in range(PARTITIONS)} | {CONTROL: log.control_head()}
    text = ",".join(f"p{p}:s{ends[p]}" for p in range(PARTITIONS)) + f",c{ends[CONTROL]},t0"
    then = shadow_mode.report(shadow_answer(open_states(log, ALL, now_ms=0, as_of=text)))
    assert then == shadow_mode.report(shadow_answer(open_states(truncated(log, ends), ALL, now_ms=0, as_of=text)))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the newest rows stay, whatever came; counts go on."""
    monkeypatch.setattr("projections.views.shadow.ROWS_MAX", 50)
    monkeypatch.setattr("projections.views.shadow._SLACK", 10)
    log = log_with_a_shadow()
    facts = [fact for batch in batches(log, 0, 0, log.head(0).sequence) for fact in batch.facts]
    (pair,) = fold(SHADOW, facts).pairs.values()
    assert 50 <= len(pair.rows) // ROW.itemsize <= 60
    assert sum(pair.counts.values()) > 200


def test_without_a_shadow_there_is_nothing_to_report() -> None:
    """No pair, no row."""
    assert shadow_mode.report(shadow_answer(open_states(experimented(1, 60, {}), ALL, now_ms=0))) == []
