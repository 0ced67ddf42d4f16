"""The projection runner: catches up, checkpoints, resumes and reports faults. Only reads the log.

A source of a projection is in one of these states:

    following   everything up to its place is folded
    retrying    the last fact failed; the view was reset to the place before it, and is retried at each step
    faulted     it failed `ATTEMPTS` times at the same place, and is stalled there until a restart or a new version

A fault stops that source of that projection and nothing else; no fact is ever skipped. An entry of the log that can't
be decoded is a fault of every projection that follows its source. If a runner is killed, its steps are repeated from
the last checkpoint and give the same state (I5).

If the log server lost its tail in a crash, a view may contain facts that the log no longer holds. Each step compares
the mark at a view's place with the log's; a view that does not match is folded again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from core.codec import decode_seal
from core.errors import BadInput, ConcurrencyError, Corrupt, Unavailable
from core.events import Position
from core.log.base import EventLog
from core.log.paging import entries
from projections.engine.base import CONTROL, NOWHERE, Place, Projection, fold, place_name
from projections.engine.checkpoints import Checkpoint, CheckpointStore, current_version, restore
from projections.engine.columnar import fold_archived
from projections.engine.feed import SealedBatch, batches, facts_between, mark_at, seal_at

ATTEMPTS = 3
SEGMENTS_PER_STEP = 16
FACTS_PER_STEP = 20_000
"""After so many facts of a source a step ends, or checkpoints and stops would wait for minutes on large batches."""

Condition = Literal["following", "retrying", "faulted"]


class View:
    """One projection's state of one source, and its place. The two change together."""

    def __init__(self, projection: Projection[Any], source: int, place: Place, state: Any) -> None:
        self.projection = projection
        self.source = source
        self.place = place
        self.state = state
        self.mark = ""
        self.attempts = 0
        self.error = ""

    @property
    def condition(self) -> Condition:
        """See the module's head."""
        if not self.attempts:
            return "following"
        return "faulted" if self.attempts >= ATTEMPTS else "retrying"

    def advance(self, batch: SealedBatch) -> None:
        """Fold the batch that follows the place (or the rest of it, if the place is inside it).

        Raises ConcurrencyError for any other batch: none is applied twice and none is skipped. An error of a handler
        propagates, with `place` before the fact that failed; the state may then be inconsistent and must be reset.
        """
        if batch.sequence != self.place.sequence + 1:
            where = place_name(self.source, self.place)
            raise ConcurrencyError(f"{self.projection.label} is at {where}; batch {batch.sequence} does not follow")
        for index in range(self.place.inside, len(batch.facts)):
            self.projection.apply(self.state, batch.facts[index])
            self.place = Place(self.place.sequence, index + 1)
        self.place, self.mark = Place(batch.sequence), batch.mark


@dataclass(frozen=True, slots=True)
class Status:
    """The progress of one source of a projection.

    lag_events: entries and control events in the log after its place (a partly folded batch counts as a whole).
    lag_seconds: the time since the oldest batch not yet folded was recorded; 0 if there is none.
    """

    projection: str
    version: int
    current: bool
    source: int
    place: str
    condition: Condition
    lag_events: int
    lag_seconds: float
    attempts: int
    error: str


