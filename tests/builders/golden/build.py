"""Builds the golden log of the present engine, through the worker, on a real log server and broker.

    python -m tests.builders.golden.build           writes tests/golden/engine-N.log.xz and engine-N.json

Every act is one that a command would carry out; the worker is `ingest.worker.Worker`. Input and identity are fixed;
times of recording and topic IDs are those of the run, so another run gives another log of the same kind. Once a release
has published a golden log, it is never built again for that engine: another engine has a file of its own.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from console import wiring
from console.anchoring.notary import Notary
from console.stack import LocalStack
from core import control_stream, pipeline, replay, verification
from core.changes import content as content_of
from core.codec import decode_score, decode_seal, encode
from core.context import Resolver
from core.events import (
    AccountsErased,
    ActionRequested,
    CaseChecked,
    CaseLinked,
    CaseNoted,
    CaseReopened,
    CaseResolved,
    CaseRouted,
    CaseSnoozed,
    ChangeProposed,
    Control,
    DegradationDetected,
    DriftCleared,
    DriftDetected,
    ExperimentConcluded,
    IdentityAdded,
    IdentityChanged,
    IdentityKeyAdded,
    IdentityKeyRevoked,
    IdentityRequired,
    IdentityRevoked,
    ResponsesChanged,
    RetrainingFinished,
    RetrainingRejected,
    RetrainingStarted,
    SealedValuesOpened,
    SourceGenerationStarted,
    SourceQuarantined,
    ValuesUnmasked,
)
from core.features import packing, spec
from core.identity import FIXED
from core.log.archive import archiver
from core.log.archive.archive import open_archive
from core.log.base import EventLog
from core.log.paging import entries
from core.program import loading
from core.program.codes import ENGINE
from core.program.library import default_blobs
from core.program.loading import Loaded
from core.replay import Timeline
from core.settings import Settings
from core.times import DAY_MS, HOUR_MS
from ingest import history, parking
from ingest.bootstrap import source_topics
from ingest.kafka_client import create_topics
from ingest.recording import record_seals
from learners.governance import business, experiments, models, programs
from learners.governance import proposals as changes
from learners.governance.control_events import Act, ArmPlan, Artifact, Plan
from models.shipped import shipped_baseline
from projections.reference.publisher import ReferencePublisher
from sources.record import Record
from tests import worker_harness as h
from tests.builders import record_batches as rb
from tests.builders.golden import file
from tests.builders.golden.models import every_kind, named
from tests.builders.golden.stream import BEGIN_MS, stream
from tests.builders.identities import Key
from tests.worker_harness import Stage, Threaded

PAYMENTS = 2_250
SLICE = 72
PARTITIONS = 2
HERE = Path(__file__).parent


def program(name: str) -> Loaded:
    """A program of this folder."""
    return loading.check((HERE / f"{name}.toml").read_bytes())


class Builder:
    """The log while it is built. `feed` sends the next slice of the stream and waits until it is decided."""

    def __init__(self, on: Stage, server: redis.Redis, log: EventLog) -> None:
        self.on, self.server, self.log = on, server, log
        self.records: Iterator[Record] = stream(PAYMENTS)
        self.worker: Threaded | None = None
        self.group = 0

    def act(self, actor: str = "ann", reason: str = "golden log") -> Act:
        return Act(actor, reason, int(time.time() * 1000))

    def append(self, *events: Control) -> None:
        control_stream.append(self.log, lambda known: events)

    def feed(self, slices: int = 1) -> None:
        """Send the next records; returns once all that was sent is decided under every control event so far."""
        for _ in range(slices):
            records = self.on.produce(islice(self.records, SLICE))
            assert records, "the stream is too short"
            self.settle()

    def settle(self) -> None:
        """Wait until the worker knows every control event, and everything that was sent is in the log."""
        assert self.worker is not None
        worker = self.worker

        def is_done() -> bool:
            worker.check()
            return self.sent() == self.read() and worker.worker.control_position == self.log.control_head()

        h.wait_for(is_done, "the slice")

    def sent(self) -> list[int]:
        ends = history.offsets(self.on.settings)
        return [*ends["transactions"], *ends["feedback"]]

    def read(self) -> list[int]:
        heads = [self.log.head(p) for p in range(PARTITIONS)]
        return [*(head.transactions.offset for head in heads), *(head.feedback.offset for head in heads)]

    def noticed(self) -> None:
        """Wait until the worker has read the control stream, so that the next slice is decided under it."""
        assert self.worker is not None
        worker = self.worker
        h.wait_for(lambda: worker.worker.control_position == self.log.control_head(), "the control stream")

    def start(self) -> None:
        self.group += 1
        self.worker = Threaded(self.on.changed(consumer_group=f"golden-{self.group}"))
        self.worker.start()
        worker = self.worker
        h.wait_for(lambda: (worker.check(), worker.worker.partitions == list(range(PARTITIONS)))[1], "partitions")

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.stop()
            self.worker = None

    @contextmanager
    def without(self, *digests: str) -> Iterator[None]:
        """Blobs are gone while a new worker decides; then they are back, and the worker finds out."""
        self.stop()
        keys = [b"golden:blob:" + digest.encode() for digest in digests]
        kept = {key: self.server.get(key) for key in keys}
        assert all(kept.values()), "a blob's key is another one"
        self.server.delete(*keys)
        self.start()
        yield
        self.server.mset(kept)  # type: ignore[arg-type]
        h.wait_for(lambda: not control_stream.current(self.log).missing, "the end of the degradation")

    # --- acts ----------------------------------------------------------------------------------------------------

    def register(self, name: str, content: bytes, version: str = "1.0.0") -> str:
        models.register(self.log, Artifact(content, name, version, spec.SPEC_VERSION, {"auc_roc": 0.9}), self.act())
        return hashlib.sha256(content).hexdigest()

    def promote(self, label: str, alias: Any = "champion") -> None:
        """Deploy; under four eyes by a second person."""
        done = models.deploy(self.log, label, self.act(), alias)
        if done.outcome == "proposed":
            models.approve(self.log, done.proposal_id, self.act("bob", "checked"))
        self.noticed()

    def agree(self, proposals: Iterable[str]) -> None:
        """A second person approves what waits."""
        for proposal_id in proposals:
            changes.approve(self.log, proposal_id, self.act("bob", "checked"))

    def signed(self, signer: Key, *events: Control) -> None:
        """Append events under somebody's key."""
        hot: Any = getattr(self.log, "hot", self.log)
        hot.signer = signer
        self.append(*events)
        hot.signer = None

    def deploy(self, loaded: Loaded) -> None:
        """Propose, approve, wait until it is prepared, deploy."""
        done = programs.propose(self.log, loaded.program, self.act())
        programs.approve(self.log, done.proposal_id, self.act("bob", "checked the diff"))
        h.wait_for(lambda: not programs.unprepared(self.log, loaded.digest), "preparation")
        programs.deploy(self.log, done.proposal_id, self.act())
        self.noticed()

    def vectors(self) -> np.ndarray:
        """The kernel's columns of all decisions, float32 (n, WIDTH)."""
        scores = [decode_score(e.payload) for p in range(PARTITIONS) for e in entries(self.log, p, "scores")]
        return np.array([packing.vector(score.features)[: spec.WIDTH] for score in scores])


