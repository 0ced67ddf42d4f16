"""A loaded program: its plan bound to a log's key and the parameters in force. What the pipeline calls per batch. Pure.

    batch ─► aggregates (core.program.rings) ─► features, into the matrix as float32 ─► [model]
          ─► hits ─► what asks for a decision

A rule is live, or a shadow rule: evaluated and logged, without effect. One with a roll-out is live for the accounts
whose keyed hash falls into its share, and a shadow rule for the others; the hash depends on the code, so that roll-outs
of several rules fall on different accounts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.features import spec
from core.hashing import HashKey, hash_strings
from core.policy import DECISIONS, EFFECTS, SEVERITIES, decide
from core.program.batch import Batch
from core.program.checked import CheckedRule
from core.program.codes import ENGINE
from core.program.compiling import Code, structure
from core.program.document_reading import placeholders
from core.program.inputs import ModelColumns
from core.program.leaves import LeafColumns, Step, Words, leaves_of
from core.program.loops import conclude, grade, settle, store
from core.program.plan import Plan, fields_of, parts
from core.program.rings import RingStep, digest_of
from core.program.typed import Column, Expression, Hit
from core.scoring import Scorer

_WHOLE = 1 << 32
_ALL = slice(None)
MODELS_HELD = 128
"""Bound models: more than an experiment's arms, the champion and the shadow."""
_PROBABILITY = Column("number", "outcome", "probability")
_ORDINARY = np.array([-1, SEVERITIES.index("low"), SEVERITIES.index("high")], dtype=np.int8)
"""The severity of each decision where no condition of the program holds."""


class Hits(NamedTuple):
    """live, shadow: uint8 (n, R), whether a rule hit and has effect, or hit without one. counts: int64 (n, 4), the live
    hits by effect (EFFECTS).
    """

    live: NDArray[np.uint8]
    shadow: NDArray[np.uint8]
    counts: NDArray[np.int64]


class Asked(NamedTuple):
    """Whether the program's `[decision]` asks for a decline or a review: bool (n,) each."""

    decline: NDArray[np.bool_]
    review: NDArray[np.bool_]


class Judged(NamedTuple):
    """asked: bool (n,), whether the program's `[decision]` asks for more than to approve. decisions: uint8 (n,) into
    policy.DECISIONS.
    """

    hits: Hits
    asked: NDArray[np.bool_]
    decisions: NDArray[np.uint8]


