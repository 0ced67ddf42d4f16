"""Opens dataset files: which formats are read, and which are refused. Nothing here converts values.

CSV columns are read as text, so that identifiers keep their leading zeros; types are inferred only for attributes. A
pickle is a program, not data: it is never loaded (I10).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from core.errors import BadInput
from sources.datasets.layouts import IEEE_CIS, IEEE_IDENTITY_COLUMNS, IEEE_KEY_COLUMNS
from sources.datasets.mapping import Layout

_CSV = (".csv", ".csv.gz", ".csv.zst")
_PICKLE = (".pkl", ".pickle", ".p", ".joblib")
_PICKLE_MAGIC = b"\x80"
_INFER_ROWS = 10_000


def scan(layout: Layout, path: Path) -> tuple[pl.LazyFrame, frozenset[str]]:
    """The layout's columns of the file, or of a folder's CSV or Parquet files in order of name, and which of them look
    numeric. Raises BadInput for a missing file or column and for unsupported formats.
    """
    if layout.name == IEEE_CIS.name:
        return _ieee(path)
    files = _files(path)
    frame = _open(files)
    _require(frame, layout.needed, path, layout.name)
    return frame.select(layout.needed), _numeric(files, layout.needed)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise BadInput(f"no dataset at {path}")
    if path.is_file():
        _refuse_pickle(path)
        if not path.name.lower().endswith((*_CSV, ".parquet")):
            raise BadInput(f"{path}: datasets are read from Parquet (.parquet) or CSV (.csv, .csv.gz, .csv.zst)")
        return [path]
    inside = sorted(child for child in path.iterdir() if child.is_file())
    parquet = [child for child in inside if child.name.lower().endswith(".parquet")]
    found = parquet or [child for child in inside if child.name.lower().endswith(_CSV)]
    if not found:
        for child in inside:
            _refuse_pickle(child)
        raise BadInput(f"{path}: no Parquet (.parquet) or CSV (.csv) file in this folder")
    return found


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        magic = file.read(1)
    if path.name.lower().endswith(_PICKLE) or magic == _PICKLE_MAGIC:
        raise BadInput(
            f"{path} is a Python pickle, which can run code when it is loaded, so it is not read; "
            "if you trust it, convert it to Parquet or CSV (docs/datasets.md)",
            reason="pickle_refused",
        )


def _open(files: Sequence[Path]) -> pl.LazyFrame:
    if files[0].name.lower().endswith(".parquet"):
        return pl.scan_parquet(list(files))
    return pl.scan_csv(list(files), infer_schema=False)


def _numeric(files: Sequence[Path], needed: Sequence[str]) -> frozenset[str]:
    if files[0].name.lower().endswith(".parquet"):
        schema = pl.scan_parquet(files[0]).collect_schema()
    else:
        schema = pl.scan_csv(files[0], infer_schema_length=_INFER_ROWS).collect_schema()
    return frozenset(name for name in needed if name in schema and schema[name].is_numeric())


def _require(frame: pl.LazyFrame, needed: Sequence[str], path: Path, name: str) -> None:
    try:
        present = frame.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(f"{path} can't be read: {str(error).splitlines()[0]}") from error
    missing = [column for column in needed if column not in present]
    if missing:
        shown = ", ".join(present[:20]) + (", …" if len(present) > 20 else "")
        raise BadInput(
            f"{path} is not a {name} dataset: missing columns {', '.join(missing)}; it has {shown}",
            reason="missing_columns",
        )


def _ieee(path: Path) -> tuple[pl.LazyFrame, frozenset[str]]:
    """The two files of IEEE-CIS joined, with the account key; `path` is their folder or the transaction file."""
    folder = path if path.is_dir() else path.parent
    transactions = folder / "train_transaction.csv" if path.is_dir() else path
    identity = folder / "train_identity.csv"
    for file in (transactions, identity):
        _files(file)
    left, right = _open([transactions]), _open([identity])
    native = [c for c in IEEE_CIS.needed if c not in ("account_key", *IEEE_IDENTITY_COLUMNS)]
    wanted = list(dict.fromkeys([*native, *IEEE_KEY_COLUMNS]))
    _require(left, wanted, transactions, IEEE_CIS.name)
    _require(right, ("TransactionID", *IEEE_IDENTITY_COLUMNS), identity, IEEE_CIS.name)
    day = (pl.col("TransactionDT").cast(pl.Float64, strict=False) / 86_400).floor()
    first_seen = (day - pl.col("D1").cast(pl.Float64, strict=False)).cast(pl.Int64).cast(pl.String)
    parts = [pl.col("card1").fill_null("").str.strip_suffix(".0"), pl.col("addr1").fill_null("").str.strip_suffix(".0")]
    frame = (
        left.select(wanted)
        .join(
            right.select("TransactionID", *IEEE_IDENTITY_COLUMNS),
            on="TransactionID",
            how="left",
            maintain_order="left",
        )
        .with_columns(pl.concat_str([*parts, first_seen.fill_null("")], separator="-").alias("account_key"))
        .select(IEEE_CIS.needed)
    )
    return frame, _numeric([transactions], native)
