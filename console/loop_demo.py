"""The demo of the adaptive loop: a month of a synthetic bank in minutes, on a local stack.

    learn      rules alone decide for three days; then a small model, which learned from these label by label
    drift      from `drift_at` on, thieves take 45 % of what they took; nobody says so
    adapt      drift told → trained (refused until the rows show the change) → shadow → A/B test → promoted
    poison     somebody deploys a model that turns every score around → told by its alert rate → rolled back
    proof      every decision of the month is made again from the log and compared

The log is the local stack's. Payments are decided by the worker's own path without Kafka (`ingest.offline`), since
there log time is event time: labels, trials and tests mature as in the month that is told, which passes in two minutes.
Each evening the loop takes the steps that it would have taken then. A chapter that is not reached within its days ends
the story, and with it the demo's success.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from console import wiring
from console.api import users as known
from console.api.users import UserFile
from console.commands import replay
from console.commands.learn import event_text
from console.running import answers
from console.service import Service
from console.stack import LocalStack, free_port
from console.timing import seconds_of
from core import control_stream
from core.context import Resolver
from core.events import (
    Control,
    DriftDetected,
    ExperimentConcluded,
    ModelDeployed,
    ModelRolledBack,
    RetrainingStarted,
)
from core.features import spec
from core.governance import CHAMPION
from core.log.base import EventLog
from core.settings import Settings
from core.times import DAY_MS, HOUR_MS
from core.verification import Verification
from ingest.offline import OfflineIngest
from learners.drift.policy import DriftConfig
from learners.governance import models as acts
from learners.governance.control_events import Act, Artifact
from learners.loop.orchestrator import ACTOR, Orchestrator, Tools
from learners.loop.settings import LearnSettings
from learners.loop.state import loop_state
from learners.training import reading
from learners.training.online import OnlineLearner
from models import lightgbm_text
from projections.audit.blast_radius import affected
from projections.labelling.reader import LabelReader
from sources.catalogue import open_source
from sources.record import Record
from sources.synthetic import SyntheticConfig

BANK = SyntheticConfig(
    days=32.0,
    accounts=700,
    merchants=300,
    fraud_rate=0.06,
    seed=3,
    drift_at=0.4,
    drift="amount",
    label_delay_days=0.3,
)
LEARN = LearnSettings(
    labels_min=10**9,  # only drift may start a training here
    drift_severity="low",
    interval_days=3.0,
    train_days=7.0,
    holdout_days=3.0,
    maturity_days=1.0,
    candidates=("retrained",),
    shadow_hours=12.0,
    alert_rate_ratio_max=1e6,
    window_days=2.0,
    ramp=((0.0, 10_000),),
    primary="missed_fraud",
    guardrails=("false_positive",),
    guardrail_margin=0.05,
    accounts_min=100,
    gate={"rounds": 100, "psi_max": 50.0, "decisions_changed_max": 0.5, "latency_us_max": 10_000.0},
)
"""A bank of 700 accounts has not the patience of a large one: short windows, few accounts, wide limits."""
DRIFT = DriftConfig(
    reference_ms=7 * DAY_MS, windows_ms=(DAY_MS, 2 * DAY_MS), settle_ms=3 * DAY_MS, step_ms=DAY_MS, maturity_ms=DAY_MS
)
FIRST_DAYS = 3
PROMOTED_WITHIN = 25
ROLLED_BACK_WITHIN = 3
"""Days."""
STEPS_MAX = 10
"""Of the loop, in one evening."""
PARTITIONS = 2
_EVERY = range(PARTITIONS)

Say = Callable[[float, str], None]
"""Called with the day and what happened on it."""


class LoopDemoResult(msgspec.Struct):
    """What became of the story. Hours are event time: from the drift to the first report of it, and to the promotion;
    from the poisoned model's deployment to its rollback. None: it did not happen.
    """

    detected_after_h: float | None
    detected: str
    retrainings: int
    promoted: bool
    promoted_model: str
    promoted_after_h: float | None
    poisoned_decisions: int
    rolled_back: bool
    rolled_back_after_h: float | None
    decisions: int
    identical: int
    seconds: float

    @property
    def ok(self) -> bool:
        told = self.detected_after_h is not None and self.promoted and self.rolled_back
        return told and self.identical == self.decisions > 0


def run(
    *, say: Say, told: Callable[[LoopDemoResult], None], jobs: int, browse: Callable[[str], None] | None = None
) -> LoopDemoResult:
    """Tell the story on a server of its own in a temporary directory. browse: then serve the web console until Ctrl-C,
    and tell its address through this. Raises SentinelError; leaves nothing running.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-demo-")))
        servers = stack.enter_context(LocalStack(directory))
        s = wiring.settings(None, **servers.settings, partitions=PARTITIONS)
        log = wiring.open_log(s)
        stack.callback(log.close)
        story = Story(log, say)
        story.tell()
        say(story.day, "every decision is made again from the log")
        result = story.result(replay.run(s, verify=True, jobs=jobs, quiet=True), time.monotonic() - began)
        told(result)
        if browse is not None:
            with suppress(KeyboardInterrupt):
                _serve(s, directory, stack, browse)
        return result


