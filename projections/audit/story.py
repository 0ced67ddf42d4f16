"""Everything an auditor needs about one decision, as one record: assembled here, displayed by the console. Reads the
log; otherwise pure.

Everything is as of the decision's positions t, f and c, except `labels`, `actions` and `account_since`, which came
later, and `recomputed`, which is computed now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from core import events
from core.codec import decode_alert, decode_seal
from core.context import Context, deciding
from core.control_stream import ControlEntry, effective, fold
from core.errors import BadInput, NotDecidable
from core.events import AccountEvent, Position, TransactionScored
from core.features import packing, spec
from core.log.base import EventLog
from core.log.paging import entries
from core.program.loading import load
from core.replay import Timeline
from projections.audit.in_force import (
    ModelStory,
    Policy,
    ReferenceStory,
    model_in_force,
    policy_in_force,
    references_in_force,
)
from projections.audit.model_rows import model_inputs, model_row, shares_by_column
from projections.audit.reasons import Deciding, Reasons, explain
from projections.audit.redecide import (
    DecisionPlace,
    Found,
    LoggedDecision,
    Recomputed,
    Whereabouts,
    account_events,
    recompute,
)
from projections.audit.wording import Wording, values_of


class RuleHit(msgspec.Struct, frozen=True):
    """A rule that hit. effect: "shadow" if it had none: a shadow rule, or a roll-out that leaves out the account."""

    code: str
    effect: str
    meaning: str


class FeatureLine(msgspec.Struct, frozen=True):
    """A feature as logged, with the distribution of its values in the account's earlier decisions (`known` of them had
    a value; None: missing): for one of the program's own, in those by the same program.

    share: its contribution to the margin, log-odds; None if no model decided, or the model does not read it.
    """

    name: str
    meaning: str
    unit: str
    value: float | None
    known: int
    median: float | None
    p05: float | None
    p95: float | None
    share: float | None

    @property
    def unusual(self) -> bool:
        """Whether the value is outside the 5 % to 95 % range of at least 20 earlier values of the account."""
        if self.value is None or self.p05 is None or self.p95 is None or self.known < 20:
            return False
        return not self.p05 <= self.value <= self.p95


class Later(msgspec.Struct, frozen=True):
    """An event of the account's feedback stream, raw."""

    position: str
    type: str
    event: msgspec.Raw


class SealStory(msgspec.Struct, frozen=True):
    """The batch that holds the decision; `sentinel verify` recomputes the chain."""

    sequence: int
    digest: str
    recorded_at: int


class Proof(msgspec.Struct, frozen=True):
    """The comparison with today's live path. The digests are SHA-256 of the scores' bytes."""

    identical: bool
    differences: list[str]
    logged_score_digest: str
    recomputed_score_digest: str
    score: msgspec.Raw | None
    alert: msgspec.Raw | None


class Story(msgspec.Struct, frozen=True):
    """The whole story of one decision. t, f, c: its positions; raw: the transaction as logged; reasons: the logged
    alert's, in words of today; recommended: actions, by the program that decided.
    """

    place: str
    transaction_id: str
    account_id: str
    t: str
    f: str
    c: int
    raw: msgspec.Raw
    score: msgspec.Raw
    alert: msgspec.Raw | None
    reasons: Reasons | None
    arm: str
    decision: str
    severity: str | None
    recommended: tuple[str, ...]
    degraded: str | None
    probability: float
    margin: float
    model: ModelStory | None
    references: list[ReferenceStory]
    policy: Policy
    rule_hits: list[RuleHit]
    features: list[FeatureLine]
    earlier_decisions: int
    bias: float | None
    method: str
    labels: list[Later]
    actions: list[Later]
    account_since: list[Later]
    seal: SealStory | None
    recomputed: Proof


