"""Every command under its least role on a Redis with TLS and the shipped ACL file, and refused without that role."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from console import cli
from console.least_rights import NEEDS, ROLES, Needs
from console.service import Service
from console.stack import Broker
from core.authority import KINDS, WORKER
from core.codec import decode_alert, decode_control, decode_transaction
from core.events import START
from core.log.redis_streams import RedisLog
from core.settings import Settings, environment_name
from ingest import kafka_client
from models import rules_only
from tests.builders.bank import history, until
from tests.integration.roles import LINES, opened, user_of
from tests.integration.secured_servers import ROOT_USER, Authority, SecuredRedis, password

NOBODY = "user nobody on resetchannels -@all +auth +hello +ping +client|setname +select"
RULES_ONLY = f"{rules_only.NAME}-{rules_only.VERSION}"
WHY = ["--reason", "a trial", "--actor", "ann"]
PROGRAM = '[program]\nname = "cards"\nversion = "1.0.0"\nuses = ["standard@1"]\n'
REFUSED = "the user may not do this"
SECONDS = 60.0


class Place(NamedTuple):
    """Servers with a decided log, and names that stand in it."""

    directory: Path
    server: SecuredRedis
    kafka: str
    names: dict[str, str]


@pytest.fixture(scope="module")
def place(needs_redis: None, broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A month of payments, sent as `api` and decided by a worker that is only `worker`."""
    folder = tmp_path_factory.mktemp("commands")
    server = SecuredRedis(folder / "redis", Authority(folder / "certificates"), [*LINES.values(), NOBODY])
    for role in (*ROLES, "nobody"):
        path = folder / f"{user_of(role)}.password"
        path.write_text(password(user_of(role)) + "\n")
        path.chmod(0o600)
    server.start()
    found = Place(folder, server, broker.bootstrap, {})
    try:
        s = Settings(**environment(found, "admin"))
        kafka_client.create_topics(s, [s.transactions_topic, s.feedback_topic, s.dead_letter_topic])
        run_to_end(found, "api", ["produce", *history(1500, 60)])
        with command(found, "worker", ["ingest"]), closing(opened(server, ROOT_USER)) as log:
            until(lambda: sum(log.length(p, "scores") for p in range(2)) >= 1500, 180.0)
            found.names.update(names(log))
            (folder / "program.toml").write_text(PROGRAM)
            (folder / "settings.toml").write_text('[cases.macros.agreed]\nverdict = "fraud"\nnote = "agreed"\n')
            (folder / "rates.csv").write_text("currency,rate\nUSD,1.1\n")
            run_to_end(found, "reader", ["anchor", "--new-key", str(folder / "notary.key")])
            yield found
    finally:
        server.stop()


def environment(place: Place, role: str) -> dict[str, object]:
    """The settings that name the servers and the role's user."""
    return {
        "kafka_servers": place.kafka,
        "redis_host": "127.0.0.1",
        "redis_port": place.server.port,
        "redis_tls": True,
        "redis_ca_file": str(place.server.ca_file),
        "redis_username": user_of(role),
        "redis_password_file": str(place.directory / f"{user_of(role)}.password"),
        "transactions_topic": "rights.transactions",
        "feedback_topic": "rights.feedback",
        "dead_letter_topic": "rights.rejects",
        "consumer_group": "rights",
        "partitions": 2,
        "snapshot_directory": str(place.directory / "snapshots"),
        "archive": str(place.directory / "archive"),
    }


def command(place: Place, role: str, arguments: list[str]) -> Service:
    """The command as a process of its own."""
    return Service(f"{arguments[0]}-{role}", arguments, Settings(**environment(place, role)), place.directory)


def run_to_end(place: Place, role: str, arguments: list[str]) -> None:
    """Run the command as a process of its own; fails unless its exit code is 0."""
    with command(place, role, arguments) as running:
        assert running.wait(180.0) == 0, running.log_path.read_text()


def names(log: RedisLog) -> dict[str, str]:
    """A transaction, an account, an alert and a position that the log holds."""
    entry = log.read(0, "transactions", START, 1)[0]
    paid = decode_transaction(entry.payload)
    alert = decode_alert(log.read(0, "alerts", START, 1)[0].payload)
    return {
        "transaction": paid.transaction_id,
        "account": paid.account_id,
        "alert": alert.alert_id,
        "position": f"p00:{entry.id}",
        "case": alert.alert_id,
        "champion": "baseline-1.0.0",
    }


