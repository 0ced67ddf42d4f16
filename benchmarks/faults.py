"""Real faults under steady traffic: is anything lost, done twice, or decided with other bits?

    python -m benchmarks.faults [--faults 100] [--rate 300] [--seed 1] [--json]

Two workers, a responder, an archiver that trims and a projector run on the local stack. One fault after the other is
drawn, with its time and length:

    worker_killed          kill -9 of one worker, started again
    worker_frozen          SIGSTOP of a worker for longer than its session: its partitions are another's when it goes on
    log_server_killed      kill -9 of Valkey (fsync always), started again on its file
    log_server_frozen      SIGSTOP of Valkey
    broker_frozen          SIGSTOP of the broker (it keeps messages in memory, so killing it is the integration suite's)
    archiver_killed        kill -9 in the middle of `sentinel archive --trim`
    projector_killed       kill -9 of `sentinel project --follow`, which goes on from its checkpoints
    responder_killed       kill -9 in mid-action
    responder_frozen       SIGSTOP for longer than its session

A process that gave up (code 4) is started again, as a supervisor would. In the end every payment that was sent must be
in the log exactly once, each action of an alert settled exactly once, the archive, the log and its seals intact, every
decision identical on replay. Exits 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.program_story import Traffic
from benchmarks.running import answer_of, environment_of, print_figures, wait_for
from console import wiring
from console.service import Service
from console.stack import LocalStack
from core.codec import decode_account_event, decode_alert
from core.errors import SentinelError, Unavailable
from core.events import START, ActionFailed, ActionSucceeded
from core.log.paging import pages
from core.settings import Settings
from ingest import kafka_client
from learners.governance.business import change_list
from learners.governance.control_events import Act
from responders.settings import ACTIONS
from responders.switching import Why, switch_on

PARTITIONS = 8
SESSION_S = 6.0
SETTLE_S = 180.0
ALERTING = "shop-3"
"""A blocked merchant: one payment in about a hundred is an alert."""


class House:
    """Everything that runs, and what was done to it."""

    def __init__(self, directory: Path, stack: LocalStack, services: ExitStack, rng: random.Random) -> None:
        self.rng, self.stack, self.directory = rng, stack, directory
        self.settings = Settings(
            **stack.settings,
            partitions=PARTITIONS,
            archive=str(directory / "archive"),
            snapshot_directory=str(directory / "snapshots"),
        )
        kafka_client.create_topics(self.settings, ["transactions", "feedback", "transactions.rejects"])
        self.environment = {"SENTINEL_ARCHIVE": self.settings.archive, "SENTINEL_SNAPSHOT_INTERVAL_S": "5"}
        os.environ.update(self.environment)
        self.projections = directory / "projections"
        self.services: dict[str, Service] = {}
        self._running = services
        self.start("worker-1", "ingest")
        self.start("worker-2", "ingest")
        self.done: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()

    def start(self, name: str, *arguments: str) -> None:
        """Start a service, which is supervised from now on."""
        service = Service(name, list(arguments), self.settings, self.directory)
        self.services[name] = self._running.enter_context(service)

    def faults(self) -> dict[str, Callable[[], None]]:
        """By name, what can be done."""
        return {
            "worker_killed": lambda: self._killed(self._worker()),
            "worker_frozen": lambda: self._frozen(self._worker(), SESSION_S + self.rng.uniform(1, 4)),
            "log_server_killed": self._log_server_killed,
            "log_server_frozen": lambda: self._pid_frozen(self.stack.valkey.pid, self.rng.uniform(0.2, 4.0)),
            "broker_frozen": lambda: self._pid_frozen(self.stack.broker.pid, self.rng.uniform(0.2, 4.0)),
            "archiver_killed": self._archiver_killed,
            "projector_killed": lambda: self._killed(self.services["projector"]),
            "responder_killed": lambda: self._killed(self.services["responder"]),
            "responder_frozen": lambda: self._frozen(self.services["responder"], SESSION_S + self.rng.uniform(1, 3)),
        }

    def supervise(self) -> None:
        """Start again what gave up. Raises SystemExit if a process ended in any other way."""
        for name, service in self.services.items():
            if service.running:
                continue
            code = service.exit_code
            if code not in (None, Unavailable.exit_code, -signal.SIGKILL):
                raise SystemExit(f"{name} ended with {code}:\n" + "\n".join(service.last_lines(20)))
            self.restarts[name] += 1
            service.start()

    def archived(self, seconds: float = 120.0) -> int:
        """Archive and trim once; the exit code."""
        process = self._archiver()
        try:
            return process.wait(seconds)
        finally:
            process.kill()

    def _worker(self) -> Service:
        return self.services[self.rng.choice(("worker-1", "worker-2"))]

    def _killed(self, service: Service) -> None:
        service.kill()
        time.sleep(self.rng.uniform(0.0, 1.0))
        service.start()

    def _frozen(self, service: Service, seconds: float) -> None:
        if service.running and service.pid is not None:
            self._pid_frozen(service.pid, seconds)

    def _pid_frozen(self, pid: int, seconds: float) -> None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    def _log_server_killed(self) -> None:
        self.stack.valkey.kill()
        time.sleep(self.rng.uniform(0.0, 2.0))
        self.stack.valkey.start()

    def _archiver_killed(self) -> None:
        process = self._archiver()
        time.sleep(self.rng.uniform(0.5, 4.0))
        process.kill()
        process.wait()

    def _archiver(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "console.cli", "archive", "--trim", "--hot-hours", "0.003"]
        command += ["--projections", str(self.projections)]
        with (self.directory / "archiver.log").open("ab") as log:
            return subprocess.Popen(command, env=environment_of(self.settings), stdout=log, stderr=log)


def run(faults: int, rate: int, seed: int) -> dict[str, Any]:
    """All figures. Leaves nothing running."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-bench-")))
        servers = stack.enter_context(LocalStack(directory / "stack"))
        rng = random.Random(seed)
        house = House(directory, servers, stack, rng)
        log = wiring.open_log(house.settings)
        stack.callback(log.close)
        traffic = Traffic(house.settings, rate)
        stack.callback(traffic.stop)
        wait_for(lambda: _is_begun(house), "the workers")
        act = Act("bench", "bench", int(time.time() * 1000))
        change_list(log, "merchant", "block", act, add=[ALERTING])
        switch_on(log, ACTIONS, Why("bench", "bench", int(time.time() * 1000)))
        house.start("responder", "respond")
        house.start(
            "projector", "project", "--follow", "--checkpoint-directory", str(house.projections), "--checkpoint-s", "2"
        )
        traffic.start()
        time.sleep(5.0)
        kinds = house.faults()
        names = [name for name in kinds for _ in range(-(-faults // len(kinds)))]
        rng.shuffle(names)
        began = time.monotonic()
        for number, name in enumerate(names[:faults]):
            kinds[name]()
            house.done[name] += 1
            time.sleep(rng.uniform(0.2, 2.0))
            house.supervise()
            if number % 10 == 9:
                house.archived()
                print(f"{number + 1} faults, {traffic.sent:,} payments sent", file=sys.stderr, flush=True)
        seconds = time.monotonic() - began
        traffic.stop()
        return {"seed": seed, "seconds": seconds, **_verdict(house, traffic.sent)}


def _is_begun(house: House) -> bool:
    house.supervise()
    with closing(wiring.open_log(house.settings)) as log:
        return log.control_head() > 2


def _verdict(house: House, sent: int) -> dict[str, Any]:
    """What became of everything, once all is settled."""
    deadline = time.monotonic() + SETTLE_S
    seen: Counter[str] = Counter()
    settled: tuple[int, int, int] = (0, 0, 0)
    while time.monotonic() < deadline:
        house.supervise()
        try:
            seen, settled = _payments(house), _actions(house)
        except SentinelError:
            time.sleep(1.0)
            continue
        if len(seen) >= sent and settled[0] == settled[1]:
            break
        time.sleep(1.0)
    house.archived()
    verified = answer_of(house.settings, "verify", "--json")
    replayed = answer_of(house.settings, "replay", "--verify", "--json", "--max-late", "100", "--max-degraded", "100")
    expected = {f"t-{number}" for number in range(sent)}
    return {
        "faults": sum(house.done.values()),
        "by_kind": dict(sorted(house.done.items())),
        "gave_up_and_restarted": dict(house.restarts),
        "payments": sent,
        "lost": len(expected - seen.keys()),
        "twice": sum(count - 1 for count in seen.values()),
        "actions": settled[0],
        "actions_settled": settled[1],
        "actions_recorded_twice": settled[2],
        "intact": verified["ok"] or verified["faults"] == [],
        "archived_segments": verified["segments"],
        "decisions": replayed["decisions"],
        "identical": replayed["identical"],
    }


def _payments(house: House) -> Counter[str]:
    """How often each live payment is in the log."""
    found: Counter[str] = Counter()
    with closing(wiring.open_log(house.settings)) as log:
        for partition in range(PARTITIONS):
            for page in pages(log, partition, "transactions", START):
                found.update(msgspec.json.decode(entry.payload, type=_Named).transaction_id for entry in page)
    return found


class _Named(msgspec.Struct):
    transaction_id: str


def _actions(house: House) -> tuple[int, int, int]:
    """Actions that alerts asked for, how many of them have an outcome, and how many outcomes are recorded once more."""
    asked: set[tuple[str, str]] = set()
    outcomes: Counter[tuple[str, str]] = Counter()
    with closing(wiring.open_log(house.settings)) as log:
        for partition in range(PARTITIONS):
            for page in pages(log, partition, "alerts", START):
                for alert in (decode_alert(entry.payload) for entry in page):
                    asked |= {(alert.alert_id, action) for action in alert.recommended_actions if action in ACTIONS}
            for page in pages(log, partition, "feedback", START):
                for event in (decode_account_event(entry.payload) for entry in page):
                    if isinstance(event, ActionSucceeded | ActionFailed):
                        outcomes[event.causation_id, event.action] += 1
    return len(asked), len(asked & outcomes.keys()), sum(outcomes.values()) - len(outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--rate", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = run(arguments.faults, arguments.rate, arguments.seed)
    print_figures(found, as_json=arguments.json)
    bad = found["lost"] or found["twice"] or found["actions_recorded_twice"] or not found["intact"]
    bad = bad or found["identical"] != found["decisions"] or found["actions"] != found["actions_settled"]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
