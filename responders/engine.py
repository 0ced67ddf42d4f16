"""The responder: follows the log and carries out what its partitions' outboxes hold. Live only.

An item of a partition that this responder owns is in one of these states:

    waiting ──due──► acting ──► reported ──(the log holds the outcome)──► settled
      ▲ ▲              │ a channel is unavailable
      │ └──back-off────┤
      │                └─ refused, expired, or failing for too long ──► reported as ActionFailed: parked
      └── held: its action is switched off, or blocks are above the limit

One step, in this order:

    1  the group says which partitions are ours. A new one is *fenced*: what its former owner sent to Kafka may not be
       in the log yet, so nothing of it is acted on before the log has reached Kafka's end as of now
    2  the outbox follows the log
    3  what is due is acted on; what channels have finished is taken
    4  outcomes go to Kafka, and the step waits until they are acknowledged. If that is unknown, their partitions are
       fenced again, and what the log then lacks is reported again (the effect is not repeated)

Killed after an effect outside and before step 4, the next owner repeats the effect with the same idempotency key: at
least once outside. Killed during or after step 4, the fence finds the outcome: exactly once in the log.

Cost: a poll is one small read per partition. Everything that one step acts on is one message to Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from queue import Empty, SimpleQueue

import structlog

from core.codec import decode_alert
from core.errors import Unavailable
from core.events import START, AccountEvent, AlertRaised, Position
from core.identity import required
from core.log.base import EventLog
from core.times import HOUR_MS
from responders import metrics
from responders.acting import Tried, failed, succeeded
from responders.agenda import Agenda, Attempt
from responders.channels.base import Channel, Message
from responders.fencing import Fences
from responders.following import Follower
from responders.lanes import Backoff, Lane, Sent
from responders.limits import free_from, part_of
from responders.messages import drawn, message
from responders.outbox import Item, Key, Part
from responders.ports import Clock, Outlet, Owner
from responders.reporting import Reports
from responders.settings import BLOCK, NOTIFYING, UNBLOCK, RespondSettings

RELEASE_S = 5.0
"""How long a partition that is taken away is kept until its running messages have ended."""
POLL_S_MAX = 0.5
"""How long after the group was asked partitions are taken for ours."""


class Responder:
    """See the module's head. Not thread-safe, except for `wake`."""

    def __init__(
        self,
        log: EventLog,
        partitions: Sequence[int],
        settings: RespondSettings,
        channels: Mapping[str, Channel],
        outlet: Outlet,
        owner: Owner,
        clock: Clock | None = None,
    ) -> None:
        self._log = log
        self._settings = settings
        self._outlet, self._owner = outlet, owner
        self._fences = Fences(owner)
        self._clock = clock or Clock()
        self._results: SimpleQueue[Sent | None] = SimpleQueue()
        backoff = Backoff(settings.backoff_s, settings.backoff_max_s)
        self.lanes = {
            name: Lane(name, channel, settings.channels[name].parallel, backoff, self._results)
            for name, channel in channels.items()
        }
        self.follower = Follower(log, list(partitions))
        self._logger = structlog.get_logger()
        self._parts: dict[int, Part] = {}
        self._agenda, self._reports = Agenda(), Reports()
        self._limited: set[Key] = set()
        self.acted = 0

    @property
    def owned(self) -> set[int]:
        """The partitions that are acted on; fenced ones are not among them."""
        return set(self._parts)

    @property
    def fenced(self) -> list[int]:
        """The partitions that are ours, but are not acted on before the log has what Kafka has."""
        return list(self._fences.partitions)

    def step(self) -> int:
        """One step; returns how many items were acted on. Raises Unavailable, after which it may be called again."""
        acted, polled = self.acted, self._clock.steady()
        self._rebalance()
        self.follower.step()
        self._fence_refolded()
        for partition in self._fences.opened(self._is_reached):
            self._parts[partition] = self.follower.part(partition)
            self._parts[partition].fresh = list(self._parts[partition].waiting)
            self._reports.send_again(partition)
        for partition in self.follower.partitions:
            if partition in self._parts:
                self._take_new(self._parts[partition])
            else:
                self.follower.part(partition).fresh.clear()
        self._take_results()
        self._act_on_due()
        self._pump()
        if self._reports.unsent and self._clock.steady() - polled > POLL_S_MAX:
            self._rebalance()  # this process may have been frozen for so long that its partitions are another's
        self._report()
        self._measure()
        return self.acted - acted

    def wait(self, seconds: float) -> None:
        """Sleep until `wake` is called, a channel has finished a message, or the time is over."""
        try:
            sent = self._results.get(timeout=seconds)
        except Empty:
            return
        if sent is not None:
            self._finish(sent)

    def wake(self) -> None:
        """End `wait`, from any thread or signal handler."""
        self._results.put(None)

    def released(self, partitions: Collection[int]) -> None:
        """These partitions will be another's: let their running messages end, report their outcomes, forget them."""
        gone = set(partitions)
        deadline = self._clock.steady() + RELEASE_S
        while self._runs(gone) and self._clock.steady() < deadline:
            self.wait(0.05)
        try:
            self._report()
        except Unavailable as error:
            self._logger.warning("respond.outcome_unknown", partitions=sorted(gone), error=str(error))
        self.lost(gone)

    def lost(self, partitions: Collection[int]) -> None:
        """These partitions already are another's: forget them."""
        for partition in partitions:
            self._parts.pop(partition, None)
            self._fences.drop(partition)
            self._forget(partition)

    def close(self) -> None:
        """Give everything up, in order."""
        self.released(self.owned)
        for lane in self.lanes.values():
            lane.close()

    # --- which partitions -------------------------------------------------------------------------------------------

    def _rebalance(self) -> None:
        owned, known = set(self._owner.poll()), {*self._parts, *self._fences.partitions}
        self.lost(known - owned)
        if fresh := owned - known:
            self._logger.info("respond.assigned", partitions=sorted(fresh))
            self._fences.add(fresh)
        self._fences.ask(self._clock.steady())

    def _fence_refolded(self) -> None:
        """Fence what was folded anew: if the log server lost its tail, Kafka still has the outcomes that were in it."""
        if not self.follower.rules.switches:
            return
        anew = [p for p, part in self._parts.items() if part is not self.follower.part(p)]
        for partition in anew:
            del self._parts[partition]
        if anew:
            self._fences.add(anew)
            self._fences.ask(self._clock.steady())

    def _is_reached(self, partition: int, position: Position) -> bool:
        reached = max(self.follower.place(partition).feedback, self._gone(partition))
        return reached >= position or not self.follower.rules.switches

    def _gone(self, partition: int) -> Position:
        """Up to where the log will never have feedback that it lacks now: the topic was made again, or messages that
        Kafka lost were passed.
        """
        state = self.follower.control.state
        known = state.generations.get("feedback")
        skipped = Position(*state.skipped.get(("feedback", partition), START))
        return max(Position(known.number if known is not None else 0, 0), skipped)

    def _forget(self, partition: int) -> None:
        for key in self._agenda.drop_partition(partition):
            self._reports.drop(key)

    def _runs(self, partitions: Collection[int]) -> bool:
        running = (key for lane in self.lanes.values() for key in lane.running)
        attempts = self._agenda.attempts
        return any(key in attempts and attempts[key].item.partition in partitions for key in running)

    # --- what is to be done -----------------------------------------------------------------------------------------

    def _take_new(self, part: Part) -> None:
        reached = self.follower.place(part.partition).feedback
        for key in self._reports.settle(part, reached, self._gone(part.partition)):
            self._agenda.drop(key)
        keys, part.fresh = part.fresh, []
        for key in keys:
            item, attempt = part.waiting.get(key), self._agenda.attempts.get(key)
            if item is not None and (attempt is None or attempt.item.asked != item.asked):
                self._schedule(item)

    def _schedule(self, item: Item) -> None:
        given = self._settings.of(item.action)
        delay_ms = 0 if item.asked else drawn(required(self.follower.control.state.identity).key, item, *given.delay_s)
        wanted = set(given.channels) if item.action in NOTIFYING else set()
        self._agenda.attempts[item.key] = Attempt(item, delay_ms, self._clock.steady(), wanted)
        self._agenda.put(item.key, max(item.requested_at + delay_ms, item.begins_at))

    def _act_on_due(self) -> None:
        self._agenda.release(self._is_on)
        now = self._clock.now_ms()
        for key, attempt in self._agenda.due(now):
            if key in self._reports:
                continue
            part = self._parts.get(attempt.item.partition)
            if part is None or key not in part.waiting:
                self._agenda.drop(key)
                continue
            try:
                self._act(key, attempt, part, now)
            except Unavailable:
                self._agenda.put(key, now)
                raise

    def _is_on(self, action: str) -> bool:
        switch = self.follower.rules.switches.get(action)
        return switch is not None and (switch.enabled or action == UNBLOCK)

    def _act(self, key: Key, attempt: Attempt, part: Part, now: int) -> None:
        item = attempt.item
        if not self._is_on(item.action):
            self._agenda.hold(key)
            return
        age_h = (now - item.requested_at) / HOUR_MS
        if item.action != UNBLOCK and age_h > self._settings.of(item.action).expire_hours:
            self._park(attempt, "expired", attempt.error or "the alert is too old to act on")
            return
        alert = self._alert(item) if item.action != UNBLOCK else None
        if alert is None and item.action != UNBLOCK:
            self._park(attempt, "no_alert", "the alert is not in the log")
        elif alert is not None and item.action in NOTIFYING:
            self._notify(key, attempt, alert, age_h)
        elif alert is not None and item.action == BLOCK:
            self._block(key, attempt, alert, part, now)
        else:
            self._succeed(attempt, alert)

    def _block(self, key: Key, attempt: Attempt, alert: AlertRaised, part: Part, now: int) -> None:
        is_needless = part.is_needless(attempt.item) or alert.account_id in self._reports.blocking.values()
        free = now if is_needless else self._block_allowed_from(now)
        if free > now:
            self._limited.add(key)
            self._agenda.put(key, free)
        else:
            self._limited.discard(key)
            self._succeed(attempt, alert, is_needless=is_needless)

    def _block_allowed_from(self, now: int) -> int:
        partitions = len(self.follower.partitions)
        limit = sum(part_of(self._settings.blocks_per_hour, p, partitions) for p in self._parts)
        recorded = (at for part in self._parts.values() for at in part.blocked_at)
        return free_from(limit, recorded, len(self._reports.blocking), now)

    def _notify(self, key: Key, attempt: Attempt, alert: AlertRaised, age_h: float) -> None:
        missing = not attempt.left and not attempt.refused
        if missing or any(name not in self.lanes for name in attempt.left):
            self._park(attempt, "no_channel", "no channel is configured for this action")
            return
        if attempt.tries and age_h > self._settings.give_up_hours:
            self._park(attempt, "unavailable", attempt.error)
            return
        attempt.tries += 1
        if attempt.tries == 1:
            self._react(attempt)  # from here on it waits for its channels, which may be busy or away
        make = self._maker(attempt.item, alert)
        for name in sorted(attempt.left):
            self.lanes[name].put(key, make, self._clock.steady())

    def _maker(self, item: Item, alert: AlertRaised) -> Callable[[], Message]:
        log_id = required(self.follower.control.state.identity).log_id
        return lambda: message(log_id, item, alert, self._clock.now_ms() // 1000)

    def _alert(self, item: Item) -> AlertRaised | None:
        payload = item.payload or self._log.get(item.partition, "alerts", item.position)
        return decode_alert(payload) if payload is not None else None

    def _pump(self) -> None:
        now = self._clock.steady()
        for name, lane in self.lanes.items():
            lane.pump(now, lambda key, name=name: self._wants(key, name))  # type: ignore[misc]

    def _wants(self, key: Key, name: str) -> bool:
        attempt = self._agenda.attempts.get(key)
        if attempt is None or name not in attempt.left:
            return False
        if not self._is_on(key[1]):
            self._agenda.hold(key)
            return False
        return True

    # --- what became of it ------------------------------------------------------------------------------------------

    def _take_results(self) -> None:
        while True:
            try:
                sent = self._results.get_nowait()
            except Empty:
                return
            if sent is not None:
                self._finish(sent)

    def _finish(self, sent: Sent) -> None:
        lane = self.lanes[sent.lane]
        was_failing = bool(lane.failures)
        lane.finished(sent, self._clock.steady())
        if bool(lane.failures) != was_failing:
            metrics.FAILING.labels(sent.lane).set(bool(lane.failures))
            event = "respond.channel_failing" if lane.failures else "respond.channel_back"
            self._logger.warning(event, channel=sent.lane, error=sent.result.error)
        attempt = self._agenda.attempts.get(sent.key)
        if attempt is None or sent.lane not in attempt.left:
            return
        if sent.result.fate == "unavailable":
            attempt.error = f"{sent.lane}: {sent.result.error}"
            wait_s = lane.backoff.after(attempt.tries, sent.result.wait_s)
            self._agenda.put(sent.key, self._clock.now_ms() + int(wait_s * 1000))
            return
        attempt.left.discard(sent.lane)
        if sent.result.fate == "refused":
            attempt.refused.append(f"{sent.lane}: {sent.result.error}")
        if attempt.left:
            return
        if attempt.refused:
            self._park(attempt, "refused", "; ".join(attempt.refused))
        else:
            self._succeed(attempt)

    def _react(self, attempt: Attempt) -> None:
        if not attempt.delay_ms and not attempt.item.begins_at:
            metrics.REACTION.observe(self._clock.steady() - attempt.seen_at)

    def _succeed(self, attempt: Attempt, alert: AlertRaised | None = None, *, is_needless: bool = False) -> None:
        item, now = attempt.item, self._clock.now_ms()
        tried = Tried(now, max(attempt.tries, 1), attempt.delay_ms)
        self._outcome(item, "succeeded", succeeded(self._settings, item, alert, tried, is_needless=is_needless))
        if item.action not in NOTIFYING:
            self._react(attempt)
        severity = item.severity or "none"
        metrics.RESPONSE.labels(severity).observe(max(now - item.requested_at, 0) / 1000)
        late_ms = now - item.requested_at - attempt.delay_ms
        if item.severity is not None and late_ms > self._settings.sla_s[item.severity] * 1000:
            metrics.LATE.labels(severity).inc()

    def _park(self, attempt: Attempt, code: str, error: str) -> None:
        item, tried = attempt.item, Tried(self._clock.now_ms(), attempt.tries, attempt.delay_ms)
        self._outcome(item, code, failed(item, tried, code, error))
        self._logger.error("respond.parked", alert=item.alert_id, action=item.action, code=code, error=error)

    def _outcome(self, item: Item, name: str, events: Sequence[AccountEvent]) -> None:
        self._reports.put(item, events)
        self.acted += 1
        metrics.ACTIONS.labels(item.action, name).inc()

    def _report(self) -> None:
        """Send the outcomes of all open partitions, and wait until Kafka has them."""
        try:
            self._reports.send(self._outlet, self._parts)
        except Unavailable:
            unknown = {outcome.item.partition for outcome in self._reports.unsent.values()} & set(self._parts)
            for partition in unknown:
                del self._parts[partition]
            self._fences.add(unknown)
            raise

    def _measure(self) -> None:
        parts = self._parts.values()
        self._limited &= set(self._agenda.attempts)
        metrics.OWNED.set(len(self._parts))
        metrics.WAITING.set(sum(len(part.waiting) for part in parts))
        metrics.PARKED.set(sum(len(part.parked) for part in parts))
        metrics.REPEATED.set(sum(part.repeated for part in parts))
        metrics.HELD.labels("switched_off").set(sum(map(len, self._agenda.held.values())))
        metrics.HELD.labels("block_limit").set(len(self._limited))
