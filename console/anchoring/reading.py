"""Reads anchors for `sentinel verify`: the checkpoints in directories, with whoever cosigned and time-stamped them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.x509 import Certificate

from console.anchoring.destinations import Directory, Found
from console.anchoring.timestamps import stamped_at
from core.errors import UNDECODABLE, BadInput, Corrupt
from core.files import write_atomic
from core.log import checkpoints, notes
from core.log.anchored import Anchors
from core.log.base import EventLog
from core.log.checkpoints import ORIGIN, Checkpoint
from core.log.growth import Place, Places, Trees, upto
from core.log.notes import ED25519, Note, PublicKey


@dataclass(slots=True)
class Read:
    """What directories hold of a log. files: how many checkpoints, in all directories. cosigned, stamped: by witness,
    and by number of the checkpoint, the newest and its time (epoch ms). faults: what does not verify, one line each.
    """

    log_id: str
    files: int = 0
    notes: dict[int, Note] = field(default_factory=dict)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    cosigned: dict[str, tuple[int, int]] = field(default_factory=dict)
    stamped: tuple[int, int] | None = None
    faults: list[str] = field(default_factory=list)


class _Progress(msgspec.Struct, frozen=True):
    """The file of --incremental: the newest checkpoint that was verified, and where the trees end there."""

    note: str
    places: Places


def log_of(keys: Sequence[PublicKey]) -> str:
    """The log whose notary has these keys. Raises BadInput unless it is one."""
    names = sorted({key.name for key in keys if key.kind == ED25519})
    if len(names) != 1 or not names[0].startswith(ORIGIN):
        raise BadInput(
            f"the public keys must be those of one log's notary, {ORIGIN}<log ID>, not of {names or 'nobody'}"
        )
    return names[0].removeprefix(ORIGIN)


def parse_keys(texts: Sequence[str]) -> list[PublicKey]:
    """Public keys, each given as text or as a file that holds it. Raises BadInput."""
    found = []
    for text in texts:
        lines = text if "+" in text and not Path(text).exists() else _read(Path(text))
        found += [PublicKey.parse(line) for line in lines.splitlines() if line.strip()]
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise BadInput(f"can't read the public key {path}: {error}") from None


def read_anchors(
    locations: Sequence[str], keys: Sequence[PublicKey], roots: Sequence[Certificate], begin: int = 0
) -> Read:
    """The anchors in these directories or URIs, from checkpoint `begin` on. What does not verify is a fault, never an
    error: whoever spoils one anchor must not hide the others. Raises BadInput, Unavailable.
    """
    found = Read(log_of(keys))
    stamps: list[Found] = []
    for location in locations:
        for file in Directory(location).files(found.log_id, begin):
            if file.kind == "tsr":
                stamps.append(file)
                continue
            try:
                _take(found, file, keys)
            except Corrupt as error:
                found.faults.append(f"anchor {file.name}: {error}")
    if roots:
        for file in stamps:
            _take_stamp(found, file, roots)
    found.checkpoints.sort(key=lambda each: each.number)
    return found


def _take(found: Read, file: Found, keys: Sequence[PublicKey]) -> None:
    checkpoint, note = checkpoints.read(file.content, keys)
    if checkpoint.log_id != found.log_id or checkpoint.number != file.number:
        raise Corrupt(f"holds checkpoint {checkpoint.number} of log {checkpoint.log_id}")
    held = found.notes.get(checkpoint.number)
    if held is not None and held.text != note.text:
        raise Corrupt(f"there are two different checkpoints {checkpoint.number}")
    if held is None:
        found.notes[checkpoint.number] = note
        found.checkpoints.append(checkpoint)
    found.files += file.kind == "checkpoint"
    for key, time_s in notes.verify(note, keys):
        if time_s is not None and checkpoint.number >= found.cosigned.get(key.name, (0, 0))[0]:
            found.cosigned[key.name] = (checkpoint.number, time_s * 1000)


def _take_stamp(found: Read, file: Found, roots: Sequence[Certificate]) -> None:
    note = found.notes.get(file.number)
    if note is None:
        found.faults.append(f"anchor {file.name}: the checkpoint that it stamps is missing")
        return
    try:
        moment = stamped_at(file.content, note.text, roots)
    except Corrupt as error:
        found.faults.append(f"anchor {file.name}: {error}")
        return
    if found.stamped is None or file.number >= found.stamped[0]:
        found.stamped = (file.number, moment)


def read_since(path: Path, keys: Sequence[PublicKey], log: EventLog) -> tuple[Checkpoint, Note, Trees]:
    """The checkpoint in a file, with the trees there, from the log's seals and control events. Raises BadInput if the
    keys did not sign it, Corrupt if the log does not contain it.
    """
    try:
        checkpoint, note = checkpoints.read(path.read_bytes(), keys)
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from None
    except Corrupt as error:
        raise BadInput(f"{path}: {error}") from None
    return checkpoint, note, upto(log, checkpoint)


def read_progress(path: Path, keys: Sequence[PublicKey]) -> tuple[Checkpoint, Note, Trees] | None:
    """What an earlier run verified; None if there is no such file. Raises BadInput if it does not hold together."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from None
    try:
        progress = msgspec.json.decode(content, type=_Progress)
        checkpoint, note = checkpoints.read(progress.note.encode(), keys)
        trees = Trees.at(progress.places)
        if not trees.fits(checkpoint):
            raise Corrupt(f"its trees are not those of checkpoint {checkpoint.number}")
    except (*UNDECODABLE, Corrupt, BadInput) as error:
        raise BadInput(f"{path}: {error}; delete it to verify everything again") from None
    return checkpoint, note, trees


def write_progress(path: Path, note: Note, places: tuple[Place, tuple[Place, ...]]) -> None:
    """Remember what was verified. Raises BadInput."""
    try:
        write_atomic(path, msgspec.json.encode(_Progress(note.content.decode(), Places(*places))), mode=0o600)
    except OSError as error:
        raise BadInput(f"can't write {path}: {error.strerror}") from None


def anchors_of(found: Read, since: tuple[Checkpoint, Note, Trees] | None) -> Anchors:
    """The checkpoints to verify a log against; a fault if one contradicts what was verified before."""
    if since is None:
        return Anchors(found.checkpoints)
    checkpoint, note, trees = since
    held = found.notes.get(checkpoint.number)
    if held is not None and held.text != note.text:
        found.faults.append(f"anchors: checkpoint {checkpoint.number} is not the one that was verified before")
        return Anchors([checkpoint], (checkpoint, trees))
    found.notes[checkpoint.number] = note
    return Anchors([*found.checkpoints, checkpoint], (checkpoint, trees))
