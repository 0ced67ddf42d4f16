"""Compares another commit's decisions with this checkout's on the same stream: features bit by bit, rules, decisions.

    python -m benchmarks.compare_decisions --against REV [--source PATH|synthetic] [--rows N] [--json]

Both checkouts decide the stream without Kafka (`ingest.offline`), with lists, reference tables and their own shipped
model, under the same fixed identity; every 997th payment is sent again with another amount. Prints how many decisions,
severities, margins and hits are equal, which features differ in how many rows, and which rules hit in only one of the
two, by the other rules that hit beside them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from console.service import ROOT

CHILD = Path(__file__).with_name("decisions_of.py")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare another commit's decisions with this checkout's.")
    parser.add_argument("--against", required=True)
    parser.add_argument("--source", default="synthetic")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sentinel-decisions-") as folder:
        other = checkout(arguments.against, Path(folder) / "other")
        theirs = decided(other, arguments, Path(folder) / "theirs")
        ours = decided(ROOT, arguments, Path(folder) / "ours")
        found = compared(theirs, ours)
    print(json.dumps(found) if arguments.json else text(found, arguments.against))


def checkout(revision: str, directory: Path) -> Path:
    """The files of a commit."""
    directory.mkdir()
    packed = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(directory, filter="data")
    return directory


class Decided:
    """What a checkout decided: columns in the order of partition and offset."""

    def __init__(self, directory: Path) -> None:
        rows = np.load(directory / "rows.npz")
        order = np.lexsort((rows["place"][:, 1], rows["place"][:, 0]))
        self.place = rows["place"][order]
        self.decisions, self.severities = rows["decisions"][order], rows["severities"][order]
        self.rules, self.margins = rows["rules"][order], rows["margins"][order]
        self.features = np.load(directory / "features.npy")[order]
        about = json.loads((directory / "about.json").read_text())
        self.spec: int = about["spec"]
        self.names: list[str] = about["names"]


def decided(root: Path, arguments: argparse.Namespace, directory: Path) -> Decided:
    directory.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, str(CHILD), arguments.source, str(arguments.rows), str(directory)]
    subprocess.run(command, cwd=root, env=environment, check=True)
    return Decided(directory)


def compared(theirs: Decided, ours: Decided) -> dict[str, Any]:
    """The counts."""
    if not np.array_equal(theirs.place, ours.place):
        sys.exit(f"they decided other payments: {len(theirs.place):,} and {len(ours.place):,}")
    shared = [name for name in ours.names if name in theirs.names]
    differing = {}
    for name in shared:
        a = theirs.features[:, theirs.names.index(name)].view(np.uint32)
        b = ours.features[:, ours.names.index(name)].view(np.uint32)
        if count := int(np.count_nonzero(a != b)):
            differing[name] = count
    return {
        "decisions": len(ours.place),
        "specs": [theirs.spec, ours.spec],
        "shared_features": len(shared),
        "only_here": [name for name in ours.names if name not in theirs.names],
        "features_differing": differing,
        "equal": {
            name: int(np.count_nonzero(getattr(theirs, name) == getattr(ours, name)))
            for name in ("decisions", "severities", "margins", "rules")
        },
        "rules": _hits(theirs.rules, ours.rules),
    }


def _hits(theirs: np.ndarray, ours: np.ndarray) -> dict[str, Any]:
    """By code: hits in both, only there, only here; for those of one alone, what else hit, the most frequent first."""
    pairs = Counter(zip(theirs.tolist(), ours.tolist(), strict=True))
    found: dict[str, Any] = {}
    for (a, b), count in pairs.items():
        there, here = set(filter(None, a.split(","))), set(filter(None, b.split(",")))
        for code in there | here:
            each = found.setdefault(code, {"both": 0, "only_there": 0, "only_here": 0, "beside": Counter()})
            where = "both" if code in there and code in here else "only_there" if code in there else "only_here"
            each[where] += count
            if where != "both":
                each["beside"][",".join(sorted((there & here) - {code})) or "nothing"] += count
    for each in found.values():
        each["beside"] = dict(each["beside"].most_common(5))
    return dict(sorted(found.items()))


def text(found: dict[str, Any], revision: str) -> str:
    count = found["decisions"]
    lines = [f"{count:,} decisions by {revision} (spec {found['specs'][0]}) and here (spec {found['specs'][1]})"]
    lines += [f"  {number:>12,} equal {name}" for name, number in found["equal"].items()]
    same = found["shared_features"] - len(found["features_differing"])
    lines.append(f"{same} of {found['shared_features']} shared features equal bit for bit in every row")
    lines += [f"  {name}: {number:,} rows differ" for name, number in found["features_differing"].items()]
    if found["only_here"]:
        lines.append(f"only here: {', '.join(found['only_here'])}")
    for code, each in found["rules"].items():
        lines.append(
            f"  {code:<22} {each['both']:>10,} in both, {each['only_there']:,} only there,"
            f" {each['only_here']:,} only here"
            + "".join(f"\n      beside {names}: {number:,}" for names, number in each["beside"].items())
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
