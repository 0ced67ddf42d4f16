"""Level 2: the score is recomputed. From the stored features and the payment: the model's margin, the probability, the
rules, the decision and the severity, under the settings that the control events of the proof made; and the alert.

What can't be recomputed, because it is kept out of a proof (lists of identifiers, the key of draws) or is not computed
here (other kinds of models), is taken from the record, whose integrity level 1 has shown, and said so.
"""

import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from . import model
from .aggregates import BEFORE
from .errors import NotRecomputed, Refused
from .features import column_bits, fold
from .language import STANDARD, Expression, type_of
from .numbers import sigmoid
from .payment import Past, Payment, bits_of, level_of, number_of, row_of, unpacked
from .program import COLUMNS, EFFECTS, ENGINE, SPEC, Program, Rule, identity_of, inlined, load, stated
from .record import Json, Record
from .settings import Settings
from .settings import fold as in_force
from .values import UNKNOWN, Value, settled, value_of

_OF_TABLES = COLUMNS[COLUMNS.index("merchant_count_1d") : COLUMNS.index("source_delay_s")]
_PAST = "the account's other payments"
_NO_MODEL = ("no_model", "model_unavailable")
_NAMED = re.compile(r"\{([a-z][a-z0-9_]*)(:,?(?:\.[0-9])?[f%]?)?\}")


class Recomputed(NamedTuple):
    """What was recomputed. taken: what was taken from the record, and why. settings: the control events in force, by
    what they set. features: names of stored features that were recomputed; recorded: those that were taken from the
    record, and why. missing: why level 2 was not reached; "" if it was. past: of the account, None if it is unknown;
    unread then says why.
    """

    rules: int
    taken: list[str]
    settings: dict[str, int]
    features: list[str]
    recorded: dict[str, str]
    missing: str
    past: Past | None
    unread: str


def recompute(record: Record, partition: int, blobs: Mapping[str, bytes], *, is_past_read: bool = False) -> Recomputed:
    """Recompute the score; with the account's history, also what follows from that. Raises Refused if anything differs
    from the record, or a blob is left over.
    """
    score = record.score
    if not blobs:
        raise NotRecomputed("the proof holds neither program nor model: it was made for level 1")
    if (score["engine"], score["spec"]) != (ENGINE, SPEC):
        raise NotRecomputed(f"it was decided by engine {score['engine']} with feature spec {score['spec']}")
    program, used = load(score["program"], blobs)
    settings = in_force(record, partition)
    taken: list[str] = []
    reasons = score["degraded"].split("+") if score.get("degraded") else []
    _check_degradation(record, settings, reasons, taken)
    _check_program(record, settings, used[0], taken)
    values = {**program.parameters}
    values |= {name: value for name, value in settings.parameters.items() if name in values}
    features = unpacked(score["features"])
    if len(features) != program.width:
        raise Refused(f"the score has {len(features)} features, and its program stores {program.width}")
    payment = Payment(record.transaction, features, program, values, settings)
    _same("rate", float(record.transaction.get("rate", 1.0)), settings.rates.of(record.transaction.get("currency", "")))
    unread = ""
    if is_past_read:
        try:
            payment.past = fold(record, program, settings, features)
        except NotRecomputed as error:
            unread = str(error)
    plain, recorded = _features(payment, program, features)
    has_model = not any(reason in reasons for reason in _NO_MODEL)
    missing = _check_margin(record, settings, program, payment, features, blobs, used, has_model)
    if set(blobs) != set(used):
        raise Refused("the proof contains a blob that nothing names")
    failed = "model_error" in reasons
    probability = sigmoid(float(score["margin"])) if has_model and not failed else 0.0
    _same("probability", score["probability"], probability)
    counts = _rules(record, program, payment, settings, taken)
    asked = _decide(score, program, payment, probability, counts)
    alerts_by_model = asked and has_model and not failed
    _check_alert(record, program, payment, alerts_by_model)
    _check_draw(record, settings, reasons, taken)
    if score.get("shadow_model"):
        taken.append(f"the shadow model {score['shadow_model']}, which decides nothing")
    return Recomputed(len(program.rules), taken, settings.positions, plain, recorded, missing, payment.past, unread)


