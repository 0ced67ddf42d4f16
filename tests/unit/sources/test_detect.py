"""`sentinel map` on files of every kind: messy ones in every pair of ways to write, the public layouts,
and what it asks.
"""

from __future__ import annotations

import json
import os
import random
from datetime import date, datetime, time
from pathlib import Path

import polars as pl
import pytest

from console.commands.map import loaded
from core.errors import BadInput
from core.times import parse_iso
from sources.analysis import Profile
from sources.datasets import DatasetSource, mapping
from sources.datasets.detect.propose import Proposal, propose
from sources.datasets.detect.questions import Answers, Question
from sources.datasets.detect.toml_text import text
from tests.builders import messy_files
from tests.builders.messy_files import Truth
from tests.builders.public_files import PUBLIC, shuffled
from tests.builders.spreadsheets import write_xlsx

DATA = Path(os.environ.get("SENTINEL_DATA", Path(__file__).parents[4] / "shared" / "data"))
HANDBOOK = DATA / "handbook" / "transactions.parquet"
STYLES = messy_files.styles()


def mapped(path: Path, answers: Answers | None = None) -> tuple[Proposal, DatasetSource, Profile]:
    """The file's proposal, loaded as the command does; its TOML must mean the same."""
    proposal = propose(path, answers or Answers(), "x")
    proposal, source, profile = loaded(proposal, path)
    assert mapping.parse(text(proposal, str(path)), "x") == proposal.layout
    return proposal, source, profile


def sums(profile: Profile) -> Truth:
    return Truth(
        profile.transactions,
        profile.accounts,
        profile.amount_total,
        profile.frauds,
        profile.unlabelled,
        profile.first,
        profile.last,
    )


