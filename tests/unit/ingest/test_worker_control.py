"""Control events that arrive while a worker runs: taken up at once, recorded with each decision, replayed alike."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from console import wiring
from console.stack import Broker, Valkey
from core import control_stream
from core.assignment import Allocation
from core.codec import decode_score, decode_transaction
from core.errors import Unavailable
from core.events import (
    Arm,
    DegradationEnded,
    DegradationStarted,
    ExperimentStarted,
    ExperimentStopped,
    ListChanged,
    ModelDeployed,
    ModelRegistered,
    ModelWithdrawn,
    RulesChanged,
    ThresholdsChanged,
    TransactionScored,
)
from core.features import spec
from core.log.base import EventLog
from core.settings import Settings
from models.linear import LinearModel, render
from models.shipped import shipped_baseline
from tests import worker_harness as h
from tests.worker_harness import Raw, Stage, Threaded

NOW = 1_780_000_000_000
WITHIN_S = 1.0


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> Stage:
    made = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, partitions=2)
    made.create_topics()
    return made


class Live:
    """Sends one payment at a time to a running worker, and waits for its decision."""

    def __init__(self, on: Stage, log: EventLog, worker: Threaded) -> None:
        self._on, self._log, self._worker = on, log, worker
        self._sent = 0

    def pay(self, amount: float = 20.0, **fields: object) -> TransactionScored:
        self._sent += 1
        value = {
            "transaction_id": f"t{self._sent}",
            "account_id": "acct-1",
            "amount": amount,
            "occurred_at": NOW + self._sent * 3_600_000,
            **fields,
        }
        stamp = NOW + self._sent * 3_600_000
        self._on.send([Raw(self._on.settings.transactions_topic, b"acct-1", msgspec.json.encode(value), stamp)])

        def decided() -> bool:
            self._worker.check()
            return h.total(self._on, self._log) == self._sent

        h.wait_for(decided, f"decision {self._sent}")
        with_entries = [entries for p in range(2) if (entries := self._log.read(p, "scores"))]
        return decode_score(with_entries[0][-1].payload)  # one account, one partition

    def until(self, position: int, **payment: object) -> TransactionScored:
        """Pay until a decision was made at `position`, which must not take longer than WITHIN_S."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            score = self.pay(**payment)  # type: ignore[arg-type]
            if score.control_position >= position:
                assert score.control_position == position
                return score
            assert time.monotonic() < deadline, f"position {position} was not taken up within {WITHIN_S} s"


class Crowd:
    """Sends one payment of each account at a time to a running worker, and waits for the decisions."""

    def __init__(self, on: Stage, log: EventLog, accounts: list[str]) -> None:
        self._on, self._log, self._accounts = on, log, accounts
        self.sent = 0

    def pay(self, worker: Threaded) -> dict[str, TransactionScored]:
        """The decision of each account's payment."""
        stamp = NOW + self.sent * 60_000
        self._on.send(
            Raw(
                self._on.settings.transactions_topic,
                account.encode(),
                msgspec.json.encode(
                    {
                        "transaction_id": f"t{self.sent}-{account}",
                        "account_id": account,
                        "amount": 20.0 + self.sent,
                        "occurred_at": stamp,
                    }
                ),
                stamp,
            )
            for account in self._accounts
        )
        self.sent += len(self._accounts)

        def decided() -> bool:
            worker.check()
            return h.total(self._on, self._log) == self.sent

        h.wait_for(decided, f"{self.sent} decisions")
        found: dict[str, TransactionScored] = {}
        for p in range(self._on.settings.partitions):
            for entry, scored in zip(
                self._log.read(p, "transactions", count=10**5), self._log.read(p, "scores", count=10**5), strict=True
            ):
                found[decode_transaction(entry.payload).account_id] = decode_score(scored.payload)
        return found

    def pay_until(self, worker: Threaded, position: int) -> None:
        """Pay until every account's decision was made at control `position`, which must be so within WITHIN_S."""
        deadline = time.monotonic() + WITHIN_S
        while {score.control_position for score in self.pay(worker).values()} != {position}:
            assert time.monotonic() < deadline, f"position {position} was not taken up within {WITHIN_S} s"


