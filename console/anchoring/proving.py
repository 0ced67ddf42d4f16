"""The checkpoint against which a decision is proved: one that is given, or the newest that the directories hold."""

from __future__ import annotations

from pathlib import Path

from console.anchoring.destinations import Directory
from console.anchoring.reading import parse_keys
from console.anchoring.settings import AnchorSettings
from core.errors import BadInput, Corrupt
from core.log import checkpoints, notes
from projections.audit.sealed_entries import Anchor


def anchor_in(found: AnchorSettings, log_id: str, given: Path | None = None) -> Anchor | None:
    """The newest checkpoint of a log; None if no directory is set, or none holds one.

    given: a file with a checkpoint, which is then taken. Raises BadInput if it can't be read or is another log's,
    Corrupt if it is no checkpoint, or not signed by any of `public_keys` where those are set.
    """
    if given is not None:
        try:
            return _read(given.read_bytes(), found, log_id)
        except OSError as error:
            raise BadInput(f"can't read the checkpoint {given}: {error.strerror}") from None
    held = [content for location in found.directories if (content := Directory(location).newest(log_id)) is not None]
    read = [_read(content, found, log_id) for content in held]
    return max(read, key=lambda each: each.checkpoint.number, default=None)


def _read(content: bytes, found: AnchorSettings, log_id: str) -> Anchor:
    if found.public_keys:
        checkpoint, note = checkpoints.read(content, parse_keys(found.public_keys))
    else:
        note = notes.parse(content)
        checkpoint = checkpoints.parse(note.text)
    if checkpoint.log_id != log_id:
        raise BadInput(f"the checkpoint is of log {checkpoint.log_id}, not of {log_id}")
    if not any(each.name == checkpoints.origin_of(log_id) for each in note.signatures):
        raise Corrupt(f"checkpoint {checkpoint.number} has no signature of the log's notary")
    return Anchor(checkpoint, note)