def put(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_messy_files_cover_every_pair_of_ways_to_write() -> None:
    """At least the 30 that were asked for, and no possible pair of choices is left out."""
    pairs = {pair for style in STYLES for pair in messy_files.pairs(style)}
    assert len(STYLES) >= 30 and messy_files.all_pairs() <= pairs


@pytest.mark.parametrize("part", range(6))
def test_messy_files_load_whole_with_the_sums_of_a_plain_reader(part: int, tmp_path: Path) -> None:
    """Every row loads; rows, accounts, sum, frauds and times equal the truth and a plain reader that
    knows the style.
    """
    for number in range(part, len(STYLES), 6):
        style = STYLES[number]
        folder = tmp_path / str(number)
        folder.mkdir()
        path, rows = messy_files.write(style, folder, number)
        truth = messy_files.truth(rows)
        assert messy_files.read_plainly(style, path) == truth, style
        answers = Answers(zone=None if style["zone"] == "UTC" else style["zone"])
        proposal, source, profile = mapped(path, answers)
        assert sums(profile) == truth and not source.rejects.total, (style, proposal)
        assert any("DIGITS ARE LOST" in each for each in proposal.unsure) == (style["account"] == "scientific")


@pytest.mark.parametrize("form", ["as published", "other case, order and columns"])
@pytest.mark.parametrize("name", PUBLIC)
def test_public_layouts_are_recognised(name: str, form: str, tmp_path: Path) -> None:
    """Each public dataset, also excerpts of it, whatever the case and order of its columns and what else is there."""
    layout, content, truth = PUBLIC[name]
    path = put(tmp_path / "d.csv", content if form == "as published" else shuffled(content))
    proposal, source, profile = mapped(path)
    assert proposal.known == layout and not source.rejects.total
    assert sums(profile) == truth


@pytest.mark.parametrize(
    ("name", "old", "new", "doubt"),
    [
        ("sparkov", "2019-01-0", "1/2", "times name no zone"),
        ("sparkov", "2703186189652095", "2.70319E+15", "DIGITS ARE LOST in cc_num"),
        ("sparkov", ",is_fraud\n", ",guess\n", "looks like the label"),
        ("paysim", "9839.64", "-9839.64", ""),
        ("s-ffsd", ",TP100,2", ",TP100,", ""),
    ],
)
def test_public_layouts_that_went_through_other_hands(
    name: str, old: str, new: str, doubt: str, tmp_path: Path
) -> None:
    """What spreadsheets do to a public dataset is seen and said: other dates, lost digits, a label that is gone."""
    content = PUBLIC[name][1]
    if new == "1/2":
        content = content.replace("2019-01-01 00:00:18", "1/25/2019 0:00").replace(
            "2019-01-02 00:00:44", "1/26/2019 0:01"
        )
    path = put(tmp_path / "d.csv", content.replace(old, new))
    proposal, source, profile = mapped(path)
    assert proposal.known == ("" if "guess" in new else name)  # without its label it is read by names
    assert profile.transactions == PUBLIC[name][2].rows - source.rejects.total
    assert source.rejects.total == (1 if name == "paysim" else 0)
    assert any(doubt in each for each in proposal.unsure)


@pytest.mark.skipif(not HANDBOOK.exists(), reason=f"the handbook dataset is not at {HANDBOOK} (set SENTINEL_DATA)")
def test_the_handbook_is_recognised_and_loads_whole() -> None:
    """All of the real file."""
    proposal, _, profile = mapped(HANDBOOK)
    assert proposal.known == "handbook"
    assert (profile.transactions, profile.frauds, profile.accounts) == (1_303_778, 10_659, 4_987)


HEAD = "account,amount,time,is_fraud\n"


@pytest.mark.parametrize(
    ("content", "answers", "option", "settled"),
    [
        (
            f"{HEAD}a,1.5,03/04/2026 10:00,0\nb,2.5,05/06/2026 11:00,1\n",
            [Answers(dates="day-first"), Answers(dates="month-first")],
            "--dates day-first",
            [parse_iso("2026-04-03T10:00"), parse_iso("2026-03-04T10:00")],
        ),
        (
            f'{HEAD}a,"1.234",2026-01-05,0\nb,"2.500",2026-01-06,1\n',
            [Answers(decimal="."), Answers(decimal=",")],
            "--decimal .",
            [3.734, 3734.0],
        ),
        (
            f"{HEAD}a,1.5,17,0\nb,2.5,18,1\n",
            [Answers(time_format="hours"), Answers(time_format="days")],
            "--time-format",
            [parse_iso("2026-01-01T17:00"), parse_iso("2026-01-18T00:00")],
        ),
        (
            f"{HEAD}a,1.5,2026-01-05,A\nb,2.5,2026-01-06,B\n".replace("is_fraud", "class")
            .replace(",A", ",1")
            .replace(",B", ",2"),
            [Answers(fraud=("2",), legitimate=("1",)), Answers(fraud=("1",), unlabelled=("2",))],
            "--fraud",
            [1, 1],
        ),
        (
            "account,amount,time,Betrug\na,1.5,2026-01-05,x\nb,2.5,2026-01-06,\n",
            [Answers(fraud=("x",)), Answers(legitimate=("x",))],
            "which values of Betrug mean fraud",
            [1, 0],
        ),
        (
            "account,amount,time\nx,١٢٫٥,2026-01-05\n",
            [],
            "amount has values such as '١٢٫٥'",
            [],
        ),
        (
            "whose,amount,time\nx,1.5,2026-01-05\n",
            [Answers(columns={"account_id": "whose"}), Answers(constants={"account_id": "all"})],
            "--column account_id=NAME",
            [1, 1],
        ),
        (
            "account,how_much,time\nx,1,2026-01-05\n",
            [Answers(columns={"amount": "how_much"})],
            "--column amount=NAME",
            [1.0],
        ),
        (
            "account,amount\nx,1\nx,2\n",
            [Answers(time_format="rows")],
            "--column time=NAME",
            [parse_iso("2026-01-01")],
        ),
    ],
)
def test_what_only_a_person_can_know_is_asked(
    content: str, answers: list[Answers], option: str, settled: list[float], tmp_path: Path
) -> None:
    """If two readings fit every row, or nothing says what is meant, the message names the option, which
    then decides.
    """
    path = put(tmp_path / "d.csv", content)
    with pytest.raises(Question, match=option.replace(".", r"\.")):
        propose(path, Answers(), "x")
    for answer, wanted in zip(answers, settled, strict=True):
        _, source, profile = mapped(path, answer)
        assert (
            wanted in (profile.first, profile.amount_total, profile.frauds, profile.accounts)
            and not source.rejects.total
        )


@pytest.mark.parametrize("row", [1, 4_000, 29_999])
def test_one_row_of_many_decides_the_order_of_day_and_month(row: int, tmp_path: Path) -> None:
    """All rows are looked at: a single 13th day settles it, wherever it stands."""
    rng = random.Random(3)
    rows = [f"a{i % 9},1.5,{rng.randint(1, 12):02d}/{rng.randint(1, 12):02d}/2026 10:00,0" for i in range(30_000)]
    for day, month, format_ in ((13, 2, "%d/%m/%Y %H:%M"), (2, 13, "%m/%d/%Y %H:%M")):
        rows[row] = f"a,1.5,{day:02d}/{month:02d}/2026 10:00,1"
        proposal, source, _ = mapped(put(tmp_path / "d.csv", HEAD + "\n".join(rows) + "\n"))
        assert proposal.layout.time.formats == (format_,) and not source.rejects.total


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("05.01.26", "2026-01-05"),
        ("2026/01/25 10.15.30", "2026-01-25T10:15:30"),
        ("Jan 25, 2026 10:15 PM", "2026-01-25T22:15"),
        ("25 janvier 2026 10:15", "2026-01-25T10:15"),
        ("Sun Jan 25 10:15:30 2026", "2026-01-25T10:15:30"),
        ("25/Jan/2026:10:15:30 +0100", "2026-01-25T09:15:30"),
        ("10:15 25.01.2026", "2026-01-25T10:15"),
        ("20260125T101530Z", "2026-01-25T10:15:30"),
        ("20260125", "2026-01-25"),
        ("2026-01-25 10:15:30.123456", "2026-01-25T10:15:30.123"),
        ("25.01.2026, 10:15 Uhr", "2026-01-25T10:15"),
        ("1769335200.5", "2026-01-25T10:00:00.500"),
    ],
)
def test_patterns_of_dates(value: str, moment: str, tmp_path: Path) -> None:
    """Ways to write a time, found by the values."""
    sure = "26.01.26" if value == "05.01.26" else value
    path = put(tmp_path / "d.csv", f'account,amount,time,is_fraud\na,1.5,"{value}",0\nb,2.5,"{sure}",1\n')
    _, source, profile = mapped(path)
    assert profile.first == parse_iso(moment) and not source.rejects.total