def tell(
    log: EventLog,
    found: Found,
    control: Sequence[ControlEntry],
    timeline: Timeline,
    later_until: Position | None = None,
    known: Whereabouts | None = None,
) -> Story:
    """The story of one decision. Raises BadInput if there is no transaction at the place, Corrupt if the log can't be
    read.

    control: the control stream from its beginning; timeline: of the same entries. later_until: up to which event of the
    partition's feedback stream to tell what came later; None for all. known: saves reading the whole partition.
    """
    partition, position = found.place
    accounts = [found.account_id]
    feedback = account_events(log, partition, accounts)
    history: list[LoggedDecision] = []
    recomputed = list(recompute(log, partition, [position], accounts, timeline, feedback, history.append, known=known))
    if not recomputed:
        raise BadInput(f"there is no transaction at {found.place}")
    now = recomputed[0]
    if isinstance(now.context, NotDecidable):
        raise now.context
    decision, score = now.decision, now.decision.score
    until = [entry for entry in control if entry.position <= score.control_position]
    seen = effective(until)
    row = packing.vector(score.features)
    under = deciding(now.context, score.arm)
    wording = Wording.of(under.program.plan)
    shares = _shares(under, row, now)
    seen_until = Position.parse(score.feedback_position)
    after = [(p, e) for p, e in feedback if p > seen_until and (later_until is None or p <= later_until)]
    since = _since(after, decision, found.place)
    return Story(
        place=str(found.place),
        transaction_id=decision.transaction.transaction_id,
        account_id=found.account_id,
        t=str(position),
        f=score.feedback_position,
        c=score.control_position,
        raw=msgspec.Raw(log.get(partition, "transactions", position) or b"null"),
        score=msgspec.Raw(decision.logged_score),
        alert=_raw(now.logged_alert),
        reasons=_reasons(now.logged_alert, decision, under, wording),
        arm=score.arm,
        decision=score.decision,
        severity=score.severity,
        recommended=under.program.plan.program.actions.get(score.severity, ()) if score.severity else (),
        degraded=score.degraded,
        probability=score.probability,
        margin=score.margin,
        model=model_in_force(seen, score),
        references=references_in_force(seen),
        policy=policy_in_force(seen, fold(until), decision.transaction),
        rule_hits=_rule_hits(decision, under, wording, row),
        features=[
            *_features(row, history[:-1], shares),
            *_own_features(log, under, row, score, history[:-1], shares),
            *shares.others,
        ],
        earlier_decisions=len(history) - 1,
        bias=shares.bias,
        method=shares.method,
        labels=since.labels,
        actions=since.actions,
        account_since=since.account,
        seal=_seal(log, found.place),
        recomputed=Proof(
            identical=now.identical,
            differences=now.differences,
            logged_score_digest=hashlib.sha256(decision.logged_score).hexdigest(),
            recomputed_score_digest=hashlib.sha256(now.score).hexdigest() if now.score is not None else "",
            score=_raw(now.score),
            alert=_raw(now.alert),
        ),
    )


def _raw(payload: bytes | None) -> msgspec.Raw | None:
    return None if payload is None else msgspec.Raw(payload)


def _reasons(alert: bytes | None, decision: LoggedDecision, under: Context, wording: Wording) -> Reasons | None:
    if alert is None:
        return None
    missing = "" if under.scorer is not None else "no model decided"
    by = Deciding(wording, under.program.parameters, under.scorer, missing, "", under.program)
    return explain(decode_alert(alert), decision.score, decision.transaction, by)


def _rule_hits(decision: LoggedDecision, under: Context, wording: Wording, row: NDArray[np.float32]) -> list[RuleHit]:
    """The rules that hit, in the program's order, then those that hit without effect."""
    score = decision.score
    values = values_of(wording, row, None, decision.transaction, under.program.parameters)
    found = [RuleHit(code, wording.effect(code), wording.meaning(code, values)) for code in score.rules]
    return found + [RuleHit(code, "shadow", wording.meaning(code, values)) for code in score.shadow_rules]


class _Shares(NamedTuple):
    """The bias, and the contributions to the margin of stored columns, log-odds; None and none if no model decided.
    others: what else the model reads. method: how they were computed, in words.
    """

    bias: float | None = None
    by_column: Mapping[int, float] = {}
    others: Sequence[FeatureLine] = ()
    method: str = ""


def _shares(under: Context, row: NDArray[np.float32], now: Recomputed) -> _Shares:
    scorer, program = under.scorer, under.program
    if scorer is None or len(row) < spec.WIDTH:
        return _Shares()
    vector = row
    if now.features is not None and len(row) == program.plan.stored:
        vector = np.concatenate([row, now.features[program.plan.stored :]])
    try:
        values = model_row(program, scorer, vector, now.decision.transaction)
    except BadInput as error:
        return _Shares(method=f"not known: {error}")
    bias, shares = scorer.contributions(values)
    inputs = model_inputs(program, scorer, values)
    others = [
        _line((each.name, each.shown or "read by the model", ""), each.value, np.empty(0, np.float32), float(share))
        for each, share in zip(inputs, shares, strict=True)
        if not 0 <= each.column < program.plan.stored
    ]
    return _Shares(bias, shares_by_column(inputs, shares, program.plan.stored), others, scorer.method)


