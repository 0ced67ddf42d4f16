"""Deploys a program with new 30-day aggregates on a long log while payments go on: how long until it is ready, how long
the stream pauses, and what the worker's memory does.

    python -m benchmarks.program_deployment [--transactions N] [--rate N] [--accounts N] [--verify N]

N synthetic transactions of 90 days (default 5,000,000) are decided as history, and archived and trimmed on the way, so
that the log server stays small. Then `rate` live payments a second go on (default 500) while the program is proposed,
approved and deployed. Prints the time from the proposal to the deployment, the longest gap between two seals of any
partition before and around the switch, how long live payments waited for their decisions, the worker's memory, and for
`--verify` partitions (default 1), whether every decision from the first to the last, around the switch too, is
identical on replay. Exits 1 if one is not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import msgspec
import redis

from benchmarks.program_story import Traffic, command, decided, gaps, log_partitions
from benchmarks.running import wait_for
from console import wiring
from console.stack import LocalStack
from core import control_stream
from core.codec import decode_transaction
from core.events import Position, ProgramDeployed, ProgramPrepared
from core.log.base import EventLog
from core.log.paging import entries
from core.program import loading
from core.settings import Settings, load

PROGRAM = """
[program]
name = "monthly"
version = "1.0.0"
uses = ["standard@1"]

[entities]
shop = ["account_id", "merchant_id"]

[features]
big_30d = "count(account, '30d', amount > 200)"
online_30d = "sum(account, '30d', amount, channel == 'online')"
shops_30d = "distinct(account, '30d', merchant_id, amount > 20)"
declines_30d = "count(account, '30d', decision == 'decline')"
at_shop_30d = "count(shop, '30d')"

[[rules]]
code = "MONTHLY"
when = "big_30d > 20 && declines_30d > 0 || at_shop_30d > 50 && shops_30d > 20"
effect = "review"
words = "{big_30d:.0f} large payments in 30 days"
"""
ARCHIVE_BYTES = 1_500_000_000
"""Of the log server's memory: above, what is decided is archived and trimmed."""
SETTLED_S = 15.0
LIVE_MAX = 50_000
"""Live payments of a partition are among its last ones."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Deploy a program with new 30-day aggregates on a long log.")
    parser.add_argument("--transactions", type=int, default=5_000_000)
    parser.add_argument("--accounts", type=int, default=50_000)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--verify", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sentinel-deployment-") as folder, LocalStack(Path(folder)) as stack:
        sys.exit(_deployment(Path(folder), stack, arguments))


def _deployment(directory: Path, stack: LocalStack, arguments: argparse.Namespace) -> int:
    environment = {
        **os.environ,
        "KAFKA_SERVERS": stack.kafka_servers,
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(stack.redis_port),
        "SENTINEL_ARCHIVE": str(directory / "archive"),
        "SENTINEL_SNAPSHOT_DIRECTORY": str(directory / "snapshots"),
        "PYTHONPATH": str(Path.cwd()),
    }
    settings = load(environment)
    document = directory / "monthly.toml"
    document.write_text(PROGRAM)
    worker = subprocess.Popen(
        [sys.executable, "-m", "console.cli", "ingest", "--create-topics"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(directory / "worker.log").open("w"),
    )
    traffic, memory = Traffic(settings, arguments.rate), Memory(worker.pid)
    try:
        with closing(wiring.open_log(settings)) as log:
            wait_for(lambda: bool(control_stream.current(log).identity), "the worker to begin")
            _load(environment, stack, log, arguments)
            traffic.start()
            wait_for(lambda: traffic.sent > arguments.rate * SETTLED_S, "live traffic")
            began, ended = _deploy(environment, log, document, memory)
            traffic.stop()
            wait_for(lambda: decided(log) >= arguments.transactions + traffic.sent, "the rest of the stream")
            return _report(environment, settings, log, (began, ended), arguments)
    finally:
        traffic.stop()
        memory.stop()
        worker.terminate()
        worker.wait(60)


class Memory:
    """A process's resident memory, MB: now, and the largest since the last `reset`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stopping = False
        self.largest = 0.0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self._stopping:
            self.largest = max(self.largest, self.now())
            time.sleep(0.1)

    def stop(self) -> None:
        self._stopping = True

    def now(self) -> float:
        try:
            pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def reset(self) -> float:
        """The largest until now."""
        largest, self.largest = self.largest, 0.0
        return largest


