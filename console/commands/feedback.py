"""`sentinel feedback`: submit verdicts on transactions, one at a time or from a file."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Annotated, NamedTuple, get_args

import msgspec
import typer

from console import wiring
from console.options import Config, Json, KafkaServers, LogPrefix, RedisHost, RedisPort
from core.control_stream import identity_of
from core.errors import BadInput, SentinelError, Unavailable
from core.events import FeedbackSource, Partitioner, Verdict
from core.files import open_private
from core.hiding import masked
from core.log.base import EventLog
from core.log.readonly import ReadOnlyLog
from core.partitions import partitions_of
from core.settings import Settings
from core.tokens import home
from ingest.attesting import attestor
from ingest.producer import publish
from ingest.submission import CHOICES, Lookup, Rejected, Tally, submit, submit_events, unsigned, wrong_choice
from projections.audit.lookup import Payment, find_payments
from sources.feedback_files import Row, json_lines, read_rows
from sources.record import Record

SHOWN = 10
"""Number of rejected rows that are printed; the rejects file has all of them."""


TransactionId = Annotated[str | None, typer.Argument(help="The transaction that the verdict is about.")]
File = Annotated[
    Path | None, typer.Option(help="File of verdicts: .csv, .jsonl or .parquet; for the columns see docs/feedback.md.")
]
Event = Annotated[
    Path | None, typer.Option(help="File of account events of any kind (blocks, cases, verdicts), one JSON per line.")
]
VerdictOption = Annotated[
    str | None, typer.Option(help=f"{', '.join(get_args(Verdict))}. With --file: the default for rows without one.")
]
Source = Annotated[
    str | None,
    typer.Option(help=f"{', '.join(get_args(FeedbackSource))}. With --file: the default for rows without one."),
]
Account = Annotated[
    str | None, typer.Option(help="Its account; makes the search faster. Default: looked up in the log.")
]
Actor = Annotated[str | None, typer.Option(help="Who gives the verdict: the analyst or the processor.")]
Confidence = Annotated[float | None, typer.Option(help="Confidence from 0 to 1. Default: 1.")]
Amount = Annotated[float | None, typer.Option(help="Disputed amount. Default: the transaction's.")]
Reason = Annotated[str | None, typer.Option(help="Why: a few words or a reason code.")]
OccurredAt = Annotated[str | None, typer.Option(help="When the verdict was given: ISO 8601 or epoch ms. Default: now.")]
NoLookup = Annotated[
    bool, typer.Option("--no-lookup", help="Don't look transactions up in the log; every row must name its account.")
]
Check = Annotated[bool, typer.Option("--check", help="Check everything, send nothing.")]
RejectsFile = Annotated[Path | None, typer.Option(help="File for rejected rows. Default: FILE.rejects.jsonl.")]


def feedback(
    transaction_id: TransactionId = None,
    config: Config = None,
    kafka_servers: KafkaServers = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    file: File = None,
    event: Event = None,
    verdict: VerdictOption = None,
    source: Source = None,
    account: Account = None,
    actor: Actor = None,
    confidence: Confidence = None,
    amount: Amount = None,
    reason: Reason = None,
    occurred_at: OccurredAt = None,
    no_lookup: NoLookup = False,
    check: Check = False,
    rejects: RejectsFile = None,
    as_json: Json = False,
) -> None:
    """Send a verdict, or a file of verdicts, to the feedback topic, and wait until every delivery is confirmed.

    sentinel feedback t17 --verdict fraud --source analyst --actor ann

    sentinel feedback --file chargebacks.csv --source chargeback --verdict fraud --check

    Each row passes the worker's own checks. Rejected rows are printed with their line number and written to the rejects
    file; the others are sent. Exit code 1 if a row was rejected. `sentinel query labels` shows which verdicts count.
    """
    if sum(given is not None for given in (transaction_id, file, event)) != 1:
        raise BadInput("give exactly one of: a transaction ID, --file, --event")
    s = wiring.settings(
        config, kafka_servers=kafka_servers, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix
    )
    given = {
        "transaction_id": transaction_id,
        "account_id": account,
        "verdict": verdict,
        "source": source,
        "actor": actor,
        "confidence": confidence,
        "amount": amount,
        "reason": reason,
        "occurred_at": occurred_at,
    }
    defaults = {name: value for name, value in given.items() if value is not None}
    if event is not None and defaults:
        raise BadInput(f"--event sends events unchanged; remove {', '.join(map(_flag, defaults))}")
    if transaction_id is not None and rejects is not None:
        raise BadInput("--rejects requires --file or --event")
    if wrong := wrong_choice(defaults):
        raise BadInput(f"--{wrong}")
    if transaction_id is not None and (missing := [name for name in ("source", "verdict") if name not in defaults]):
        raise BadInput("; ".join(f"{_flag(name)} is required: {', '.join(CHOICES[name])}" for name in missing))
    keeper = _Rejects(rejects or _beside(file or event))
    sent = _submit(s, file, event, defaults, keeper, is_lookup=not no_lookup, check=check)
    if transaction_id is not None and keeper.first is not None:
        raise BadInput(f"{keeper.first.detail} ({keeper.first.reason})")
    _report(sent.tally, keeper, sent.seconds, check, as_json)
    if sent.tally.rejected:
        raise typer.Exit(1)


def _flag(field: str) -> str:
    return "--" + ("account" if field == "account_id" else field.replace("_", "-"))


def _beside(file: Path | None) -> Path | None:
    return None if file is None else file.with_name(f"{file.name}.rejects.jsonl")


class _Sent(NamedTuple):
    tally: Tally
    seconds: float


def _submit(
    s: Settings,
    file: Path | None,
    event: Path | None,
    defaults: Mapping[str, str | float],
    keeper: _Rejects,
    *,
    is_lookup: bool,
    check: bool,
) -> _Sent:
    """Check every row and send the valid ones, or only check."""
    tally = Tally()
    now_ms = int(time.time() * 1000)
    log = _open(s) if (is_lookup and event is None) or s.identity_key else None
    try:
        found = _partitions(log)
        attest = attestor(s, log) if log is not None else unsigned
        if event is not None:
            chunks = submit_events(_event_lines(event), now_ms, tally, keeper, attest)
        else:
            rows: Iterator[Row] = read_rows(file) if file is not None else iter([Row(1, {})])
            chunks = submit(rows, defaults, now_ms, found.lookup if is_lookup else None, tally, keeper, attest)
        return _Sent(tally, _send(chunks, s, found.partitioner, check))
    finally:
        keeper.close()
        if log is not None:
            log.close()


class _Found(NamedTuple):
    """How to look up transactions, and the log's partitioner; None: the settings'."""

    lookup: Lookup | None
    partitioner: Partitioner | None


class _Rejects:
    """The rejects file, one JSON object per line; created at the first rejected row. Called with each rejected row."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.first: Rejected | None = None
        self.shown: list[Rejected] = []
        self._file: IO[str] | None = None

    def __call__(self, rejected: Rejected) -> None:
        self.first = self.first or rejected
        if len(self.shown) < SHOWN:
            self.shown.append(rejected)
        if self.path is None:
            return
        try:
            if self._file is None:
                self._file = open_private(self.path)
            line = {"line": rejected.line, "reason": rejected.reason, "detail": rejected.detail, "row": rejected.values}
            self._file.write(masked(json.dumps(line, default=str)) + "\n")
        except OSError as error:
            raise BadInput(f"can't write the rejects file {self.path}: {error.strerror}") from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _open(s: Settings) -> EventLog:
    try:
        return ReadOnlyLog(wiring.open_log(s))
    except Unavailable as error:
        raise Unavailable(f"{error}; --no-lookup sends verdicts without reading the log") from error


