"""Datasets as sources: each public layout on a small file in its published form, bad files, and the real handbook."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from core import codec, validation
from core.errors import BadInput
from core.events import FeedbackReceived, Transaction
from core.times import DAY_MS, parse_iso
from sources.catalogue import SOURCE_NAMES, open_source
from sources.datasets.reader import BATCH_ROWS
from sources.source import Source

DATA = Path(os.environ.get("SENTINEL_DATA", Path(__file__).parents[4] / "shared" / "data"))
HANDBOOK = DATA / "handbook" / "transactions.parquet"

SPARKOV = """,trans_date_trans_time,cc_num,merchant,category,amt,first,last,gender,street,city,state,zip,lat,long,\
city_pop,job,dob,trans_num,unix_time,merch_lat,merch_long,is_fraud
0,2019-01-01 00:00:18,2703186189652095,"fraud_Rippin, Kub and Mann",misc_net,4.97,A,B,F,1 Road,Town,NC,28654,36.0788,\
-81.1781,3495,Clerk,1988-03-09,0b242abb623afc578575680df30655b9,1325376018,36.011293,-82.048315,0
1,2019-01-01 00:00:44,630423337322,fraud_Heller,grocery_pos,107.23,A,B,F,2 Road,Town,WA,99160,48.8878,-118.2105,149,\
Clerk,1978-06-21,1f76529f8574734946361c461b024d99,1325376044,49.159047,-118.186462,1
"""
PAYSIM = """step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud,\
isFlaggedFraud
1,PAYMENT,9839.64,C1231006815,170136.0,160296.36,M1979787155,0.0,0.0,0,0
1,TRANSFER,181.0,C1305486145,181.0,0.0,C553264065,0.0,0.0,1,0
1,CASH_OUT,181.0,C840083671,181.0,0.0,C38997010,21182.0,0.0,1,0
1,DEBIT,5337.77,C712410124,41720.0,36382.23,C195600860,41898.0,40348.79,0,0
2,PAYMENT,11668.14,C2048537720,41554.0,29885.86,M1230701703,0.0,0.0,0,0
"""
BANKSIM = """step,customer,age,gender,zipcodeOri,merchant,zipMerchant,category,amount,fraud
0,'C1093826151','4','M','28007','M348934600','28007','es_transportation',4.55,0
0,'C352968107','2','M','28007','M348934600','28007','es_transportation',39.68,0
1,'C2054744914','U','E','28007','M1823072687','28007','es_health',26.89,1
"""
CREDITCARD = (
    '"Time",'
    + ",".join(f'"V{i}"' for i in range(1, 29))
    + ',"Amount","Class"\n'
    + "0,"
    + ",".join(str(i / 10) for i in range(28))
    + ',149.62,"0"\n'
    + "1.5,"
    + ",".join(str(-i / 10) for i in range(28))
    + ',2.69,"1"\n'
)
IEEE_TRANSACTION = """TransactionID,isFraud,TransactionDT,TransactionAmt,ProductCD,card1,card2,card3,card4,card5,card6,\
addr1,addr2,dist1,dist2,P_emaildomain,R_emaildomain,C1,D1,M1,V1
2987000,0,86400,68.5,W,13926,,150.0,discover,142.0,credit,315.0,87.0,19.0,,,,1.0,14.0,T,1.0
2987001,1,86401,29.0,H,2755,404.0,150.0,mastercard,102.0,credit,325.0,87.0,,,gmail.com,,1.0,0.0,,
2987002,0,172801,59.0,H,13926,490.0,150.0,discover,166.0,debit,315.0,87.0,287.0,,outlook.com,,1.0,15.0,T,1.0
"""
IEEE_IDENTITY = """TransactionID,id_01,id_02,id_31,DeviceType,DeviceInfo
2987001,0.0,70787.0,samsung browser 6.2,mobile,SAMSUNG SM-G892A Build/NRD90M
"""


def transactions(source: Source) -> list[Transaction]:
    """The decoded transactions, each through the strict edge with its key and timestamp."""
    records = [r for chunk in source.records() for r in chunk if r.topic == "transactions"]
    return [validation.decode_transaction(r.value, r.key.encode(), r.timestamp) for r in records]


def verdicts(source: Source) -> list[FeedbackReceived]:
    records = [r for chunk in source.records() for r in chunk if r.topic == "feedback"]
    return [v for v in (codec.decode_account_event(r.value) for r in records) if isinstance(v, FeedbackReceived)]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_sparkov_rows_become_transactions(tmp_path: Path) -> None:
    """Card number as account, transaction number as ID, UTC times, numbers as attributes."""
    source = open_source("sparkov", write(tmp_path / "fraudTrain.csv", SPARKOV))
    first, second = transactions(source)
    assert first == Transaction(
        transaction_id="0b242abb623afc578575680df30655b9",
        account_id="2703186189652095",
        amount=4.97,
        occurred_at=parse_iso("2019-01-01T00:00:18"),
        currency="USD",
        merchant_id="fraud_Rippin, Kub and Mann",
        merchant_category="misc_net",
        country="US",
        card_id="2703186189652095",
        attributes={
            "state": "NC",
            "city_population": 3495.0,
            "home_latitude": 36.0788,
            "home_longitude": -81.1781,
            "merchant_latitude": 36.011293,
            "merchant_longitude": -82.048315,
        },
    )
    assert second.account_id == "630423337322"
    assert source.truth()["is_fraud"].to_list() == [False, True]


def test_paysim_steps_are_spread_over_their_hour(tmp_path: Path) -> None:
    """The rows of one hourly step are spread evenly over it in file order; IDs are the row numbers."""
    source = open_source("paysim", write(tmp_path / "paysim.csv", PAYSIM))
    rows = transactions(source)
    hour = parse_iso("2026-01-01T01:00:00Z")
    assert [t.occurred_at - hour for t in rows] == [0, 900_000, 1_800_000, 2_700_000, 3_600_000]
    assert [t.transaction_id for t in rows] == [f"paysim-{i}" for i in range(5)]
    assert rows[1].account_id == "C1305486145" and rows[1].merchant_id == "C553264065"
    assert rows[1].attributes["balance_before"] == 181.0
    assert source.truth()["is_fraud"].sum() == 2


def test_banksim_quotes_are_removed(tmp_path: Path) -> None:
    """BankSim puts every text in single quotes; a step is a day."""
    rows = transactions(open_source("banksim", write(tmp_path / "bs140513_032310.csv", BANKSIM)))
    assert rows[0].account_id == "C1093826151" and rows[0].merchant_category == "es_transportation"
    assert rows[0].attributes == {"age_group": "4", "gender": "M"}
    assert rows[2].occurred_at - rows[0].occurred_at == DAY_MS


def test_creditcard_has_one_account_and_its_components(tmp_path: Path) -> None:
    """The ULB data name no account, so there is one; V1…V28 are attributes; time counts seconds from the origin."""
    source = open_source("creditcard", write(tmp_path / "creditcard.csv", CREDITCARD), flush_feedback=True)
    rows = transactions(source)
    assert {t.account_id for t in rows} == {"all"}
    assert rows[1].occurred_at == parse_iso("2013-09-01T00:00:00Z") + 1_500
    assert len(rows[0].attributes) == 28 and rows[1].attributes["v28"] == -2.7
    assert [v.transaction_id for v in verdicts(source)] == ["creditcard-1"]


def test_ieee_joins_identity_and_groups_a_card_by_its_first_day(tmp_path: Path) -> None:
    """Rows of one card, address and first day are one account; the device comes from the identity file."""
    write(tmp_path / "train_transaction.csv", IEEE_TRANSACTION)
    write(tmp_path / "train_identity.csv", IEEE_IDENTITY)
    for path in (tmp_path, tmp_path / "train_transaction.csv"):
        rows = transactions(open_source("ieee-cis", path))
        assert [t.account_id for t in rows] == ["13926-315--13", "2755-325-1", "13926-315--13"]
        assert rows[1].device_id == "SAMSUNG SM-G892A Build/NRD90M" and rows[0].device_id == ""
        assert rows[0].occurred_at == parse_iso("2017-12-01T00:00:00Z")
        assert rows[0].attributes == {"card_brand": "discover", "card_type": "credit", "billing_distance": 19.0}
    (tmp_path / "train_identity.csv").unlink()
    with pytest.raises(BadInput, match="train_identity"):
        open_source("ieee-cis", tmp_path)


HANDBOOK_CSV = """TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_TIME_SECONDS,TX_TIME_DAYS,TX_FRAUD,\
TX_FRAUD_SCENARIO
11,2018-04-01 00:10:34,927,9906,50.99,634,0,0,0
10,2018-04-01 00:00:31,596,3156,57.16,31,0,1,3
12,2018-04-03 00:10:34,927,9906,60.0,634,0,0,0
"""


def test_a_file_out_of_order_is_sorted_by_time(tmp_path: Path) -> None:
    """Rows come by event time whatever the file's order; the verdict lies between, after its delay."""
    source = open_source("handbook", write(tmp_path / "h.csv", HANDBOOK_CSV), feedback_delay_days=1)
    records = [record for chunk in source.records() for record in chunk]
    assert [r.topic[0] + r.key for r in records] == ["t596", "t927", "f596", "t927"]
    assert records[2].timestamp - records[0].timestamp == DAY_MS
    assert source.truth()["scenario"].to_list() == ["compromised_card", "", ""]


