"""compose.yaml, compose.prod.yaml and the systemd units: the same processes as the code's, command lines that the
program takes, and in production all that the profile requires and no secret more. The chart: tests/integration.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from console import least_rights, profiles
from core.errors import BadInput
from core.settings import Settings
from tests.builders import image_files
from tests.builders.deployments import (
    DOCKER,
    IMAGES,
    SYSTEMD,
    UNUSED,
    WANTED,
    Deployed,
    compose,
    interpolated,
    of_compose,
    of_units,
    parsed_by_the_program,
    settings_of,
)

COMPOSE = ("compose.yaml", "compose.prod.yaml")
FOR_HANDS = {"admin"}
"""Services for commands that somebody types."""
PLACES: dict[str, list[Deployed]] = {**{file: of_compose(file) for file in COMPOSE}, "systemd": of_units()}
PRODUCTION = {
    "compose.prod.yaml": (DOCKER / "prod" / "settings.toml").read_text(),
    "systemd": (SYSTEMD / "settings.toml").read_text(),
}
"""Places whose profile is production, and the settings file of each."""
SERVICES = [
    pytest.param(place, each, id=f"{place}-{each.name}")
    for place in PRODUCTION
    for each in PLACES[place]
    if each.name not in FOR_HANDS
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the image holds."""
    return image_files.laid(tmp_path_factory.mktemp("image"), image_files.copied())


@pytest.mark.parametrize("place", PLACES)
def test_a_deployment_has_the_processes_of_the_code(place: str) -> None:
    """Those of `sentinel run` with the flags that make them stay, the notary and the archiver; none is there twice."""
    found = [each for each in PLACES[place] if each.name not in FOR_HANDS]
    assert sorted(each.command for each in found) == sorted(WANTED)
    for each in found:
        flags = {word for word in WANTED[each.command] if word in ("--follow", "--standby")}
        assert flags <= {*each.commands[-1]}, each.name


def test_the_program_takes_every_command_line(files: Path) -> None:
    """The program in the image, from its files alone; one with a wrong option is noticed."""
    found = [each for place in PLACES.values() for each in place if each.name not in FOR_HANDS]
    assert parsed_by_the_program(files, {line for each in found for line in each.commands}) == ""
    assert "--folow" in parsed_by_the_program(files, [("anchor", "--folow")])


@pytest.mark.parametrize(("place", "service"), SERVICES)
def test_production_has_what_it_requires_and_no_secret_more(place: str, service: Deployed, tmp_path: Path) -> None:
    """Each process starts in the profile production as far as its settings tell, as the user of its least role, and is
    given no secret that it does not use. Every file that its settings name is one that it is given.
    """
    s = settings_of(service, PRODUCTION[place], tmp_path)
    unused = UNUSED[service.command]
    assert s.environment == "production"
    assert [what for _, what in profiles.missing(s, unused)] == []
    role = least_rights.NEEDS[service.command].role
    assert s.redis_username == f"sentinel-{role}"
    assert s.kafka_username == ("" if unused == profiles.LOG_ONLY else f"sentinel-{role}")
    assert bool(s.kafka_password_file) == (unused != profiles.LOG_ONLY)
    assert bool(s.vault_key_file) == (not unused)
    given = {name for name in service.files if "settings" not in name and "ca.crt" not in name}
    named = {service.environment[name] for name in service.environment if name.endswith(("_PASSWORD_FILE", "_KEY"))}
    named |= {s.vault_key_file.removeprefix(str(tmp_path))} - {""}
    assert {name for name in given if not name.endswith("notary.key")} == named
    assert any(name.endswith("notary.key") for name in given) == (service.command == "anchor")


@pytest.mark.parametrize("lost", ["SENTINEL_REDIS_TLS", "SENTINEL_IDENTITY_KEY", "SENTINEL_VAULT_KEY_FILE"])
def test_a_setting_that_is_lost_is_noticed(lost: str, tmp_path: Path) -> None:
    """The test above can fail."""
    worker = next(each for each in PLACES["compose.prod.yaml"] if each.name == "worker")
    environment = {name: value for name, value in worker.environment.items() if name != lost}
    with pytest.raises((AssertionError, BadInput)):
        s = settings_of(worker._replace(environment=environment), PRODUCTION["compose.prod.yaml"], tmp_path)
        assert [*profiles.missing(s)] == []


