"""Values of people's files under a mapping: each kind is read rightly, or its row is refused with line and reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from core.errors import BadInput
from core.times import parse_iso, to_epoch_ms
from sources.catalogue import open_source
from sources.datasets import DatasetSource, numbers, reader, timestamps
from sources.datasets.numbers import NumberFormat
from sources.datasets.timestamps import TimeFormat

BASE = '[columns]\naccount_id = "acct"\namount = "amt"\n[time]\ncolumn = "when"\n'
Load = Callable[..., DatasetSource]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load CSV text under a mapping's text."""

    def loaded(data: str | bytes, mapping: str = BASE, **options: object) -> DatasetSource:
        (tmp_path / "d.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
        (tmp_path / "m.toml").write_text(mapping, encoding="utf-8")
        source = open_source("custom", tmp_path / "d.csv", mapping=tmp_path / "m.toml", **options)  # type: ignore[arg-type]
        assert isinstance(source, DatasetSource)
        return source

    return loaded


def table(source: DatasetSource) -> pl.DataFrame:
    return pl.concat(list(source.tables()))


def test_a_bad_last_row_of_a_long_file_stops_it_before_anything_is_read(load: Load) -> None:
    """Everything is checked before the first record, so nothing of such a file is ever sent."""
    rows = "".join(f"a{i % 50},{i % 9}.5,2026-01-05 10:00\n" for i in range(40_000))
    with pytest.raises(BadInput, match=r"line 40,002: amt = '' is not an amount"):
        load(f"acct,amt,when\n{rows}a1,,2026-01-05 10:00\n")


def test_rejected_rows_are_left_out_and_told(load: Load) -> None:
    """With bad_rows="reject", the others load; each bad row has its line and reason; IDs stay those of the file."""
    told: list[tuple[int, str]] = []
    data = "acct,amt,when\na,1,2026-01-05\nb,x,2026-01-05\n,2,2026-01-05\nc,3,soon\nd,4,2026-01-06,5\ne,5,2026-01-07\n"
    source = load(data, bad_rows="reject", on_bad=lambda row: told.append((row.line, row.reason)))
    assert told == [(3, "bad_amount"), (4, "empty_id"), (5, "bad_time"), (6, "wrong_cells")]
    assert table(source)["transaction_id"].to_list() == ["m-0", "m-5"] and source.rejects.total == 4
    with pytest.raises(BadInput, match=r"line 3: amt = 'x'.*4 rows .*1 bad_amount.*--bad-rows reject"):
        load(data)


@pytest.mark.parametrize(
    "text", ["03/04/2026 10:00", "3 Apr 2026", "2026-13-01", "2026-02-30", "20260230", "1767225600"]
)
def test_iso_is_only_iso(text: str, load: Load) -> None:
    """A date that ISO 8601 doesn't know is refused, never guessed."""
    with pytest.raises(BadInput, match="is not a time"):
        load(f"acct,amt,when\na1,10,{text}\n")


@pytest.mark.parametrize(
    ("form", "text", "wanted"),
    [
        ("iso", "2026-01-05T10:00:01.25Z", "2026-01-05T10:00:01.250Z"),
        ("iso", "2026-01-05 10:00+02:00", "2026-01-05T08:00Z"),
        ("iso", "20260105T100000Z", "2026-01-05T10:00Z"),
        ("iso", "2026-01-05", "2026-01-05T00:00Z"),
        ("%d/%m/%Y %H:%M", "3/4/2026 9:05", "2026-04-03T09:05Z"),
        ("%m/%d/%y %I:%M %p", "03/04/26 12:05 AM", "2026-03-04T00:05Z"),
        ("%m/%d/%Y %I:%M:%S %p", "03/04/2026 1:05:09\u202fp.m.", "2026-03-04T13:05:09Z"),
        ("%d.%m.%Y %T", "05.01.2026 24:00:00", "2026-01-06T00:00Z"),
        ("%Y%m%d%H%M%S", "20260105100203", "2026-01-05T10:02:03Z"),
        ("%d. %B %Y", "5. März 2026", "2026-03-05T00:00Z"),
        ("%b %d, %Y %H:%M", "Sept. 5, 2026 07:00", "2026-09-05T07:00Z"),
        ("%a %d %b %Y %H:%M:%S.%f %z", "Mon 05 Jan 2026 10:00:00.123456 -0500", "2026-01-05T15:00:00.123Z"),
        ("%Y-%j", "2024-366", "2024-12-31T00:00Z"),
        ("epoch_s", "1767225600", "2026-01-01T00:00Z"),
        ("epoch_s", "1767225600.5", "2026-01-01T00:00:00.500Z"),
        ("epoch_ms", "1767225600001", "2026-01-01T00:00:00.001Z"),
        ("epoch_us", "1767225600001999", "2026-01-01T00:00:00.001Z"),
        ("epoch_ns", "1767225600001999999", "2026-01-01T00:00:00.001Z"),
        ("excel", "46027.4375", "2026-01-05T10:30Z"),
    ],
)
def test_times_of_every_format(form: str, text: str, wanted: str) -> None:
    """Each documented format gives the moment that the text means."""
    assert timestamps.parse([pl.Series([text])], TimeFormat(("t",), (form,))).to_list() == [parse_iso(wanted)]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("epoch_s", "1767225600000"),
        ("epoch_ms", "1767225600000000"),
        ("epoch_s", "99999999999999999999"),
        ("excel", "1e300"),
        ("%d.%m.%Y", "29.02.2025"),
        ("%d.%m.%Y", "31.04.2026"),
        ("%H:%M %d.%m.%Y", "25:00 01.01.2026"),
        ("%I:%M %p %d.%m.%Y", "13:00 pm 01.01.2026"),
        ("hours", "NaN"),
        ("days", "1e12"),
        ("excel", "99999999"),
        ("seconds", "-1e15"),
    ],
)
def test_times_that_do_not_fit_are_no_times(form: str, text: str) -> None:
    """A wrong unit, a day that doesn't exist, a number beyond all times: null, never an exception or another time."""
    assert timestamps.parse([pl.Series([text])], TimeFormat(("t",), (form,))).to_list() == [None]


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata"]
)
def test_local_times_are_those_of_zoneinfo(zone: str) -> None:
    """Every half hour of 2011, skipped and repeated ones too, equals Python's zoneinfo (the first of two)."""
    start = parse_iso("2011-01-01")
    moments = [start + i * 1_800_000 for i in range(2 * 24 * 365)]
    texts = pl.Series(moments).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%d %H:%M")
    found = timestamps.parse([texts], TimeFormat(("t",), zone=zone)).to_list()
    info = ZoneInfo(zone)
    assert found == [to_epoch_ms(datetime.fromisoformat(text).replace(tzinfo=info)) for text in texts.to_list()]
    second = timestamps.parse([texts], TimeFormat(("t",), zone=zone, repeated="second")).to_list()
    repeated = [t for t, u, v in zip(texts, found, second, strict=True) if u != v]
    assert all(datetime.fromisoformat(t).replace(tzinfo=info, fold=1).utcoffset() for t in repeated)


