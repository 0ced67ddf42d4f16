"""A file's other columns become attributes and typed fields: the way from a wide file to a program's own columns."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from console import cli
from core.errors import BadInput
from core.program.loading import check
from core.validation import decode_transaction
from sources import wide
from sources.datasets import DatasetSource, mapping
from sources.datasets.detect.own_fields import ALL, measured, name_of, program_text, with_attributes
from sources.datasets.detect.propose import Proposal, propose
from sources.datasets.detect.questions import Answers
from sources.datasets.detect.toml_text import text

SMALL = """id,customer,amount,time,Fraud?,Größe (cm),class,v1,V 1,note,empty,count,amount_sent
t1,a,10.50,2026-01-01 10:00:00,0,1.5,gold,1,007,x1,,3,9
t2,b,20.00,2026-01-01 11:00:00,1,,silver,2,008,x2,,4,9
t3,a,30.25,2026-01-01 12:00:00,0,2.5,gold,3,009,x3,,5,9
"""


def proposed(path: Path) -> Proposal:
    columns = {"transaction_id": "id", "account_id": "customer", "label": "Fraud?"}
    return propose(path, Answers(columns=columns), "shop")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "shop.csv"
    path.write_text(SMALL)
    return path


def test_unused_columns_become_attributes_and_fields(small: Path) -> None:
    """All that is no ID, time, amount or label; names that a program may use; numbers only where all values are."""
    proposal = with_attributes(proposed(small), small, [ALL])
    names = {"gr_e_cm": "Größe (cm)", "class": "class", "v1": "v1", "v_1": "V 1", "note": "note", "empty": "empty"}
    assert proposal.layout.attributes == names | {"count": "count", "amount_sent": "amount_sent"}
    assert mapping.parse(text(proposal, "shop.csv"), "shop") == proposal.layout
    source = DatasetSource(proposal.layout, small)
    written, unsure = program_text("shop", measured(source))
    fields = check(written.encode()).checked.fields
    assert {name: (field.attribute, field.type) for name, field in fields.items()} == {
        "gr_e_cm": ("gr_e_cm", "number"),
        "class": ("class", "string"),
        "v1": ("v1", "number"),
        "v_1": ("v_1", "string"),
        "note": ("note", "string"),
        "count_sent": ("count", "number"),
        "amount_sent_sent": ("amount_sent", "number"),
    }
    assert any(each.startswith("empty: no row has a value") for each in unsure)
    assert any(each.startswith("v1, count_sent: whole numbers") for each in unsure)


def test_single_columns_and_wrong_names(small: Path) -> None:
    """Columns by name; one that does not exist, or is no free one, is refused."""
    assert with_attributes(proposed(small), small, ["note", "v1"]).layout.attributes == {"note": "note", "v1": "v1"}
    for wanted in (["nothing"], ["amount"], ["Fraud?"]):
        with pytest.raises(BadInput, match="is no column of the file, or is sent already"):
            with_attributes(proposed(small), small, wanted)
    again = with_attributes(with_attributes(proposed(small), small, ["note"]), small, ["note", "v1"])
    assert again.layout.attributes == {"note": "note", "v1": "v1"}
    plain = DatasetSource(proposed(small).layout, small)
    with pytest.raises(BadInput, match="no fields to declare"):
        program_text("shop", measured(plain))


def test_names_of_columns() -> None:
    """Lower case, letters first, no longer than a name may be."""
    assert [name_of(each) for each in ("V1", "id_01", "Größe (cm)", "2nd", "", "ÄÖ", "x" * 99)] == [
        "v1", "id_01", "gr_e_cm", "x_2nd", "x", "x", "x" * 60,
    ]  # fmt: skip


def test_text_that_nearly_never_repeats_is_a_pseudonym(tmp_path: Path) -> None:
    """What may name somebody is declared as personal data, and said."""
    rows = "\n".join(f"t{n},a{n % 9},1.5,2026-01-01 10:{n % 60:02}:00,0,person {n},kind {n % 3}" for n in range(300))
    path = tmp_path / "people.csv"
    path.write_text("id,customer,amount,time,Fraud?,name,kind\n" + rows + "\n")
    proposal = with_attributes(proposed(path), path, ["name", "kind"])
    written, unsure = program_text("people", measured(DatasetSource(proposal.layout, path)))
    fields = check(written.encode()).program.fields
    assert {name: field.personal for name, field in fields.items()} == {"name": "pseudonym", "kind": "none"}
    assert unsure == [each for each in unsure if each.startswith("name: nearly every row has another value")]


def test_the_full_layout_of_ieee_cis_is_sent(tmp_path: Path) -> None:
    """Every column of both files that is no ID or label is an attribute with a typed field; the messages pass the edge,
    and gaps are left out.
    """
    wide.write(tmp_path, 400, 3)
    proposal = propose(tmp_path, Answers(), "x")
    assert proposal.known == "ieee-cis"
    proposal = with_attributes(proposal, tmp_path, [ALL])
    given = set(pl.read_csv(tmp_path / wide.TRANSACTION).columns) | set(pl.read_csv(tmp_path / wide.IDENTITY).columns)
    sent = set(proposal.layout.attributes.values())
    assert given - sent == {"TransactionID", "isFraud", "TransactionDT", "TransactionAmt", "ProductCD", "DeviceInfo"}
    source = DatasetSource(proposal.layout, tmp_path)
    written, _ = program_text("ieee", measured(source))
    fields = check(written.encode()).checked.fields
    assert len(fields) == len(sent) == 428
    kinds = {field.attribute: field.type for field in fields.values()}
    assert {kinds[name] for name in ("m1", "payer_email_domain", "id_31", "device_type")} == {"string"}
    assert {kinds[name] for name in ("card1", "d1", "v339", "dist2", "id_01")} == {"number"}
    seen: set[str] = set()
    for record in (r for chunk in source.records() for r in chunk if r.topic == "transactions"):
        found = decode_transaction(record.value, record.key.encode())
        assert all((type(value) is str) == (kinds[name] == "string") for name, value in found.attributes.items())
        assert len(found.attributes) < 428
        seen |= found.attributes.keys()
    assert seen == set(kinds)


def test_the_synthetic_files_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    """Seeded: equal bytes, other bytes for another seed, frauds among them."""
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        wide.write(tmp_path / name, 2000, seed)
    files = {name: (tmp_path / name / wide.TRANSACTION).read_bytes() for name in "abc"}
    assert files["a"] == files["b"] != files["c"]
    assert 2 < pl.read_csv(tmp_path / "a" / wide.TRANSACTION)["isFraud"].sum() < 200


def test_the_command_writes_both_and_overwrites_no_program(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sentinel map --attributes --program`: the mapping and the program; a program that exists is kept."""
    written, program = tmp_path / "shop.toml", tmp_path / "own.toml"
    options = ["map", str(small), "--column", "transaction_id=id", "--column", "account_id=customer"]
    options += ["--column", "label=Fraud?", "--attributes", "v1,class", "--write", str(written)]
    run = cli.application(["map"])
    run([*options, "--program", str(program), "--json"], prog_name="sentinel", standalone_mode=False)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["attributes"] == {"v1": "v1", "class": "class"}
    assert set(check(program.read_bytes()).checked.fields) == {"v1", "class"}
    before = program.read_bytes()
    with pytest.raises(BadInput, match="exists already"):
        run([*options, "--program", str(program)], prog_name="sentinel", standalone_mode=False)
    assert program.read_bytes() == before
