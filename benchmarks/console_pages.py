"""How long the console's pages wait: what each asks for when it opens, on a log of two million decisions, as now and as
of past moments.

    python -m benchmarks.console_pages --directory /var/tmp/pages         # builds the log there if it is not there yet
    python -m benchmarks.console_pages --directory /var/tmp/pages --json

The log: a year of the synthetic stream, decided by the shipped model through the live path (`ingest.offline`), with
verdicts of fraud; in a Valkey server of its own. It is kept, so that the next run only measures.

`sentinel serve` runs as its own process. A page asks all its requests at once, as a browser does; its time is that of
the slowest. Past moments are random and asked once ("past"), and then once more ("again": what is kept helps). First
come two rounds that don't count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
import numpy as np

from console import wiring
from console.api import users
from console.api.users import UserFile
from console.bench.cpu import process_s
from console.service import Service
from console.stack import Valkey, free_port
from core.context import Resolver
from core.events import Control, ModelDeployed, ModelRegistered
from core.log.base import EventLog
from core.settings import Settings
from core.times import DAY_MS
from ingest import offline
from models.shipped import shipped_baseline
from sources.synthetic import SyntheticConfig, SyntheticStream

PARTITIONS = 12
DAYS = 365.0
ACCOUNTS = 60_000
BATCH = 500
START_MS = 1_735_689_600_000  # 2025-01-01
READY_S = 900.0
Requests = list[tuple[str, dict[str, Any]]]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Subject(NamedTuple):
    """What the pages are about: an open case, its account, and its newest decision."""

    case: str
    account: str
    place: str


def pages(about: Subject) -> dict[str, Requests]:
    """What each page asks for when it opens (`console/web/static/pages`), but for System's checks and what-ifs."""
    case, account, place = (quote(text, safe="") for text in about)
    _, card = shipped_baseline()
    performance = f"/v1/models/{card['name']}-{card['version']}/performance"
    rules: Requests = [("/v1/rules", {})]
    declined = {"amount_min": 500, "decision": "decline"}
    return {
        "live": [("/v1/live", {}), ("/v1/decisions", {"alerts": "true", "limit": 20}), *rules],
        "queue": [("/v1/cases", {"limit": 50}), *rules],
        "queue by amount": [("/v1/cases", {"limit": 200, "order": "amount"}), *rules],
        "queue, closed": [("/v1/cases", {"limit": 50, "stage": "resolved"}), *rules],
        "case": [
            (f"/v1/cases/{case}", {}),
            ("/v1/decisions", {"account": about.account, "limit": 500}),
            (f"/v1/accounts/{account}", {}),
            (f"/v1/accounts/{account}/related", {}),
            (f"/v1/decisions/{place}/audit", {}),
            *rules,
        ],
        "decision": [(f"/v1/decisions/{place}/audit", {}), ("/v1/programs", {})],
        "account": [
            (f"/v1/accounts/{account}", {}),
            ("/v1/decisions", {"account": about.account, "limit": 500}),
            ("/v1/cases", {"account": about.account, "stage": "all", "limit": 100}),
            (f"/v1/accounts/{account}/related", {}),
        ],
        "search": [("/v1/decisions", {**declined, "limit": 200}), ("/v1/summary", declined)],
        "search, all": [("/v1/decisions", {"limit": 200}), ("/v1/summary", {})],
        "rules": [
            *rules,
            *((f"/v1/{name}", {}) for name in ("programs", "models", "thresholds", "proposals", "rules/hits")),
        ],
        "lists": [("/v1/lists", {})],
        "rings": [("/v1/rings", {"limit": 100}), (f"/v1/accounts/{account}/related", {})],
        "models": [("/v1/models", {}), ("/v1/shadow", {}), (performance, {"start": START_MS})],
        "experiments": [("/v1/experiments", {}), ("/v1/programs", {}), ("/v1/models", {})],
        "drift": [("/v1/drift", {})],
        "audit": [("/v1/control", {"limit": 500})],
        "system": [("/v1/stats", {})],
    }


