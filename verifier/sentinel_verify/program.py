"""A decision program as it decides: its document and those of the libraries that it uses, merged and typed.

A program is a JSON document, named by its SHA-256; so are libraries. Features are columns of the stored vector: first
those that the engine computes (COLUMNS), then the program's own that are stored, by name. An own feature that is
defined as one of the engine's is that column.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import NotRecomputed, Refused
from .language import STANDARD, Expression, Scope, is_single, serialised, type_of, typed

SPEC = 3
ENGINE = 1
COLUMNS = tuple(
    """
    amount hour_of_day day_of_week count_10m sum_10m mean_10m max_10m merchants_10m count_1h sum_1h mean_1h max_1h
    merchants_1h count_24h sum_24h mean_24h max_24h merchants_24h count_7d sum_7d mean_7d max_7d merchants_7d count_30d
    sum_30d mean_30d max_30d merchants_30d amount_to_mean_7d amount_to_mean_30d amount_to_max_30d decayed_mean
    decayed_std amount_zscore typical_amount amount_to_typical days_since_high_amount high_amounts seconds_since_last
    account_age_days transactions_total count_today sum_today hour_share merchant_is_new category_is_new country_is_new
    device_is_new km_from_last speed_kmh fraud_verdicts days_since_fraud legitimate_verdicts account_blocked
    merchant_count_1d merchant_count_7d merchant_count_30d merchant_risk_1d merchant_risk_7d merchant_risk_30d
    merchant_reports_7d merchant_days_since_fraud merchant_run_days merchant_run_frauds merchant_run_share
    merchant_run_amount merchant_legitimate_since_fraud merchant_risk_last_3 merchant_risk_last_8 device_accounts_30d
    device_reports_30d source_delay_s
    """.split()
)
"""The engine's columns of feature spec 3, in order."""
_STATED = """
    amount = amount; hour_of_day = hour; day_of_week = weekday; source_delay_s = received_at - occurred_at;
    amount_to_mean_7d = ratio(amount, mean(account, '7d', amount));
    amount_to_mean_30d = ratio(amount, mean(account, '30d', amount));
    amount_to_max_30d = ratio(amount, max(account, '30d', amount));
    merchant_is_new = is_new(account, merchant_id, 16); category_is_new = is_new(account, merchant_category, 8);
    country_is_new = is_new(account, country, 8); device_is_new = is_new(account, device_id, 8)
""" + "".join(
    f"; count_{w} = count(account, '{w}'); sum_{w} = sum(account, '{w}', amount); mean_{w} = mean(account, '{w}',"
    f" amount); max_{w} = max(account, '{w}', amount); merchants_{w} = distinct(account, '{w}', merchant_id)"
    for w in ("10m", "1h", "24h", "7d", "30d")
)
"""Those that the language can express."""
SEVERITIES = ("low", "medium", "high", "critical")
EFFECTS = ("flag", "review", "decline", "allow")


class Rule(NamedTuple):
    """A rule. rollout: the share of accounts, in percent, for which it is live; for the others it is a shadow rule."""

    code: str
    when: Expression
    effect: str
    mode: str
    rollout: float
    words: str


class Field(NamedTuple):
    """An own field: the attribute that it is read from, its type and default."""

    attribute: str
    type: str
    default: Any


class Program(NamedTuple):
    """A program. columns: the place of each feature in the stored vector, by name. definitions: of own features that
    are no column of the engine. severity: conditions, the gravest first.
    """

    label: str
    parameters: Mapping[str, float]
    fields: Mapping[str, Field]
    columns: Mapping[str, int]
    definitions: Mapping[str, Expression]
    width: int
    rules: list[Rule]
    decline: Expression | None
    review: Expression | None
    severity: list[tuple[str, Expression]]
    actions: Mapping[str, list[str]]


