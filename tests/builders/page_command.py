"""`sentinel` as a page's shell blocks call it (`tests.builders.shell_pages`): the program itself, run as it stands.

What runs until Ctrl-C is started in the background instead, and the block goes on once it is ready, as a reader goes on
in another terminal. At the end of the block it gets SIGINT, and must end in order. Run as a script by a bare
interpreter, so it imports nothing of the project.

    page_command.py COMMAND …      # `sentinel COMMAND …`
    page_command.py --end          # end what was started, the newest first; exit code 1 if something did not end well
    page_command.py --end --all    # also what was started with SHELL_PAGE_GOES_ON in the environment
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

FOLLOWERS = Path(os.environ.get("SHELL_PAGE_FOLLOWERS", "."))
READY_SECONDS_MAX = 300.0
END_SECONDS_MAX = 120.0
ENDED_WELL = (0, 130, -signal.SIGINT)  # a service finishes what it has begun; all else is interrupted, 130 to a shell
PROGRAM = os.environ.get("SHELL_PAGE_PROGRAM")  # of a test of this file itself
SENTINEL = [sys.executable, PROGRAM] if PROGRAM else [sys.executable, "-m", "console.cli"]


def runs_on(arguments: list[str]) -> bool:
    """Whether this command line runs until Ctrl-C."""
    words = [word for word in arguments if not word.startswith("-")]
    if "--help" in arguments or not words:
        return False
    if words[0] in ("run", "serve", "ingest", "sample") or {"--follow", "-f", "--console"} & set(arguments):
        return True
    return words == ["respond"]


def start(arguments: list[str]) -> None:
    """Start a follower, and return once it is ready. Exits with its code if it ends before."""
    FOLLOWERS.mkdir(parents=True, exist_ok=True)
    number = len(list(FOLLOWERS.glob("*.json")))
    record, log = FOLLOWERS / f"{number:03}.json", FOLLOWERS / f"{number:03}.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = dict(os.environ)
    if arguments[0] != "run":  # it chooses ports for its processes
        environment["SENTINEL_METRICS_PORT"] = str(port)
    keeper = [sys.executable, "-I", "-S", __file__, "--keep", str(record), str(log), *arguments]
    with open(os.devnull, "r+b") as nothing:
        subprocess.Popen(keeper, stdin=nothing, stdout=nothing, stderr=nothing, env=environment, start_new_session=True)
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline:
        known = json.loads(record.read_text()) if record.exists() else {}
        if "code" in known:
            sys.stdout.write(log.read_text(errors="replace"))
            sys.exit(known["code"] or 70)
        if known and is_ready(arguments, port, log):
            sys.stdout.write(log.read_text(errors="replace"))
            return
        time.sleep(0.05)
    sys.stdout.write(log.read_text(errors="replace"))
    sys.exit(f"`sentinel {' '.join(arguments)}` was not ready within {READY_SECONDS_MAX:.0f} s")


def is_ready(arguments: list[str], port: int, log: Path) -> bool:
    """Whether the follower does what it is there for."""
    if arguments[0] in ("run", "demo"):
        return "Ctrl-C" in log.read_text(errors="replace")
    if arguments[0] in ("logs", "alerts") or "--dry-run" in arguments:  # no port: a first line, or a while without one
        return time.time() - log.stat().st_ctime > 3.0 or bool(log.read_text(errors="replace"))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2.0) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def keep(record: Path, log: Path, arguments: list[str]) -> None:
    """Run a follower to its end, and record its process ID, then its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it, and so would the follower
    with log.open("wb") as output:
        child = subprocess.Popen([*SENTINEL, *arguments], stdout=output, stderr=subprocess.STDOUT)
    known = {"pid": child.pid, "command": arguments, "goes_on": "SHELL_PAGE_GOES_ON" in os.environ}
    write(record, known)
    write(record, {**known, "code": child.wait()})


def write(record: Path, value: object) -> None:
    """Replace a record as a whole."""
    new = record.with_suffix(".new")
    new.write_text(json.dumps(value))
    new.replace(record)


def end(*, everything: bool) -> int:
    """Interrupt followers that run, the newest first, and say what did not end as it should."""
    worst = 0
    for record in sorted(FOLLOWERS.glob("*.json"), reverse=True):
        known = json.loads(record.read_text())
        ended = record.with_suffix(".ended")
        if ended.exists() or (known["goes_on"] and not everything):
            continue
        if "code" not in known:
            os.kill(known["pid"], signal.SIGINT)
        deadline = time.monotonic() + END_SECONDS_MAX
        while "code" not in known and time.monotonic() < deadline:
            time.sleep(0.05)
            known = json.loads(record.read_text())
        said = record.with_suffix(".log").read_text(errors="replace")
        if "code" not in known:
            os.kill(known["pid"], signal.SIGKILL)
        if known.get("code") not in ENDED_WELL or "Traceback" in said:
            worst = 1
            name = f"sentinel {' '.join(known['command'])}"
            sys.stderr.write(f"`{name}` ended with {known.get('code', 'nothing, and was killed')}:\n{said[-3000:]}\n")
        ended.touch()
    return worst


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["--end"]:
        sys.exit(end(everything="--all" in given))
    if given[:1] == ["--keep"]:
        keep(Path(given[1]), Path(given[2]), given[3:])
    elif runs_on(given):
        start(given)
    else:
        os.execv(sys.executable, [*SENTINEL, *given])
