"""Shadow mode: agreement of decisions and measures on labels, against the log written out."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from core import policy
from core.control_stream import history
from core.events import ListChanged, ModelDeployed, ModelWithdrawn, ProgramDeployed, ThresholdsChanged
from core.features import packing, spec
from core.log.memory import MemoryLog
from core.numeric import sigmoid
from core.policy import Thresholds
from core.program.loading import default
from core.scoring import Float32, Float64
from core.times import DAY_MS, HOUR_MS
from core.verdicts import VerdictRecord
from learners.experiments import shadow as shadow_mode
from learners.experiments.design import Design
from learners.loop.evidence import ShadowTrials
from learners.loop.settings import LearnSettings
from learners.metrics import average_precision, roc_auc
from projections.catalogue import ALL
from projections.engine.base import CONTROL, DecidedTransaction, Fact, fold
from projections.engine.feed import batches
from projections.engine.states import open_states
from projections.labelling.consensus import MATURITY_DAYS, consensus
from projections.labelling.reader import LabelReader
from projections.views.experiments_answers import VALUE_CAP
from projections.views.shadow import ROW, SHADOW, agreement, shadow_answer
from projections.views.shadow_trial import FinalDifferences, observe
from tests.builders.arm_programs import Restartable, loaded
from tests.builders.events import T0
from tests.builders.experiments import ANN, TWO, experimented
from tests.builders.facts import paid
from tests.builders.logs import PARTITIONS, SECOND, assert_identical, records, scores_of
from tests.builders.models import ARTIFACT, TinyScorer, load_tiny
from tests.builders.views import plain, truncated

SECOND_LOADED = loaded()[1]


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


def decided(scores: list[dict[str, Any]], amounts: list[float], thresholds: Thresholds) -> np.ndarray:
    """The policy on the shadow's probabilities and the same rules: (n,) into policy.DECISIONS."""
    effects = {rule.code: policy.EFFECTS.index(rule.effect) for rule in default().checked.rules}

    def asks(probability: float, amount: float, threshold: float, loss: float) -> bool:
        return probability * amount >= loss if loss > 0.0 else probability >= threshold

    counts = np.array(
        [[sum(effects[code] == k for code in score.get("rules", ())) for k in range(4)] for score in scores]
    )
    review, decline, review_loss, decline_loss = thresholds
    pairs = list(
        zip(sigmoid(np.array([s["shadow"] for s in scores]), 1.0).tolist(), map(np.float32, amounts), strict=True)
    )
    declines = np.array([asks(p, float(amount), decline, decline_loss) for p, amount in pairs])
    reviews = np.array([asks(p, float(amount), review, review_loss) for p, amount in pairs])
    return policy.decide(declines, reviews, counts)


def test_agreement_is_what_the_policy_says() -> None:
    """Alert rates, changed, gained and lost decisions equal the policy run on the shadow's probabilities."""
    log = log_with_a_shadow()
    (found,) = shadow_mode.report(shadow_answer(open_states(log, ALL, now_ms=0)))
    rows = [e for _, e in rows_of(log)]
    would = decided([e["score"] for e in rows], [e["transaction"]["amount"] for e in rows], Thresholds(0.35, 0.625))
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


WINDOW, TRIAL_MATURITY = 4 * DAY_MS, 5 * DAY_MS


@cache
def log_with_new_thresholds() -> MemoryLog:
    """The same, with thresholds that change while the shadow runs."""
    at: dict[str, Any] = ANN | {"occurred_at": T0}
    changes: dict[int, list[Any]] = {
        40: [
            ListChanged(**at, kind="account", effect="watch", add=("a20", "a21", "a22")),
            ModelDeployed(**at, name="tiny", version="1.1.0", digest=TWO, alias="shadow"),
        ],
        500: [ThresholdsChanged(**at, review=0.25, decline=0.625)],
        900: [ThresholdsChanged(**at, review=0.45, decline=0.8, review_loss=30.0)],
    }
    return experimented(6, 1300, changes, step_ms=HOUR_MS, load=load)


