"""Examples of a program are decided by the real path, and told in words where they do not hold."""

from __future__ import annotations

from core.program import examples, loading
from core.program.examples import BEGIN_MS
from core.times import MINUTE_MS, SECOND_MS

PROGRAM = """
[program]
name = "p"
version = "1.0.0"
[fields]
km = { from = "attributes.dist", type = "number" }
where = { from = "country", type = "string" }
seen = { from = "attributes.seen", type = "time" }
[features]
before = "count(account, '10m')"
declined = "count(account, '10m', decision == 'decline')"
[[rules]]
code = "FAR"
when = "km > 100 && where == 'DE'"
effect = "review"
[[rules]]
code = "AFTER_DECLINE"
when = "declined >= 1"
mode = "shadow"
[[rules]]
code = "THIRD"
when = "before == 2"
effect = "decline"
[decision]
decline = "probability >= 0.85"
review = "probability >= 0.3"
"""


def told(text: str) -> list[examples.Outcome]:
    return examples.run(loading.check((PROGRAM + text).encode()).program)


def test_examples_are_decided_as_a_worker_would() -> None:
    """Own fields, features, rules and earlier decisions; a rule without effect hits too."""
    found = told(
        """
[[examples]]
name = "far"
payments = [{ km = 101, where = "DE" }]
hits = ["FAR"]
misses = ["THIRD", "AFTER_DECLINE"]
decision = "review"
[[examples]]
name = "third, then one more"
payments = [{ repeat = 3, after = "30s" }, {}]
hits = ["AFTER_DECLINE"]
decision = "approve"
[[examples]]
name = "sure"
payments = [{}]
probability = 0.85
decision = "decline"
[[examples]]
name = "nearly sure"
payments = [{}]
probability = 0.84999
decision = "review"
"""
    )
    assert [each.faults for each in found] == [()] * 4


def test_what_does_not_hold_is_told() -> None:
    """Each fault in words, with what was decided."""
    (found,) = told(
        '[[examples]]\nname = "x"\npayments = [{ km = 101, where = "DE" }]\nhits = ["THIRD"]\nmisses = ["FAR"]\n'
        'decision = "decline"\nseverity = "high"\n'
    )
    assert found.faults[:3] == ("THIRD does not hit", "FAR hits", "the decision is review, not decline")
    assert found.faults[3].endswith(", not high") and (found.decision, found.hits) == ("review", ("FAR",))


def test_payments_are_laid_out_in_time() -> None:
    """A minute apart from Monday noon on, or as they say; values go to the fields and attributes that they are from."""
    text = (
        '[[examples]]\nname = "x"\nhits = []\npayments = [{ amount = 5 }, { after = "30s", repeat = 2 }, '
        '{ at = 2026-01-06T00:00:00Z, km = 3, where = "DE", seen = 2026-01-05T12:00:00Z }]\n'
    )
    program = loading.check((PROGRAM + text).encode()).program
    found = examples.payments(program, program.examples[0])
    assert [each.received_at - BEGIN_MS for each in found] == [0, 30 * SECOND_MS, 60 * SECOND_MS, 720 * MINUTE_MS]
    assert (found[0].amount, found[1].amount, found[3].country) == (5.0, 1.0, "DE")
    assert found[3].attributes == {"dist": 3.0, "seen": float(BEGIN_MS)}
    assert len({each.transaction_id for each in found}) == 4
