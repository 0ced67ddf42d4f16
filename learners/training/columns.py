"""The columns of a training set beside the kernel's: a program's features and fields, from the log. Reads only.

    stored   features that the scores of the program that decided store, as logged; fields, from the payment
    folded   a feature that they do not store: the partition is folded under the selected program from its beginning,
             by the live path; only the rows that lack it are taken, and they are counted. Aggregates of a program's own
             decisions are then those of that program, as if it had decided

A category is read as the number of its value among all values read, ascending; `learners.training.levels` makes a
model's levels of them. Cost: 5 µs a payment and 0.1 µs for each of its attributes that is read; a fold 6 µs more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from core import pipeline
from core.codec import decode_score, decode_transaction
from core.context import Context
from core.control_stream import fold as folded_state
from core.control_stream import history
from core.currency import Rates
from core.errors import BadInput, Corrupt, NotDecidable
from core.events import TransactionScored
from core.features import packing, spec
from core.features.columns import columns
from core.features.state import AccountState
from core.hashing import HashKey
from core.identity import required
from core.log.base import Entry, EventLog, Head
from core.log.paging import decision_pages
from core.program.batch import Batch
from core.program.codes import ENGINE
from core.program.deciding import Program
from core.program.document import Program as Document
from core.program.inputs import ModelColumns, Offer, offers
from core.program.library import kernel
from core.program.loading import load
from core.program.plan import Plan, plan
from core.replay import Timeline, chunks, segments
from core.scoring import Input
from core.text import listed
from core.work import Work
from learners.training.pages import Placed

STANDARD = "standard"
OWN = "own"
"""Words for the kernel's columns, and for what a program adds, in `--features`."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a training set holds: offers of a program. set_aside: fields that were left out because the program calls
    them personal data.
    """

    plan: Plan
    offers: tuple[Offer, ...]
    set_aside: tuple[str, ...] = ()

    @property
    def is_standard(self) -> bool:
        """Whether it is the kernel's columns, in order, and nothing else."""
        return tuple(each.column for each in self.offers) == tuple(range(spec.WIDTH))


def deployed_plan(log: EventLog) -> tuple[Document, Plan]:
    """The program that decides now."""
    state = folded_state(history(log))
    loaded = load(state.program_in_force, log.get_blob)
    return loaded.program, plan(loaded.checked, kernel())


def select(document: Document, made: Plan, names: Sequence[str], without: Sequence[str] = ()) -> Selection:
    """What names mean: STANDARD, OWN (features that are stored, and fields that are no personal data), or single
    features and fields. Raises BadInput for a name that the program does not offer.
    """
    known = {each.name: each for each in offers(made).values()}
    found: dict[str, Offer] = {}
    set_aside: list[str] = []
    for name in names:
        if name == STANDARD:
            found |= {column: known[column] for column in spec.NAMES}
        elif name == OWN:
            for each in known.values():
                if each.is_common or not each.is_logged:
                    continue
                about = document.fields.get(each.name) if each.column < 0 else None
                if about is not None and about.personal != "none":
                    set_aside.append(each.name)
                else:
                    found[each.name] = each
        elif name in known:
            found[name] = known[name]
        else:
            raise BadInput(f"the program {made.program.label} has no feature or field {name!r} that a model can read")
    if strange := [name for name in without if name not in known]:
        raise BadInput(f"nothing is called {listed(strange)}, so it can't be left out")
    chosen = tuple(each for name, each in found.items() if name not in without)
    if not chosen:
        raise BadInput("no feature is left to train on")
    return Selection(made, chosen, tuple(name for name in set_aside if name not in found and name not in without))


def selection_of(made: Plan, *inputs: Sequence[Input] | None) -> Selection:
    """What models with these inputs read together. Raises BadInput if the program lacks any."""
    known = offers(made)
    found: dict[str, Offer] = {}
    for each in inputs:
        wanted = [offer.identity for offer in known.values() if 0 <= offer.column < spec.WIDTH]
        if each is not None:
            wanted = [one.identity for one in each]
            if missing := [one.name for one in each if one.identity not in known]:
                raise BadInput(f"the program {made.program.label} does not define {listed(missing)}")
        found |= {identity: known[identity] for identity in wanted}
    return Selection(made, tuple(found.values()))


