"""`sentinel program` as its users type it: documents, acts, answers, and what goes wrong."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console import cli, wiring
from console.commands import program as program_command
from core import control_stream
from core.errors import BadInput
from core.events import GovernanceChanged, ProgramDeployed
from core.log.memory import MemoryLog
from core.program import document, loading
from core.program.document_reading import LIMITS
from core.program.shipped import DEFAULT_PROGRAM, LIBRARIES
from tests.builders.baseline_log import fill
from tests.builders.command_line import run_command
from tests.builders.decisions import append_unchecked
from tests.builders.events import T0
from tests.builders.program_texts import ANN, BOB, ONE, TWO

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    """A decided log that no test changes."""
    log = MemoryLog()
    fill(log, transactions=60, accounts=10)
    return log


@pytest.fixture
def log(decided: MemoryLog) -> MemoryLog:
    """The decided log; what is appended to it is this test's own."""
    return decided.clone()


@pytest.fixture
def c(log: MemoryLog) -> int:
    """The control position that a test begins at."""
    return log.control_head()


@pytest.fixture
def run(log: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command line on the log, in a folder with two programs; (exit code, what it said)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)
    monkeypatch.setattr(program_command, "await_prepared", lambda *_: None)  # there is no worker
    (tmp_path / "one.toml").write_text(ONE, encoding="utf-8")
    (tmp_path / "two.toml").write_text(TWO, encoding="utf-8")

    def run(*arguments: str) -> tuple[int, str]:
        return run_command(monkeypatch, capsys, "program", *arguments).told

    return run


def asked(run: Run, *arguments: str) -> Any:
    code, out = run(*arguments, "--json")
    assert code == 0, out
    return json.loads(out.splitlines()[-1])


def decides(log: MemoryLog) -> str:
    """What a worker would decide by now."""
    state = control_stream.current(log)
    return wiring.open_resolver(log).context(state).program.plan.program.digest


def test_a_document_is_checked(run: Run, tmp_path: Path) -> None:
    """A valid one is summed up; of a wrong one every fault is told on a line with its place, and the code is 2."""
    found = asked(run, "check", "one.toml")
    assert found["valid"] and found["digest"] == loading.check(ONE.encode()).digest
    assert (found["features"], found["rules"]) == (1, 19)
    assert found["account_bytes"] == found["costliest_bytes"] > 0 and found["costliest"] == "declines"
    (tmp_path / "plain.toml").write_text('[program]\nname = "plain"\nversion = "1.0.0"\nuses = ["standard@1"]\n')
    code, out = run("check", "plain.toml")
    assert code == 0 and "account_bytes" in out and "costliest" not in out
    (tmp_path / "bad.toml").write_text(ONE.replace("declines >", "declined >").replace("effect", "effekt"))
    code, out = run("check", "bad.toml")
    assert code == 2
    assert out.splitlines() == ["bad.toml: line 13, [[rules]] 1 effekt: unknown key 'effekt'; did you mean effect?"]
    (tmp_path / "bad.toml").write_text(ONE.replace("declines >", "declined >"))
    code, out = run("check", "bad.toml", "--json")
    problem = json.loads(out)["problems"][0]
    assert (code, problem["line"], problem["at"], problem["path"]) == (2, 12, [1, 1], ["rules", 0, "when"])
    assert run("check", "none.toml") == (2, "sentinel: can't read none.toml: No such file or directory\n")


def test_expressions_are_formatted(run: Run, tmp_path: Path) -> None:
    """Printed or written; comments stay, and the identity is the same."""
    code, out = run("fmt", "one.toml")
    assert code == 0 and "decision == 'decline'" in out and out.startswith("# ours")
    assert (tmp_path / "one.toml").read_text() == ONE
    assert run("fmt", "one.toml", "--write") == (0, "one.toml formatted\n")
    assert run("fmt", "one.toml", "--write") == (0, "one.toml unchanged\n")
    assert loading.check((tmp_path / "one.toml").read_bytes()).digest == loading.check(ONE.encode()).digest


