"""Runs the search for rules on a log, and tells what it found: as figures and as text."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from console import pool
from console.backtest_report import rule_line
from console.backtest_text import share
from console.backtesting import labels_of
from console.whatif_changes import scope_of
from core import control_stream
from core.errors import BadInput
from core.identity import LogIdentity
from core.log.base import EventLog, Head
from core.partitions import partitions_of
from core.program import loading
from core.program.checked import CheckedProgram
from core.program.library import kernel
from core.program.plan import plan
from core.settings import Settings
from core.times import DAY_MS, date_text
from projections.audit.backtest import Backtest
from projections.audit.suggesting import ACCOUNTS_MIN, ERROR, Found, suggest
from projections.audit.suggesting_rows import Read, columns_of, read
from projections.audit.tally import Tally
from projections.audit.whatif import Scope
from projections.engine.checkpoints import CheckpointStore
from projections.labelling.view import LabelView

EARLIER = 0.6
"""The share of missed frauds that the search sees."""


class Suggestion(msgspec.Struct, frozen=True):
    """A rule that passed. accounts_hit of accounts: those with a missed fraud in the later part whose first one it
    hits; p: the probability of so many by chance. The other figures are of a backtest over the later part: hits a day,
    labelled frauds among them and their amount, whether caught before or not, precision and FP:TP.
    """

    code: str
    when: str
    accounts_hit: int
    accounts: int
    p: float
    hits: int
    hits_per_day: float
    frauds: int
    fraud_amount: float
    precision: float | None
    false_positive_ratio: float | None
    block: str


class Suggestions(msgspec.Struct, frozen=True):
    """searched: days of the earlier part, tested: of the later; missed: labelled frauds that were approved, in each.
    finalists: how many rules were tested.
    """

    searched: tuple[str, str]
    tested: tuple[str, str]
    missed_searched: int
    missed_tested: int
    approved: int
    finalists: int
    error: float
    suggestions: list[Suggestion]


def run(
    log: EventLog,
    s: Settings,
    checkpoints: Path,
    start: str | None,
    end: str | None,
    known_until: int | None,
    *,
    quiet: bool,
) -> Suggestions:
    """Search and test. Raises BadInput if there are too few missed frauds to tell anything."""
    scope = scope_of(start, end)
    heads = {p: log.head(p) for p in partitions_of(log)}
    labels = labels_of(log, CheckpointStore(checkpoints, s.log_prefix), known_until)
    identity = control_stream.identity_of(log)
    library = loading.default()
    places, flags = columns_of(library)
    total = sum(log.length(p, "scores") for p in heads)
    found = pool.each(
        _read, [(log, heads, scope, labels, identity, places)], jobs=1, title="reading", total=total, quiet=quiet
    )[0]
    split = _split(found)
    earlier, later = found.side(found.times < split), found.side(found.times >= split)
    rules, finalists = suggest(earlier, later, flags)
    given = Scope(split, scope.end_ms, scope.first, scope.last)
    suggestions: list[Suggestion] = []
    if rules:
        document = "".join(block(k, each) for k, each in enumerate(rules, 1))
        text = f'[program]\nname = "suggested"\nversion = "1.0.0"\nuses = ["standard@1"]\n\n{document}'
        checked = loading.check(text.encode()).checked
        test = Backtest(log, control_stream.history(log), plan(checked, kernel()), labels)
        parts = [test.run(p, head, given) for p, head in heads.items()]
        suggestions = _told(rules, sum(parts[1:], parts[0]), checked)
    return Suggestions(
        searched=(date_text(int(found.times.min())), date_text(split - 1)),
        tested=(date_text(split), date_text(int(found.times.max()))),
        missed_searched=int(np.count_nonzero(earlier.is_fraud)),
        missed_tested=int(np.count_nonzero(later.is_fraud)),
        approved=round(np.count_nonzero(~found.is_fraud) / found.share),
        finalists=finalists,
        error=ERROR,
        suggestions=suggestions,
    )


def _read(
    log: EventLog,
    heads: dict[int, Head],
    scope: Scope,
    labels: LabelView,
    identity: LogIdentity,
    places: dict[str, int],
) -> Read:
    return read(log, heads, scope, labels, identity, places, pool.report)


def _split(found: Read) -> int:
    """The beginning of the day before which the search sees payments: about EARLIER of the missed frauds."""
    times = np.sort(found.times[found.is_fraud])
    split = 0 if not len(times) else -(-int(times[int(EARLIER * (len(times) - 1))]) // DAY_MS) * DAY_MS
    for side, name in ((found.times < split, "earlier"), (found.times >= split, "later")):
        accounts = len(np.unique(found.accounts[side & found.is_fraud]))
        if accounts < ACCOUNTS_MIN:
            raise BadInput(
                f"too few labelled frauds were approved in this range to learn from: {accounts} accounts in its {name}"
                f" part, and each part needs {ACCOUNTS_MIN}; choose a longer range with --from and --to, or wait for"
                " verdicts"
            )
    return split


def block(number: int, rule: Found) -> str:
    """The rule as a block of a program."""
    return f'[[rules]]\ncode = "SUGGESTED_{number}"\nwhen = "{rule.text}"\neffect = "review"\nmode = "shadow"\n\n'


def _told(rules: list[Found], tally: Tally, checked: CheckedProgram) -> list[Suggestion]:
    days = len(tally.days)
    out = []
    for k, each in enumerate(rules, 1):
        code = f"SUGGESTED_{k}"
        place = tally.codes.index(code)
        line = rule_line(tally, place, checked.rules[place])
        hits = line.after + line.shadow
        out.append(
            Suggestion(
                code=code,
                when=each.text,
                accounts_hit=each.accounts_hit,
                accounts=each.accounts,
                p=each.p,
                hits=hits,
                hits_per_day=hits / days,
                frauds=line.frauds,
                fraud_amount=line.fraud_amount,
                precision=line.precision,
                false_positive_ratio=(hits - line.frauds) / line.frauds if line.frauds else None,
                block=block(k, each).strip(),
            )
        )
    return out


def text(found: Suggestions) -> str:
    """What was found, for a terminal."""
    out = [
        f"searched {found.searched[0]} … {found.searched[1]}: {found.missed_searched:,} labelled frauds were approved;"
        f" tested on {found.tested[0]} … {found.tested[1]}: {found.missed_tested:,}",
        f"{found.finalists} rules were tested on the later part, which the search has not seen; all figures are of it",
    ]
    if not found.suggestions:
        out.append(f"none passes (probability of any by chance: at most {found.error:.0%}): nothing to suggest")
    for each in found.suggestions:
        ratio = "–" if each.false_positive_ratio is None else f"{each.false_positive_ratio:.1f}"
        out += [
            "",
            f"{each.accounts_hit:,} of {each.accounts:,} accounts with a missed fraud (p = {each.p:.1g});"
            f" {each.hits_per_day:,.1f} hits a day, {each.frauds:,} frauds of {each.fraud_amount:,.2f},"
            f" precision {share(each.precision)}, FP:TP {ratio}",
            each.block,
        ]
    return "\n".join(out)