def _check_program(record: Record, settings: Settings, digest: str, taken: list[str]) -> None:
    """Whether the program that decided is the one that the control events put in force."""
    is_missing = "program_unavailable" in (record.score.get("degraded") or "")
    arm = _arm(record.score, settings)
    named = settings.default if is_missing else (arm or {}).get("program") or settings.program or settings.default
    if not named:
        taken.append("the log's default program decided, named by the event that holds the log's key")
    elif named != digest:
        raise Refused(f"program {digest[:16]} decided, and the control events put {named[:16]} in force")


def _arm(score: Json, settings: Settings) -> Json | None:
    """The arm of the experiment that decided."""
    name = score.get("arm", "champion")
    if name == "champion":
        return None
    if settings.experiment is None:
        raise Refused(f"the score names arm {name}, and the proof contains no experiment")
    experiment, _, arm = name.partition("/")
    found = next((each for each in settings.experiment["arms"] if each["name"] == arm), None)
    if settings.experiment["experiment_id"] != experiment or found is None:
        raise Refused(f"the score names arm {name}, which the experiment of the proof does not have")
    return dict(found)


def _check_draw(record: Record, settings: Settings, reasons: list[str], taken: list[str]) -> None:
    """Compare the experiment's arm with the draw of the account."""
    score = record.score
    named = score.get("arm", "champion")
    if settings.key is None:
        if named != "champion":
            taken.append(f"arm {named}: the draw needs the log's key")
        return
    applies = not {"experiment_unavailable", "program_unavailable", *_NO_MODEL} & {*reasons}
    drawn = settings.arm_of(record.transaction["account_id"]) if applies else None
    wanted = "champion"
    if drawn is not None and settings.experiment is not None:
        wanted = f"{settings.experiment['experiment_id']}/{drawn['name']}"
    _same("arm", named, wanted)


def _check_degradation(record: Record, settings: Settings, reasons: list[str], taken: list[str]) -> None:
    """Compare what was missing with what the control stream reports, if all of it is known."""
    if record.refused is not None:
        program = settings.program in settings.missing
        _same("program_unavailable", "program_unavailable" in reasons, program)
        tables = any(digest in settings.missing for digest in settings.references.values())
        _same("reference_unavailable", "reference_unavailable" in reasons, tables)
        _same("no_model", "no_model" in reasons, settings.model is None)
        if settings.model is not None and not program:
            _same("model_unavailable", "model_unavailable" in reasons, settings.model["digest"] in settings.missing)
    elif reasons:
        taken.append(f"degraded: {'+'.join(reasons)}")


def _features(payment: Payment, program: Program, features: list[int]) -> tuple[list[str], dict[str, str]]:
    """The stored features that follow from the payment, and from the past if that is known, compared with the record;
    and why the others are taken from it.
    """
    found: list[str] = []
    recorded: dict[str, str] = {}

    def compare(name: str, value: Value, bits: Callable[[Value], int], why: str) -> None:
        if value is UNKNOWN:
            recorded[name] = why
        elif bits(value) != features[program.columns[name]]:
            raise Refused(f"the feature {name} is not what follows from the payment" + (
                " and the account's history" if payment.past is not None else ""
            ))  # fmt: skip
        else:
            found.append(name)

    known = {} if payment.past is None else payment.past.columns
    why = _PAST if payment.past is None else BEFORE
    for name in COLUMNS:
        compare(name, known.get(name, UNKNOWN), column_bits, "reference tables" if name in _OF_TABLES else why)
    expressions = {**stated(), **{name: inlined(name, program) for name in program.definitions}}
    for name, expression in expressions.items():
        if name not in program.columns:
            continue
        payment.unknown.clear()
        try:
            is_read = payment.past is not None or not _reads_past(expression)
            value = value_of(settled(expression), payment) if is_read else UNKNOWN
            why = payment.unknown[0] if payment.unknown else _PAST
        except NotRecomputed as error:
            value, why = UNKNOWN, str(error)
        recorded.pop(name, None)
        compare(name, value, column_bits if name in COLUMNS else bits_of, why)
    return found, recorded


def _reads_past(expression: Expression) -> bool:
    if expression[0] == "apply":
        return any(map(_reads_past, expression[3]))
    return expression[0] == "agg" or (expression[0] == "col" and expression[2] in ("library", "feature", "parameter"))