def test_a_program_is_proposed_and_deployed(run: Run, log: MemoryLog, c: int) -> None:
    """Each act once, however often it is repeated; the next batch is decided by it; a rollback returns."""
    one = loading.check(ONE.encode()).digest
    assert decides(log) == DEFAULT_PROGRAM
    code, out = run("propose", "one.toml", *ANN)
    assert (code, out) == (0, f"cards@1.0.0 proposed at c{c + 2} as cards@1.0.0:0\n")
    assert asked(run, "propose", "one.toml", *ANN)["outcome"] == "unchanged"
    assert decides(log) == DEFAULT_PROGRAM
    assert run("deploy", "cards@1.0.0:0", *ANN) == (0, f"cards@1.0.0 deployed at c{c + 3}\n")
    assert decides(log) == one
    assert asked(run, "deploy", one[:8], *ANN)["outcome"] == "unchanged"
    run("propose", "two.toml", *ANN)
    assert asked(run, "deploy", "cards@2.0.0", *ANN)["outcome"] == "deployed"
    deployed = [event for _, event in control_stream.accepted(log) if isinstance(event, ProgramDeployed)]
    assert [e.causation_id for e in deployed] == ["cards@1.0.0:0", "cards@2.0.0:1"]
    assert run("rollback", *BOB) == (0, f"cards@1.0.0 decides again (rolled back) at c{c + 7}\n")
    assert decides(log) == one
    assert asked(run, "rollback", *BOB)["program"] == "default"
    assert decides(log) == DEFAULT_PROGRAM
    code, out = run("rollback", *BOB)
    assert code == 2 and "no other did before" in out
    assert asked(run, "rollback", "cards@2.0.0", *BOB)["outcome"] == "rolled back"
    assert asked(run, "rollback", "cards@2.0.0", *BOB)["outcome"] == "unchanged"


def test_four_eyes(run: Run, log: MemoryLog) -> None:
    """The proposer can't approve, nobody can deploy before, and the commands say what to do."""
    append_unchecked(log, GovernanceChanged(occurred_at=T0, actor="cho", four_eyes=True))
    code, out = run("propose", "one.toml", *ANN)
    assert code == 0 and "a second person must run `sentinel program approve cards@1.0.0:0`" in out
    code, out = run("deploy", "cards@1.0.0:0", *BOB)
    assert code == 2 and "somebody other than ann must approve" in out
    code, out = run("approve", "cards@1.0.0:0", *ANN)
    assert code == 2 and "somebody else must approve it" in out
    assert run("approve", "cards@1.0.0:0", *BOB)[0] == 0
    assert asked(run, "approve", "cards@1.0.0:0", *BOB)["outcome"] == "unchanged"
    assert run("deploy", "cards@1.0.0:0", *ANN)[0] == 0
    code, out = run("approve", "cards@1.0.0:0", *BOB)
    assert code == 2 and "(open: none)" in out
    found = asked(run, "served", "--at", f"c{log.control_head()}")
    assert [found[key]["actor"] for key in ("proposed", "approved", "deployed")] == ["ann", "bob", "ann"]
    assert not control_stream.current(log).refused


def test_a_proposal_is_withdrawn(run: Run, log: MemoryLog, c: int) -> None:
    """It can't be approved or deployed any more; the history says who withdrew it and why; a new one has another ID."""
    append_unchecked(log, GovernanceChanged(occurred_at=T0, actor="cho", four_eyes=True))
    run("propose", "one.toml", *ANN)
    assert run("withdraw", "cards@1.0.0:0", *BOB)[1].startswith("proposal cards@1.0.0:0 of cards@1.0.0 withdrawn at c")
    assert "unchanged" in run("withdraw", "cards@1.0.0:0", *BOB)[1]
    code, said = run("approve", "cards@1.0.0:0", *BOB)
    assert code == BadInput.exit_code and "no proposal 'cards@1.0.0:0' is open (open: none)" in said
    code, said = run("deploy", "cards@1.0.0", "--now", *ANN)
    assert code == BadInput.exit_code and "only on an open proposal" in said
    code, said = run("withdraw", "cards@9.0.0:0", *BOB)
    assert code == BadInput.exit_code and "no proposal 'cards@9.0.0:0' is open" in said
    told = json.loads(run("history", "--json")[1])["withdrawn"]
    assert [(each["proposal"]["proposed"]["actor"], each["withdrawn"]["actor"]) for each in told] == [("ann", "bob")]
    assert "withdrawn" in run("history")[1]
    assert "as cards@1.0.0:0+" in run("propose", "one.toml", *ANN)[1]