@pytest.mark.parametrize("zone", ["Mars/Base", "+1", "25"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    """A zone that nobody knows is a mistake in the mapping."""
    with pytest.raises(BadInput, match="time zone"):
        TimeFormat(("t",), zone=zone)


@pytest.mark.parametrize("pattern", ["%Y-%m", "%d.%m.%Y %d", "%Q-%m-%d", "%d %H"])
def test_a_wrong_pattern_is_refused(pattern: str) -> None:
    """A pattern without a day, with a directive twice or an unknown one can't be right."""
    with pytest.raises(BadInput, match="pattern"):
        TimeFormat(("t",), (pattern,))


def test_parts_of_times_in_several_columns(load: Load) -> None:
    """Year, Month, Day and Time, or a date and a time, are read together, floats too."""
    mapping = BASE.replace('column = "when"', 'columns = ["y", "m", "d", "t"]\nformat = "%Y %m %d %H:%M"')
    rows = table(load("acct,amt,y,m,d,t\na,1,2026.0,1,05,06:21\n", mapping))
    assert rows["occurred_at"].to_list() == [parse_iso("2026-01-05T06:21Z")]
    mapping = BASE.replace(
        'column = "when"', 'columns = ["d", "t"]\nformat = "%d/%m/%Y %I:%M %p"\nzone = "Europe/Berlin"'
    )
    rows = table(load("acct,amt,d,t\na,1,05/07/2026,2:00 PM\n", mapping))
    assert rows["occurred_at"].to_list() == [parse_iso("2026-07-05T12:00Z")]


def test_the_first_format_that_fits_is_used(load: Load) -> None:
    """A column may mix formats that the mapping lists, in its order."""
    mapping = BASE + 'format = ["%d/%m/%Y %H:%M", "%d/%m/%Y", "excel"]\n'
    rows = table(load("acct,amt,when\na,1,04/01/2026 10:30\na,1,05/01/2026\na,1,46028\n", mapping))
    assert rows["occurred_at"].to_list() == [
        parse_iso(t) for t in ("2026-01-04T10:30Z", "2026-01-05T00:00Z", "2026-01-06T00:00Z")
    ]


def test_steps_are_spread_even_if_fractional_or_dates(load: Load) -> None:
    """Rows of equal time are spread up to the step's end or the next time; a date is a step of a day;
    ISO has no step.
    """
    mapping = BASE + 'format = "hours"\nspread = true\n'
    rows = table(load("acct,amt,when\na,1,1\na,1,1\na,1,1.5\na,1,1.5\na,1,2\n", mapping))
    assert [t / 3_600_000 for t in rows["occurred_at"].to_list()] == [1.0, 1.25, 1.5, 1.75, 2.0]
    mapping = BASE + 'format = "%d.%m.%Y"\nspread = true\n'
    rows = table(load("acct,amt,when\na,1,05.01.2026\na,1,05.01.2026\n", mapping))
    assert rows["occurred_at"].to_list() == [parse_iso("2026-01-05T00:00Z"), parse_iso("2026-01-05T12:00Z")]
    with pytest.raises(BadInput, match="spread needs"):
        load("acct,amt,when\n", BASE + "spread = true\n")


def test_rows_without_times_are_spaced_evenly(load: Load) -> None:
    """Format "rows" needs no column."""
    mapping = BASE.replace('column = "when"', 'format = "rows"\nevery_s = 2.5\norigin = "2026-01-01T00:00Z"')
    rows = table(load("acct,amt\na,1\na,2\na,3\n", mapping))
    assert [t - parse_iso("2026-01-01") for t in rows["occurred_at"].to_list()] == [0, 2_500, 5_000]


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        (NumberFormat(), "$1850.00", 1850.0),
        (NumberFormat(".", ","), "$1,850.00", 1850.0),
        (NumberFormat(".", ","), "USD 1,850", 1850.0),
        (NumberFormat(".", ","), "12,34,567.5", 1234567.5),
        (NumberFormat(",", "."), "1.234,56", 1234.56),
        (NumberFormat(",", "."), "1.234,56 €", 1234.56),
        (NumberFormat(",", " "), "1\u202f234\u00a0567,5 kr", 1234567.5),
        (NumberFormat(".", "'"), "CHF 1’234.05", 1234.05),
        (NumberFormat(), "(12.50)", -12.5),
        (NumberFormat(), "Rs.500", 500.0),
        (NumberFormat(), "kr. 12.50", 12.5),
        (NumberFormat(), "12.50 2", None),
        (NumberFormat(), "12.50 (", None),
        (NumberFormat(), "($12.50)", -12.5),
        (NumberFormat(), "$-99.00", -99.0),
        (NumberFormat(), "\u221212.5", -12.5),
        (NumberFormat(), "12.50-", -12.5),
        (NumberFormat(), "12.50 CR", -12.5),
        (NumberFormat(), "12.50 DR", 12.5),
        (NumberFormat(), "1.5E+3", 1500.0),
        (NumberFormat(), ".5", 0.5),
        (NumberFormat(), "+5.", 5.0),
        (NumberFormat(), "1,850.00", None),
        (NumberFormat(), "1,50", None),
        (NumberFormat(".", ","), "1,50", None),
        (NumberFormat(".", ","), "1.234,56", None),
        (NumberFormat(",", "."), "1,234.56", None),
        (NumberFormat(",", "."), "12.34", None),
        (NumberFormat(), "(12.50", None),
        (NumberFormat(), "-(12.50)", None),
        (NumberFormat(), "12.50 apples", None),
        (NumberFormat(), "nan", None),
        (NumberFormat(), "inf", None),
        (NumberFormat(), "1_000", None),
        (NumberFormat(), "0x10", None),
        (NumberFormat(), "1e999", None),
        (NumberFormat(), "", None),
        (NumberFormat(), "$", None),
    ],
)
def test_sums_of_money(form: NumberFormat, text: str, value: float | None) -> None:
    """Digits, marks, signs and currencies are read as written; what doesn't fit the marks is no number."""
    assert numbers.parse_money(pl.Series([text]), form)[0].to_list() == [value]


