"""Read models: accounts, cases, labels, sources, statistics, drift, experiments, lists, thresholds, rules, models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, get
from litestar.params import FromPath, FromQuery, QueryParameter

from console.api.cursors import following, place_of
from console.api.distributions import Distributions, distributions
from console.api.labelled import labels_with, period_of
from console.api.problems import not_found
from console.api.requests import Asked, AsOf, Cursor, Limit, Name, Text, Time, asked, desk, json, time_of, unchanging
from console.api.rule_hits import Chosen, RuleHitsAnswer, chosen, hits
from console.api.views import Columns
from core.events import Severity
from core.features.reference import Kind
from core.program import loading
from core.program.checked import CheckedRule
from core.program.document import Rule
from core.program.language import names_read
from core.program.library import libraries_of
from core.program.loading import Loaded
from learners.experiments import shadow as shadow_mode
from learners.experiments.report import Report, report
from projections.engine.states import States
from projections.labelling.consensus import MATURITY_DAYS
from projections.views.cases import CasesAnswer, cases_answer
from projections.views.drift import drift_answer
from projections.views.experiments import EXPERIMENTS
from projections.views.experiments_answers import experiment_answer
from projections.views.labels_answers import Filters, LabelsAnswer, labels_answer, sources_answer
from projections.views.lists import lists_answer
from projections.views.profiles.answers import ProfileAnswer, profile_answer
from projections.views.programs import PROGRAMS, in_force
from projections.views.registry import REGISTRY, Registry
from projections.views.registry_answers import (
    PolicyEdit,
    ReferenceAnswer,
    policy_history,
    reference_answer,
    registry_answer,
)
from projections.views.shadow import shadow_answer
from projections.views.throughput import StatsAnswer, stats_answer

Stages = Literal["unresolved", "resolved", "all"]
_STAGES: dict[Stages, tuple[str, ...]] = {
    "unresolved": ("open", "assigned"),
    "resolved": ("resolved",),
    "all": ("open", "assigned", "resolved"),
}
LabelStatus = Literal["fraud", "legitimate", "review", "pending", "presumed_legitimate"]


class CasePage(CasesAnswer, frozen=True, kw_only=True):
    """Some cases of the queue. next: the cursor of the next page, "" on the last. as_of: the cut of all pages."""

    next: str


class LabelPage(LabelsAnswer, frozen=True, kw_only=True):
    """Some labels. next: the cursor of the next page, "" on the last. as_of: the cut of all pages."""

    next: str


class RuleRow(msgspec.Struct, frozen=True):
    """A rule of the program in force. own: the program's values of the parameters; changed: those that differ. when:
    its condition, "" if the document can't be had; reads: the fields and features that it names.
    """

    code: str
    effect: str
    state: str
    parameters: dict[str, float]
    own: dict[str, float]
    changed: list[str]
    meaning: str
    owner: str
    when: str
    reads: list[str]


class RulesAnswer(msgspec.Struct, frozen=True):
    """The rules of the program in force, and every change of their parameters, oldest first."""

    as_of: str
    program: str
    rules: list[RuleRow]
    history: list[PolicyEdit]


class ThresholdsAnswer(msgspec.Struct, frozen=True):
    """The thresholds in force, and every change, oldest first. A loss of 0: the probability decides."""

    as_of: str
    review: float
    decline: float
    review_loss: float
    decline_loss: float
    history: list[PolicyEdit]


@get("/v1/accounts/{id:str}", tags=["accounts"], summary="One account: activity, decisions, verdicts, blocks")
async def account(request: Asked, id: Name, as_of: AsOf = None) -> Response[ProfileAnswer]:
    """`profile` is null if the log has nothing of the account, as of the moment."""
    name = desk(request).asked("account_id", id)
    return await asked(request, f"account {name}", lambda states: profile_answer(states, name), as_of)


@get("/v1/cases", tags=["cases"], summary="The case queue, earliest deadline first")
async def cases(
    request: Asked,
    account: Text = None,
    stage: FromQuery[Stages] = "unresolved",
    assignee: Text = None,
    severity: FromQuery[Severity | None] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
    as_of: AsOf = None,
) -> Response[CasePage]:
    """`assignee` "" asks for unassigned cases."""
    after, moment = place_of(cursor, as_of)
    account = desk(request).asked("account_id", account) if account else account

    def question(states: States) -> CasePage:
        found = cases_answer(
            states,
            account=account,
            stages=_STAGES[stage],
            assignee=assignee,
            severity=severity,
            limit=limit + 1,
            after=after,
        )
        more = following(after, limit, found.cases, found.as_of)
        return CasePage(found.as_of, found.counts, found.cases[:limit], found.queues, next=more)

    return await asked(request, f"cases {(account, stage, assignee, severity, limit, after)}", question, moment)


@get("/v1/cases/{id:str}", tags=["cases"], summary="One case and its alerts in words")
async def case(request: Asked, id: Name, as_of: AsOf = None) -> Response[dict[str, Any]]:
    """By its ID, or that of an alert in it."""
    return json(await desk(request).run(desk(request).case, id, as_of))


@get("/v1/labels", tags=["feedback"], summary="What transactions turned out to be")
async def labels(
    request: Asked,
    account: Text = None,
    transaction: Text = None,
    status: FromQuery[LabelStatus | None] = None,
    suspect: FromQuery[bool] = False,
    fixed: FromQuery[bool] = False,
    maturity_days: Annotated[int, QueryParameter(ge=0, le=3650)] = MATURITY_DAYS,
    limit: Limit = 50,
    cursor: Cursor = "",
    as_of: AsOf = None,
) -> Response[LabelPage]:
    """The consensus of all verdicts that count (docs/queries.md); `suspect`: only those with a quarantined verdict."""
    after, moment = place_of(cursor, as_of)
    account = desk(request).asked("account_id", account) if account else account
    transaction = desk(request).asked("transaction_id", transaction) if transaction else transaction
    filters = Filters(account, transaction, status, suspect, limit + 1, after)

    def question(states: States) -> LabelPage:
        found = labels_answer(states, filters, maturity_days=maturity_days, is_fixed=fixed)
        more = following(after, limit, found.labels, found.as_of)
        counted = (found.transactions, found.immature, found.counts, found.quality)
        return LabelPage(found.as_of, *counted, found.labels[:limit], next=more)

    return await asked(request, f"labels {filters} {maturity_days} {fixed}", question, moment, is_long=account is None)


@get("/v1/sources", tags=["feedback"], summary="Who gives verdicts, and how reliable they are")
async def sources(request: Asked, as_of: AsOf = None) -> Response[dict[str, Any]]:
    """Sources and analysts: verdicts, agreement, sensitivity, specificity, delays (docs/queries.md)."""
    return await asked(request, "sources", sources_answer, as_of, is_long=True)


@get("/v1/stats", tags=["system"], summary="Throughput, decisions, rejects, age of payments")
async def stats(request: Asked, as_of: AsOf = None) -> Response[StatsAnswer]:
    """Totals and hours of log time."""
    return await asked(request, "stats", stats_answer, as_of)


@get("/v1/drift", tags=["models"], summary="Drift detections")
async def drift(request: Asked, as_of: AsOf = None) -> Response[dict[str, Any]]:
    """Detections, and when they were cleared."""
    return await asked(request, "drift", drift_answer, as_of)


@get("/v1/drift/{position:int}", tags=["models"], summary="Both windows of a detection, as distributions")
async def drifted(request: Asked, position: FromPath[int], as_of: AsOf = None) -> Response[Distributions]:
    """Of a feature or the score, by the control position of its detection. Of many decisions, a sample of accounts."""
    here = desk(request)

    def answer() -> Distributions:
        known = here.views.looked_at(as_of, lambda states, _: drift_answer(states).detections)
        found = next((each for each in known if each.position == position), None)
        if found is None:
            raise not_found(f"detection c{position}", "see /v1/drift for those that were known at the moment")
        return distributions(here.log, found)

    return unchanging(request, await here.run_heavy(answer))


@get("/v1/shadow", tags=["models"], summary="What shadow models would have decided")
async def shadow(request: Asked, as_of: AsOf = None) -> Response[list[dict[str, Any]]]:
    """Each pair of deciding and shadow model, against labels."""
    return await asked(request, "shadow", lambda states: shadow_mode.report(shadow_answer(states)), as_of, is_long=True)


@get("/v1/experiments", tags=["models"], summary="Experiments")
async def experiments(request: Asked, as_of: AsOf = None) -> Response[dict[str, Any]]:
    """All experiments as they were started, ramped and ended."""

    def question(states: States) -> dict[str, Any]:
        return {"as_of": states.as_of, "experiments": states.of_control(EXPERIMENTS).experiments}

    return await asked(request, "experiments", question, as_of)


@get("/v1/experiments/{id:str}", tags=["models"], summary="One experiment's result so far")
async def experiment(request: Asked, id: Name, as_of: AsOf = None) -> Response[dict[str, Any]]:
    """Exposure, sample ratio, gains with confidence sequences, the verdict so far."""

    def question(states: States) -> Report:
        answer = experiment_answer(states, id)
        return report(answer.experiment, answer.seen, answer.as_of)

    return await asked(request, f"experiment {id}", question, as_of, is_long=True)


@get("/v1/reference/{kind:str}/{id:str}", tags=["accounts"], summary="What decisions know about a merchant or device")
async def reference(request: Asked, kind: FromPath[Kind], id: Name, as_of: AsOf = None) -> Response[ReferenceAnswer]:
    """`values` is null if the table in force has no row for it."""
    return await asked(request, f"reference {kind} {id}", lambda states: reference_answer(states, kind, id), as_of)


@get("/v1/lists", tags=["policy"], summary="Block, watch and allow lists, and blocked accounts")
async def lists(request: Asked, as_of: AsOf = None) -> Response[dict[str, Any]]:
    """Entries: since when, by whom, why; and every change."""
    return await asked(request, "lists", lists_answer, as_of)


@get("/v1/thresholds", tags=["policy"], summary="Thresholds in force, and who set them")
async def thresholds(request: Asked, as_of: AsOf = None) -> Response[ThresholdsAnswer]:
    """With every change and its reason."""

    def question(states: States) -> ThresholdsAnswer:
        r = states.of_control(REGISTRY)
        edits = policy_history(r, "thresholds")
        return ThresholdsAnswer(states.as_of, r.review, r.decline, r.review_loss, r.decline_loss, edits)

    return await asked(request, "thresholds", question, as_of)


@get("/v1/rules", tags=["policy"], summary="Rules of the program in force, with their parameters")
async def rules(request: Asked, as_of: AsOf = None) -> Response[RulesAnswer]:
    """With every change of parameters and its reason."""

    def question(states: States) -> RulesAnswer:
        registry, programs = states.of_control(REGISTRY), states.of_control(PROGRAMS)
        loaded = loading.load(in_force(programs) or programs.default, states.log.get_blob)
        written = _written(loaded, states.log.get_blob)
        rows = [_rule(rule, loaded, written, registry) for rule in loaded.checked.rules]
        return RulesAnswer(states.as_of, loaded.program.label, rows, policy_history(registry, "rules"))

    return await asked(request, "rules", question, as_of)


@get("/v1/rules/hits", tags=["policy"], summary="How often each rule hit, and how often it was right")
async def rule_hits(
    request: Asked, start: Time = None, end: Time = None, as_of: AsOf = None
) -> Response[RuleHitsAnswer]:
    """By the labels of the payments that it hit, as known at the moment. `start` is inclusive, `end` exclusive; by
    default the 30 days before the moment. Shadow hits are not counted: a backtest tells them.
    """
    here = desk(request)
    first, last = time_of("start", start), time_of("end", end)

    def answer() -> RuleHitsAnswer:
        def look(states: States, columns: dict[int, Columns]) -> tuple[Chosen, str, int, int]:
            since, until = period_of(states, first, last)
            return chosen(columns, since, until), states.as_of, since, until

        view, (found, cut, since, until) = labels_with(here, as_of, look)
        return hits(found, here.views.index.bits, view, cut, since, until)

    made = await here.run_heavy(answer)
    return json(made) if as_of is None else unchanging(request, made)


def _rule(rule: CheckedRule, loaded: Loaded, written: Mapping[str, Rule], registry: Registry) -> RuleRow:
    reads = names_read(rule.when)
    named = reads.parameters
    state = "enabled" if rule.mode == "live" else rule.mode
    return RuleRow(
        rule.code,
        rule.effect,
        "disabled" if rule.code in registry.disabled else state,
        {name: registry.parameters.get(name, loaded.checked.parameters[name]) for name in named},
        {name: loaded.checked.parameters[name] for name in named},
        [name for name in named if name in registry.parameters],
        rule.words,
        written[rule.code].owner if rule.code in written else "",
        written[rule.code].when if rule.code in written else "",
        [*reads.fields, *reads.features, *reads.library],
    )


def _written(loaded: Loaded, load_blob: Callable[[str], bytes]) -> dict[str, Rule]:
    """The rules as written, by code: the program's own, where it has the condition, before its libraries'."""
    found = {rule.code: rule for each in libraries_of(loaded.program, load_blob) for rule in each.program.rules}
    return found | {rule.code: rule for rule in loaded.program.rules if rule.when or rule.code not in found}


@get("/v1/models", tags=["models"], summary="Models, stages, lineage, deployments")
async def models(request: Asked, as_of: AsOf = None) -> Response[dict[str, Any]]:
    """Who deployed what, when and why; thresholds and reference tables (docs/queries.md)."""
    return await asked(request, "models", registry_answer, as_of)


@get("/v1/models/{id:str}", tags=["models"], summary="One model's card")
async def model(request: Asked, id: Name, as_of: AsOf = None) -> Response[dict[str, Any]]:
    """Its artifact, metrics, stage, lineage, and every deployment of it, by `name-version`."""

    def question(states: States) -> dict[str, Any]:
        answer = registry_answer(states)
        row = next((row for row in answer.models if row.model.label == id), None)
        if row is None:
            raise not_found(f"model {id}", "see /v1/models for the registered ones")
        served = [each for each in answer.registry.deployments if each.model == id]
        return {"as_of": states.as_of, **msgspec.structs.asdict(row), "deployments": served}

    return await asked(request, f"model {id}", question, as_of)


HANDLERS = [
    *(account, cases, case, labels, sources, stats, drift, drifted, shadow, experiments, experiment, reference, lists),
    *(thresholds, rules, rule_hits, models, model),
]