def linear_model() -> bytes:
    """A linear model's artifact whose margin depends on the amount."""
    n = spec.WIDTH
    weights = tuple(0.5 if name == "amount" else 0.0 for name in spec.NAMES)
    model = LinearModel(spec.NAMES, (10,) * n, (0.0,) * n, (25.0,) * n, weights, -3.0, 0.0, 10.0, 10)
    return render(model)


def champion_label(deployed: ModelDeployed) -> str:
    return f"{deployed.name}-{deployed.version}"


def test_changes_are_taken_up_within_a_second_and_recorded(on: Stage) -> None:
    """Thresholds, lists, rules and a model, one after another under load: each decision names the control it saw."""
    with on.log() as log, Threaded(on) as worker:
        live = Live(on, log, worker)
        first = live.pay()
        content, card = shipped_baseline()
        started = log.control_head()
        assert first.control_position == started

        changed = h.append_control(log, ThresholdsChanged(occurred_at=NOW, actor="test", review=0.001, decline=0.99))
        live.until(changed)

        listed = h.append_control(
            log, ListChanged(occurred_at=NOW, actor="test", kind="merchant", effect="block", add=("m-bad",))
        )
        live.until(listed)
        blocked = live.pay(merchant_id="m-bad")
        assert blocked.decision == "decline"

        ruled = h.append_control(
            log, RulesChanged(occurred_at=NOW, actor="test", parameters={"amount_high": 5.0}, disabled=())
        )
        live.until(ruled)

        digest = log.put_blob(content)
        deployed = h.append_control(
            log,
            ModelRegistered(
                occurred_at=NOW, actor="test", name="other", version="2.0.0", digest=digest, spec=int(card["spec"])
            ),
            ModelDeployed(occurred_at=NOW, actor="test", name="other", version="2.0.0", digest=digest),
        )
        assert live.until(deployed).model == "other-2.0.0"
    assert len(h.assert_sound(on)) == 2


def test_an_experiment_and_a_shadow_are_followed_live(on: Stage) -> None:
    """Started while payments come in: every account is decided by its arm and every score carries the shadow's margin,
    also by the worker that takes over in the middle; ended, none is. All of it replays to the same bytes.
    """
    _, card = shipped_baseline()
    accounts = [f"acct-{number}" for number in range(24)]
    with on.log() as log:
        crowd = Crowd(on, log, accounts)
        with Threaded(on) as worker:
            crowd.pay(worker)
            champion = next(e for _, e in control_stream.accepted(log) if isinstance(e, ModelDeployed))
            linear = log.put_blob(linear_model())
            named = {"name": "line", "version": "2.0.0", "digest": linear}
            control = Arm("control", champion.name, champion.version, champion.digest, 5000)
            started = ExperimentStarted(
                occurred_at=NOW,
                actor="test",
                experiment_id="live",
                arms=(control, Arm("line", "line", "2.0.0", linear, 5000)),
                salt="live",
            )
            position = h.append_control(
                log,
                ModelRegistered(occurred_at=NOW, actor="test", spec=int(card["spec"]), **named),
                ModelDeployed(occurred_at=NOW, actor="test", alias="shadow", **named),
                started,
            )
            crowd.pay_until(worker, position)
            for account, score in crowd.pay(worker).items():
                index = int(Allocation.of(started, control_stream.identity_of(log).key).arms_of([account])[0])
                assert (score.arm, score.shadow_model) == (f"live/{started.arms[index].name}", "line-2.0.0")
                assert (score.margin == score.shadow) == (score.arm == "live/line") and score.degraded is None
        with Threaded(on) as worker:  # another worker, which only has the log
            assert {score.arm for score in crowd.pay(worker).values()} == {"live/control", "live/line"}
            ended = h.append_control(
                log,
                ExperimentStopped(occurred_at=NOW, actor="test", experiment_id="live"),
                ModelWithdrawn(occurred_at=NOW, actor="test", alias="shadow"),
            )
            crowd.pay_until(worker, ended)
            last = crowd.pay(worker).values()
            assert {(s.arm, s.model, s.shadow) for s in last} == {("champion", champion_label(champion), None)}
    found = h.assert_sound(on)
    assert sum(each.decisions for each in found) == crowd.sent


