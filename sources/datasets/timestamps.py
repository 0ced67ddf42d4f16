"""Times as text or numbers → epoch milliseconds. A time is read only if it fits the format exactly: nothing is guessed.

Formats: `iso`, a strftime pattern, `epoch_s | epoch_ms | epoch_us | epoch_ns`, `excel` (days since 1899-12-30),
`seconds | hours | days` since the origin, or `rows`: no column at all, the rows are `every_s` seconds apart in file
order.

Local times: a time that a clock change repeats is the first of the two (or the second, if so asked); one that it
skips is read with the offset before the change, as Python's zoneinfo does. Fractions of a millisecond are cut off.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.errors import BadInput
from core.times import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

UNITS_MS = {"seconds": SECOND_MS, "hours": HOUR_MS, "days": DAY_MS}
EPOCH_PER_MS = {"epoch_s": 1e-3, "epoch_ms": 1.0, "epoch_us": 1e3, "epoch_ns": 1e6}
NAMED = ("iso", *EPOCH_PER_MS, "excel", *UNITS_MS, "rows")
EXCEL_ORIGIN_MS = -2_209_161_600_000
EPOCH_RANGE_MS = (0, 4_102_444_800_000)
"""1970 … 2100: an epoch outside it is taken for the wrong unit, and refused."""
TIMES_MS = (-62_135_596_800_000, 253_402_300_799_999)
"""The years 1 … 9999, which calendars can show."""
_MONTHS = {
    1: "jan january januar jänner janv janvier ene enero gen gennaio janeiro januari",
    2: "feb february februar févr février fevrier febrero febbraio fev fevereiro februari",
    3: "mar march mär märz mrz maerz mars marzo março marco maart mrt",
    4: "apr april avr avril abr abril aprile",
    5: "may mai mayo mag maggio maio mei maj",
    6: "jun june juni juin junio giu giugno junho",
    7: "jul july juli juil juillet julio lug luglio julho",
    8: "aug august août aout ago agosto augustus",
    9: "sep sept september septembre septiembre set settembre setembro",
    10: "oct october okt oktober octobre octubre ott ottobre out outubro",
    11: "nov november novembre noviembre novembro",
    12: "dec december dez dezember déc décembre decembre dic diciembre dicembre dezembro",
}
MONTHS = {name: number for number, names in _MONTHS.items() for name in names.split()}
_LONG = {
    "%T": "%H:%M:%S",
    "%R": "%H:%M",
    "%F": "%Y-%m-%d",
    "%D": "%m/%d/%y",
    "%e": "%d",
    "%h": "%b",
    "%B": "%b",
    "%A": "%a",
}
_OFFSET = r"[Zz]|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?"
_PARTS = {
    "Y": r"(?P<Y>[0-9]{4})",
    "b": r"(?P<b>\p{L}+)\.?",
    "a": r"\p{L}+\.?",
    "p": r"(?P<p>[AaPp])\.?\s?[Mm]\.?",
    "f": r"(?P<f>[0-9]{1,9})",
    "z": rf"(?P<z>{_OFFSET})",
    "Z": rf"(?P<z>{_OFFSET})",
}
ISO = (
    r"^(?P<Y>[0-9]{4})-?(?P<m>[0-9]{2})-?(?P<d>[0-9]{2})"
    r"(?:[T\s](?P<H>[0-9]{2}):?(?P<M>[0-9]{2})(?::?(?P<S>[0-9]{2})(?:[.,](?P<f>[0-9]{1,9}))?)?"
    rf"\s*(?P<z>{_OFFSET})?)?$"
)
_DAYS_IN_MONTH = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """columns: one, or several that are joined by a space. formats: the first that fits a value is used. origin: epoch
    ms. zone: of times that carry no offset: an IANA name, `UTC` or `+01:00`. repeated: `first` or `second`, see the
    module. spread: spread the rows of one step evenly over it, in file order.
    """

    columns: tuple[str, ...]
    formats: tuple[str, ...] = ("iso",)
    origin: int = 0
    zone: str = "UTC"
    repeated: str = "first"
    spread: bool = False
    every_s: float = 1.0

    def __post_init__(self) -> None:
        for each in self.formats:
            if each not in NAMED and "%" not in each:
                raise BadInput(
                    f"unknown time format {each!r}: use {', '.join(NAMED)}, or a pattern such as %Y-%m-%d %H:%M:%S"
                )
            if "%" in each:
                compiled(each)
        if (not self.columns) != (self.formats == ("rows",)):
            raise BadInput("[time] needs a column, or format rows and none")
        if self.repeated not in ("first", "second"):
            raise BadInput(f"[time] repeated is first or second, not {self.repeated!r}")
        if not 0 < self.every_s <= 31_622_400:
            raise BadInput(f"[time] every_s must be above 0 and at most a year, not {self.every_s!r}")
        check_zone(self.zone)
        if self.spread:
            _ = self.step_ms

    @property
    def step_ms(self) -> int:
        """The length of a time step to spread rows over. Raises BadInput if the format has none."""
        form = self.formats[0]
        if len(self.formats) == 1 and form in UNITS_MS:
            return UNITS_MS[form]
        pattern = expanded(form)
        if len(self.formats) == 1 and "%" in form and "%f" not in pattern and "%.f" not in pattern:
            for code, step in (("%S", SECOND_MS), ("%M", MINUTE_MS), ("%H", HOUR_MS), ("%I", HOUR_MS), ("%d", DAY_MS)):
                if code in pattern:
                    return step
        raise BadInput(
            f"[time] spread needs one format with a step: {', '.join(UNITS_MS)}, or a pattern down to %d, %H, %M "
            f"or %S; not {', '.join(self.formats)}"
        )


def expanded(pattern: str) -> str:
    """The pattern with abbreviations such as %T and %-d written out."""
    text = re.sub(r"%-([a-zA-Z])", r"%\1", pattern)
    for short, long in _LONG.items():
        text = text.replace(short, long)
    return text


@lru_cache(maxsize=256)
def compiled(pattern: str) -> str:
    """The regular expression of a strftime pattern. Raises BadInput for a directive that is not known, or a pattern
    without a day.

    Numbers may have one digit instead of two, except within a run such as %Y%m%d.
    """
    text = expanded(pattern)
    parts: list[str] = []
    seen: set[str] = set()
    position, adjacent = 0, False
    while position < len(text):
        if text[position] != "%":
            found = re.match(r"\s+", text[position:])
            parts.append(r"\s+" if found else re.escape(text[position]))
            position += len(found[0]) if found else 1
            adjacent = False
            continue
        if text[position : position + 3] == "%.f":
            parts.append(r"(?:[.,](?P<f>[0-9]{1,9}))?")
            seen.add("f")
            position += 3
            continue
        code = text[position + 1 : position + 2]
        if code in ("y", "m", "d", "H", "I", "M", "S", "j"):
            width = "2" if adjacent or code == "y" else "1,2"
            parts.append(rf"(?P<{code}>[0-9]{{{'1,3' if code == 'j' else width}}})")
        elif code in _PARTS:
            parts.append(_PARTS[code])
        elif code == "%":
            parts.append("%")
        else:
            raise BadInput(f"the time pattern {pattern!r} has the unknown directive %{code}")
        if code not in ("%", "a") and code in seen:
            raise BadInput(f"the time pattern {pattern!r} has %{code} twice")
        adjacent = code in ("Y", "y", "m", "d", "H", "I", "M", "S")
        seen.add(code)
        position += 2
    if not (seen & {"Y", "y"} and ("j" in seen or ("d" in seen and seen & {"m", "b"}))):
        raise BadInput(f"the time pattern {pattern!r} lacks the year, the month or the day")
    return "^" + "".join(parts) + "$"


def check_zone(zone: str) -> None:
    """Raise BadInput unless `zone` is an IANA name, UTC or an offset such as +01:00."""
    if zone == "UTC" or re.fullmatch(r"[+-]\d{2}:\d{2}", zone):
        return
    try:
        pl.Series([0]).cast(pl.Datetime("ms")).dt.replace_time_zone(zone)
    except pl.exceptions.PolarsError:
        raise BadInput(f"unknown time zone {zone!r}; write a name such as Europe/Berlin, UTC or +01:00") from None


def parse(columns: Sequence[pl.Series], form: TimeFormat) -> pl.Series:
    """Epoch ms, Int64, null where no format fits. Values must be stripped; a value without a time is null."""
    if len(columns) == 1 and columns[0].dtype.is_temporal():
        typed = _typed(columns[0], form)
        return pl.select(pl.when(typed.is_between(*TIMES_MS)).then(typed)).to_series()
    result: pl.Series | None = None
    text: pl.Series | None = None
    for each in form.formats:
        if each in ("iso",) or "%" in each:
            text = joined(columns) if text is None else text
            times = _from_text(text, ISO if each == "iso" else compiled(each), form)
        else:
            times = _from_number(columns, each, form)
        result = times if result is None else result.zip_with(result.is_not_null(), times)
        if not result.null_count():
            break
    assert result is not None
    return pl.select(pl.when(result.is_between(*TIMES_MS)).then(result)).to_series()


def joined(columns: Sequence[pl.Series]) -> pl.Series:
    """Several columns as one text; `2026.0` becomes `2026`."""
    texts = [column.cast(pl.String).fill_null("") for column in columns]
    if len(texts) == 1:
        return texts[0]
    texts = [text.str.replace(r"^([0-9]+)\.0+$", "${1}") for text in texts]
    return pl.select(pl.concat_str(texts, separator=" ")).to_series().str.strip_chars()


def _typed(column: pl.Series, form: TimeFormat) -> pl.Series:
    if column.dtype == pl.Date:
        return _localised(column.cast(pl.Datetime("ms")).dt.epoch("ms"), form)
    if column.dtype == pl.Datetime:
        aware = getattr(column.dtype, "time_zone", None) is not None
        times = column.dt.epoch("ms")
        return times if aware else _localised(times, form)
    return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(column))


def _from_number(columns: Sequence[pl.Series], each: str, form: TimeFormat) -> pl.Series:
    total: pl.Series | None = None
    for column in columns:
        if each in EPOCH_PER_MS and column.dtype != pl.Float64:
            exact = column.cast(pl.Int64, strict=False)
            if len(columns) == 1 and not (exact.is_null() & column.is_not_null()).any():
                return _in_range(exact * 1_000 if each == "epoch_s" else exact // int(EPOCH_PER_MS[each]))
        text = column.dtype == pl.String
        number = (column.str.replace(",", ".", literal=True) if text else column).cast(pl.Float64, strict=False)
        total = number if total is None else total + number
    assert total is not None
    total = pl.select(pl.when(total.is_finite() & (total.abs() < 1e18)).then(total)).to_series()
    if each in EPOCH_PER_MS:
        return _in_range((total / EPOCH_PER_MS[each]).round().cast(pl.Int64, strict=False))
    if each == "excel":
        return _localised((total * DAY_MS).round().cast(pl.Int64, strict=False) + EXCEL_ORIGIN_MS, form)
    return (total * UNITS_MS[each]).round().cast(pl.Int64, strict=False) + form.origin


def _in_range(times: pl.Series) -> pl.Series:
    return pl.select(pl.when(times.is_between(*EPOCH_RANGE_MS)).then(times)).to_series()


def _from_text(text: pl.Series, pattern: str, form: TimeFormat) -> pl.Series:
    """Epoch ms of texts that match the pattern and are real dates."""
    parts = pl.DataFrame({"t": text}).select(pl.col("t").str.extract_groups(pattern)).unnest("t")
    present = set(parts.columns)
    n = len(text)

    def number(name: str, default: int = 0) -> NDArray[np.int64]:
        if name not in present:
            return np.full(n, default)
        return parts[name].cast(pl.Int64, strict=False).fill_null(default).to_numpy()

    year = number("Y") if "Y" in present else (y := number("y")) + np.where(y < 70, 2000, 1900)
    valid = ~parts["Y" if "Y" in present else "y"].is_null().to_numpy()
    if "j" in present:
        month, day = np.full(n, 1), number("j")
        valid &= (day >= 1) & (day <= 365 + _leap(year))
    else:
        month = _month_numbers(parts["b"]) if "b" in present else number("m")
        day = number("d")
        known = (month >= 1) & (month <= 12)
        length = _DAYS_IN_MONTH[np.where(known, month, 1)] + ((month == 2) & _leap(year))
        valid &= known & (day >= 1) & (day <= length)
    hour, minute, second = number("I" if "I" in present else "H"), number("M"), number("S")
    if "I" in present:
        valid &= (hour >= 1) & (hour <= 12)
        hour = hour % 12
    if "p" in present:
        hour = hour % 24 + 12 * (parts["p"].str.to_lowercase() == "p").fill_null(False).to_numpy() * (hour < 12)
    valid &= (minute < 60) & (second < 60) & ((hour < 24) | ((hour == 24) & (minute == 0) & (second == 0)))
    fraction: NDArray[np.int64] = np.zeros(n, np.int64)
    if "f" in present:
        fraction = parts["f"].fill_null("0").str.pad_end(3, "0").str.slice(0, 3).cast(pl.Int64).to_numpy()
    times = _days(year, month, day) * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS + second * SECOND_MS + fraction
    local = pl.Series(times)
    local = pl.select(pl.when(pl.Series(valid)).then(local)).to_series()
    if "z" not in present or parts["z"].null_count() == n:
        return _localised(local, form)
    offset = _offset_ms(parts["z"])
    return local.zip_with(offset.is_null(), local - offset) if form.zone == "UTC" else _mixed(local, offset, form)


def _mixed(local: pl.Series, offset: pl.Series, form: TimeFormat) -> pl.Series:
    """Some values carry an offset, the others are of the format's zone."""
    return (local - offset).zip_with(offset.is_not_null(), _localised(local, form))


