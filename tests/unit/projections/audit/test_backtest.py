"""Backtests: what was decided comes out again from stored columns and by a fold, and changes show where they must."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from console.wiring import load_scorer
from core.codec import decode_score, decode_seal, decode_transaction
from core.context import Resolver
from core.control_stream import history, identity_of
from core.errors import Corrupt
from core.events import START
from core.log.archive import archiver, column_reading
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.base import EventLog
from core.log.memory import MemoryLog
from core.program import loading
from core.program.deciding import Program
from core.program.library import kernel
from core.program.plan import Plan, plan
from core.replay import Timeline
from projections.audit.backtest import Backtest
from projections.audit.column_fold import ColumnFold, NotByColumns
from projections.audit.stored_batch import NotStored, decisions_of
from projections.audit.stored_tables import Rows, parts
from projections.audit.tally import Tally
from projections.audit.whatif import Scope
from projections.labelling.reader import LabelReader
from tests.builders import switches
from tests.builders.baseline_log import PARTITIONS, decided
from tests.builders.logs import entries
from tests.builders.programs import CARDS

EVERYTHING = Scope()


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return decided()


def archived(hot: MemoryLog, directory: Path) -> ArchivedLog:
    """The log with nearly all of it in an archive, and the rest hot."""
    found = ArchivedLog(hot, open_archive(str(directory)))
    for p in range(PARTITIONS):
        seals = entries(hot, p, "seals")
        until = decode_seal(seals[len(seals) * 4 // 5].payload).recorded_at
        archiver.archive_partition(found.hot, found.archive, p, recorded_until=until, segment_transactions=400)
    assert 0 < found.archive.count(0, "scores") <= hot.length(0, "scores")
    return found


def backtest(log: EventLog, program: Plan) -> Backtest:
    return Backtest(log, history(log), program, LabelReader(log, range(PARTITIONS)).view())


def stored(log: EventLog, program: Plan, scope: Scope = EVERYTHING) -> Tally:
    test = backtest(log, program)
    found = [test.run(p, log.head(p), scope) for p in range(PARTITIONS)]
    return sum(found[1:], found[0])


def folded(log: EventLog, program: Plan, scope: Scope = EVERYTHING) -> Tally:
    test = backtest(log, program)
    timeline = Timeline(history(log), Resolver(log.get_blob, load_scorer))
    found = [test.run_fold(p, log.head(p), scope, timeline) for p in range(PARTITIONS)]
    return sum(found[1:], found[0])


def computed(log: EventLog, program: Plan, scope: Scope = EVERYTHING) -> Tally:
    """With new features from columns."""
    test = backtest(log, program)
    found = [test.run_columns(p, log.head(p), scope) for p in range(PARTITIONS)]
    return sum(found[1:], found[0])


def default() -> Plan:
    return plan(loading.default().checked, kernel())


def of(text: str) -> Plan:
    return plan(loading.check(text.encode()).checked, kernel())


CHANGED = """
[program]
name = "changed"
version = "1.0.0"
uses = ["standard@1"]

[parameters]
big = 150

[[rules]]
code = "BIG"
when = "amount >= big && count_24h >= 1"
effect = "review"

[[rules]]
code = "QUIET"
when = "country in list('watch') || merchant_is_new"
effect = "decline"
mode = "shadow"