def test_the_past_is_told(run: Run, log: MemoryLog, c: int) -> None:
    """Which program served when, who brought it there and why; refused acts are told too."""
    run("propose", "one.toml", *ANN)
    run("deploy", "cards@1.0.0:0", *BOB)
    append_unchecked(log, ProgramDeployed(occurred_at=T0, actor="eve", digest="9" * 64))
    assert asked(run, "served", "--at", f"c{c + 2}")["program"] == "default"
    found = asked(run, "served", "--at", f"c{c + 3}")
    assert (found["program"], found["since"]["actor"], found["proposed"]["reason"]) == (
        "cards@1.0.0",
        "bob",
        "fewer false alarms",
    )
    run("rollback", "default", *ANN)
    found = asked(run, "served", "--at", f"c{log.control_head()}")
    assert (found["program"], found["digest"], found["action"]) == ("default", DEFAULT_PROGRAM, "rollback")
    code, out = run("history")
    assert code == 0
    lines = [line.split()[:4] for line in out.splitlines()[1:5]]
    assert [(line[0], line[2], line[3]) for line in lines] == [
        (f"c{c + 1}", "ann", "registered"),
        (f"c{c + 3}", "bob", "deploy"),
        (f"c{c + 4}", "eve", "refused"),
        (f"c{c + 5}", "ann", "rollback"),
    ]
    assert "not registered" in out
    assert run("served", "--at", f"c{c + 3}")[1].splitlines()[0].split() == ["program", "cards@1.0.0"]


def test_programs_are_shown_and_compared(run: Run, tmp_path: Path) -> None:
    """By file, name, digits of the digest; what is printed is the same program again."""
    run("propose", "one.toml", *ANN)
    one = loading.check(ONE.encode())
    code, out = run("show", one.digest[:10])
    assert code == 0 and loading.check(out.encode()) == one
    assert asked(run, "show", "cards@1.0.0")["document"]["rules"][0]["code"] == "DECLINES"
    assert asked(run, "show")["digest"] == DEFAULT_PROGRAM
    assert asked(run, "show", "standard@1")["digest"] == LIBRARIES["standard@1"]
    code, out = run("diff", "cards@1.0.0", "two.toml")
    assert (code, out.splitlines()) == (
        0,
        ["program cards@1.0.0 → cards@2.0.0", 'rule DECLINES, when: "declines > 3" → "declines > 5"'],
    )
    assert asked(run, "diff", "one.toml", "two.toml")["differences"] == out.splitlines()
    assert "rule DECLINES added" in run("diff", "one.toml")[1]
    assert run("diff", "one.toml", "one.toml") == (0, "the same program\n")
    for name, words in (("cards@9.0.0", "no program is called"), ("gone.toml", "no such file")):
        code, out = run("show", name)
        assert code == 2 and words in out


def test_a_name_too_long_for_a_file_is_only_unknown(run: Run) -> None:
    """Whatever is given for a program, the answer is one line."""
    for arguments in (["diff", "x" * 300], ["diff", "x" * 300, "x" * 5000], ["show", "x" * 300]):
        code, said = run(*arguments)
        assert code == 2 and "no program" in said


def test_a_label_stands_for_one_program(run: Run, tmp_path: Path) -> None:
    """Another document under the same name and version is refused: raise the version."""
    run("propose", "one.toml", *ANN)
    (tmp_path / "one.toml").write_text(TWO.replace("2.0.0", "1.0.0"))
    code, out = run("propose", "one.toml", *ANN)
    assert code == 2 and "increase the version" in out
    (tmp_path / "one.toml").write_text(ONE.replace("declines >", "declined >"))
    code, out = run("propose", "one.toml", *ANN)
    assert code == 2 and "one.toml: line 12, [[rules]] 1 when, at 1:1" in out


