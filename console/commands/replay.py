"""`sentinel replay`: rebuilds worker state from the log; with --verify, verifies every decision."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from console import pool, wiring
from console.limits import MAX_DEGRADED, MAX_LATE, MaxDegraded, MaxLate, exceeded
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core import control_stream, verification
from core.errors import NotDecidable
from core.lateness import late
from core.log.base import Head
from core.partitions import partitions_of
from core.replay import Timeline, rebuild
from core.settings import Settings
from core.verification import Verification
from ingest.snapshots import SnapshotStore


def replay(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Decide every transaction again; compare score and alert byte for byte.")
    ] = False,
    partition: Annotated[list[int] | None, typer.Option(help="Only this partition; may be repeated.")] = None,
    jobs: Annotated[int, typer.Option(help="Number of processes.", min=1)] = min(2, os.cpu_count() or 1),
    snapshot_directory: Annotated[
        str | None, typer.Option(help="Without --verify: write the rebuilt state to this directory as snapshots.")
    ] = None,
    max_degraded: MaxDegraded = MAX_DEGRADED,
    max_late: MaxLate = MAX_LATE,
    as_json: Json = False,
) -> None:
    """Replay the log. Exit code 0 if every decision is identical, 1 if one differs (the first difference is shown) or
    if too many were degraded or late, 3 if the log is corrupt, 6 if none differs, but some can't be made again here.

    Reads only; safe beside running workers. Each partition is replayed up to its head at the start of the command.
    """
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
    started = time.monotonic()
    found = run(s, verify=verify, only=partition, jobs=jobs, snapshots=snapshot_directory, quiet=as_json)
    seconds = time.monotonic() - started
    decisions = sum(v.decisions for v in found)
    identical = sum(v.identical for v in found)
    differences = [v.first_difference for v in found if v.first_difference is not None]
    degraded, late_ones = sum(v.degraded for v in found), late([v.pace for v in found])
    undecidable = sum((Counter(v.undecidable) for v in found), Counter[str]())
    beyond = exceeded(decisions, degraded, late_ones, max_degraded, max_late) if verify else []
    if as_json:
        summary = {
            "verified": verify,
            "decisions": decisions,
            "identical": identical,
            "undecidable": undecidable,
            "alerts": sum(v.alerts for v in found),
            "degraded": degraded,
            "late": late_ones,
            "exceeded": beyond,
            "seconds": round(seconds, 3),
            "differences": [str(d) for d in differences],
            "state": {str(v.partition): v.state_digest for v in found},
        }
        print(msgspec.json.encode(summary).decode())
    elif verify:
        for line in [*differences, *undecidable_lines(undecidable), *beyond]:
            print(line, file=sys.stderr)
        rate = decisions / seconds if seconds else 0.0
        passed = f" {sum(undecidable.values()):,} not decidable here," if undecidable else ""
        print(
            f"{decisions:,} decisions, {identical:,} identical,{passed} {degraded:,} degraded, {late_ones:,} late"
            f" ({seconds:.1f} s, {rate:,.0f}/s)"
        )
    else:
        for v in found:
            print(f"partition {v.partition:>3}  {v.decisions:>10,} transactions  state {v.state_digest[:16]}")
        print(f"{decisions:,} transactions folded ({seconds:.1f} s)")
    if verify and (code := exit_code(decisions, identical, undecidable, bool(differences or beyond))):
        raise typer.Exit(code)


def exit_code(decisions: int, identical: int, undecidable: Mapping[str, int], is_wrong: bool = False) -> int:
    """1 if a decision differs, or anything else is wrong; else NotDecidable's if some can't be made again here."""
    passed = sum(undecidable.values())
    if is_wrong or identical + passed != decisions:
        return 1
    return NotDecidable.exit_code if passed else 0


def undecidable_lines(undecidable: Mapping[str, int]) -> list[str]:
    """How many decisions can't be made again here, by reason."""
    return [f"{count:,} decisions can't be made again here: {why}" for why, count in undecidable.items()]


def run(
    s: Settings,
    *,
    verify: bool,
    only: list[int] | None = None,
    jobs: int = 1,
    snapshots: str | None = None,
    quiet: bool = False,
) -> list[Verification]:
    """Replay the log's partitions in `jobs` processes, with progress on stderr. Raises BadInput if the log is empty."""
    with closing(wiring.open_log(s)) as log:
        heads = {p: log.head(p) for p in partitions_of(log, only)}
        total = sum(log.length(p, "transactions") for p in heads)
    calls = [(s, p, head, verify, snapshots) for p, head in heads.items()]
    title = "verifying" if verify else "folding"
    results = pool.each(_one, calls, jobs=jobs, title=title, total=total, quiet=quiet)
    return sorted(results, key=lambda v: v.partition)


def _one(s: Settings, partition: int, head: Head, verify: bool, snapshots: str | None) -> Verification:
    with closing(wiring.open_log(s)) as log:
        if verify:
            timeline = Timeline(control_stream.history(log), wiring.open_resolver(log))
            return verification.verify(log, partition, head, timeline, pool.report)
        state = rebuild(log, partition, head, control_stream.identity_of(log))
        count = log.length(partition, "transactions")
        pool.report(count)
        if snapshots is not None:
            SnapshotStore(Path(snapshots), s.log_prefix).save(partition, head, state)
        return Verification(partition, decisions=count, state_digest=state.digest())
