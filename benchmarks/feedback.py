"""Verdicts end to end on the local stack: file → `sentinel feedback` → Kafka → one worker → durable log → labels.

    submit        rows per second of the command itself: read, checked, looked up in the log, sent, acknowledged
    command       the same including interpreter startup, which takes 2.5 s of CPU whatever the file
    through       rows per second from when the command begins to read until the last row is durable in the log
    per_cpu_s     rows per CPU second, of the command (including startup) and of the worker: still meaningful on a
                  machine that is busy with other things
    fold          facts per second folded into the labels read model, including reading the log
    judge, view   verdicts per CPU second through quality control alone, and with learning and consensus

Everything (broker, worker, Valkey with fsync always, the command) shares the machine's cores.

    python -m benchmarks.feedback [--transactions 60000] [--verdicts 100000] [--json]
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from console import wiring
from console.gc_tuning import tune_for_reading
from console.service import Service, read_stats, wait_for_partitions
from console.stack import LocalStack
from core.errors import Unavailable
from core.settings import Settings
from core.times import DAY_MS
from ingest import kafka_client
from ingest.history import loading
from ingest.producer import publish
from projections.catalogue import ALL
from projections.engine.base import NOWHERE, fold
from projections.engine.feed import facts_between
from projections.engine.states import open_states
from projections.labelling.quality import judge_all
from projections.labelling.view import view
from projections.views.labels import LABELS, Labels, claims, newest
from projections.views.labels_answers import sources_answer
from sources.synthetic import SyntheticConfig, SyntheticStream

DAYS = 60.0
WAIT_S = 300.0
ANALYSTS = 400
"""Enough that no analyst exceeds one person's rate limit, however fast the file is processed."""
RATERS = (("analyst", 0.93), ("analyst", 0.8), ("chargeback", 0.97), ("customer", 0.75))


def run(transactions: int, verdicts: int) -> dict[str, float]:
    """All figures. Leaves nothing running."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-bench-")))
        servers = stack.enter_context(LocalStack(directory))
        s = wiring.settings(
            None,
            **servers.settings,
            snapshot_directory=str(directory / "snapshots"),
        )
        kafka_client.create_topics(s, [s.transactions_topic, s.feedback_topic, s.dead_letter_topic])
        stats = directory / "worker.json"
        worker = stack.enter_context(Service("worker", ["ingest", "--stats-file", str(stats)], s, directory))
        wait_for_partitions(worker, stats, s.partitions, 120.0)
        start = int(time.time() * 1000) - int((DAYS + 30) * DAY_MS)
        source = SyntheticStream(SyntheticConfig(transactions=transactions, days=DAYS, accounts=5_000, start=start))
        payments = ([record for record in chunk if record.topic == "transactions"] for chunk in source.records())
        with loading(lambda: wiring.open_log(s), s, payments, "the payments that verdicts are on") as chunks:
            publish(chunks, s, timestamps="now")
        _wait(worker, stats, "transactions", transactions)
        figures: dict[str, float] = {"transactions": transactions, "verdicts": verdicts}
        for suffix in ("csv", "parquet"):
            file = directory / f"verdicts.{suffix}"
            write(source, file, verdicts)
            done = read_stats(stats) or {}
            figures |= {f"{name}_{suffix}": value for name, value in _submit(s, directory, file).items()}
            began = figures.pop(f"began_{suffix}") + figures.pop(f"start_{suffix}")
            _wait(worker, stats, "feedback", done["feedback"] + verdicts)
            figures[f"through_{suffix}_per_s"] = verdicts / (time.monotonic() - began)
            used = (read_stats(stats) or {})["cpu_s"] - done["cpu_s"]
            figures[f"worker_{suffix}_per_cpu_s"] = verdicts / used
        return figures | labels(s)


def write(source: SyntheticStream, file: Path, count: int) -> None:
    """Write `count` verdicts of several raters on the source's transactions. They lack accounts, to be looked up."""
    rng = random.Random(file.name)
    truth = source.truth().select("transaction_id", "occurred_at", "is_fraud").rows()
    rows: list[tuple[str, str, str, str, int]] = []
    while len(rows) < count:
        transaction, at, is_fraud = truth[rng.randrange(len(truth))]
        source_name, right = rng.choice(RATERS)
        actor = f"analyst{rng.randrange(ANALYSTS)}" if source_name == "analyst" else ""
        word = "fraud" if is_fraud == (rng.random() < right) else "legitimate"
        rows.append((transaction, word, source_name, actor, at + rng.randrange(int(20 * DAY_MS))))
    columns = ["transaction_id", "verdict", "source", "actor", "occurred_at"]
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    if file.suffix == ".csv":
        frame.write_csv(file)
    else:
        frame.write_parquet(file)