def test_a_lost_document_is_not_deployed(run: Run, log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers could not load is refused before the event is appended."""
    run("propose", "one.toml", *ANN)
    digest = loading.check(ONE.encode()).digest

    def lost(asked: str) -> bytes:
        raise BadInput(f"the log has no blob {asked[:16]}")

    monkeypatch.setattr(log, "get_blob", lost)
    code, out = run("deploy", "cards@1.0.0", *ANN)
    assert code == 2 and f"program {digest[:16]} can't be loaded, so it can't decide" in out
    assert control_stream.current(log).program == ""


NOT_HERE = (
    "sentinel program backtest",
    "sentinel program suggest",
    "sentinel train",
    "sentinel model promote",
)
"""The processes of the first open the log server themselves; the others need many labelled frauds."""
FOUND = re.compile(r"(\w+)=\$\((sentinel [a-z ]+) \| grep -o '(.+)'\)")


def test_the_page_runs_as_printed(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """docs/programs.md: its document is valid, and its commands work one after the other."""
    page = (Path(__file__).resolve().parents[3] / "docs/programs.md").read_text(encoding="utf-8")
    written = re.search(r"```toml\n(.+?)```", page, re.S)
    lines = [line for block in re.findall(r"```sh\n(.+?)```", page, re.S) for line in block.splitlines()]
    assert written and len(lines) > 10
    (tmp_path / "cards.toml").write_text(written[1], encoding="utf-8")
    held: dict[str, str] = {}
    for printed in lines:
        if printed.startswith(NOT_HERE):
            continue
        found = FOUND.match(printed)  # what the shell does here
        line = found[2] if found else printed
        for name, value in held.items():
            line = line.replace(name, value)
        monkeypatch.setattr("sys.argv", shlex.split(line, comments=True))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert not ended.value.code, (line, said)
        if found:
            (held[f"${found[1]}"],) = re.findall(found[3], said.out)


def test_the_page_names_every_key() -> None:
    """The reference's table has a row for every key of every table, and for nothing else."""
    page = (Path(__file__).resolve().parents[3] / "docs/programs.md").read_text(encoding="utf-8")
    table = page.partition("| table | key | holds |")[2].partition("\n\n")[0]
    named = {word for row in table.splitlines()[2:] for word in re.findall(r"`(\w+)`", row.split("|")[2])}
    records = (document.Field, document.Feature, document.Rule, document.Decision, document.Example)
    keys = {name for record in records for name in record.__struct_fields__} - {"source", "values", "actions"}
    assert named == keys | {"name", "version", "uses", "from", *LIMITS, "critical", "low"}
    assert all(f"`{name}" in table for name in document.Payment.__struct_fields__ if name != "values")


def test_parameters_of_the_program_can_be_set(
    run: Run, log: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`sentinel rule` knows the parameters and rules of the program in force, and no others."""
    (tmp_path / "one.toml").write_text(
        ONE.replace("[features]", "[parameters]\nmost = 3\n[features]").replace("> 3", "> most")
    )

    def rule(*arguments: str) -> tuple[int, str]:
        return run_command(monkeypatch, capsys, "rule", *arguments).told

    code, out = rule("set", "most=4", *ANN)
    assert code == 2 and "unknown rule parameter 'most'" in out
    run("propose", "one.toml", *ANN)
    run("deploy", "cards@1.0.0", *ANN)
    assert rule("set", "most=4", "velocity_10m=5", *ANN)[0] == 0
    assert rule("disable", "DECLINES", "VELOCITY_24H", *ANN)[0] == 0
    state = control_stream.current(log)
    assert (state.parameters, state.disabled) == (
        {"most": 4.0, "velocity_10m": 5.0},
        ("VELOCITY_24H", "UNUSUAL_HOUR", "DECLINES"),
    )
    code, out = rule("show", "DECLINES", "--json")
    row = json.loads(out.splitlines()[-1])["rules"][0]
    assert (row["state"], row["parameters"], row["effect"]) == ("disabled", {"most": 4.0}, "review")
    code, out = rule("set", "review_probability=0.5", *ANN)
    assert code == 2 and "sentinel threshold set" in out


def test_examples_are_run(run: Run, tmp_path: Path) -> None:
    """Code 1 if one does not hold, with what does not; 2 without any."""
    example = '\n[[examples]]\nname = "one"\npayments = [{}]\nmisses = ["DECLINES"]\n'
    (tmp_path / "one.toml").write_text(ONE + example)
    assert run("test", "one.toml") == (0, "ok     one\n1 examples, 0 failed\n")
    (tmp_path / "one.toml").write_text(ONE + example.replace("misses", "hits"))
    code, out = run("test", "one.toml")
    assert code == 1 and "FAILED one" in out and "DECLINES does not hit" in out
    code, out = run("test", "two.toml")
    assert code == 2 and "has no [[examples]]" in out