@pytest.mark.parametrize(
    ("content", "columns", "wanted"),
    [
        (
            "Txn Date,Trans. Amt.,Cust ID,Merchant Name,Fraud?\n"
            "01/25/2026 10:00,$1.50,C1,S,N\n01/05/2026 10:00,$2.50,C2,S,Y\n",
            {"account_id": "Cust ID", "amount": "Trans. Amt.", "merchant_id": "Merchant Name"},
            (2, 2, 4.0, 1, "2026-01-05T10:00"),
        ),
        (
            "Kunden-Nr.;Betrag in EUR;Datum;Uhrzeit;Empfänger;Betrugsfall\n"
            "1;-1.234,56;25.01.2026;10:00:00;Müller;nein\n2;-12,5;05.01.2026;11:00:00;Maier;ja\n",
            {"account_id": "Kunden-Nr.", "amount": "Betrag in EUR", "merchant_id": "Empfänger"},
            (2, 2, 1247.06, 1, "2026-01-05T11:00"),
        ),
        (
            "N° de compte;Montant (€);Date de transaction;Frauduleux\n"
            "1;1 234,56;25/01/2026 10h15;non\n2;12,50;05/01/2026 11h00;oui\n",
            {"account_id": "N° de compte", "amount": "Montant (€)"},
            (2, 2, 1247.06, 1, "2026-01-05T11:00"),
        ),
        (
            "Conto;Importo;Data;Ora;Frode\n1;1.234,56;25/01/2026;10:15;No\n2;12,50;05/01/2026;11:00;Si\n",
            {"account_id": "Conto", "amount": "Importo"},
            (2, 2, 1247.06, 1, "2026-01-05T11:00"),
        ),
        (
            "card_number,customer_id,dob,amount,date,time,is_fraud\n"
            "411,c1,1980-01-01,1.5,20260105,93015,0\n412,c1,1980-01-01,2.5,20260106,235959,1\n",
            {"account_id": "customer_id", "card_id": "card_number", "amount": "amount"},
            (2, 1, 4.0, 1, "2026-01-05T09:30:15"),
        ),
        (
            "Report;;;\n"
            "Generated;2026-01-31;;\n;;;\naccount;amount;time;is_fraud\na;1,5;25.01.2026;0\nb;2,5;26.01.2026;1\nTotal;4,0;;\n",
            {"account_id": "account", "amount": "amount"},
            (2, 2, 4.0, 1, "2026-01-25"),
        ),
        (
            'account,amount,time,merchant,is_fraud\na,150,2026-01-05,"x \\"y\\", z",0\nb,250,2026-01-06,q,1\n',
            {"account_id": "account", "amount": "amount", "merchant_id": "merchant"},
            (2, 2, 400.0, 1, "2026-01-05"),
        ),
        (
            "account,amount,time,is_fraud\n'a','1,50','2026-01-05','0'\n'b','2,50','2026-01-06','1'\n",
            {"account_id": "account", "amount": "amount"},
            (2, 2, 4.0, 1, "2026-01-05"),
        ),
        (
            "account;amount;Uhrzeit;Datum;Valuta;is_fraud\n"
            "a;1,5;10:15;20.03.26;21.03.26;0\nb;2,5;11:30;19.03.26;20.03.26;1\n",
            {"account_id": "account", "amount": "amount"},
            (2, 2, 4.0, 1, "2026-03-19T11:30"),
        ),
        (
            "account;amount;date;hour;is_fraud\na;1,5;20.03.26;10.15.30;0\nb;2,5;19.03.26;11.30.00;1\n",
            {"account_id": "account", "amount": "amount"},
            (2, 2, 4.0, 1, "2026-03-19T11:30"),
        ),
        (
            "account|amount|merchant|time|is_fraud\n"
            + "".join(f'"{n % 2}"|"1,000.50"|"A|B"|"2026-01-05"|{n % 2}\n' for n in range(40)),
            {"account_id": "account", "amount": "amount", "merchant_id": "merchant"},
            (40, 2, 40_020.0, 20, "2026-01-05"),
        ),
        (
            "account,amount,date,is_fraud\na,1.5,46027,0\nb,2.5,46028.5,1\n",
            {"account_id": "account", "amount": "amount"},
            (2, 2, 4.0, 1, "2026-01-05"),
        ),
        (
            "account,amount,time,is_fraud\n"
            "a,1.5,2026-01-05 10:00,0\nb,2.5,2026-01-06,1\nc,3,2026-01-07T10:00:00.5+01:00,0\n",
            {"account_id": "account", "amount": "amount"},
            (3, 3, 7.0, 1, "2026-01-05T10:00"),
        ),
    ],
)
def test_columns_by_name_and_content(
    content: str, columns: dict[str, str], wanted: tuple[int, int, float, int, str], tmp_path: Path
) -> None:
    """Names in several languages, dates in parts, titles above, totals below, other quotes: all rows and
    sums are right.
    """
    proposal, source, profile = mapped(put(tmp_path / "d.csv", content))
    assert proposal.layout.columns == columns and not source.rejects.total
    found = (profile.transactions, profile.accounts, profile.amount_total, profile.frauds, profile.first)
    assert found == (*wanted[:4], parse_iso(wanted[4]))


