"""What each command needs from the log server and from Kafka, and the least role that gives it.

The roles are those of the shipped ACL files (`docker/acl`), which the integration suite loads into real servers: every
command runs under its role, and under a role without one of its rights it is refused. docs/security.md prints the
matrix; a command without an entry here fails a test.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from core.settings import Settings

Right = Literal["read", "partitions", "trim", "control", "blobs", "server"]
"""On the log server. read: all of the log. partitions: append batches. trim: remove archived batches and tables.
control: append to the control stream. blobs: store models, programs and tables. server: ask the server how it is
configured.
"""
KafkaRight = Literal["pay", "tell", "decide", "group", "create"]
"""On Kafka. pay: write `transactions`, and find its end. tell: write `feedback`, and find its end. decide: read both,
write decisions and rejects. group: join the responders' group. create: create topics.
"""

ROLES: dict[str, tuple[Right, ...]] = {
    "reader": ("read",),
    "worker": ("read", "partitions", "control", "blobs"),
    "archiver": ("read", "trim", "control"),
    "learner": ("read", "control", "blobs"),
    "notary": ("read", "control"),
    "responder": ("read",),
    "api": ("read", "control", "blobs"),
    "admin": ("read", "partitions", "trim", "control", "blobs", "server"),
}
KAFKA_ROLES: dict[str, tuple[KafkaRight, ...]] = {
    "reader": (),
    "worker": ("decide",),
    "archiver": (),
    "learner": (),
    "notary": (),
    "responder": ("tell", "group"),
    "api": ("pay", "tell"),
    "admin": ("pay", "tell", "decide", "group", "create"),
}


KAFKA_ACLS: dict[KafkaRight, tuple[tuple[str, str, str], ...]] = {
    "pay": (("topic", "transactions_topic", "write"), ("topic", "transactions_topic", "read")),
    "tell": (("topic", "feedback_topic", "write"), ("topic", "feedback_topic", "read")),
    "decide": (
        ("topic", "transactions_topic", "read"),
        ("topic", "feedback_topic", "read"),
        ("topic", "decisions_topic", "write"),
        ("topic", "dead_letter_topic", "write"),
        ("group", "consumer_group", "read"),
    ),
    "group": (("topic", "transactions_topic", "describe"), ("group", "consumer_group+.responders", "read")),
    "create": (
        ("cluster", "", "create"),
        ("cluster", "", "describe"),
        ("topic", "transactions_topic", "describe_configs"),
        ("topic", "feedback_topic", "describe_configs"),
    ),
}
"""What an authoriser must allow for each right: resource, the setting that names it (and what follows it), operation.
Reading and writing include describing.
"""


class Needs(NamedTuple):
    """What a command needs. role: the least one that gives it; "" for a command that asks no server."""

    role: str
    log: tuple[Right, ...] = ()
    kafka: tuple[KafkaRight, ...] = ()


NOTHING = Needs("")
_READ = Needs("reader", ("read",))
_CONTROL = Needs("api", ("read", "control"))
_STORE = Needs("api", ("read", "control", "blobs"))
_TELL = Needs("responder", ("read",), ("tell",))

_OF: dict[Needs, tuple[str, ...]] = {
    NOTHING: (
        *("map", "analyze", "program check", "program test", "program fmt"),
        *("user add", "user list", "user disable", "user token", "user link", "user revoke"),
        *("vault show", "vault new-key", "vault rotate"),
        *("identity new", "completion", "schema", "capacity"),
        *("bench pipeline", "bench handbook", "bench backtest", "bench api"),
        # With servers of their own; with others, they need what the processes need that they start, or ask the log.
        *("demo", "run", "up", "down", "status", "logs"),
    ),
    _READ: (
        *("replay", "audit", "whatif", "train", "verify", "prove", "project", "partition show"),
        *("alerts", "decisions", "sql", "export"),
        *("query profile", "query cases", "query case", "query labels", "query sources", "query lists"),
        *("query experiment", "query shadow", "query reference", "query registry", "query drift", "query stats"),
        *("query responses", "proposal list", "proposal show", "identity list"),
        *("case list", "case show", "list show", "list history", "threshold show", "threshold history"),
        *("threshold costs", "rule show", "rule history", "program show", "program diff", "program history"),
        *("program backtest", "program suggest", "program radius", "program served", "rates show", "rates history"),
        *("history show", "model list", "model show", "model radius", "experiment show", "respond status"),
    ),
    _CONTROL: (
        *("list add", "list remove", "threshold set", "rule set", "rule reset", "rule disable", "rule enable"),
        *("program approve", "program withdraw", "program deploy", "program rollback", "rates set", "erase", "unseal"),
        *("history start", "history stop", "model promote", "model approve", "model rollback", "model withdraw"),
        *("model four-eyes", "experiment start", "experiment ramp", "experiment stop", "experiment conclude"),
        *("respond on", "respond off", "partition accept-loss", "proposal approve", "proposal withdraw"),
        *("identity add", "identity change", "identity rotate", "identity revoke", "identity require"),
    ),
    _STORE: ("program propose", "model register"),
    _TELL: (
        *("feedback", "block", "unblock", "respond retry"),
        *("case next", "case take", "case assign", "case release", "case route", "case note", "case snooze"),
        *(
            "case wake",
            "case link",
            "case resolve",
            "case close",
            "case reopen",
            "case macro",
            "case undo",
            "case check",
            "case open",
        ),
    ),
    Needs("learner", ("read", "control")): ("drift",),
    Needs("notary", ("read", "control")): ("anchor",),
    Needs("learner", ("read", "control", "blobs")): ("learn", "reference"),
    Needs("worker", ("read", "partitions", "control", "blobs"), ("decide",)): ("ingest",),
    Needs("archiver", ("read", "trim", "control")): ("archive",),
    Needs("worker", ("read", "partitions", "control", "blobs")): ("restore",),
    Needs("responder", ("read",), ("tell", "group")): ("respond",),
    Needs("api", ("read", "control", "blobs"), ("pay", "tell")): ("serve",),
    # The log, for a stream of the past.
    Needs("api", ("read", "control"), ("pay", "tell")): ("produce", "history copy"),
    Needs("api", ("read",), ("pay", "tell")): ("sample",),
    Needs("admin", ("read", "server")): ("doctor",),
}
NEEDS: dict[str, Needs] = {command: needs for needs, commands in _OF.items() for command in commands}
"""Every command and subcommand, as it is typed."""


def allowed(role: str, command: str) -> bool:
    """Whether the role's rights are enough for all that the command does."""
    needs = NEEDS[command]
    return set(needs.log) <= set(ROLES[role]) and set(needs.kafka) <= set(KAFKA_ROLES[role])