def load(digest: str, blobs: Mapping[str, bytes]) -> tuple[Program, list[str]]:
    """The program whose SHA-256 begins with `digest`, and the blobs that it consists of."""
    name = next((name for name in blobs if name.startswith(digest)), None)
    if name is None:
        raise Refused(f"the proof does not contain the program {digest} that decided")
    document = json.loads(blobs[name])
    used = [name, *document.get("uses", {}).values()]
    for each in used:
        if each not in blobs:
            raise Refused(f"the proof does not contain the library {each[:16]} that the program uses")
    libraries = [_library(json.loads(blobs[each])) for each in used[1:]]
    return _merged(document, libraries), used


class _Typed(NamedTuple):
    """A document with its expressions typed."""

    document: Mapping[str, Any]
    types: dict[str, str]
    features: dict[str, Expression]
    rules: list[Rule]
    decision: dict[str, Expression]
    severity: dict[str, Expression]


def _library(document: Mapping[str, Any]) -> _Typed:
    return _read(document, [])


def _read(document: Mapping[str, Any], libraries: list[_Typed]) -> _Typed:
    fields = {}
    for name, each in document.get("fields", {}).items():
        if each["source"] in STANDARD:
            fields[name] = (*STANDARD[each["source"]], each["source"])
        else:
            fields[name] = (each["type"], "raw" if each["type"] == "string" else "", name)
    types: dict[str, str] = {}
    parameters, entities = set(document.get("parameters", {})), dict(document.get("entities", {}))
    for library in libraries:
        types |= library.types
        parameters |= set(library.document.get("parameters", {}))
        entities |= library.document.get("entities", {})
    scope = Scope(fields, types, frozenset(parameters), entities)
    texts = {name: each["value"] for name, each in document.get("features", {}).items()}
    features: dict[str, Expression] = {}
    waiting = list(texts)
    for _ in range(len(waiting) + 1):  # each after those that it names
        later = []
        for name in waiting:
            try:
                features[name] = typed(texts[name], scope)
                types[name] = type_of(features[name])
            except NotRecomputed:
                later.append(name)
        if not later:
            break
        waiting = later
    else:
        raise NotRecomputed(f"the feature {waiting[0]} can't be read")
    rules = {rule.code: rule for library in libraries for rule in library.rules}
    own = []
    for each in document.get("rules", []):
        if each.get("when"):
            rule = Rule(each["code"], typed(each["when"], scope._replace(place="rule")), "flag", "live", 100.0, "")
            own.append(_changed(rule, each))
        else:
            rules[each["code"]] = _changed(rules[each["code"]], each)
    decision = document.get("decision", {})
    judging = scope._replace(place="decision")
    asked = {key: typed(decision[key], judging) for key in ("decline", "review") if decision.get(key)}
    grades = {grade: typed(text, judging) for grade, text in decision.get("severity", {}).items()}
    for library in libraries:
        asked = {**library.decision, **asked}
        grades = {**library.severity, **grades}
    return _Typed(document, types, features, [*rules.values(), *own], asked, grades)


def _changed(rule: Rule, by: Mapping[str, Any]) -> Rule:
    when = rule.when
    if by.get("expires"):
        since = datetime.datetime.fromisoformat(by["expires"] + "T00:00:00+00:00").timestamp()
        end = ("const", "time", since * 1000.0)
        before = ("apply", "bool", "less_time", (("col", "time", "field", "received_at", ""), end))
        when = ("apply", "bool", "and", (before, when))
    mode, rollout, words = by.get("mode"), by.get("rollout"), by.get("words")
    return Rule(
        rule.code,
        when,
        by.get("effect") or rule.effect,
        mode or rule.mode,
        rule.rollout if rollout is None else float(rollout),
        rule.words if words is None else words,
    )


