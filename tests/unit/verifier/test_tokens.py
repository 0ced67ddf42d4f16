"""Proofs of a log with tokens: they hold no raw identifier, and hold after an erasure."""

from __future__ import annotations

from pathlib import Path

from sentinel_verify import cli
from sentinel_verify.checkpoint import Key

from tests.builders.proofs import corpus
from tests.builders.tokened import PARTITIONS, Tokened


def test_a_proof_outlives_an_erasure(tmp_path: Path) -> None:
    """What was given out before is still verified, and what is proved afterwards is the same record."""
    on = Tokened(tmp_path, accounts=6)
    before = corpus(on.log, PARTITIONS)
    place = next(place for place, _ in before.decisions())
    content = before.proof(place, whole_control=True)
    first = cli.verify(content, [Key.parse(before.key)])
    assert first["verified"] and first["level"] == 2, first
    assert b"person-" not in content and b"example.com" not in content
    on.erase(*(f"person-{n}" for n in range(6)))
    on.pay(["person-7"])
    after = corpus(on.log, PARTITIONS)
    second = cli.verify(after.proof(place, whole_control=True), [Key.parse(after.key)])
    assert second["verified"] and second["decision"] == first["decision"]
    assert cli.verify(content, [Key.parse(before.key)]) == first