def story(b: Builder) -> None:
    """Everything that may happen to a log, in the order in which it could."""
    b.start()
    b.feed()  # no model
    business.set_rates(b.log, b.act(), {"USD": 0.87, "JPY": 0.006}, "EUR")
    business.change_list(b.log, "merchant", "watch", b.act(), ["m99", "ünal"])
    business.change_list(b.log, "ip", "watch", b.act(), ["10.0.7.0/24", "2001:db8::/32"])
    business.change_list(b.log, "country", "block", b.act(), ["BR"])
    business.change_list(b.log, "card", "allow", b.act(), ["4111 1111"])
    business.change_rules(
        b.log, b.act(), parameters={"amount_high": 700.0, "new_merchant_ratio": 3.0}, disable=["UNUSUAL_HOUR"]
    )
    b.noticed()
    b.feed(2)
    _models(b)
    _programs(b)
    _experiments(b)
    _degradations(b)
    _rollbacks(b)
    _trouble(b)
    _narrated(b)
    _identified(b)
    _worked(b)
    _live(b)
    b.stop()
    _archived(b)


def _models(b: Builder) -> None:
    kinds = every_kind(b.vectors())
    for name, content in kinds.items():
        b.register(name, content)
    b.register("baseline", shipped_baseline()[0])
    b.promote("baseline-1.0.0")
    b.feed()
    b.promote("forest-1.0.0")
    business.set_thresholds(b.log, b.act(), 0.35, 0.75)
    ReferencePublisher(b.log, list(range(PARTITIONS)), 24).step()
    b.noticed()
    b.feed()
    b.promote("line-1.0.0", "shadow")
    b.feed()
    models.set_four_eyes(b.log, True, b.act("cho", "policy"))
    b.promote("boosted-1.0.0")
    b.feed()
    b.promote("fragile-1.0.0", "shadow")
    b.feed()
    b.promote("fragile-1.0.0")
    b.feed()
    done = models.deploy(b.log, "line-1.0.0", b.act())
    models.withdraw_proposal(b.log, done.proposal_id, b.act("dan", "not yet"))
    models.withdraw(b.log, "shadow", b.act())
    b.promote("oblivious-1.0.0")
    b.agree(business.change_list(b.log, "country", "block", b.act(), remove=["BR"]).proposals)
    b.noticed()
    b.feed()