def test_file_order_does_not_matter_across_batches(tmp_path: Path) -> None:
    """A shuffled file larger than a batch gives the stream of the sorted one."""
    n = BATCH_ROWS + 500
    frame = pl.DataFrame(
        {
            "TRANSACTION_ID": range(n),
            "TX_DATETIME": pl.Series([1_522_540_800_000 + 1_000 * i for i in range(n)]).cast(pl.Datetime("ms")),
            "CUSTOMER_ID": [i % 50 for i in range(n)],
            "TERMINAL_ID": [i % 70 for i in range(n)],
            "TX_AMOUNT": [float(i % 90) for i in range(n)],
            "TX_FRAUD": [int(i % 100 == 0) for i in range(n)],
            "TX_FRAUD_SCENARIO": [int(i % 100 == 0) for i in range(n)],
        }
    )
    frame.write_parquet(tmp_path / "sorted.parquet")
    frame.sample(fraction=1.0, shuffle=True, seed=5).write_parquet(tmp_path / "shuffled.parquet")
    first, second = (
        [r for c in open_source("handbook", tmp_path / name, labels="all").records() for r in c]
        for name in ("sorted.parquet", "shuffled.parquet")
    )
    assert first == second and len(first) >= n


def test_a_folder_is_read_as_one_dataset(tmp_path: Path) -> None:
    """All CSV files of a folder together, by time; a limit keeps the first."""
    write(tmp_path / "b.csv", HANDBOOK_CSV)
    write(tmp_path / "a.csv", HANDBOOK_CSV.replace("2018-", "2019-").replace("\n1", "\n2"))
    source = open_source("handbook", tmp_path, limit=4)
    assert source.total == 4
    assert [t.transaction_id for t in transactions(source)] == ["10", "11", "12", "20"]


