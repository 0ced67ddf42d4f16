"""Dashboards and alert rules on Debian's Prometheus: it scrapes real processes on real servers, and every query of
every panel and rule has an answer. Rules are tested with promtool, each with what makes it fire and what does not.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from console.anchoring import keys
from console.service import Service
from core.control_stream import current
from core.partitions import partitions_of
from ingest.health import KEPT_S
from projections.reference.publisher import ReferencePublisher
from responders.settings import ACTIONS
from responders.switching import Why, switch_on
from tests import worker_harness as h
from tests.builders.panels import DASHBOARDS
from tests.builders.receiver import HttpReceiver
from tests.integration.apache_kafka import ApacheKafka
from tests.integration.conftest import need
from tests.integration.prometheus import Prometheus, missing_for_prometheus, promtool
from tests.integration.servers import RedisServer, free_port
from tests.responder_harness import responder
from tests.worker_harness import Stage

DOCKER = Path(__file__).parents[2] / "docker"
RULES = DOCKER / "prometheus" / "alerts.yml"
ABSENT = {"SentinelNoWorker"}
"""Rules about what is missing: without a series as long as all is well."""
JOBS = ("worker", "console", "projector", "responders", "loop", "notary")
ANSWER_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def _needs_prometheus() -> None:
    need(missing_for_prometheus())


class Case(NamedTuple):
    """An alert's series, each with values a minute apart (promtool's notation): those under which it fires at
    `minutes`, and those under which it does not.
    """

    fires: dict[str, str]
    quiet: dict[str, str]
    minutes: int = 20


def gauge(series: str, fires: float, quiet: float, minutes: int = 20) -> Case:
    """A gauge that stands at one value or the other."""
    return Case({series: f"{fires:g}x{minutes}"}, {series: f"{quiet:g}x{minutes}"}, minutes)


def counters(fires: dict[str, float], quiet: dict[str, float]) -> Case:
    """Counters that grow by so much a minute."""
    return Case(*({name: f"0+{step:g}x20" for name, step in each.items()} for each in (fires, quiet)))


BUCKET = 'sentinel_latency_seconds_bucket{le="%s"}'
SHARE = {"sentinel_transactions_total": 990.0}
CASES = {
    "SentinelProcessDown": gauge('up{job="worker", instance="a"}', 0, 1),
    "SentinelNotReady": gauge('sentinel_ready{job="worker", instance="a", check="log"}', 0, 1),
    "SentinelNoWorker": Case({"other": "1x20"}, {"sentinel_partitions_owned": "0x20"}),
    "SentinelPartitionsWithoutOwner": gauge("sentinel_log_partitions_without_owner", 1, 0),
    "SentinelPartitionParked": gauge('sentinel_log_partition_parked{partition="3"}', 1, 0, 0),
    "SentinelLag": gauge('sentinel_kafka_lag_messages{topic="transactions", partition="0"}', 50_001, 50_000),
    "SentinelLatency": counters(
        {BUCKET % "1": 98, BUCKET % "2": 100, BUCKET % "+Inf": 100},
        {BUCKET % "1": 99.5, BUCKET % "2": 100, BUCKET % "+Inf": 100},
    ),
    "SentinelDegraded": gauge("sentinel_log_partitions_degraded", 1, 0),
    "SentinelRejects": counters(
        {**SHARE, 'sentinel_rejects_total{reason="not_json"}': 11},
        {**SHARE, 'sentinel_rejects_total{reason="not_json"}': 9},
    ),
    "SentinelAppendConflicts": counters({"sentinel_append_conflicts_total": 7}, {"sentinel_append_conflicts_total": 5}),
    "SentinelSnapshotOld": gauge('sentinel_snapshot_age_seconds{partition="1"}', 3601, 3600),
    "SentinelLogServerDown": gauge("sentinel_log_server_up", 0, 1),
    "SentinelLogServerMemory": Case(
        {
            'sentinel_log_server_memory_bytes{server="a"}': "81x20",
            'sentinel_log_server_memory_max_bytes{server="a"}': "100x20",
        },
        {
            'sentinel_log_server_memory_bytes{server="a"}': "81x20",
            'sentinel_log_server_memory_max_bytes{server="a"}': "0x20",
        },
    ),
    "SentinelKafkaDown": gauge("sentinel_kafka_up", 0, 1),
    "SentinelArchiveBehind": gauge('sentinel_archive_age_seconds{partition="0"}', 259_201, 259_200),
    "SentinelAnchorOld": gauge("sentinel_anchor_age_seconds", 3601, 3600),
    "SentinelAnchorDestinationFailing": gauge("sentinel_anchor_destinations_failing", 1, 0, 40),
    "SentinelReadModelFaulted": gauge('sentinel_projection_faulted{projection="cases"}', 1, 0),
    "SentinelReadModelBehind": gauge('sentinel_projection_lag_seconds{projection="cases"}', 301, 300),
    "SentinelApiErrors": counters(
        {'sentinel_api_requests_total{status="500"}': 2, 'sentinel_api_requests_total{status="200"}': 98},
        {'sentinel_api_requests_total{status="404"}': 2, 'sentinel_api_requests_total{status="200"}': 98},
    ),
    "SentinelCasesOverdue": Case(
        {'sentinel_cases_overdue{severity="high"}': "1x20"}, {'sentinel_cases_overdue{severity="low"}': "1x20"}
    ),
    "SentinelDrift": Case(
        {'sentinel_drift_open{severity="critical"}': "1x20"}, {'sentinel_drift_open{severity="low"}': "9x20"}
    ),
    "SentinelTableOld": gauge('sentinel_table_age_seconds{kind="merchant"}', 259_201, 259_200),
    "SentinelActionsParked": gauge("sentinel_responder_parked", 1, 0),
    "SentinelActionsLate": counters(
        {'sentinel_responder_late_total{severity="high"}': 1}, {'sentinel_responder_late_total{severity="high"}': 0}
    ),
    "SentinelChannelFailing": gauge('sentinel_responder_channel_failing{channel="soc"}', 1, 0),
}


def rules() -> Iterator[tuple[str, str]]:
    """Each alert's name and expression."""
    yield from re.findall(r"- alert: (\w+)\n +expr: (.+)\n", RULES.read_text())


