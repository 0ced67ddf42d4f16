"""Alerts in words: reasons and risk factors, computed when somebody reads an alert, never when a payment is decided.

An alert in the log holds codes and the values that its rules read (`core.alerts`). `in_short` says what these mean,
without reading anything else. `AlertReader` tells the whole: it reads the score's feature vector and the parameters in
force at the score's control position, loads the program and the model that decided by their digests, takes the words of
the program's rules (`projections.audit.wording`), and asks the model for its shares.

Nothing here is logged or compared, so words may change without changing a decision (ADR 23). A model that can't be
loaded or can't explain leaves out its own reasons and says so.

Cost: 0.2 ms per alert; a model is loaded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.alerts import MODEL_CODE
from core.codec import decode_alert, decode_score, decode_transaction
from core.context import LoadScorer
from core.control import ControlState
from core.control_stream import history
from core.errors import SentinelError
from core.events import AlertRaised, Position, TransactionReceived, TransactionScored
from core.features import packing, spec
from core.identity import required
from core.log.base import EventLog
from core.program.checked import CheckedRule, Effect
from core.program.codes import ENGINE
from core.program.deciding import Program
from core.program.language import walk
from core.program.library import kernel
from core.program.loading import default, load
from core.program.plan import plan
from core.program.shipped import DEFAULT_PROGRAM
from core.program.typed import Column
from core.replay import states_at
from core.scoring import Scorer
from projections.audit.model_rows import ModelInput, model_inputs, model_row
from projections.audit.wording import Value, Wording, filled, values_of

REASONS_MAX = 5
_MODEL_REASONS_MAX = 3
_ORDER: tuple[Effect, ...] = ("decline", "review", "allow", "flag")

_i = spec.index


class Reasons(msgspec.Struct, frozen=True):
    """An alert explained. words: at most REASONS_MAX sentences, what the rules saw first. risk_factors: the numbers
    that an analyst looks at first, None = not known. missing: why the words of the rules or the model's reasons are
    missing; "" if they are not.
    """

    words: tuple[str, ...]
    risk_factors: dict[str, float | bool | None]
    missing: str = ""


class Coded(Protocol):
    """What an alert is known by: `AlertRaised`, or a case's note of it."""

    @property
    def reason_codes(self) -> tuple[str, ...]: ...
    @property
    def values(self) -> dict[str, float | None]: ...
    @property
    def fraud_score(self) -> float: ...


def phrase(name: str, value: float) -> str:
    """A feature's value in words; "" if there are none for it. 0/1 features that are 0 say so."""
    feature = spec.FEATURES[_i(name)]
    if not feature.phrase:
        return ""
    if value != value:
        return f"{feature.meaning}: unknown"
    if feature.unit == "0/1" and value == 0.0:
        return f"not: {feature.phrase}"
    return feature.phrase.format(value=value)


def in_short(alert: Coded) -> str:
    """What the gravest rule says, from the alert alone; if only the model raised it, its probability.

    Rules of the shipped library speak in its words, in which a parameter is named, since the alert doesn't hold it.
    Other rules are named, with all values of the alert; they go before shipped ones that only flag.
    """
    shipped = _shipped()
    hit = [shipped[code] for code in alert.reason_codes if code in shipped]
    own = [code for code in alert.reason_codes if code not in shipped and code != MODEL_CODE]
    rule = min(hit, key=lambda each: _ORDER.index(each.effect)) if hit else None
    if own and (rule is None or rule.effect == "flag"):
        return f"rule {_with_values(own[0], alert.values)}"
    if rule is not None:
        return filled(rule.words, {**{name: name for name in default().checked.parameters}, **alert.values})
    return f"the model gives a probability of {alert.fraud_score:.3f}" if alert.reason_codes else ""


def codes_and_values(alert: Coded) -> str:
    """`"MODEL_SCORE, VELOCITY_10M (count_10m 9)"`: every code of the shipped library with the values that its rule
    compared, and after the last of the other codes all values of the alert.
    """
    shipped, said = _shipped(), []
    last_own = next((code for code in reversed(alert.reason_codes) if code not in shipped and code != MODEL_CODE), "")
    for code in alert.reason_codes:
        read = _compared(shipped[code]) if code in shipped else tuple(alert.values) if code == last_own else ()
        said.append(_with_values(code, {name: alert.values[name] for name in read if name in alert.values}))
    return ", ".join(said)