def _offset_ms(text: pl.Series) -> pl.Series:
    sign = pl.when(text.str.starts_with("-")).then(-1).otherwise(1)
    digits = text.str.replace_all(r"[^0-9]", "")
    hours = digits.str.slice(0, 2).cast(pl.Int64, strict=False).fill_null(0)
    minutes = digits.str.slice(2, 2).cast(pl.Int64, strict=False).fill_null(0)
    offset = pl.select(pl.when(text.is_not_null()).then(sign * (hours * HOUR_MS + minutes * MINUTE_MS))).to_series()
    return offset.cast(pl.Int64)


def _month_numbers(names: pl.Series) -> NDArray[np.int64]:
    folded = names.str.to_lowercase()
    return folded.replace_strict(MONTHS, default=0, return_dtype=pl.Int64).fill_null(0).to_numpy()


def _leap(year: NDArray[np.int64]) -> NDArray[np.bool_]:
    leap: NDArray[np.bool_] = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return leap


def _days(year: NDArray[np.int64], month: NDArray[np.int64], day: NDArray[np.int64]) -> NDArray[np.int64]:
    """Days from 1970-01-01 to a date of the Gregorian calendar (H. Hinnant, "chrono-compatible low-level date
    algorithms", days_from_civil).
    """
    y = np.where(month <= 2, year - 1, year)
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    days: NDArray[np.int64] = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    return days


def _localised(local: pl.Series, form: TimeFormat) -> pl.Series:
    """Local epoch ms → UTC epoch ms in the format's zone."""
    if form.zone == "UTC":
        return local
    if form.zone[0] in "+-":
        hours, minutes = int(form.zone[1:3]), int(form.zone[4:6])
        return local - (-1 if form.zone[0] == "-" else 1) * (hours * HOUR_MS + minutes * MINUTE_MS)
    which: Literal["earliest", "latest"] = "earliest" if form.repeated == "first" else "latest"
    naive = local.cast(pl.Datetime("ms"))
    utc = naive.dt.replace_time_zone(form.zone, ambiguous=which, non_existent="null").dt.epoch("ms")
    if utc.null_count() > local.null_count():  # skipped by a clock change: with the offset of the day before
        before = (local - DAY_MS).cast(pl.Datetime("ms"))
        shifted = before.dt.replace_time_zone(form.zone, ambiguous=which, non_existent="null").dt.epoch("ms") + DAY_MS
        utc = utc.zip_with(utc.is_not_null(), shifted)
    return utc