[[rules]]
code = "PARTLY"
when = "amount > 50"
effect = "decline"
rollout = 30
"""


def total(by: Mapping[int, NDArray[np.float64]], codes: int = 0) -> NDArray[np.float64]:
    """Counts of all days; zeros for so many rules if there are none."""
    found: NDArray[np.float64] = np.sum([each[0] for each in by.values()] or [np.zeros((codes, 4))], axis=0)
    return found


def check_nothing_changes(log: EventLog, found: Tally) -> None:
    """Every decision, severity and hit is that of the log."""
    cube = total(found.days).sum(axis=2)
    scores = [decode_score(e.payload) for p in range(PARTITIONS) for e in entries(log, p, "scores")]
    assert cube.sum() == np.trace(cube) == len(scores) > 1000
    assert [int(cube[k, k]) for k in range(3)] == [
        sum(score.decision == name for score in scores) for name in ("approve", "review", "decline")
    ]
    assert found.regraded == 0 and found.stricter == found.milder == []
    live = total(found.hits, len(found.codes)).sum(axis=1)
    quiet = total(found.quiet, len(found.codes)).sum(axis=1)
    for k, code in enumerate(found.codes):
        assert live[k] == sum(code in score.rules for score in scores), code
        assert quiet[k] == sum(code in score.shadow_rules for score in scores), code
        assert live[k] == sum(found.before.get(code, np.zeros(4))), code


def test_the_program_in_force_reproduces_every_decision(log: MemoryLog, tmp_path: Path) -> None:
    """Parameters, lists, switched-off rules and thresholds changed on the way: decisions, severities and hits from the
    columns of hot log and archive, and by a fold, are those that were logged.
    """
    check_nothing_changes(log, stored(log, default()))
    check_nothing_changes(log, folded(log, default()))
    check_nothing_changes(log, stored(archived(log, tmp_path), default()))


def test_a_changed_program_is_judged_from_columns_as_by_the_live_path(log: MemoryLog) -> None:
    """New rules with lists, shadow mode and a roll-out: stored columns and a fold count exactly the same."""
    columns, fold = stored(log, of(CHANGED)), folded(log, of(CHANGED))
    assert same(columns, fold)
    assert len(columns.stricter) == 10 and total(columns.quiet).sum() > 20
    place = columns.codes.index("BIG")
    expected = sum(
        decode_transaction(e.payload).amount >= 150 for p in range(PARTITIONS) for e in entries(log, p, "transactions")
    )
    assert 0 < total(columns.hits)[place].sum() < expected


def same(one: Tally, other: Tally) -> bool:
    def equal(a: dict, b: dict) -> bool:  # type: ignore[type-arg]
        return a.keys() == b.keys() and all(np.allclose(a[key], b[key], rtol=1e-12) for key in a)

    counted = equal(one.days, other.days) and equal(one.hits, other.hits) and equal(one.quiet, other.quiet)
    lists = (one.stricter, one.milder, one.regraded) == (other.stricter, other.milder, other.regraded)
    return counted and lists and equal(one.before, other.before) and bool((one.overlap == other.overlap).all())


def test_own_features_are_read_where_the_logged_program_stores_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program with aggregates of its own decisions: its logged decisions come out again from the columns, and a
    renamed feature of the same definition is the same feature.
    """
    log = switches.decided(monkeypatch, switches.stream(1200), 300, {0.0: "deploy"})
    check_nothing_changes(log, stored(log, of(CARDS.decode())))
    renamed = CARDS.decode().replace("spread", "variation").replace('name = "cards"', 'name = "other"')
    check_nothing_changes(log, stored(log, of(renamed)))


def test_a_feature_that_no_score_stores_is_named(log: MemoryLog) -> None:
    """Columns can't tell what was never stored; the error names the feature, and a fold judges the program."""
    with pytest.raises(NotStored, match="spread"):
        stored(log, of(CARDS.decode()))
    found = folded(log, of(CARDS.decode()))
    assert total(found.hits)[found.codes.index("PARTLY")].sum() > 5


CONDITIONS = (
    "amount >= {a}",
    "count_10m >= {k} || country in list('watch')",
    "merchant_is_new && amount_to_mean_30d >= 1.5",
    "hour < 6 && !device_is_new",
    "channel == 'online' && count_24h > {k}",
    "currency == 'EUR' && merchant_id in list('block')",
    "id_conflict || amount_sent > {a} + 100",
)
OVERRIDES = ("VELOCITY_10M", "VELOCITY_24H", "NEW_MERCHANT", "UNUSUAL_HOUR", "AMOUNT_VS_AVERAGE", "RECENT_FRAUD")
DECISIONS = (
    "",
    "[decision]\nreview = 'probability >= 0.35'",
    "[decision]\nreview = \"hit('NEW_0') && probability >= 0.2\"\ndecline = 'reviews >= 2'",
    "[decision.severity]\ncritical = \"hit('VELOCITY_24H') && amount >= 80\"",
    "[decision.severity]\nhigh = 'reviews >= 1 && count_24h >= 2'\nmedium = \"probability >= 0.1\"",
)


