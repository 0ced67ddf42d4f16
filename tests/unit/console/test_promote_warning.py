"""`sentinel model promote` and `approve` warn of a model that the gate would refuse; they promote it all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from console import cli, wiring
from core.context import Resolver
from core.events import ModelDeployed, ModelRegistered
from core.features import spec
from core.log.memory import MemoryLog
from ingest.offline import OfflineIngest
from models import lightgbm_text
from models.shipped import shipped_baseline
from sources.synthetic import SyntheticConfig, SyntheticStream

Run = Callable[..., tuple[int, str, str]]
CONTENT, CARD = shipped_baseline()
LABEL = f"{CARD['name']}-{CARD['version']}"


def shifted(by: float) -> bytes:
    """The shipped model with its log-odds shifted."""
    first, *others = lightgbm_text.parse(CONTENT).trees
    return lightgbm_text.with_leaf_values(CONTENT, [first.leaf_value + by, *(tree.leaf_value for tree in others)])


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    """A month of 150 accounts with 4 % fraud and all verdicts, decided by the shipped model."""
    log = MemoryLog()
    digest = log.put_blob(CONTENT)
    named = {"actor": "ann", "reason": "r", "occurred_at": 0, "name": CARD["name"], "version": CARD["version"]}
    start = [
        ModelRegistered(**named, digest=digest, spec=spec.SPEC_VERSION),
        ModelDeployed(**named, digest=digest),
    ]
    offline = OfflineIngest(log, Resolver(log.get_blob, wiring.load_scorer), partitions=2, start=start)
    config = SyntheticConfig(transactions=13_000, accounts=150, merchants=400, fraud_rate=0.04, seed=5)
    for chunk in SyntheticStream(config, flush_feedback=True).records():
        offline.feed(chunk)
    offline.flush()
    return log


@pytest.fixture
def run(decided: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs `sentinel model` on a copy of the log: (exit code, stdout, stderr)."""
    log = decided.clone()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["sentinel", "model", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    def registered(by: float, version: str) -> None:
        Path("m.txt").write_bytes(shifted(by) if by else CONTENT + b"\n")
        assert run("register", "m.txt", "--name", "cards", "--version", version)[0] == 0

    registered(0.0, "1.0.0")
    registered(0.7, "2.0.0")
    return run


def test_a_model_that_fails_is_promoted_with_a_warning(run: Run) -> None:
    """The level is shifted: stderr says what fails and on how many decisions; stdout stays JSON; the act is done."""
    code, out, err = run("promote", "cards-2.0.0", "--reason", "r", "--json")
    assert (code, json.loads(out)["outcome"]) == (0, "deployed")
    assert err.startswith(f"warning: cards-2.0.0 does not pass the gate against {LABEL} on ") and err.count("\n") == 1
    assert "the level shifts by +0.70 log-odds" in err


def test_what_passes_is_not_warned_of(run: Run) -> None:
    """An equal model; a shadow, which decides nothing; the champion again; and whoever asks for no check."""
    assert run("promote", "cards-2.0.0", "--as", "shadow", "--reason", "r")[2] == ""
    assert run("promote", LABEL, "--reason", "r")[2] == ""
    assert run("promote", "cards-1.0.0", "--reason", "r")[2] == ""
    assert run("promote", "cards-2.0.0", "--reason", "r", "--no-check")[2] == ""


def test_an_approval_warns_too(run: Run) -> None:
    """With four eyes on, both the one who proposes and the one who approves are told."""
    assert run("four-eyes", "on", "--reason", "r")[0] == 0
    _, out, err = run("promote", "cards-2.0.0", "--reason", "r", "--actor", "ann", "--json")
    assert "does not pass the gate" in err
    _, out, err = run("approve", json.loads(out)["proposal_id"], "--reason", "r", "--actor", "bob")
    assert "does not pass the gate" in err and "deployed" in out


def test_what_cannot_be_judged_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log without decisions: promoted, with the reason why nobody can tell."""
    log = MemoryLog()
    OfflineIngest(log, Resolver(log.get_blob, wiring.load_scorer), partitions=1)
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)
    assert run("register", "m.txt", "--name", "cards", "--version", "1.0.0")[0] == 0
    assert run("promote", "cards-1.0.0", "--reason", "r")[2] == ""
    Path("other.txt").write_bytes(CONTENT + b"\n\n")
    assert run("register", "other.txt", "--name", "other", "--version", "1.0.0")[0] == 0
    code, _, err = run("promote", "other-1.0.0", "--reason", "r")
    assert code == 0 and err == "warning: the gate can't judge other-1.0.0: the log holds no decisions yet\n"