def summary(result: LoopDemoResult) -> str:
    """The result as text."""
    if not result.ok:
        return f"the story did not end as it should: {msgspec.json.encode(result).decode()}"
    return (
        f"the change was told after {result.detected_after_h:.0f} hours ({result.detected}); {result.promoted_model},"
        f" trained at attempt {result.retrainings}, was promoted {result.promoted_after_h:.0f} hours after it\n"
        f"the poisoned model made {result.poisoned_decisions:,} decisions in {result.rolled_back_after_h:.0f} hours,"
        " then it was rolled back\n"
        f"{result.decisions:,} decisions, {result.identical:,} identical on replay, {result.seconds:.0f} s"
    )


def _serve(s: Settings, directory: Path, stack: ExitStack, out: Callable[[str], None]) -> None:
    """The web console on the log, until Ctrl-C."""
    port = free_port()
    users, url = directory / "users.json", f"http://127.0.0.1:{port}"
    name = known.owner(UserFile(users), int(time.time() * 1000))
    command = ["serve", "--port", str(port), "--users", str(users), "--checkpoint-directory", str(directory / "models")]
    console = stack.enter_context(Service("console", command, s, directory))
    while not answers(f"{url}/readyz"):
        console.check()
        time.sleep(0.1)
    out(f"\n  open {known.login_link(UserFile(users), name, int(time.time() * 1000), url)}\n")
    out("the models, the drift, the experiment and the audit trail of the month are there; Ctrl-C ends it")
    while console.running:
        time.sleep(0.2)
    console.check()


