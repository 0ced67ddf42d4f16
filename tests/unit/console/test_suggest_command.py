"""`sentinel program suggest` as its users type it: blocks that load as they stand, and errors that say what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from console import cli, wiring
from core.codec import decode_score, decode_transaction
from core.log.memory import MemoryLog
from core.program import loading
from projections.labelling.reader import LabelReader
from tests.builders.baseline_log import PARTITIONS, fill
from tests.builders.logs import entries


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    found = MemoryLog()
    fill(found, transactions=7000, accounts=250)
    return found


def asked(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)
    monkeypatch.setattr("sys.argv", ["sentinel", "program", "suggest", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err


def test_suggestions_are_blocks_with_figures_of_the_later_part(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missed frauds are counted as a recount of the log does; every block is a shadow rule that loads; text and JSON
    tell the same rules.
    """
    code, out = asked(log, monkeypatch, capsys, "--json")
    found: Any = json.loads(out.splitlines()[-1])
    assert code == 0 and found["suggestions"], out
    labels = LabelReader(log, range(PARTITIONS)).view()
    missed = 0
    for p in range(PARTITIONS):
        for t, s in zip(entries(log, p, "transactions"), entries(log, p, "scores"), strict=True):
            payment = decode_transaction(t.payload)
            is_fraud = labels.label(payment.account_id, payment.transaction_id) == "fraud"
            missed += is_fraud and decode_score(s.payload).decision == "approve"
    assert found["missed_searched"] + found["missed_tested"] == missed > 40
    assert found["searched"][1] < found["tested"][0]
    for each in found["suggestions"]:
        text = f'[program]\nname = "x"\nversion = "1.0.0"\nuses = ["standard@1"]\n\n{each["block"]}\n'
        rule = loading.check(text.encode()).checked.rules[-1]
        assert (rule.code, rule.mode) == (each["code"], "shadow")
        assert each["frauds"] <= each["hits"] and 3 <= each["accounts_hit"] <= each["accounts"] and each["p"] < 0.01
        assert each["precision"] == pytest.approx(each["frauds"] / each["hits"])
    code, text = asked(log, monkeypatch, capsys)
    assert code == 0 and all(each["block"] in text for each in found["suggestions"])


def test_too_few_labels_are_said(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without enough verdicts there is nothing to learn from, and the message says what to do."""
    code, out = asked(log, monkeypatch, capsys, "--as-of", "2001-01-01")
    assert code == 2 and "too few labelled frauds" in out and "--from" in out and "Traceback" not in out