def test_two_digit_years_that_may_come_first_or_last_are_said(tmp_path: Path) -> None:
    """26-03-05 is a day of 2026 or of 2005: which was taken is said, and a pattern settles it."""
    path = put(tmp_path / "d.csv", "account;amount;date;Betrug\na;1,5;26-03-05;N\nb;2,5;26-03-14;J\n")
    proposal, _, profile = mapped(path)
    assert any("%y-%m-%d too (--time-format)" in each for each in proposal.unsure) and profile.frauds == 1
    _, _, profile = mapped(path, Answers(time_format="%y-%m-%d"))
    assert profile.first == parse_iso("2026-03-05")


def test_quotes_that_are_never_closed_are_said(tmp_path: Path) -> None:
    """Quotation marks that enclose nothing become part of the values, and the mapping says so."""
    proposal, _, profile = mapped(
        put(tmp_path / "d.csv", f'{HEAD}a,1,2026-01-05,0\n"b,2,2026-01-06,1\nc,3,2026-01-07,0\n')
    )
    assert profile.transactions == 3 and any("quotation marks" in each for each in proposal.unsure)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", "[1, 2]\n", "d.jsonl: line 1 is not a JSON object: it is of type array"),
        ("d.json", '[null, "x"]', "d.json: row 1 is not a JSON object: it is of type null"),
        ("d.csv", "account,amount,time\n", "d.csv contains no rows"),
        ("d.csv", "", "the file is empty"),
    ],
)
def test_files_without_rows_are_refused_in_words(name: str, content: str, message: str, tmp_path: Path) -> None:
    """Nothing to map is an error that says what the file holds, not a question about columns."""
    with pytest.raises(BadInput, match=message) as caught:
        propose(put(tmp_path / name, content), Answers(), "x")
    assert not isinstance(caught.value, Question)


