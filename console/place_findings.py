"""What is wrong on this machine: the vault, the directories that a worker writes to, its disk, and its metrics port."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError, URLError

from console import profiles
from console.direct_http import open_url
from console.log_options import DIRECTORY
from console.server_findings import Finding, Status
from core.files import make_private_folder
from core.log.archive.store import open_store
from core.settings import Settings
from ingest.vault import Vault, key_of, key_place, tokenises

TRIED_BYTES, TRIED_BYTES_MAX = 65_536, 16_777_216
"""What a directory must take to be writable: as much as its largest file, within these bounds."""
FREE_WARN, FREE_FAIL = 0.10, 0.03
"""Shares of a disk that must be free, unless it has FREE_ENOUGH bytes."""
FREE_ENOUGH = 20 * 2**30
ASK_S = 2.0


def vault_findings(s: Settings) -> Iterator[Finding]:
    """Whether this process can open the vault, and whether the vault's key is kept apart from it."""
    if not tokenises(s):
        return
    key = key_of(s)
    if not Path(s.vault).is_file():
        yield Finding(
            "vault",
            "ok",
            f"there is none yet at {s.vault}: the log's first worker makes it, with its key in {key_place(s)}",
        )
        return
    with closing(Vault(Path(s.vault), key)) as vault:
        status: Status = "ok" if key else "warn"
        remedy = "" if key else "sentinel vault new-key FILE, then sentinel vault rotate FILE (docs/privacy.md)"
        yield Finding(
            "vault",
            status,
            f"{s.vault} holds the keys of {vault.count:,} accounts; its own is in {key_place(s)}",
            remedy,
        )


def snapshot_findings(s: Settings) -> Iterator[Finding]:
    directory = Path(s.snapshot_directory)
    try:
        make_private_folder(directory)
        _try_writing(directory)
        yield Finding("snapshots", "ok", f"{directory} is writable")
    except OSError as error:
        yield Finding(
            "snapshots",
            "warn",
            f"{directory} is not writable ({error.strerror}): every start folds the whole log",
            "free space there, or set SENTINEL_SNAPSHOT_DIRECTORY to a directory that all workers share",
        )
        return
    if s.environment == "development":  # other profiles require it (console/profiles.py)
        for gap in profiles.folder_gaps(s):
            yield Finding("snapshots", "warn", gap.what, gap.remedy)


def archive_findings(s: Settings) -> Iterator[Finding]:
    """Of a local archive that has begun: an object store says by itself what it does not take."""
    store = open_store(s.archive) if s.archive else None
    if store is None or not store.local or not (directory := Path(str(store))).is_dir():
        return
    try:
        _try_writing(directory)
        yield Finding("archive", "ok", f"{directory} is writable")
    except PermissionError:
        return  # the archiver's user may write, and this one need not
    except OSError as error:
        yield Finding(
            "archive",
            "fail",
            f"{directory} takes no more ({error.strerror}): nothing is archived, so nothing can be trimmed from the log"
            " server's memory",
            "free space there; `sentinel archive` then goes on where it was",
        )


def _try_writing(directory: Path) -> None:
    """Write to a file that is gone afterwards: a disk that is full may still take a new and empty one. Raises
    OSError.
    """
    largest = max((entry.stat().st_size for entry in os.scandir(directory) if entry.is_file()), default=0)
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes(min(max(largest, TRIED_BYTES), TRIED_BYTES_MAX)))
        file.flush()
        os.fsync(file.fileno())


def disk_findings(s: Settings) -> Iterator[Finding]:
    """Of each disk that this machine's directories lie on, whether it is nearly full."""
    places = [s.snapshot_directory, str(DIRECTORY), s.vault if tokenises(s) else ""]
    store = open_store(s.archive) if s.archive else None
    places += [str(store)] if store is not None and store.local else []
    seen: set[int] = set()
    for place in filter(None, places):
        there = next(each for each in (Path(place).resolve(), *Path(place).resolve().parents) if each.exists())
        if (device := there.stat().st_dev) in seen:
            continue
        seen.add(device)
        total, _, free = shutil.disk_usage(there)
        if total and free < FREE_WARN * total and free < FREE_ENOUGH:
            bad: Status = "fail" if free < FREE_FAIL * total else "warn"
            said = f"the disk of {there} has {free / 2**30:.1f} GB free, {free / total:.0%} of it"
            yield Finding("disk", bad, said, f"free space there, before {place} can't be written")


def port_findings(s: Settings) -> Iterator[Finding]:
    """Whether something else than this system has the port of the metrics."""
    if not s.metrics_port or _is_free(s.metrics_host, s.metrics_port) or _has_our_metrics(s):
        return
    yield Finding(
        "metrics",
        "fail",
        f"port {s.metrics_port} of {s.metrics_host} is taken by another program: no worker can start here",
        "set SENTINEL_METRICS_PORT to a free port; each process of a machine needs one of its own",
    )


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _has_our_metrics(s: Settings) -> bool:
    host = "127.0.0.1" if s.metrics_host in ("", "0.0.0.0") else s.metrics_host
    try:
        with open_url(f"http://{host}:{s.metrics_port}/metrics", timeout=ASK_S) as answer:
            return b"sentinel_" in answer.read()
    except (HTTPError, URLError, OSError, ValueError):
        return False
