"""A rule from a file to production and back, each step one command, while the stream runs: a worker decides synthetic
traffic; a rule with aggregates of its own decisions is checked, tested, judged on all that was decided so far,
proposed, approved by a second person, deployed, seen firing, rolled back; then every decision is replayed.

    python -m benchmarks.program_story [--transactions N] [--rate N]

N transactions are decided before the deployment (default 100,000); then `rate` a second go on throughout. Prints each
command's time, how long the workers took to fold the rule's state, the longest gap between two batches of a partition
before and around the switch, and what `sentinel replay --verify` says. Exits 1 unless the rule fired exactly where it
should and every decision is identical.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import msgspec

from benchmarks.running import wait_for
from console import wiring
from console.stack import LocalStack
from core import control_stream
from core.codec import decode_score, decode_seal, encode
from core.events import ProgramPrepared, Transaction, TransactionScored
from core.log.base import EventLog
from core.log.paging import entries
from core.program import loading
from core.settings import Settings, load
from ingest.producer import publish
from sources.record import Record

RULE = """
[program]
name = "cards"
version = "1.0.0"
uses = ["standard@1"]

[features]
declines_10m = "count(account, '10m', decision == 'decline')"
electronics_30d = "sum(account, '30d', amount, merchant_category == 'electronics')"

[[rules]]
code = "DECLINES_THEN_ELECTRONICS"
when = "declines_10m > 3 && merchant_category == 'electronics' && amount > 500.0 && device_is_new"
effect = "review"
words = "{declines_10m:.0f} declines in 10 minutes, then {amount:,.2f} at an electronics merchant on a new device"
owner = "payments-risk"

[[examples]]
name = "a large one on the known phone"
payments = [
  { amount = 20, merchant_id = "shop-1", merchant_category = "groceries", device_id = "phone" },
  { amount = 640, after = "60s", merchant_id = "shop-2", merchant_category = "electronics", device_id = "phone" },
]
misses = ["DECLINES_THEN_ELECTRONICS"]
"""
CODE = "DECLINES_THEN_ELECTRONICS"


def main() -> None:
    parser = argparse.ArgumentParser(description="A rule from a file to production and back.")
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sentinel-story-") as folder, LocalStack(Path(folder)) as stack:
        sys.exit(_story(Path(folder), stack, arguments.transactions, arguments.rate))


def _story(directory: Path, stack: LocalStack, transactions: int, rate: int) -> int:
    environment = {
        **os.environ,
        "KAFKA_SERVERS": stack.kafka_servers,
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(stack.redis_port),
        "SENTINEL_SNAPSHOT_DIRECTORY": str(directory / "snapshots"),
        "PYTHONPATH": str(Path.cwd()),
    }
    settings = load(environment)
    document = directory / "cards.toml"
    document.write_text(RULE)
    worker = subprocess.Popen(
        [sys.executable, "-m", "console.cli", "ingest", "--create-topics"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(directory / "worker.log").open("w"),
    )
    traffic = Traffic(settings, rate)
    try:
        days = str(max(transactions // 5_000, 5))
        command(environment, "produce", "--transactions", str(transactions), "--accounts", "5000", "--days", days)
        with closing(wiring.open_log(settings)) as log:
            wait_for(lambda: bool(control_stream.current(log).identity), "the worker to begin")
            wait_for(lambda: decided(log) >= transactions, "the first part of the stream", 900.0)
            return _steps(environment, settings, log, document, traffic)
    finally:
        traffic.stop()
        worker.terminate()
        worker.wait(60)


class Traffic:
    """Live payments of 3,000 accounts at a steady rate, in a thread."""

    def __init__(self, settings: Settings, rate: int) -> None:
        self._settings, self._rate = settings, rate
        self._stopping = False
        self.sent = 0
        self._random = random.Random(7)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            records = [self._payment() for _ in range(self._rate // 5)]
            publish([records], self._settings, rate=self._rate, timestamps="now")
            self.sent += len(records)

    def _payment(self) -> Record:
        number = self._random.randrange(3_000)
        kind = self._random.choice(("groceries", "electronics", "fuel", "fashion"))
        return payment(f"live-{number}", self._random.uniform(3, 400), kind, f"shop-{number % 97}", f"phone-{number}")


def payment(account: str, amount: float, category: str, merchant: str, device: str) -> Record:
    """A payment that happens now."""
    now = int(time.time() * 1000)
    transaction = Transaction(
        transaction_id=f"t-{next(_numbers)}",
        account_id=account,
        amount=round(amount, 2),
        occurred_at=now,
        currency="EUR",
        merchant_id=merchant,
        merchant_category=category,
        device_id=device,
        channel="online",
    )
    return Record("transactions", account, now, encode(transaction))


_numbers = itertools.count()


def spree(settings: Settings, account: str) -> None:
    """One small payment, four at a shop that is blocked, and a large one at an electronics merchant on a new device."""
    steps = [("groceries", "shop-1", "phone", 20.0)] + 4 * [("fashion", "shop-bad", "phone", 30.0)]
    for category, merchant, device, amount in [*steps, ("electronics", "shop-2", "another phone", 640.0)]:
        publish([[payment(account, amount, category, merchant, device)]], settings, timestamps="now")


def command(environment: dict[str, str], *arguments: str) -> str:
    """Run a command as a person would; prints it, its time and its last line, which is returned."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "console.cli", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    last = lines[-1] if lines else ""
    print(f"$ sentinel {shlex.join(arguments)}   ({time.monotonic() - started:.1f} s)\n  {last[:160]}")
    if done.returncode:
        sys.exit(f"exit {done.returncode}: {done.stderr}")
    return last