def _programs(b: Builder) -> None:
    golden = program("golden")
    b.deploy(golden)
    b.feed(3)
    content, _ = named(golden)
    b.register("named", content)
    b.promote("named-1.0.0")
    b.feed(2)
    refused = business.set_thresholds(b.log, b.act(), review_loss=1.0, decline_loss=8.0).proposals[0]
    changes.withdraw(b.log, refused, b.act("dan", "too low"))
    b.agree(business.set_thresholds(b.log, b.act(), review_loss=12.0, decline_loss=80.0).proposals)
    ReferencePublisher(b.log, list(range(PARTITIONS)), 24).step()
    b.noticed()
    b.feed()
    b.agree(business.set_thresholds(b.log, b.act(), 0.35, 0.75).proposals)
    b.noticed()


def _experiments(b: Builder) -> None:
    b.promote("exchanged-1.0.0")
    b.feed()
    arms = (ArmPlan("control", "exchanged-1.0.0", 4_000), ArmPlan("other", "line-1.0.0", 6_000))
    b.agree(experiments.start(b.log, Plan(experiment_id="first", arms=arms, traffic=5_000), b.act()).proposals)
    b.promote("named-1.0.0", "shadow")
    b.feed()
    b.agree(experiments.ramp(b.log, 10_000, b.act()).proposals)
    b.noticed()
    b.feed()
    experiments.stop(b.log, b.act())
    models.withdraw(b.log, "shadow", b.act())  # it reads what the arm's program does not define
    b.promote("line-1.0.0", "shadow")
    trial = program("trial")
    done = programs.propose(b.log, trial.program, b.act())
    programs.approve(b.log, done.proposal_id, b.act("bob", "checked"))
    h.wait_for(lambda: not programs.unprepared(b.log, trial.digest), "preparation")
    _start_between_programs(b, trial.digest)
    lost = next(each for each in control_stream.current(b.log).experiment.arms if each.name == "other")  # type: ignore[union-attr]
    with b.without(lost.digest):
        b.feed()
    b.feed()
    b.append(ExperimentConcluded(**b.act().fields, experiment_id="second", verdict="keep", evidence={"accounts": 12.0}))
    b.noticed()
    b.feed()


def _start_between_programs(b: Builder, digest: str) -> None:
    """An experiment whose arms differ in model and program."""
    arms = (
        ArmPlan("control", "exchanged-1.0.0", 3_000),
        ArmPlan("other", "boosted-1.0.0", 4_000, digest),
        ArmPlan("third", "oblivious-1.0.0", 3_000),
    )
    b.agree(experiments.start(b.log, Plan(experiment_id="second", arms=arms), b.act()).proposals)
    b.noticed()
    b.feed(2)