def _features(row: NDArray[np.float32], earlier: Sequence[LoggedDecision], shares: _Shares) -> list[FeatureLine]:
    """The features of the spec."""
    known = spec.FEATURES[: len(row)]
    before = _earlier([d for d in earlier if d.score.spec == spec.SPEC_VERSION], len(known))
    return [
        _line((feature.name, feature.meaning, feature.unit), float(row[i]), before[:, i], shares.by_column.get(i))
        for i, feature in enumerate(known)
    ]


def _own_features(
    log: EventLog,
    under: Context,
    row: NDArray[np.float32],
    score: TransactionScored,
    earlier: Sequence[LoggedDecision],
    shares: _Shares,
) -> list[FeatureLine]:
    """The features that the program computes beside those of the spec."""
    made, names = under.program.plan, under.program.plan.names[spec.WIDTH : under.program.plan.stored]
    if not names or len(row) != made.stored:
        return []
    documented = load(made.program.digest, log.get_blob).program.features
    before = _earlier([d for d in earlier if d.score.program == score.program], len(row))
    return [
        _line(
            (name, documented[name].value, documented[name].unit), float(row[i]), before[:, i], shares.by_column.get(i)
        )
        for i, name in enumerate(names, spec.WIDTH)
    ]


def _earlier(decisions: Sequence[LoggedDecision], width: int) -> NDArray[np.float32]:
    """The first columns of the decisions' vectors, float32 (n, width); without those that are shorter."""
    size = 4 * width
    vectors = [v[:size] for v in packing.plain_rows([d.score.features for d in decisions]) if v is not None]
    vectors = [v for v in vectors if len(v) == size]
    return np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), width)


def _line(named: tuple[str, str, str], value: float, before: NDArray[np.float32], share: float | None) -> FeatureLine:
    """One feature: its name, meaning and unit, its value, and the earlier ones, float32 (n,)."""
    name, meaning, unit = named
    column = before[np.isfinite(before)].astype(np.float64)
    low, middle, high = np.percentile(column, [5, 50, 95]).tolist() if len(column) else (None, None, None)
    return FeatureLine(
        name=name,
        meaning=meaning,
        unit=unit,
        value=value if np.isfinite(value) else None,
        known=len(column),
        median=middle,
        p05=low,
        p95=high,
        share=share,
    )


class _Since(NamedTuple):
    """The account's events after f: verdicts on this transaction, actions taken on it, and all others."""

    labels: list[Later]
    actions: list[Later]
    account: list[Later]


def _since(after: Sequence[tuple[Position, AccountEvent]], decision: LoggedDecision, place: DecisionPlace) -> _Since:
    alert_id = f"{place.partition:02d}:{place.position}"
    causes = {alert_id, str(place), decision.transaction.transaction_id}
    cases: set[str] = set()
    found = _Since([], [], [])
    for position, event in after:
        later = Later(str(position), str(event.__struct_config__.tag), msgspec.Raw(msgspec.json.encode(event)))
        match event:
            case events.FeedbackReceived() if event.transaction_id == decision.transaction.transaction_id:
                found.labels.append(later)
                continue
            case events.CaseOpened() if event.alert_id == alert_id:
                cases.add(event.case_id)
                about = True
            case (
                events.CaseAssigned()
                | events.CaseRouted()
                | events.CaseResolved()
                | events.CaseReopened()
                | events.CaseSnoozed()
                | events.CaseNoted()
                | events.CaseLinked()
                | events.CaseChecked()
            ):
                about = event.case_id in cases or event.case_id == alert_id
            case (
                events.ActionSucceeded()
                | events.ActionFailed()
                | events.ActionRequested()
                | events.AccountBlocked()
                | events.AccountUnblocked()
            ):
                about = event.causation_id in causes
            case _:
                about = False
        (found.actions if about else found.account).append(later)
    return found


def _seal(log: EventLog, place: DecisionPlace) -> SealStory | None:
    """The first seal that covers the position."""
    for entry in entries(log, place.partition, "seals"):
        seal = decode_seal(entry.payload)
        if Position.parse(seal.transactions) >= place.position:
            return SealStory(entry.id.generation, seal.digest, seal.recorded_at)
    return None