def _partitions(log: EventLog | None) -> _Found:
    """Raises BadInput if the log is empty."""
    if log is None:
        return _Found(None, None)
    try:
        partitions = partitions_of(log)
    except BadInput as error:
        raise BadInput(f"{error}; --no-lookup sends verdicts without reading the log") from error
    name = identity_of(log).partitioner

    def lookup(wanted: Sequence[tuple[str, str]]) -> dict[str, list[Payment]]:
        accounts = {account for _, account in wanted}
        among = partitions
        if "" not in accounts:
            # "replace": an account that is not UTF-8 is refused later, not here
            own = {home(account, name, len(partitions)) for account in accounts}
            among = sorted(own)
        return find_payments(log, among, wanted)

    return _Found(lookup, name)


def _event_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        yield from json_lines(path)
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from error


def _send(chunks: Iterator[list[Record]], s: Settings, partitioner: Partitioner | None, check: bool) -> float:
    """Publish the chunks, or only build them; returns the seconds taken. Raises Unavailable if a delivery failed."""
    started = time.monotonic()
    first = next(chunks, [])  # report errors in the file before contacting a broker

    def all_chunks() -> Iterator[list[Record]]:
        yield first
        yield from chunks

    if check:
        for _ in chunks:
            pass
    elif first or (first := next((chunk for chunk in chunks if chunk), [])):
        report = publish(all_chunks(), s, timestamps="now", partitioner=partitioner)
        if report.interrupted:
            raise _Interrupted(f"interrupted after {report.sent['feedback']:,} verdicts; send the file again")
    return time.monotonic() - started


class _Interrupted(SentinelError):
    exit_code = 130


def _report(tally: Tally, keeper: _Rejects, seconds: float, check: bool, as_json: bool) -> None:
    rejected = sum(tally.rejected.values())
    if as_json:
        answer = {
            "rows": tally.rows,
            "accepted": tally.accepted,
            "sent": 0 if check else tally.accepted,
            "rejected": rejected,
            "reasons": tally.rejected,
            "not_in_log": tally.unknown,
            "rejects_file": str(keeper.path) if rejected else None,
            "seconds": round(seconds, 3),
        }
        print(msgspec.json.encode(answer).decode())
        return
    for each in keeper.shown:
        print(f"line {each.line}: {each.reason}: {masked(each.detail)}", file=sys.stderr)
    if rejected > len(keeper.shown):
        print(f"… and {rejected - len(keeper.shown):,} more", file=sys.stderr)
    did = "would be sent" if check else "delivered"
    rate = f" ({seconds:.1f} s, {tally.accepted / seconds:,.0f}/s)" if seconds > 0 and tally.accepted > 1 else ""
    print(f"{tally.rows:,} read: {tally.accepted:,} {did}{rate}, {rejected:,} rejected")
    if rejected:
        print(f"rejected rows: {keeper.path}")
    if tally.unknown:
        print(f"{tally.unknown:,} on transactions that are not in the log; they count once the transaction arrives")