def test_the_configuration_is_valid() -> None:
    """As promtool sees the files that compose mounts."""
    assert "SUCCESS" in promtool("check", "config", DOCKER / "prometheus" / "prometheus.yml")
    assert f"{len(CASES)} rules found" in promtool("check", "rules", RULES)


def test_each_rule_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    """Just beyond its limit for longer than it waits, and not at its limit."""
    assert [name for name, _ in rules()] == list(CASES)
    tests = []
    for name, case in CASES.items():
        for series, fires in ((case.fires, True), (case.quiet, False)):
            tests.append(
                {
                    "interval": "1m",
                    "input_series": [{"series": each, "values": values} for each, values in series.items()],
                    "promql_expr_test": [
                        {
                            "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)',
                            "eval_time": f"{case.minutes}m",
                            "exp_samples": [{"labels": "{}", "value": int(fires)}],
                        }
                    ],
                }
            )
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", file)


class Running(NamedTuple):
    """ports: where each process exports its metrics."""

    on: Stage
    redis: RedisServer
    services: dict[str, Service]
    ports: dict[str, int]

    def readyz(self, job: str) -> tuple[int, dict[str, str]]:
        """Status and checks."""
        try:
            with urlopen(f"http://127.0.0.1:{self.ports[job]}/readyz", timeout=15) as answer:
                return answer.status, json.load(answer)["checks"]
        except HTTPError as error:
            return error.code, json.load(error)["checks"]

    def metrics(self, job: str) -> str:
        """What a process exports."""
        try:
            with urlopen(f"http://127.0.0.1:{self.ports[job]}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def is_ready(self, job: str) -> bool:
        service = self.services[job]
        assert service.running, service.last_lines(20)
        try:
            return self.readyz(job)[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def running(
    apache_kafka: ApacheKafka, needs_redis: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A worker and everybody who follows, with something of everything in the log."""
    folder = tmp_path_factory.mktemp("system")
    ports = {job: free_port() for job in JOBS}
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOC_SECRET", "whsec_" + base64.b64encode(bytes(range(32))).decode())
        redis = stack.enter_context(RedisServer(folder / "redis", options={"maxmemory": "512mb"}).started())
        receiver = stack.enter_context(HttpReceiver())
        on = h.stage(apache_kafka.bootstrap, "127.0.0.1", redis.port, folder, archive=str(folder / "archive"))
        on.create_topics()
        services: dict[str, Service] = {}

        def at(job: str) -> Stage:
            return on.changed(metrics_port=ports[job])

        def start(job: str, service: Service) -> None:
            services[job] = stack.enter_context(service)

        start("worker", at("worker").worker("worker"))
        with on.log() as log:
            h.wait_for(lambda: current(log).champion is not None, "the worker's start", 120.0)
            goal = h.count(on.produce(h.synthetic(600)), "transactions")
            h.wait_for_decisions(on, log, goal, services["worker"].check)
            ReferencePublisher(log, partitions_of(log), 24).step()
            switch_on(log, ACTIONS, Why("ann", "test", int(time.time() * 1000)))
        keys.create(folder / "notary.key")
        config = folder / "anchors.toml"
        config.write_text(f'[anchors]\nstate = "{folder}/state"\ndirectories = ["{folder}/anchors"]\n')
        commands = {
            "projector": ["project", "--follow", "--checkpoint-directory", f"{folder}/read-models"],
            "loop": ["learn", "--follow", "--interval-s", "1"],
            "notary": ["anchor", "--follow", "--every", "1", "--key", f"{folder}/notary.key", "--config", str(config)],
            "console": ["serve", "--port=0", f"--users={folder}/users.json", f"--checkpoint-directory={folder}/api"],
        }
        for job, command in commands.items():
            start(job, Service(job, command, at(job).settings, folder))
        start("responders", responder(at("responders"), "responders", receiver.url))
        yield Running(on, redis, services, ports)


def test_every_panel_and_every_rule_has_an_answer(running: Running, tmp_path: Path) -> None:
    """On a whole system, scraped every second: each query of each dashboard, and each rule's left side, has a series;
    rules about what is absent have none. Prometheus evaluates all rules without an error.
    """
    for job in JOBS:
        h.wait_for(lambda job=job: running.is_ready(job), f"{job} to be ready", 120.0)  # type: ignore[misc]
    wanted = {f"{d.name}: {p.title}": q for d in DASHBOARDS for p in d.panels for q, _ in p.queries}
    wanted |= {name: re.sub(r" (==|>) [\d.]+$", "", expression) for name, expression in rules()}
    with Prometheus(tmp_path / "prometheus", running.ports, RULES).started() as prometheus:
        console = running.services["console"].log_path.read_text()
        url = re.findall(r"listening on (http\S+)", console)[0]
        running.on.produce(h.synthetic(50, seed=8))
        deadline = time.monotonic() + ANSWER_S
        silent: list[str] = []
        while time.monotonic() < deadline:
            urlopen(f"{url}/livez", timeout=5).close()
            silent = [name for name, query in wanted.items() if name not in ABSENT and not prometheus.query(query)]
            if not silent:
                break
            time.sleep(0.5)
        assert not silent, {name: wanted[name] for name in silent}
        for name in ABSENT:
            assert prometheus.query(wanted[name]) == [], f"{name}: a worker runs"
        loaded: list[dict[str, Any]] = [rule for g in prometheus.get("rules")["groups"] for rule in g["rules"]]
        assert {rule["name"] for rule in loaded} == set(CASES)
        assert not [rule for rule in loaded if rule["health"] == "err"]
        up = {t["labels"]["job"]: t["health"] for t in prometheus.get("targets")["activeTargets"]}
        assert up == dict.fromkeys(JOBS, "up")


def test_nobody_is_ready_beside_a_frozen_log_server(running: Running) -> None:
    """Each process names the log as what does not answer, stays alive, and is ready again afterwards."""
    with running.redis.paused():
        time.sleep(KEPT_S + 0.1)  # an answer from before may be kept
        with ThreadPoolExecutor(len(JOBS)) as pool:
            answers = dict(zip(JOBS, pool.map(running.readyz, JOBS), strict=True))
        assert all(status == 503 and checks["log"] for status, checks in answers.values()), answers
        for job in JOBS:
            with urlopen(f"http://127.0.0.1:{running.ports[job]}/livez", timeout=5) as answer:
                assert answer.status == 200
        h.wait_for(lambda: "sentinel_log_server_up 0" in running.metrics("console"), "the console to say so", 60.0)
        assert 'sentinel_ready{check="log"} 0' in running.metrics("worker")
    for job in JOBS:
        h.wait_for(lambda job=job: running.is_ready(job), f"{job} to be ready again", 60.0)  # type: ignore[misc]