def scores(log: EventLog) -> list[TransactionScored]:
    return [decode_score(e.payload) for p in range(log_partitions(log)) for e in entries(log, p, "scores")]


def log_partitions(log: EventLog) -> int:
    return control_stream.identity_of(log).partitions


def decided(log: EventLog) -> int:
    return sum(log.length(p, "scores") for p in range(log_partitions(log)))


def hits(log: EventLog) -> int:
    return sum(CODE in score.rules for score in scores(log))


def gaps(log: EventLog, since: int, until: int) -> list[int]:
    """The longest time between two seals of each partition, between two moments of log time; ms."""
    found = []
    for p in range(log_partitions(log)):
        times = [decode_seal(entry.payload).recorded_at for entry in entries(log, p, "seals")]
        inside = [t for t in times if since <= t <= until]
        found.append(max((b - a for a, b in pairwise(inside)), default=0))
    return found


def _steps(environment: dict[str, str], settings: Settings, log: EventLog, document: Path, traffic: Traffic) -> int:
    reason = ("--reason", "card testing, then electronics")
    print(f"{decided(log):,} decisions in the log; live traffic begins")
    traffic.start()
    command(environment, "list", "add", "merchant", "block", "shop-bad", "--actor", "ann", "--reason", "a mule shop")
    command(environment, "model", "four-eyes", "on", "--actor", "cho", "--reason", "policy")
    spree(settings, "victim-before")
    time.sleep(10.0)
    began = int(time.time() * 1000)
    command(environment, "program", "check", str(document))
    command(environment, "program", "test", str(document))
    told = command(environment, "program", "backtest", str(document), "--json")
    judged = msgspec.json.decode(told.splitlines()[-1])
    rule = next(each for each in judged["rules"] if each["code"] == CODE)
    expected = rule["after"]
    print(
        f"  {judged['decisions']:,} decisions judged by columns ({judged['way']}) in {judged['seconds']:.2f} s,"
        f" {judged['decisions'] / judged['seconds']:,.0f} a second; the rule would have hit {expected} payment"
    )
    command(environment, "program", "propose", str(document), "--actor", "ann", *reason)
    proposed = time.monotonic()
    digest = loading.check(document.read_bytes()).digest
    partitions = [p for p in range(log_partitions(log)) if log.length(p, "scores")]
    command(environment, "program", "approve", "cards@1.0.0:0", "--actor", "bob", "--reason", "checked the diff")
    command(environment, "program", "deploy", "cards@1.0.0:0", "--actor", "ann", "--reason", "agreed")
    ready = time.monotonic() - proposed
    prepared = [
        entry.event for entry in control_stream.history(log)
        if isinstance(entry.event, ProgramPrepared) and entry.event.digest == digest
    ]  # fmt: skip
    assert {p for event in prepared for p in event.partitions} >= set(partitions)
    wait_for(lambda: any(score.program == digest[:16] for score in scores(log)), "a decision by the program")
    spree(settings, "victim-after")
    took = wait_for(lambda: hits(log) > 0, "the rule to fire")
    print(f"the rule fired {took:.1f} s after the payment was sent")
    command(environment, "program", "rollback", "--actor", "bob", "--reason", "end of the story")
    time.sleep(3.0)
    spree(settings, "victim-later")
    time.sleep(5.0)
    ended = int(time.time() * 1000)
    traffic.stop()
    wait_for(lambda: decided(log) >= traffic.sent, "the rest of the stream")
    time.sleep(2.0)
    print(f"propose to deployed: {ready:.1f} s, with the state of {decided(log):,} decisions folded")
    print(f"longest gap between batches of a partition: {max(gaps(log, began - 10_000, began))} ms in the 10 s before,")
    print(f"  {max(gaps(log, began, ended))} ms from the proposal to the end")
    by_program = Counter(score.program for score in scores(log))
    print(f"decisions by program: {dict(by_program)}; the rule hit {hits(log)} payment")
    replayed = command(environment, "replay", "--verify", "--json")
    summary = msgspec.json.decode(replayed)
    print(f"{summary['decisions']:,} decisions, {summary['identical']:,} identical")
    return 0 if hits(log) == expected == 1 and summary["identical"] == summary["decisions"] else 1


if __name__ == "__main__":
    main()
