"""A log for notebooks: searches, tables, SQL, accounts and what-ifs, by the readers that commands and API have."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import polars as pl
import pyarrow as pa

from console import wiring
from console.commands.audit import locate
from console.log_options import DIRECTORY, asker
from console.whatif_changes import OtherPayment, Wanted, check
from core import control_stream
from core.errors import BadInput, SentinelError
from core.events import Decision, Severity
from core.log.base import EventLog
from core.partitions import partitions_of
from core.replay import Timeline
from core.settings import Settings
from core.tokens import PREFIXES
from core.validation import TIME_MAX_MS
from projections.audit.redecide import DecisionPlace
from projections.audit.whatif import Changes
from projections.audit.whatif_payment import Answer, Question, answer_of, ask
from projections.catalogue import ALL
from projections.engine.as_of import parse_time, resolve
from projections.engine.checkpoints import CheckpointStore
from projections.engine.states import open_states
from projections.tables.catalogue import table_named
from projections.tables.decisions import DECISIONS, Period
from projections.tables.query import IDENTIFIERS, Query, check_query
from projections.tables.searching import search
from projections.tables.sql import MEMORY_MB, query
from projections.views.profiles.answers import ProfileAnswer, profile_answer

LIMIT_MAX = 1_000_000_000
"""Rows of a frame that are asked for at most."""
Moment = str | int | datetime
"""2026-03-01, 2026-03-01T12:00Z, epoch ms, or a datetime; one without a zone is UTC."""


@dataclass(frozen=True)
class WhatIf:
    """One decision as logged, and made again with changes. reproduced: whether without any change it is, bit for bit,
    the logged one.
    """

    place: str
    logged: Answer
    changed: Answer
    reproduced: bool


class Log:
    """An event log, as of now or of a moment; a context that closes it. Every method raises SentinelError."""

    def __init__(
        self, log: EventLog, settings: Settings, as_of: str | None = None, checkpoints: Path = DIRECTORY
    ) -> None:
        """settings: those that opened the log. checkpoints: of `sentinel project`; may be missing."""
        self._log, self._settings, self._as_of, self._checkpoints = log, settings, as_of, checkpoints

    def at(self, moment: str) -> Log:
        """The same log as of a time, a position (p07:1-533, c12), or the `as_of` of an answer."""
        resolve(self._log, partitions_of(self._log), moment)
        return Log(self._log, self._settings, moment, self._checkpoints)

    def decisions(
        self,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        account: str | None = None,
        merchant: str | None = None,
        device: str | None = None,
        card: str | None = None,
        decision: Decision | None = None,
        rule: str | None = None,
        severity: Severity | None = None,
        min_amount: float | None = None,
        max_amount: float | None = None,
        alerts: bool = False,
        limit: int = 10_000,
        columns: Sequence[str] = (),
    ) -> pl.DataFrame:
        """The newest decisions that match, newest first. start ≤ time of receipt < end; amounts in the base currency;
        alerts: only those that raised one; columns: of the table `decisions`, by default all but the features.
        """
        ask_for = asker(self._settings, self._log)
        if not 1 <= limit <= LIMIT_MAX:
            raise BadInput(f"limit is {limit}; it must be 1 to {LIMIT_MAX:,}")
        given = {"account": account, "merchant": merchant, "device": device, "card": card}
        if empty := [name for name, value in given.items() if value == ""]:
            raise BadInput(f"{empty[0]} is empty; leave it out to find any")
        wanted = Query(
            **{name: ask_for(IDENTIFIERS[name], value) for name, value in given.items() if value is not None},
            decision=decision,
            rule=rule,
            severity=severity,
            alerts=alerts,
            start=_ms(start),
            end=_ms(end),
            low=min_amount,
            high=max_amount,
        )
        check_query(wanted)
        names = [*columns] or [name for name in DECISIONS if name != "features"]
        _check_columns("decisions", names)
        return search(self._log, wanted, limit, names, self._as_of).rows

    def table(
        self, name: str, *, start: Moment | None = None, end: Moment | None = None, columns: Sequence[str] = ()
    ) -> pl.DataFrame:
        """A whole table of the log (docs/sql.md), or a period of it, in log order and in memory; `sentinel export`
        writes what does not fit.
        """
        table = table_named(name)
        names = [*columns] or list(table.schema.names)
        _check_columns(name, names)
        cut = resolve(self._log, partitions_of(self._log), self._as_of)
        empty = table.schema.empty_table().select(names)
        parts = table.within(self._log, cut, names, Period(_ms(start), _ms(end)))
        return _frame(pa.concat_tables([empty, *parts]))

    def sql(self, statement: str, *, memory_mb: int = MEMORY_MB) -> pl.DataFrame:
        """The answer to one SELECT over the tables (docs/sql.md)."""
        found = query(self._log, statement, as_of=self._as_of, memory_mb=memory_mb)
        table = pa.Table.from_batches(found.batches, found.schema)
        try:
            return _frame(table)
        except pl.exceptions.ComputeError:
            kinds = ", ".join(f"{column.name} ({column.type})" for column in found.schema)
            raise BadInput(f"a frame can't hold one of {kinds}; make it text: cast(… as varchar)") from None

    def account(self, account: str) -> ProfileAnswer:
        """What is known about an account: activity, amounts, decisions, alerts, verdicts, open cases. `profile` is None
        if the log has no entry of it.
        """
        store = CheckpointStore(self._checkpoints, self._settings.log_prefix)
        states = open_states(self._log, ALL, store, now_ms=int(time.time() * 1000), as_of=self._as_of)
        return profile_answer(states, asker(self._settings, self._log)("account_id", account))

    def what_if(
        self,
        decision: str,
        *,
        review: float | None = None,
        decline: float | None = None,
        parameters: Mapping[str, float] | None = None,
        disabled: Sequence[str] = (),
        **payment: Any,
    ) -> WhatIf:
        """One decision, by its place (p07:1-533) or its transaction's ID, made again by the live path from the
        account's state before it. review, decline: other thresholds; parameters, disabled: of rules; payment: other
        values of the payment (amount, country, merchant_id, …).
        """
        changes = Changes(review=review, decline=decline, parameters=dict(parameters or {}), disabled=tuple(disabled))
        check(self._log, Wanted(None, changes))
        try:
            other = msgspec.convert(payment, OtherPayment)
        except msgspec.ValidationError as error:
            raise BadInput(f"what_if: {error}") from None
        ask_for = asker(self._settings, self._log)
        values = {name: value for name, value in msgspec.structs.asdict(other).items() if value is not None}
        values |= {name: ask_for(name, values[name]) for name in PREFIXES.keys() & values.keys()}
        try:
            found = locate(self._log, None, None, str(DecisionPlace.parse(decision)))
        except ValueError:
            found = locate(self._log, ask_for("transaction_id", decision), None, None)
        if self._as_of is not None:
            cut = resolve(self._log, partitions_of(self._log), self._as_of)
            if found.place.position > cut.partitions[found.place.partition].transactions:
                raise BadInput(
                    f"{found.place} was decided after {self._as_of}; ask the log as of a later moment, or now"
                )
        timeline = Timeline(control_stream.history(self._log), wiring.open_resolver(self._log))
        answered = ask(self._log, found, timeline, [Question(changes, values)])
        logged = answer_of(answered.now.decision.score)
        return WhatIf(str(found.place), logged, answered.made[0], answered.now.identical)

    def close(self) -> None:
        """Release connections."""
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_log(config: Path | str | None = None, *, as_of: str | None = None, **settings: Any) -> Log:
    """The log of the settings: of a file, the environment, and what is given here (docs/settings.md), as every command
    has them. as_of: a moment at which everything is read. Raises BadInput for a setting that is not valid, Unavailable
    if the log server does not answer.
    """
    found = wiring.settings(None if config is None else Path(config), **settings)
    log = Log(wiring.open_log(found), found)
    try:
        return log if as_of is None else log.at(as_of)
    except SentinelError:
        log.close()
        raise


def _ms(moment: Moment | None) -> int | None:
    """Epoch ms. Raises BadInput."""
    if moment is None:
        return None
    if isinstance(moment, int):
        if not -TIME_MAX_MS < moment <= TIME_MAX_MS:
            raise BadInput(f"{moment} is not a time in epoch ms")
        return moment
    if isinstance(moment, datetime):
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return int(aware.timestamp() * 1000)
    found = parse_time(moment)
    if found is None:
        raise BadInput(f"{moment!r} is not a time; write 2026-03-01, 2026-03-01T12:00Z or epoch ms")
    return found


def _check_columns(table: str, names: Sequence[str]) -> None:
    known = table_named(table).schema.names
    if unknown := [name for name in names if name not in known]:
        raise BadInput(f"{table} has no column {unknown[0]!r}; it has {', '.join(known)}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadInput(f"column {twice[0]!r} is named twice")


def _frame(table: pa.Table) -> pl.DataFrame:
    found = pl.from_arrow(table)
    assert isinstance(found, pl.DataFrame)
    return found