def test_a_file_unlike_the_others_of_a_folder_is_named(tmp_path: Path) -> None:
    """Notes beside the data are not taken for data: the message names the file and what to do."""
    put(tmp_path / "a.csv", f"{HEAD}a,1,2026-01-05,0\n")
    put(tmp_path / "notes.txt", "ask Ann\nor Bob\n")
    with pytest.raises(BadInput, match=r"notes.txt has other columns than the first file: .*move it elsewhere"):
        propose(tmp_path, Answers(), "x")


def test_typed_files_are_mapped_by_their_types(tmp_path: Path) -> None:
    """Excel dates under a title and above a total; Parquet dates, times of day, decimals and booleans."""
    moment = datetime(2026, 1, 5, 10, 30, 1)
    sheet = [
        ["Account", "Amount", "Booked At", "Fraud"],
        [7, 12.5, moment, True],
        [8, 3, moment, False],
        ["Sum", 15.5, None, None],
    ]
    path = write_xlsx(tmp_path / "d.xlsx", [["My report"], [None], *sheet])
    proposal, source, profile = mapped(path)
    assert proposal.layout.file.header == 3 and not source.rejects.total
    assert (profile.transactions, profile.amount_total, profile.frauds) == (2, 15.5, 1)
    assert profile.first == profile.last == parse_iso("2026-01-05T10:30:01")
    columns = {
        "account_id": pl.Series([1.0, 2.0]),
        "amount": pl.Series(["1.10", "2.20"]).cast(pl.Decimal(9, 2)),
        "date": pl.Series([date(2026, 1, 5), date(2026, 1, 6)]),
        "time": pl.Series([time(10), time(11)]),
        "is_fraud": pl.Series([True, None]),
    }
    pl.DataFrame(columns).write_parquet(tmp_path / "d.parquet")
    proposal, _, profile = mapped(tmp_path / "d.parquet")
    assert sums(profile) == Truth(2, 2, 3.3, 1, 1, parse_iso("2026-01-05T10:00"), parse_iso("2026-01-06T11:00"))
    assert proposal.unsure == ["times name no zone: read as UTC (--zone Europe/Berlin, for example)"]