def differences(log: MemoryLog) -> list[tuple[int, int, str, dict[str, float]]]:
    """(mature_at, partition, account, difference by metric) of every mature account, from the log's JSON alone."""
    thresholds = [(0, Thresholds(0.4, 0.8))] + [
        (entry.position, Thresholds(entry.event.review, entry.event.decline, entry.event.review_loss))
        for entry in history(log)
        if isinstance(entry.event, ThresholdsChanged)
    ]
    out = []
    for p in range(PARTITIONS):
        entries = plain(log, p)
        clock = max((at for *_, at in entries), default=0)
        accounts: dict[str, list[tuple[dict[str, Any], int]]] = {}
        verdicts: dict[tuple[str, str], list[VerdictRecord]] = {}
        for kind, _, e, at in entries:
            if kind == "decided" and "shadow" in e["score"]:
                accounts.setdefault(e["transaction"]["account_id"], []).append((e, at))
            elif kind == "feedback" and e["type"] == "feedback.v1":
                said = VerdictRecord(
                    e["source"], e["verdict"], e.get("confidence", 1.0), e.get("actor", ""), e["occurred_at"], at
                )
                verdicts.setdefault((e["account_id"], e["transaction_id"]), []).append(said)
        for account, held in accounts.items():
            mature_at = held[0][1] + WINDOW + TRIAL_MATURITY
            if mature_at >= clock:
                continue
            until = held[0][0]["transaction"]["occurred_at"] + WINDOW
            only: dict[str, list[float]] = {}
            for e, at in held:
                t, score = e["transaction"], e["score"]
                if t["occurred_at"] >= until or at > mature_at:
                    continue
                _, in_force = [each for each in thresholds if each[0] <= score["c"]][-1]
                would = decided([score], [t["amount"]], in_force)
                made = score["decision"] != "approve"
                if made == (would[0] > 0):
                    continue
                known = [s for s in verdicts.get((account, t["transaction_id"]), []) if s.recorded_at <= mature_at]
                label = consensus(known).label if known else "legitimate"
                only.setdefault(f"{label} {'champion' if made else 'shadow'}", []).append(t["amount"])
            caught = float("fraud shadow" in only) - float("fraud champion" in only)
            value = [min(sum(only.get(f"fraud {side}", ())) / VALUE_CAP, 1.0) for side in ("shadow", "champion")]
            spared = float("legitimate champion" in only) - float("legitimate shadow" in only)
            values = {"fraud_caught": caught, "missed_fraud": caught, "false_positive": spared}
            out.append((mature_at, p, account, values | {"value_lost": value[0] - value[1]}))
    return sorted(out, key=lambda row: row[:3])


def test_paired_differences_are_those_of_the_log_written_out() -> None:
    """Order and differences of every mature account equal a plain computation, at the thresholds of each decision's
    time; an earlier cut is a prefix of a later one.
    """
    log = log_with_new_thresholds()
    rows = []
    for fraction in (0.5, 0.8, 1.0):
        cut = {p: int(log.head(p).sequence * fraction) for p in range(PARTITIONS)} | {CONTROL: log.control_head()}
        then = truncated(log, cut)
        answer = shadow_answer(open_states(then, ALL, now_ms=0))
        (pair,) = answer.pairs.values()
        trial = observe(pair, answer.said, answer.clocks, WINDOW, TRIAL_MATURITY)
        rows = differences(then)
        assert trial.mature_at.tolist() == [row[0] for row in rows]
        for metric, values in trial.differences.items():
            assert values.tolist() == pytest.approx([row[3][metric] for row in rows]), metric
    assert len(rows) > 60 and 5 < trial.changed < len(rows) and trial.left_out == 0
    assert all(len(set(values.tolist())) > 1 for values in trial.differences.values())