def _merged(document: Mapping[str, Any], libraries: list[_Typed]) -> Program:
    found = _read(document, libraries)
    parameters: dict[str, float] = {}
    actions: dict[str, list[str]] = {}
    for each in [*(library.document for library in libraries), document]:
        parameters |= each.get("parameters", {})
        actions |= each.get("decision", {}).get("actions", {})
    known = _engine_columns()
    columns = {name: place for place, name in enumerate(COLUMNS)}
    own = sorted(found.features)
    stored = [name for name in own if document["features"][name].get("log", True)]
    definitions: dict[str, Expression] = {}
    width = len(COLUMNS)
    for name in [*stored, *(name for name in own if name not in stored)]:
        column = known.get(serialised(found.features[name]))
        if column is not None:
            columns[name] = columns[column]
            continue
        definitions[name] = found.features[name]
        if name in stored:
            columns[name] = width
            width += 1
    return Program(
        label=f"{document['name']}@{document['version']}",
        parameters=parameters,
        fields={
            name: Field(each["source"].removeprefix("attributes."), each["type"], _default(each))
            for name, each in document.get("fields", {}).items()
            if each["source"] not in STANDARD
        },
        columns=columns,
        definitions=definitions,
        width=width,
        rules=[rule for rule in found.rules if rule.mode != "off"],
        decline=found.decision.get("decline"),
        review=found.decision.get("review"),
        severity=[(grade, found.severity[grade]) for grade in reversed(SEVERITIES) if grade in found.severity],
        actions=actions,
    )


def _default(field: Mapping[str, Any]) -> Any:
    value = field.get("default")
    if field["type"] == "time" and isinstance(value, str):
        when = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
        since = when - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        return float(since // datetime.timedelta(milliseconds=1))
    return value


def stated() -> dict[str, Expression]:
    """The engine's columns that the language can express."""
    scope = Scope({}, {}, frozenset(), {})
    lines = (line.partition("=") for line in _STATED.split(";"))
    return {name.strip(): typed(text.strip(), scope) for name, _, text in lines}


def _engine_columns() -> dict[str, str]:
    """The engine's columns by their definitions, serialised."""
    found = {serialised(("col", "number", "library", name, "")): name for name in COLUMNS}
    return found | {serialised(expression): name for name, expression in stated().items()}


# --- what a model reads by definition ----------------------------------------------------------------------------

_SINGLE = ("less", "less_equal", "equal", "unequal", "in_numbers")


def identity_of(expression: Expression, program: Program) -> str:
    """The identity of what a model reads: the SHA-256 of its definition with every name of the program resolved."""
    text = f"input 1 engine {ENGINE}\n{serialised(_resolved(expression, program))}"
    return hashlib.sha256(text.encode()).hexdigest()


def inlined(name: str, program: Program) -> Expression:
    """An own feature by fields, aggregates and the engine's columns, rounded as it is stored."""
    found = _rewritten(program.definitions[name], program)
    return found if type_of(found) == "bool" else ("apply", "number", "single", (found,))


def _rewritten(expression: Expression, program: Program) -> Expression:
    if expression[0] == "apply":
        _, kind, operation, arguments = expression
        arguments = tuple(_rewritten(each, program) for each in arguments)
        if operation in _SINGLE and any(map(is_single, arguments[:2])):
            operation += "_single"
        return ("apply", kind, operation, arguments)
    if expression[0] == "col" and expression[2] == "feature":
        place = program.columns.get(expression[3], len(COLUMNS))
        if place < len(COLUMNS):
            return ("col", "number", "library", COLUMNS[place], "")
        return inlined(expression[3], program)
    return expression


def _resolved(expression: Expression, program: Program) -> Expression:
    kind = expression[0]
    if kind == "col":
        _, of, source, name, form = expression
        if source == "field" and name in program.fields:
            field = program.fields[name]
            column = ("col", of, "field", f"attributes.{field.attribute}", form)
            if field.default is None:
                return column
            return ("apply", of, "default", (column, ("const", of, field.default)))
        return ("col", of, source, f"{name}@{SPEC}", form) if source == "library" else expression
    if kind == "apply":
        return (*expression[:3], tuple(_resolved(each, program) for each in expression[3]))
    if kind == "agg":
        _, of, function, entity, window, size, on_verdicts, value, condition = expression
        names = tuple(
            serialised(_resolved(_own_column(name, program), program)) if name in program.fields else name
            for name in entity
        )
        inner = tuple(None if each is None else _resolved(each, program) for each in (value, condition))
        return ("agg", of, function, names, window, size, on_verdicts, *inner)
    return expression


def _own_column(name: str, program: Program) -> Expression:
    kind = program.fields[name].type
    return ("col", kind, "field", name, "raw" if kind == "string" else "")