def test_a_pickle_is_refused_and_never_loaded(tmp_path: Path) -> None:
    """The handbook's own form, a folder of pickles, is refused by name or content, and the way out is named (I10)."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    folder = tmp_path / "simulated-data-raw"
    folder.mkdir()
    (folder / "2018-04-01.pkl").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "looks.csv").write_bytes(pickle.dumps(Bomb()))
    for path in (folder, folder / "2018-04-01.pkl", tmp_path / "looks.csv"):
        with pytest.raises(BadInput, match=r"pickle.*Parquet or CSV"):
            open_source("handbook", path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", [n for n in SOURCE_NAMES if n not in ("synthetic", "custom", "ieee-cis")])
def test_missing_columns_are_named(name: str, tmp_path: Path) -> None:
    """A file of another kind is refused, with the columns it lacks and those it has."""
    with pytest.raises(BadInput, match=r"missing columns .*; it has foo, bar") as caught:
        open_source(name, write(tmp_path / "x.csv", "foo,bar\n1,2\n"))
    assert caught.value.reason == "missing_columns"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("50.99", "fifty", r"line 2: TX_AMOUNT = 'fifty' is not an amount"),
        ("57.16", "", r"line 3: TX_AMOUNT = '' is not an amount"),
        ("57.16", "NaN", r"line 3: TX_AMOUNT = 'NaN' is not an amount"),
        ("2018-04-01 00:00:31", "yesterday", r"line 3: TX_DATETIME = 'yesterday' is not a time"),
        (",596,", ",,", r"line 3: CUSTOMER_ID = '' is not a usable account_id"),
    ],
)
def test_a_bad_value_is_named_with_its_row(old: str, new: str, message: str, tmp_path: Path) -> None:
    """What can't be converted stops the run with file, row and column, not with a traceback or a silent gap."""
    path = write(tmp_path / "h.csv", HANDBOOK_CSV.replace(old, new))
    with pytest.raises(BadInput, match=message):
        transactions(open_source("handbook", path))


MAPPING = """
name = "mybank"
[columns]
account_id = "customer"
amount = "sum"
merchant_id = "shop"
channel = "how"
[time]
column = "when"
format = "%d.%m.%Y %H:%M"
[label]
column = "bad"
fraud = ["yes"]
[scenario]
column = "why"
[constants]
currency = "CHF"
[prefixes]
account_id = "mb-"
[values.channel]
pos = "card_present"
[attributes]
age = "age"
note = "note"
"""
MYBANK = """when,customer,sum,shop,how,bad,why,age,note
05.01.2026 10:00,007,12.5,s1,pos,no,,41,
05.01.2026 11:00,008,99,s2,web,yes,phish,,hello
05.01.2026 12:00,008,5,,web,,,30,x
"""