def test_a_last_row_with_a_fault_is_no_footer(tmp_path: Path) -> None:
    """Only lines that can't be rows are left out as a footer; a row without account, or with a bad amount, is told."""
    for row in ("NA,2.5,2026-01-06,1", "b,x,2026-01-06,1", "b,2.5,soon,1"):
        _, source, _ = mapped(put(tmp_path / "d.csv", f"{HEAD}a,1.5,2026-01-05,0\n{row}\n"))
        assert source.rejects.total == 1, row


def test_signs_and_currencies_are_said(tmp_path: Path) -> None:
    """Minority of negatives: refunds; majority: payments; a lone $ names no currency; several codes are
    each row's own.
    """
    rows = "".join(f'a,"{v}",2026-01-{i:02d}\n' for i, v in enumerate(["$5.00", "$6.00", "$(7.00)", "$8.00"], 1))
    proposal, _, profile = mapped(put(tmp_path / "d.csv", "account,amount,time\n" + rows.replace("$(7.00)", "($7.00)")))
    assert proposal.layout.money.negative == "refund" and profile.amount_total == 26.0
    assert any("$" in each for each in proposal.unsure)
    proposal, _, _ = mapped(
        put(tmp_path / "d.csv", "account,amount,time\na,-5,2026-01-01\na,-6,2026-01-02\na,7,2026-01-03\n")
    )
    assert proposal.layout.money.negative == "payment"
    proposal, source, _ = mapped(put(tmp_path / "d.csv", "account,amount,time\na,5 EUR,2026-01-01\na,£6,2026-01-02\n"))
    assert [table["currency"].to_list() for table in source.tables()] == [["EUR", "GBP"]]
    proposal, _, profile = mapped(put(tmp_path / "d.csv", "account,amount_cents_chf,time\na,500,2026-01-01\n"))
    assert proposal.layout.constants == {"currency": "CHF"} and profile.amount_total == 5.0


def test_values_of_labels_are_counted_and_unknown_ones_said(tmp_path: Path) -> None:
    """A value that is neither is unlabelled and named; F is false beside T, and fraud beside L."""
    rows = "".join(f"a,1,2026-01-05,{v}\n" for v in ["Yes"] * 3 + ["No"] * 5 + ["Perhaps"] * 2 + ["NA"])
    proposal, _, profile = mapped(put(tmp_path / "d.csv", HEAD + rows))
    assert proposal.labels == {"Yes": (3, True), "No": (5, False), "Perhaps": (2, None), "NA": (1, None)}
    assert (profile.frauds, profile.unlabelled) == (3, 3)
    assert any("'Perhaps' (2 rows)" in each for each in proposal.unsure)
    for values, frauds in (("TFF", 1), ("FLL", 1), ("FGG", 1), ("FNN", 1)):
        rows = "".join(f"a,1,2026-01-05,{v}\n" for v in values)
        assert mapped(put(tmp_path / "d.csv", HEAD + rows))[2].frauds == frauds


def test_ids_that_repeat_are_no_transaction_ids(tmp_path: Path) -> None:
    """A column called id that repeats, or that lost digits, is not taken for the transaction's."""
    rows = "".join(f"{i // 4},a,1,2026-01-05\n" for i in range(20))
    proposal, _, _ = mapped(put(tmp_path / "d.csv", "id,account,amount,time\n" + rows))
    assert "transaction_id" not in proposal.layout.columns and any("repeats" in each for each in proposal.unsure)
    rows = "".join(f"{i}.5E+15,a,1,2026-01-05\n" for i in range(1, 9))
    proposal, _, _ = mapped(put(tmp_path / "d.csv", "id,account,amount,time\n" + rows))
    assert "transaction_id" not in proposal.layout.columns and any("lost digits" in each for each in proposal.unsure)


