"""The roles on an Apache Kafka with SASL_SSL, SCRAM and the StandardAuthorizer: each does its work, and no other's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from console.least_rights import KAFKA_ROLES, ROLES
from console.service import Service
from tests.builders.bank import history
from tests.integration.roles import Place, secured

REFUSED = ("uthorization failed", "may not", "may the user")


@pytest.fixture(scope="module")
def place(needs_redis: None, needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Servers with topics and rights, and no log yet."""
    with secured(tmp_path_factory.mktemp("kafka-rights")) as found:
        yield found


def test_the_roles_are_the_same_on_both_servers() -> None:
    """A deployment has one user of each name on both."""
    assert ROLES.keys() == KAFKA_ROLES.keys()


def test_each_role_does_its_work_and_no_others(place: Place) -> None:
    """Payments by `api`, decided by `worker`; a block by `responder`; all others are told that they may not."""
    send = ["produce", *history(300, 30)]
    for role in ("reader", "worker", "responder"):
        code, said = place.run(role, *send)
        assert code != 0 and any(word in said for word in REFUSED), (role, code, said)
    code, said = place.run("api", *send)
    assert code == 0, said
    for role in ("reader", "api", "responder"):
        code, said = place.run(role, "ingest", "--drain")
        assert code != 0 and any(word in said for word in REFUSED), (role, code, said)
    code, said = place.run("worker", "ingest", "--drain")
    assert code == 0 and "300 transactions decided" in said, said
    block = ["block", "a1", "--no-lookup", "--reason", "a trial"]
    for role in ("reader", "worker"):
        code, said = place.run(role, *block)
        assert code != 0 and any(word in said for word in REFUSED), (role, code, said)
    for role in ("responder", "api"):
        code, said = place.run(role, *block)
        assert code == 0, said


@pytest.mark.parametrize(
    ("role", "arguments"), [("responder", ["respond", "--standby"]), ("api", ["serve", "--port", "0"])]
)
def test_processes_run_under_their_role(place: Place, role: str, arguments: list[str]) -> None:
    """They keep running, and nothing is refused."""
    command = Service(f"{arguments[0]}-stays", arguments, place.settings(role), place.folder)
    with command, pytest.raises(Exception, match="did not exit"):
        command.wait(10.0)
    said = command.log_path.read_text()
    assert not any(word in said for word in REFUSED) and "Traceback" not in said, said


def test_doctor_as_admin(place: Place) -> None:
    """It can check topics and groups."""
    _, said = place.run("admin", "doctor")
    assert not any(word in said for word in REFUSED), said