@cache
def _shipped() -> Mapping[str, CheckedRule]:
    return {rule.code: rule for rule in default().checked.rules}


def _compared(rule: CheckedRule) -> tuple[str, ...]:
    """The fields and features of a rule's condition, in the order of its text."""
    parts = (part for _, part in walk(rule.when))
    return tuple(dict.fromkeys(part.name for part in parts if isinstance(part, Column) and part.source != "parameter"))


def _with_values(code: str, values: Mapping[str, float | None]) -> str:
    shown = [f"{name} {'unknown' if value is None else format(value, ',.6g')}" for name, value in values.items()]
    return f"{code} ({', '.join(shown)})" if shown else code


class Deciding(NamedTuple):
    """What decided. parameters: those that are set at the score's control position, over the program's defaults.
    scorer: the model, None if it can't be had. missing_…: why the model, or the program's wording, can't be had.
    program: what decided, for a model that lists its inputs.
    """

    wording: Wording
    parameters: Mapping[str, float]
    scorer: Scorer | None
    missing_model: str = ""
    missing_program: str = ""
    program: Program | None = None


def explain(
    alert: AlertRaised, score: TransactionScored, transaction: TransactionReceived | None, by: Deciding
) -> Reasons:
    """An alert in words. Raises Corrupt if the feature vector is not one."""
    row = packing.vector(score.features)
    if len(row) < spec.WIDTH or score.spec != spec.SPEC_VERSION or score.engine != ENGINE:
        return Reasons(
            (), {}, f"decided by engine {score.engine} under feature spec {score.spec}: its columns are not known here"
        )
    moved: list[tuple[str, str]] = []
    missing = by.missing_model
    if MODEL_CODE not in alert.reason_codes:
        missing = ""
    elif by.scorer is not None:
        moved, missing = _moved_most(by, row, transaction)
    parameters = {**by.wording.parameters, **by.parameters}
    values = values_of(by.wording, row, alert, transaction, parameters)
    codes = [code for code in alert.reason_codes if code != MODEL_CODE]
    words = _words(codes, by.wording, values, moved)
    unnamed = by.missing_program if codes else ""
    return Reasons(words, _risk_factors(row, parameters), "; ".join(filter(None, (unnamed, missing))))


def _words(
    codes: Sequence[str],
    wording: Wording,
    values: Mapping[str, Value],
    moved: Sequence[tuple[str, str]],
) -> tuple[str, ...]:
    """What the rules say, then the features that moved the model most towards fraud, unless a rule told them."""
    told = frozenset[str]().union(*map(wording.speaks_of, codes))
    words = [wording.meaning(code, values) for code in codes]
    words += [words_of for name, words_of in moved if name not in told]
    return tuple(dict.fromkeys(word for word in words if word))[:REASONS_MAX]


def _moved_most(
    by: Deciding, row: NDArray[np.float32], transaction: TransactionReceived | None
) -> tuple[list[tuple[str, str]], str]:
    """The inputs with the largest shares towards fraud that there are words for, and the words; and why there are none,
    if the model can't tell.
    """
    scorer = by.scorer
    assert scorer is not None
    try:
        if scorer.inputs is None:
            values = row[: spec.WIDTH]
            inputs = [ModelInput(name, k, float(row[k]), "") for k, name in enumerate(spec.NAMES)]
        elif by.program is None:
            return [], by.missing_program
        else:
            values = model_row(by.program, scorer, row, transaction)
            inputs = model_inputs(by.program, scorer, values)
        _, shares = scorer.contributions(values)
    except Exception as error:  # noqa: BLE001 - whatever a model does, the alert can be read
        return [], f"the model {scorer.version} can't explain itself ({type(error).__name__}: {error})"
    order = np.argsort(-shares, kind="stable")
    said = ((inputs[c].name, _of_input(inputs[c])) for c in order if shares[c] > 0.0)
    return list(islice((each for each in said if each[1]), _MODEL_REASONS_MAX)), ""


def _of_input(each: ModelInput) -> str:
    """An input's value in words; "" if there are none for it."""
    if 0 <= each.column < spec.WIDTH:
        return phrase(spec.NAMES[each.column], each.value)
    if each.value != each.value:
        return f"{each.name}: unknown"
    return f"{each.name}: {each.shown or format(each.value, ',.6g')}"


