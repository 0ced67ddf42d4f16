"""Logs of other releases: their libraries' texts decide as they are stored; what is not to be had is counted."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from core import verification
from core.context import Resolver
from core.control_stream import history
from core.errors import BadInput, Corrupt
from core.identity import FIXED
from core.log.memory import MemoryLog
from core.program import document, library, loading
from core.program.document import Feature, Program, Rule
from core.program.language import identity
from core.program.shipped import KERNEL_COLUMNS, LIBRARIES
from core.program.typed import Column
from core.replay import Timeline
from core.verification import Verification
from ingest.offline import OfflineIngest
from models.artifacts import load_scorer
from tests.builders.logs import decode_score, entries, records

PARTITIONS = 2


def past_text() -> Program:
    """standard@1 as another release might have had it: payments above 20 are reviewed, and two rules are gone."""
    shipped = library.library(LIBRARIES["standard@1"]).program
    kept = tuple(rule for rule in shipped.rules if rule.code not in ("AMOUNT_HIGH", "VELOCITY_24H"))
    own = Rule(code="ABOVE_20", when="amount > 20", effect="review", words="{amount:,.2f}")
    return msgspec.structs.replace(shipped, rules=(*kept, own))


def using(text: Program) -> Program:
    return Program(name="default", version="1.0.0", uses={"standard@1": document.digest(text)})


def past_log() -> MemoryLog:
    """A log that a release with this text created and decided."""
    log = MemoryLog()
    program = using(past_text())
    log.put_blob(document.canonical(past_text()))
    log.put_blob(document.canonical(program))
    identity = FIXED._replace(program=document.digest(program))
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_scorer), partitions=PARTITIONS, identity=identity)
    ingest.feed(records(3, 400))
    ingest.flush()
    return log


def verified(log: MemoryLog) -> list[Verification]:
    timeline = Timeline(history(log), Resolver(log.get_blob, load_scorer))
    return [verification.verify(log, p, log.head(p), timeline) for p in range(PARTITIONS)]


def test_a_program_is_decided_by_the_text_that_the_log_stores() -> None:
    """Not by the text of the same name that this release ships: rules that only the log's text has hit again."""
    log = past_log()
    hits = {
        code
        for p in range(PARTITIONS)
        for each in entries(log, p, "scores")
        for code in decode_score(each.payload).rules
    }
    assert "ABOVE_20" in hits and "AMOUNT_HIGH" not in hits
    found = verified(log)
    assert sum(v.identical for v in found) == sum(v.decisions for v in found) > 100


def test_a_lost_library_is_not_a_difference() -> None:
    """Without the blob of the library, its program's decisions can't be made again, and the reason names it."""
    log = past_log()
    log.tamper_blob(document.digest(past_text()), None)
    found = verified(log)
    assert not any(v.first_difference for v in found) and sum(v.identical for v in found) == 0
    reasons = {why for v in found for why in v.undecidable}
    assert all(document.digest(past_text()) in why for why in reasons) and reasons
    assert sum(sum(v.undecidable.values()) for v in found) == sum(v.decisions for v in found) > 100


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (Program("standard", "1.0.0", features={"count_10m": Feature("count(account, '1h')")}), "otherwise than this"),
        (Program("standard", "1.0.0", features={"no_column": Feature("amount * 2")}), "otherwise than this engine"),
        (Program("standard", "1.0.0", features={"lost": Feature("typical_hour()")}), "typical_hour"),
        (Program("another", "1.0.0"), "another@1.0.0, not standard@1"),
        (Program("standard", "2.0.0"), "standard@2.0.0, not standard@1"),
    ],
)
def test_a_library_that_this_engine_does_not_know_is_refused(text: Program, words: str) -> None:
    """A feature that the kernel computes otherwise, or not at all, makes its programs undecidable here."""
    program = using(text)
    blobs = {hashlib.sha256(each).hexdigest(): each for each in map(document.canonical, (text, program))}
    with pytest.raises(Corrupt, match=words):
        loading.load(document.digest(program), blobs.__getitem__)


def test_a_library_must_be_the_one_that_the_program_names() -> None:
    """Another text under its SHA-256 is refused; without a log, only shipped libraries are known."""
    program = using(past_text())
    blobs = {document.digest(program): document.canonical(program), document.digest(past_text()): b"{}"}
    with pytest.raises(Corrupt, match="not the one that the program names"):
        loading.load(document.digest(program), blobs.__getitem__)
    with pytest.raises(Corrupt, match="not part of this release"):
        loading.of_program(program)
    with pytest.raises(BadInput, match="no library"):
        library.digest_of("standard@2")


def test_the_kernels_columns_belong_to_the_engine() -> None:
    """Their identities don't come from the shipped text, but agree with it."""
    shipped = library.library(LIBRARIES["standard@1"])
    defined = {identity(each): name for name, each in shipped.expressions.items()}
    defined |= {identity(Column("number", "field", "amount")): "amount"}
    assert len(KERNEL_COLUMNS) == 36 and KERNEL_COLUMNS.items() <= defined.items() <= library.kernel().items()
