"""The query API that the console and the learners share: read models as of any moment or position. Reads only.

Every answer is a function of the log up to a `Cut` and names it in `as_of`; asked again with that, it is the same for
ever. A query starts from the runner's checkpoint where there is one before the cut, and folds the rest.

One account is answered without folding everyone: its partition follows from its key, and of that partition only the
account's own entries are decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from core.codec import decode_alert
from core.control import fold as fold_control
from core.errors import BadInput
from core.events import Position
from core.features import spec
from core.features.reference import COLUMNS, FIRST_COLUMN, Kind, ReferenceTable
from core.log.base import EventLog
from core.numeric import hash_strings
from core.partitioner import PARTITIONERS
from core.replay import read_control_events
from projections.audit.lookup import partitioner_of
from projections.catalogue import ALL, current
from projections.engine.as_of import Cut, resolve
from projections.engine.base import CONTROL, Decided, Fact, Place, Projection, fold
from projections.engine.checkpoints import CheckpointStore, restore
from projections.engine.columnar import fold_between
from projections.engine.feed import Bound, account_facts, bound_at
from projections.label_queries import Filters, LabelsAnswer, SourcesAnswer, labels_answer, sources_answer
from projections.labelling.quality import RULES, Rules
from projections.labelling.sources import view
from projections.views import cases, labels, registry, throughput
from projections.views.cases import Case, Cases
from projections.views.drift import Detection, Drift
from projections.views.experiments import Experiment, Experiments, Observations, observe
from projections.views.labels import Labels
from projections.views.lists import Change, Lists, Member
from projections.views.profiles.record import Profile, Profiles
from projections.views.registry import Registry
from projections.views.shadow import Pair, Shadows
from projections.views.throughput import Hour, Throughput

T = TypeVar("T")


class ProfileAnswer(msgspec.Struct, frozen=True):
    """An account's profile; None if the log had nothing of it. `open_cases` by SLA clock."""

    as_of: str
    account_id: str
    partition: int | None
    profile: Profile | None
    open_cases: dict[str, int]


class CaseRow(msgspec.Struct, frozen=True):
    """A case and its clock. due_in_ms: to the deadline, negative when overdue; None without a running clock."""

    case: Case
    partition: int
    clock: cases.Clock
    due_in_ms: int | None


class CasesAnswer(msgspec.Struct, frozen=True):
    """Cases by deadline, earliest first. counts: of all cases, by stage and by clock, before any filter."""

    as_of: str
    counts: dict[str, int]
    cases: list[CaseRow]


class ModelRow(msgspec.Struct, frozen=True):
    """A model with its stage and lineage (itself first)."""

    model: registry.Model
    stage: str
    lineage: list[str]


class RegistryAnswer(msgspec.Struct, frozen=True):
    """Models, deployments oldest first, and the policy in force."""

    as_of: str
    models: list[ModelRow]
    registry: Registry


class ListsAnswer(msgspec.Struct, frozen=True):
    """Lists by `"kind:effect"`, blocked accounts, and changes of both, oldest first."""

    as_of: str
    members: dict[str, dict[str, Member]]
    blocked_accounts: dict[str, Member]
    history: list[Change]


class DriftAnswer(msgspec.Struct, frozen=True):
    """Detections, oldest first; `open` are those not cleared."""

    as_of: str
    open: list[Detection]
    detections: list[Detection]


class ExperimentAnswer(NamedTuple):
    """An experiment and its accounts' observations, for `learners.experiments.report`. others: all experiments' IDs."""

    as_of: str
    experiment: Experiment
    seen: Observations
    others: list[str]


class ShadowAnswer(NamedTuple):
    """Pairs of deciding and shadow model by name, oldest first, each by partition; for `learners.experiments.shadow`.

    clocks: log time reached by partition (epoch ms). review, decline: the thresholds in force.
    """

    as_of: str
    pairs: dict[str, dict[int, Pair]]
    labels: dict[int, Labels]
    clocks: dict[int, int]
    review: float
    decline: float


class StatsAnswer(msgspec.Struct, frozen=True):
    """Totals over all partitions. latency_ms_at_most: upper bounds of percentiles (`projections.views.throughput`)."""

    as_of: str
    totals: Hour
    per_s: float
    latency_ms_at_most: dict[str, int | None]
    partitions: dict[str, Hour]
    throughput: Throughput


class ReferenceAnswer(msgspec.Struct, frozen=True):
    """A merchant's (terminal's) or device's row of the table that decisions joined; None where there is none."""

    as_of: str
    kind: Kind
    id: str
    table: registry.Reference | None
    values: dict[str, float | None] | None