def test_a_file_without_names_is_read_by_what_it_holds(tmp_path: Path) -> None:
    """Columns are told apart if there is one candidate each; else it asks."""
    rows = [f"{i},c{i % 7},2026-01-05 10:{i % 60:02d},{i}.25,{int(i % 9 == 0)}" for i in range(60)]
    proposal, source, profile = mapped(put(tmp_path / "d.csv", "\n".join(rows) + "\n"))
    assert proposal.layout.columns == {"amount": "column_4", "account_id": "column_2"} and not source.rejects.total
    assert (profile.transactions, profile.accounts, profile.frauds) == (60, 7, 7)
    two = [f"{row},m{i % 5}" for i, row in enumerate(rows)]
    with pytest.raises(Question, match="--column account_id=NAME"):
        propose(put(tmp_path / "d.csv", "\n".join(two) + "\n"), Answers(), "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n  \n", "the file is empty"),
        (b"account,amount,time\n", "contains no rows"),
        ("Конто,Сумма\nпривет,1\nмир,2\n".encode("cp1251"), r"neither Unicode nor Windows-1252.*--encoding"),
        (b"\x80\x04pickle", "pickle"),
        (b"PK\x03\x04 broken", "can't be read"),
        (b"GIF89a\x00\x01\x02" + b"x" * 100, "datasets are read from"),
    ],
)
def test_files_that_are_no_tables_are_refused_in_words(content: bytes, message: str, tmp_path: Path) -> None:
    """Nothing, only a header, another alphabet, a pickle, broken or binary files: one clear line each."""
    (tmp_path / "d").write_bytes(content)
    with pytest.raises(BadInput, match=message):
        mapped(tmp_path / "d")


def test_a_column_name_may_be_anything_that_toml_can_quote(tmp_path: Path) -> None:
    """Quotes, backslashes, dots, tabs and emoji in names come back equal from the mapping."""
    names = ['a"ccount', "am\\ount", "time.of\ttx", "is_fraud 😀"]
    rows = [
        dict(zip(names, values, strict=True))
        for values in (("a", "1.5", "2026-01-05", "0"), ("b", "2.5", "2026-01-06", "1"))
    ]
    path = put(tmp_path / "d.jsonl", "\n".join(json.dumps(row) for row in rows))
    said = {"account_id": names[0], "amount": names[1], "time": names[2], "label": names[3]}
    _, _, profile = mapped(path, Answers(columns=said))
    assert (profile.transactions, profile.frauds, profile.amount_total) == (2, 1, 4.0)


def test_damaged_files_never_end_in_a_library_traceback(tmp_path: Path) -> None:
    """Bytes changed, cut, doubled or put in at random: the file loads, or one clear error says what is wrong."""
    rng = random.Random(4)
    ways = [b'"', b";", b"\n", b"\r", b"\0", b"-", b"e5", b"'", b"\xff", b"9" * 20, b"\xed\xa0\x80", b"{", b"]"]
    results = {"loaded": 0, "refused": 0}
    for number in range(150):
        folder = tmp_path / str(number)
        folder.mkdir()
        style = rng.choice(STYLES)
        path, rows = messy_files.write(style, folder, number)
        if path.is_dir() or number % 5 == 0:
            head, *cells = messy_files.table(style, rows)
            path = folder / "d.parquet"
            pl.DataFrame({name: [row[place] for row in cells] for place, name in enumerate(head)}).write_parquet(path)
        content = bytearray(path.read_bytes())
        for _ in range(rng.choice([1, 3, 10])):
            at = rng.randrange(len(content))
            kind = rng.randrange(4)
            if kind == 0:
                content[at] = rng.randrange(256)
            elif kind == 1:
                del content[at : at + rng.randrange(1, 30)]
            elif kind == 2:
                content[at:at] = rng.choice(ways)
            else:
                content[at:at] = content[rng.randrange(len(content)) :][: rng.randrange(60)]
        path.write_bytes(bytes(content))
        try:
            mapped(path)
            results["loaded"] += 1
        except BadInput:
            results["refused"] += 1
    assert min(results.values()) > 20
