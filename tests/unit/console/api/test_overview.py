"""What the console's pages need beside the read models, against plain counting over the log."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.api.desk import Desk
from console.api.overview import CHANGES_MAX, MINUTES, ROUTINE
from console.api.related import COMMON_MAX, NODES_MAX
from core import control_stream
from core.codec import decode_score, decode_transaction, encode_control
from core.errors import Unavailable
from core.events import ThresholdsChanged
from core.log.memory import MemoryLog
from core.log.paging import decision_pages
from core.settings import Settings
from core.times import DAY_MS, MINUTE_MS
from tests.builders import baseline_log
from tests.builders.api import Served
from tests.builders.baseline_log import PARTITIONS


@pytest.fixture(scope="module")
def rows(decided: MemoryLog) -> list[dict[str, Any]]:
    """Every decision with its payment, in log order."""
    found = []
    for p in range(PARTITIONS):
        for transactions, scores in decision_pages(decided, p):
            for entry, score in zip(transactions, scores, strict=True):
                t, s = decode_transaction(entry.payload), decode_score(score.payload)
                found.append(msgspec.to_builtins(t) | msgspec.to_builtins(s) | {"at": t.received_at or t.occurred_at})
    return found


def test_the_last_half_hour_is_what_counting_finds(api: Served, rows: list[dict[str, Any]]) -> None:
    """As of a moment with decisions: rate, alerts, each minute and the amount stopped equal a count over the log."""
    busiest = Counter(row["recorded_at"] // MINUTE_MS for row in rows).most_common(1)[0][0]
    moment = busiest * MINUTE_MS + MINUTE_MS // 2
    live = api.get("/v1/live", "viewer", as_of=str(moment)).json()
    seen = [row for row in rows if row["recorded_at"] <= moment]
    assert live["now"] == moment and len(live["series"]) == MINUTES
    assert live["rate"] == sum(row["recorded_at"] > moment - MINUTE_MS for row in seen) / 60
    for minute in live["series"]:
        mine = [row for row in seen if minute["at"] <= row["recorded_at"] < minute["at"] + MINUTE_MS]
        assert sum(minute["decisions"].values()) == len(mine)
        assert minute["decisions"] == {
            name: sum(row["decision"] == name for row in mine) for name in ("approve", "review", "decline")
        }
        assert sum(minute["alerts"].values()) == sum(row.get("severity") is not None for row in mine)
    assert sum(sum(minute["decisions"].values()) for minute in live["series"]) > 0
    today = [row for row in seen if row["recorded_at"] >= moment - moment % DAY_MS and row["decision"] == "decline"]
    assert live["stopped_today"]["count"] == len(today)
    assert live["stopped_today"]["amount"] == pytest.approx(sum(row["amount"] * row.get("rate", 1.0) for row in today))
    assert live["model"]["label"] and live["program"]["label"] == "default@1.0.0"


def test_changes_are_those_of_the_control_stream(api: Served, decided: MemoryLog) -> None:
    """Now and as of each position, the newest 20 events that took effect and did not come by themselves."""
    whole = control_stream.accepted(decided)
    for c in (None, *range(1, decided.control_head() + 1)):
        live = api.get("/v1/live", "viewer", **({} if c is None else {"as_of": f"c{c}"})).json()
        expected = [
            position
            for position, event in reversed(whole)
            if (c is None or position <= c) and event.__struct_config__.tag not in ROUTINE
        ]
        assert [change["position"] for change in live["changes"]] == expected[:CHANGES_MAX], c
        assert all("hash_key" not in change["event"] for change in live["changes"])


def test_a_read_that_breaks_off_loses_no_change(tmp_path: Path) -> None:
    """If the log goes away while the control stream is read, the next look has every change."""
    log = BreakingLog()
    baseline_log.fill(log, transactions=200, accounts=10)
    desk = Desk(Settings(), tmp_path, log)
    event = ThresholdsChanged(occurred_at=1, actor="ann", reason="r", review=0.3, decline=0.8)
    log.append_control([encode_control(event)], log.control_head())
    log.reads_left = 1
    with pytest.raises(Unavailable):
        desk.changes(log.control_head(), 1)
    log.reads_left = None
    assert [entry.event for entry in desk.changes(log.control_head(), 1)] == [event]


class BreakingLog(MemoryLog):
    """A log whose control stream can be read so many times more; None: always."""

    reads_left: int | None = None

    def read_control(self, after: int = 0, count: int = 1000) -> list[tuple[int, bytes]]:
        if self.reads_left is not None:
            if self.reads_left == 0:
                raise Unavailable("the log server does not answer")
            self.reads_left -= 1
        return super().read_control(after, count)


def test_who_else_is_what_the_log_shows(api: Served, rows: list[dict[str, Any]]) -> None:
    """Every link stands for as many payments as the log has; nothing that few share is missing; bounds hold."""
    linked, moment = 0, max(row["recorded_at"] for row in rows)
    for account in sorted({row["account_id"] for row in rows})[:10]:
        answer = api.get(f"/v1/accounts/{account}/related", "auditor", as_of=str(moment)).json()
        assert len(answer["nodes"]) <= NODES_MAX
        for link in answer["links"]:
            thing, who = (
                (link["to"], account) if link["from"] == f"account:{account}" else (link["from"], link["to"][8:])
            )
            kind, name = thing.split(":", 1)
            count = sum(row["account_id"] == who and row.get(f"{kind}_id") == name for row in rows)
            assert count == link["count"], link
            linked += 1
        for kind in ("device", "card"):
            mine = {row.get(f"{kind}_id") for row in rows if row["account_id"] == account} - {None, ""}
            sharing = {name: {r["account_id"] for r in rows if r.get(f"{kind}_id") == name} for name in mine}
            few = {f"{kind}:{name}" for name, who in sharing.items() if 1 < len(who) <= COMMON_MAX + 1}
            shown = {node["id"] for node in answer["nodes"] if node["kind"] == kind}
            assert shown <= few and len(few) - len(shown) <= answer["left_out"][kind]
    assert linked > 20


def test_searches_find_by_merchant_device_card_and_severity(api: Served, rows: list[dict[str, Any]]) -> None:
    """Each of the further conditions finds as many decisions as the log has."""
    some = next(row for row in rows if row.get("device_id") and row.get("merchant_id") and row.get("severity"))
    for name, field in (("merchant", "merchant_id"), ("device", "device_id"), ("severity", "severity")):
        wanted = sum(row.get(field) == some[field] for row in rows)
        page = api.get("/v1/decisions", "auditor", limit=500, **{name: some[field]}).json()
        assert len(page["decisions"]) == min(wanted, 500) > 0
    assert api.get("/v1/decisions", "auditor", merchant="no such shop").json()["decisions"] == []


def test_a_rule_names_what_it_reads(api: Served) -> None:
    """Each rule has its condition as written and the fields and features in it."""
    rules = {rule["code"]: rule for rule in api.get("/v1/rules", "viewer").json()["rules"]}
    assert rules["VELOCITY_10M"]["reads"] == ["count_10m"] and "count_10m" in rules["VELOCITY_10M"]["when"]
    for rule in rules.values():
        assert all(name in rule["when"] for name in rule["reads"]), rule
