"""Responders end to end on the local stack: payment → Kafka → one worker → log → responder → webhook, outcome → log.

    webhook_ms      from the record of an alert in the log (its time is that of its batch) to the arrival of its webhook
    reaction_ms     within the responder: from reading an alert to acting on it (receivers excluded), upper bounds
    response_ms     by severity, from the record of an alert to the record of its outcome, as `sentinel respond status`
    takeover_s      from kill -9 of the only responder until another, already running, has sent the next webhook

Payments come at a steady rate; each is an alert with a block, a queue and two webhooks. Everything (broker, worker,
Valkey with fsync always, responders, receiver, sender) shares the machine's cores.

    python -m benchmarks.responders [--rate 20] [--seconds 30] [--json]
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.running import print_figures, wait_for
from console import wiring
from console.service import Service, wait_for_partitions
from console.stack import LocalStack, free_port
from core.codec import encode
from core.events import Transaction
from core.settings import Settings
from ingest import kafka_client
from ingest.producer import publish
from learners.governance.business import change_list
from learners.governance.control_events import Act
from projections.catalogue import ALL
from projections.engine.states import open_states
from projections.views.responses import responses_answer
from responders.settings import ACTIONS
from responders.switching import Why, switch_on
from sources.record import Record

WAIT_S = 60.0
NOTIFYING = ("notify_customer", "notify_fraud_team")


class Receiver:
    """A webhook receiver on loopback: when each message arrived, and the alert's time in it (epoch s)."""

    def __init__(self) -> None:
        self.arrived: list[tuple[float, float]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                now = time.time()
                sent = msgspec.json.decode(body)["timestamp"]
                outer.arrived.append((now, msgspec.json.decode(f'"{sent}"', type=datetime).timestamp()))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def run(rate: float, seconds: float) -> dict[str, Any]:
    """All figures. Leaves nothing running."""
    os.environ["BENCH_SECRET"] = "whsec_" + base64.b64encode(bytes(32)).decode()
    receiver = Receiver()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-bench-")))
        servers = stack.enter_context(LocalStack(directory / "stack"))
        settings = Settings(
            kafka_servers=servers.kafka_servers,
            redis_port=servers.redis_port,
            partitions=4,
            snapshot_directory=str(directory / "snapshots"),
        )
        kafka_client.create_topics(settings, ["transactions", "feedback", "transactions.rejects"])
        stats = directory / "stats.json"
        worker = stack.enter_context(Service("worker", ["ingest", "--stats-file", str(stats)], settings, directory))
        wait_for_partitions(worker, stats, 4, WAIT_S)
        log = wiring.open_log(settings)
        stack.callback(log.close)
        now = int(time.time() * 1000)
        change_list(log, "merchant", "block", Act("bench", "bench", now), add=["bad"])
        switch_on(log, ACTIONS, Why("bench", "bench", now))
        ports = [free_port(), free_port()]
        at = [
            msgspec.structs.replace(settings, metrics_port=port) for port in ports
        ]  # a child's environment wins over its file
        config = [_config(directory / f"responder-{port}.toml", receiver, port) for port in ports]
        first = stack.enter_context(Service("responder", ["respond", "--config", str(config[0])], at[0], directory))
        wait_for(
            lambda: _metric(ports[0], "sentinel_responder_partitions_owned") == 4, "the responder's partitions", WAIT_S
        )
        _send(settings, rate, seconds)
        count = round(rate * seconds) * len(NOTIFYING)
        wait_for(lambda: len(receiver.arrived) >= count, "every webhook", WAIT_S)
        delays = np.array([(arrived - recorded) * 1000 for arrived, recorded in receiver.arrived])
        reaction = _buckets(ports[0], "sentinel_responder_reaction_seconds_bucket")
        wait_for(lambda: _settled(log) >= round(rate * seconds) * 4, "every outcome", WAIT_S)
        answer = responses_answer(open_states(log, ALL, now_ms=int(time.time() * 1000)))
        second = stack.enter_context(Service("successor", ["respond", "--config", str(config[1])], at[1], directory))
        wait_for(lambda: _metric(ports[1], "sentinel_responder_partitions_owned") > 0, "the successor", WAIT_S)
        first.kill()
        killed, before = time.time(), len(receiver.arrived)
        _send(settings, 4.0, 3.0, "after")
        wait_for(lambda: len(receiver.arrived) >= before + 12 * len(NOTIFYING), "webhooks of the successor", WAIT_S)
        second.check()
    return {
        "alerts": round(rate * seconds),
        "webhooks": count,
        "webhook_p50_ms": float(np.percentile(delays, 50)),
        "webhook_p99_ms": float(np.percentile(delays, 99)),
        "reaction_p50_ms_at_most": _quantile(reaction, 0.5) * 1000,
        "reaction_p99_ms_at_most": _quantile(reaction, 0.99) * 1000,
        "response_ms": {f"{r.action} {r.severity}": [r.p50_ms, r.p99_ms] for r in answer.responses},
        "takeover_s": max(arrived for arrived, _ in receiver.arrived) - killed,
    }


def _config(path: Path, receiver: Receiver, port: int) -> Path:
    lines = ["[responders]", "blocks_per_hour = 1000000", "poll_ms = 5"]
    lines += ["[responders.channels.soc]", 'kind = "webhook"', 'secret_env = "BENCH_SECRET"']
    lines += [f'url = "http://127.0.0.1:{receiver.server.server_address[1]}/"']
    for action in NOTIFYING:
        lines += [f"[responders.actions.{action}]", 'channels = ["soc"]']
    path.write_text("\n".join(lines))
    return path


def _send(settings: Settings, rate: float, seconds: float, name: str = "t") -> None:
    """Payments at a blocked merchant, evenly in time; each is a critical alert of another account."""

    def records() -> Any:
        for number in range(round(rate * seconds)):
            now = int(time.time() * 1000)
            account = f"{name}{number}"
            payment = Transaction(
                transaction_id=account, account_id=account, amount=5000.0, occurred_at=now, merchant_id="bad"
            )
            yield [Record("transactions", account, now, encode(payment))]

    publish(records(), settings, rate=rate, timestamps="now", linger_ms=0)


def _settled(log: Any) -> int:
    answer = responses_answer(open_states(log, ALL, now_ms=int(time.time() * 1000)))
    return sum(row.succeeded for row in answer.responses)


def _scrape(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2.0) as answer:
            found: str = answer.read().decode()
            return found
    except OSError:
        return ""


def _metric(port: int, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", _scrape(port), re.MULTILINE)
    return float(found[1]) if found else 0.0


def _buckets(port: int, name: str) -> list[tuple[float, float]]:
    found = re.findall(rf'^{name}\{{le="(\S+?)"\}} (\S+)$', _scrape(port), re.MULTILINE)
    return [(float(bound), float(count)) for bound, count in found]


def _quantile(buckets: list[tuple[float, float]], share: float) -> float:
    total = buckets[-1][1]
    return next(bound for bound, count in buckets if count >= share * total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20.0, help="alerts per second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = run(arguments.rate, arguments.seconds)
    print_figures(found, as_json=arguments.json, digits=2)


if __name__ == "__main__":
    main()
