"""Readers of a log that a program with own features and rules decided: words, features, and what would have been."""

from __future__ import annotations

import numpy as np
import pytest

from console.audit_text import decision_lines
from core import control_stream, replay
from core.codec import decode_alert, decode_score
from core.context import Resolver
from core.errors import BadInput, Corrupt, NotDecidable
from core.events import Position
from core.features import packing, spec
from core.log.memory import MemoryLog
from core.program import document, loading
from core.replay import Timeline
from ingest.offline import OfflineIngest
from projections.audit import redecide
from projections.audit.reasons import AlertReader, codes_and_values, in_short
from projections.audit.redecide import DecisionPlace
from projections.audit.story import Story, tell
from projections.audit.whatif import Changes, Outcome, Scope, programs, run
from projections.audit.wording import filled
from tests.builders.events import transaction
from tests.builders.live import NOW, Live
from tests.builders.logs import PARTITIONS, entries, records, tiny_timeline
from tests.builders.models import ARTIFACT, deployed, load_tiny
from tests.builders.own_program import deployment, house, own_log


@pytest.fixture(scope="module")
def live() -> Live:
    """The last payments: very far away, far with a high amount, and a high amount from nobody knows where."""
    at = NOW + 60_000 * 26
    more = [
        transaction(90, account_id="a9", amount=5.0, occurred_at=at, attributes={"dist1": 20_000.0}),
        transaction(
            91, account_id="a8", amount=1500.0, occurred_at=at + 1, attributes={"dist1": 777.0, "shelf": "low"}
        ),
        transaction(92, account_id="a7", amount=2000.0, occurred_at=at + 2),
    ]
    return own_log(more=more)


def place_of(live: Live, name: str) -> DecisionPlace:
    (found,) = (e.id for e, d in zip(entries(live.log, 0, "scores"), live.decided, strict=True)
                if d.transaction.transaction_id == name)  # fmt: skip
    return DecisionPlace(0, found)


def timeline(live: Live) -> Timeline:
    return Timeline(control_stream.history(live.log), Resolver(live.log.get_blob, load_tiny))


def story(live: Live, name: str) -> Story:
    found = redecide.at_place(live.log, place_of(live, name))
    assert found is not None
    return tell(live.log, found, control_stream.history(live.log), timeline(live))


def test_the_log_is_decided_by_both_programs(live: Live) -> None:
    """The stored vectors are wider from the deployment on, by the own feature that is logged and no kernel column."""
    widths = [packing.width_of(each.score.features) for each in live.decided]
    assert widths == [spec.WIDTH] * 8 + [spec.WIDTH + 1] * 19
    found = live.verify()
    assert found.first_difference is None and found.identical == found.decisions == len(widths)


def test_an_own_rule_speaks_in_its_words(live: Live) -> None:
    """Own fields, features (also one that is not stored), parameters and standard fields are put in; what the payment
    lacks is unknown.
    """
    reasons = AlertReader(live.log, load_tiny).reasons(*place_of(live, "t91"))
    assert reasons is not None and not reasons.missing
    assert reasons.words[:2] == (
        "house limit: 1,500, 777.0 km",
        "777 km (77.7 tens, 778) > 100, 1,500.00 EUR low",
    )
    told = story(live, "t92").rule_hits
    assert [hit.meaning for hit in told if hit.code == "AMOUNT_HIGH"] == ["house limit: 2,000, unknown km"]


def test_a_rule_without_words_is_named_by_its_code(live: Live) -> None:
    """The reader gives the code where the author gave no words."""
    reasons = AlertReader(live.log, load_tiny).reasons(*place_of(live, "t90"))
    assert reasons is not None
    assert reasons.words == ("20000 km (2000.0 tens, 20,001) > 100, 5.00 EUR none", "rule SILENT")


def test_a_reader_says_what_the_story_says(live: Live) -> None:
    """Every alert, before the deployment and after it."""
    reader = AlertReader(live.log, load_tiny)
    places = [DecisionPlace(0, entry.id) for entry in entries(live.log, 0, "alerts")]
    assert len(places) > 8
    for place in places:
        found = redecide.at_place(live.log, place)
        assert found is not None
        told = tell(live.log, found, control_stream.history(live.log), timeline(live))
        assert told.recomputed.identical and reader.reasons(*place) == told.reasons


