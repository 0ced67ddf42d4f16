"""The table `[anchors]` of the settings file: who signs checkpoints, and where their copies go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from console.anchoring.destinations import Destination, Directory, Witness, check_url
from core.errors import BadInput
from core.log.notes import COSIGNATURE, PublicKey

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]


class WitnessSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A witness: its URL, to which `/add-checkpoint` is added, and its public key (name+key ID+base64)."""

    url: _Text
    key: _Text


class TimestampSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A time stamping authority (RFC 3161). name: a part of its files' names."""

    name: _Text
    url: _Text


class AnchorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """key_file: the notary's private key, mode 0600. state: where the notary remembers what it signed. archived: sign
    only what the archive holds. every_s: between two checkpoints with --follow. directories: paths or URIs.
    public_keys, timestamp_roots: with which `sentinel verify` checks checkpoints, and time stamps (a PEM file).
    """

    key_file: str = ""
    state: _Text = ".sentinel/anchors"
    archived: bool = False
    every_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 60.0
    directories: tuple[_Text, ...] = ()
    witnesses: tuple[WitnessSettings, ...] = ()
    timestamps: tuple[TimestampSettings, ...] = ()
    public_keys: tuple[_Text, ...] = ()
    timestamp_roots: str = ""

    def witness_keys(self) -> list[PublicKey]:
        """The keys of the witnesses."""
        return [PublicKey.parse(each.key) for each in self.witnesses]


def anchor_settings(table: Mapping[str, Any]) -> AnchorSettings:
    """The settings. Raises BadInput that names the setting."""
    try:
        found = msgspec.convert(dict(table), AnchorSettings)
    except msgspec.ValidationError as error:
        raise BadInput(f"anchors: {error}") from None
    for witness in found.witnesses:
        check_url("anchors.witnesses: url", witness.url)
        if PublicKey.parse(witness.key).kind != COSIGNATURE:
            raise BadInput(f"anchors.witnesses: {witness.key[:80]} is not a witness's key (type 4)")
    for stamp in found.timestamps:
        check_url("anchors.timestamps: url", stamp.url)
    for text in found.public_keys:
        PublicKey.parse(text)
    return found


def destinations(found: AnchorSettings) -> tuple[list[Directory], list[Destination]]:
    """Where checkpoints go: directories, and what returns something for them. Raises BadInput if there is none."""
    from console.anchoring.timestamps import Authority

    directories = [Directory(location) for location in found.directories]
    others: list[Destination] = [Witness(each.url, PublicKey.parse(each.key)) for each in found.witnesses]
    others += [Authority(each.name, each.url) for each in found.timestamps]
    if not directories:
        raise BadInput(
            "anchors: name at least one directory or bucket that the log's operator can't change: [anchors] directories"
            ' = ["/mnt/worm/anchors"]'
        )
    return directories, others