class Runner:
    """Follows a log with several projections; versions of one name run side by side."""

    def __init__(
        self,
        log: EventLog,
        partitions: Sequence[int],
        projections: Iterable[Projection[Any]],
        store: CheckpointStore | None = None,
        *,
        rebuild: Iterable[str] = (),
    ) -> None:
        """Load checkpoints. Sources without a valid one, and the projections named in `rebuild`, start from nothing."""
        again = frozenset(rebuild)
        self._log = log
        self._partitions = list(partitions)
        self._store = store
        self.projections = {projection.label: projection for projection in projections}
        self._views: dict[tuple[str, int], View] = {}
        for label, projection in self.projections.items():
            for source in projection.sources(self._partitions):
                view = View(projection, source, NOWHERE, projection.initial())
                if projection.name not in again:
                    self._restart(view)
                self._views[label, source] = view

    def view(self, projection: Projection[Any], source: int) -> View:
        """The live view, which the caller must not change."""
        return self._views[projection.label, source]

    def step(self, batches_max: int = 200) -> int:
        """Fold up to `batches_max` batches of every source into every projection, or as many as hold FACTS_PER_STEP
        facts; returns the number of batches read.

        Projections at the same place share one read. A columnar projection instead folds up to SEGMENTS_PER_STEP
        archived segments, which count as one batch. Raises Unavailable if the log can't be reached.
        """
        done = 0
        for source in [*self._partitions, CONTROL]:
            views = [v for v in self._views.values() if v.source == source and v.condition != "faulted"]
            end = self._end(source)
            self._check_marks(source, views, end)
            for view in views:
                if view.condition == "retrying":
                    done += 1
                    self._attempt(view, self._take_back)
            for view in views:
                if view.condition == "following":
                    place = view.place
                    self._attempt(view, partial(self._follow_columns, end=end))
                    done += view.place != place or view.condition != "following"
            following = [v for v in views if v.condition == "following"]
            try:
                done += self._follow(source, following, end, batches_max)
            except Corrupt as error:
                done += 1
                for view in following:
                    if view.condition == "following":
                        view.attempts, view.error = 1, f"Corrupt: {error}"
        return done

    def catch_up(self) -> None:
        """Step until nothing more can be folded."""
        while self.step():
            pass

    def checkpoint(self) -> None:
        """Write each projection's views with their places. A source inside a batch (after a fault) keeps its last
        checkpoint.
        """
        if self._store is None:
            return
        for label, projection in self.projections.items():
            held: dict[int, Checkpoint] = {}
            for view in (v for (name, _), v in self._views.items() if name == label):
                if view.condition == "following" and not view.place.inside:
                    held[view.source] = Checkpoint(view.place, view.state, view.mark)
                    continue
                known = self._store.load(projection, self._log, view.source, view.place)
                if known is not None:
                    held[view.source] = known
            self._store.save(projection, self._log, held)

    def digests(self, projection: Projection[Any]) -> dict[int, str]:
        """The digest of each source's state."""
        return {
            v.source: projection.digest(v.state) for v in self._views.values() if v.projection.label == projection.label
        }

    def swap(self, blue: Projection[Any], green: Projection[Any], *, accept_difference: bool = False) -> None:
        """Make `green` the current version in one step, after comparing it with `blue`.

        Raises BadInput, changing nothing, unless green is at blue's places, without a fault, and its state digests
        equal blue's; `accept_difference` waives the last condition, for a version that is meant to differ.
        """
        if self._store is None or blue.name != green.name:
            raise BadInput(f"{blue.label} and {green.label} cannot be swapped")
        for source in blue.sources(self._partitions):
            if source not in green.sources(self._partitions):
                continue
            old, new = self.view(blue, source), self.view(green, source)
            if new.condition != "following" or new.place < old.place:
                raise BadInput(f"{green.label} is {new.condition} at {place_name(source, new.place)}, not caught up")
            if not accept_difference and (new.place != old.place or blue.digest(old.state) != green.digest(new.state)):
                raise BadInput(f"{green.label} differs from {blue.label} at {place_name(source, new.place)}")
        self.checkpoint()
        self._store.choose(green)

    def status(self, now_ms: int) -> list[Status]:
        """The status of every source of every projection. now_ms: wall clock, epoch ms."""
        found = []
        behind: dict[tuple[int, Place], tuple[int, int | None]] = {}  # most are at the same places
        for view in self._views.values():
            at = view.source, view.place
            if at not in behind:
                behind[at] = self._behind(*at)
            events, oldest = behind[at]
            lag = 0.0 if oldest is None else max(now_ms - oldest, 0) / 1000
            name = view.projection.name
            versions = [p.version for p in self.projections.values() if p.name == name]
            found.append(
                Status(
                    projection=view.projection.name,
                    version=view.projection.version,
                    current=current_version(self._store, name, versions) == view.projection.version,
                    source=view.source,
                    place=place_name(view.source, view.place),
                    condition=view.condition,
                    lag_events=events,
                    lag_seconds=lag,
                    attempts=view.attempts,
                    error=view.error,
                )
            )
        return found

    def _follow(self, source: int, views: list[View], end: Place, batches_max: int) -> int:
        if not views:
            return 0
        start = min(view.place for view in views).sequence
        done = facts = 0
        for batch in batches(self._log, source, start, min(end.sequence, start + batches_max)):
            for view in views:
                if view.condition == "following" and view.place.sequence + 1 == batch.sequence:
                    self._attempt(view, partial(View.advance, batch=batch))
            done += 1
            facts += len(batch.facts)
            if facts >= FACTS_PER_STEP or all(view.condition != "following" for view in views):
                break
        return done

    def _follow_columns(self, view: View, end: Place) -> None:
        """Fold archived batches after the view's place by columns, if there are any and the projection can."""
        place, mark = fold_archived(
            view.projection, self._log, view.source, view.place, end, view.state, SEGMENTS_PER_STEP
        )
        if place != view.place:
            view.place, view.mark = place, mark

    def _attempt(self, view: View, action: Callable[[View], None]) -> None:
        try:
            action(view)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a bulkhead: a fault is reported and stops only this projection
            view.attempts += 1
            view.error = f"{type(error).__name__}: {error}"
        else:
            view.attempts, view.error = 0, ""

    def _take_back(self, view: View) -> None:
        """Fold the view again up to the place before the fact that failed, because the failure may have left the state
        inconsistent; then retry that fact's batch.
        """
        known, state = restore(self._store, view.projection, self._log, view.source, view.place)
        view.state = fold(view.projection, facts_between(self._log, view.source, known, view.place), state)
        for following in batches(self._log, view.source, view.place.sequence, view.place.sequence + 1):
            view.advance(following)

    def _check_marks(self, source: int, views: list[View], end: Place) -> None:
        """Restart views whose last folded batch is no longer in the log."""
        marks: dict[int, str] = {}
        for view in views:
            sequence = view.place.sequence
            if not sequence or not view.mark:  # nothing folded yet
                continue
            if sequence not in marks:
                marks[sequence] = mark_at(self._log, source, sequence) if sequence <= end.sequence else ""
            if marks[sequence] != view.mark:
                self._restart(view)

    def _restart(self, view: View) -> None:
        """Reset the view to the newest checkpoint that matches the log, or to the beginning."""
        view.place, view.state = restore(self._store, view.projection, self._log, view.source, self._end(view.source))
        view.mark = mark_at(self._log, view.source, view.place.sequence) if view.place.sequence else ""
        view.attempts, view.error = 0, ""

    def _end(self, source: int) -> Place:
        return Place(self._log.control_head() if source == CONTROL else self._log.head(source).sequence)

    def _behind(self, source: int, place: Place) -> tuple[int, int | None]:
        """The number of events after a place, and when the first batch after it was recorded (None: none)."""
        end = self._end(source).sequence
        if place.sequence >= end:
            return 0, None
        if source == CONTROL:
            first = next(iter(batches(self._log, source, place.sequence, place.sequence + 1)))
            return end - place.sequence, first.recorded_at
        first_recorded = seal_at(self._log, source, place.sequence + 1).recorded_at
        seals = entries(self._log, source, "seals", Position(place.sequence, 1), Position(end, 1))
        return sum(sum(decode_seal(seal.payload).counts) for seal in seals), first_recorded