def test_a_program_that_can_not_be_loaded_is_said(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rules are then named by code, whatever library they are from, and the reason says why."""
    known = live.log.get_blob

    def lost(digest: str) -> bytes:
        if digest == house().digest:
            raise Corrupt("the blob is damaged")
        return known(digest)

    monkeypatch.setattr(live.log, "get_blob", lost)
    reasons = AlertReader(live.log, load_tiny).reasons(*place_of(live, "t91"))
    assert reasons is not None and reasons.words[:2] == ("rule AMOUNT_HIGH", "rule FAR")
    assert reasons.missing.startswith(f"the program {house().digest[:16]} can't be loaded: the blob is damaged")


def test_the_story_names_own_rules_and_features(live: Live) -> None:
    """Rules that hit with their effects, shadow rules too; own features against the same program's decisions."""
    told = story(live, "t23")
    assert [(hit.code, hit.effect) for hit in told.rule_hits] == [("FAR", "review"), ("WATCHED", "shadow")]
    assert told.rule_hits[1].meaning == "shelf top"
    assert [line.name for line in told.features] == [*spec.NAMES, "far"]
    far = told.features[-1]
    earlier = [
        each.score
        for each in live.decided
        if each.transaction.account_id == "a3" and each.transaction.transaction_id in ("t13", "t18")
    ]
    values = [float(packing.vector(score.features)[spec.WIDTH]) for score in earlier]
    assert (far.value, far.unit, far.meaning, far.share) == (46.0, "10 km", "distance_km / 10", None)
    assert far.known == 2 and far.median == pytest.approx(np.median(values))
    assert told.features[spec.index("amount")].known == told.earlier_decisions == 4
    before = story(live, "t3")
    assert [line.name for line in before.features] == list(spec.NAMES)


def test_an_alert_alone_names_the_own_rule(live: Live) -> None:
    """Without the log the code with the alert's values stands for the rule, before shipped rules that only flag."""
    payload = live.log.get(0, "alerts", place_of(live, "t91").position)
    assert payload is not None
    alert = decode_alert(payload)
    assert in_short(alert) == "rule FAR (amount 1,500, far 77.7, kept_out 778)"
    wanted = "MODEL_SCORE, AMOUNT_HIGH (amount 1,500), FAR (amount 1,500, far 77.7, kept_out 778)"
    assert codes_and_values(alert) == wanted


def test_the_story_recommends_what_the_program_that_decided_does(live: Live) -> None:
    """The actions are those of the alert, which the program's own `[decision.actions]` changed; none if approved."""
    found: dict[tuple[str, ...], str] = {}
    for each in live.decided:
        told = story(live, each.transaction.transaction_id)
        alert = live.log.get(0, "alerts", place_of(live, each.transaction.transaction_id).position)
        wanted = () if alert is None else decode_alert(alert).recommended_actions
        shown = [value for name, value in decision_lines(told) if name == "recommended"]
        assert shown == ([", ".join(wanted)] if wanted else []), each.transaction.transaction_id
        found[wanted] = told.decision
    assert found[("notify_customer",)] == "review" and found[()] == "approve"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("{a}", "1,234.5"), ("{a:.0f}", "1234"), ("{a:,}", "1,234.5"), ("{share:.1%}", "12.5%"), ("{nan}", "unknown"),
        ("{gone:,.2f}", "unknown"), ("{infinite:.0f}", "unknown"), ("{name:.2f}", "x{a}"), ("{yes}", "true"),
        ("{empty}", "unknown"), ("plain", "plain"),
    ],
)  # fmt: skip
def test_placeholders(words: str, said: str) -> None:
    """A number follows its form, text is never read as words again, and what has no value is unknown."""
    values = {"a": 1234.5, "share": 0.125, "nan": float("nan"), "gone": None, "infinite": float("inf"), "name": "x{a}",
              "yes": True, "empty": ""}  # fmt: skip
    assert filled(words, values) == said


