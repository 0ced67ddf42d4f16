"""The notary: folds a log into its trees, signs checkpoints that never go back, and remembers where it was.

Steps of one checkpoint, in this order. A crash between any two loses nothing, and the next run continues:

    1  read what is new in the log: one that was cut or rewritten since the last checkpoint is refused
    2  append the state's hash to the tree of states   (killed here: it is overwritten)
    3  store the signed note with the trees            (killed here: the next run delivers it)
    4  the caller delivers it to the destinations
    5  append CheckpointSigned to the control stream, once one of them has it

What is stored is not trusted: the note must be signed by the notary's own key, and the trees must have its roots.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core import control_stream
from core.control_stream import ControlStream, Known
from core.errors import UNDECODABLE, BadInput, Conflict, Corrupt, Unavailable
from core.events import CheckpointSigned, Control
from core.files import write_atomic
from core.identity import required
from core.log import checkpoints, growth, merkle, notes
from core.log.base import EventLog
from core.log.checkpoints import Checkpoint, State, TreeHead
from core.log.growth import Places, Trees
from core.log.merkle import HASH_BYTES, Tree
from core.log.notes import Note

ACTOR = "sentinel anchor"


class Signed(NamedTuple):
    """A checkpoint and its note."""

    checkpoint: Checkpoint
    note: Note


class _Stored(msgspec.Struct, frozen=True):
    """`notary.json`: the newest note, and where the trees end there."""

    note: str
    places: Places


class Notary:
    """One log's notary. `newest`: what it signed last, None before the first."""

    def __init__(
        self,
        log: EventLog,
        directory: Path,
        private: Ed25519PrivateKey,
        archived: Callable[[], EventLog] | None = None,
    ) -> None:
        """Continue from what is stored under `directory`, which is created if need be. archived: the log as far as its
        archive holds it, if no more is to be signed.

        Raises Conflict if another notary holds the directory; Corrupt if what is stored was not signed by this key or
        does not fit the log; BadInput if the log says that checkpoints were signed which are not here (`adopt`).
        """
        self._log, self._private, self._archived = log, private, archived
        self._control = ControlStream()
        self._control.advance(log)
        identity = required(self._control.state.identity)
        self.log_id = identity.log_id
        self.key = notes.public_key(checkpoints.origin_of(self.log_id), private)
        self._directory = directory / self.log_id
        self._lock = _locked(self._directory)
        self.newest: Signed | None = None
        self._trees = Trees(identity.partitions)
        self.states: list[bytes] = []
        """The hashes of all states: the leaves that consistency proofs are made of."""
        self._stored_states = 0
        self._tree = Tree()
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another notary continue."""
        os.close(self._lock)

    @property
    def recorded(self) -> int:
        """The number of the newest checkpoint that the control stream names; 0 if none."""
        return self._control.state.checkpoint

    def adopt(self, content: bytes) -> None:
        """Continue after this checkpoint, which a destination returned, if it is newer than what is stored. Reads the
        log from its beginning. Raises Corrupt if the log does not contain it, or the key did not sign it.
        """
        found, note = checkpoints.read(content, [self.key])
        if self.newest is not None:
            if wrong := checkpoints.backwards(*sorted((self.newest.checkpoint, found), key=lambda each: each.number)):
                raise Corrupt(f"an anchor contradicts what is stored in {self._directory}: {wrong}")
            if found.number <= self.newest.checkpoint.number:
                return
        self._continue(Signed(found, note), None)
        self._store()

    def sign(self, now_ms: int) -> Signed | None:
        """Sign a checkpoint of the log as it is now; None if nothing but the last checkpoint's own event is new, or the
        archive has yet to reach it.

        Raises Corrupt if the log does not contain what was signed before, Conflict if another notary has signed since.
        """
        newest = self.newest
        number = newest.checkpoint.number if newest is not None else 0
        self._control.advance(self._log)
        if self.recorded > number:
            raise Conflict(
                f"the control stream names checkpoint {self.recorded}, but {self._directory} ends at {number}: run one"
                " notary only, or give it a directory of anchors that holds the newest"
            )
        log = self._log
        if self._archived is not None:
            log = self._archived()
            if self._is_beyond(log):
                return None
        self._trees.advance(log)
        control, partitions = self._trees.heads
        if newest is not None:
            if partitions == newest.checkpoint.state.partitions and not self._is_news(newest.checkpoint):
                return None
            now_ms = max(now_ms, newest.checkpoint.state.time_ms)
        previous = newest.checkpoint.digest if newest is not None else checkpoints.NOTHING
        state = State(now_ms, previous, control, partitions)
        self._tree.add(state.leaf)
        self.states.append(state.leaf)
        checkpoint = Checkpoint(self.log_id, self._tree.size, self._tree.root(), state)
        if newest is not None and (wrong := checkpoints.backwards(newest.checkpoint, checkpoint)):
            raise Corrupt(wrong)
        self.newest = Signed(checkpoint, notes.sign(checkpoint.text, self.key.name, self._private))
        self._store()
        return self.newest

    def record(self, now_ms: int) -> None:
        """Append CheckpointSigned for the newest, unless the control stream names it."""
        signed = self.newest
        if signed is None:
            return
        checkpoint = signed.checkpoint

        def decide(known: Known) -> list[Control]:
            if known.state.checkpoint >= checkpoint.number:
                return []
            return [
                CheckpointSigned(
                    occurred_at=now_ms,
                    actor=ACTOR,
                    number=checkpoint.number,
                    state=checkpoint.state.leaf.hex(),
                    digest=checkpoint.digest,
                )
            ]

        control_stream.append(self._log, decide, self._control)

    def _is_news(self, newest: Checkpoint) -> bool:
        after = newest.state.control.size
        entries = control_stream.page(self._log, self._control.state, after, self._trees.control.tree.size - after)
        return not all(isinstance(entry.event, CheckpointSigned) for entry in entries)

    def _is_beyond(self, log: EventLog) -> bool:
        """Whether the trees have grown beyond this log."""
        partitions = enumerate(self._trees.partitions)
        return self._trees.control.tree.size > log.control_head() or any(
            grown.tree.size > log.head(p).sequence for p, grown in partitions
        )

    def _load(self) -> None:
        try:
            content = (self._directory / "notary.json").read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise Unavailable(f"can't read {self._directory}: {error.strerror}") from None
        try:
            stored = msgspec.json.decode(content, type=_Stored)
            trees: Trees | None = Trees.at(stored.places)
        except UNDECODABLE as error:
            raise Corrupt(f"{self._directory}/notary.json does not decode: {error}") from None
        except BadInput:
            trees = None
        self._continue(Signed(*checkpoints.read(stored.note.encode(), [self.key])), trees)

    def _continue(self, signed: Signed, trees: Trees | None) -> None:
        checkpoint = signed.checkpoint
        if checkpoint.log_id != self.log_id:
            raise Corrupt(f"checkpoint {checkpoint.number} is of log {checkpoint.log_id}, not of {self.log_id}")
        if trees is None or not trees.fits(checkpoint):
            trees = growth.upto(self._log, checkpoint)
        self.states = self._states_of(checkpoint)
        self._tree = Tree()
        for state in self.states:
            self._tree.add(state)
        trees.widen(len(self._trees.partitions))
        self._trees, self.newest = trees, signed

    def _states_of(self, checkpoint: Checkpoint) -> list[bytes]:
        """The leaves of the tree of states: from the file, else from the control stream."""
        try:
            held = (self._directory / "states").read_bytes()
        except OSError:
            held = b""
        stored = [held[at : at + HASH_BYTES] for at in range(0, checkpoint.number * HASH_BYTES, HASH_BYTES)]
        if _are_states(stored, checkpoint):
            self._stored_states = len(stored)
            return stored
        self._stored_states = 0
        named = [
            bytes.fromhex(event.state)
            for _, event in control_stream.accepted(self._log)
            if isinstance(event, CheckpointSigned)
        ]
        found = [*named[: checkpoint.number - 1], checkpoint.state.leaf]
        if _are_states(found, checkpoint):
            return found
        raise Corrupt(
            f"neither {self._directory}/states nor the control stream holds the states before checkpoint"
            f" {checkpoint.number}, so no checkpoint can continue it"
        )

    def _store(self) -> None:
        assert self.newest is not None
        stored = _Stored(self.newest.note.content.decode(), self._trees.places)
        try:
            path = self._directory / "states"
            known = min(self._stored_states, len(self.states) - 1)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(handle, b"".join(self.states[known:]), known * HASH_BYTES)
                os.fsync(handle)
            finally:
                os.close(handle)
            self._stored_states = len(self.states)
            write_atomic(self._directory / "notary.json", msgspec.json.encode(stored), mode=0o600)
        except OSError as error:
            raise Unavailable(f"can't write {self._directory}: {error.strerror}") from None


def _are_states(leaves: list[bytes], checkpoint: Checkpoint) -> bool:
    """Whether these are the leaves of the checkpoint's tree of states."""
    is_form = all(len(each) == HASH_BYTES for each in leaves)
    return is_form and TreeHead(len(leaves), merkle.root(leaves)) == checkpoint.head


def _locked(directory: Path) -> int:
    """A lock that other processes respect, held until it is closed."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(directory / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise Unavailable(f"can't write {directory}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise Conflict(f"{directory}: another notary is running") from None
    return handle
