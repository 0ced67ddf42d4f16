"""`sentinel doctor` says whether what this process appends would have an effect."""

from __future__ import annotations

import ast
from pathlib import Path

from console.actor_findings import actor_findings
from core import control_stream
from core.events import IdentityKeyAdded, IdentityKeyRevoked
from core.log.memory import MemoryLog
from core.persons import is_program
from tests.builders.identities import KEYS, Key, by, created, enrolled, log_of, put

ROOT = Path(__file__).parents[3]


def found(log: MemoryLog) -> list[tuple[str, str]]:
    return [(each.check, each.status) for each in actor_findings(log, control_stream.current(log))]


def test_a_key_is_on_the_roster_or_not() -> None:
    """No roster and no key: nothing to say; a key that is unknown, revoked or another's is told."""
    assert found(log_of(("", created()))) == []
    log = log_of(*enrolled())
    assert found(log) == [("identity", "warn")]
    log.signer = KEYS["worker-1"]
    assert found(log) == [("identity", "ok")]
    log.signer = Key("eve")
    assert found(log) == [("identity", "fail")]
    spare = Key("bob", 2)
    put(log, ("bob", IdentityKeyAdded(**by("bob"), name="bob", public_key=spare.public_key)))
    put(log, ("ann", IdentityKeyRevoked(**by("ann"), name="bob", key_id=spare.key_id)))
    log.signer = spare
    assert found(log) == [("identity", "fail")]


def test_a_roster_without_the_requirement_is_a_warning() -> None:
    """Unsigned acts still have an effect."""
    log = log_of(*enrolled(required=False))
    log.signer = KEYS["ann"]
    assert found(log) == [("identity", "ok"), ("roster", "warn")]


def test_what_programs_append_by_themselves_is_signed_in_the_keys_name() -> None:
    """Every name that a module acts under is a program's, which the signer's takes the place of; but for the responder,
    whose acts come through Kafka, and logs in memory.
    """
    names = {}
    for package in ("core", "console", "ingest", "learners", "projections"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ACTOR":
                    names[str(path.relative_to(ROOT))] = ast.literal_eval(node.value)
    assert len(names) >= 10
    assert [path for path, name in names.items() if not is_program(name)] == ["ingest/offline.py"]
