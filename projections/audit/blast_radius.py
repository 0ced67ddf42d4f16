"""Blast radius: every decision that a model made, as champion or in an arm, with its label as known now.

A model is identified by its SHA-256, of which scores record the first 16 digits, so the decisions of a bad version are
found under whatever name. Archived decisions are read as columns, so segments without decisions of the model cost next
to nothing. Reads only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from core.codec import decode_transaction, decoded
from core.currency import base_amount
from core.events import START, Decision
from core.log.archive.archived import ArchivedLog
from core.log.base import EventLog
from core.log.paging import pages, read
from projections.labelling.view import LabelView

_COLUMNS = (
    "generation",
    "offset",
    "transaction_id",
    "account_id",
    "amount",
    "currency",
    "rate",
    "occurred_at",
    "decision",
    "probability",
    "arm",
    "model_digest",
)


class Affected(msgspec.Struct, frozen=True):
    """One decision of the model. fraud: as known now, None if without a label or in review. occurred_at: epoch ms."""

    partition: int
    position: str
    transaction_id: str
    account_id: str
    amount: float
    currency: str
    rate: float
    occurred_at: int
    decision: Decision
    probability: float
    arm: str
    fraud: bool | None


class _Score(msgspec.Struct):
    """The fields of a score that are needed here."""

    digest: str
    decision: Decision
    probability: float
    arm: str = "champion"


_score = msgspec.json.Decoder(_Score)


def affected(
    log: EventLog, partitions: Sequence[int], digest: str, labels: Callable[[], LabelView]
) -> Iterator[Affected]:
    """All decisions of the model with this SHA-256 (16 or more hex digits), partition by partition, in order.

    labels: called at most once, at the first decision.
    """
    wanted = digest[:16]
    known: LabelView | None = None
    for partition in partitions:
        for row in _rows(log, partition, wanted):
            known = known if known is not None else labels()
            label = known.label(row.account_id, row.transaction_id)
            yield msgspec.structs.replace(row, fraud=None if label in (None, "review") else label == "fraud")


def _rows(log: EventLog, partition: int, digest: str) -> Iterator[Affected]:
    at = START
    if isinstance(log, ArchivedLog):
        end = log.archive.end(partition).transactions
        for table in log.archive.tables(partition, _COLUMNS, START, end):
            yield from _of_table(partition, table.filter(pc.equal(table["model_digest"], digest)))
        at = end
    for scores in pages(log, partition, "scores", at):
        mine = {
            e.id: s
            for e in scores
            if digest.encode() in e.payload and (s := decoded(_score, e.payload)).digest == digest
        }
        if mine:
            for entry in read(log, partition, "transactions", at, len(scores), scores[-1].id):
                score = mine.get(entry.id)
                if score is None:
                    continue
                t = decode_transaction(entry.payload)
                yield Affected(
                    partition,
                    str(entry.id),
                    t.transaction_id,
                    t.account_id,
                    t.amount,
                    t.currency,
                    t.rate,
                    t.occurred_at,
                    score.decision,
                    score.probability,
                    score.arm,
                    None,
                )
        at = scores[-1].id


def _of_table(partition: int, table: pa.Table) -> Iterator[Affected]:
    if not len(table):
        return
    table = table.set_column(
        table.column_names.index("occurred_at"), "occurred_at", table["occurred_at"].cast(pa.int64())
    )
    for row in table.to_pylist():
        yield Affected(
            partition,
            f"{row['generation']}-{row['offset']}",
            row["transaction_id"],
            row["account_id"],
            row["amount"],
            row["currency"],
            row["rate"],
            row["occurred_at"],
            row["decision"],
            row["probability"],
            row["arm"],
            None,
        )


class Summary(msgspec.Struct):
    """Totals: decisions by kind and arm, accounts, the time range (epoch ms), and the decisions now known to be wrong.

    missed_frauds: approved, now labelled fraud; missed_amount: their sum in the base currency; false_positives:
    reviewed or declined, now labelled legitimate.
    """

    decisions: dict[str, int] = {}
    arms: dict[str, int] = {}
    accounts: int = 0
    first_ms: int = 0
    last_ms: int = 0
    missed_frauds: int = 0
    missed_amount: float = 0.0
    false_positives: int = 0


def summary(rows: Iterator[Affected]) -> Summary:
    """The totals of `affected`, computed without storing its rows."""
    found = Summary()
    accounts: dict[str, None] = {}
    for row in rows:
        accounts[row.account_id] = None
        found.decisions[row.decision] = found.decisions.get(row.decision, 0) + 1
        found.arms[row.arm] = found.arms.get(row.arm, 0) + 1
        found.first_ms = min(found.first_ms or row.occurred_at, row.occurred_at)
        found.last_ms = max(found.last_ms, row.occurred_at)
        if row.fraud is True and row.decision == "approve":
            found.missed_frauds += 1
            found.missed_amount += base_amount(row)
        elif row.fraud is False and row.decision != "approve":
            found.false_positives += 1
    found.accounts = len(accounts)
    return found