def _degradations(b: Builder) -> None:
    state = control_stream.current(b.log)
    assert state.champion is not None and state.shadow is not None
    with b.without(state.champion.digest, state.shadow.digest):
        b.feed()
    b.feed()
    with b.without(state.program, state.references["merchant"][0]):
        b.feed()
    b.feed()


def _rollbacks(b: Builder) -> None:
    strict = program("strict")
    done = programs.propose(b.log, strict.program, b.act())
    programs.withdraw(b.log, done.proposal_id, b.act("dan", "later"))
    b.deploy(strict)
    b.feed(2)
    models.roll_back(b.log, b.act("bob", "worse"), "boosted-1.0.0")
    b.noticed()
    b.feed()
    b.promote("rules-only-1.0.0")
    b.feed()
    programs.roll_back(b.log, b.act("bob", "too many"))
    b.promote("line-1.0.0")
    b.feed(2)
    programs.roll_back(b.log, b.act("bob", "back to the default"), "default")
    b.noticed()
    b.feed()


def _trouble(b: Builder) -> None:
    """A batch that can't be unpacked, and a partition that can't be decided for a while."""
    broken = rb.framed(b"this is not zstd", 3, int(time.time() * 1000), rb.ZSTD)
    assert rb.produce(b.on.settings.kafka_servers, b.on.settings.transactions_topic, 1, broken)[0] == 0
    b.feed()
    decide, sick = pipeline.decide, [True]

    def failing(context: Any, works: Any) -> Any:
        if sick and any(work.partition == 1 for work in works):
            raise ZeroDivisionError("a bug")
        return decide(context, works)

    pipeline.decide = failing
    try:
        b.on.produce(islice(b.records, SLICE))
        h.wait_for(lambda: control_stream.current(b.log).parked, "parking")
        sick.clear()
        h.wait_for(lambda: not control_stream.current(b.log).parked, "its resumption")
    finally:
        pipeline.decide = decide
    b.settle()


