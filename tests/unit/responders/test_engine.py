"""The responder over a log in memory: what is done, once, and what is not."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from core.codec import decode_account_event
from core.errors import Unavailable
from core.events import (
    AccountBlocked,
    AccountUnblocked,
    ActionFailed,
    ActionRequested,
    ActionSucceeded,
    CaseRouted,
    HistoryStarted,
    MessagesSkipped,
)
from core.times import HOUR_MS, MINUTE_MS
from responders.channels.base import Result
from responders.outbox import ACTOR, LOST_MAX
from tests.builders.responding import PARTITIONS, T0, Receiver, World, settle

DOWN = Result("unavailable", "HTTP 503")


def test_an_alert_is_carried_out_once_and_recorded() -> None:
    """Block, queue and notification: effect and outcome are in the log, and more steps add nothing."""
    world, soc = World(), Receiver()
    world.on("block_account", "queue_for_review", "notify_fraud_team")
    responder = world.responder({"soc": soc})
    alert = world.alert("decline_transaction", "block_account", "queue_for_review", "notify_fraud_team")
    settle(world, responder)
    before = world.feedback()
    settle(world, responder)
    assert world.feedback() == before
    block, route = (next(e for e in before if isinstance(e, kind)) for kind in (AccountBlocked, CaseRouted))
    assert (block.account_id, block.actor, block.causation_id) == ("a1", ACTOR, alert)
    assert (route.case_id, route.queue, route.causation_id) == (alert, "fraud", alert)
    done = [e for e in before if isinstance(e, ActionSucceeded)]
    assert sorted(e.action for e in done) == ["block_account", "notify_fraud_team", "queue_for_review"]
    assert all((e.causation_id, e.severity, e.requested_at) == (alert, "high", T0) for e in done)
    assert soc.keys == [f"{alert}:notify_fraud_team"]


def test_nothing_is_done_without_a_switch_nor_before_its_beginning() -> None:
    """Alerts before the switch, and actions that nobody switched on, are never acted on."""
    world = World()
    responder = world.responder()
    world.alert("block_account", "queue_for_review")
    settle(world, responder)
    world.on("block_account")
    world.alert("block_account", "queue_for_review", account="a2")
    settle(world, responder)
    assert world.outcomes() == ["AccountBlocked", "ActionSucceeded:block_account"]
    assert world.feedback()[0].account_id == "a2"


def test_alerts_of_loaded_history_are_not_acted_on() -> None:
    """Loading past payments blocks nobody."""
    world = World()
    world.on("block_account")
    responder = world.responder()
    world.control(HistoryStarted(occurred_at=T0, actor="ann", reason="r", earliest=0, latest=T0))
    world.alert("block_account")
    settle(world, responder)
    assert world.feedback() == []


def test_the_kill_switch_holds_back_and_catching_up_carries_out() -> None:
    """Switched off, nothing is begun; on again with the old beginning, what waited is done, once."""
    world = World()
    world.on("block_account")
    responder = world.responder()
    world.on("block_account", enabled=False)
    world.alert("block_account")
    settle(world, responder)
    assert world.feedback() == []
    world.on("block_account", begins=())
    settle(world, responder)
    assert world.outcomes() == ["AccountBlocked", "ActionSucceeded:block_account"]


def test_switched_on_anew_what_waited_is_dropped() -> None:
    """After a kill switch, a plain `on` counts from now on."""
    world = World()
    world.on("block_account")
    responder = world.responder()
    world.on("block_account", enabled=False)
    world.alert("block_account")
    settle(world, responder)
    world.on("block_account")
    settle(world, responder)
    assert world.feedback() == []


def test_a_message_that_waits_for_its_channel_is_held_by_the_kill_switch() -> None:
    """An item in back-off is not sent once its action is switched off."""
    world, soc = World(), Receiver([DOWN])
    world.on("notify_fraud_team")
    responder = world.responder({"soc": soc})
    world.alert("notify_fraud_team")
    settle(world, responder)
    world.on("notify_fraud_team", enabled=False)
    world.now += HOUR_MS
    settle(world, responder)
    assert len(soc.got) == 1
    world.on("notify_fraud_team", begins=())
    settle(world, responder)
    assert len(soc.got) == 2


def test_a_successor_does_not_repeat_what_kafka_holds_and_the_log_not_yet() -> None:
    """Killed after its outcome reached Kafka: the next one waits for the log, then does nothing."""
    world, soc = World(), Receiver()
    world.on("notify_fraud_team")
    world.alert("notify_fraud_team")
    first = world.responder({"soc": soc})
    first.step()
    first.wait(1.0)
    first.step()  # the outcome is in Kafka; the worker has not read it
    assert world.kafka[0] and not world.feedback()
    second = world.responder({"soc": soc})
    for _ in range(3):
        second.step()
    assert second.owned == {1} and len(soc.got) == 1
    settle(world, second)
    assert second.owned == {0, 1}
    assert world.outcomes() == ["ActionSucceeded:notify_fraud_team"] and len(soc.got) == 1


@pytest.mark.parametrize("action", ["block_account", "queue_for_review"])
def test_an_effect_that_kafka_lost_is_sent_again_though_its_outcome_arrived(action: str) -> None:
    """Else the log said that an account was blocked, and its payments went on."""
    world = World()
    world.on(action)
    alert = world.alert(action)
    responder = world.responder()
    responder.step()
    effect, outcome = world.kafka[0]
    world.kafka[0][:] = [outcome]
    settle(world, responder)
    assert world.outcomes()[0] == f"ActionSucceeded:{action}"
    assert [type(decode_account_event(effect)).__name__, f"ActionSucceeded:{action}"] == world.outcomes()[1:]
    assert not responder.follower.part(0).waiting and world.feedback()[1].causation_id == alert  # type: ignore[union-attr]


def test_an_effect_that_never_reaches_the_log_is_parked_after_some_times() -> None:
    """Whatever takes it away: responders do not send it for ever."""
    world = World()
    world.on("queue_for_review")
    world.alert("queue_for_review")
    responder = world.responder()
    for _ in range(10):
        responder.step()
        world.kafka[0][:] = [each for each in world.kafka[0] if b"case_routed" not in each]
        world.pump()
    responder.step()
    assert world.outcomes() == ["ActionSucceeded:queue_for_review"] * (LOST_MAX + 1)
    (parked,) = responder.follower.part(0).parked.values()
    assert parked.code == "lost"


def test_messages_that_kafka_lost_hold_up_neither_an_outcome_nor_a_fence() -> None:
    """A person accepted their loss, and nothing follows them in the topic."""
    world = World()
    world.on("block_account")
    world.alert("block_account")
    first = world.responder()
    first.step()
    second = world.responder()
    second.step()
    assert len(world.kafka[0]) == 2 and second.owned == {1}
    world.recorded[0] = 2  # the worker goes on after them
    lost = MessagesSkipped(
        occurred_at=T0,
        actor="ann",
        topic="feedback",
        generation=1,
        partition=0,
        first_offset=0,
        next_offset=2,
        code="messages_expired",
    )
    world.control(lost)
    settle(world, first)
    assert world.outcomes() == ["AccountBlocked", "ActionSucceeded:block_account"]
    second.step()
    assert second.owned == {0, 1}


def test_a_successor_repeats_what_was_not_reported_with_the_same_key() -> None:
    """Killed after the effect and before Kafka: at least once outside, under one key; once in the log."""
    world, soc = World(), Receiver()
    world.on("notify_fraud_team")
    alert = world.alert("notify_fraud_team")
    first = world.responder({"soc": soc})
    first.step()
    first.wait(1.0)  # delivered, and killed
    settle(world, world.responder({"soc": soc}))
    assert soc.keys == [f"{alert}:notify_fraud_team"] * 2
    assert world.outcomes() == ["ActionSucceeded:notify_fraud_team"]


@pytest.mark.parametrize("arrived", [True, False])
def test_an_unknown_outcome_is_reported_again_only_if_it_is_missing(arrived: bool) -> None:
    """The acknowledgement is lost, or Kafka is: the log gets the outcome once, and the effect is not repeated."""
    world, soc = World(), Receiver()
    world.on("notify_fraud_team")
    responder = world.responder({"soc": soc})
    world.alert("notify_fraud_team")
    responder.step()
    responder.wait(1.0)
    world.lose_replies, world.is_down = int(arrived), not arrived
    with pytest.raises(Unavailable):
        responder.step()
    world.is_down = False
    world.now += 2_000
    settle(world, responder)
    assert world.outcomes() == ["ActionSucceeded:notify_fraud_team"]
    assert len(soc.got) == 1


def test_a_partition_of_another_responder_is_left_alone() -> None:
    """Only owned partitions are acted on; once they change hands, the other takes over what waits."""
    world = World()
    world.on("block_account")
    responder = world.responder()
    world.owned = {0}
    world.alert("block_account", partition=1)
    settle(world, responder)
    assert world.feedback(1) == []
    world.owned = {0, 1}
    settle(world, responder)
    assert world.outcomes(1) == ["AccountBlocked", "ActionSucceeded:block_account"]


def test_a_failing_channel_is_tried_again_with_a_growing_pause() -> None:
    """After each failure the pause doubles, up to the limit; then the message arrives, counted as several attempts."""
    world, soc = World(), Receiver([DOWN] * 5)
    world.on("notify_customer")
    responder = world.responder({"soc": soc}, backoff_s=1.0, backoff_max_s=4.0)
    world.alert("notify_customer")
    tried_at = []
    for _ in range(400):
        count = len(soc.got)
        settle(world, responder, 1)
        if len(soc.got) > count:
            tried_at.append((world.now - T0) / 1000)
        world.now += 50
    pauses = [b - a for a, b in itertools.pairwise(tried_at)]
    assert len(tried_at) == 6
    for pause, most in zip(pauses, [1, 2, 4, 4, 4], strict=True):
        assert most / 2 <= pause <= most + 0.2
    (done,) = (e for e in world.feedback() if isinstance(e, ActionSucceeded))
    assert done.attempts == 6


def test_a_receiver_that_is_down_is_asked_once_per_pause_however_many_wait() -> None:
    """One message at a time is the probe; when it gets through, the others follow."""
    world, soc = World(), Receiver(then=DOWN)
    world.on("notify_customer")
    responder = world.responder({"soc": soc}, backoff_s=60.0, backoff_max_s=60.0)
    for n in range(20):
        world.alert("notify_customer", account=f"a{n}")
    settle(world, responder)
    assert len(soc.got) <= 4  # as many as run at once
    asked = len(soc.got)
    world.now += 61_000
    settle(world, responder)
    assert len(soc.got) == asked + 1
    soc.then = Result("delivered")
    world.now += 61_000
    settle(world, responder, 30)
    world.now += 61_000
    settle(world, responder, 30)
    assert sum(isinstance(e, ActionSucceeded) for e in world.feedback()) == 20


def test_what_is_refused_or_fails_for_too_long_is_parked_until_somebody_asks() -> None:
    """A 400 parks at once; a failing receiver after `give_up_hours`; a request tries again under the same key."""
    world, soc = World(), Receiver([Result("refused", "HTTP 400")], then=DOWN)
    world.on("notify_customer")
    responder = world.responder({"soc": soc}, give_up_hours=1.0)
    refused = world.alert("notify_customer")
    settle(world, responder)
    failing = world.alert("notify_customer", account="a2")
    settle(world, responder)
    world.now += HOUR_MS + MINUTE_MS
    settle(world, responder)
    first, second = (e for e in world.feedback() if isinstance(e, ActionFailed))
    assert (first.causation_id, first.code, first.error) == (refused, "refused", "soc: HTTP 400")
    assert (second.causation_id, second.code, second.error) == (failing, "unavailable", "soc: HTTP 503")
    assert set(responder.follower.part(0).parked) == {(refused, "notify_customer"), (failing, "notify_customer")}
    soc.then = Result("delivered")
    world.tell(
        ActionRequested(
            account_id="a1", action="notify_customer", occurred_at=world.now, actor="ann", causation_id=refused
        )
    )
    world.now += HOUR_MS
    settle(world, responder)
    assert soc.keys.count(f"{refused}:notify_customer") == 2
    assert set(responder.follower.part(0).parked) == {(failing, "notify_customer")}


def test_an_alert_that_is_too_old_is_parked_as_expired() -> None:
    """A responder that was away does not act on what nobody waits for any more."""
    world = World()
    world.on("block_account")
    world.alert("block_account")
    world.now += 25 * HOUR_MS
    settle(world, world.responder())
    (event,) = world.feedback()
    assert isinstance(event, ActionFailed) and event.code == "expired"


def test_automatic_blocks_never_exceed_their_limit_together() -> None:
    """Two responders with a partition each, restarted in between: at most ten blocks in any hour, then the rest."""
    world = World()
    world.on("block_account")
    for n in range(30):
        world.alert("block_account", partition=n % PARTITIONS, account=f"a{n}")
    for _ in range(3):
        for partition in range(PARTITIONS):
            world.owned = {partition}
            settle(world, world.responder(blocks_per_hour=10))
    world.owned = set(range(PARTITIONS))
    responder = world.responder(blocks_per_hour=10)
    settle(world, responder)

    def blocked() -> int:
        return sum(isinstance(e, AccountBlocked) for p in range(PARTITIONS) for e in world.feedback(p))

    assert blocked() == 10
    world.now += HOUR_MS + 1
    settle(world, responder)
    assert blocked() == 20


def test_an_account_that_is_blocked_is_not_blocked_again() -> None:
    """Its further payments ask for it again: only the outcome is recorded, and the limit is not touched."""
    world = World()
    world.on("block_account")
    responder = world.responder(blocks_per_hour=1)
    for _ in range(3):
        world.alert("block_account")
    settle(world, responder)
    world.alert("block_account", account="a2", codes=("ACCOUNT_BLOCKED",))
    world.alert("block_account")
    settle(world, responder)
    assert world.outcomes() == ["AccountBlocked", *["ActionSucceeded:block_account"] * 5]


def test_a_delay_is_drawn_recorded_and_the_same_for_every_responder() -> None:
    """The item waits for its draw; another responder draws the same, so a takeover does not begin anew."""
    world = World()
    world.on("block_account")
    table: dict[str, Any] = {"actions": {"block_account": {"delay_s": [10, 60]}}}
    for n in range(40):
        world.alert("block_account", account=f"a{n}")
    delays: dict[str, int] = {}
    for _ in range(70):
        settle(world, world.responder(**table), 1)
        world.now += 1_000
    for event in world.feedback():
        if isinstance(event, ActionSucceeded):
            delays[event.causation_id] = event.delay_ms
            assert event.occurred_at - T0 >= event.delay_ms
            assert event.occurred_at - T0 <= event.delay_ms + 1_000
    assert len(delays) == 40 and all(10_000 <= delay <= 60_000 for delay in delays.values())
    assert len(set(delays.values())) > 30


def test_a_block_ends_by_itself_unless_a_person_takes_it_over() -> None:
    """`block_hours`: the account is unblocked then; one that a person blocked meanwhile stays blocked."""
    world = World()
    world.on("block_account", "unblock_account")
    responder = world.responder(block_hours=2.0)
    world.alert("block_account", account="a1")
    world.alert("block_account", account="a2")
    settle(world, responder)
    world.tell(AccountBlocked(account_id="a2", occurred_at=world.now, actor="ann"))
    world.now += 2 * HOUR_MS
    settle(world, world.responder(block_hours=2.0))
    lifted = [e for e in world.feedback() if isinstance(e, AccountUnblocked)]
    assert [(e.account_id, e.actor) for e in lifted] == [("a1", ACTOR)]


def test_a_person_who_unblocks_is_not_overruled_by_an_older_alert() -> None:
    """A block that is still delayed is dropped when somebody unblocks the account."""
    world = World()
    world.on("block_account")
    responder = world.responder(actions={"block_account": {"delay_s": [60, 60]}})
    world.alert("block_account")
    settle(world, responder)
    world.tell(AccountUnblocked(account_id="a1", occurred_at=world.now, actor="ann"))
    world.now += HOUR_MS
    settle(world, responder)
    assert world.outcomes() == ["AccountUnblocked"]


def test_a_log_that_lost_its_tail_is_folded_again() -> None:
    """Outcomes that the log server lost are missing, so they are made again."""
    world = World()
    world.on("block_account")
    responder = world.responder()
    world.alert("block_account")
    settle(world, responder)
    assert len(world.feedback()) == 2
    sequence = world.log.head(0).sequence
    world.log.truncate(0, sequence - 1)
    world.recorded[0] = 0
    responder.step()
    assert responder.follower.place(0).sequence == sequence - 1
    world.pump()  # the worker reads Kafka again
    settle(world, responder)
    assert world.outcomes() == ["AccountBlocked", "ActionSucceeded:block_account"]


def test_outcomes_that_come_before_their_alert_are_sent_again_after_it() -> None:
    """The log server lost the alert; the worker records the outcomes first when it decides again. Nobody is told
    twice.
    """
    world, soc = World(), Receiver()
    world.on("queue_for_review", "notify_fraud_team")
    responder = world.responder({"soc": soc})
    world.alert("queue_for_review", "notify_fraud_team")
    responder.step()
    responder.wait(1.0)
    responder.step()  # Kafka has the outcomes, the log has not
    world.log.truncate(0, world.log.head(0).sequence - 1)
    world.offsets[0] = 0
    world.pump()
    alert = world.alert("queue_for_review", "notify_fraud_team")
    settle(world, responder)
    assert not responder.follower.part(0).waiting
    assert soc.keys == [f"{alert}:notify_fraud_team"]
    once = ["CaseRouted", "ActionSucceeded:queue_for_review", "ActionSucceeded:notify_fraud_team"]
    assert world.outcomes() == once * 2


def test_routes_choose_the_queue() -> None:
    """The first route that fits: by severity, amount in the base currency, reason code; else the default."""
    world = World()
    world.on("queue_for_review")
    routes = [
        {"queue": "takeover", "codes": ["NEW_DEVICE"]},
        {"queue": "large", "severity": ["critical", "high"], "amount_min": 100.0},
    ]
    responder = world.responder(routes=routes, queue="rest")
    world.alert("queue_for_review", codes=("NEW_DEVICE",), amount=500.0)
    world.alert("queue_for_review", amount=50.0, rate=2.0)
    world.alert("queue_for_review", amount=99.0)
    world.alert("queue_for_review", amount=500.0, severity="medium")
    settle(world, responder)
    queues = [e.queue for e in world.feedback() if isinstance(e, CaseRouted)]
    assert queues == ["takeover", "large", "rest", "rest"]
