"""Compiles the kernels beforehand into a folder, for an image: `python -m console.prebuilt FOLDER`.

Decides and replays a few synthetic payments in memory with the shipped model, which compiles what a worker, a replay
and an audit use. What other commands use on top is compiled by the process that needs it. Set SENTINEL_KERNELS to the
folder; it serves machines with the processor that it was compiled for.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

TRANSACTIONS = 2_000


def build(folder: Path) -> int:
    """Compile into the folder, which must not exist; returns the number of files. Owned by this user, readable by all,
    writable by nobody else. To be called before any kernel is loaded.
    """
    with tempfile.TemporaryDirectory(prefix="sentinel-kernels-") as temporary:
        os.environ["XDG_CACHE_HOME"] = temporary
        os.environ.pop("SENTINEL_KERNELS", None)
        use()
        from core.jit_cache import KEY, base_directory

        shutil.copytree(base_directory(), folder, ignore=shutil.ignore_patterns(KEY, "lock"))
    files = 0
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        files += path.is_file()
    return files


def use() -> None:
    """Decide, replay and explain."""
    from console import wiring
    from core import control_stream
    from core.context import Resolver
    from core.events import Control, ModelDeployed, ModelRegistered
    from core.log.memory import MemoryLog
    from core.replay import Timeline
    from core.verification import verify
    from ingest.offline import OfflineIngest
    from models.shipped import shipped_baseline
    from sources.catalogue import open_source
    from sources.synthetic import SyntheticConfig

    log = MemoryLog()
    content, card = shipped_baseline()
    named: dict[str, Any] = {
        "occurred_at": 5,
        "actor": "build",
        "name": "baseline",
        "version": "1.0.0",
        "digest": log.put_blob(content),
    }
    start: list[Control] = [
        ModelRegistered(**named, spec=1, metrics=card["metrics"]),
        ModelDeployed(**named, reason="build"),
    ]
    resolver = Resolver(log.get_blob, wiring.load_scorer)
    ingest = OfflineIngest(log, resolver, partitions=1, start=start)
    config = SyntheticConfig(transactions=TRANSACTIONS, days=20.0, accounts=60, fraud_rate=0.05, seed=3)
    for chunk in open_source("synthetic", labels="all", flush_feedback=True, synthetic=config).records():
        ingest.feed(chunk)
    ingest.flush()
    verify(log, 0, log.head(0), Timeline(control_stream.history(log), Resolver(log.get_blob, wiring.load_scorer)))


def main() -> None:
    """See the module's head."""
    if len(sys.argv) != 2 or Path(sys.argv[1]).exists():
        print("usage: python -m console.prebuilt FOLDER, which must not exist", file=sys.stderr)
        sys.exit(2)
    print(f"{build(Path(sys.argv[1]))} files in {sys.argv[1]}")


if __name__ == "__main__":
    main()