def random_program(seed: int) -> Plan:
    """standard@1 with other parameters, changed and removed rules, new ones, and another decision or severity."""
    random = Random(seed)
    text = f"[program]\nname = 'random-{seed}'\nversion = '1.0.0'\nuses = ['standard@1']\n"
    if random.random() < 0.5:
        text += f"[parameters]\nvelocity_24h = {random.randint(2, 12)}\nratio_high = {random.randint(2, 9)}\n"
    for code in random.sample(OVERRIDES, random.randint(0, 3)):
        change = random.choice(
            (
                "effect = 'review'",
                "effect = 'allow'",
                "mode = 'shadow'",
                "mode = 'off'",
                "rollout = 40",
                "mode = 'live'",
            )
        )
        text += f"[[rules]]\ncode = '{code}'\n{change}\n"
    for k in range(random.randint(0, 3)):
        when = random.choice(CONDITIONS).format(a=random.randint(20, 200), k=random.randint(1, 4))
        effect, mode = random.choice(("flag", "review", "decline", "allow")), random.choice(("live", "live", "shadow"))
        text += f'[[rules]]\ncode = "NEW_{k}"\nwhen = "{when}"\neffect = "{effect}"\nmode = "{mode}"\n'
        if mode == "live" and random.random() < 0.3:
            text += "rollout = 55\n"
    decision = random.choice(DECISIONS)
    return of(text + (decision if "NEW_0" in text or "NEW_0" not in decision else ""))


