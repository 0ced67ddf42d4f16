"""A small bank on this machine: a local stack, a worker, a month of synthetic payments, and the web console.

Tests of the console and its pictures (`tests.builders.pictures`) start from it; `tests.builders.bank_life` fills its
pages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec

from console import wiring
from console.api import users
from console.api.users import UserFile
from console.service import Service, wait_for_partitions
from console.stack import LocalStack, free_port
from core.events import Transaction
from core.log.base import EventLog
from core.settings import Settings
from ingest import kafka_client

PASSWORD = "correct horse battery"
PARTITIONS = 2
DAY_S = 86_400
DAYS = 30
DRIFT_AT = 0.7
PEOPLE = {
    "ann": ["analyst", "auditor", "rule_author"],
    "bob": ["publisher", "analyst", "auditor"],
    "cho": ["publisher"],
    "eve": ["viewer"],
    "root": ["admin"],
}


class Bank(NamedTuple):
    """A console with its log. directory: where its files are. before: the log's cut before anybody acted."""

    url: str
    settings: Settings
    log: EventLog
    directory: Path
    before: str = ""

    def session(self, name: str) -> httpx.Client:
        """A client of the API that is logged in."""
        client = httpx.Client(base_url=self.url, timeout=60.0)
        client.post("/v1/login", json={"name": name, "password": PASSWORD}).raise_for_status()
        return client

    def pay(self, number: int, **fields: Any) -> Transaction:
        """Send a payment that is received now."""
        now = int(time.time() * 1000)
        payment = Transaction(
            **{"transaction_id": f"live-{number}-{now}", "amount": 99.5, "occurred_at": now, "currency": "EUR"} | fields
        )
        producer = kafka_client.producer(self.settings)
        producer.produce(
            self.settings.transactions_topic, msgspec.json.encode(payment), key=payment.account_id.encode()
        )
        assert producer.flush(10.0) == 0
        return payment

    def service(self, name: str, *arguments: str) -> Service:
        """A `sentinel` command on this bank; leave its context to stop it."""
        return Service(name, list(arguments), self.settings, self.directory)

    def run(self, name: str, *arguments: str, seconds: float = 120.0) -> str:
        """Run a `sentinel` command on this bank to its end; what it printed. Fails if its exit code is not 0."""
        with self.service(name, *arguments) as command:
            code = command.wait(seconds)
        said = command.log_path.read_text()
        assert code == 0, said[-2000:]
        return said


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The condition's first true value; fails if there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)
    return found


@contextmanager
def bank(
    directory: Path, *, transactions: int = 6000, accounts: int = 150, drift: bool = False, port: int | None = None
) -> Iterator[Bank]:
    """A bank with 30 days of payments until now, decided, whose console is ready. drift: behaviour changes
    after 21 days. Stops on leaving."""
    file = UserFile(directory / "users.json")
    for name, roles in PEOPLE.items():
        users.add(file, name, roles, 1, PASSWORD)
    with ExitStack() as stack:
        servers = stack.enter_context(LocalStack(directory))
        s = wiring.settings(
            None,
            kafka_servers=servers.kafka_servers,
            redis_host=servers.redis_host,
            redis_port=servers.redis_port,
            redis_cluster=False,
            partitions=PARTITIONS,
            snapshot_directory=str(directory / "snapshots"),
        )
        kafka_client.create_topics(s, [s.transactions_topic, s.feedback_topic, s.dead_letter_topic])
        log = wiring.open_log(s)
        stack.callback(log.close)
        port = free_port() if port is None else port
        found = Bank(f"http://127.0.0.1:{port}", s, log, directory)
        # Before the worker starts: one that keeps up with a stream sent at full speed takes verdicts before payments.
        drifting = ["--drift-at", str(DRIFT_AT)] if drift else []
        found.run("history", "produce", *history(transactions, accounts), *drifting)
        stats = directory / "worker.json"
        worker = stack.enter_context(found.service("worker", "ingest", "--stats-file", str(stats)))
        wait_for_partitions(worker, stats, PARTITIONS, 120.0)
        serve = ["serve", "--port", str(port), "--users", str(directory / "users.json")]
        serve += ["--checkpoint-directory", str(directory / "projections")]
        stack.enter_context(found.service("serve", *serve))
        until(lambda: sum(log.length(p, "scores") for p in range(PARTITIONS)) >= transactions, 240.0)
        until(lambda: is_ready(found.url), 60.0)
        with closing(found.session("ann")) as client:
            yield found._replace(before=client.get("/v1/stats").json()["as_of"])


def history(transactions: int, accounts: int) -> list[str]:
    """The options of `sentinel produce` for the 30 days until an hour and a half ago."""
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - DAYS * DAY_S - 5400))
    return ["--start", start, "--days", str(DAYS), "--transactions", str(transactions), "--accounts", str(accounts)]


def is_ready(url: str) -> bool:
    """Whether the console answers and its read models have caught up."""
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False