def test_any_dataset_by_a_mapping_file(tmp_path: Path) -> None:
    """Columns, time pattern, label values, constants, prefixes, renamed values and attributes all work; zeros stay."""
    mapping = write(tmp_path / "mybank.toml", MAPPING)
    source = open_source(
        "custom", write(tmp_path / "d.csv", MYBANK), mapping=mapping, labels="all", flush_feedback=True
    )
    assert source.name == "mybank"
    rows = transactions(source)
    assert rows[0] == Transaction(
        transaction_id="mybank-0",
        account_id="mb-007",
        amount=12.5,
        occurred_at=parse_iso("2026-01-05T10:00:00"),
        currency="CHF",
        merchant_id="s1",
        channel="card_present",
        attributes={"age": 41.0},
    )
    assert rows[1].channel == "web" and rows[1].attributes == {"note": "hello"}
    assert source.truth()["is_fraud"].to_list() == [False, True, None]
    assert [(v.transaction_id, v.verdict) for v in verdicts(source)] == [
        ("mybank-0", "legitimate"),
        ("mybank-1", "fraud"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('amount = "sum"', 'amunt = "sum"', "unknown field: amunt"),
        ('amount = "sum"', "", "must name the column for amount"),
        ('format = "%d.%m.%Y %H:%M"', 'format = "german"', "time format 'german'"),
        ('column = "when"\n', "", "column"),
        ("[prefixes]", "[prefixs]", "prefixs"),
        ('name = "mybank"', "name = ", "mybank.toml"),
    ],
)
def test_a_wrong_mapping_says_what_is_wrong(old: str, new: str, message: str, tmp_path: Path) -> None:
    """Every mistake in a mapping file is one clear line that names it."""
    mapping = write(tmp_path / "mybank.toml", MAPPING.replace(old, new))
    with pytest.raises(BadInput, match=message):
        open_source("custom", write(tmp_path / "d.csv", MYBANK), mapping=mapping)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("kaggle", {}, "unknown source 'kaggle'; known: synthetic, handbook"),
        ("handbook", {}, "needs the path"),
        ("handbook", {"path": Path("/nonexistent/x.csv")}, "no dataset at"),
        ("custom", {"path": Path("x.csv")}, "custom"),
        ("synthetic", {"limit": 3}, "no path, mapping or limit"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    """A wrong name or option is the caller's fault and says so."""
    with pytest.raises(BadInput, match=message):
        open_source(name, **options)


def test_an_empty_file_and_an_unknown_format_are_refused(tmp_path: Path) -> None:
    """A header alone, nothing at all, a broken spreadsheet and an unknown binary file give a reason each."""
    with pytest.raises(BadInput, match="contains no transactions"):
        open_source("handbook", write(tmp_path / "h.csv", HANDBOOK_CSV.splitlines()[0] + "\n"))
    with pytest.raises(BadInput, match="can't be read"):
        open_source("handbook", write(tmp_path / "e.csv", ""))
    with pytest.raises(BadInput, match="can't be read as an Excel file"):
        open_source("handbook", write(tmp_path / "t.xlsx", "PK"))
    with pytest.raises(BadInput, match=r"Parquet \(.parquet\), CSV"):
        open_source("handbook", write(tmp_path / "t.bin", "GIF89a\0\1\2 and more than a few bytes of text"))


@pytest.mark.skipif(not HANDBOOK.exists(), reason=f"the handbook dataset is not at {HANDBOOK} (set SENTINEL_DATA)")
def test_the_whole_handbook_streams_in_order() -> None:
    """All 1,303,778 transactions in order of time, and every fraud's verdict seven days later if the data reach it."""
    source = open_source("handbook", HANDBOOK)
    assert source.total == 1_303_778
    last = frauds = count = 0
    for chunk in source.records():
        for record in chunk:
            assert record.timestamp >= last
            last = record.timestamp
        count += len(chunk)
        frauds += sum(r.topic == "feedback" for r in chunk)
    truth = source.truth()
    due = truth.filter(pl.col("is_fraud") & (pl.col("occurred_at") + 7 * DAY_MS <= last)).height
    assert (count - frauds, frauds) == (1_303_778, due)
    assert truth["transaction_id"].n_unique() == 1_303_778 and truth["is_fraud"].sum() == 10_659
    first = msgspec.json.decode(next(iter(source.records()))[0].value, type=Transaction)
    assert first == Transaction(
        transaction_id="0",
        account_id="596",
        merchant_id="3156",
        amount=57.16,
        occurred_at=parse_iso("2018-04-01T00:00:31Z"),
    )