def _submit(s: Settings, directory: Path, file: Path) -> dict[str, float]:
    service = Service(f"feedback-{file.suffix[1:]}", ["feedback", "--file", str(file), "--json"], s, directory)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    with service:
        code = service.wait(WAIT_S)
    service.check()
    answer: dict[str, Any] = msgspec.json.decode(service.log_path.read_bytes().splitlines()[-1])
    if code or answer["rejected"] or answer["not_in_log"]:
        raise Unavailable(f"the submission ended with {code}: {answer}")
    wall = time.monotonic() - began
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = cpu.ru_utime + cpu.ru_stime - before.ru_utime - before.ru_stime
    return {
        "submit_per_s": answer["sent"] / answer["seconds"],
        "command_per_s": answer["sent"] / wall,
        "command_per_cpu_s": answer["sent"] / used,
        "began": began,
        "start": wall - answer["seconds"],
    }


def _wait(worker: Service, stats: Path, name: str, goal: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while (read_stats(stats) or {}).get(name, 0) < goal:
        worker.check()
        if time.monotonic() > deadline:
            raise Unavailable(f"the worker did not process {goal:,} {name} within {WAIT_S:.0f} s")
        time.sleep(0.02)


def labels(s: Settings) -> dict[str, float]:
    """Rates of the fold, of quality control, and of quality control with learning and consensus."""
    tune_for_reading()
    with closing(wiring.open_log(s)) as log:
        read_models = open_states(log, ALL, now_ms=int(time.time() * 1000))
        cut = read_models.cut
        started = time.perf_counter()
        states: dict[int, Labels] = {}
        facts = 0
        for partition, bound in cut.partitions.items():
            of_partition = list(facts_between(log, partition, NOWHERE, bound.place))
            facts += len(of_partition)
            states[partition] = fold(LABELS, of_partition)
        fold_s = time.perf_counter() - started
        started = time.process_time()
        judged = judge_all(list(claims(states)), newest(states))
        judge_s = time.process_time() - started
        started = time.process_time()
        of = view(states)
        view_s = time.process_time() - started
        started = time.perf_counter()
        sources_answer(read_models)
        sources_s = time.perf_counter() - started
    verdicts = sum(len(each.verdicts) for each in judged)
    return {
        "fold_facts_per_s": facts / fold_s,
        "judge_verdicts_per_s": verdicts / judge_s,
        "view_verdicts_per_s": verdicts / view_s,
        "query_sources_s": sources_s,
        "judged_transactions": len(of.transactions),
        "accepted": sum(len(each.accepted) for each in of.transactions),
        "state_bytes": sum(len(LABELS.encode(state)) for state in states.values()),
    }


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--transactions", type=int, default=60_000)
    parser.add_argument("--verdicts", type=int, default=100_000, help="verdicts in each of two files")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = run(arguments.transactions, arguments.verdicts)
    if arguments.json:
        print(msgspec.json.encode({name: round(value, 2) for name, value in figures.items()}).decode())
        return
    for name, value in figures.items():
        print(f"{name:<32}{value:>14,.1f}")


if __name__ == "__main__":
    main()
