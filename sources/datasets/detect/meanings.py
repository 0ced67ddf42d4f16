"""What the counts of a file mean: number format, signs, currency, IDs, labels, times. Says what is assumed (`unsure`),
and asks (`Question`) where only a person can know.
"""

from __future__ import annotations

import re
from dataclasses import replace

from core.times import parse_iso
from sources.datasets.detect.dates import DateCounts, settle
from sources.datasets.detect.measures import Measures, label_meanings
from sources.datasets.detect.questions import Answers, Question
from sources.datasets.detect.roles import words_of
from sources.datasets.layout import Label, Money
from sources.datasets.numbers import CURRENCIES, SYMBOLS, NumberFormat
from sources.datasets.timestamps import TimeFormat

_STEP_ORIGIN = parse_iso("2026-01-01T00:00:00Z")


def say_misfits(unsure: list[str], misfits: int, column: str) -> None:
    """Note values that are no numbers in the chosen form."""
    if misfits:
        unsure.append(f"{misfits:,} values of {column} are not numbers in the form that most have")


def money(
    fields: dict[str, str], measures: Measures, answers: Answers, plain: bool, unsure: list[str]
) -> tuple[Money, NumberFormat]:
    """(what signs and units mean, the number format)."""
    names = [name for name in ("debit", "credit", "amount") if name in measures.money]
    counts = [measures.money[name] for name in names]
    total = counts[0]
    for other in counts[1:]:  # both columns are written alike
        total.given += other.given
        for form, fit in other.fits.items():
            total.fits[form] += fit
            total.sums[form] += other.sums[form]
        total.units.update(other.units)
    column = " and ".join(fields[name] for name in names)
    numbers, misfits = total.form(answers, column, plain=plain)
    say_misfits(unsure, misfits, column)
    negative = "reject"
    if names == ["amount"] and total.negative:
        negative = answers.negative or ("payment" if total.negative > 0.5 * total.given else "refund")
        meaning = "payments, positive ones money that came in" if negative == "payment" else "refunds"
        unsure.append(
            f"{total.negative:,} of {total.given:,} amounts are negative: taken for {meaning} (--negative); "
            "sizes are sent"
        )
    words = words_of(column)
    cents = bool(re.search(r"cents?|minor|pence|rappen|_ct$", words)) and total.whole == total.given
    if cents:
        unsure.append(f"{column} is taken to be in hundredths: amounts are divided by 100")
    return Money(negative=negative, divide=100.0 if cents else 1.0), numbers


def currency(fields: dict[str, str], measures: Measures, constants: dict[str, str], unsure: list[str]) -> bool:
    """Whether each row's amount names its own currency. One that all name becomes a constant."""
    units = next(iter(measures.money.values())).units
    known = {
        unit: SYMBOLS.get(unit) or (unit.upper() if unit.upper() in CURRENCIES else None) for unit in units if unit
    }
    named = {code for code in known.values() if code}
    if "currency" in fields or "currency" in constants:
        return False
    column = " ".join(fields[name] for name in measures.money)
    if not named:
        in_name = [code for code in CURRENCIES if re.search(rf"(?:^|_){code.lower()}(?:_|$)", words_of(column))]
        if len(in_name) == 1:
            constants["currency"] = in_name[0]
        elif "$" in units:
            unsure.append("amounts have a $, which several currencies use: none is set (--constant currency=USD)")
        return False
    if len(named) == 1 and not units[""] and all(known.values()):
        constants["currency"] = next(iter(named))
        return False
    unsure.append(f"amounts name their currency ({', '.join(sorted(named))}): each row has its own, or none")
    return True


