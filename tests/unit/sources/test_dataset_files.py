"""Files as people have them: encodings, separators, headers, compression, folders, JSON, Excel, Parquet;
line numbers.
"""

from __future__ import annotations

import bz2
import gzip
import json
import tracemalloc
import zipfile
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import BadInput
from core.times import parse_iso
from sources.catalogue import open_source
from sources.datasets import DatasetSource, documents
from sources.datasets.detect.propose import propose
from sources.datasets.detect.questions import Answers
from tests.builders.spreadsheets import write_xlsx

BASE = '[columns]\naccount_id = "acct"\namount = "amt"\nmerchant_id = "shop"\n[time]\ncolumn = "when"\n'
TEXT = "acct,amt,shop,when\na1,1.5,Café,2026-01-05 10:00\na2,2.5,Æther,2026-01-06 10:00\n"
SHOPS = ["Café", "Æther"]


def load(path: Path, mapping: str = BASE, **options: object) -> DatasetSource:
    """The dataset at the path under a mapping's text."""
    file = path.parent / "mapping.toml"
    file.write_text(mapping, encoding="utf-8")
    source = open_source("custom", path, mapping=file, **options)  # type: ignore[arg-type]
    assert isinstance(source, DatasetSource)
    return source


def rows(path: Path, mapping: str = BASE) -> pl.DataFrame:
    return pl.concat(list(load(path, mapping).tables()))


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_needs_no_setting(encoding: str, tmp_path: Path) -> None:
    """UTF-8, 16 and 32 with and without a byte-order mark are seen by the first bytes."""
    assert rows(put(tmp_path / "d.csv", TEXT.encode(encoding)))["merchant_id"].to_list() == SHOPS


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp850", "utf-16-le"])
def test_an_encoding_may_be_named(encoding: str, tmp_path: Path) -> None:
    """Other encodings are named by the mapping; unnamed, the first wrong line is said."""
    path = put(tmp_path / "d.csv", TEXT.encode(encoding))
    assert rows(path, f'{BASE}[file]\nencoding = "{encoding}"\n')["merchant_id"].to_list() == SHOPS
    if not encoding.startswith("utf"):
        with pytest.raises(BadInput, match=r"line 2: the byte 0x\w\w is not of the file's encoding"):
            load(path)
    with pytest.raises(BadInput, match="unknown encoding 'klingon'"):
        load(path, f'{BASE}[file]\nencoding = "klingon"\n')


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_seen_by_the_header(separator: str, tmp_path: Path) -> None:
    """The separator is the one under which the header has the mapping's columns."""
    assert rows(put(tmp_path / "d.txt", TEXT.replace(",", separator)))["merchant_id"].to_list() == SHOPS


def test_headers_after_a_preamble_and_without_names(tmp_path: Path) -> None:
    """Header names the line of the column names; 0 means that there is none; footer leaves out last lines."""
    path = put(tmp_path / "d.csv", f'Export of "2026, January\n\n{TEXT}Total: 4.0\n')
    assert rows(path, BASE + "[file]\nheader = 3\nfooter = 1\n")["merchant_id"].to_list() == SHOPS
    with pytest.raises(BadInput, match="line 6: 1 cells under 4 columns"):
        load(path, BASE + "[file]\nheader = 3\n")
    with pytest.raises(BadInput, match="has no line 30"):
        load(path, BASE + "[file]\nheader = 30\n")
    nameless = BASE.replace("acct", "column_1").replace("amt", "column_2").replace("shop", "column_3")
    path = put(tmp_path / "d.csv", TEXT.partition("\n")[2])
    assert rows(path, nameless.replace("when", "column_4") + "[file]\nheader = 0\n")["merchant_id"].to_list() == SHOPS


def test_a_hint_for_excel_is_no_header(tmp_path: Path) -> None:
    """A first line `sep=;` names the separator; lines are counted all the same."""
    path = put(tmp_path / "d.csv", "\ufeffsep=;\r\n" + TEXT.replace(",", ";"))
    assert rows(path)["line"].to_list() == [3, 4]