def test_currencies_in_amounts(load: Load) -> None:
    """With currency = true, code or symbol give the row's currency; a bare or shared symbol leaves the constant."""
    mapping = BASE + '[amount]\ncurrency = true\n[constants]\ncurrency = "USD"\n'
    rows = table(load("acct,amt,when\na,€5,2026-01-05\na,GBP 6,2026-01-05\na,$7,2026-01-05\na,8,2026-01-05\n", mapping))
    assert rows["currency"].to_list() == ["EUR", "GBP", "USD", "USD"]


def test_signs_mean_what_the_mapping_says(load: Load) -> None:
    """Negative amounts are refused, or payments, or refunds; then the size is sent, and the direction is
    an attribute.
    """
    data = "acct,amt,when\na,-5,2026-01-05\na,7,2026-01-05\n"
    with pytest.raises(BadInput, match=r"line 2: amt = '-5' is negative; \[amount\] negative"):
        load(data)
    for meaning, directions in (("payment", ["debit", "credit"]), ("refund", ["credit", "debit"])):
        rows = table(load(data, BASE + f'[amount]\nnegative = "{meaning}"\n'))
        assert rows["amount"].to_list() == [5.0, 7.0]
        assert [a["direction"] for a in rows["attributes"].to_list()] == directions


def test_debit_and_credit_columns(load: Load) -> None:
    """One of the two is filled; both or none is a fault of the row."""
    mapping = BASE.replace('amount = "amt"\n', "") + '[amount]\ndebit = "out"\ncredit = "in"\n'
    data = "acct,out,in,when\na,5,,2026-01-05\na,0.00,7,2026-01-05\na,-3,0,2026-01-05\n"
    rows = table(load(data, mapping))
    assert rows["amount"].to_list() == [5.0, 7.0, 3.0]
    assert [a["direction"] for a in rows["attributes"].to_list()] == ["debit", "credit", "debit"]
    for bad, why in (("a,,,2026-01-05\n", "both are empty"), ("a,1,2,2026-01-05\n", "both are filled")):
        with pytest.raises(BadInput, match=f"line 5: out . in = .*{why}"):
            load(data + bad, mapping)