def kafka_acls(role: str, settings: Settings) -> list[tuple[str, str, str]]:
    """What an authoriser must allow the role: resource, its name, operation. Names are those of the settings; a topic
    that they don't have is left out.
    """
    found: list[tuple[str, str, str]] = []
    for right in KAFKA_ROLES[role]:
        for resource, setting, operation in KAFKA_ACLS[right]:
            field, _, more = setting.partition("+")
            name = "kafka-cluster" if resource == "cluster" else getattr(settings, field)
            if name:
                found.append((resource, name + more, operation))
    return list(dict.fromkeys(found))


def kafka_commands() -> str:
    """The commands of docs/security.md that give each role its rights on Kafka, with the default names."""
    lines = []
    settings = Settings(decisions_topic="decisions")
    for role in KAFKA_ROLES:
        given: dict[tuple[str, str], list[str]] = {}
        for resource, name, operation in kafka_acls(role, settings):
            given.setdefault((resource, name), []).append(operation)
        for (resource, name), operations in given.items():
            where = "--cluster" if resource == "cluster" else f"--{resource} {name}"
            what = " ".join(f"--operation {operation.replace('_', '').lower()}" for operation in operations)
            lines.append(f"allow sentinel-{role} {where} {what}")
    return "\n".join(lines) + "\n"


def markdown() -> str:
    """The matrix of docs/security.md: which roles are enough for a command."""
    rows = [f"| command | {' | '.join(ROLES)} |", f"|---|{'---|' * len(ROLES)}"]
    for command, needs in sorted(NEEDS.items()):
        if needs != NOTHING:
            marks = ("least" if role == needs.role else "yes" if allowed(role, command) else "–" for role in ROLES)
            rows.append(f"| `{command}` | {' | '.join(marks)} |")
    return "\n".join(rows) + "\n"