def test_what_if_changes_own_parameters_and_rules(live: Live) -> None:
    """In the part of the log that the program decided; before it, its names mean nothing."""
    first = Position(1, 9)

    def outcome(changes: Changes, scope: Scope) -> list[tuple[str, str]]:
        found = run(live.log, 0, live.log.head(0), timeline(live), changes, scope, {}, top=100)
        return sorted((each.transaction_id, each.now) for each in found.changed)

    after = Scope(first=first)
    assert outcome(Changes(), Scope()) == []
    near = [(f"t{n}", "approve") for n in range(8, 24) if n % 4 and 100 < 20 * n <= 300]
    assert set(near) <= set(outcome(Changes(parameters={"far_km": 300.0}), after))
    assert ("t90", "review") in outcome(Changes(disabled=("SILENT",)), after)
    with pytest.raises(BadInput, match=r"program default@1.0.0: unknown rule parameter 'far_km'"):
        outcome(Changes(parameters={"far_km": 300.0}), Scope())


def test_the_programs_that_ever_decided_are_known(live: Live) -> None:
    """The one in force first, then the log's default."""
    found = [each.digest for each in programs(live.log, control_stream.current(live.log))]
    assert found == [house().digest[:16], control_stream.identity_of(live.log).program[:16]]


COUNTING = b"""
[program]
name = "counting"
version = "1.0.0"
uses = ["standard@1"]

[features]
alerts_30d = "count(account, '30d', decision != 'approve')"
frauds_30d = "count(account, '30d', verdict == 'fraud')"

[[rules]]
code = "ALERTED_BEFORE"
when = "alerts_30d % 2 == 1"
effect = "review"
words = "{alerts_30d:.0f} alerts before, {frauds_30d:.0f} frauds"
"""


def test_decisions_that_depend_on_earlier_ones_are_audited_alone() -> None:
    """A program that counts its own decisions and verdicts takes over midway: each decision comes out identical from
    its account's events alone, and with nothing changed the what-if changes nothing.
    """
    log = MemoryLog()
    log.put_blob(ARTIFACT)
    loaded = loading.check(COUNTING)
    log.put_blob(document.canonical(loaded.program))
    ingest = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=PARTITIONS, start=[deployed()])
    for number, record in enumerate(records(3, 600)):
        if number == 300:
            ingest.flush()
            ingest.change(deployment(loaded))
        ingest.feed([record])
    ingest.flush()
    own = 0
    for partition in range(PARTITIONS):
        count = log.length(partition, "scores")
        when = tiny_timeline(log)
        assert redecide.check(log, partition, range(count), when) == (count, count, {}, [])
        found = run(log, partition, log.head(partition), tiny_timeline(log), Changes(), Scope(), {})
        assert found.changed == [] and len(found.times) == count
        own += sum("ALERTED_BEFORE" in decode_score(e.payload).rules for e in entries(log, partition, "scores"))
    assert own > 20


@pytest.mark.parametrize("among_all", [False, True])
def test_a_decision_that_can_not_be_made_again_is_no_difference(
    live: Live, monkeypatch: pytest.MonkeyPatch, among_all: bool
) -> None:
    """Of a sample, those of an engine or a program that is not to be had are counted by reason, the others compared.
    A single one's story says why it can't be told.
    """
    monkeypatch.setattr(redecide, "_evicts", lambda *_: among_all)
    digest = next(each.score.program for each in live.decided[::-1])

    def load_blob(wanted: str) -> bytes:
        if wanted.startswith(digest):
            raise Corrupt("no blob")
        return live.log.get_blob(wanted)

    lost = Timeline(control_stream.history(live.log), Resolver(load_blob, load_tiny))
    found = redecide.check(live.log, 0, range(len(live.decided)), lost)
    assert (found.audited, found.identical, found.differences) == (27, 8, [])
    assert list(found.undecidable.values()) == [19]
    outcome = run(live.log, 0, live.log.head(0), lost, Changes(), Scope(), {})
    assert (len(outcome.times), outcome.changed, list(outcome.undecidable.values())) == (8, [], [19])
    assert dict(Outcome.joined([outcome, outcome], 5).undecidable) == {next(iter(outcome.undecidable)): 38}
    monkeypatch.setattr(replay, "ENGINE", replay.ENGINE + 1)
    nothing = run(live.log, 0, live.log.head(0), timeline(live), Changes(), Scope(), {})
    with pytest.raises(NotDecidable, match=r"no decision in this range .* engine"):
        Outcome.joined([nothing], 5)
    found = redecide.check(live.log, 0, range(len(live.decided)), timeline(live))
    assert (found.identical, found.differences, sum(found.undecidable.values())) == (0, [], 27)
    with pytest.raises(NotDecidable, match="engine"):
        story(live, "t91")