def trial(name: str, place: Place) -> list[str]:
    """The command with arguments that lead it as far as it can go on this log."""
    n, here = place.names, place.directory
    payment, account, champion = n["transaction"], n["account"], n["champion"]
    more: dict[str, list[str]] = {
        "audit": [payment],
        "alerts": ["all"],
        "sql": ["select count(*) from control"],
        "export": [str(here / "exported")],
        "prove": [payment, "--out", str(here / "proof")],
        "whatif": ["--decline", "0.7", "--jobs", "1"],
        "replay": ["--verify"],
        "train": ["--output", str(here / "trained")],
        "feedback": [payment, "--verdict", "fraud", "--source", "analyst", "--actor", "ann"],
        "block": [account, *WHY],
        "unblock": [account, *WHY],
        "archive": ["--trim", "--hot-hours", "0"],
        "anchor": ["--key", str(here / "notary.key"), "--directory", str(here / "anchors")],
        "drift": ["--publish", "--settle-days", "7", "--reference-days", "7"],
        "query profile": [account],
        "query case": [n["case"]],
        "query experiment": [],
        "query reference": ["merchant", "m1"],
        "case show": [n["case"]],
        "list add": ["merchant", "block", "shop-66", *WHY],
        "list remove": ["merchant", "block", "shop-66", *WHY],
        "threshold set": ["--review", "0.3", "--decline", "0.9", *WHY],
        "threshold costs": ["--review-cost", "5"],
        "rule set": ["amount_high=500", *WHY],
        "rule reset": ["amount_high", *WHY],
        "rule disable": ["AMOUNT_HIGH", *WHY],
        "rule enable": ["AMOUNT_HIGH", *WHY],
        "program diff": ["standard@1"],
        "program propose": [str(here / "program.toml"), *WHY],
        "program approve": ["cards@1.0.0:0", "--reason", "a trial", "--actor", "bob"],
        "program withdraw": [n.get("proposal", ""), *WHY],
        "program deploy": ["cards@1.0.0", *WHY],
        "program radius": ["--rule", "AMOUNT_HIGH"],
        "program rollback": WHY,
        "program backtest": [str(here / "program.toml")],
        "program served": ["--at", n["position"]],
        "proposal show": ["c1"],
        "proposal approve": ["c1", *WHY],
        "proposal withdraw": ["c1", *WHY],
        "rates set": [str(here / "rates.csv"), "--base", "EUR", *WHY],
        "history start": ["--from", "2020-01-01", "--until", "2020-02-01", *WHY],
        "history stop": WHY,
        "model show": [champion],
        "model register": ["--rules-only", *WHY],
        "model promote": [RULES_ONLY, "--no-check", *WHY],
        "model approve": ["c1", *WHY],
        "model rollback": WHY,
        "model withdraw": ["shadow", *WHY],
        "model four-eyes": ["off", *WHY],
        "identity add": ["Ann", "--role", "admin"],
        "identity change": ["Ann", "--role", "admin"],
        "identity revoke": ["Ann", *WHY],
        "identity require": ["off", *WHY],
        "model radius": [champion],
        "experiment start": [f"trial-{next(NUMBERS)}", "--arm", f"a={champion}", "--arm", f"b={champion}", *WHY],
        "experiment ramp": ["20", *WHY],
        "experiment stop": WHY,
        "experiment conclude": ["--keep", *WHY],
        "partition accept-loss": ["0", *WHY],
        "respond on": ["queue_for_review", *WHY],
        "respond off": ["queue_for_review", *WHY],
        "respond retry": [n["alert"], "queue_for_review", *WHY],
        "case assign": [n["case"], "bob", "--actor", "ann"],
        "case route": [n["case"], "fraud", "--actor", "ann"],
        "case note": [n["case"], "a note", "--actor", "ann"],
        "case snooze": [n["case"], "1h", "--actor", "ann"],
        "case link": [n["case"], n["alert"], "--actor", "ann"],
        "case resolve": [n["case"], "--verdict", "fraud", "--actor", "ann"],
        "case close": [n["case"], "--verdict", "fraud", "--actor", "ann", "--force"],
        "case macro": ["agreed", n["case"]],
        "case open": [account, "--note", "looks odd", "--actor", "ann"],
        "case check": [],
        "case list": [],
        "case next": ["--actor", "ann"],
    }
    if name not in more and name.startswith("case "):
        more[name] = [n["case"], "--actor", "ann"]
    return [*name.split(), *more.get(name, [])]


BEFORE = {
    "rule reset": "rule set",
    "respond off": "respond on",
    "experiment start": "model register",
    "experiment ramp": "experiment start",
    "experiment conclude": "experiment start",
    "experiment stop": "experiment start",
    "model promote": "model register",
    "model rollback": "model promote",
    "program approve": "program propose",
    "program withdraw": "program propose",
    "program deploy": "program propose",
    "program rollback": "program deploy",
}
"""What must have happened for a command to have something to do; an admin does it first."""
AFTER = {
    "experiment ramp": ["experiment", "stop", *WHY],
    "experiment start": ["experiment", "stop", *WHY],
}
NUMBERS = itertools.count()
IDLE = (
    "proposal approve",
    "proposal withdraw",
    "anchor",
    "drift",
    "identity add",
    "identity change",
    "identity require",
    "identity revoke",
    "identity rotate",
    "learn",
    "model approve",
    "model four-eyes",
    "model withdraw",
    "partition accept-loss",
    "program approve",
)
"""Commands that have nothing to write on this log: without the right to write, they change nothing."""