def test_amounts_in_cents(load: Load) -> None:
    """Divide turns minor units into major ones."""
    assert table(load("acct,amt,when\na,1999,2026-01-05\n", BASE + "[amount]\ndivide = 100\n"))["amount"].to_list() == [
        19.99
    ]


def test_label_words_of_any_case_and_form(load: Load) -> None:
    """Words for fraud and legitimate in any case, numbers with zeros, null words: each is what it says."""
    words = ["Yes", "TRUE", "Fraud", "1.00", "Y", "1", "no", "False", "Legitimate", "0.0", "N", "NA", "", "-", "null"]
    data = "acct,amt,when,fr\n" + "".join(f"a,1,2026-01-05,{word}\n" for word in words)
    rows = table(load(data, BASE + '[label]\ncolumn = "fr"\n'))
    assert rows["is_fraud"].to_list() == [True] * 6 + [False] * 5 + [None] * 4


def test_unknown_labels_stop_unless_the_mapping_knows_them(load: Load) -> None:
    """-1 is not silently legitimate; lists of the mapping decide, and may even turn the usual meaning round."""
    data = "acct,amt,when,fr\na,1,2026-01-05,1\na,1,2026-01-05,-1\n"
    with pytest.raises(BadInput, match=r"line 3: fr = '-1' is neither fraud nor legitimate"):
        load(data, BASE + '[label]\ncolumn = "fr"\n')
    for lists, wanted in (
        ('legitimate = ["-1"]', [True, False]),
        ('unlabelled = ["-1"]', [True, None]),
        ('fraud = ["-1"]\nlegitimate = ["1"]', [False, True]),
    ):
        assert table(load(data, BASE + f'[label]\ncolumn = "fr"\n{lists}\n'))["is_fraud"].to_list() == wanted
    with pytest.raises(BadInput, match="both fraud and legitimate"):
        load(data, BASE + '[label]\ncolumn = "fr"\nfraud = ["1"]\nlegitimate = ["1.0"]\n')


