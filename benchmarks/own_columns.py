"""The full layout of IEEE-CIS from a file to decisions, and what a model gains from a team's own columns.

    python -m benchmarks.own_columns [--rows N] [--seed S] [--data FOLDER] [--folds K]

On a local stack, each step one command: `map` finds the columns and writes a program that declares them, `program
propose` and `deploy`, `produce` sends the first 70 % of the payments with their labels, `train` a model of standard@1
alone and one that reads everything, `model promote` the second; then `produce` sends the rest, which that model
decides. Prints the AUC of both on the rest, whose payments neither has seen: that of the second as it decided, that of
the first on the features logged for the same payments, with intervals by a bootstrap over accounts; the worker's CPU
and what `replay --verify` says. Exits 1 unless every decision is identical and the second model decided the rest.

The data are synthetic (`sources.wide`): the figures say that the way is complete, not what own columns are worth
elsewhere. --data: a folder with train_transaction.csv of your own copy instead, split by time in the same way.

--folds: for a file too short to be split by time. All of it is decided by the rules alone, and the AUC of both sets of
columns is that of K forests of 50 trees, each of which judges the accounts that it was not trained on.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.program_story import command, decided
from benchmarks.running import wait_for
from console import wiring
from console.stack import LocalStack
from core import control_stream
from core.codec import decode_score, decode_transaction
from core.features import packing, spec
from core.log.base import EventLog
from core.log.paging import decision_pages
from core.partitions import partitions_of
from core.settings import load
from learners import metrics
from learners.training import boosting, levels, reading
from learners.training.columns import OWN, STANDARD, deployed_plan, select
from learners.training.dataset import TrainingSet
from sources import wide

TRAIN_SHARE = 0.7
FOLD_TREES = 50
DRAWS = 400


class Seen(NamedTuple):
    """Decisions after the promotion: transaction IDs, accounts, margins as logged and features, float32 (n, WIDTH)."""

    ids: list[str]
    accounts: list[str]
    margins: NDArray[np.float64]
    features: NDArray[np.float32]
    models: set[str]


def main() -> None:
    parser = argparse.ArgumentParser(description="A team's own columns, from a file to decisions.")
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--folds", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sentinel-own-") as folder, LocalStack(Path(folder)) as stack:
        directory = Path(folder)
        share = 1.0 if arguments.folds else TRAIN_SHARE
        first, rest = _files(directory, arguments.rows, arguments.seed, arguments.data, share)
        sys.exit(_story(directory, stack, first, rest, arguments.seed, arguments.folds))


def _files(directory: Path, rows: int, seed: int, data: Path | None, share: float) -> tuple[Path, Path]:
    """The folders of the first part and of the rest."""
    if data is None:
        data = directory / "data"
        wide.write(data, rows, seed)
    whole = pl.read_csv(data / wide.TRANSACTION, infer_schema=False)
    whole = whole.sort(pl.col("TransactionDT").cast(pl.Int64), maintain_order=True)
    beside = data / wide.IDENTITY
    identity = pl.read_csv(beside, infer_schema=False) if beside.exists() else None
    cut = int(share * len(whole))
    found = []
    for name, part in (("first", whole[:cut]), ("rest", whole[cut:])):
        target = directory / name
        target.mkdir()
        part.write_csv(target / wide.TRANSACTION)
        if identity is not None:
            identity.join(part.select("TransactionID"), "TransactionID", "semi").write_csv(target / wide.IDENTITY)
        found.append(target)
    more = identity.width if identity is not None else 0
    print(f"{len(whole):,} payments, {whole.width} columns, {more} of identity")
    return found[0], found[1]


def _story(directory: Path, stack: LocalStack, first: Path, rest: Path, seed: int, folds: int) -> int:
    environment = {
        **os.environ,
        "KAFKA_SERVERS": stack.kafka_servers,
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": str(stack.redis_port),
        "SENTINEL_SNAPSHOT_DIRECTORY": str(directory / "snapshots"),
        "PYTHONPATH": str(Path.cwd()),
    }
    settings = load(environment)
    mapping, program = directory / "ieee.toml", directory / "own.toml"
    command(environment, "map", str(first), "--attributes", "all", "--write", str(mapping), "--program", str(program))
    worker = subprocess.Popen(
        [sys.executable, "-m", "console.cli", "ingest", "--create-topics"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(directory / "worker.log").open("w"),
    )
    try:
        with closing(wiring.open_log(settings)) as log:
            wait_for(lambda: bool(control_stream.current(log).identity), "the worker to begin")
            _deploy(environment, program)
            if folds:
                done = _folded(environment, log, mapping, first, seed, folds)
            else:
                done = _steps(environment, log, directory, (first, rest), seed)
    finally:
        worker.terminate()
        worker.wait(60)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"CPU of all commands and the worker: {usage.ru_utime + usage.ru_stime:.0f} s")
    return done


def _deploy(environment: dict[str, str], program: Path) -> None:
    command(environment, "program", "propose", str(program), "--reason", "our columns")
    command(environment, "program", "deploy", "own@1.0.0", "--reason", "our columns")


def _folded(environment: dict[str, str], log: EventLog, mapping: Path, folder: Path, seed: int, folds: int) -> int:
    """Decide everything, and judge each account by a forest that was trained on the others."""
    took = _produce(environment, log, folder, mapping)
    partitions, payments = partitions_of(log), decided(log)
    wait_for(lambda: sum(log.length(p, "feedback") for p in partitions) >= payments, "the verdicts", 900.0)
    found = {}
    for name, wanted in (("plain", [STANDARD]), ("own", [STANDARD, OWN])):
        selection = select(*deployed_plan(log), wanted)
        data = reading.read(log, partitions, clock="event", maturity_ms=0, selection=selection)
        found[name] = data, _out_of_fold(data, seed, folds)
        print(f"  {name}: {len(data.names)} columns, {folds} folds of {len(np.unique(data.accounts)):,} accounts")
    data, own = found["own"]
    _compare([str(account) for account in data.accounts.tolist()], own, found["plain"][1], data.labels, seed)
    print(f"{len(data):,} payments of {_bytes(log):,.0f} bytes decided in {took:.1f} s after they were sent")
    summary = msgspec.json.decode(command(environment, "replay", "--verify", "--json", "--max-late", "1"))
    print(f"{summary['decisions']:,} decisions, {summary['identical']:,} identical")
    return 0 if summary["identical"] == summary["decisions"] == len(data) else 1


def _out_of_fold(data: TrainingSet, seed: int, folds: int) -> NDArray[np.float64]:
    """The margin of each row, by the forest that did not see its account: float64 (n,)."""
    accounts, code = np.unique(data.accounts, return_inverse=True)
    fold = np.random.Generator(np.random.PCG64(seed)).permutation(len(accounts))[code] % folds
    found = np.zeros(len(data))
    for k in range(folds):
        training = data.rows(fold != k)
        inputs = levels.chosen(training)
        forest = boosting.fit(
            levels.under(training, inputs), boosting.parameters(seed), FOLD_TREES, missing_tables_share=0.0
        )
        found[fold == k] = boosting.margins(forest, levels.columns_for(data.rows(fold == k), inputs))
    return found


def _steps(environment: dict[str, str], log: EventLog, directory: Path, folders: tuple[Path, Path], seed: int) -> int:
    mapping = directory / "ieee.toml"
    _produce(environment, log, folders[0], mapping)
    trained = {}
    for name, features in (("plain", "standard"), ("own", "standard,own")):
        options = ["--name", name, "--features", features, "--output", str(directory / name), "--seed", str(seed)]
        window = ["--warm-up-days", "3", "--gap-days", "7", "--known-by", "event", "--no-plots"]
        command(environment, "train", *options, *window, "--register", "--reason", "a comparison")
        trained[name] = (directory / name / "model.txt").read_bytes()
        card = msgspec.json.decode((directory / name / "card.json").read_bytes())
        print(f"  {name}: {card['metrics']['auc_roc']:.4f} AUC on its own test period; {_columns(card)}")
    command(environment, "model", "promote", "own-1.0.0", "--reason", "reads our columns")
    before = decided(log)
    took = _produce(environment, log, folders[1], mapping)
    seen = _seen(log, before)
    labels = _labels(folders[1], seen)
    plain = wiring.load_scorer(trained["plain"], "plain-1.0.0", _digest(trained["plain"]))
    _compare(seen.accounts, seen.margins, plain.margins(seen.features), labels, seed)
    print(f"{len(seen.ids):,} payments of {_bytes(log):,.0f} bytes decided in {took:.1f} s after they were sent")
    summary = msgspec.json.decode(command(environment, "replay", "--verify", "--json", "--max-late", "1"))
    print(f"{summary['decisions']:,} decisions, {summary['identical']:,} identical")
    return 0 if summary["identical"] == summary["decisions"] and seen.models == {"own-1.0.0"} else 1


def _columns(card: dict[str, Any]) -> str:
    columns = card.get("columns")
    if columns is None:
        return f"{spec.WIDTH} columns"
    return f"{columns['read']} columns, {len(columns['own'])} own numbers and {len(columns['categories'])} categories"


def _produce(environment: dict[str, str], log: EventLog, folder: Path, mapping: Path) -> float:
    """Send a folder, and wait until all of it is decided; the seconds that took after sending."""
    target = decided(log) + sum(1 for _ in (folder / wide.TRANSACTION).open()) - 1
    dataset = ["--dataset", "custom", str(folder), "--mapping", str(mapping)]
    command(environment, "produce", *dataset, "--labels", "all", "--flush-feedback")
    return wait_for(lambda: decided(log) >= target, "the payments to be decided", 900.0)


def _seen(log: EventLog, before: int) -> Seen:
    """The newest decisions, those after the first `before`, of a program with own columns."""
    found: list[tuple[str, str, float, bytes, str]] = []
    promoted = next(e.position for e in reversed(control_stream.history(log)) if "Deployed" in type(e.event).__name__)
    for p in range(control_stream.identity_of(log).partitions):
        for transactions, scores in decision_pages(log, p):
            for sent, made in zip(transactions, scores, strict=True):
                score = decode_score(made.payload)
                if score.control_position >= promoted:
                    t = decode_transaction(sent.payload)
                    found.append((t.transaction_id, t.account_id, score.margin, score.features, score.model))
    assert len(found) == decided(log) - before
    vectors = np.array([packing.vector(row[3])[: spec.WIDTH] for row in found])
    return Seen(
        [row[0] for row in found],
        [row[1] for row in found],
        np.array([row[2] for row in found]),
        np.ascontiguousarray(vectors),
        {row[4] for row in found},
    )


def _labels(folder: Path, seen: Seen) -> NDArray[np.bool_]:
    table = pl.read_csv(folder / wide.TRANSACTION, columns=["TransactionID", "isFraud"], infer_schema=False)
    fraud = dict(zip(table["TransactionID"].to_list(), table["isFraud"].to_list(), strict=True))
    return np.array([fraud[each] == "1" for each in seen.ids])


def _compare(
    accounts: Sequence[str],
    own: NDArray[np.float64],
    plain: NDArray[np.float64],
    labels: NDArray[np.bool_],
    seed: int,
) -> None:
    """Print both AUCs and their difference with intervals: accounts are drawn, so that their payments stay together."""
    random = np.random.Generator(np.random.PCG64(seed))
    _, account = np.unique(np.array(accounts), return_inverse=True)
    order = np.argsort(account, kind="stable")
    starts = np.searchsorted(account[order], np.arange(account.max() + 2))
    draws = []
    for _ in range(DRAWS):
        chosen = random.integers(0, account.max() + 1, account.max() + 1)
        rows = np.concatenate([order[starts[a] : starts[a + 1]] for a in chosen.tolist()])
        draws.append((_auc(labels[rows], own[rows]), _auc(labels[rows], plain[rows])))
    with_own, without = np.array(draws).T
    print(f"{len(labels):,} payments, {labels.sum():,} frauds, {account.max() + 1:,} accounts (95 % intervals):")
    for name, value, sample in (
        ("AUC with own columns", _auc(labels, own), with_own),
        ("AUC of standard@1 alone", _auc(labels, plain), without),
        ("difference", _auc(labels, own) - _auc(labels, plain), with_own - without),
    ):
        low, high = np.quantile(sample, [0.025, 0.975])
        print(f"  {name:<34}{value:.4f}  ({low:.4f} … {high:.4f})")


def _auc(labels: NDArray[np.bool_], margins: NDArray[np.float64]) -> float:
    return float(metrics.roc_auc(labels, margins))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _bytes(log: EventLog) -> float:
    """The mean size of some payments in the log."""
    sizes: Sequence[int] = [len(e.payload) for e in next(iter(decision_pages(log, 0)))[0]]
    return float(np.mean(sizes))


if __name__ == "__main__":
    main()