Run = Callable[[str, list[str]], tuple[int, str]]


@pytest.fixture
def run(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process as a role; (exit code, what it said)."""
    monkeypatch.chdir(place.directory)
    monkeypatch.setenv("SENTINEL_CONFIG", str(place.directory / "settings.toml"))

    def run(role: str, arguments: list[str]) -> tuple[int, str]:
        for name, value in environment(place, role).items():
            monkeypatch.setenv(environment_name(name), str(value))
        monkeypatch.setattr(sys, "argv", ["sentinel", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return run


RUNNING = ("serve", "respond", "sample", "ingest", "produce")
"""Commands that run until they are stopped: tried as processes."""
ELSEWHERE = ("doctor", "erase", "unseal", "restore", "history copy")
"""doctor says what it may not see (below); erase and unseal need a log with tokens, and append as the other acts do;
restore needs an empty server; `history copy` needs other topics, and opens a history as produce does.
"""
TRIED = sorted(name for name, needs in NEEDS.items() if needs.log and name not in (*RUNNING, *ELSEWHERE))


def lacking(needs: Needs) -> list[str]:
    """Users without one of the rights: nobody at all, and for each right but reading a role that lacks it alone."""
    found = ["nobody"]
    for right in needs.log:
        rest = set(needs.log) - {right}
        without = [role for role, rights in ROLES.items() if right not in rights and rest <= set(rights)]
        found += [] if right == "read" else [*without, "reader"][:1]
    return list(dict.fromkeys(found))


def written_since(log: RedisLog, sequence: int) -> list[str]:
    """Kinds of control events after the sequence, but for those that only a worker may append: one runs beside the
    commands, and says e.g. when it is prepared for a proposed program.
    """
    kinds = [type(decode_control(payload)) for _, payload in log.read_control(sequence)]
    return [kind.__name__ for kind in kinds if KINDS[kind].roles != {WORKER}]


@pytest.mark.parametrize("name", TRIED)
def test_a_command_needs_its_role(place: Place, run: Run, name: str) -> None:
    """Refused in one line without a right that it needs; with its least role, it gets as far as the log lets it."""
    arguments = trial(name, place)
    before = [name]
    while (first := BEFORE.get(before[0])) is not None:
        before.insert(0, first)
    for each in before[:-1]:
        run("admin", trial(each, place))
    if name == "program withdraw":
        _, said = run("admin", ["program", "withdraw", "none", *WHY])
        place.names["proposal"] = re.findall(r"\(open: (\S+)\)", said)[0]
        arguments = trial(name, place)
    with closing(opened(place.server, ROOT_USER)) as log:
        for role in lacking(NEEDS[name]):
            head = log.control_head()
            code, said = run(role, arguments)
            is_idle = name in IDLE and role != "nobody"
            assert is_idle or (code, REFUSED in said) == (4, True), f"{role}: {code}: {said}"
            assert "Traceback" not in said
            assert written_since(log, head) == [] or "control" in ROLES.get(role, ())
    code, said = run(NEEDS[name].role, arguments)
    assert REFUSED not in said and "Traceback" not in said, said
    assert code in (0, 1, 2, 5), said
    if name in AFTER:
        run("admin", AFTER[name])
    print(f"{name}: {NEEDS[name].role}, exit code {code}: {said.strip().splitlines()[-1:]}")


@pytest.mark.parametrize("name", [each for each in RUNNING if each != "produce"])
def test_a_process_needs_its_role(place: Place, name: str) -> None:
    """It ends with the refusal, or keeps running."""
    arguments = [name, *{"serve": ["--port", "0"], "respond": ["--standby"]}.get(name, [])]
    with command(place, "nobody", arguments) as refused:
        assert refused.wait(SECONDS) == 4
        said = refused.log_path.read_text()
        assert REFUSED in said and "Traceback" not in said
    with command(place, NEEDS[name].role, arguments) as running, pytest.raises(Exception, match="did not exit"):
        running.wait(8.0)
    said = running.log_path.read_text()
    assert REFUSED not in said and "Traceback" not in said, said


def test_doctor_says_what_it_may_not_see(run: Run) -> None:
    """Under the worker's role it checks what it can, and says what it can't."""
    code, said = run("worker", ["doctor"])
    assert "no permission to run INFO" in said and code in (0, 1)
    code, said = run("admin", ["doctor"])
    assert "no permission" not in said, said