def _narrated(b: Builder) -> None:
    """What other processes say in the control stream; the worker records its seals."""
    act, window = b.act("sentinel learn").fields, {"window_start": BEGIN_MS, "window_end": BEGIN_MS + DAY_MS}
    champion = control_stream.current(b.log).champion
    assert champion is not None
    named_model = {"name": "line", "version": "1.0.0", "digest": champion.digest}
    b.append(
        DriftDetected(**act, feature="amount", statistic="psi", magnitude=0.31, severity="high", **window, rows=900),
        RetrainingStarted(**act, run_id="r1", trigger="drift", known_until=BEGIN_MS + DAY_MS, parent="line-1.0.0"),
        RetrainingRejected(**act, run_id="r1", metrics={"auc_roc": 0.7}),
        RetrainingStarted(**act, run_id="r2", trigger="labels", known_until=BEGIN_MS + 2 * DAY_MS),
        RetrainingFinished(**act, run_id="r2", **named_model, metrics={"auc_roc": 0.91}),
        DegradationDetected(
            **act, model="line-1.0.0", digest=champion.digest, metric="recall", value=0.2, limit=0.5, **window
        ),
        DriftCleared(**act, feature="amount", **window, statistic="psi", magnitude=0.01),
        ResponsesChanged(**act, enabled=True, actions=("block_account",), begins=(0,) * PARTITIONS),
        ResponsesChanged(**act, enabled=False, actions=("block_account",)),
        AccountsErased(**act, accounts=("tk:a1",), searched={"log": 4096}, found={"log": 0}),
        SealedValuesOpened(**act, account="tk:a1", place="p00:1-1", fields=("attributes.email",)),
        ValuesUnmasked(**act, place="p00:1-1", fields=("account_id", "ip")),
        SourceQuarantined(**act, source="customer", name="ann", hour_start=BEGIN_MS // HOUR_MS * HOUR_MS + 9 * HOUR_MS),
    )
    control = control_stream.ControlStream()
    control.advance(b.log)
    heads: Any = [SimpleNamespace(partition=p, head=b.log.head(p)) for p in range(PARTITIONS)]
    assert record_seals(b.log, control, heads) == PARTITIONS
    with tempfile.TemporaryDirectory() as directory:
        notary = Notary(b.log, Path(directory), Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
        assert notary.sign(BEGIN_MS + 61 * DAY_MS) is not None
        notary.record(BEGIN_MS + 61 * DAY_MS)
        notary.close()
    b.noticed()
    b.feed()


def _identified(b: Builder) -> None:
    """People and a worker are put on the roster, keys are added and revoked, and identity is required for a moment."""
    cho, eve, spare, at = Key("cho"), Key("eve"), Key("eve", 2), b.act("cho", "who we are").fields
    services = [(name, Key(name)) for name in ("worker-1", "loop-1")]
    b.signed(
        cho,
        IdentityAdded(**at, name="cho", roles=("admin",), public_key=cho.public_key),
        *(
            IdentityAdded(**at, name=name, roles=(role,), public_key=key.public_key)
            for (name, key), role in zip(services, ("worker", "learner"), strict=True)
        ),
        IdentityAdded(**at, name="fay", roles=("viewer",), subject="fay@example.org"),
        IdentityChanged(**at, name="fay", roles=("analyst",), subject="fay@example.org"),
        IdentityAdded(**at, name="eve", roles=("admin",), public_key=eve.public_key),
        IdentityRevoked(**at, name="fay"),
        IdentityRequired(**at, required=True),
    )
    mine = b.act("eve", "a new laptop").fields
    b.signed(eve, IdentityKeyAdded(**mine, name="eve", public_key=spare.public_key))
    off = IdentityRequired(**mine, required=False)
    b.signed(
        spare,
        IdentityKeyRevoked(**mine, name="eve", key_id=eve.key_id),
        ChangeProposed(**mine, proposal_id="identity_required:1", change=content_of(off)),
    )
    b.signed(cho, replace(off, actor="cho", causation_id="identity_required:1"))
    b.noticed()
    b.feed()


def _worked(b: Builder) -> None:
    """What analysts and responders do, beyond the stream's feedback."""
    b.append(ResponsesChanged(**b.act().fields, enabled=True, actions=("block_account",), begins=(0,) * PARTITIONS))
    about: dict[str, Any] = {"account_id": "a1", "occurred_at": BEGIN_MS + 60 * DAY_MS, "actor": "ann"}
    case: dict[str, Any] = {**about, "case_id": "case-1"}
    events = (
        CaseRouted(**case, queue="fraud"),
        CaseSnoozed(**case, until=BEGIN_MS + 61 * DAY_MS),
        CaseNoted(**case, note="@bob, as agreed", mentions=("bob",)),
        CaseLinked(**case, other_case_id="case-2"),
        CaseResolved(**case, verdict="fraud"),
        CaseChecked(**case, verdict="fraud"),
        CaseReopened(**case),
        ActionRequested(**about, action="block_account", causation_id="00:1-1"),
    )
    b.on.produce([Record("feedback", "a1", event.occurred_at, encode(event)) for event in events])
    b.settle()


def _live(b: Builder) -> None:
    """The history ends; payments of now, and one from too far ahead."""
    history.stop(b.log, b.on.settings, occurred_at=int(time.time() * 1000), actor="ann", reason="all is loaded")
    b.noticed()
    now = int(time.time() * 1000)
    live = [record for record in stream(90, seed=12) if record.topic == "transactions"]
    moved = []
    for number, record in enumerate(live):
        at = now - (0, 0, 3_000, HOUR_MS, 40 * DAY_MS, -HOUR_MS)[number % 6]
        value = json.loads(record.value) if record.value[:15].startswith(b'{"transaction_i') else None
        content = (
            record.value
            if value is None or "occurred_at" not in value
            else json.dumps(value | {"occurred_at": at, "transaction_id": f"live{number}"}).encode()
        )
        moved.append(record._replace(timestamp=now + number, value=content))
    b.on.produce(moved)
    b.settle()


def _archived(b: Builder) -> None:
    """The first batches of partition 0 are moved to the archive."""
    archive = open_archive(str(b.on.directory / "archive"))
    seals = b.log.read(0, "seals", count=10_000)
    until = decode_seal(seals[len(seals) // 3].payload).recorded_at
    archiver.archive_partition(b.log, archive, 0, recorded_until=until, segment_transactions=10_000)
    now = int(time.time() * 1000)
    archiver.record(b.log, archive, [0], now)
    assert archiver.trim(b.log, archive, 0, archiver.trim_point(archive, 0, until), now) > 0


def figures(log: EventLog, size: int) -> dict[str, Any]:
    """What a later release must find again."""
    digest, scores, programs_seen = hashlib.sha256(), 0, Counter[str]()
    for p in range(PARTITIONS):
        for entry in entries(log, p, "scores"):
            score = decode_score(entry.payload)
            digest.update(packing.vector(score.features).tobytes())
            programs_seen[score.program] += 1
            scores += 1
    timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, wiring.load_scorer))
    found = [verification.verify(log, p, log.head(p), timeline) for p in range(PARTITIONS)]
    for each in found:
        assert each.first_difference is None, str(each.first_difference)
        assert each.identical == each.decisions and not each.undecidable
    return {
        "engine": ENGINE,
        "spec": spec.SPEC_VERSION,
        "partitions": PARTITIONS,
        "decisions": scores,
        "alerts": sum(each.alerts for each in found),
        "degraded": sum(each.degraded for each in found),
        "control_events": log.control_head(),
        "programs": dict(sorted(programs_seen.items())),
        "heads": [log.head(p).digest for p in range(PARTITIONS)],
        "features_sha256": digest.hexdigest(),
        "states_sha256": [replay.rebuild(log, p, log.head(p), timeline.identity).digest() for p in range(PARTITIONS)],
        "bytes": size,
    }


def beginning(log: EventLog, settings: Settings) -> list[Control]:
    """The first events, as a worker appends them, but with a fixed identity, and without a model."""
    for blob in default_blobs():
        log.put_blob(blob)
    created = FIXED._replace(
        partitions=PARTITIONS, partitioner=settings.partitioner, accounts_max=settings.accounts_max
    )
    topics = source_topics(settings)
    return [
        created.event("sentinel ingest"),
        *(
            SourceGenerationStarted(
                occurred_at=0, actor="sentinel ingest", topic=role, topic_name=topics[role].name, generation=1,  # type: ignore[arg-type]
                topic_id=topics[role].topic_id, partitions=PARTITIONS, starts=(0,) * PARTITIONS,
            )
            for role in ("transactions", "feedback")
        ),
    ]  # fmt: skip


def build(directory: Path) -> None:
    """Build the log, and write it."""
    parking.WAIT_FIRST_S = 0.3
    with LocalStack(directory / "stack") as stack, redis.Redis(port=stack.redis_port) as server:
        settings = Settings(
            kafka_servers=stack.kafka_servers,
            redis_host="127.0.0.1",
            redis_port=stack.redis_port,
            log_prefix="golden",
            transactions_topic="transactions",
            feedback_topic="feedback",
            dead_letter_topic="",
            partitions=PARTITIONS,
            batch_size=40,
            snapshot_directory=str(directory / "snapshots"),
            session_timeout_ms=1_200,
            archive="",
        )
        create_topics(settings, ["transactions", "feedback", settings.decisions_topic])
        on = Stage(settings, directory)
        with on.log() as log:
            log.append_control([encode(event) for event in beginning(log, settings)], 0)
            history.start(
                log, settings, BEGIN_MS - 50 * DAY_MS, BEGIN_MS + 300 * DAY_MS,
                occurred_at=int(time.time() * 1000), actor="ann", reason="loading the past",
            )  # fmt: skip
            b = Builder(on, server, log)
            try:
                story(b)
            finally:
                b.stop()
            golden = file.taken(log, PARTITIONS, directory / "archive")
    name = f"engine-{ENGINE}"
    size = file.written(golden, file.DIRECTORY / f"{name}.log.xz")
    again = file.opened(file.read(file.DIRECTORY / f"{name}.log.xz"), directory / "again")
    found = figures(again, size)
    (file.DIRECTORY / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        build(Path(folder))