def _risk_factors(row: NDArray[np.float32], parameters: Mapping[str, float]) -> dict[str, float | bool | None]:
    """The handful of numbers an analyst looks at first. None = not known. Ratios and speeds to four decimals."""
    count_30d = float(row[_i("count_30d")])
    daily = count_30d / 30.0
    share, total = float(row[_i("hour_share")]), float(row[_i("transactions_total")])
    named = {**default().checked.parameters, **parameters}
    return {
        "is_high_amount": bool(row[_i("amount")] >= named["amount_high"]),
        "is_unusual_hour": bool(share <= named["hour_share_max"] and total >= named["hour_history"]),
        "amount_vs_avg_ratio": _number(row[_i("amount_to_mean_30d")]),
        "velocity_score": _number(float(row[_i("count_24h")]) / max(daily, 1.0)),
        "amount_zscore": _number(row[_i("amount_zscore")]),
        "is_new_merchant": _flag(row[_i("merchant_is_new")]),
        "is_new_device": _flag(row[_i("device_is_new")]),
        "is_new_country": _flag(row[_i("country_is_new")]),
        "speed_kmh": _number(row[_i("speed_kmh")]),
        "merchant_risk_7d": _number(row[_i("merchant_risk_7d")]),
    }


def _number(value: np.float32 | float) -> float | None:
    number = float(value)
    return round(number, 4) if math.isfinite(number) else None


def _flag(value: np.float32) -> bool | None:
    return None if value != value else bool(value)


class AlertReader:
    """Explains alerts of one log. Reads the control stream once and keeps the models and programs that it has
    loaded.
    """

    def __init__(self, log: EventLog, load_scorer: LoadScorer) -> None:
        self._log = log
        self._load_scorer = load_scorer
        self._state_at: Callable[[int], ControlState] = states_at(history(log))
        self._scorers: dict[str, tuple[Scorer | None, str]] = {}
        self._wordings: dict[str, tuple[Wording, str]] = {}
        self._programs: dict[str, Program] = {}

    def reasons(self, partition: int, position: Position) -> Reasons | None:
        """The reasons of the alert on the transaction at a position; None if there is no alert. Raises Corrupt if the
        entries can't be read.
        """
        raised = self._log.get(partition, "alerts", position)
        scored = self._log.get(partition, "scores", position)
        if raised is None or scored is None:
            return None
        received = self._log.get(partition, "transactions", position)
        alert, score = decode_alert(raised), decode_score(scored)
        state = self._state_at(score.control_position)
        wording, unknown = self._wording(state, score)
        scorer, missing = self._scorer(state, score)
        program = self._programs.get(score.program)
        by = Deciding(wording, state.program_parameters, scorer, missing, unknown, program)
        return explain(alert, score, None if received is None else decode_transaction(received), by)

    def _wording(self, state: ControlState, score: TransactionScored) -> tuple[Wording, str]:
        """What the program that decided says; and why in words if it can't be had."""
        arms = state.experiment.arms if state.experiment is not None else ()
        default = state.identity.program if state.identity is not None else ""
        known = [state.program, *(arm.program for arm in arms), default, DEFAULT_PROGRAM]
        digest = next((digest for digest in known if score.program and digest.startswith(score.program)), "")
        if not digest:
            return Wording(), f"the control stream does not name the program {score.program} at {state.position}"
        if digest not in self._wordings:
            try:
                made = plan(load(digest, self._log.get_blob).checked, kernel())
                self._wordings[digest] = Wording.of(made), ""
                self._programs[score.program] = Program(made, required(state.identity).key, {})
            except SentinelError as error:
                self._wordings[digest] = Wording(), f"the program {score.program} can't be loaded: {error}"
        return self._wordings[digest]

    def _scorer(self, state: ControlState, score: TransactionScored) -> tuple[Scorer | None, str]:
        """The model that decided; or None, and why in words."""
        digest = next((digest for digest in _deciding(state) if score.digest and digest.startswith(score.digest)), "")
        if not digest:
            return None, f"the control stream does not name the model {score.model} at {score.control_position}"
        if digest not in self._scorers:
            try:
                loaded = self._load_scorer(self._log.get_blob(digest), score.model, digest)
                self._scorers[digest] = loaded, ""
            except SentinelError as error:
                self._scorers[digest] = None, f"the model {score.model} can't be loaded: {error}"
        return self._scorers[digest]


def _deciding(state: ControlState) -> list[str]:
    """The digests of the models that can decide at the state's position."""
    found = [state.champion.digest] if state.champion is not None else []
    return found + [arm.digest for arm in state.experiment.arms] if state.experiment is not None else found