def _check_margin(record: Record, settings: Settings, program: Program, payment: Payment, features: list[int],
                  blobs: Mapping[str, bytes], used: list[str], has_model: bool) -> str:  # fmt: skip
    """Compare the margin with the model's. Why that is not possible; "" if it was."""
    score = record.score
    deployed = _arm(score, settings) or settings.model
    if deployed is None:
        if has_model or score["model"] != "none" or score["margin"] != 0.0:
            raise Refused(f"model {score['model']} decided, and no control event of the proof deploys it")
        return ""
    label = f"{deployed.get('name') if deployed is settings.model else deployed['model']}-{deployed['version']}"
    if (score["model"], score["digest"]) != (label, deployed["digest"][:16]):
        raise Refused(f"model {score['model']} decided, and the control events deploy {label}")
    if not has_model:
        _same("margin", score["margin"], 0.0)
        return ""
    content = blobs.get(deployed["digest"])
    if content is None:
        raise Refused(f"the proof does not contain model {label}, which decided")
    used.append(deployed["digest"])
    try:
        loaded = model.load(content)
        row = row_of(program, features) if loaded.inputs is None else _inputs(loaded.inputs, program, payment)
    except NotRecomputed as error:
        return f"the margin: {error}"
    margin = loaded.margin(row)
    failed = "model_error" in (score.get("degraded") or "").split("+")
    if failed == math.isfinite(margin):
        raise Refused("the score says that the model failed, and it does not" if failed else "the model has no margin")
    _same("margin", score["margin"], 0.0 if failed else margin)
    return ""


def _inputs(inputs: list[model.Input], program: Program, payment: Payment) -> list[float]:
    """What a model reads by definition."""
    known: dict[str, Expression] = {}
    for name in COLUMNS:
        column = ("col", "number", "library", name, "")
        known[identity_of(column, program)] = column
    for name in program.definitions:
        column = ("col", type_of(program.definitions[name]), "feature", name, "")
        known.setdefault(identity_of(inlined(name, program), program), column)
    fields = {name: (each.type, "raw" if each.type == "string" else "") for name, each in program.fields.items()}
    for name, (kind, form) in {**STANDARD, **fields}.items():
        column = ("col", kind, "field", name, form)
        read: Expression = ("apply", "number", "single", (column,)) if kind == "number" else column
        known.setdefault(identity_of(read, program), read)
    row = []
    for each in inputs:
        if each.identity not in known:
            raise NotRecomputed(f"its model reads {each.name}, which the proof does not contain")
        value = value_of(known[each.identity], payment)
        row.append(level_of(value, each.levels) if each.kind == "category" else number_of(_stored(value)))
    return row


def _stored(value: Value) -> int:
    if value is UNKNOWN:
        raise NotRecomputed("its model reads what the proof does not contain")
    return bits_of(value)


def _rules(record: Record, program: Program, payment: Payment, settings: Settings, taken: list[str]) -> dict[str, int]:
    """Compare which rules hit, with and without effect. The live hits by effect."""
    score, disabled = record.score, settings.rules.get("disabled", [])
    live: list[Rule] = []
    shadow: list[Rule] = []
    logged, logged_shadow = score.get("rules", []), score.get("shadow_rules", [])
    counts = dict.fromkeys(EFFECTS, 0)
    for rule in program.rules:
        value, why = _hit(rule, payment) if rule.code not in disabled else (False, "")
        is_live = rule.mode != "shadow" and rule.rollout >= 100.0
        if value is UNKNOWN:
            value = rule.code in (*logged, *logged_shadow)
        elif value is True and 0.0 < rule.rollout < 100.0 and rule.mode != "shadow":
            if settings.key is None:
                why, is_live = "the draw of its roll-out needs the log's key", rule.code in logged
            else:
                is_live = settings.is_rolled_out(record.transaction["account_id"], rule.code, rule.rollout)
        if why:
            taken.append(f"{rule.code} ({'hit' if value is True else 'no hit'}): {why}")
        if value is True:
            (live if is_live else shadow).append(rule)
    _same("rules that hit", logged, [rule.code for rule in live])
    _same("shadow rules that hit", logged_shadow, [rule.code for rule in shadow])
    for rule in live:
        counts[rule.effect] += 1
    payment.hits = {rule.code for rule in live}
    _same("effects", score.get("effects", 0), sum(1 << k for k, name in enumerate(EFFECTS[1:]) if counts[name]))
    return counts