def test_no_health_check_asks_whether_a_process_is_ready() -> None:
    """A worker with a backlog is not ready, and a new start would only make it later. The image asks /livez, services
    ask nothing else, and only those without a port switch it off.
    """
    (check,) = re.findall(r"^HEALTHCHECK .*\\\n.*$", image_files.DOCKERFILE.read_text(), re.M)
    assert "/livez" in check and "readyz" not in check
    for file in COMPOSE:
        for each in of_compose(file):
            health = compose(file)["services"][each.name].get("healthcheck", {})
            assert health == ({"disable": True} if each.command == "archive" or each.name in FOR_HANDS else {})


def services(file: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose(file)["services"]
    return found


@pytest.mark.parametrize("name", services("compose.prod.yaml"))
def test_a_container_of_production_can_do_little(name: str) -> None:
    """Its root can't be written, it has no capability but what it says, no way to more, and limits; nothing but the
    proxy is reachable from outside, and Kafka and the log server stand in a network without a way out.
    """
    each = services("compose.prod.yaml")[name]
    assert each["read_only"] and each["cap_drop"] == ["ALL"] and "no-new-privileges:true" in each["security_opt"]
    assert each.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
    if name not in {*FOR_HANDS, "topics"}:
        assert {"cpus", "memory", "pids"} <= each["deploy"]["resources"]["limits"].keys()
    assert ("ports" in each) == (name == "proxy")
    assert all(interpolated(port).startswith("127.0.0.1:") for port in each.get("ports", ()))
    if name in ("kafka", "valkey", "topics", "worker"):
        assert each["networks"] == ["servers"]


def test_every_secret_of_production_is_made_and_mounted() -> None:
    """Each is defined and used; what secrets.sh makes is what the file names; none is in an environment."""
    whole = compose("compose.prod.yaml")
    used = {
        each if isinstance(each, str) else each["source"]
        for service in whole["services"].values()
        for each in service.get("secrets", ())
    }
    assert used == whole["secrets"].keys()
    assert all(each["file"].startswith("prod/secrets/") for each in whole["secrets"].values())
    configs = {each["source"] for service in whole["services"].values() for each in service.get("configs", ())}
    assert configs == whole["configs"].keys()
    made = "prod/secrets/ca.crt"
    assert all((DOCKER / each["file"]).exists() for each in whole["configs"].values() if each["file"] != made)
    for name, service in whole["services"].items():
        for key in service.get("environment", {}):
            assert not re.search(r"PASSWORD$|VAULT_KEY$|SECRET", key), (name, key)


def images() -> list[tuple[str, str]]:
    """(file, image), of every image that is not ours."""
    found = [("Dockerfile", name) for name in re.findall(r"^FROM (\S+)", image_files.DOCKERFILE.read_text(), re.M)]
    return found + [
        (file, each["image"]) for file in COMPOSE for each in services(file).values() if each["image"] not in IMAGES
    ]


@pytest.mark.parametrize(("file", "image"), images())
def test_images_of_others_have_an_exact_version(file: str, image: str) -> None:
    """Three numbers, or a digest; the same one wherever it is used."""
    assert re.search(r":v?\d+\.\d+\.\d+(-[\w.-]+)?$|@sha256:[0-9a-f]{64}$", image), image
    repository = re.split(r"[:@]", image)[0]
    assert {each for _, each in images() if re.split(r"[:@]", each)[0] == repository} == {image}


def test_topics_and_rights_of_production_are_those_of_the_roles() -> None:
    """kafka-topics.sh gives the roles what docs/security.md says, on the topics that the settings name."""
    script = (DOCKER / "prod" / "kafka-topics.sh").read_text()
    assert re.findall(r"^allow .*$", script, re.M) == least_rights.kafka_commands().splitlines()
    s = Settings(decisions_topic="decisions")
    topics = [s.transactions_topic, s.feedback_topic, s.decisions_topic, s.dead_letter_topic]
    assert re.findall(r"^create (\S+) ", script, re.M) == topics


@pytest.mark.parametrize(
    "script", [*sorted((DOCKER / "prod").glob("*.sh")), DOCKER / "pin.sh"], ids=lambda each: each.name
)
def test_scripts_are_of_posix_shell(script: Path) -> None:
    """They parse, and stop at the first error; Debian's and Alpine's shells run them."""
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    assert script.read_text().startswith("#!/bin/sh\n") and "\nset -eu\n" in script.read_text()


def test_ports_of_units_differ() -> None:
    """On one machine, each process needs one of its own."""
    ports = [each.environment["SENTINEL_METRICS_PORT"] for each in of_units() if each.command != "archive"]
    assert len({*ports}) == len(ports) == 6
