"""Kills responders with SIGKILL at random moments, with a real receiver, on whatever servers a stage has."""

from __future__ import annotations

import base64
import random
import time
from collections import Counter

import msgspec
import pytest

from console.service import Service
from core.codec import decode_account_event, decode_alert, encode
from core.control_stream import current
from core.events import (
    AccountBlocked,
    AccountEvent,
    ActionFailed,
    ActionOutcome,
    ActionSucceeded,
    CaseRouted,
    Transaction,
)
from core.log.paging import entries
from learners.governance.business import change_list
from learners.governance.control_events import Act
from responders.outbox import ACTOR
from responders.settings import ACTIONS
from responders.switching import Why, switch_on
from sources.record import Record
from tests import worker_harness as h
from tests.builders.receiver import HttpReceiver
from tests.worker_harness import Stage

ALERTS_PER_KILL = 12
NOTIFICATIONS = ("notify_customer", "notify_fraud_team")
DONE = ("block_account", "queue_for_review", *NOTIFICATIONS)


def responder(on: Stage, name: str, url: str) -> Service:
    """A responder as a child process; not started yet."""
    config = on.directory / "responders.toml"
    known = {k: v for k, v in msgspec.to_builtins(on.settings).items() if not isinstance(v, dict | tuple)}
    lines = [
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in known.items()
    ]
    lines += ["[responders]", "blocks_per_hour = 100000", "poll_ms = 5", "backoff_s = 0.1", "[responders.channels.soc]"]
    lines += ['kind = "webhook"', f'url = "{url}"', 'secret_env = "SOC_SECRET"']
    for action in NOTIFICATIONS:
        lines += [f"[responders.actions.{action}]", 'channels = ["soc"]']
    config.write_text("\n".join(lines))
    return Service(name, ["respond", "--config", str(config)], on.settings, on.directory)


def payments(first: int, count: int) -> list[Record]:
    """Payments at a blocked merchant, each of another account and each a critical alert."""
    now = int(time.time() * 1000)
    made = [
        Transaction(transaction_id=f"t{n}", account_id=f"a{n}", amount=5000.0, occurred_at=now, merchant_id="bad")
        for n in range(first, first + count)
    ]
    return [Record("transactions", t.account_id, now, encode(t)) for t in made]


def recorded(on: Stage) -> tuple[list[str], list[AccountEvent]]:
    """The IDs of all alerts, and what responders wrote."""
    alerts: list[str] = []
    events: list[AccountEvent] = []
    with on.log() as log:
        for partition in range(on.settings.partitions):
            alerts += [decode_alert(entry.payload).alert_id for entry in entries(log, partition, "alerts")]
            told = (decode_account_event(entry.payload) for entry in entries(log, partition, "feedback"))
            events += [event for event in told if getattr(event, "actor", "") == ACTOR]
    return alerts, events


def settled(on: Stage) -> bool:
    alerts, events = recorded(on)
    done = sum(isinstance(event, ActionOutcome) for event in events)
    return done >= len(alerts) * len(DONE)


def assert_kills_harm_nothing(on: Stage, kills: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two responders compete; one is killed at a random moment, again and again, and another starts in its place: no
    action is lost, none has its effect twice, the log holds every outcome once, and a replay agrees.

    on: a stage whose messages are live.
    """
    monkeypatch.setenv("SOC_SECRET", "whsec_" + base64.b64encode(bytes(range(32))).decode())
    chance = random.Random(5)
    on.create_topics()
    sent = 0
    running: list[Service] = []
    with HttpReceiver(delay_s=0.02) as receiver, h.Threaded(on), on.log() as log:
        h.wait_for(lambda: current(log).champion is not None, "the worker's start")
        change_list(log, "merchant", "block", Act("ann", "test", 1), add=["bad"])
        switch_on(log, ACTIONS, Why("ann", "test", int(time.time() * 1000)))
        try:
            running = [responder(on, f"responder-{n}", receiver.url) for n in range(2)]
            for each in running:
                each.start()
            for number in range(kills):
                arrived = len(receiver.requests)
                on.produce(payments(sent, ALERTS_PER_KILL))
                sent += ALERTS_PER_KILL
                h.wait_for(lambda n=arrived: len(receiver.requests) > n, "a message of the next round")  # type: ignore[misc]
                time.sleep(0.25 * chance.random())
                running.pop(chance.randrange(2)).kill()
                running.append(responder(on, f"responder-{number + 2}", receiver.url))
                running[-1].start()
            h.wait_for(lambda: h.total(on, log) == sent and settled(on), "every outcome", 180.0)
        finally:
            for each in running:
                each.stop()
    alerts, events = recorded(on)
    assert len(alerts) == sent == kills * ALERTS_PER_KILL
    wanted = {(alert, action) for alert in alerts for action in DONE}
    assert not [event for event in events if isinstance(event, ActionFailed)]
    done = Counter((e.causation_id, e.action) for e in events if isinstance(e, ActionSucceeded))
    assert done == dict.fromkeys(wanted, 1)
    for kind in (AccountBlocked, CaseRouted):
        assert Counter(e.causation_id for e in events if isinstance(e, kind)) == dict.fromkeys(alerts, 1)
    effects = Counter({key.partition(":")[2]: count for key, count in receiver.effects.items()})
    assert effects == {f"{alert}:{action}": 1 for alert in alerts for action in NOTIFICATIONS}
    repeated = sum(count - 1 for count in receiver.arrivals.values())
    assert repeated <= 12 * kills, "messages are repeated without a kill"
    print(f"{kills} kills, {len(wanted)} actions, {repeated} messages came again under their key")
    h.assert_sound(on)