def test_column_names_in_any_case_order_and_number(tmp_path: Path) -> None:
    """Names match without case and punctuation; extra, unnamed, repeated and odd ones such as `row` do no harm."""
    path = put(tmp_path / "d.csv", ",row, When ,SHOP,Amt,row,a_c_c_t\n0,9,2026-01-05,s,1,8,a\n")
    found = rows(path, BASE + '[attributes]\nrow = "row"\nline = "row_2"\nfirst = "column_1"\n')
    assert found["account_id"].to_list() == ["a"]
    assert found["attributes"].to_list() == [{"row": 9.0, "line": 8.0, "first": 0.0}]


def test_blank_lines_and_lines_of_separators_are_nothing(tmp_path: Path) -> None:
    """Neither at the end nor between, and a separator too many at the end of a row is none."""
    path = put(tmp_path / "d.csv", "acct,amt,shop,when\n\na,1,s,2026-01-05,\n,,,\n   \nb,2,s,2026-01-06\n\n\x1a\n")
    assert rows(path)["line"].to_list() == [3, 6]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_messages_name_the_line_of_the_file(newline: str, tmp_path: Path) -> None:
    """Line numbers count the header and every line of a value in quotes."""
    text = 'acct,amt,shop,when\na,1,"two\nlines",2026-01-05\na,x,"s\n\ns",2026-01-05\na,y,s,2026-01-05\n'
    source = load(put(tmp_path / "d.csv", text.replace("\n", newline)), bad_rows="reject")
    assert [bad.line for bad in source.rejects.examples["bad_amount"]] == [4, 7]


def test_a_broken_quote_is_said_where_it_opens(tmp_path: Path) -> None:
    """A quote that is never closed names the line where it opens, not the end of the file."""
    path = put(tmp_path / "d.csv", 'acct,amt,shop,when\na,1,s,2026-01-05\na,1,"s,2026-01-05\na,1,s,2026-01-05\n')
    with pytest.raises(BadInput, match=r"line 3: not separated text: .*\(up to line 4\)"):
        load(path)


def test_quotes_and_escapes_of_the_mapping(tmp_path: Path) -> None:
    """Another quote, an escape character, or no quotes at all."""
    text = "acct,amt,shop,when\na,1,'x, y',2026-01-05\n"
    assert rows(put(tmp_path / "d.csv", text), BASE + '[file]\nquote = "\'"\n')["merchant_id"].to_list() == ["x, y"]
    text = 'acct,amt,shop,when\na,1,"x \\"y\\"",2026-01-05\n'
    assert rows(put(tmp_path / "d.csv", text), BASE + '[file]\nescape = "\\\\"\n')["merchant_id"].to_list() == ['x "y"']
    text = 'acct,amt,shop,when\na,1,"x" y,2026-01-05\n'
    assert rows(put(tmp_path / "d.csv", text), BASE + '[file]\nquote = ""\n')["merchant_id"].to_list() == ['"x" y']


