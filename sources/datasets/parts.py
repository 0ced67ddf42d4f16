"""Which files a dataset's path stands for: a file, a folder, a zip archive; compressed or not. Opens bytes, reads no
rows.

A pickle is a program, not data: it is never loaded (I10).
"""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, cast

import pyarrow as pa

from core.errors import BadInput

KINDS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".xls": "xlsx",
    ".ods": "xlsx",
    ".parquet": "parquet",
    ".pq": "parquet",
}
READ = (
    "Parquet (.parquet), CSV and other separated text (.csv, .tsv, .txt), JSON (.jsonl, .json) or Excel (.xlsx); as a "
)
READ += "file, in a folder or a .zip, or compressed (.gz, .zst, .bz2)"
_PICKLE = (".pkl", ".pickle", ".p", ".joblib")
_PICKLE_MAGIC = b"\x80"
_COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_SIDE_FILES = ("readme", "license", "licence", "_success")


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a dataset. name: for messages. kind: csv, jsonl, json, xlsx, parquet. open: its
    decompressed bytes.
    """

    name: str
    kind: str
    open: Callable[[], IO[bytes]]

    @property
    def unit(self) -> str:
        """What its rows are counted in: lines of text, or rows."""
        return "line" if self.kind in ("csv", "jsonl") else "row"


def parts(path: Path, kind: str | None = None) -> list[Part]:
    """The dataset's files in order of name. kind: read every file as this kind. Raises BadInput for a missing or
    unsupported file, or a folder without data.
    """
    if not path.exists():
        raise BadInput(f"no dataset at {path}")
    try:
        if path.is_file():
            return _of_file(path, kind)
        inside = sorted(child for child in path.iterdir() if child.is_file() and _is_data(child.name))
        found = [each for child in inside if _kind(child.name) or kind for each in _of_file(child, kind)]
        found = [each for each in found if each.kind == "parquet"] or found
        if not found:
            for child in inside:
                _refuse_pickle(child)
            raise BadInput(f"{path}: no file in this folder can be read; supported are {READ}")
        return found
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise BadInput(f"{path} can't be read: {error}") from error


def _is_data(name: str) -> bool:
    return not name.startswith((".", "_")) and PurePath(name).stem.lower() not in _SIDE_FILES


def _kind(name: str) -> str | None:
    """The kind that a file's name says, without its compression."""
    suffix = PurePath(name.lower()).suffix
    if suffix in _COMPRESSED:
        return _kind(name[: -len(suffix)]) or "csv"
    return "zip" if suffix == ".zip" else KINDS.get(suffix)


def _of_file(path: Path, kind: str | None) -> list[Part]:
    _refuse_pickle(path)
    said = _kind(path.name)
    if said == "zip":
        return _of_zip(path, kind)
    found = kind or said or _sniffed(path)
    compression = _COMPRESSED.get(path.suffix.lower())
    return [Part(str(path), found, lambda: _opened(path, compression))]


def _sniffed(path: Path) -> str:
    """The kind of a file whose name doesn't say it, by its first bytes."""
    first = _first_bytes(path)
    if first[:4] == b"PAR1":
        return "parquet"
    if first[:2] == b"PK" or first[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        return "xlsx"
    if b"\0" in first and first[:2] not in (b"\xff\xfe", b"\xfe\xff") and first.count(b"\0") < 0.3 * len(first):
        raise BadInput(f"{path}: datasets are read from {READ}")
    return "csv"


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4_096)


def _refuse_pickle(path: Path) -> None:
    if path.name.lower().endswith(_PICKLE) or _first_bytes(path)[:1] == _PICKLE_MAGIC:
        raise BadInput(
            f"{path} is a Python pickle, which can run code when it is loaded, so it is not read; "
            "if you trust it, convert it to Parquet or CSV (docs/datasets.md)",
            reason="pickle_refused",
        )


def _opened(path: Path, compression: str | None) -> IO[bytes]:
    if compression is None:
        return path.open("rb")
    if compression == "gzip":  # several members in a row are one file
        return cast(IO[bytes], gzip.open(path, "rb"))
    return cast(IO[bytes], io.BufferedReader(pa.input_stream(str(path), compression=compression)))


def _of_zip(path: Path, kind: str | None) -> list[Part]:
    with zipfile.ZipFile(path) as archive:
        names = sorted(info.filename for info in archive.infolist() if info.filename and not info.is_dir())
        encrypted = any(info.flag_bits & 1 for info in archive.infolist())
    if encrypted:
        raise BadInput(f"{path} is encrypted; unpack it first")
    found = []
    for name in names:
        inner = PurePath(name)
        if inner.parts[0] == "__MACOSX" or not _is_data(inner.name):
            continue
        inside = kind or KINDS.get(inner.suffix.lower())
        if inside is not None:
            found.append(Part(f"{path}/{name}", inside, lambda name=name: _member(path, name)))  # type: ignore[misc]
    if not found:
        raise BadInput(f"{path}: no file in this archive can be read; supported are {READ}")
    return found


def _member(path: Path, name: str) -> IO[bytes]:
    """One file of an archive. Formats that jump within the file are unpacked in memory."""
    try:
        archive = zipfile.ZipFile(path)
        file = archive.open(name)
    except (RuntimeError, KeyError) as error:  # encrypted, or compressed in a way that is not supported
        raise BadInput(f"{path}/{name} can't be read: {error}") from None
    if KINDS.get(PurePath(name).suffix.lower()) in ("parquet", "xlsx"):
        with archive, file:
            return io.BytesIO(file.read())
    return file
