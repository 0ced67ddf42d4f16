"""Turns rows that a person submits into feedback messages that the worker will accept, or rejects them. No I/O itself.

Every message is checked by the same code as at the worker's edge (`core.validation`), with the same reason codes, so
nothing that is sent is rejected there. Further reasons:

    bad_time               a time is neither epoch ms nor ISO 8601
    no_account             no account is given, and the log has no such transaction (or was not asked)
    ambiguous_transaction  no account is given, and several accounts have a transaction with that ID
    impossible_time        the verdict is before its payment, or later than its source allows
                           (projections.labelling.quality)
    not_csv, wrong_cells, unreadable    the row could not be read

Fields that a row lacks are filled in from the defaults, then from its transaction in the log. If the account is given,
a transaction that the log does not hold (yet) is not an error: the verdict counts once the transaction arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, get_args

import msgspec

from core.codec import encode
from core.errors import BadInput
from core.events import AccountEvent, FeedbackReceived, FeedbackSource, Verdict
from core.times import minute_text
from core.validation import decode_feedback
from core.verdicts import verdict_record
from ingest.attesting import Attest
from projections.audit.lookup import Payment
from projections.engine.as_of import parse_time
from projections.labelling.quality import is_possible
from sources.feedback_files import Row
from sources.record import Record

CHUNK_ROWS = 50_000
"""Rows looked up in one pass over the log, and held in memory."""
SENT_ROWS = 4_096
"""Messages sent together, while the next rows are checked."""


def unsigned(event: AccountEvent) -> AccountEvent:
    """The event as it is."""
    return event


Lookup = Callable[[Sequence[tuple[str, str]]], Mapping[str, list[Payment]]]
"""(transaction ID, account ID or "") → the log's payments by transaction ID."""


class Verdicted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row's columns with their types (docs/feedback.md). Times are epoch ms; None and "" are not given."""

    transaction_id: str
    verdict: Verdict
    source: FeedbackSource
    account_id: str = ""
    actor: str = ""
    occurred_at: int = 0
    confidence: float = 1.0
    amount: float | None = None
    currency: str = ""
    merchant_id: str = ""
    device_id: str = ""
    transaction_occurred_at: int = 0
    reason: str = ""


class Rejected(NamedTuple):
    """A row that was not sent, and why."""

    line: int
    reason: str
    detail: str
    values: dict[str, Any]


@dataclass
class Tally:
    """The outcome of the rows so far. unknown: accepted, but the log does not hold the transaction."""

    rows: int = 0
    accepted: int = 0
    unknown: int = 0
    rejected: dict[str, int] = field(default_factory=dict)


def submit(
    rows: Iterable[Row],
    defaults: Mapping[str, Any],
    now_ms: int,
    lookup: Lookup | None,
    tally: Tally,
    reject: Callable[[Rejected], None],
    attest: Attest = unsigned,
) -> Iterator[list[Record]]:
    """The rows' messages in chunks; rejected rows go to `reject`, in order within a chunk. `tally` is kept up to date.

    now_ms: the messages' time, and the `occurred_at` of rows that give none. attest: what signs verdicts, or raises
    BadInput for those that workers would refuse (`ingest.attesting`).
    """
    source = iter(rows)
    while chunk := list(islice(source, CHUNK_ROWS)):
        parsed = [_parse(row, defaults) for row in chunk]
        wanted = [(p.transaction_id, p.account_id) for p in parsed if isinstance(p, Verdicted)]
        known = lookup(wanted) if lookup is not None and wanted else {}
        records: list[Record] = []
        for row, each in zip(chunk, parsed, strict=True):
            tally.rows += 1
            if isinstance(each, Verdicted):
                made = _record(row, each, known, now_ms, lookup is not None, tally, attest)
            else:
                made = each
            if isinstance(made, Rejected):
                tally.rejected[made.reason] = tally.rejected.get(made.reason, 0) + 1
                reject(made)
            else:
                tally.accepted += 1
                records.append(made)
                if len(records) == SENT_ROWS:
                    yield records
                    records = []
        yield records


def submit_events(
    lines: Iterable[tuple[int, bytes]],
    now_ms: int,
    tally: Tally,
    reject: Callable[[Rejected], None],
    attest: Attest = unsigned,
) -> Iterator[list[Record]]:
    """Account events of any kind, one JSON document with its `type` per line, sent unchanged or signed (`submit`)."""
    source = iter(lines)
    while chunk := list(islice(source, CHUNK_ROWS)):
        records: list[Record] = []
        for line, text in chunk:
            tally.rows += 1
            try:
                account = _account.decode(text).account_id
                event = decode_feedback(text, account.encode(), now_ms)
                told = attest(event)
            except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
                rejected = Rejected(line, "not_an_event", str(error), {})
            except BadInput as error:
                rejected = Rejected(line, error.reason, str(error), {})
            else:
                tally.accepted += 1
                value = text if told is event else encode(told)
                records.append(Record("feedback", told.account_id, now_ms, value))
                continue
            tally.rejected[rejected.reason] = tally.rejected.get(rejected.reason, 0) + 1
            reject(rejected._replace(values={"line": text.decode("utf-8", "backslashreplace")}))
        yield records