def test_compressed_files_and_archives(tmp_path: Path) -> None:
    """Gz (with several members), bz2, zst and zip are read as what is in them."""
    half = TEXT.index("a2")
    put(tmp_path / "d.csv.gz", gzip.compress(TEXT[:half].encode()) + gzip.compress(TEXT[half:].encode()))
    put(tmp_path / "d.csv.bz2", bz2.compress(TEXT.encode()))
    with pa.output_stream(str(tmp_path / "d.csv.zst"), compression="zstd") as file:
        file.write(TEXT.encode())
    for name in ("d.csv.gz", "d.csv.bz2", "d.csv.zst"):
        assert rows(tmp_path / name)["merchant_id"].to_list() == SHOPS
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("__MACOSX/d.csv", "rubbish")
        archive.writestr("readme.txt", "rubbish")
        archive.writestr("inner/d.csv", TEXT)
    assert rows(tmp_path / "d.zip")["merchant_id"].to_list() == SHOPS
    put(tmp_path / "cut.csv.gz", gzip.compress(TEXT.encode() * 50)[:-20])
    put(tmp_path / "cut.zip", (tmp_path / "d.zip").read_bytes()[:-60])
    for name in ("cut.csv.gz", "cut.zip"):
        with pytest.raises(BadInput, match="can't be read"):
            load(tmp_path / name)


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.csv.zst", "d.csv.bz2", "d.jsonl.gz", "d.zip"])
def test_an_endless_line_is_one_clear_error_and_does_not_fill_the_memory(name: str, tmp_path: Path) -> None:
    """A small compressed file that unpacks to one line of 64 million characters is refused by name and line, both where
    its mapping is proposed and where it is read, before a tenth of it was held. So is a row whose quoted fields go on
    over lines for ever.
    """
    packed = {".gz": gzip.compress, ".bz2": bz2.compress, ".csv": bytes}
    whole = b'{"acct": "' if "jsonl" in name else TEXT.encode()
    whole += b"x" * (64 << 20)
    path = tmp_path / name
    if name.endswith(".zst"):
        with pa.output_stream(str(path), compression="zstd") as file:
            file.write(whole)
    elif name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("d.csv", whole)
    else:
        put(path, packed[path.suffix](whole))
    del whole
    line = 1 if "jsonl" in name else 4
    for read in (lambda: propose(path, Answers(), "x"), lambda: rows(path)):
        tracemalloc.start()
        with pytest.raises(BadInput, match=rf"d\.\S+, line {line}: longer than 1,048,576 characters"):
            read()
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
        tracemalloc.stop()
    put(tmp_path / "quoted.csv", TEXT + "a3," + ('"' + "\n" * 1000 + '",') * 10_000)
    with pytest.raises(BadInput, match=r"quoted\.csv, line [\d,]+: a row of more than 4,194,304 characters"):
        rows(tmp_path / "quoted.csv")


