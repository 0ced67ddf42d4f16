"""Rules alone decide, as a choice: registered and promoted like a model, and nothing is lacking."""

from __future__ import annotations

from pathlib import Path

import pytest

from console import cli, wiring
from core import control_stream
from core.codec import decode_score
from core.context import Resolver
from core.events import Control, ModelDeployed, ModelRegistered, TransactionScored
from core.features import spec
from core.log.memory import MemoryLog
from core.replay import Timeline
from core.verification import verify
from ingest.offline import OfflineIngest
from models import rules_only
from sources.synthetic import SyntheticConfig, SyntheticStream

LABEL = f"{rules_only.NAME}-{rules_only.VERSION}"


def decided(*, chosen: bool) -> tuple[MemoryLog, list[TransactionScored]]:
    """3,000 transactions by rules alone: because somebody chose so, or because nothing was promoted."""
    log = MemoryLog()
    named = {"actor": "ann", "reason": "r", "occurred_at": 0, "name": rules_only.NAME, "version": rules_only.VERSION}
    digest = log.put_blob(rules_only.CONTENT)
    start: list[Control] = [
        ModelRegistered(**named, digest=digest, spec=spec.SPEC_VERSION),  # type: ignore[arg-type]
        ModelDeployed(**named, digest=digest),  # type: ignore[arg-type]
    ]
    ingest = OfflineIngest(
        log, Resolver(log.get_blob, wiring.load_scorer), partitions=1, start=start if chosen else [], reference=False
    )
    config = SyntheticConfig(transactions=3_000, accounts=60, merchants=200, fraud_rate=0.04, seed=5)
    for chunk in SyntheticStream(config, flush_feedback=True).records():
        ingest.feed(chunk)
    ingest.flush()
    return log, [decode_score(entry.payload) for entry in log.read(0, "scores", count=10**6)]


def test_decisions_lack_nothing_and_are_those_of_the_rules() -> None:
    """As without a model, but not degraded: probability 0, the choice named; a replay gives the same bytes."""
    log, scores = decided(chosen=True)
    _, without = decided(chosen=False)
    assert [score.decision for score in scores] == [score.decision for score in without]
    assert {score.decision for score in scores} == {"approve", "review"}
    assert {(score.probability, score.model, score.degraded) for score in scores} == {(0.0, LABEL, None)}
    assert {(score.probability, score.degraded) for score in without} == {(0.0, "no_model")}
    timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, wiring.load_scorer))
    result = verify(log, 0, log.head(0), timeline)
    assert (result.identical, result.degraded) == (len(scores), 0) and result.decisions == len(scores)


def test_the_choice_is_registered_and_promoted_like_a_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """By two commands; a file beside the flag is refused, since one of the two would be ignored."""
    log, _ = decided(chosen=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["sentinel", "model", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    assert run("register", "--rules-only", "--reason", "no model yet")[0] == 0
    assert run("promote", LABEL, "--reason", "our rules suffice")[0] == 0
    assert LABEL in run("list")[1]
    state = control_stream.current(log)
    assert state.champion is not None and state.champion.label == LABEL
    code, said = run("register", "model.json", "--rules-only")
    assert code == 2 and "--rules-only takes neither" in said and said.count("\n") == 1