class _Account(msgspec.Struct):
    account_id: str


_account = msgspec.json.Decoder(_Account)


CHOICES: dict[str, tuple[str, ...]] = {"verdict": get_args(Verdict), "source": get_args(FeedbackSource)}


def wrong_choice(values: Mapping[str, Any]) -> str:
    """What is wrong with an unknown verdict or source; "" if both are known."""
    for name, known in CHOICES.items():
        if name in values and values[name] not in known:
            return f"{name} must be one of {', '.join(known)}, not {values[name]!r}"
    return ""


def _parse(row: Row, defaults: Mapping[str, Any]) -> Verdicted | Rejected:
    if row.broken is not None:
        return Rejected(row.line, *row.broken, row.values)
    values = {**defaults, **row.values}
    for name in ("occurred_at", "transaction_occurred_at"):
        given = values.get(name)
        if isinstance(given, str):
            moment = parse_time(given)
            if moment is None:
                return Rejected(row.line, "bad_time", f"{name} {given!r} is neither epoch ms nor ISO 8601", row.values)
            values[name] = moment
    try:
        return msgspec.convert(values, Verdicted, strict=False)
    except UnicodeEncodeError as error:
        return Rejected(row.line, "not_utf8", str(error), row.values)
    except msgspec.ValidationError as error:
        if wrong := wrong_choice(values):
            return Rejected(row.line, "wrong_type", wrong, row.values)
        text = str(error)
        if text.startswith("Object missing required field"):
            return Rejected(
                row.line, "missing_field", f"the required field {text.split('`')[1]} is missing", row.values
            )
        if text.startswith("Object contains unknown field"):
            return Rejected(row.line, "unknown_field", f"the field {text.split('`')[1]} is unknown", row.values)
        return Rejected(row.line, "wrong_type", text.replace("$.", ""), row.values)


def _record(
    row: Row,
    of: Verdicted,
    known: Mapping[str, list[Payment]],
    now_ms: int,
    was_asked: bool,
    tally: Tally,
    attest: Attest,
) -> Record | Rejected:
    payments = [p for p in known.get(of.transaction_id, []) if of.account_id in ("", p.account_id)]
    accounts = list(dict.fromkeys(p.account_id for p in payments))
    if not of.account_id and not accounts:
        why = f"transaction {of.transaction_id} is not in the log" if was_asked else "the log is not read (--no-lookup)"
        return Rejected(row.line, "no_account", f"{why}; check the ID, or give its account", row.values)
    if len(accounts) > 1:
        detail = f"{len(accounts)} accounts have a transaction {of.transaction_id}; give its account"
        return Rejected(row.line, "ambiguous_transaction", detail, row.values)
    payment = payments[0] if payments else None
    event = _event(of, payment, now_ms)
    word = verdict_record(event, now_ms)
    try:
        value = encode(event)
        decode_feedback(value, event.account_id.encode(), now_ms)
        if (told := attest(event)) is not event:
            value = encode(told)
    except BadInput as error:
        return Rejected(row.line, error.reason, str(error), row.values)
    except (UnicodeEncodeError, msgspec.MsgspecError) as error:
        return Rejected(row.line, "not_utf8", str(error), row.values)
    paid = event.transaction_occurred_at
    if not is_possible(word, paid):
        detail = f"the verdict is of {minute_text(event.occurred_at)}, but the payment of {minute_text(paid)}"
        return Rejected(row.line, "impossible_time", detail, row.values)
    tally.unknown += was_asked and payment is None
    return Record("feedback", told.account_id, event.occurred_at, value)


def _event(of: Verdicted, payment: Payment | None, now_ms: int) -> FeedbackReceived:
    amount = of.amount
    if amount is None:
        amount = payment.amount if payment is not None else 0.0
    return FeedbackReceived(
        account_id=of.account_id or (payment.account_id if payment is not None else ""),
        transaction_id=of.transaction_id,
        occurred_at=of.occurred_at or now_ms,
        source=of.source,
        verdict=of.verdict,
        confidence=of.confidence,
        actor=of.actor,
        amount=amount,
        currency=of.currency or (payment.currency if payment is not None else ""),
        merchant_id=of.merchant_id or (payment.merchant_id if payment is not None else ""),
        device_id=of.device_id or (payment.device_id if payment is not None else ""),
        transaction_occurred_at=of.transaction_occurred_at or (payment.occurred_at if payment is not None else 0),
        reason=of.reason,
    )
