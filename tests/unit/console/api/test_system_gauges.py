"""The system's gauges as the console exports them, and its `/readyz`."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from console.api.inspecting import Facts, Inspector, Looked
from console.api.system_gauges import System
from console.server_findings import ServerFacts
from core.errors import Unavailable
from core.log.memory import MemoryLog
from core.settings import Settings
from ingest import families
from ingest.backlog import Group, Member
from projections.catalogue import ALL
from tests.builders.api import Served

FACTS = Facts(
    {"transactions": {0: 10**6, 1: 5}, "feedback": {}},
    Group("stable", 1, frozenset([0, 1]), (Member("w", "10.0.0.7", (0, 1)),)),
    [ServerFacts("log:6379", "Valkey 9.0.0", 1000, 5000, 3, 60)],
    {},
)
NOBODY = Facts({}, None, [], {"kafka": "can't be reached", "log server": "can't be reached"})


class Told(Inspector):
    """An inspector that was told everything; None: nothing yet."""

    def __init__(self, facts: Facts | None) -> None:
        super().__init__(Settings(), 1)
        self.told = facts

    def facts(self, wait_s: float) -> Looked[Facts] | None:
        return None if self.told is None else Looked(self.told, 7)


def exported(api: Served, facts: Facts | None = FACTS) -> dict[str, dict[tuple[str, ...], float]]:
    """By name and labels' values."""
    return {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
        for family in System(api.desk, Told(facts)).collect()
    }


def test_kafka_and_servers_are_exported(api: Served, decided: MemoryLog) -> None:
    """Lag of all partitions whose end is known, those without an owner, and each log server's memory."""
    found = exported(api)
    assert found["sentinel_kafka_lag_messages"] == {
        ("transactions", "0"): 10**6 - decided.head(0).transactions.offset,
        ("transactions", "1"): 0,
    }
    assert found["sentinel_log_partitions_without_owner"] == {(): len(api.desk.partitions) - 2}
    assert found["sentinel_log_server_memory_bytes"] == {("log:6379",): 1000}
    assert (found["sentinel_kafka_up"], found["sentinel_log_server_up"]) == ({(): 1}, {(): 1})


def test_servers_that_are_gone_are_zero_not_absent(api: Served) -> None:
    """A server that does not answer is down; one that was not asked yet is nothing."""
    found = exported(api, NOBODY)
    assert (found["sentinel_kafka_up"], found["sentinel_log_server_up"]) == ({(): 0}, {(): 0})
    assert "sentinel_log_partitions_without_owner" not in found
    assert "sentinel_projection_lag_entries" not in found, "a scrape does not wait for a log server that is gone"
    assert "sentinel_kafka_up" not in exported(api, None)


def test_cases_are_those_of_the_queue(api: Served) -> None:
    """Open ones by severity, overdue and resolved ones add up to the counts of /v1/cases."""
    found, counts = exported(api), api.get("/v1/cases", "analyst").json()["counts"]
    assert sum(found["sentinel_cases_open"].values()) == counts["open"] + counts.get("assigned", 0) > 0
    assert sum(found["sentinel_cases_overdue"].values()) == counts.get("overdue", 0)
    assert sum(found["sentinel_cases_resolved"].values()) == counts.get("resolved", 0)
    assert found["sentinel_cases_at_risk_base_currency"][()] > 0


def test_every_read_model_and_what_decides_is_exported(api: Served) -> None:
    """None is behind on a log that was read to its end; the champion and the program in force have their names."""
    found = exported(api)
    names = {(projection.name,) for projection in ALL}
    assert found["sentinel_projection_lag_entries"].keys() == found["sentinel_projection_faulted"].keys() == names
    assert not any(found["sentinel_projection_lag_entries"].values())
    state = api.desk.control
    assert state.champion is not None
    assert found["sentinel_model_info"] == {("champion", state.champion.label, state.champion.digest[:16]): 1}
    assert found["sentinel_program_info"] == {(state.program_in_force[:16],): 1}
    assert found["sentinel_log_partition_parked"] == {(str(p),): 0 for p in api.desk.partitions}


def test_no_label_names_a_person(api: Served, decided: MemoryLog) -> None:
    """Labels are few, whatever the log holds: no value has anything of an account, and there are no more for more
    accounts.
    """
    values = {value for series in exported(api).values() for labels in series for value in labels}
    accounts = {row["account_id"] for row in api.get("/v1/decisions", limit=200).json()["decisions"]}
    assert accounts and not [value for value in values for account in accounts if account in value]
    assert len(values) < 100


def test_all_that_is_exported_is_declared(api: Served) -> None:
    """The page of metrics has it."""
    assert exported(api).keys() <= {family.name for family in families.FAMILIES}


def test_a_read_model_that_stands_still_is_not_ready(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """/readyz names it, and is 503; likewise with too much left to fold."""
    good = api.desk.views.status(0)
    system = System(api.desk, Told(FACTS))
    monkeypatch.setitem(api.client.app.state, "system", system)

    def status(**changes: Any) -> None:
        rows = [dataclasses.replace(each, **changes) if each.projection == "cases" else each for each in good]
        monkeypatch.setattr(api.desk.views, "status", lambda now: rows)
        monkeypatch.setitem(api.client.app.state, "system", System(api.desk, Told(FACTS)))

    assert api.client.get("/readyz").json() == {"ready": True, "checks": {"log": "ok", "read models": "ok"}}
    status(condition="faulted", error="KeyError: secret")
    answer = api.client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["read models"]) == (
        503,
        "at a standstill after an error: cases",
    )
    status(lag_events=60_000)
    behind = api.client.get("/readyz").json()["checks"]["read models"]
    assert behind.startswith("cases has") and behind.endswith("entries left to fold, more than 100,000")


def test_a_log_that_is_gone_is_not_ready(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs it is left out of a scrape, and the rest is exported."""

    def down(*arguments: object) -> Any:
        raise Unavailable("event log server: refused")

    system = System(api.desk, Told(NOBODY))
    monkeypatch.setattr(api.desk.log, "control_head", down)
    monkeypatch.setattr(api.desk.views, "status", down)
    monkeypatch.setattr(api.desk.views, "answer", down)
    assert system.log() == "event log server: refused"
    assert system.read_models() == "event log server: refused"
    found = {family.name for family in system.collect()}
    assert "sentinel_log_server_up" in found and "sentinel_cases_open" not in found
    assert api.client.get("/livez").json() == api.client.get("/healthz").json() == {"status": "ok"}