def test_a_model_that_can_not_be_trusted_degrades_and_a_good_one_mends(on: Stage) -> None:
    """A deployed digest that no blob has: reported, then rules only, marked; the stream goes on; deploying another ends
    it.
    """
    with on.log() as log, Threaded(on) as worker:
        live = Live(on, log, worker)
        assert live.pay().degraded is None
        position = h.append_control(
            log, ModelDeployed(occurred_at=NOW, actor="test", name="ghost", version="9.9.9", digest="0" * 64)
        )
        score = live.until(position + 1)
        report = control_stream.accepted(log)[position][1]
        assert isinstance(report, DegradationStarted) and report.artifacts == ("0" * 64,)
        assert (score.degraded, score.model, score.probability) == ("model_unavailable", "ghost-9.9.9", 0.0)
        content, _ = shipped_baseline()
        back = ModelDeployed(occurred_at=NOW, actor="test", name="baseline", version="1", digest=log.put_blob(content))
        assert live.until(h.append_control(log, back)).degraded is None
    h.assert_sound(on)


def test_a_model_that_could_not_be_fetched_is_fetched_again(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log server that is away for the moment in which a model is loaded does not degrade decisions for good: the
    worker reports the start and, when the model loads, the end.
    """
    monkeypatch.setattr("ingest.worker.RESOLVE_S", 0.05)
    monkeypatch.setattr("ingest.contexts.REPORT_PAUSE_S", 2.0)
    content, _ = shipped_baseline()
    with on.log() as log:
        own = wiring.open_log(on.settings)
        worker = Threaded(on, log=own)
        resolver = worker.worker._contexts._resolver
        away = iter([False, True, True])
        fetch = own.get_blob

        def flaky(digest: str) -> bytes:
            if next(away, False):
                raise Unavailable("away")
            return fetch(digest)

        resolver._load_blob = flaky
        with worker:
            live = Live(on, log, worker)
            live.pay()
            resolver._scorers.clear()
            deployed = ModelDeployed(occurred_at=NOW, actor="test", name="b", version="2", digest=log.put_blob(content))
            assert live.until(h.append_control(log, deployed) + 1).degraded == "model_unavailable"
            h.wait_for(lambda: live.pay().degraded is None, "a decision with the model")
            kinds = [type(event) for _, event in control_stream.accepted(log)][-2:]
            assert kinds == [DegradationStarted, DegradationEnded]
    h.assert_sound(on)


def test_two_workers_that_start_at_once_set_up_one_log(on: Stage) -> None:
    """The control stream's first events are appended once, whoever comes first."""
    first, second = Threaded(on), Threaded(on)
    with first, second, on.log() as log:
        h.wait_for(lambda: log.control_head() > 1, "control events")
        kinds = [payload for _, payload in log.read_control()]
        assert len(kinds) == 1 + 6  # after the stage's own
        assert sum(kind.startswith(b'{"type":"log_created.v1"') for kind in kinds) == 1


def test_settings_of_a_stage_are_its_own() -> None:
    """The harness gives every test other names, so that tests can't see each other's streams."""
    a, b = (h.stage("k:1", "h", 1, Path(), history=False) for _ in range(2))
    assert isinstance(a.settings, Settings)
    assert a.settings.log_prefix != b.settings.log_prefix
