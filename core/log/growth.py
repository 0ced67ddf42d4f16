"""Trees over a log that grow with it, and a place from which they can go on: what a notary and an auditor fold.

A place is kept as the tree before the last leaf, and that leaf's content. Whoever has the signed root at that place can
check all of it: adding the leaf must give the root. So a file with places needs no signature of its own, and the head
of a partition that it gives is the signed one. Pure, except for the reading of the log.
"""

from __future__ import annotations

import msgspec

from core.errors import Corrupt
from core.events import Position
from core.log import merkle, seals
from core.log.base import Entry, EventLog, Head
from core.log.checkpoints import Checkpoint, TreeHead
from core.log.merkle import Tree
from core.log.paging import PAGE, read


class Place(msgspec.Struct, frozen=True):
    """Where a tree ends: its size, the subtrees of the tree without the last leaf, and that leaf's content."""

    size: int = 0
    before: tuple[bytes, ...] = ()
    last: bytes = b""


class Grown:
    """One stream's tree. `last` is the content of the last leaf."""

    __slots__ = ("_before", "last", "tree")

    def __init__(self) -> None:
        self.tree = Tree()
        self._before: list[bytes] = []
        self.last = b""

    @classmethod
    def at(cls, place: Place) -> Grown:
        """The tree at a place. Raises BadInput if the place is not one."""
        grown = cls()
        if place.size:
            grown.tree = Tree(place.size - 1, place.before)
            grown.add(place.last)
        return grown

    def add(self, content: bytes) -> None:
        """Append a leaf."""
        self._before = list(self.tree.peaks)
        self.last = content
        self.tree.add(merkle.leaf(content))

    @property
    def place(self) -> Place:
        """Where the tree ends now."""
        return Place(self.tree.size, tuple(self._before), self.last)

    @property
    def head(self) -> TreeHead:
        """Size and root."""
        return TreeHead(self.tree.size, self.tree.root())


class Places(msgspec.Struct, frozen=True):
    """Where the trees of a log end."""

    control: Place
    partitions: tuple[Place, ...]


class Trees:
    """The trees of a log's control stream and partitions."""

    def __init__(self, partitions: int) -> None:
        self.control = Grown()
        self.partitions = [Grown() for _ in range(partitions)]

    @classmethod
    def at(cls, places: Places) -> Trees:
        """The trees at these places. Raises BadInput if they are not places."""
        trees = cls(0)
        trees.control = Grown.at(places.control)
        trees.partitions = [Grown.at(place) for place in places.partitions]
        return trees

    @property
    def places(self) -> Places:
        """Where they end now."""
        return Places(self.control.place, tuple(grown.place for grown in self.partitions))

    @property
    def heads(self) -> tuple[TreeHead, tuple[TreeHead, ...]]:
        """Of the control stream, and of each partition."""
        return self.control.head, tuple(grown.head for grown in self.partitions)

    def fits(self, checkpoint: Checkpoint) -> bool:
        """Whether they end exactly where the checkpoint was taken."""
        return self.heads == (checkpoint.state.control, checkpoint.state.partitions)

    def widen(self, partitions: int) -> None:
        """Have at least so many partitions."""
        self.partitions += [Grown() for _ in range(partitions - len(self.partitions))]

    def advance(self, log: EventLog, until: Checkpoint | None = None) -> None:
        """Add what the log holds beyond, up to a checkpoint or the log's end. Seals are read before control events, so
        what a seal was decided under is in the trees with it.

        Raises Corrupt if the log no longer holds the last leaves, or lacks one; Incomplete as `core.log.paging`.
        """
        for partition, grown in enumerate(self.partitions):
            end = seals.ID_PART_MAX if until is None else until.state.partitions[partition].size
            _check_last(
                f"partition {partition}: seal", grown, log.get(partition, "seals", Position(grown.tree.size, 1))
            )
            while grown.tree.size < end and (page := self._page(log, partition, grown, end)):
                for entry in page:
                    if entry.id != Position(grown.tree.size + 1, 1):
                        raise Corrupt(
                            f"partition {partition}: seal {grown.tree.size + 1} is missing: {entry.id} comes next"
                        )
                    grown.add(entry.payload)
        self._advance_control(log, seals.ID_PART_MAX if until is None else until.state.control.size)

    def _page(self, log: EventLog, partition: int, grown: Grown, end: int) -> list[Entry]:
        after = Position(grown.tree.size, seals.ID_PART_MAX)
        return read(log, partition, "seals", after, min(PAGE, end - grown.tree.size))

    def _advance_control(self, log: EventLog, end: int) -> None:
        grown = self.control
        if grown.tree.size:
            found = log.read_control(grown.tree.size - 1, 1)
            payload = found[0][1] if found and found[0][0] == grown.tree.size else None
            _check_last("control event", grown, payload)
        while grown.tree.size < end and (page := log.read_control(grown.tree.size, min(PAGE, end - grown.tree.size))):
            for number, payload in page:
                if number != grown.tree.size + 1:
                    raise Corrupt(f"control event {grown.tree.size + 1} is missing: {number} comes next")
                grown.add(payload)


def upto(log: EventLog, checkpoint: Checkpoint) -> Trees:
    """The trees at a checkpoint, from the log alone. Raises Corrupt if the log does not contain it."""
    state = checkpoint.state
    trees = Trees(len(state.partitions))
    trees.advance(log, checkpoint)
    control, partitions = trees.heads
    named = [("control stream", control, state.control)]
    named += [
        (f"partition {n}", found, signed)
        for n, (found, signed) in enumerate(zip(partitions, state.partitions, strict=True))
    ]
    for name, found, signed in named:
        if found.size < signed.size:
            raise Corrupt(
                f"{name}: ends at {found.size}, before checkpoint {checkpoint.number}, which has {signed.size}"
            )
        if found != signed:
            raise Corrupt(f"{name}: differs from checkpoint {checkpoint.number}: the log was rewritten")
    return trees


def head_at(grown: Grown) -> Head:
    """The partition's head after the last seal of its tree."""
    if not grown.tree.size:
        return Head()
    return seals.head_from_entry(Entry(Position(grown.tree.size, 1), grown.last))


def _check_last(name: str, grown: Grown, payload: bytes | None) -> None:
    if grown.tree.size and payload != grown.last:
        state = "is no longer in the log" if payload is None else "is another one in the log"
        raise Corrupt(f"{name} {grown.tree.size}, which was signed before, {state}: the log was cut or rewritten")