def test_a_document_is_read_only_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JSON document is held as a whole, so one beyond the bound is refused, and one within it is read."""
    path = put(tmp_path / "d.json", json.dumps([{"acct": "a", "amt": 1, "shop": "s", "when": "2026-01-05 10:00"}]))
    assert len(rows(path)) == 1
    monkeypatch.setattr(documents, "DOCUMENT_MAX", 50)
    with pytest.raises(BadInput, match=r"one JSON document of more than 50 characters"):
        rows(path)


def test_a_folder_of_files_with_other_columns(tmp_path: Path) -> None:
    """Every file has its own column order, case, separator and extra columns; IDs and lines are those of each."""
    folder = tmp_path / "parts"
    folder.mkdir()
    put(folder / "a.csv", TEXT)
    put(folder / "b.csv", "when;extra;SHOP;amt;acct\n2026-01-07 10:00;x;s3;3,5;a3\n".replace(",", "."))
    put(folder / "c.tsv", "acct\tamt\twhen\tshop\na4\tx\t2026-01-08\ts4\n")
    put(folder / "README.txt", "not data")
    with pytest.raises(BadInput, match=r"c.tsv: line 2: amt = 'x'"):
        load(folder)
    put(folder / "c.tsv", "acct\tamt\twhen\tshop\na4\t4\t2026-01-08\ts4\n")
    found = rows(folder)
    assert found["transaction_id"].to_list() == [f"mapping-{n}" for n in range(4)]
    assert found["account_id"].to_list() == ["a1", "a2", "a3", "a4"] and found["line"].to_list() == [2, 3, 2, 2]
    put(folder / "d.csv", "acct,amt\n")
    with pytest.raises(BadInput, match=r"d.csv is not a mapping dataset: missing columns shop, when"):
        load(folder)


def test_a_file_of_a_folder_may_have_no_usable_row(tmp_path: Path) -> None:
    """Its rows are rejected, the other files load."""
    folder = tmp_path / "parts"
    folder.mkdir()
    put(folder / "a.csv", "acct,amt,shop,when,fr\na,1\n")
    put(folder / "b.csv", "acct,amt,shop,when,fr\na,1,s,2026-01-06,1\nb,2,s,2026-01-05,0\n")
    source = load(folder, BASE + '[label]\ncolumn = "fr"\n', bad_rows="reject")
    assert pl.concat(list(source.tables()))["is_fraud"].to_list() == [False, True] and source.rejects.total == 1


def test_json_lines_and_arrays(tmp_path: Path) -> None:
    """Numbers keep their digits, nested objects are dotted columns, nulls and left-out columns are nothing."""
    objects = [
        {"acct": 2703186189652095123, "amt": 12.5, "when": "2026-01-05", "shop": {"name": "s"}, "x": None},
        {"acct": "b", "amt": "3.5", "when": "2026-01-06", "shop": {}, "x": True},
    ]
    mapping = BASE.replace('"shop"', '"shop.name"') + '[attributes]\nx = "x"\n'
    lines = "\n\n".join(json.dumps(each) for each in objects) + "\n"
    for name, content in (
        ("d.jsonl", lines),
        ("d.json", json.dumps(objects)),
        ("e.json", json.dumps({"n": 2, "data": objects})),
        ("f.json", lines),
    ):
        found = rows(put(tmp_path / name, content), mapping)
        assert found["account_id"].to_list() == ["2703186189652095123", "b"] and found["merchant_id"].to_list() == [
            "s",
            "",
        ]
        assert found["attributes"].to_list() == [{"x": None}, {"x": "true"}]
    with pytest.raises(BadInput, match="line 5: not a JSON object"):
        load(put(tmp_path / "d.jsonl", lines + "\n{'x': 1}\n"), mapping)
    with pytest.raises(BadInput, match="missing columns amt"):
        load(put(tmp_path / "d.jsonl", '{"acct": 1, "when": "2026-01-05", "shop": {"name": 1}, "x": 1}\n'), mapping)
    with pytest.raises(BadInput, match="is not JSON"):
        load(put(tmp_path / "d.json", "[{"), mapping)


def test_excel_sheets(tmp_path: Path) -> None:
    """Dates, numbers and whole IDs are read by their cells; rows have the sheet's numbers."""
    moment = datetime(2026, 1, 5, 10, 0, 1)
    sheet = [
        ["acct", "amt", "shop", "when"],
        [1234567890123, 12.5, "Café", moment],
        [None, None, None, None],
        ["007", 3, None, moment],
    ]
    path = write_xlsx(tmp_path / "d.xlsx", [["Report"], *sheet], first_row=3)
    found = rows(path, BASE + "[file]\nheader = 4\n")
    assert found["account_id"].to_list() == ["1234567890123", "007"] and found["line"].to_list() == [5, 7]
    assert found["occurred_at"].to_list() == [parse_iso("2026-01-05T10:00:01Z")] * 2
    assert found["amount"].to_list() == [12.5, 3.0]
    with pytest.raises(BadInput, match=r"no sheet 'X'; it has Data"):
        load(path, BASE + '[file]\nsheet = "X"\n')