def partitions_of(log: EventLog) -> list[int]:
    """The log's partitions. Raises BadInput if no worker ever started on it."""
    known = fold_control(list(read_control_events(log))).generations.get("transactions")
    if known is None:
        raise BadInput("this log is empty: no worker has ever started on it (check REDIS_HOST and the log prefix)")
    return list(range(known.partitions))


class Queries:
    """Questions to one log. now_ms: the wall clock (epoch ms) that clocks are read at when no as-of is given."""

    def __init__(
        self,
        log: EventLog,
        store: CheckpointStore | None = None,
        *,
        now_ms: int,
        projections: Iterable[Projection[Any]] = ALL,
    ) -> None:
        self._log = log
        self._store = store
        self._now_ms = now_ms
        self._projections = list(projections)
        self._partitions = partitions_of(log)

    def cut(self, as_of: str | None = None) -> Cut:
        """The places that `as_of` names (`projections.engine.as_of`); None is now. Raises BadInput."""
        cut = resolve(self._log, self._partitions, as_of)
        return cut if cut.moment is not None else replace(cut, moment=self._now_ms)

    def state(self, name: str, source: int, cut: Cut) -> Any:
        """A projection's state of one source as of the cut."""
        projection = self._projection(name)
        until = cut.place(source)
        place, state = restore(self._store, projection, self._log, source, until)
        return fold_between(projection, self._log, source, place, until, state)

    def account_states(self, names: Sequence[str], account: str, partition: int, cut: Cut) -> list[Any]:
        """Projections' states of a partition as of the cut, of which only this account's part is right.

        One read of the account's facts for all of them.
        """
        until = cut.partitions[partition]
        started: list[tuple[Projection[Any], Place, Any]] = []
        for name in names:
            projection = self._projection(name)
            assert projection.is_by_account, name
            started.append((projection, *restore(self._store, projection, self._log, partition, until.place)))
        after = {place: bound_at(self._log, partition, place) for _, place, _ in started}
        facts = list(account_facts(self._log, partition, account, after[min(after)], until))
        return [fold(p, (f for f in facts if not _is_before(f, after[place])), s) for p, place, s in started]

    def account_state(self, name: str, account: str, partition: int, cut: Cut) -> Any:
        """`account_states` of one projection."""
        return self.account_states([name], account, partition, cut)[0]

    def partition_of(self, account: str) -> list[int]:
        """Where the account's entries can be: one partition, or all if the producers' partitioner is not known."""
        name = partitioner_of(self._log, self._partitions)
        return self._partitions if name is None else [PARTITIONERS[name](account.encode(), len(self._partitions))]

    def profile(self, account: str, as_of: str | None = None) -> ProfileAnswer:
        """An account's profile and its open cases."""
        cut = self.cut(as_of)
        for partition in self.partition_of(account):
            state: Profiles
            mine: Cases
            state, mine = self.account_states(["profiles", "cases"], account, partition, cut)
            profile = state.accounts.get(account)
            if profile is not None:
                rows = _rows(mine, partition, _moment(cut), account)
                clocks = _counted(row.clock for row in rows if row.case.stage != "resolved")
                return ProfileAnswer(str(cut), account, partition, profile, clocks)
        return ProfileAnswer(str(cut), account, None, None, {})

    def cases(
        self,
        as_of: str | None = None,
        *,
        account: str | None = None,
        stages: Sequence[str] = ("open", "assigned"),
        assignee: str | None = None,
        severity: str | None = None,
        limit: int = 50,
    ) -> CasesAnswer:
        """The queue, filtered. For one account without folding the others."""
        cut = self.cut(as_of)
        rows: list[CaseRow] = []
        for partition in self._partitions if account is None else self.partition_of(account):
            if account is None:
                state: Cases = self.state("cases", partition, cut)
            else:
                state = self.account_state("cases", account, partition, cut)
            rows += _rows(state, partition, _moment(cut), account)
        counts = {**_counted(row.case.stage for row in rows), **_counted(row.clock for row in rows)}
        chosen = [
            row
            for row in rows
            if row.case.stage in stages
            and assignee in (None, row.case.assignee)
            and severity in (None, row.case.severity)
        ]
        chosen.sort(key=lambda row: (row.case.due_at == 0, row.case.due_at, row.partition, row.case.case_id))
        return CasesAnswer(str(cut), counts, chosen[:limit])

    def case(self, case_id: str, as_of: str | None = None) -> CaseRow | None:
        """One case by its ID, another name of it, or the ID of an alert in it; None if there was none.

        By an alert's ID only its account is folded.
        """
        cut = self.cut(as_of)
        match = re.fullmatch(r"(\d+):(\d+-\d+)", case_id)
        if match is not None and int(match[1]) in self._partitions:
            partition = int(match[1])
            payload = self._log.get(partition, "alerts", Position.parse(match[2]))
            if payload is not None:
                account = decode_alert(payload).account_id
                mine: Cases = self.account_state("cases", account, partition, cut)
                return _named(_rows(mine, partition, _moment(cut), account), case_id)
        for partition in self._partitions:
            state: Cases = self.state("cases", partition, cut)
            row = _named(_rows(state, partition, _moment(cut), None), case_id)
            if row is not None:
                return row
        return None

    def labels(
        self,
        as_of: str | None = None,
        *,
        account: str | None = None,
        transaction: str | None = None,
        status: str | None = None,
        is_suspect: bool = False,
        maturity_days: int = labels.MATURITY_DAYS,
        limit: int = 50,
        rules: Rules = RULES,
        is_fixed: bool = False,
    ) -> LabelsAnswer:
        """Counts of labels, and the transactions with verdicts; of one account also those without.

        is_fixed: fixed reliabilities and no check of rates (`projections.label_queries`); with `account` then only that
        account is folded. is_suspect: only transactions with a verdict that is held back for review.
        """
        cut = self.cut(as_of)
        filters = Filters(transaction, status, is_suspect, limit)
        states: dict[int, Labels] = {}
        if account is None or not is_fixed:
            states = {p: self.state("labels", p, cut) for p in self._partitions}
        if account is None:
            days = _added(state.days for state in states.values())
            whole = view(states, rules, is_learned=not is_fixed)
            return labels_answer(str(cut), _moment(cut), whole, days, filters, maturity_days)
        own: dict[int, Labels] = {}
        unjudged: list[tuple[str, str, int]] = []
        for partition in self.partition_of(account):
            own[partition], times = self._account_labels(account, partition, cut)
            unjudged += [(account, t, at) for t, at in times.items()]
        found = view(own, rules, is_learned=False) if is_fixed else view(states, rules).of_account(account)
        days = _added(state.days for state in own.values())
        return labels_answer(str(cut), _moment(cut), found, days, filters, maturity_days, unjudged)

    def sources(self, as_of: str | None = None, rules: Rules = RULES) -> SourcesAnswer:
        """Who gives verdicts, how many of them count, how reliable each is and how late it comes."""
        cut = self.cut(as_of)
        states: dict[int, Labels] = {p: self.state("labels", p, cut) for p in self._partitions}
        return sources_answer(str(cut), _moment(cut), states, rules)

    def _account_labels(self, account: str, partition: int, cut: Cut) -> tuple[Labels, dict[str, int]]:
        """One account's labels, and the event times of its transactions without a verdict."""
        projection = self._projection("labels")
        state: Labels = projection.initial()
        times: dict[str, int] = {}
        for fact in account_facts(self._log, partition, account, Bound(), cut.partitions[partition]):
            projection.apply(state, fact)
            if isinstance(fact.event, Decided):
                times[fact.event.transaction.transaction_id] = fact.event.transaction.occurred_at
        held = state.accounts.get(account, labels.AccountLabels()).verdicts
        return state, {t: at for t, at in times.items() if t not in held}

    def registry(self, as_of: str | None = None) -> RegistryAnswer:
        """Models, who deployed what, and the policy in force."""
        cut = self.cut(as_of)
        state: Registry = self.state("registry", CONTROL, cut)
        rows = [
            ModelRow(model, registry.stage(state, label), registry.lineage(state, label))
            for label, model in state.models.items()
        ]
        return RegistryAnswer(str(cut), rows, state)

    def lists(self, as_of: str | None = None) -> ListsAnswer:
        """Lists and blocked accounts."""
        cut = self.cut(as_of)
        control: Lists = self.state("lists", CONTROL, cut)
        history, accounts = list(control.history), {}
        for partition in self._partitions:
            state: Lists = self.state("lists", partition, cut)
            accounts.update(state.accounts)
            history += state.history
        history.sort(key=lambda change: change.occurred_at)
        members = {name: held for name, held in sorted(control.members.items()) if held}
        return ListsAnswer(str(cut), members, dict(sorted(accounts.items())), history)

    def drift(self, as_of: str | None = None) -> DriftAnswer:
        """The history of drift."""
        cut = self.cut(as_of)
        state: Drift = self.state("drift", CONTROL, cut)
        return DriftAnswer(str(cut), [d for d in state.detections if not d.cleared_at], state.detections)

    def experiment(self, experiment_id: str | None = None, as_of: str | None = None) -> ExperimentAnswer:
        """An experiment, by default the newest, with what its accounts show. Raises BadInput if there is none."""
        cut = self.cut(as_of)
        control: Experiments = self.state("experiments", CONTROL, cut)
        names = list(control.experiments)
        if not names:
            raise BadInput("no experiment was started yet (sentinel experiment start)")
        chosen = names[-1] if experiment_id is None else experiment_id
        if chosen not in control.experiments:
            raise BadInput(f"there is no experiment {chosen!r}; there are {', '.join(names)}")
        states: dict[int, Experiments] = {p: self.state("experiments", p, cut) for p in self._partitions}
        of_labels: dict[int, Labels] = {p: self.state("labels", p, cut) for p in self._partitions}
        experiment = control.experiments[chosen]
        return ExperimentAnswer(str(cut), experiment, observe(experiment, states, of_labels), names)

    def shadow(self, as_of: str | None = None) -> ShadowAnswer:
        """Every shadow model beside the models that decided."""
        cut = self.cut(as_of)
        control: Shadows = self.state("shadow", CONTROL, cut)
        states: dict[int, Shadows] = {p: self.state("shadow", p, cut) for p in self._partitions}
        first: dict[str, int] = {}
        for state in states.values():
            for name, pair in state.pairs.items():
                first[name] = min(first.get(name, pair.first_at), pair.first_at)
        pairs = {
            name: {p: state.pairs[name] for p, state in states.items() if name in state.pairs}
            for name in sorted(first, key=lambda name: (first[name], name))
        }
        of_labels: dict[int, Labels] = {p: self.state("labels", p, cut) for p in self._partitions} if pairs else {}
        clocks = {p: state.recorded_at for p, state in states.items()}
        return ShadowAnswer(str(cut), pairs, of_labels, clocks, control.review, control.decline)

    def stats(self, as_of: str | None = None) -> StatsAnswer:
        """Throughput and latency of all partitions together."""
        cut = self.cut(as_of)
        total, partitions = Throughput(), {}
        for partition in self._partitions:
            state: Throughput = self.state("throughput", partition, cut)
            total.add(state)
            partitions[f"p{partition:02d}"] = _sum(state.hours.values())
        everything = _sum(total.hours.values())
        seconds = (total.last_recorded_at - total.first_recorded_at) / 1000
        bounds = {
            f"p{share}": throughput.latency_ms_at_most(total.latency, float(share) / 100)
            for share in ("50", "95", "99", "99.9")
        }
        rate = everything.transactions / seconds if seconds > 0 else 0.0
        return StatsAnswer(str(cut), everything, rate, bounds, partitions, total)

    def reference(self, kind: Kind, name: str, as_of: str | None = None) -> ReferenceAnswer:
        """What the reference table in force says of a merchant (terminal) or device."""
        cut = self.cut(as_of)
        state: Registry = self.state("registry", CONTROL, cut)
        table = state.references.get(kind)
        if table is None:
            return ReferenceAnswer(str(cut), kind, name, None, None)
        content = ReferenceTable.from_bytes(self._log.get_blob(table.digest))
        key = hash_strings([name])[0]
        row = int(np.searchsorted(content.keys, key))
        if row == len(content.keys) or content.keys[row] != key:
            return ReferenceAnswer(str(cut), kind, name, table, None)
        first = spec.index(FIRST_COLUMN[kind])
        names = spec.NAMES[first : first + COLUMNS[kind]]
        values = [None if np.isnan(value) else float(value) for value in content.values[row]]
        return ReferenceAnswer(str(cut), kind, name, table, dict(zip(names, values, strict=True)))

    def _projection(self, name: str) -> Projection[Any]:
        return current(self._store, name, self._projections)


