"""Erasure of people from a log with tokens: their keys are destroyed, which makes tokens and sealed values theirs no
more, and everything that this machine holds is searched for their raw IDs.

The order matters: what may not be appended is refused first; then the keys are destroyed; then the log records it. A
crash in between leaves the tokens in the vault's list of unrecorded ones, which the next erasure records. A worker
forgets an account's keys when it reads the record; until then it may decide a payment under the old token.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from core import control_stream
from core.codec import encode
from core.errors import BadInput
from core.events import AccountsErased, Control, SealPoint
from core.identity import LogIdentity
from core.log.base import EventLog, Stream
from core.log.paging import pages
from core.partitions import partitions_of
from ingest.vault import Vault
from learners.governance.control_events import Act

STREAMS: tuple[Stream, ...] = ("transactions", "scores", "alerts", "feedback", "rejects", "seals")
FEW = 20
"""Up to so many raw IDs are searched for anywhere. Of more, those that are words are searched for as whole words, which
takes one pass for all of them.
"""
ACCOUNTS_MAX = 1_000
"""In one event."""
CHUNK_BYTES = 16 * 1024 * 1024
_WORD = re.compile(rb"[A-Za-z0-9_.@+/~\x80-\xff-]+")


class Certificate(msgspec.Struct, frozen=True):
    """What was done, for whoever asked for it. position: of the control event that says the same."""

    accounts: tuple[str, ...]
    keys_destroyed: int
    position: int
    control_digest: str
    log_id: str
    actor: str
    reason: str
    erased_at: int
    searched_bytes: dict[str, int]
    still_found: dict[str, list[str]]
    seconds: dict[str, float]


def tokens_of(vault: Vault, names: Sequence[str]) -> list[str]:
    """The tokens of accounts that are named by their raw IDs or tokens. Raises BadInput if some have no keys."""
    found = [keys.token if (keys := vault.find(name) or vault.by_token(name)) else "" for name in names]
    if missing := found.count(""):
        raise BadInput(
            f"{missing} of {len(names)} accounts have no keys in the vault: they were erased before, or never seen"
        )
    return list(dict.fromkeys(found))


def erase(
    log: EventLog, vault: Vault, identity: LogIdentity, names: Sequence[str], act: Act, folders: dict[str, Path]
) -> Certificate:
    """Destroy the keys of the accounts, search for what is left of their raw IDs, and record it.

    names: raw IDs or tokens. folders: what else to search, by name. Raises BadInput if the log has other tokens, an
    account has no keys, or the act is not allowed; then nothing was done.
    """
    if identity.tokens != vault.key_id:
        raise BadInput("this log's tokens are not of this vault: nothing of it can be erased")
    began = time.monotonic()
    tokens = tokens_of(vault, names)
    seals = tuple(SealPoint(p, (h := log.head(p)).sequence, h.digest) for p in partitions_of(log))
    control_stream.check_may_append(log, AccountsErased(**act.fields, accounts=tuple(tokens[:1]), seals=seals))
    destroyed = vault.erase(tokens)
    erased = time.monotonic()
    known = frozenset(tokens)
    raw = [name for name in names if name not in known]
    searched, still = search(log, raw, folders)
    looked = time.monotonic()
    everything = vault.unrecorded
    said = [
        AccountsErased(
            **act.fields,
            accounts=tuple(everything[start : start + ACCOUNTS_MAX]),
            searched=searched,
            found={place: len(where) for place, where in still.items()},
            seals=seals,
        )
        for start in range(0, len(everything), ACCOUNTS_MAX)
    ]
    stream = control_stream.ControlStream()
    position = control_stream.append(log, lambda known: list[Control](said), stream).position
    vault.recorded(everything)
    times = {"keys": erased - began, "search": looked - erased, "record": time.monotonic() - looked}
    return Certificate(
        tuple(tokens),
        destroyed,
        position,
        stream.digest,
        identity.log_id,
        said[0].actor,
        said[0].reason,
        said[0].occurred_at,
        searched,
        still,
        {name: round(seconds, 3) for name, seconds in times.items()},
    )


def search(log: EventLog, raw: Sequence[str], folders: dict[str, Path]) -> tuple[dict[str, int], dict[str, list[str]]]:
    """(bytes searched by place, where raw IDs were found, by place): the log, its archive as part of it, the control
    stream, and each file of the folders.
    """
    needles = [name.encode() for name in dict.fromkeys(raw)]
    found = _Finder(needles)
    searched = {"log": 0, "control": 0} | dict.fromkeys(folders, 0)
    still: dict[str, list[str]] = {}
    if not needles:
        return dict.fromkeys(searched, 0), still
    for partition in partitions_of(log):
        for stream in STREAMS:
            for page in pages(log, partition, stream):
                content = b"\n".join(entry.payload for entry in page)
                searched["log"] += len(content)
                if found(content):
                    places = [f"p{partition}:{stream}:{e.id}" for e in page if found(e.payload)]
                    still.setdefault("log", []).extend(places)
    for entry in control_stream.history(log):
        searched["control"] += len(entry.payload)
        if found(entry.payload):
            still.setdefault("control", []).append(f"c{entry.position}")
    for place, folder in folders.items():
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            for content in _content(path):
                searched[place] += len(content)
                if found(content):
                    still.setdefault(place, []).append(str(path.relative_to(folder)))
                    break
    return searched, still


class _Finder:
    """Whether bytes hold one of the needles."""

    def __init__(self, needles: Iterable[bytes]) -> None:
        every = list(needles)
        self._words = frozenset(filter(_WORD.fullmatch, every) if len(every) > FEW else ())
        few = [needle for needle in every if needle not in self._words]
        self._few = list(dict.fromkeys([*few, *(encode(needle.decode())[1:-1] for needle in few)]))

    def __call__(self, content: bytes) -> bool:
        if any(needle in content for needle in self._few):
            return True
        return bool(self._words) and not self._words.isdisjoint(_WORD.findall(content))


def _content(path: Path) -> Iterator[bytes]:
    """The file in pieces that overlap by the length of a name."""
    with path.open("rb") as file:
        tail = b""
        while piece := file.read(CHUNK_BYTES):
            yield tail + piece
            tail = piece[-512:]