def identifiers(
    fields: dict[str, str], measures: Measures, unsure: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """([ids] whole, [ids] lossy); takes a transaction ID that repeats or lost digits out of the fields."""
    whole: list[str] = []
    lossy: list[str] = []
    for name, ids in measures.ids.items():
        lost = ids.lost
        if name == "transaction_id":
            if lost or ids.given < measures.rows or ids.distinct < 0.9 * ids.given:
                why = "has lost digits" if lost else "is empty in some rows" if ids.given < measures.rows else "repeats"
                unsure.append(f"{fields[name]} {why}, so it is not a transaction ID; rows are numbered instead")
                del fields[name]
                continue
            if ids.distinct < ids.given:
                unsure.append(
                    f"{ids.given - ids.distinct:,} rows repeat an ID of {fields[name]}; "
                    "the edge takes a repeated ID for a duplicate"
                )
        if ids.floats:
            whole.append(name)
        if lost:
            lossy.append(name)
            unsure.append(
                f"DIGITS ARE LOST in {fields[name]} ({name}): {sum(lost.values()):,} rows have {len(lost):,} values "
                f"such as {next(iter(lost))}, each of which may stand for several; "
                "export the column as text, or use another"
            )
    return tuple(whole), tuple(lossy)


def label(
    measures: Measures, answers: Answers, label: Label | None, unsure: list[str]
) -> tuple[dict[str, tuple[int, bool | None]], Label | None]:
    """(values with counts and meanings, the label with the file's own values)."""
    if label is None:
        return {}, None
    means, unknown = label_meanings(measures.labels, answers)
    for value in list(unknown):  # a known layout knows its own
        for words, meaning in ((label.fraud, True), (label.legitimate, False), (label.unlabelled, None)):
            if value in words:
                means[value] = meaning
                unknown.remove(value) if value in unknown else None
    counts = measures.labels
    if unknown and not (True in means.values() and False in means.values()):
        shown = ", ".join(f"{value!r} ({counts[value]:,})" for value in list(counts)[:12])
        raise Question(
            f"which values of {label.column} mean fraud: {shown}",
            "fraud",
            "--fraud VALUE --legitimate VALUE (--unlabelled VALUE)",
        )
    if unknown:
        shown = ", ".join(f"{value!r} ({counts[value]:,} rows)" for value in unknown[:12])
        unsure.append(
            f"{label.column} has values that are neither fraud nor legitimate: {shown}; "
            "taken as unlabelled (--fraud, --legitimate)"
        )
    groups = {
        meaning: tuple(value for value in counts if value and means[value] is meaning)
        for meaning in (True, False, None)
    }
    if not groups[True]:
        unsure.append(f"no value of {label.column} means fraud")
    new = Label(label.column, groups[True] or ("1",), groups[False] or ("0",), groups[None])
    return {value: (counts[value], means[value]) for value in counts}, new


def time(dates: DateCounts, columns: tuple[str, ...], answers: Answers, unsure: list[str]) -> TimeFormat:
    """The time format: by all values, or of a file without times."""
    if not columns:
        unsure.append("the file has no time: its rows are taken to be a second apart, from 2026-01-01")
        return TimeFormat((), ("rows",), _STEP_ORIGIN)
    formats, more = settle(dates, answers, " and ".join(columns))
    unsure += more
    steps = formats[0] in ("seconds", "hours", "days")
    if steps:
        unsure.append(f"{columns[0]} is taken to count {formats[0]} from 2026-01-01 (--time-format)")
    time = TimeFormat(
        columns, formats, _STEP_ORIGIN if steps else 0, spread=steps and formats[0] != "seconds" and not dates.fractions
    )
    return zoned(time, answers, dates, unsure)


def zoned(time: TimeFormat, answers: Answers, dates: DateCounts, unsure: list[str]) -> TimeFormat:
    """The time format with the zone of the answers; says so if UTC is assumed."""
    zoned = all(
        each.startswith("epoch") or each.endswith("%z") or each in ("seconds", "hours", "days", "rows")
        for each in time.formats
    )
    if answers.zone:
        return replace(time, zone=answers.zone)
    offsets = dates.aware if dates.typed else dates.offsets == dates.rows - dates.empty
    if not zoned and not (time.formats == ("iso",) and offsets):
        unsure.append("times name no zone: read as UTC (--zone Europe/Berlin, for example)")
    return time
