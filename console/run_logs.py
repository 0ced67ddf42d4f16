"""The log files of a run: where they are, how long they may become, and reading them while they grow.

Every process appends to its file through a descriptor that it keeps, so a file that has become too long is copied and
emptied, not renamed. What is written between the two is lost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from console.processes import PROCESSES
from core.errors import BadInput
from core.files import last_lines

SUPERVISOR = "supervisor"
"""What `sentinel up` itself says."""
SERVERS = ("valkey", "broker")
BYTES_MAX = 10 * 2**20
"""Of a log file; as much again is kept beside it."""
POLL_S = 0.2


def log_files(folder: Path) -> dict[str, Path]:
    """Every log file that there is, by the name of its process."""
    found = {SUPERVISOR: folder / f"{SUPERVISOR}.log"}
    found |= {name: folder / name / f"{name}.log" for name in SERVERS}
    found |= {process.name: folder / f"{process.name}.log" for process in PROCESSES}
    return {name: file for name, file in found.items() if file.is_file()}


def chosen_files(folder: Path, names: list[str]) -> dict[str, Path]:
    """The files of these processes, of all for no name. Raises BadInput if one has none."""
    found = log_files(folder)
    if not found:
        raise BadInput(f"{folder} holds no logs: `sentinel up` writes them; another folder is given with --data")
    for name in names:
        if name not in found:
            nearest = get_close_matches(name, found, 1)
            meant = f"; did you mean {nearest[0]}?" if nearest else ""
            raise BadInput(f"{name!r} has no log here{meant} (there are: {', '.join(found)})")
    return {name: found[name] for name in names or found}


def shorten(file: Path) -> None:
    """Empty a file that is too long, after a copy to FILE.1; a full disk leaves it as it is."""
    with contextlib.suppress(OSError):
        if file.stat().st_size > BYTES_MAX:
            shutil.copy(file, file.with_name(f"{file.name}.1"))  # with its permissions
            os.truncate(file, 0)


def follow(files: Mapping[str, Path], ends: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """(name, line) of each complete line that is added from these positions on; ("", "") if there is none now."""
    places, parts = dict(ends), dict.fromkeys(files, b"")
    while True:
        for name, file in files.items():
            with contextlib.suppress(FileNotFoundError), file.open("rb") as opened:
                if opened.seek(0, os.SEEK_END) < places[name]:
                    places[name], parts[name] = 0, b""  # it was emptied
                opened.seek(places[name])
                added = opened.read()
                places[name] += len(added)
                *lines, parts[name] = (parts[name] + added).split(b"\n")
                for line in lines:
                    yield name, line.decode(errors="replace")
        yield "", ""


def print_logs(files: Mapping[str, Path], count: int, *, following: bool) -> None:
    """Print the last lines of each file, and with `following` what is added, until interrupted."""
    width = max(map(len, files)) if len(files) > 1 else 0

    def show(name: str, line: str) -> None:
        print(f"{name:<{width}} | {line}" if width else line, flush=True)

    ends = {}
    for name, file in files.items():
        lines, ends[name] = last_lines(file, count)
        for line in lines:
            show(name, line)
    if not following:
        return
    for name, line in follow(files, ends):
        if name:
            show(name, line)
        else:
            time.sleep(POLL_S)


def last_error(log: Path) -> str:
    """What the run in this log ended with; "" if it did not end with an error."""
    said = last_lines(log, 1)[0]
    return said[0].removeprefix("sentinel: ") if said and said[0].startswith("sentinel: ") else ""