def _is_before(fact: Fact, bound: Bound) -> bool:
    """A decision's or an account event's ID lies before the bound."""
    return fact.id <= (bound.transactions if isinstance(fact.event, Decided) else bound.feedback)


def _moment(cut: Cut) -> int:
    assert cut.moment is not None  # Queries.cut sets it
    return cut.moment


def _rows(state: Cases, partition: int, now_ms: int, account: str | None) -> list[CaseRow]:
    held = state.accounts.values() if account is None else [a for n, a in state.accounts.items() if n == account]
    rows = []
    for case in (case for of in held for case in of.cases):
        clock = cases.clock(case, now_ms)
        due = case.due_at - now_ms if clock in ("running", "overdue") else None
        rows.append(CaseRow(case, partition, clock, due))
    return rows


def _named(rows: list[CaseRow], case_id: str) -> CaseRow | None:
    """The case of this ID, with this other name, or with this alert."""
    for row in rows:
        if case_id in (row.case.case_id, *row.case.names, *(alert.alert_id for alert in row.case.alerts)):
            return row
    return None


def _counted(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _added(counts: Iterable[dict[int, int]]) -> dict[int, int]:
    total: dict[int, int] = {}
    for each in counts:
        for key, count in each.items():
            total[key] = total.get(key, 0) + count
    return total


def _sum(hours: Iterable[Hour]) -> Hour:
    total = Hour()
    for hour in hours:
        total.add(hour)
    return total
