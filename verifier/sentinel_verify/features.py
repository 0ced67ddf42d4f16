"""Level 3: the features are recomputed from the account's own history.

The earlier events are counted one after the other, as the engine counts them. Before each payment, the columns that
follow are compared with those that its score stored, bit for bit; of earlier payments, those that depend on neither
settings nor another program.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from .account import Account, received
from .aggregates import Aggregates
from .errors import NotRecomputed, Refused
from .history import History
from .language import Expression
from .payment import MISSING, Past, Payment, bits_of, number_of, unpacked
from .program import COLUMNS, ENGINE, SPEC, Program, inlined, stated
from .record import Json, Record
from .settings import Settings
from .values import UNKNOWN, Row, Value, settled, value_of
from .verdicts import HOUR_MS, Hour

WORK_MAX = 50_000_000
"""Operations in values and conditions, times the payments: about a minute."""
_TOTAL, _SINCE_LAST = COLUMNS.index("transactions_total"), COLUMNS.index("seconds_since_last")
_NOT_LATER = ("currency_known", "id_conflict")


class _Verdict:
    """The row of a verdict: it has its word only."""

    def __init__(self, event: Json) -> None:
        self._verdict = event["verdict"]

    def leaf(self, expression: Expression) -> Value:
        known: Value = self._verdict if expression[2:4] == ("outcome", "verdict") else None
        return known


def fold(record: Record, program: Program, settings: Settings, features: list[int]) -> Past:
    """The past of the decision's account. Raises Refused if the history is not complete, or contradicts what its
    payments stored; NotRecomputed if it has none, or another engine decided in it.
    """
    history = record.history
    if history is None:
        raise NotRecomputed("the proof does not hold the account's history: it was made for level 2")
    stored = [_stored(each.score) for each in history.payments]
    begins, before = _numbered(history, stored, features)
    account = Account(record.transaction["account_id"], begins, before)
    definitions = {**stated(), **{name: inlined(name, program) for name in program.definitions}}
    wanted = [each for expression in definitions.values() for each in aggregates_in(expression)]
    size = sum(map(_size, dict.fromkeys(wanted)))
    if size * (len(history.payments) + len(history.feedback) + 1) > WORK_MAX:
        raise NotRecomputed("its history would take too long to recompute")
    types = {name: each.type for name, each in program.fields.items()}
    aggregates = Aggregates(wanted, types, settings.key, before)
    quarantines = _quarantines(record)
    feedback = iter([*history.feedback, ((2**64, 0), {})])
    position, event = next(feedback)
    own = {name: settled(each) for name, each in definitions.items() if _follows(each) and name in program.columns}
    of_engine = {name: each for name, each in own.items() if name in COLUMNS}
    for number, each in enumerate([*history.payments, None]):
        seen = (2**64 - 1, 0) if each is None else each.seen
        while position <= seen:
            account.add_feedback(event)
            if event["type"] == "feedback.v1":
                aggregates.add(_came_at(event), _Verdict(event), on_verdicts=True)
            position, event = next(feedback)
        score = record.score if each is None else each.score
        account.left_out = {hour for hour, since in quarantines.items() if since <= score["c"]}
        if each is None:
            break
        t = each.transaction
        is_same = score["program"] == record.score["program"]
        payment = Payment(t, stored[number], program, {}, settings)
        payment.past = _past(account, aggregates, t, payment, number, begins)
        if number or not begins:
            for name in _differing(payment, program, stored[number], own if is_same else of_engine):
                raise Refused(
                    f"the payment {t['transaction_id']} of the account's history stored a {name} that does not follow"
                    " from the events before it: one is missing, changed, or should not be there"
                )
        payment.outcomes = {
            "decision": score["decision"], "severity": score.get("severity"), "alerted": "severity" in score,
        }  # fmt: skip
        payment.hits = set(score.get("rules", []))
        aggregates.add(received(t), payment)
        account.add_payment(t)
    payment = Payment(record.transaction, features, program, {}, settings)
    return _past(account, aggregates, record.transaction, payment, len(history.payments), begins)


def _past(account: Account, aggregates: Aggregates, t: Json, row: Row, earlier: int, begins: int) -> Past:
    return Past(account.features(t), *aggregates.read(received(t), row), account.is_conflict(t), earlier, begins)


def _stored(score: Json) -> list[int]:
    if (score["engine"], score["spec"]) != (ENGINE, SPEC):
        raise NotRecomputed("another engine decided some of the account's earlier payments")
    return unpacked(score["features"])


def _numbered(history: History, stored: list[list[int]], features: list[int]) -> tuple[int, int | None]:
    """How many payments came before those of the history, and the latest time at which they were received; None if none
    did. Raises Refused unless the payments' own records number them without a gap.
    """
    numbers = [number_of(each[_TOTAL]) for each in [*stored, features]]
    for first, second in pairwise(numbers):
        if second != first + 1.0:
            raise Refused(
                f"the history is not complete: a payment that counted {first:.0f} before it is followed by one that"
                f" counted {second:.0f}"
            )
    if numbers[0] == 0.0:
        return 0, None
    if not history.payments:
        raise Refused(f"the history is not complete: the payment counted {numbers[0]:.0f} before it")
    since = number_of(stored[0][_SINCE_LAST])  # rounded to float32: the true figure is at most 2^-24 of it away
    gap = (since - abs(since) * 2.0**-23) * 1000.0
    return int(numbers[0]), received(history.payments[0].transaction) - int(gap // 1)


def _quarantines(record: Record) -> dict[Hour, int]:
    """From which control position on the verdicts of an hour are left out."""
    found: dict[Hour, int] = {}
    for position, event in record.control.items():
        if event["type"] == "source_quarantined.v1":
            found.setdefault((f"{event['source']}:{event['name']}", event["hour_start"] // HOUR_MS), position)
    return found


def _came_at(verdict: Json) -> int:
    recorded = verdict.get("recorded_at", 0)
    given: int = verdict["occurred_at"]
    return min(given, recorded) if recorded else given


def aggregates_in(expression: Expression) -> Iterator[Expression]:
    """The aggregates that an expression reads."""
    if expression[0] == "agg":
        yield expression
    elif expression[0] == "apply":
        for each in expression[3]:
            yield from aggregates_in(each)


def _size(expression: Expression | None) -> int:
    if expression is None or expression[0] not in ("agg", "apply"):
        return 1
    parts = expression[3] if expression[0] == "apply" else expression[7:9]
    return 1 + sum(map(_size, parts))


def _follows(expression: Expression) -> bool:
    """Whether it follows from the account's events alone, without settings."""
    if expression[0] == "apply":
        return all(map(_follows, expression[3]))
    if expression[0] == "col":
        return expression[2] in ("field", "library") and expression[3] not in _NOT_LATER
    return expression[0] in ("const", "agg")


def _differing(payment: Payment, program: Program, stored: list[int], own: Mapping[str, Expression]) -> Iterator[str]:
    """The names of columns that differ from what is stored."""
    assert payment.past is not None
    for name, value in payment.past.columns.items():
        if value is not UNKNOWN and column_bits(value) != stored[program.columns[name]]:
            yield name
    for name, expression in own.items():
        try:
            value = value_of(expression, payment)
        except NotRecomputed:
            continue
        if (
            value is not UNKNOWN
            and (column_bits if name in COLUMNS else bits_of)(value) != stored[program.columns[name]]
        ):
            yield name


def column_bits(value: Value) -> int:
    """The bits of a column of the engine, which has one NaN."""
    return MISSING if value is None or value != value else bits_of(value)