@dataclass(slots=True)
class OwnColumns:
    """features: float32 (n, W), of the selection's own offers; its kernel columns are not filled. values: of each
    category by its place in the selection, ascending. folded: rows whose value was not logged then, by name.
    """

    features: NDArray[np.float32]
    values: dict[int, tuple[str, ...]] = field(default_factory=dict)
    folded: dict[str, int] = field(default_factory=dict)


def read_columns(
    log: EventLog,
    selection: Selection,
    heads: Mapping[int, Head],
    places: Mapping[int, Placed],
    rows: int,
    timeline: Callable[[], Timeline] | None,
    report: Callable[[int], object] = lambda count: None,
) -> OwnColumns:
    """The selection's columns of `rows` decisions up to `heads`. places: by partition; timeline: for a fold. Raises
    BadInput if one is needed and there is none, NotDecidable if a decision can't be made again here, Corrupt if an
    entry can't be read.
    """
    reader = _Reader(log, selection, rows)
    for partition, placed in places.items():
        reader.stored(partition, placed)
        report(placed.count)
    if reader.lacking:
        if timeline is None:
            names = [selection.offers[k].name for k in sorted(reader.lacking)]
            raise BadInput(f"the log does not hold {listed(names)}, and nothing is to be folded")
        made = timeline()
        for partition, head in heads.items():
            reader.fold(partition, head, places[partition], made)
    return reader.done()


