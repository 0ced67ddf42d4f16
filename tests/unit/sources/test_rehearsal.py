"""A stream run through the edge before it is sent: every finding with its count and its first rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from core.validation import decode_transaction
from sources.catalogue import open_source
from sources.rehearsal import accepted, rehearse
from sources.synthetic import SyntheticConfig, SyntheticStream
from tests.builders.events import fuzz
from tests.builders.payment_rows import HEADER, MAPPING, row


def source(tmp_path: Path, *rows: str, mapping: str = MAPPING, **options: object):  # type: ignore[no-untyped-def]
    """The rows as a dataset under the mapping."""
    (tmp_path / "m.toml").write_text(mapping)
    (tmp_path / "data.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return open_source("custom", tmp_path / "data.csv", mapping=tmp_path / "m.toml", **options)


def test_what_the_edge_would_reject_is_told_with_its_lines(tmp_path: Path) -> None:
    """By reason code, with file and line; the rest would be accepted, and only the rest is sent."""
    long = "x" * 200
    rows = [row(1), row(2, shop=long), row(3), row(4, amount="2e12"), row(5, shop=long)]
    dataset = source(tmp_path, *rows)
    report = rehearse(dataset)
    assert (report.rows, report.rejected) == (5, 3)
    assert {reason: group.count for reason, group in report.rejects.items()} == {"bad_id": 2, "absurd_amount": 1}
    assert [Path(e.where).name for e in report.rejects["bad_id"].examples] == ["data.csv: line 3", "data.csv: line 6"]
    assert "3 of 5 messages would be rejected" in report.refusal() and "data.csv: line 5" in report.refusal()
    sent = [decode_transaction(r.value, r.key.encode(), 0) for chunk in accepted(dataset.records()) for r in chunk]
    assert [t.transaction_id for t in sent] == ["t1", "t3"]


def test_repeated_ids_are_told_apart_by_content(tmp_path: Path) -> None:
    """An equal row is a duplicate, another content a conflict, another account shares the ID."""
    rows = [row(1, name="x"), row(1, name="x"), row(1, name="x", amount="11"), row(1, name="x", amount="11")]
    rows += [row(2, name="x", account="a2"), row(3), row(4, account="a2", name="t3")]
    report = rehearse(source(tmp_path, *rows))
    assert (report.duplicates.count, report.conflicts.count, report.shared_ids.count) == (2, 1, 2)
    assert [Path(e.where).name for e in report.duplicates.examples] == ["data.csv: line 3", "data.csv: line 5"]
    assert report.conflicts.examples[0].where.endswith("data.csv: line 4")
    assert report.rejected == 0
    text = "\n".join(report.lines())
    assert "2 × repeats an earlier row" in text and "data.csv: line 3: transaction x of account a1" in text


def test_values_that_differ_in_spelling_only_are_told(tmp_path: Path) -> None:
    """Case, white space and forms of characters: to the edge these are different accounts and merchants."""
    rows = [row(1, "Acct-1", shop="SHOP-66"), row(2, "acct-1", shop="shop-66"), row(3, "acct-2", shop="Shop\u201366")]
    spellings = rehearse(source(tmp_path, *rows)).spellings
    assert {column: group.count for column, group in spellings.items()} == {"account_id": 1, "merchant_id": 2}
    assert spellings["account_id"].examples[0].detail == "'Acct-1', 'acct-1'"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=25))
@fuzz(max_examples=60)
def test_repeats_are_counted_as_a_plain_fold_counts_them(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, int, int]]
) -> None:
    """Duplicates, conflicts and shared IDs equal those of one dictionary over the rows in order."""
    rows = [f"t{t},a{a},{10 + amount},2026-03-01T10:00:00Z,m,0" for t, a, amount in drawn]
    report = rehearse(source(tmp_path_factory.mktemp("rows"), *rows))
    known: dict[tuple[int, int], set[int]] = {}
    duplicates = conflicts = 0
    for transaction, account, amount in drawn:
        contents = known.setdefault((transaction, account), set())
        duplicates += amount in contents
        conflicts += bool(contents) and amount not in contents
        contents.add(amount)
    shared = sum(len({a for t, a in known if t == transaction}) > 1 for transaction in range(4))
    assert (report.duplicates.count, report.conflicts.count, report.shared_ids.count) == (duplicates, conflicts, shared)


def test_a_stream_of_ours_has_no_findings() -> None:
    """The synthetic stream passes the edge whole, its verdicts included."""
    stream = SyntheticStream(SyntheticConfig(transactions=3_000, fraud_rate=0.05), flush_feedback=True)
    report = rehearse(stream)
    assert (report.rows, report.rejected, report.duplicates.count, report.conflicts.count) == (3_000, 0, 0, 0)
    assert report.verdicts > 50 and not report.spellings
    assert report.lines() == [f"edge: {3_000 + report.verdicts:,} of {3_000 + report.verdicts:,} messages would be"
                              " accepted, 0 rejected"]  # fmt: skip


def test_an_empty_source_is_bad_input(tmp_path: Path) -> None:
    """A file without rows is refused when it is opened."""
    with pytest.raises(BadInput, match="no transactions"):
        source(tmp_path)