def test_parquet_types(tmp_path: Path) -> None:
    """Decimals, dictionaries, whole floats and zoned times are read; lists and lost digits are refused."""

    def write(**columns: object) -> Path:
        given = {
            "acct": pa.array([1.0, None], pa.float64()),
            "amt": pa.array([Decimal("1.10"), Decimal("2.20")], pa.decimal128(9, 2)),
            "shop": pa.array(["s", "t"]).dictionary_encode(),
            "when": pa.array([datetime(2026, 7, 5, 10), datetime(2026, 7, 6, 10)], pa.timestamp("us")),
        } | columns
        pq.write_table(pa.table(given), tmp_path / "d.parquet")
        return tmp_path / "d.parquet"

    mapping = BASE + 'zone = "Europe/Berlin"\n'
    with pytest.raises(BadInput, match="row 2: acct = '' is not a usable account_id"):
        load(write(), mapping)
    found = rows(write(acct=pa.array([1.0, 2.0])), mapping)
    assert found["account_id"].to_list() == ["1", "2"] and found["amount"].to_list() == [1.1, 2.2]
    assert found["occurred_at"].to_list() == [parse_iso("2026-07-05T08:00Z"), parse_iso("2026-07-06T08:00Z")]
    zoned = pa.array([datetime(2026, 7, 5, 10)] * 2, pa.timestamp("ns", "America/New_York"))
    assert rows(write(acct=pa.array([1, 2]), when=zoned), mapping)["occurred_at"][0] == parse_iso("2026-07-05T10:00Z")
    with pytest.raises(BadInput, match=r"column amt holds list<.*>, not single values"):
        load(write(amt=pa.array([[1.0], [2.0]])), mapping)
    with pytest.raises(BadInput, match=r"row 1: acct = .* has lost digits"):
        load(write(acct=pa.array([2.7031861896520952e18, 2.0])), mapping)
    with pytest.raises(BadInput, match="row 2: amt = 'nan' is not an amount"):
        load(write(acct=pa.array([1, 2]), amt=pa.array([1.0, float("nan")])), mapping)
    with pytest.raises(BadInput, match="can't be read"):
        load(put(tmp_path / "d.parquet", b"PAR1 and nothing else"), mapping)


def test_files_that_break_off_or_turn_binary_are_said(tmp_path: Path) -> None:
    """No library's traceback: zeros in text, a row without end, odd separators, names with dots, types nobody reads."""
    assert rows(put(tmp_path / "d.csv", TEXT.replace("Café", "Ca\0fé")))["merchant_id"].to_list() == SHOPS
    with pytest.raises(BadInput, match="line 3: not separated text: field larger than field limit"):
        load(put(tmp_path / "d.csv", TEXT.replace("a2", '"a2' + ("x" * 1023 + "\n") * 2048)))
    for key in ("separator", "quote", "escape"):
        with pytest.raises(BadInput, match="one character"):
            load(put(tmp_path / "d.csv", TEXT), f'{BASE}[file]\n{key} = "ab"\n')
    dotted = pa.table({"a.b": ["a"], "amt": [1.0], "when": ["2026-01-05"], "shop": ["s"]})
    pq.write_table(dotted, tmp_path / "d.parquet")
    assert rows(tmp_path / "d.parquet", BASE.replace("acct", "a.b"))["account_id"].to_list() == ["a"]
    for odd in (
        pa.array([b"a"]),
        pa.array([{"x": 1}]),
        pa.nulls(1),
    ):
        table = dotted.set_column(1, "amt", odd)
        pq.write_table(table, tmp_path / "d.parquet")
        with pytest.raises(BadInput, match=r"not single values|can't be read|is not an amount"):
            load(tmp_path / "d.parquet", BASE.replace("acct", "a.b"))


def test_ieee_rows_without_first_day_have_an_account(tmp_path: Path) -> None:
    """NaN in D1 leaves the day out; an excerpt without D1 and identity is read too."""
    head = "TransactionID,isFraud,TransactionDT,TransactionAmt,ProductCD,card1,addr1"
    put(tmp_path / "train_transaction.csv", f"{head},D1\n1,0,86400,5,W,13926,315.0,NaN\n2,0,86401,5,W,13926,,1.0\n")
    source = open_source("ieee-cis", tmp_path / "train_transaction.csv")
    assert pl.concat(list(source.tables()))["account_id"].to_list() == ["13926-315-", "13926--0"]
    put(tmp_path / "train_transaction.csv", f"{head}\n1,0,86400,5,W,13926,315.0\n")
    source = open_source("ieee-cis", tmp_path / "train_transaction.csv")
    assert pl.concat(list(source.tables()))["account_id"].to_list() == ["13926-315"]