def test_a_prefix_does_not_fill_an_empty_account(load: Load) -> None:
    """Rows without an account are refused, not gathered in an account named like the prefix."""
    with pytest.raises(BadInput, match=r"line 3: acct = '' is not a usable account_id"):
        load("acct,amt,when\na,1,2026-01-05\n ,1,2026-01-05\n", BASE + '[prefixes]\naccount_id = "mb-"\n')
    rows = table(
        load(
            "acct,amt,when,shop\na,1,2026-01-05,\n",
            BASE.replace("[time]", 'merchant_id = "shop"\n[time]') + '[prefixes]\nmerchant_id = "m-"\n',
        )
    )
    assert rows["merchant_id"].to_list() == [""]


def test_a_prefix_goes_before_numbers_and_constants_too(load: Load) -> None:
    """Also where the file has no column for the field."""
    mapping = '[columns]\namount = "amt"\n[time]\ncolumn = "when"\n[constants]\naccount_id = "all"\n'
    rows = table(load("amt,when\n1,2026-01-05\n", mapping + '[prefixes]\naccount_id = "x-"\ntransaction_id = "y-"\n'))
    assert rows.row(0)[:2] == ("y-m-0", "x-all")


def test_a_large_dataset_is_the_same_read_again_or_held(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether decoded rows are kept in memory changes nothing, in order of time or not."""
    rows = [
        f"a{i % 9},{i}.5,2026-01-{1 + i // 2000:02d} {i % 2000 // 100:02d}:{i % 60:02d},{i % 7}" for i in range(40_000)
    ]
    mapping = BASE + '[attributes]\nx = "x"\n'
    for order in (rows, rows[::-1]):
        data = "acct,amt,when,x\n" + "\n".join(order) + "\n"
        monkeypatch.setattr(reader, "HELD_BYTES", 1 << 40)
        held = table(load(data, mapping))
        monkeypatch.setattr(reader, "HELD_BYTES", 1)
        assert table(load(data, mapping)).equals(held) and held.height == 40_000


def test_null_words_are_those_of_the_mapping(load: Load) -> None:
    """Words in [file] null are nothing in every column, except NA as a country, which is Namibia."""
    mapping = BASE.replace("[time]", 'merchant_id = "shop"\ncountry = "land"\n[time]') + '[file]\nnull = ["NA", "-"]\n'
    rows = table(load("acct,amt,when,shop,land\na,1,2026-01-05,na,NA\na,1,2026-01-05,NAB,-\n", mapping))
    assert rows["merchant_id"].to_list() == ["", "NAB"] and rows["country"].to_list() == ["NA", ""]
    with pytest.raises(BadInput, match=r"line 2: acct = 'NA' is not a usable account_id"):
        load("acct,amt,when,shop,land\nNA,1,2026-01-05,,\n", mapping)


def test_ids_that_lost_digits_are_refused(load: Load) -> None:
    """2.70319E+15 stands for many accounts: refused, unless the mapping takes it; exact ones are written out."""
    data = "acct,amt,when\n2.70319E+15,1,2026-01-05\n4.5E+01,1,2026-01-05\n"
    with pytest.raises(BadInput, match=r"line 2: acct = '2.70319E\+15' has lost digits.*lossy"):
        load(data)
    with pytest.raises(BadInput, match="has lost digits"):
        load("acct,amt,when\n2703190000000000.0,1,2026-01-05\n2.7031861896520952e+18,1,2026-01-05\n")
    rows = table(load(data.replace("4.5E+01", "4.51E+02"), BASE + '[ids]\nlossy = ["account_id"]\n'))
    assert rows["account_id"].to_list() == ["2.70319E+15", "451"]
    assert table(load("acct,amt,when\n5e10,1,2026-01-05\n12E45,1,2026-01-05\n"))["account_id"].to_list() == [
        "5e10",
        "12E45",
    ]


def test_float_ids_become_whole_where_asked(load: Load) -> None:
    """`123.0` is `123` in the fields of [ids] whole."""
    data = "acct,amt,when\n123.0,1,2026-01-05\n123,1,2026-01-05\n1.5,1,2026-01-05\n"
    assert table(load(data))["account_id"].to_list() == ["123.0", "123", "1.5"]
    assert table(load(data, BASE + '[ids]\nwhole = ["account_id"]\n'))["account_id"].to_list() == ["123", "123", "1.5"]


def test_spaces_and_invisible_characters(load: Load) -> None:
    """Any space around a value goes; inside, any white space is a plain space; invisible characters go."""
    mapping = BASE.replace("[time]", 'merchant_id = "shop"\n[time]')
    first = "\u00a0a ,\t1\u00a0, 2026-01-05 ,\u3000Caf\u00e9\u00a0du\u3000Nord\u200b"
    data = f'acct,amt,when,shop\n{first}\n"a",2,2026-01-05,"two\nlines"\n'
    rows = table(load(data, mapping))
    assert rows["account_id"].to_list() == ["a", "a"] and rows["merchant_id"].to_list() == ["Café du Nord", "two lines"]


def test_attribute_kinds_are_those_of_the_whole_file(load: Load) -> None:
    """One word in row 30,000 makes an attribute text; null words don't; `007` is text; decimal commas
    are the file's.
    """
    lines = [f"a;1,5;2026-01-05;{i};{i};00{i};1,5" for i in range(30_000)]
    data = "acct;amt;when;x;y;zip;z\n" + "\n".join([*lines, "a;2,5;2026-01-05;word;n/a;1;NaN"]) + "\n"
    mapping = BASE + '[numbers]\ndecimal = ","\n[attributes]\nx = "x"\ny = "y"\nzip = "zip"\nz = "z"\n'
    rows = table(load(data, mapping))["attributes"].to_list()
    assert rows[0] == {"x": "0", "y": 0.0, "zip": "000", "z": 1.5}
    assert rows[-1] == {"x": "word", "y": None, "zip": "1", "z": None}


def test_joined_columns_are_one_account(load: Load) -> None:
    """Several columns are one field, joined by a hyphen; all empty is empty."""
    mapping = BASE.replace('"acct"', '["bank", "acct"]')
    assert table(load("bank,acct,amt,when\n10,7,1,2026-01-05\n", mapping))["account_id"].to_list() == ["10-7"]
    with pytest.raises(BadInput, match=r"line 2: bank . acct"):
        load("bank,acct,amt,when\n,,1,2026-01-05\n", mapping)