class Story:
    """The month, a day at a time. day: how many have passed."""

    def __init__(self, log: EventLog, say: Say) -> None:
        self._log, self._say = log, say
        resolver = Resolver(log.get_blob, wiring.load_scorer)
        self._worker = OfflineIngest(log, resolver, partitions=PARTITIONS)
        source = open_source("synthetic", labels="fraud", flush_feedback=True, synthetic=BANK)
        self._records = (record for chunk in source.records() for record in chunk)
        self._waiting: Record | None = next(self._records)
        self._start = self._waiting.timestamp
        self._drifts_at = self._start + int(BANK.span_ms * (BANK.drift_at or 0.0))
        self._loop = Orchestrator(log, list(_EVERY), LEARN, Tools(wiring.load_scorer, seconds_of), DRIFT)
        self._poisoned_at = 0
        self._poison = ""
        self.day = 0

    @property
    def now(self) -> int:
        """The evening of the day, epoch ms."""
        return self._start + self.day * DAY_MS

    def tell(self) -> None:
        """All chapters, or as far as it comes."""
        self._say(0, f"a bank of {BANK.accounts} accounts; rules alone decide")
        for _ in range(FIRST_DAYS):
            self._live_a_day()
        self._first_model()
        if self._until(ExperimentConcluded, PROMOTED_WITHIN):
            self._live_a_day()
            self._deploy_poison()
            if self._until(ModelRolledBack, ROLLED_BACK_WITHIN):
                self._live_a_day()

    def result(self, verification: list[Verification], seconds: float) -> LoopDemoResult:
        """What happened, as the control stream has it, and whether every decision is the same on replay."""
        told = [entry.event for entry in control_stream.history(self._log)]
        detected = [e for e in told if isinstance(e, DriftDetected) and e.occurred_at > self._drifts_at]
        promoted = [e for e in told if isinstance(e, ExperimentConcluded) and e.verdict == "promote"]
        back = [e for e in told if isinstance(e, ModelRolledBack)]
        models = [e for e in told if isinstance(e, ModelDeployed) and e.alias == CHAMPION and e.actor == ACTOR]
        return LoopDemoResult(
            detected_after_h=self._hours(self._drifts_at, detected),
            detected=detected[0].feature if detected else "",
            retrainings=sum(isinstance(e, RetrainingStarted) for e in told),
            promoted=bool(promoted),
            promoted_model=f"{models[0].name}-{models[0].version}" if models else "",
            promoted_after_h=self._hours(self._drifts_at, promoted),
            poisoned_decisions=self._poisoned_decisions(),
            rolled_back=bool(back),
            rolled_back_after_h=self._hours(self._poisoned_at, back),
            decisions=sum(v.decisions for v in verification),
            identical=sum(v.identical for v in verification),
            seconds=round(seconds, 1),
        )

    def _poisoned_decisions(self) -> int:
        if not self._poison:
            return 0
        labels = LabelReader(self._log, list(_EVERY)).view
        return sum(1 for _ in affected(self._log, list(_EVERY), self._poison, labels))

    def _hours(self, since: int, events: Sequence[Control]) -> float | None:
        return round((events[0].occurred_at - since) / HOUR_MS, 1) if events else None

    def _live_a_day(self) -> None:
        """The next day's payments and verdicts are decided."""
        if self.now <= self._drifts_at < self.now + DAY_MS:
            day = (self._drifts_at - self._start) / DAY_MS
            self._say(day, "thieves begin to take 45 % of what they took; nobody says so")
        self.day += 1
        while self._waiting is not None and self._waiting.timestamp < self.now:
            self._worker.feed([self._waiting])
            self._waiting = next(self._records, None)
        self._worker.flush()

    def _until(self, reached: type[Control], days: int) -> bool:
        """Live and act until the loop says it; whether it did."""
        for _ in range(days):
            self._live_a_day()
            if any(isinstance(event, reached) for event in self._act()):
                return True
        self._say(self.day, f"not reached within {days} days: {reached.__name__}")
        return False

    def _act(self) -> list[Control]:
        """The loop's steps of the evening."""
        said: list[Control] = []
        for _ in range(STEPS_MAX):
            known = control_stream.history(self._log)
            step, events = self._loop.step(self.now)
            self._worker.follow_control()
            for entry in control_stream.history(self._log)[len(known) :]:
                if isinstance(entry.event, DriftDetected):
                    self._say(self.day, f"drift of {entry.event.feature}: {entry.event.severity}")
            if not events:
                return said
            said += events
            self._say(self.day, f"{step.action}: {step.reason}")
            for text in filter(None, map(event_text, events)):
                self._say(self.day, f"    {text}")
        return said

    def _first_model(self) -> None:
        """A linear model that learned the first days, label by label, decides from now on."""
        data = reading.read(self._log, list(_EVERY))
        learner = OnlineLearner(spec.NAMES)
        learner.learn(data.features, data.labels)
        ann = Act("ann", "our own first model", self.now)
        acts.register(self._log, Artifact(learner.export(), "card", "1.0.0", spec.SPEC_VERSION), ann)
        acts.deploy(self._log, "card-1.0.0", ann)
        self._worker.follow_control()
        self._say(self.day, f"card-1.0.0 learned from {len(data.labels):,} payments, and decides from now on")

    def _deploy_poison(self) -> None:
        """Somebody forces a model into production that is the champion with every score turned around."""
        state = loop_state(self._log)
        good = self._log.get_blob(state.registry.models[state.champion].digest)
        bad = lightgbm_text.with_leaf_values(good, [-tree.leaf_value for tree in lightgbm_text.parse(good).trees])
        version = state.champion.rpartition("-")[2]
        mallory = Act("mallory", "trust me", self.now)
        acts.register(self._log, Artifact(bad, "card", "9.9.9", spec.SPEC_VERSION, parent=version), mallory)
        acts.deploy(self._log, "card-9.9.9", mallory)
        self._worker.follow_control()
        self._poison, self._poisoned_at = hashlib.sha256(bad).hexdigest(), self.now
        self._say(self.day, "mallory deploys card-9.9.9, which turns every score around")