class Program:
    """See the module's docstring. Immutable after construction. rules: those that are evaluated, in order; bit k of a
    hit word is rules[k].
    """

    def __init__(
        self, plan: Plan, key: HashKey, parameters: Mapping[str, float], disabled: Collection[str] = ()
    ) -> None:
        """parameters: those in force, by name, over the program's defaults; names that it does not know are ignored.
        disabled: codes of rules that are off.
        """
        self.plan = plan
        self.digest = plan.program.digest[:16]
        self.key = key
        self.parameters = {**plan.program.parameters}
        self.parameters |= {name: parameters[name] for name in self.parameters if name in parameters}
        self.rules: tuple[CheckedRule, ...] = tuple(rule for rule in plan.program.rules if rule.mode != "off")
        self.codes = tuple(rule.code for rule in self.rules)
        self.disabled = tuple(disabled)
        self._places = {name: place for place, name in enumerate(plan.names)}
        self._aggregates = {structure(aggregate): place for place, aggregate in enumerate(plan.layout.aggregates)}
        self.required = {name: field for name, field in plan.program.fields.items() if field.is_required}
        """The own fields without which a message is rejected."""
        self.rings = self._ring_step() if plan.layout.aggregates else None
        self._features = self._step(plan.feature_code)
        self._rules = self._step(plan.rule_code)
        self._decision = self._step(plan.decision_code)
        self._severity = self._step(plan.severity_code)
        self._judging = self._step(plan.judging_code) if plan.judging_code is not None else None
        self._levels = np.array([SEVERITIES.index(level) for level, _ in plan.program.severity], dtype=np.int8)
        declines, reviews, count = plan.program.decline, plan.program.review, len(self.rules)
        self._asking = -1 if declines is None else count, -1 if reviews is None else count + (declines is not None)
        """Where the judging code says whether the program asks for a decline and for a review."""
        self._effects = np.array([EFFECTS.index(rule.effect) for rule in self.rules], dtype=np.int64)
        self._shares = np.array([self._share(rule) for rule in self.rules], dtype=np.uint64)
        self.has_shadows = any(rule.mode == "shadow" or rule.rollout < 100.0 for rule in self.rules)
        """Whether any rule may hit without effect."""
        self._salts = hash_strings(list(self.codes), key.derived("rollout"))
        self._decisions = hash_strings(list(DECISIONS), key)
        self._off = np.array([code in self.disabled for code in self.codes], dtype=np.bool_)
        self._known: dict[bytes, tuple[str, ...]] = {}
        self._models: dict[str, ModelColumns] = {}
        read = zip(self.rules, plan.conditions, strict=True)
        self._reads = [tuple(self._columns_read(rule, condition)) for rule, condition in read]

    def check(self, parameters: Mapping[str, float], disabled: Collection[str]) -> None:
        """Raise BadInput for a parameter or a rule that the program does not have, or a parameter that is NaN."""
        for name, value in parameters.items():
            if name not in self.parameters:
                raise BadInput(f"unknown rule parameter {name!r}; known: {', '.join(self.parameters)}")
            if value != value:
                raise BadInput(f"rule parameter {name} is not a number")
        for code in disabled:
            if code not in self.codes:
                raise BadInput(f"unknown rule {code!r}; known: {', '.join(self.codes)}")

    def under(self, parameters: Mapping[str, float], disabled: Collection[str]) -> Program:
        """The same program with other parameters in force, and other rules disabled."""
        return Program(self.plan, self.key, parameters, disabled)

    def _step(self, code: Code) -> Step:
        return Step(code.bind(self.key, self.parameters), leaves_of(code, self._places, self._aggregates, self.key))

    def _ring_step(self) -> RingStep:
        plan = self.plan
        read = {each.name for code in (plan.event_code, plan.verdict_code) for each in fields_of(code.leaves)}
        fields = {name: field for name, field in plan.program.fields.items() if name in read}
        return RingStep(
            plan.layout,
            self._step(plan.event_code),
            self._step(plan.verdict_code),
            fields,
            self.key,
            plan.reads_outcomes,
            digest_of(plan.layout, fields, ENGINE),
        )

    def _columns_read(self, rule: CheckedRule, condition: Expression) -> Iterator[tuple[str, int]]:
        """What a rule compares, then what its words show. The field `amount` is a column too."""
        compared = [each.name for each in parts(condition) if isinstance(each, Column) and each.source != "parameter"]
        for name in (*compared, *placeholders(rule.words)):
            if name in self._places:
                yield name, self._places[name]

    @staticmethod
    def _share(rule: CheckedRule) -> int:
        return 0 if rule.mode == "shadow" else round(rule.rollout / 100.0 * _WHOLE)

    @property
    def width(self) -> int:
        """Columns of the matrix, of which the first `plan.stored` are stored."""
        return self.plan.width

    def features(self, batch: Batch, rows: NDArray[np.int64], aggregates: Words | None) -> None:
        """Compute the own features of some rows into the batch's matrix."""
        if self.width > spec.WIDTH:
            store(*self._features.run(batch, rows, aggregates), rows, spec.WIDTH, batch.matrix)

    def serve(self, scorer: Scorer) -> None:
        """Bind what a model reads. Raises BadInput if the program lacks any of it."""
        if scorer.inputs is not None and scorer.digest not in self._models:
            if len(self._models) >= MODELS_HELD:
                del self._models[next(iter(self._models))]
            self._models[scorer.digest] = ModelColumns(self.plan, self.key, scorer.inputs, scorer.version)

    def reach(self, scorer: Scorer) -> int:
        """How many of the matrix's first columns hold all that a model that is served reads of it."""
        return spec.WIDTH if scorer.inputs is None else self._models[scorer.digest].reach

    def columns(self, scorer: Scorer, batch: Batch, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """What a model reads of some rows whose features are in the batch's matrix: float32 (len(rows), F)."""
        if scorer.inputs is not None:
            self.serve(scorer)
            return self._models[scorer.digest].of(batch, rows)
        features = batch.matrix if len(rows) == len(batch.matrix) else batch.matrix[rows]
        return features if features.shape[1] == spec.WIDTH else np.ascontiguousarray(features[:, : spec.WIDTH])

    def hits(self, batch: LeafColumns, rows: NDArray[np.int64]) -> Hits:
        """Which rules hit some rows, whose features are in the matrix."""
        return self._settled(batch, rows, *self._rules.run(batch, rows))

    def judged(self, batch: LeafColumns, rows: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Judged:
        """What hits some rows and what is decided on them, in one evaluation if the decision reads no hits."""
        if self._judging is None:
            hits = self.hits(batch, rows)
            asked = self.asked(batch, rows, probabilities, hits)
            return Judged(hits, asked.decline | asked.review, decide(asked.decline, asked.review, hits.counts))
        n = len(rows)
        words, valid = self._judging.run(batch, rows, None, {_PROBABILITY: Words(probabilities, batch.ones(n))})
        hits = self._settled(batch, rows, words, valid)
        judged = Judged(hits, np.empty(n, dtype=np.bool_), np.empty(n, dtype=np.uint8))
        conclude(words, valid, *self._asking, hits.counts, judged.asked, judged.decisions)
        return judged

    def _settled(
        self, batch: LeafColumns, rows: NDArray[np.int64], words: NDArray[np.float64], valid: NDArray[np.uint8]
    ) -> Hits:
        """words, valid: of the rules, and perhaps others after these."""
        n, count = len(rows), len(self.rules)
        live, shadow = np.zeros((n, count), dtype=np.uint8), np.zeros((n, count), dtype=np.uint8)
        counts = np.zeros((n, len(EFFECTS)), dtype=np.int64)
        if count:
            if self.disabled:
                valid[:count][self._off] = 0
            settle(words, valid, self._effects, self._shares, self._salts, batch.owners, rows, live, shadow, counts)
        return Hits(live, shadow, counts)

    def asked(
        self, batch: LeafColumns, rows: NDArray[np.int64], probabilities: NDArray[np.float64], hits: Hits
    ) -> Asked:
        """What the program's `[decision]` asks for. probabilities: float64 (len(rows),)."""
        words, valid = self._decision.run(batch, rows, None, self._outcomes(self._decision, probabilities, hits))
        return self._asked((words != 0.0) & (valid != 0), len(rows))

    def decisions(
        self, batch: LeafColumns, rows: NDArray[np.int64], probabilities: NDArray[np.float64], hits: Hits
    ) -> NDArray[np.uint8]:
        """What the program decides on some rows at these probabilities, float64 (len(rows),), whoever says them, with
        hits that are known: uint8 (len(rows),) into policy.DECISIONS.
        """
        asked = self.asked(batch, rows, probabilities, hits)
        found: NDArray[np.uint8] = decide(asked.decline, asked.review, hits.counts)
        return found

    def _asked(self, columns: NDArray[np.bool_], n: int) -> Asked:
        program, nothing, each = self.plan.program, np.zeros(n, dtype=np.bool_), iter(columns)
        decline = next(each) if program.decline is not None else nothing
        return Asked(decline, next(each) if program.review is not None else nothing)

    def severities(
        self,
        batch: LeafColumns,
        rows: NDArray[np.int64],
        probabilities: NDArray[np.float64],
        hits: Hits,
        decisions: NDArray[np.uint8],
    ) -> NDArray[np.int8]:
        """How grave the alerts are: int8 (len(rows),) into policy.SEVERITIES, −1 where the decision is to approve."""
        levels: NDArray[np.int8] = _ORDINARY[decisions]
        alerts = decisions.nonzero()[0]
        if not len(alerts) or not len(self._levels):
            return levels
        given = self._outcomes(self._severity, probabilities[alerts], hits, decisions[alerts], alerts)
        grade(*self._severity.run(batch, rows[alerts], None, given), self._levels, alerts, levels)
        return levels

    def _outcomes(
        self,
        step: Step,
        probabilities: NDArray[np.float64],
        hits: Hits,
        decisions: NDArray[np.uint8] | None = None,
        at: NDArray[np.int64] | slice = _ALL,
    ) -> dict[Expression, Words]:
        """The columns of a step that say what was decided. at: which of the hits are those of the probabilities and
        decisions.
        """
        every = np.ones(len(probabilities), dtype=np.uint8)
        given: dict[Expression, Words] = {}
        for _, leaf in step.leaves.outcomes:
            match leaf:
                case Column(_, "outcome", "probability"):
                    given[leaf] = Words(probabilities, every)
                case Column(_, "outcome", "reviews"):
                    given[leaf] = Words(hits.counts[at, 1].astype(np.float64), every)
                case Column(_, "outcome", "decision") if decisions is not None:
                    given[leaf] = Words(self._decisions[decisions].view(np.float64), every)
                case Hit(code) if code in self.codes:
                    given[leaf] = Words(hits.live[at, self.codes.index(code)].astype(np.float64), every)
                case Hit():
                    given[leaf] = Words(np.zeros(len(every)), every)
                case _:
                    pass
        return given

    def values(self, hits: NDArray[np.uint8], features: NDArray[np.float32]) -> dict[str, float | None]:
        """What the rules that hit one row compare or show: features by name, None where missing or no finite number.

        hits uint8 (R,), features float32 (W,).
        """
        columns = dict(chain.from_iterable(self._reads[k] for k in np.flatnonzero(hits).tolist()))
        found = {name: features.item(column) for name, column in columns.items()}
        return {name: value if math.isfinite(value) else None for name, value in found.items()}

    def names(self, hits: NDArray[np.uint8]) -> list[tuple[str, ...]]:
        """The codes of every row's hits: uint8 (n, R) → n tuples, in the order of the rules."""
        if not np.count_nonzero(hits):
            return [()] * len(hits)
        packed = np.packbits(hits, axis=1)
        words: list[bytes] = packed.view(f"S{packed.shape[1]}")[:, 0].tolist()  # without trailing zeros: still unique
        known = self._known
        out = list(map(known.get, words))
        if None in out:
            if len(known) >= 65_536:
                known.clear()
            for word in set(words):
                known[word] = self._codes(word)
            out = list(map(known.get, words))
        return out  # type: ignore[return-value]

    def _codes(self, word: bytes) -> tuple[str, ...]:
        """The codes of the rules whose bits are set."""
        width = (len(self.codes) + 7) // 8
        bits = np.unpackbits(np.frombuffer(word.ljust(width, b"\0"), dtype=np.uint8), count=len(self.codes))
        return tuple(code for code, bit in zip(self.codes, bits, strict=True) if bit)


def effects_of(counts: NDArray[np.int64]) -> list[int]:
    """What the hits of every row ask for, as bits: 1 review, 2 decline, 4 allow. counts (n, 4): hits by effect."""
    asked: list[int] = np.packbits(counts[:, 1:] > 0, axis=1, bitorder="little")[:, 0].tolist()
    return asked
