"""Programs written over HTTP: every fault told, a trial equal to the command's, four eyes kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from console.api.routes.authoring import Known
from core.features import spec
from core.log.memory import MemoryLog
from core.program.fields import STANDARD
from learners.governance import models
from learners.governance.control_events import Act
from tests.builders import baseline_log
from tests.builders.api import Served, served

PROGRAM = """
[program]
name = "cards"
version = "1.0.0"
uses = ["standard@1"]

[[rules]]
code = "LARGE"
when = "amount > 100"
effect = "review"
words = "{amount:,.2f}"
"""


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The API on a log of its own, which may be written to; four eyes are on."""
    log = MemoryLog()
    baseline_log.fill(log, transactions=600, accounts=20)
    models.set_four_eyes(log, True, Act("root", "by policy", 1))
    with served(log, tmp_path_factory.mktemp("own")) as found:
        yield found


def test_a_check_tells_every_fault_with_its_line(api: Served) -> None:
    """Two faults are two problems, each with its line; a good document has none."""
    second = '[[rules]]\ncode = "X"\nwhen = "count_10mm > 3"\n'
    bad = PROGRAM.replace("amount > 100", "amuont > 100") + second
    found = api.post("/v1/programs/check", {"toml": bad}, "rule_author").json()
    assert not found["ok"] and [each["line"] for each in found["problems"]] == [9, 14]
    assert "amount" in found["problems"][0]["detail"]
    good = api.post("/v1/programs/check", {"toml": PROGRAM}, "viewer").json()
    assert good["ok"] and good["label"] == "cards@1.0.0" and good["problems"] == []
    assert api.post("/v1/programs/check", {"toml": "= ["}, "viewer").json()["problems"]


def test_a_trial_counts_what_a_rule_would_do(api: Served) -> None:
    """The rule's hits are the payments above its bound; a fold is refused with what to do instead."""
    report = api.post("/v1/programs/backtest", {"toml": PROGRAM}, "rule_author").json()
    rule = next(line for line in report["rules"] if line["code"] == "LARGE")
    above, cursor = 0, ""
    while True:
        page = api.get("/v1/decisions", "viewer", amount_min=100.000001, limit=500, cursor=cursor).json()
        above += len(page["decisions"])
        cursor = page["next"]
        if not cursor:
            break
    assert rule["after"] == above > 0 and report["way"] == "stored"
    broken = api.post("/v1/programs/backtest", {"toml": PROGRAM.replace("amount >", "amuont >")}, "rule_author")
    assert broken.status_code == 422 and broken.json()["problems"][0]["line"] == 9
    for given in ({"start": "yesterday"}, {"end": "x"}, {"start": "2199-01-01"}, {"rule": "BOG"}):
        refused = api.post("/v1/programs/backtest", {"toml": PROGRAM, **given}, "rule_author")
        assert refused.status_code == 422 and "--" not in refused.text, refused.text  # it has no flags


def test_a_trial_as_of_a_moment_knows_nothing_later(api: Served, decided: MemoryLog) -> None:
    """Neither decisions nor verdicts; a moment that there is not is told."""
    whole = api.post("/v1/programs/backtest", {"toml": PROGRAM}, "rule_author").json()
    sequences = [decided.head(p).sequence for p in range(len(api.desk.partitions))]
    cut = ",".join([*(f"p{p:02d}:s{n // 2}" for p, n in enumerate(sequences)), f"c{decided.control_head()}"])
    then = api.post("/v1/programs/backtest", {"toml": PROGRAM, "as_of": cut}, "rule_author").json()
    assert 0 < then["decisions"] == api.get("/v1/summary", as_of=cut).json()["totals"]["count"] < whole["decisions"]
    known = api.get("/v1/labels", as_of=cut).json()["counts"]
    assert 0 < then["labelled"] == known["fraud"] + known.get("legitimate", 0) < whole["labelled"]
    refused = api.post("/v1/programs/backtest", {"toml": PROGRAM, "as_of": "zzz"}, "rule_author")
    assert refused.status_code == 422 and "zzz" in refused.text


def test_a_proposal_needs_a_second_person(own: Served) -> None:
    """Under four eyes the author's own approval has no effect; another's lets it be deployed; all is on the record."""
    made = own.post("/v1/programs/proposals", {"toml": PROGRAM, "reason": "large payments"}, "publisher")
    assert made.status_code == 201
    path = f"/v1/programs/proposals/{made.json()['proposal_id']}"
    refused = own.post(f"{path}/approve", {"reason": "mine"}, "publisher")
    assert refused.status_code in (409, 422) and "publisher" in refused.text
    assert own.post(f"{path}/deploy", {"reason": "now"}, "publisher").status_code in (409, 422)
    assert own.post(f"{path}/withdraw", {"reason": "not yet"}, "rule_author").status_code == 200
    events = own.get("/v1/control", "auditor", limit=500).json()["events"]
    told = [(each["type"], each["actor"], each["reason"]) for each in events if each["type"].startswith("program_")]
    assert ("program_withdrawn.v1", "rule_author", "not yet") in told
    assert own.post(f"{path}/approve", {"reason": "late"}, "publisher").status_code in (400, 409, 422)


def test_an_act_needs_a_reason(own: Served) -> None:
    """Without a reason nothing is proposed."""
    assert own.post("/v1/programs/proposals", {"toml": PROGRAM, "reason": " "}, "publisher").status_code == 422


def test_completions_name_fields_features_and_parameters(api: Served) -> None:
    """All that an expression of a rule can name is offered with its kind."""
    kinds = {each["name"]: Known(**each).kind for each in api.get("/v1/programs/completions", "viewer").json()}
    assert kinds["amount"] == "field" and kinds["velocity_10m"] == "parameter"
    assert {name for name, kind in kinds.items() if kind == "feature"} == set(spec.NAMES) - STANDARD.keys()
