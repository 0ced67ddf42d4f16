"""What checkpoints demand of a log, checked while it is read: at each signed size a tree has the signed root. Pure.

The checkpoints were verified (`core.log.checkpoints.read`). A partition may be read from a place that was checked
before, instead of from its first seal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from core.log import merkle
from core.log.checkpoints import Checkpoint, TreeHead, backwards
from core.log.growth import Grown, Place, Trees
from core.times import utc


class Expected:
    """The roots that a stream's tree must have. places: where the tree was at the signed sizes last reached."""

    def __init__(self, name: str, heads: Iterable[tuple[TreeHead, Checkpoint]], start: Grown | None = None) -> None:
        self.grown = Grown.at(start.place) if start is not None else Grown()
        self._name = name
        self._due: deque[tuple[TreeHead, Checkpoint]] = deque()
        for head, checkpoint in heads:
            if not self._due or self._due[-1][0] != head:
                self._due.append((head, checkpoint))
        self.signed = self._due[-1][0].size if self._due else 0
        """The size in the newest checkpoint."""
        self.place = self.grown.place
        """Where the tree was when it had this size."""

    def begin(self) -> str:
        """What is wrong with the tree before anything is read; or ""."""
        return self._reached()

    def add(self, content: bytes) -> str:
        """Add a leaf; what is wrong then, or ""."""
        self.grown.add(content)
        if self.grown.tree.size == self.signed:
            self.place = self.grown.place
        return self._reached()

    def end(self) -> str:
        """What is missing after the last leaf, or ""."""
        if not self._due:
            return ""
        head, checkpoint = self._due[-1]
        held = self.grown.tree.size
        return f"the tail is missing: {_named(checkpoint)} has {head.size:,} {self._name}, the log {held:,}"

    def _reached(self) -> str:
        size = self.grown.tree.size
        while self._due and self._due[0][0].size <= size:
            head, checkpoint = self._due.popleft()
            if head.size < size or head.root != self.grown.tree.root():
                first = f"{self._name} up to {head.size:,}"
                return f"{first} differ from {_named(checkpoint)}: the log was rewritten"
        return ""


class Anchors:
    """Verified checkpoints of one log, by number. since: the one up to which partitions were checked before, with the
    trees there.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint], since: tuple[Checkpoint, Trees] | None = None) -> None:
        """Different checkpoints of one number must have been found before (`contradictions`)."""
        self.checkpoints = sorted({each.number: each for each in checkpoints}.values(), key=lambda each: each.number)
        self.since = since

    @property
    def newest(self) -> Checkpoint | None:
        """The one with the highest number."""
        return self.checkpoints[-1] if self.checkpoints else None

    def control(self) -> Expected:
        """What the control stream must be."""
        return Expected("control events", ((each.state.control, each) for each in self.checkpoints))

    def partition(self, number: int) -> Expected:
        """What a partition's seals must be."""
        due = [each for each in self.checkpoints if self.since is None or each.number >= self.since[0].number]
        heads = ((each.state.partitions[number], each) for each in due if number < len(each.state.partitions))
        trees = self.since[1].partitions if self.since is not None else []
        return Expected("seals", heads, trees[number] if number < len(trees) else None)

    def places(self, control: Expected, partitions: Mapping[int, Expected]) -> tuple[Place, tuple[Place, ...]] | None:
        """Where the trees were at the newest checkpoint; None unless every partition was read."""
        newest = self.newest
        if newest is None or set(partitions) < set(range(len(newest.state.partitions))):
            return None
        return control.place, tuple(partitions[n].place for n in range(len(newest.state.partitions)))

    def contradictions(self, states: Mapping[int, bytes]) -> str:
        """What the checkpoints say against each other, or against the tree of states; or "".

        states: hashes of states by number, from the control stream, for checkpoints that are not given.
        """
        for older, newer in zip(self.checkpoints, self.checkpoints[1:], strict=False):
            if wrong := backwards(older, newer):
                return wrong
        known = {**states, **{each.number: each.state.leaf for each in self.checkpoints}}
        tree = merkle.Tree()
        for checkpoint in self.checkpoints:
            for number in range(tree.size + 1, checkpoint.number + 1):
                if number not in known:
                    return ""  # the rest can't be computed
                tree.add(known[number])
            if tree.root() != checkpoint.root:
                return f"{_named(checkpoint)} does not continue the checkpoints before it: states were exchanged"
        return ""


def _named(checkpoint: Checkpoint) -> str:
    moment = utc(checkpoint.state.time_ms).isoformat(sep=" ", timespec="seconds").replace("+00:00", "")
    return f"checkpoint {checkpoint.number} of {moment}"