class _Reader:
    """Fills a set's own columns, partition by partition."""

    def __init__(self, log: EventLog, selection: Selection, rows: int) -> None:
        self._log, self._plan, self._offers = log, selection.plan, selection.offers
        state = folded_state(history(log))
        self._key: HashKey = required(state.identity).key
        self._digests = {digest[:16]: digest for digest in state.programs_decided}
        self._stored: dict[str, dict[str, int]] = {}
        inputs = [Input(each.identity, each.name, each.kind) for each in self._offers]
        self._columns = ModelColumns(self._plan, self._key, inputs)
        self._own = [k for k, each in enumerate(self._offers) if not 0 <= each.column < spec.WIDTH]
        self._features = [k for k in self._own if self._offers[k].column >= 0]
        self._categories = [k for k in self._own if self._offers[k].kind == "category"]
        self._codes: dict[int, dict[str, int]] = {k: {} for k in self._categories}
        self._out = np.full((rows, len(self._offers)), np.nan, dtype=np.float32)
        self.lacking: dict[int, NDArray[np.bool_]] = {}
        """By place in the selection, the rows (n,) whose scores do not store it."""

    def stored(self, partition: int, placed: Placed) -> None:
        """A partition's values as logged."""
        start = placed.begin
        for transactions, scores in decision_pages(self._log, partition, placed.after, placed.until):
            self._page(partition, transactions, scores, placed.of(start, len(transactions)))
            start += len(transactions)

    def _page(self, partition: int, sent: list[Entry], scores: list[Entry], at: NDArray[np.int64]) -> None:
        decoded = [decode_score(scores[i].payload) if at[i] >= 0 else None for i in range(len(scores))]
        chosen = [i for i, score in enumerate(decoded) if score is not None and is_readable(score)]
        if not chosen:
            return
        at = at[np.array(chosen, dtype=np.int64)]
        transactions = [decode_transaction(sent[i].payload) for i in chosen]
        made = [score for score in decoded if score is not None and is_readable(score)]
        vectors = packing.plain_rows([score.features for score in made])
        matrix = np.full((len(made), self._plan.width), np.nan, dtype=np.float32)
        programs = [score.program for score in made]
        for short in dict.fromkeys(programs):
            rows = np.array([i for i, each in enumerate(programs) if each == short], dtype=np.int64)
            stored = self._places_of(short) if self._features else {}
            for k in self._features:
                place = stored.get(self._offers[k].identity)
                if place is None:
                    self.lacking.setdefault(k, np.zeros(len(self._out), dtype=np.bool_))[at[rows]] = True
                    continue
                values = [_value(vectors[i], place, partition) for i in rows.tolist()]
                matrix[rows, self._offers[k].column] = values
        batch = self._batch(transactions, matrix)
        found = self._columns.of(batch, batch.all_rows)
        for k in self._categories:
            codes, texts = self._codes[k], batch.texts(self._offers[k].name)
            found[:, k] = [codes.setdefault(text, len(codes)) if text else np.nan for text in texts]
        self._out[at[:, None], self._own] = found[:, self._own]

    def _batch(self, transactions: Sequence[object], matrix: NDArray[np.float32]) -> Batch:
        sent = list(transactions)
        seen = np.zeros(len(sent), dtype=np.uint8)
        made = columns(sent, self._key)  # type: ignore[arg-type]
        return Batch(sent, made, matrix, seen, {}, Rates(), self._key, self._plan.program.fields)  # type: ignore[arg-type]

    def _places_of(self, short: str) -> dict[str, int]:
        """Where the scores of a program store features, by identity."""
        if short not in self._stored:
            digest = self._digests.get(short)
            if digest is None:
                raise Corrupt(f"program {short} decided, but the control stream neither deploys nor tries it")
            made = plan(load(digest, self._log.get_blob).checked, kernel())
            self._stored[short] = {
                each.identity: each.column for each in offers(made).values() if 0 <= each.column < made.stored
            }
        return self._stored[short]

    def fold(self, partition: int, until: Head, placed: Placed, timeline: Timeline) -> None:
        """Compute what a partition's scores lack, by the live path under the selected program."""
        rings = Program(self._plan, self._key, {}).rings
        state = AccountState(timeline.identity).hold([] if rings is None else [rings])
        known: tuple[Context, Context] | None = None
        start = 0
        for chunk in chunks(self._log, partition, Head(), until):
            at = iter(placed.of(start, len(chunk.scores)).tolist())
            start += len(chunk.scores)
            for context, runs, logged in segments(chunk, timeline):
                mine = np.array(list(islice(at, len(logged))), dtype=np.int64)
                work = Work(partition, state, runs)
                if isinstance(context, NotDecidable):
                    if any(rows[mine[mine >= 0]].any() for rows in self.lacking.values()):
                        raise context
                    pipeline.apply(work)  # as the log has it: none of its rows is wanted
                    continue
                if known is None or known[0] is not context:
                    known = context, self._under(context)
                decided = pipeline.decide(known[1], [work])[0]
                matrix = decided.rows.features[decided.start : decided.stop]
                for k, rows in self.lacking.items():
                    wanted = np.flatnonzero((mine >= 0) & rows[np.maximum(mine, 0)])
                    self._out[mine[wanted], k] = matrix[wanted, self._offers[k].column]

    def _under(self, context: Context) -> Context:
        """The context with the selected program, and its model if that can be served."""
        program = Program(self._plan, self._key, context.program.parameters, context.program.disabled)
        scorer = context.scorer
        try:
            if scorer is not None:
                program.serve(scorer)
        except BadInput:
            scorer = None
        return replace(context, program=program, scorer=scorer, shadow=None, shadow_model="", allocation=None, arms=())

    def done(self) -> OwnColumns:
        """The columns, with categories in ascending order of their values."""
        found = OwnColumns(self._out)
        for k, codes in self._codes.items():
            names = sorted(codes)
            number = np.empty(len(names), dtype=np.float32)
            number[[codes[name] for name in names]] = np.arange(len(names), dtype=np.float32)
            is_there = ~np.isnan(self._out[:, k])
            self._out[is_there, k] = number[self._out[is_there, k].astype(np.int64)]
            found.values[k] = tuple(names)
        found.folded = {self._offers[k].name: int(rows.sum()) for k, rows in self.lacking.items()}
        return found


def is_readable(score: TransactionScored) -> bool:
    """Whether its vector has the columns that this release knows; other rows are no part of a set."""
    return score.spec == spec.SPEC_VERSION and score.engine == ENGINE


def _value(vector: bytes | None, place: int, partition: int) -> np.float32:
    if vector is None or len(vector) < 4 * (place + 1):
        raise Corrupt(f"partition {partition}: a score's vector does not have the columns of its program")
    return np.float32(np.frombuffer(vector, dtype="<f4", count=1, offset=4 * place)[0])
