"""Every command says which rights it needs, and the roles that it names give them."""

from __future__ import annotations

from pathlib import Path

import typer

from console import cli
from console.least_rights import KAFKA_ROLES, NEEDS, NOTHING, ROLES, allowed, kafka_commands


def leaves() -> set[str]:
    """Every command and subcommand, as it is typed; a group that runs by itself is one too."""
    found: set[str] = set()

    def walk(node: object, path: list[str]) -> None:
        below = getattr(node, "commands", None)
        if below is None or (path and getattr(node, "invoke_without_command", False)):
            found.add(" ".join(path))
        for name, each in (below or {}).items():
            walk(each, [*path, name])

    walk(typer.main.get_command(cli.application()), [])
    return found


def test_every_command_has_an_entry() -> None:
    """A new command fails here until console/least_rights.py says what it needs."""
    assert leaves() == set(NEEDS)


def test_the_least_role_gives_what_a_command_needs() -> None:
    """On the log server and on Kafka; every role is some command's."""
    assert ROLES.keys() == KAFKA_ROLES.keys() == {needs.role for needs in NEEDS.values() if needs != NOTHING}
    for command, needs in NEEDS.items():
        assert needs == NOTHING or allowed(needs.role, command), command


def test_the_page_shows_the_rights_on_kafka() -> None:
    """The commands of docs/security.md are those that the integration suite tries."""
    page = Path(__file__).parents[3] / "docs" / "security.md"
    assert kafka_commands() in page.read_text(encoding="utf-8")
