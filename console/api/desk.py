"""What the route handlers ask: the log, the read models and the searches behind one object, called in threads.

The event loop never waits for a server: every call that does runs in a pool of READERS threads (`Desk.run`); at most
HEAVY_MAX of those that fold or decide again (audits, replays) run at once, and a further HEAVY_WAITING_MAX wait. One
thread of its own keeps the read models up to date.

The control stream is followed as well. Of its entries those that changed something stay in memory, about 1 kB each;
what comes by itself every hour (`overview.ROUTINE`) does not, so they are as many as people and the loop made.

If the log server is gone, readers get Unavailable (503), `/readyz` says so, and the following thread tries again.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec
import structlog

from console import profiles, wiring
from console.anchoring.proving import anchor_in
from console.anchoring.settings import anchor_settings
from console.api import overview
from console.api.answers import DecisionDetail, DecisionPage, DecisionRow, ReplayResult, detail_of, row_of
from console.api.cursors import DecisionCursor, decode, encode
from console.api.index import Hit
from console.api.problems import ProblemError, not_found
from console.api.tail import Decided
from console.api.views import Views
from core import control_stream
from core.codec import decode_alert, decode_reject, decode_score, decode_transaction, decoded
from core.context import Resolver
from core.control import ControlState
from core.control_stream import ControlEntry, ControlStream
from core.errors import Conflict, Corrupt, Unavailable
from core.events import AccountEvent, Position, TransactionScored
from core.identity import required
from core.log.base import EventLog, Stream
from core.log.paging import entries, entries_at
from core.replay import Timeline
from core.settings import Settings
from ingest import attesting
from ingest.protecting import Protection
from projections.audit.lookup import Payment
from projections.audit.proof import prove
from projections.audit.reasons import AlertReader
from projections.audit.redecide import DecisionPlace, Found, account_events, find, recompute
from projections.audit.sealed_entries import NotAnchored
from projections.audit.story import Story, tell
from projections.audit.whatif_payment import Answered, Question, ask
from projections.engine.checkpoints import CheckpointStore
from projections.engine.states import States
from projections.tables.query import Query
from projections.views.cases import case_answer

DECISION_STREAMS: tuple[Stream, ...] = ("transactions", "scores", "alerts")
PAYMENT = msgspec.json.Decoder(Payment)
READERS = 8
HEAVY_MAX = 2
HEAVY_WAITING_MAX = 8
POLL_S = 0.25
RETRY_S = 1.0
CHECKPOINT_S = 60.0
P = ParamSpec("P")
T = TypeVar("T")


class Desk:
    """See the module's docstring. A context: `start`, then `close`."""

    def __init__(
        self,
        settings: Settings,
        checkpoints: Path,
        log: EventLog | None = None,
        on_caught_up: Callable[[], None] = lambda: None,
    ) -> None:
        """log: by default, that of the settings. on_caught_up: called once all of it was read. Raises Unavailable, and
        BadInput if no worker has ever run on it.
        """
        self.settings = settings
        self.log: EventLog = profiles.open_log(settings, profiles.WITHOUT_REGISTRY) if log is None else log
        self.views = Views(self.log, CheckpointStore(checkpoints, settings.log_prefix))
        self.partitions = self.views.partitions
        self.trouble = ""
        self.protection = Protection.of(settings)
        self.checkpoints = checkpoints
        self.resolver = Resolver(self.log.get_blob, wiring.load_scorer)
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._stream = ControlStream()
        self._changes: list[ControlEntry] = []
        self._changes_until = 0
        self._reading_control = threading.Lock()
        self._follow_control()
        self._heavy = asyncio.Semaphore(HEAVY_MAX)
        self._heavy_waiting = 0
        self._stopping = threading.Event()
        self._following = threading.Thread(target=self._follow, name="views", daemon=True)
        self._on_caught_up = on_caught_up
        self._explaining = threading.Lock()
        self._reader: tuple[int, AlertReader] | None = None
        self._logger = structlog.get_logger()

    @property
    def control(self) -> ControlState:
        """The fold of the control stream, at most POLL_S old. Read only."""
        return self._stream.state

    def asked(self, field: str, value: str) -> str:
        """An identifier that somebody asks for, as the log holds it: a log with tokens knows no raw ones."""
        return self.protection.asked(self.control.identity, field, value)

    def attest(self, event: AccountEvent) -> AccountEvent:
        """The event under this server's key, if it has one. Raises BadInput if workers would refuse it."""
        if self.log.signer is not None and not event.key:
            event = attesting.signed(event, self.log.signer, self.control)
        attesting.check(event, self.control)
        return event

    def control_page(self, after: int, count: int, as_of: str | None) -> tuple[list[ControlEntry], int]:
        """Up to `count` entries of the control stream after a position, as of now or of a moment, and the position that
        the moment reaches.
        """
        self._follow_control()
        until = self.control.position if as_of is None else self.views.past(as_of)[0].cut.control
        read = control_stream.page(self.log, self.control, after, count)
        return [entry for entry in read if entry.position <= until], until

    def changes(self, until: int, count: int) -> list[ControlEntry]:
        """The last `count` changes up to a position of the control stream, newest first."""
        if until > self._changes_until:
            self._follow_control()
        end = bisect_right(self._changes, until, key=lambda entry: entry.position)
        return self._changes[max(0, end - count) : end][::-1]

    def _follow_control(self) -> None:
        with self._reading_control:
            self._changes += [entry for entry in self._stream.advance(self.log) if overview.is_change(entry)]
            self._changes_until = self._stream.position

    def start(self) -> None:
        """Begin to follow the log."""
        self._following.start()

    def close(self) -> None:
        """Stop following, and release connections."""
        self._stopping.set()
        self._following.join(30.0)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.log.close()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result, made in a reader's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: call(*args, **kwargs))

    async def run_heavy(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`run` for what folds or decides again. Raises ProblemError (503) if too many wait already."""
        if self._heavy_waiting >= HEAVY_WAITING_MAX:
            raise ProblemError(
                503,
                f"{self._heavy_waiting} long questions wait already",
                reason="busy",
                remedy="try again later",
                headers={"retry-after": "5"},
            )
        self._heavy_waiting += 1
        try:
            async with self._heavy:
                return await self.run(call, *args, **kwargs)
        finally:
            self._heavy_waiting -= 1

    def _follow(self) -> None:
        saved, has_news = time.monotonic(), False
        while not self._stopping.is_set():
            try:
                self._follow_control()
                was_caught_up = self.views.is_caught_up
                followed = self.views.follow()
                if self.views.is_caught_up and not was_caught_up:
                    self._on_caught_up()
                if self.trouble:
                    self._logger.info("api.follow_continues")
                self.trouble = ""
                has_news |= followed.is_news
                if has_news and time.monotonic() - saved > CHECKPOINT_S:
                    self.views.checkpoint()
                    saved, has_news = time.monotonic(), False
                if not followed.is_behind:
                    self._stopping.wait(POLL_S)
            except (Unavailable, Corrupt, Conflict) as error:
                if not self.trouble:
                    self._logger.error("api.follow_failed", error=str(error))
                self.trouble = str(error)
                self._stopping.wait(RETRY_S)
        if has_news and not self.trouble:
            with suppress(Unavailable, Corrupt):  # the next start folds a little more
                self.views.checkpoint()

    # --- decisions ------------------------------------------------------------------------------------------------

    def search(self, query: Query, limit: int, cursor: str, as_of: str | None) -> DecisionPage:
        """A page of the decisions that match."""
        before = None
        if cursor:
            after = decode(cursor, DecisionCursor)
            before = Hit(after.at, after.partition, Position(after.generation, after.offset))
            as_of = after.as_of
        hits, moment = self.views.search(query, limit + 1, before, as_of)
        rows = self._rows(hits[:limit], query)
        more = ""
        if len(hits) > limit:
            last = hits[limit - 1]
            more = encode(DecisionCursor(last.at, last.partition, *last.position, moment))
        return DecisionPage(moment, rows, more)

    def _rows(self, hits: Sequence[Hit], query: Query) -> list[DecisionRow]:
        """The hits' rows, without those whose entry shows that only a hash was equal."""
        read: dict[tuple[int, Position], tuple[bytes, bytes]] = {}
        for partition in {hit.partition for hit in hits}:
            positions = [hit.position for hit in hits if hit.partition == partition]
            transactions = entries_at(self.log, partition, "transactions", positions)
            scores = entries_at(self.log, partition, "scores", positions)
            for t, s in zip(transactions, scores, strict=True):
                read[partition, t.id] = t.payload, s.payload
        rows = (self._row(hit, query, *read[hit.partition, hit.position]) for hit in hits)
        return [row for row in rows if row is not None]

    def _row(self, hit: Hit, query: Query, t: bytes, s: bytes) -> DecisionRow | None:
        """The hit's row; None if its entry shows that only a hash was equal. t, s: its transaction and its score."""
        row = row_of(str(DecisionPlace(hit.partition, hit.position)), decode_transaction(t), decode_score(s))
        is_hit = (
            query.account in (None, row.account_id)
            and query.transaction_id in (None, row.transaction_id)
            and (query.rule is None or query.rule in row.rules)
            and query.merchant in (None, row.merchant_id)
            and query.device in (None, row.device_id)
            and query.card in (None, row.card_id)
        )
        return row if is_hit else None

    def find(self, name: str, as_of: str | None = None) -> Found:
        """A decision by its transaction's ID, its place (p07:1-533) or its alert's ID, as of now or of a moment. Raises
        ProblemError if there is none, or more than one with this ID.
        """
        place = _place(name)
        if place is not None and place.partition in self.partitions:
            t = self.log.get(place.partition, "transactions", place.position)
            if t is not None:
                self._check_decided(place, as_of)
                found = decode_transaction(t)
                return Found(place, found.transaction_id, found.account_id)
            if (why := self._refused(place)) is not None:
                raise why
        query = Query(transaction_id=name)
        hits, _ = self.views.search(query, 20, None, as_of)
        rows = self._rows(hits, query)
        if not rows:
            raise not_found(f"decision {name}", "check the ID; it may also be a place such as p07:1-533")
        if len(rows) > 1:
            places = ", ".join(row.place for row in rows)
            raise ProblemError(
                409, f"{len(rows)} payments have the ID {name}: {places}", reason="ambiguous", remedy="ask by place"
            )
        return Found(DecisionPlace.parse(rows[0].place), rows[0].transaction_id, rows[0].account_id)

    def _check_decided(self, place: DecisionPlace, as_of: str | None) -> None:
        """Raise ProblemError if the decision was made after the moment."""
        if (
            as_of is not None
            and place.position > self.views.past(as_of)[0].cut.partitions[place.partition].transactions
        ):
            raise ProblemError(
                404,
                f"decision {place} was not made yet as of {as_of}",
                reason="not_found",
                remedy="ask as of a later moment, or as of now",
            )

    def first_decision(
        self, partition: int, account: str, transaction_id: str, place: DecisionPlace | None
    ) -> Decided | None:
        """The decision on the account's payment with this ID, as logged; the first one, if there are several. place:
        where it is, if that is known.
        """
        if place is None:
            hits, _ = self.views.search(Query(account=account, transaction_id=transaction_id), 20, None, None)
            place = DecisionPlace(hits[-1].partition, hits[-1].position) if hits else None
        if place is None:
            found = find(self.log, [partition], transaction_id, account)
            place = found[0].place if found else None
        if place is None:
            return None
        partition, position = place
        t, s, a = (self.log.get(partition, stream, position) for stream in DECISION_STREAMS)
        return Decided(partition, position, t, s, a) if t is not None and s is not None else None

    def _refused(self, place: DecisionPlace) -> ProblemError | None:
        """Why the message at a place was rejected; None if it was not, or not yet."""
        if place.partition not in self.partitions:
            return None
        if place.position > self.log.head(place.partition).transactions:
            return not_found(f"decision {place}", "if it was accepted a moment ago, ask again")
        for entry in entries(self.log, place.partition, "rejects"):
            reject = decode_reject(entry.payload)
            if reject.topic == "transactions" and reject.position == str(place.position):
                return ProblemError(
                    404, reject.detail, reason=reject.reason, remedy="docs/bad-input.md lists the reasons"
                )
        return None

    def payments(self, wanted: Sequence[tuple[str, str]]) -> dict[str, list[Payment]]:
        """The payments of (transaction ID, account ID or "" for any), as `ingest.submission.Lookup`."""
        found = self._payments(wanted)
        if missing := [each for each in wanted if each[0] not in found]:
            time.sleep(2 * POLL_S)  # decided a moment ago, perhaps: the index follows
            found |= self._payments(missing)
        return found

    def _payments(self, wanted: Sequence[tuple[str, str]]) -> dict[str, list[Payment]]:
        found: dict[str, list[Payment]] = {}
        for transaction_id, account in wanted:
            query = Query(transaction_id=transaction_id, account=account or None)
            hits, _ = self.views.search(query, 20, None, None)
            for hit in reversed(hits):
                payload = self.log.get(hit.partition, "transactions", hit.position)
                if payload is not None and (payment := decoded(PAYMENT, payload)).transaction_id == transaction_id:
                    found.setdefault(transaction_id, []).append(payment)
        return found

    def detail(self, name: str, as_of: str | None) -> DecisionDetail:
        """One decision with its alert in words."""
        place, _, _ = self.find(name, as_of)
        t = self.log.get(place.partition, "transactions", place.position)
        s = self.log.get(place.partition, "scores", place.position)
        a = self.log.get(place.partition, "alerts", place.position)
        if t is None or s is None:
            raise not_found(f"decision {name}")
        reasons = None
        if a is not None:
            with self._explaining:
                reasons = self._alert_reader().reasons(place.partition, place.position)
        alert = None if a is None else decode_alert(a)
        return detail_of(str(place), decode_transaction(t), decode_score(s), alert, reasons)

    def case(self, name: str, as_of: str | None) -> bytes:
        """One case, with its alerts in words. Raises ProblemError if there is none."""

        def question(states: States) -> dict[str, Any]:
            row = case_answer(states, name)
            if row is None:
                raise not_found(f"case {name}")
            return {"as_of": states.as_of, **msgspec.structs.asdict(row)}

        answer = msgspec.json.decode(self.views.answer(f"case {name}", question, as_of))
        with self._explaining:
            reader = self._alert_reader()
            answer["reasons"] = {
                a["alert_id"]: reader.reasons(answer["partition"], Position.parse(a["position"]))
                for a in answer["case"]["alerts"]
            }
        return msgspec.json.encode(answer)

    def _alert_reader(self) -> AlertReader:
        """One that knows the control stream up to now; keeps its models while the stream stands still."""
        head = self.log.control_head()
        if self._reader is None or self._reader[0] != head:
            self._reader = (head, AlertReader(self.log, wiring.load_scorer))
        return self._reader[1]

    def replay(self, name: str, as_of: str | None) -> ReplayResult:
        """The decision made again, by folding its account."""
        found = self.find(name, as_of)
        partition, position = found.place
        events = account_events(self.log, partition, [found.account_id])
        timeline = Timeline(control_stream.history(self.log), self.resolver)
        accounts = [found.account_id]
        now = next(recompute(self.log, partition, [position], accounts, timeline, events, known=self.views))
        return ReplayResult(
            place=str(found.place),
            transaction_id=found.transaction_id,
            outcome="not_decidable" if now.undecidable else "identical" if now.identical else "different",
            differences=now.differences,
            why=now.undecidable,
            logged_digest=hashlib.sha256(now.decision.logged_score).hexdigest(),
            recomputed_digest=hashlib.sha256(now.score).hexdigest() if now.score is not None else "",
        )

    def story(self, name: str, as_of: str | None) -> Story:
        """The audit of one decision (docs/audit.md). as_of: what came later is not told."""
        found = self.find(name, as_of)
        control = control_stream.history(self.log)
        until = None if as_of is None else self.views.past(as_of)[0].cut.partitions[found.place.partition].feedback
        return tell(self.log, found, control, Timeline(control, self.resolver), until, self.views)

    def proof(self, name: str, as_of: str | None, level: int = 2) -> tuple[DecisionPlace, bytes]:
        """The proof of one decision (docs/proofs.md), and its place. Raises ProblemError (409) if the newest checkpoint
        does not cover it.
        """
        found = self.find(name, as_of)
        control = control_stream.history(self.log)
        log_id = required(control_stream.fold(control).identity).log_id
        anchor = anchor_in(anchor_settings(self.settings.anchors), log_id)
        try:
            return found.place, prove(self.log, found.place, control, anchor, level=level)
        except NotAnchored as error:
            raise ProblemError(
                409, str(error), reason="not_anchored", remedy="ask again after the next checkpoint"
            ) from None

    def score_of(self, found: Found) -> TransactionScored:
        """The logged score of a decision. Raises ProblemError if the log has none."""
        score = self.log.get(found.place.partition, "scores", found.place.position)
        if score is None:
            raise not_found(f"decision {found.place}")
        return decode_score(score)

    def ask(self, found: Found, questions: Sequence[Question]) -> Answered:
        """Answers to questions about one decision."""
        timeline = Timeline(control_stream.history(self.log), self.resolver)
        return ask(self.log, found, timeline, questions, self.views)


def _place(name: str) -> DecisionPlace | None:
    """The place that a name is; None if it is none."""
    try:
        return DecisionPlace.parse(name)
    except ValueError:
        return None