REPLAY = "/v1/decisions/{place}/replay"
"""What a button asks for; the same at every moment."""


def build(directory: Path, decisions: int) -> None:
    """Decide the stream into a Valkey server in the directory, unless it was done before."""
    done = directory / f"built-{decisions}"
    if done.exists():
        return
    with Valkey(directory / "valkey", appendfsync="no") as server:
        log = wiring.open_hot(_settings(server))
        if log.control_head():
            sys.exit(f"{directory} holds another log, or half of one: remove it")
        content, card = shipped_baseline()
        model = {"occurred_at": 1, "actor": "bench", "name": card["name"], "version": card["version"]}
        digest = log.put_blob(content)
        start: list[Control] = [
            ModelRegistered(**model, digest=digest, spec=card["spec"]),
            ModelDeployed(**model, digest=digest),
        ]
        offline.BATCH = BATCH
        worker = offline.OfflineIngest(
            log, Resolver(log.get_blob, wiring.load_scorer), partitions=PARTITIONS, start=start
        )
        config = SyntheticConfig(
            transactions=decisions, days=DAYS, accounts=ACCOUNTS, fraud_rate=0.005, seed=11, start=START_MS
        )
        began = time.monotonic()
        fed = 0
        for chunk in SyntheticStream(config).records():
            worker.feed(chunk)
            fed += len(chunk)
            if fed % (50 * len(chunk)) < len(chunk):
                print(f"{fed:,} records, {fed / (time.monotonic() - began):,.0f} a second", file=sys.stderr)
        worker.flush()
        log.close()
    done.write_text("")


def _settings(server: Valkey) -> Settings:
    return Settings(redis_host=server.host, redis_port=server.port, partitions=PARTITIONS)


class Answer(NamedTuple):
    """Milliseconds, status, and length of the body in bytes."""

    ms: float
    status: int
    length: int


class Client:
    """A browser's worth of connections to the API."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self._free: list[Connection] = []

    async def get(self, path: str, params: dict[str, Any]) -> tuple[Answer, bytes]:
        """One request on a connection of its own or a free one."""
        target = f"{path}?{urlencode(params)}" if params else path
        began = time.perf_counter()
        connection = await self._connection()
        reader, writer = connection
        writer.write(f"GET {target} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {self._token}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
        body = await reader.readexactly(length)
        ms = (time.perf_counter() - began) * 1000
        self._free.append(connection)
        return Answer(ms, int(head[9:12]), length), body

    async def _connection(self) -> Connection:
        """A free one that the server has not closed yet, or a new one, which a browser would have to make, too."""
        while self._free:
            connection = self._free.pop()
            if not connection[0].at_eof():
                return connection
            connection[1].close()
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def page(self, requests: Requests, as_of: str | None) -> list[Answer]:
        """All requests of a page at once."""
        moment = {} if as_of is None else {"as_of": as_of}
        answers = await asyncio.gather(*(self.get(path, {**params, **moment}) for path, params in requests))
        return [answer for answer, _ in answers]


class Row(NamedTuple):
    """A page's figures, ms. slowest: the request that took longest at p95. errors: answers other than 200."""

    page: str
    when: str
    p50_ms: float
    p95_ms: float
    slowest: str
    slowest_p95_ms: float
    kilobytes: float
    errors: int


def _row(page: str, when: str, requests: Requests, rounds: list[list[Answer]]) -> Row:
    whole = [max(answer.ms for answer in answers) for answers in rounds]
    each = {
        path: float(np.percentile([answers[i].ms for answers in rounds], 95)) for i, (path, _) in enumerate(requests)
    }
    slowest = max(each, key=lambda path: each[path])
    return Row(
        page,
        when,
        round(float(np.percentile(whole, 50)), 1),
        round(float(np.percentile(whole, 95)), 1),
        slowest,
        round(each[slowest], 1),
        round(sum(answer.length for answer in rounds[0]) / 1000, 1),
        sum(answer.status != 200 for answers in rounds for answer in answers),
    )