def _load(environment: dict[str, str], stack: LocalStack, log: EventLog, arguments: argparse.Namespace) -> None:
    """Produce and decide the history; archive what is decided whenever the log server has grown."""
    started = time.monotonic()
    producing = subprocess.Popen(
        [
            sys.executable, "-m", "console.cli", "produce", "--transactions", str(arguments.transactions),
            "--accounts", str(arguments.accounts), "--days", "90",
        ],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    told = 0
    with redis.Redis(port=stack.redis_port) as server:
        while (count := decided(log)) < arguments.transactions:
            if producing.poll() not in (None, 0):
                sys.exit("producing failed")
            if server.info("memory")["used_memory"] > ARCHIVE_BYTES:
                command(environment, "archive", "--trim", "--hot-hours", "0.01")
            if count >= told + 500_000:
                told = count
                print(f"{count:,} decided, {count / (time.monotonic() - started):,.0f}/s", flush=True)
            time.sleep(1.0)
    producing.wait()
    seconds = time.monotonic() - started
    print(f"{arguments.transactions:,} transactions produced, decided and archived in {seconds:.0f} s", flush=True)


def _deploy(environment: dict[str, str], log: EventLog, document: Path, memory: Memory) -> tuple[int, int]:
    """The commands; the moments of the proposal and of the end, epoch ms."""
    memory.reset()
    time.sleep(SETTLED_S)
    before = memory.reset()
    decisions = decided(log)
    began, started = int(time.time() * 1000), time.monotonic()
    reason = ("--reason", "monthly figures")
    command(environment, "program", "propose", str(document), "--actor", "ann", *reason)
    command(environment, "program", "approve", "monthly@1.0.0:0", "--actor", "bob", "--reason", "checked")
    command(environment, "program", "deploy", "monthly@1.0.0:0", "--actor", "ann", "--reason", "agreed")
    seconds = time.monotonic() - started
    during = memory.reset()
    time.sleep(SETTLED_S)
    print(
        f"propose to deployed: {seconds:.1f} s, with the state of {decisions:,} decisions folded:"
        f" {decisions / seconds:,.0f}/s beside the stream"
    )
    print(
        f"worker's memory: {before:,.0f} MB before, {during:,.0f} MB at most while preparing, {memory.now():,.0f} after"
    )
    return began, int(time.time() * 1000)


def latencies(log: EventLog, since: int) -> list[tuple[int, int]]:
    """(recorded at, ms from its own time to that) of every live payment that was recorded since."""
    found = []
    for p in range(log_partitions(log)):
        head = log.head(p).transactions
        after = Position(head.generation, max(head.offset - LIVE_MAX, 0))
        for entry in entries(log, p, "transactions", after):
            t = decode_transaction(entry.payload)
            if t.recorded_at >= since and t.account_id.startswith("live-"):
                found.append((t.recorded_at, t.recorded_at - t.occurred_at))
    return found


def _report(
    environment: dict[str, str],
    settings: Settings,
    log: EventLog,
    moments: tuple[int, int],
    arguments: argparse.Namespace,
) -> int:
    began, ended = moments
    digest = loading.check(PROGRAM.encode()).digest
    history = control_stream.history(log)
    reports = [e.event for e in history if isinstance(e.event, ProgramPrepared) and e.event.digest == digest]
    switch = next(e.event.occurred_at for e in history if isinstance(e.event, ProgramDeployed))
    ready = max(event.occurred_at for event in reports) - began
    before, around, at = (
        gaps(log, began - 15_000, began),
        gaps(log, began, ended),
        gaps(log, switch - 5_000, switch + 5_000),
    )
    print(f"all {log_partitions(log)} partitions prepared {ready / 1000:.1f} s after the proposal")
    print(f"longest gap between batches of a partition: {max(before)} ms in the 15 s before the proposal,")
    print(f"  {max(around)} ms from the proposal to the end (by partition: {around}),")
    print(f"  {max(at)} ms within 5 s of the switch")
    waits = latencies(log, began - 15_000)
    print("from a live payment to its decision in the log, ms (half, 99 %, longest):")
    for words, first, last in (
        ("in the 15 s before the proposal", 0, began),
        ("while it was prepared", began, switch),
        ("in the 15 s from the switch on", switch, ended),
    ):
        mine = sorted(wait for at, wait in waits if first <= at < last) or [0]
        print(f"  {words}: {mine[len(mine) // 2]}, {mine[len(mine) * 99 // 100]}, {mine[-1]}")
    partitions = [str(p) for p in range(log_partitions(log)) if log.length(p, "scores")][: arguments.verify]
    if not partitions:
        return 0
    chosen = [each for p in partitions for each in ("--partition", p)]
    summary = msgspec.json.decode(command(environment, "replay", "--verify", "--json", *chosen, "--max-late", "100"))
    print(f"partitions {', '.join(partitions)}: {summary['decisions']:,} decisions, {summary['identical']:,} identical")
    return 0 if summary["identical"] == summary["decisions"] else 1


if __name__ == "__main__":
    main()