def _hit(rule: Rule, payment: Payment) -> tuple[Value, str]:
    """Whether the rule's condition holds, and why that is not known."""
    payment.unknown.clear()
    try:
        value = value_of(settled(rule.when), payment)
    except NotRecomputed as error:
        return UNKNOWN, str(error)
    return (value, f"reads {payment.unknown[0]}") if value is UNKNOWN else (value, "")


def _decide(score: Json, program: Program, payment: Payment, probability: float, counts: dict[str, int]) -> bool:
    """Compare decision and severity. Whether `[decision]` asks for more than to approve."""
    payment.outcomes = {"probability": probability, "reviews": float(counts["review"])}
    declines, reviews = (_holds(each, payment) for each in (program.decline, program.review))
    if counts["decline"] or (declines and not counts["allow"]):
        decision = "decline"
    else:
        decision = "review" if (counts["review"] or reviews) and not counts["allow"] else "approve"
    _same("decision", score["decision"], decision)
    severity = None
    if decision != "approve":
        payment.outcomes["decision"] = decision
        severity = {"review": "low", "decline": "high"}[decision]
        severity = next((grade for grade, when in program.severity if _holds(when, payment)), severity)
    _same("severity", score.get("severity"), severity)
    return declines or reviews


def _holds(condition: Expression | None, payment: Payment) -> bool:
    if condition is None:
        return False
    value = value_of(settled(condition), payment)
    if value is UNKNOWN:
        raise NotRecomputed(f"its decision reads {payment.unknown[-1]}")
    return value is True


def _check_alert(record: Record, program: Program, payment: Payment, by_model: bool) -> None:
    """Compare the alert, which follows from the rest."""
    score, alert, t = record.score, record.alert, record.transaction
    if alert is None:
        if score["decision"] != "approve":
            raise Refused("the decision raised an alert, which the proof does not contain")
        return
    values: dict[str, float] = {}
    for rule in program.rules:
        if rule.code in payment.hits:
            names = [*_compared(rule.when, program), *(name for name, _ in _NAMED.findall(rule.words))]
            own = {*COLUMNS, *program.definitions}
            values |= {name: payment.feature(name) for name in names if name in own and name in program.columns}
    details = {name: t[name] for name in ("transaction_id", "amount", "occurred_at")}
    for name in ("currency", "merchant_id", "merchant_category", "country", "channel", "device_id", "ip", "card_id"):
        if t.get(name):
            details[name] = t[name]
    if t.get("rate", 1.0) != 1.0:
        details["rate"] = t["rate"]
    expected: Json = {
        "type": "alert.v1",
        "timestamp": t["occurred_at"],
        "account_id": t["account_id"],
        "fraud_score": score["probability"],
        "decision": score["decision"],
        "severity": score.get("severity"),
        "reason_codes": [*(["MODEL_SCORE"] if by_model else []), *score.get("rules", [])],
        "values": {name: value if math.isfinite(value) else None for name, value in values.items()},
        "recommended_actions": program.actions.get(str(score.get("severity")), []),
        "transaction": details,
    }
    if score.get("degraded"):
        expected["degraded"] = score["degraded"]
    _same("alert", {name: value for name, value in alert.items() if name != "alert_id"}, expected)


def _compared(expression: Expression, program: Program) -> list[str]:
    """The columns that a condition reads, by their own names."""
    if expression[0] == "apply":
        return [name for each in expression[3] for name in _compared(each, program)]
    if expression[0] == "listed":
        return _compared(expression[2], program)
    if expression[0] != "col" or expression[2] == "parameter":
        return []
    place = program.columns.get(expression[3], -1) if expression[2] == "feature" else -1
    return [COLUMNS[place] if 0 <= place < len(COLUMNS) else str(expression[3])]


def _same(what: str, logged: Any, found: Any) -> None:
    """Raise Refused unless both are the same, numbers to the last bit."""
    if isinstance(found, float):
        if struct.pack("<d", float(logged)) == struct.pack("<d", found):
            return
    elif logged == found:
        return
    raise Refused(f"{what}: the record says {logged!r}, and what follows is {found!r}")