async def measure(port: int, token: str, rounds: int, log: EventLog, only: set[str]) -> list[Row]:
    """Every page, as now and as of past moments."""
    client = Client(port, token)
    _, body = await client.get("/v1/cases", {"limit": 1, "order": "severity"})
    held = msgspec.json.decode(body)["cases"][0]
    case, alert = held["case"], held["case"]["alerts"][-1]
    about = Subject(case["case_id"], case["account_id"], f"p{held['partition']:02d}:{alert['position']}")
    opened, last = alert["recorded_at"] + DAY_MS, START_MS + int(DAYS) * DAY_MS
    chosen = random.Random(7)
    found: list[Row] = []
    for page, requests in pages(about).items():
        if only and page not in only:
            continue
        earliest = opened if page in ("case", "account", "decision", "rings") else START_MS + 30 * DAY_MS
        moments = [str(chosen.randrange(min(earliest, last - DAY_MS), last)) for _ in range(rounds + 2)]
        for when, at in (("now", [None] * (rounds + 2)), ("past", moments), ("again", moments)):
            taken = [await client.page(requests, moment) for moment in at][2:]
            found.append(_row(page, when, requests, taken))
            print(json.dumps(found[-1]._asdict()), file=sys.stderr)
    if not only or "replay" in only:
        requests = [(REPLAY.format(place=quote(about.place, safe="")), {})]
        taken = [await client.page(requests, None) for _ in range(rounds + 2)][2:]
        found.append(_row("replay", "now", requests, taken))
    return found


async def _ready(port: int) -> bool:
    try:
        answer, _ = await Client(port, "").get("/readyz", {})
    except OSError:
        return False
    return answer.status == 200


def run(directory: Path, decisions: int, rounds: int, only: set[str]) -> dict[str, Any]:
    """Build, serve, measure."""
    build(directory, decisions)
    with ExitStack() as stack:
        server = stack.enter_context(Valkey(directory / "valkey"))
        settings = _settings(server)
        log = wiring.open_hot(settings)
        stack.callback(log.close)
        file = UserFile(directory / "users.json")
        users.add(file, "bench", list(users.PERSON), 0)
        token = users.new_token(file, "bench", int(time.time() * 1000), days=1)
        port = free_port()
        files = ["--users", str(file.path), "--checkpoint-directory", str(directory / "projections")]
        service = stack.enter_context(Service("serve", ["serve", "--port", str(port), *files], settings, directory))
        began = time.monotonic()
        while not asyncio.run(_ready(port)):
            service.check()
            if time.monotonic() - began > READY_S:
                sys.exit(f"not ready within {READY_S:.0f} s; {service.last_words}")
            time.sleep(0.2)
        ready_s = time.monotonic() - began
        rows = asyncio.run(measure(port, token, rounds, log, only))
        assert service.pid is not None
        return {
            "decisions": sum(log.length(p, "scores") for p in range(PARTITIONS)),
            "ready_s": round(ready_s, 1),
            "server_mb": _resident_mb(service.pid),
            "server_cpu_s": process_s(service.pid),
            "pages": [row._asdict() for row in rows],
        }


def _resident_mb(pid: int) -> float | None:
    """Resident memory; None where /proc does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)


def main() -> None:
    """Parse the arguments and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="where the log is kept")
    parser.add_argument("--decisions", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--page", action="append", default=[], help="only this page; may be repeated")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = run(given.directory.resolve(), given.decisions, given.rounds, set(given.page))
    if given.json:
        print(json.dumps(found))
        return
    print({name: value for name, value in found.items() if name != "pages"})
    for row in found["pages"]:
        print("{page:<16} {when:<6} p50 {p50_ms:>8.1f} ms  p95 {p95_ms:>8.1f} ms  {kilobytes:>8.1f} kB  {slowest}"
              "{errors}".format(**{**row, "errors": f"  {row['errors']} errors" if row["errors"] else ""}))  # fmt: skip


if __name__ == "__main__":
    main()