def test_final_differences_are_kept_and_never_change() -> None:
    """With the cache of an earlier cut, the observations are those made without it."""
    log = log_with_new_thresholds()
    final: FinalDifferences = {}
    for fraction in (0.6, 1.0):
        cut = {p: int(log.head(p).sequence * fraction) for p in range(PARTITIONS)} | {CONTROL: log.control_head()}
        answer = shadow_answer(open_states(truncated(log, cut), ALL, now_ms=0))
        (pair,) = answer.pairs.values()
        given = (pair, answer.said, answer.clocks, WINDOW, TRIAL_MATURITY)
        cached, fresh = observe(*given, final=final), observe(*given)
        for metric, values in fresh.differences.items():
            assert cached.differences[metric].tolist() == values.tolist()
        assert len(final) == len(fresh.mature_at)


def test_the_report_holds_the_paired_test() -> None:
    """`sentinel query shadow` and the loop see the same counts and gains."""
    log = log_with_new_thresholds()
    design = Design(window_ms=WINDOW, maturity_ms=TRIAL_MATURITY, accounts_min=10)
    (found,) = shadow_mode.report(shadow_answer(open_states(log, ALL, now_ms=0)), design)
    settings = LearnSettings(
        window_days=WINDOW / DAY_MS, maturity_days=TRIAL_MATURITY / DAY_MS, accounts_min=10, shadow_days_max=60.0
    )
    trials = ShadowTrials(log, range(PARTITIONS), LabelReader(log, range(PARTITIONS)))
    by_loop = trials.report("tiny-1.0.0", "tiny-1.1.0", settings, 0)
    assert found.trial is not None and by_loop is not None and by_loop.findings == found.trial.findings
    assert by_loop == trials.report("tiny-1.0.0", "tiny-1.1.0", settings, 0)
    assert found.trial.mature == len(differences(log)) and trials.report("tiny-1.0.0", "none", settings, 0) is None


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


def test_an_own_decision_is_followed(tmp_path: Path) -> None:
    """A program that asks for decisions by conditions of its own: what the shadow would have decided is what these say
    at its probability, not what thresholds say; the report counts that.
    """
    shadow = ModelDeployed(**ANN, occurred_at=T0, name="tiny", version="1.1.0", digest=TWO, alias="shadow")
    program = ProgramDeployed(**ANN, occurred_at=T0, digest=SECOND_LOADED.digest)
    on = Restartable(tmp_path, load, [program, shadow])
    on.feed(records(1, 900))
    place = spec.WIDTH + sorted(SECOND_LOADED.program.features).index("spent")
    scores = list(scores_of(on.log))
    expected = []
    for score in scores:
        p, spent = float(sigmoid(np.array([score.shadow]), 1.0)[0]), packing.vector(score.features)[place]
        hits = np.array([[0, score.effects & 1, score.effects >> 1 & 1, score.effects >> 2 & 1]], dtype=np.int64)
        made = policy.decide(np.array([p >= 0.9]), np.array([p >= 0.3 or spent > 600]), hits)[0]
        expected.append(policy.DECISIONS[made])
    assert [score.shadow_decision for score in scores] == expected
    assert len(set(expected)) == 3 and any(score.decision != score.shadow_decision for score in scores)
    (found,) = shadow_mode.report(shadow_answer(open_states(on.log, ALL, now_ms=0)))
    assert found.shadow_alert_rate == pytest.approx(np.mean([each != "approve" for each in expected]))
    assert_identical(on.log, load)


@pytest.mark.parametrize(("would", "alerts"), [("approve", 0), ("review", 1), ("decline", 1)])
def test_the_shadow_s_decision_is_what_the_score_says(would: Any, alerts: int) -> None:
    """Whatever rules hit: the score already counts them in."""
    fact = paid()
    score = msgspec.structs.replace(
        fact.event.score, rules=("MADE_UP",), effects=3, shadow_model="s-1", shadow=-9.0, shadow_decision=would
    )
    decided_now = DecidedTransaction(fact.event.transaction, score, None)
    state = fold(SHADOW, [Fact(0, fact.id, fact.recorded_at, decided_now)])
    assert agreement(list(state.pairs.values())).shadow_alerts == alerts
