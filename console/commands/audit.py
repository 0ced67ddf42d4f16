"""`sentinel audit`: the full story of one decision, recomputed; or a recomputed sample of decisions."""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from console import pool, wiring
from console.audit_page import page
from console.audit_text import text
from console.commands.replay import exit_code, undecidable_lines
from console.log_options import asked_of
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core import control_stream
from core.context import Resolver
from core.errors import BadInput
from core.files import open_private
from core.log.base import EventLog
from core.log.readonly import ReadOnlyLog
from core.partitions import partitions_of
from core.replay import Timeline
from core.settings import Settings
from projections.audit.redecide import DecisionPlace, Found, SampleCheck, at_place, check, find
from projections.audit.story import tell


def audit(
    transaction_id: Annotated[str | None, typer.Argument(help="The transaction to audit.")] = None,
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    account: Annotated[str | None, typer.Option(help="Its account; makes the search faster.")] = None,
    position: Annotated[
        str | None, typer.Option(help="Its position in the log (p07:1-533) or its alert's ID; replaces the search.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write one self-contained HTML page to this file.")] = None,
    sample: Annotated[
        int | None, typer.Option(help="Recompute this many random decisions instead of one.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="With --sample: seed of the random choice.")] = 0,
    jobs: Annotated[int, typer.Option(help="With --sample: number of processes.", min=1)] = min(2, os.cpu_count() or 1),
    as_json: Json = False,
) -> None:
    """Show what was known, which model decided, why, and what happened next; recompute the decision and compare it.

    Exit code 0 if the recomputed decision is identical, 1 if it differs (the difference is shown), 6 if it can't be
    made again here. Reads only.
    """
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
    if sample is not None:
        if transaction_id is not None or position is not None or account is not None or html is not None:
            raise BadInput("--sample can't be combined with a transaction, --position, --account or --html")
        _sample(s, sample, seed, jobs, as_json)
        return
    if html is not None and not html.parent.is_dir():
        raise BadInput(f"--html {html}: the directory {html.parent} does not exist")
    with closing(ReadOnlyLog(wiring.open_log(s))) as log:
        control = control_stream.history(log)
        timeline = Timeline(control, Resolver(log.get_blob, wiring.load_scorer))
        paid = asked_of(s, log, "transaction_id", transaction_id)
        story = tell(log, locate(log, paid, asked_of(s, log, "account_id", account), position), control, timeline)
    if html is not None:
        try:
            with open_private(html) as file:
                file.write(page(story))
        except OSError as error:
            raise BadInput(f"--html {html}: {error.strerror}") from error
    print(msgspec.json.encode(story).decode() if as_json else text(story))
    if not story.recomputed.identical:
        raise typer.Exit(1)


def locate(log: EventLog, transaction_id: str | None, account: str | None, position: str | None) -> Found:
    """The one matching transaction. Raises BadInput if none or more than one matches."""
    partitions = partitions_of(log)
    if position is not None:
        try:
            place = DecisionPlace.parse(position)
        except ValueError:
            raise BadInput(f"--position {position!r} is not a valid position; write it as p07:1-533") from None
        found = at_place(log, place) if place.partition in partitions else None
        if found is None:
            raise BadInput(f"there is no transaction at {place}; check the position")
        if transaction_id not in (None, found.transaction_id) or account not in (None, found.account_id):
            raise BadInput(f"the transaction at {place} is {found.transaction_id} of account {found.account_id}")
        return found
    if transaction_id is None:
        raise BadInput("missing transaction: give its ID, a --position, or a --sample size")
    matches = find(log, partitions, transaction_id, account)
    if not matches:
        of = f" of account {account}" if account is not None else ""
        raise BadInput(f"transaction {transaction_id}{of} is not in the log; check the ID")
    if len(matches) > 1:
        places = ", ".join(f"{m.place} (account {m.account_id})" for m in matches)
        raise BadInput(
            f"transaction {transaction_id} is in the log {len(matches)} times ({places}); select one with --position"
        )
    return matches[0]


def choose(lengths: dict[int, int], count: int, seed: int) -> dict[int, list[int]]:
    """`count` random rows (all, if there are fewer) from partitions of these lengths: partition → row numbers."""
    total = sum(lengths.values())
    chosen = sorted(random.Random(seed).sample(range(total), min(count, total)))
    ends = list(accumulate(lengths.values()))
    rows: dict[int, list[int]] = {}
    for partition, end in zip(lengths, ends, strict=True):
        start = end - lengths[partition]
        mine = [row - start for row in chosen if start <= row < end]
        if mine:
            rows[partition] = mine
    return rows


def _sample(s: Settings, count: int, seed: int, jobs: int, as_json: bool) -> None:
    with closing(ReadOnlyLog(wiring.open_log(s))) as log:
        rows = choose({p: log.length(p, "scores") for p in partitions_of(log)}, count, seed)
    calls = [(s, partition, mine) for partition, mine in rows.items()]
    total = sum(len(mine) for mine in rows.values())
    results = pool.each(_check, calls, jobs=jobs, title="auditing", total=total, quiet=as_json)
    audited = sum(r.audited for r in results)
    identical = sum(r.identical for r in results)
    undecidable = sum((Counter(r.undecidable) for r in results), Counter[str]())
    differences = [d for r in results for d in r.differences]
    if as_json:
        shown = [{"place": str(p), "transaction_id": t, "differences": lines} for p, t, lines in differences]
        summary = {"audited": audited, "identical": identical, "undecidable": undecidable, "different": shown}
        print(msgspec.json.encode(summary).decode())
    else:
        for place, transaction_id, lines in differences:
            print("\n  ".join([f"{place}, transaction {transaction_id}:", *lines]), file=sys.stderr)
        for line in undecidable_lines(undecidable):
            print(line, file=sys.stderr)
        print(f"{audited:,} audited, {identical:,} identical")
    if code := exit_code(audited, identical, undecidable, audited != total):
        raise typer.Exit(code)


def _check(s: Settings, partition: int, rows: list[int]) -> SampleCheck:
    with closing(ReadOnlyLog(wiring.open_log(s))) as log:
        timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, wiring.load_scorer))
        checked = check(log, partition, rows, timeline)
        pool.report(checked.audited)
        return checked
