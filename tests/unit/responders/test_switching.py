"""Switching actions on and off, and what `sentinel doctor` and `sentinel respond status` say of it."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest

from console import cli, wiring
from console.respond_report import responder_findings
from core.control_stream import current, history
from core.errors import BadInput
from core.events import ResponsesChanged
from core.settings import Settings
from core.times import HOUR_MS, MINUTE_MS
from responders.channels.base import Result
from responders.settings import BLOCK, QUEUE, UNBLOCK
from responders.switching import Why, switch_off, switch_on
from tests.builders.decisions import append_unchecked
from tests.builders.responding import Receiver, World, settle

WHY = Why("ann", "because", 1)
PLAIN = Settings()


def test_an_action_begins_where_the_log_is_when_it_is_switched_on() -> None:
    """The begin is the seal of each partition; a second time changes nothing; off and on begins anew."""
    world = World()
    world.alert(partition=1)
    done = switch_on(world.log, [QUEUE], WHY)
    assert done.changed and done.switches[QUEUE] == (True, (0, 1))
    world.alert()
    assert not switch_on(world.log, [QUEUE], WHY).changed
    assert switch_off(world.log, [], WHY).switches[QUEUE] == (False, (0, 1))
    assert not switch_off(world.log, [QUEUE], WHY).changed
    assert switch_on(world.log, [QUEUE], WHY).switches[QUEUE] == (True, (1, 1))


def test_catching_up_keeps_the_beginning() -> None:
    """Only for what was switched on before."""
    world = World()
    with pytest.raises(BadInput, match="never switched on"):
        switch_on(world.log, [QUEUE], WHY, catch_up=True)
    switch_on(world.log, [QUEUE], WHY)
    switch_off(world.log, [QUEUE], WHY)
    world.alert()
    assert switch_on(world.log, [QUEUE], WHY, catch_up=True).switches[QUEUE] == (True, (0, 0))


def test_the_end_of_blocks_is_never_taken_back() -> None:
    """`unblock_account` comes with `block_account`, keeps its first beginning and is not switched off."""
    world = World()
    switch_on(world.log, [BLOCK], WHY)
    world.alert()
    switch_off(world.log, [], WHY)
    switches = switch_on(world.log, [BLOCK], WHY).switches
    assert switches == {BLOCK: (True, (1, 0)), UNBLOCK: (True, (0, 0))}


@pytest.mark.parametrize(
    ("actions", "why", "named"),
    [
        ([], WHY, "name the actions"),
        (["block_acount"], WHY, "did you mean block_account?"),
        (["decline_transaction"], WHY, "unknown action"),
        ([QUEUE, QUEUE], WHY, "once"),
        ([QUEUE], Why("ann", " ", 1), "--reason"),
        ([QUEUE], Why("an\x1bn", "r", 1), "actor"),
    ],
)
def test_a_bad_request_is_refused(actions: list[str], why: Why, named: str) -> None:
    """With a word that says what to do; nothing is appended."""
    world = World()
    before = world.log.control_head()
    with pytest.raises(BadInput) as refused:
        switch_on(world.log, actions, why)
    assert named in str(refused.value) and world.log.control_head() == before


def test_an_event_that_bypassed_the_checks_has_no_effect() -> None:
    """It stays in the log as refused; a partition that an event does not name is never acted on."""
    world = World()
    act: dict[str, Any] = {"occurred_at": 1, "actor": "eve"}
    append_unchecked(
        world.log,
        ResponsesChanged(**act, enabled=True, actions=(), begins=(0, 0)),
        ResponsesChanged(**act, enabled=True, actions=("Block!",), begins=(0, 0)),
        ResponsesChanged(**act, enabled=False, actions=(BLOCK,), begins=(0, 0)),
        ResponsesChanged(**act, enabled=True, actions=(BLOCK,), begins=(-1, 0)),
        ResponsesChanged(**act, enabled=True, actions=(BLOCK,)),
        ResponsesChanged(**act, enabled=True, actions=(QUEUE,), begins=(0,)),
    )
    assert [bool(entry.refused) for entry in history(world.log)[-6:]] == [True] * 4 + [False] * 2
    assert set(current(world.log).responses) == {QUEUE}
    world.alert(QUEUE, partition=1)
    settle(world, world.responder())
    assert world.feedback(1) == []


def findings(world: World, **table: Any) -> list[tuple[str, str]]:
    """What doctor says, as (status, message)."""
    settings = Settings(responders=table)
    return [(status, message) for _, status, message, _ in responder_findings(settings, world.log)]


def test_doctor_says_what_waits_what_is_parked_and_what_is_off() -> None:
    """Nothing of responders that nobody uses; then each trouble by itself."""
    world = World(now=int(time.time() * 1000) - 2 * MINUTE_MS)
    assert findings(world) == []
    world.on(QUEUE, "notify_customer")
    assert findings(world)[1] == ("fail", "notify_customer is switched on and has no channel: it is parked")
    world.alert(QUEUE)
    assert any(s == "fail" and m.startswith("waiting actions: 1, the oldest for 2") for s, m in findings(world))
    settle(world, world.responder())
    world.alert("notify_customer")
    settle(world, world.responder({"soc": Receiver(then=Result("refused", "HTTP 400"))}))
    hook = {"soc": {"kind": "webhook", "url": "http://x/", "secret_env": "S"}}
    table = {"channels": hook, "actions": {"notify_customer": {"channels": ["soc"]}}}
    assert findings(world, **table)[1:] == [("warn", "parked actions: 1; they failed and are not tried again")]
    world.on(QUEUE, enabled=False)
    assert ("warn", "queue_for_review switched off: alerts wait") in findings(world, **table)


def test_doctor_says_that_blocks_are_at_their_limit() -> None:
    """The blocks that wait are not taken for a dead responder."""
    world = World(now=int(time.time() * 1000) - 2 * MINUTE_MS)
    world.on(BLOCK)
    for n in range(5):
        world.alert(BLOCK, account=f"a{n}")
    settle(world, world.responder(blocks_per_hour=4))
    assert findings(world, blocks_per_hour=4)[1:] == [("warn", "waiting blocks: 1; the limit of 4 an hour is reached")]


def test_status_shows_switches_parked_items_and_times(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    """One JSON object with everything; times of each action and severity against the SLA."""
    world = World()
    world.on(QUEUE, BLOCK)
    world.alert(QUEUE)
    responder = world.responder()
    responder.step()
    world.now += 700
    world.pump()
    settle(world, responder)
    world.alert(BLOCK)
    world.now += 30 * HOUR_MS
    settle(world, world.responder())
    monkeypatch.setattr(wiring, "open_log", lambda s: world.log)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sentinel", "respond", "status", "--json"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert not done.value.code
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {name: each[0] for name, each in found["switches"].items()} == {QUEUE: True, BLOCK: True}
    assert [(each["action"], each["code"]) for each in found["parked"]] == [(BLOCK, "expired")]
    (row,) = (each for each in found["responses"] if each["action"] == QUEUE)
    assert (row["severity"], row["succeeded"], row["sla_ms"], row["met"]) == ("high", 1, 10_000, 1.0)
    assert 700 <= row["p50_ms"] <= 700 * 1.25
