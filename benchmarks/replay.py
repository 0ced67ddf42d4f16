"""How fast decisions are verified: `sentinel replay --verify`, from a hot log and from its archive.

    python -m benchmarks.replay [synthetic | handbook PATH] [--limit N] [--partitions N] [--hot-only] [--json]

The stream is decided offline with the shipped model into a local Valkey server. Then the command runs as a user would
run it, with two processes: features, forest, rules and policy again, every score and alert compared byte for byte. Then
everything is archived and trimmed, and it runs again.

`decisions_per_s` is by the command's own clock, which starts once its libraries are loaded. `cpu_us` is the total CPU
time per decision, including startup and the log server. `decisions_per_s_of_two_free_cores` = 2,000,000 / cpu_us is
what two otherwise idle cores would do: on a busy machine the wall time says more about the other processes.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import redis

from benchmarks.archive import decide
from benchmarks.arguments import chosen_source, source_parser
from console.stack import Valkey
from core.log.redis_streams import RedisLog
from sources.source import Source

PREFIX = "bench"


def sentinel(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """Run `sentinel ARGUMENTS --json`. Returns the object that it prints; exits with its code if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "console.cli", *arguments, "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        sys.exit(done.returncode)
    found: dict[str, Any] = msgspec.json.decode(done.stdout.strip().splitlines()[-1])
    return found


def verified(environment: dict[str, str], client: Any) -> dict[str, float]:
    """One run of `replay --verify`. Exits unless every decision is identical."""
    before = _children_s() + _server_s(client)
    found = sentinel(environment, "replay", "--verify", "--jobs", "2")
    cpu_us = (_children_s() + _server_s(client) - before) / found["decisions"] * 1e6
    if found["identical"] != found["decisions"] or found["differences"]:
        sys.exit(f"{found['decisions']:,} decisions, {found['identical']:,} identical")
    return {
        "decisions": float(found["decisions"]),
        "decisions_per_s": found["decisions"] / found["seconds"],
        "cpu_us": cpu_us,
        "decisions_per_s_of_two_free_cores": 2e6 / cpu_us,
    }


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _server_s(client: Any) -> float:
    info = client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def run(source: Source, partitions: int, hot_only: bool) -> dict[str, dict[str, float]]:
    """The figures, hot and archived."""
    figures = {}
    with tempfile.TemporaryDirectory(prefix="sentinel-bench-") as folder:
        directory = Path(folder)
        with Valkey(directory / "valkey", appendfsync="no") as server:
            client = redis.Redis(server.host, server.port)
            log = RedisLog(client, PREFIX)
            decide(source, log, partitions)
            environment = {
                **os.environ,
                "REDIS_HOST": server.host,
                "REDIS_PORT": str(server.port),
                "SENTINEL_LOG_PREFIX": PREFIX,
            }
            figures["hot"] = verified(environment, client)
            if not hot_only:
                environment["SENTINEL_ARCHIVE"] = str(directory / "archive")
                sentinel(environment, "archive", "--hot-hours", "0", "--trim")
                figures["archived"] = verified(environment, client)
            log.close()
    return figures


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = source_parser(__doc__, 300_000, 4)
    parser.add_argument("--hot-only", action="store_true", help="skip the archive, which takes longer to write")
    arguments = parser.parse_args()
    source = chosen_source(arguments)
    figures = run(source, arguments.partitions, arguments.hot_only)
    if arguments.json:
        print(msgspec.json.encode(figures).decode())
        return
    print(f"{'':<36}" + "".join(f"{kind:>14}" for kind in figures))
    for name in figures["hot"]:
        print(f"{name:<36}" + "".join(f"{found[name]:>14,.1f}" for found in figures.values()))


if __name__ == "__main__":
    main()