def test_random_programs_are_judged_from_columns_as_by_the_live_path(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten random changes: columns of the archive in several threads, every decision judged again, and a fold give
    the same counts and the same changes.
    """
    partly = archived(log, tmp_path)
    different = 0
    for seed in range(10):
        program = random_program(seed)
        quick, fold = stored(partly, program), folded(log, program)
        with monkeypatch.context() as patch:
            patch.setattr("projections.audit.stored.decides_alike", lambda *_: False)
            slow = stored(partly, program)
        assert same(quick, fold) and same(quick, slow), seed
        different += len(quick.stricter) + len(quick.milder) + quick.regraded > 0
    assert different >= 5


FEATURES = (
    "count(account, '{w}', decision == 'decline')",
    "sum(account, '{w}', amount, merchant_category == 'electronics')",
    "std(account, '{w}', amount)",
    "share(account, '{w}', alerted)",
    "count(account_merchant, '{w}')",
    "distinct(account, '{w}', merchant_id, amount > 20)",
    "since(account, hit('VELOCITY_24H') || decision == 'review')",
    "default(decayed(account, '{w}', amount), 0) + count_24h",
    "is_new(account, country, 3)",
    "count(account, '{w}', verdict == 'fraud')",
    "count(account, '{w}', country == 'FR' || hour < 6)",
)


def with_new_features(seed: int) -> Plan:
    """standard@1 with aggregates of its own, whose rules change decisions, and so what aggregates count."""
    random = Random(seed)
    text = f"""[program]
name = 'folded-{seed}'
version = '1.0.0'
uses = ['standard@1']
[entities]
account_merchant = ['account_id', 'merchant_id']
[features]
"""
    chosen = random.sample(FEATURES, 3)
    for k, feature in enumerate(chosen):
        text += f'f{k} = "{feature.format(w=random.choice(("1h", "24h", "7d")))}"\n'
    for k, feature in enumerate(chosen):
        name = f"f{k}" if "is_new" in feature else f"default(f{k}, 0) > {random.choice((0, 0.2, 1, 3))}"
        effect = random.choice(("flag", "review", "decline", "allow"))
        text += (
            f'[[rules]]\ncode = "NEW_{k}"\nwhen = "{name} && amount > {random.randint(5, 60)}"\neffect = "{effect}"\n'
        )
    return of(text)


def test_new_features_are_computed_from_columns_as_by_the_live_path(log: MemoryLog, tmp_path: Path) -> None:
    """Random programs with new aggregates, also of their own decisions, and composite entities: what columns of
    archive and hot log give is what the live path decides.
    """
    partly = archived(log, tmp_path)
    different = 0
    for seed in range(4):
        program = with_new_features(seed)
        fold = folded(log, program)
        assert same(computed(partly, program), fold), seed
        different += len(fold.stricter) + len(fold.milder) > 0
    assert different >= 3
    assert same(computed(partly, of(CARDS.decode())), folded(log, of(CARDS.decode())))


def test_what_columns_cannot_tell_is_said(log: MemoryLog) -> None:
    """A partition that may have evicted accounts is left to the live path."""
    fold = ColumnFold(Program(of(CARDS.decode()), identity_of(log).key, {}), [], [], 3)
    rows = Rows.of(next(parts(log, 0, START, log.head(0).transactions, EVERYTHING)), (), {})
    with pytest.raises(NotByColumns, match="evicted"):
        fold.part(rows, [])


def test_columns_that_name_no_value_are_refused() -> None:
    """What kernels would trust is checked before: an index beyond its dictionary, and a decision that is none."""
    beyond = pa.DictionaryArray.from_arrays(pa.array([0, 7], pa.int32()), pa.array(["approve"]), safe=False)
    for column in (pa.chunked_array([beyond]), pa.chunked_array([pa.array(["approve", "perhaps"])])):
        with pytest.raises(Corrupt):
            decisions_of(column)


def test_row_groups_of_other_times_are_not_read(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A range of time reads the row groups that may hold it, and counts what the whole archive counts in it."""
    partly = archived(log, tmp_path)
    first = min(stored(log, default()).days) * 86_400_000
    scope = Scope(start_ms=first + 3 * 86_400_000, end_ms=first + 4 * 86_400_000)
    read: list[int] = []
    actual = column_reading.may_hold
    monkeypatch.setattr(column_reading, "may_hold", lambda *of: read.append(actual(*of)) or read[-1])
    found = stored(partly, of(CHANGED), scope)
    assert 0 < sum(read) < len(read) / 2
    assert same(found, stored(log, of(CHANGED), scope)) and len(found.days) == 1


def test_a_range_is_a_part_of_the_whole(log: MemoryLog) -> None:
    """Ranges of time that meet add up to the whole."""
    middle = 10 * 86_400_000 + min(stored(log, default()).days) * 86_400_000
    halves = stored(log, of(CHANGED), Scope(end_ms=middle)), stored(log, of(CHANGED), Scope(start_ms=middle))
    assert all(half.days for half in halves)
    assert same(halves[0] + halves[1], stored(log, of(CHANGED)))


def test_what_can_not_be_decided_here_is_counted_and_the_rest_judged() -> None:
    """Decisions of another engine are no changes, from columns or by a fold; they are counted by reason."""
    log = decided()
    forged = 0
    for p in range(PARTITIONS):
        for entry in entries(log, p, "scores")[10:60]:
            log.tamper(p, "scores", entry.id, entry.payload.replace(b'"engine":1', b'"engine":2'))
            forged += 1
    whole = sum(log.length(p, "scores") for p in range(PARTITIONS))
    for found in (stored(log, default()), folded(log, default())):
        assert found.undecidable == {"decided by engine 2; this release runs engine 1": forged}
        cube = total(found.days).sum(axis=2)
        assert cube.sum() == np.trace(cube) == whole - forged


def test_a_lost_program_is_counted_and_the_rest_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the program that decided is lost, stored columns can't be read; a backtest judges the other decisions."""
    log = switches.decided(monkeypatch, switches.stream(600), 100, {0.3: "deploy", 0.6: "rollback"})
    digest = loading.check(CARDS).digest
    lost = sum(
        decode_score(e.payload).program == digest[:16]
        for p in range(switches.PARTITIONS)
        for e in entries(log, p, "scores")
    )
    log.tamper_blob(digest, None)
    for found in (stored(log, default()), folded(log, default())):
        assert sum(found.undecidable.values()) == lost > 100
        assert all(digest[:16] in why for why in found.undecidable)
        assert total(found.days).sum() == sum(log.length(p, "scores") for p in range(PARTITIONS)) - lost
