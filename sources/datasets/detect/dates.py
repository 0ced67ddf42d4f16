"""The format of times, by all values of their columns: patterns that fit every row, and day-first
against month-first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import polars as pl

from sources.datasets import timestamps
from sources.datasets.detect.questions import Answers, Question
from sources.datasets.timestamps import TimeFormat

_SHAPES_MAX = 40
NUMERIC_SHAPES = ("F", "W", "D", "S")
"""Numbers of 14, 12, 8 or 6 digits, which may be dates without marks."""
_DATE = re.compile(
    r"(?P<weekday>[^\W\d_]{2,10}\.?,?\s+)?(?:"
    r"(?P<y1>\d{4})(?P<s1>[-/.\s年]\s?)(?P<m1>\d{1,2})(?P<s2>[-/.\s月]\s?)(?P<d1>\d{1,2})(?P<s3>日?)"
    r"|(?P<a2>\d{1,2})(?P<s4>[-/.\s]\s?)(?P<b2>\d{1,2})(?P<s5>[-/.\s]\s?)(?P<y2>\d{4}|\d{2})"
    r"|(?P<d3>\d{1,2})(?P<s6>\.?[-/\s]?\s?)(?P<m3>[^\W\d_]{3,10})(?P<p3>\.?)(?P<s7>,?[-/\s]?\s?)(?P<y3>\d{4}|\d{2})"
    r"|(?P<m4>[^\W\d_]{3,10})(?P<p4>\.?)(?P<s8>[-\s]\s*)(?P<d4>\d{1,2})(?P<s9>,?[-\s]\s*)(?P<y4>\d{4})"
    r"|(?P<c5>\d{14}|\d{12}|\d{8}|\d{6})"
    r")(?P<rest>.*)",
    re.S,
)
_TIME = re.compile(
    r"(?P<gap>\s*[T,_:;@-]?\s*|\s+um\s+|\s+at\s+)(?P<h>\d{1,2})(?:(?P<c1>[:.h\s])(?P<m>\d{1,2})(?:(?P<c2>[:.\s])(?P<s>\d{1,2})(?P<f>[.,]\d{1,9})?)?)?"
    r"(?P<ap>\s?[AaPp]\.?\s?[Mm]\.?)?(?P<word>\s?(?:Uhr|h))?(?P<z>\s?(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?"
)
_COMPACT_TIME = re.compile(
    r"(?P<gap>[T\s_-]?)(?P<h>\d{1,2})(?P<m>\d{2})(?P<s>\d{2})?(?P<z>\s?(?:Z|[+-]\d{2}(?::?\d{2})?))?"
)


_UNIX = re.compile(r"[^\W\d_]{3}\s[^\W\d_]{3}\s+\d{1,2}\s\d{2}:\d{2}:\d{2}(?P<z>\s(?:UTC|GMT))?\s\d{4}")
_TIME_FIRST = re.compile(r"(?P<time>\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s?[AaPp][Mm])?),?\s(?P<date>.*)", re.S)


class DateCounts:
    """Counts over chunks of a time's columns how many values each candidate pattern fits, by the shape
    of the values.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.rows = self.empty = 0
        self.typed = self.aware = False
        self.shapes: Counter[str] = Counter()
        self.fits: dict[str, Counter[str]] = {}
        self.low, self.high = float("inf"), float("-inf")
        self.lengths: Counter[int] = Counter()
        self.fractions = self.offsets = 0

    def add(self, columns: Sequence[pl.Series]) -> None:
        """More values: stripped, null for none."""
        self.rows += len(columns[0])
        if len(columns) == 1 and columns[0].dtype.is_temporal():
            self.typed = True
            self.aware = getattr(columns[0].dtype, "time_zone", None) is not None
            self.empty += columns[0].null_count()
            return
        text = timestamps.joined(columns)
        given = text.filter(text != "")
        self.empty += len(text) - len(given)
        numeric = given.str.contains(r"^-?[0-9]+(?:[.,][0-9]+)?$")
        if len(self.columns) == 1 and numeric.any():
            self._numbers(given.filter(numeric))
        if len(self.columns) > 1 or not numeric.all():
            self._texts(given if len(self.columns) > 1 else given.filter(~numeric))

    def _numbers(self, values: pl.Series) -> None:
        number = values.str.replace(",", ".", literal=True).cast(pl.Float64)
        self.low = min(self.low, float(number.min() or 0.0))  # type: ignore[arg-type]
        self.high = max(self.high, float(number.max() or 0.0))  # type: ignore[arg-type]
        whole = values.str.extract(r"^-?([0-9]+)")
        for length, count in whole.str.len_chars().value_counts().iter_rows():
            self.lengths[length] += count
        self.fractions += int(values.str.contains(r"[.,]").sum())
        self._texts(values.filter(whole.str.len_chars().is_in([6, 8, 12, 14])))

    def _texts(self, values: pl.Series) -> None:
        self.offsets += int(values.str.contains(r"(?:[Zz]|UTC|GMT)$|:[0-9.,]+\s*[+-][0-9]{2}(?::?[0-9]{2})?$").sum())
        shape = values.str.replace_all(r"\p{L}+", "a")
        for length, mark in ((14, "F"), (12, "W"), (8, "D"), (6, "S"), (4, "Y")):
            shape = shape.str.replace_all(rf"\b[0-9]{{{length}}}\b", mark)
        shape = shape.str.replace_all(r"[0-9]+", "9")
        frame = pl.DataFrame({"value": values, "shape": shape})
        for (name,), group in frame.group_by("shape", maintain_order=True):
            key = str(name)
            if key not in self.fits:
                if len(self.fits) >= _SHAPES_MAX:
                    continue
                self.fits[key] = Counter(dict.fromkeys(candidates(group["value"][0]), 0))
            self.shapes[key] += group.height
            for pattern in self.fits[key]:
                found = timestamps.parse([group["value"]], TimeFormat(("t",), (pattern,)))
                self.fits[key][pattern] += group.height - found.null_count()


def candidates(value: str) -> list[str]:
    """The patterns that a value could be of, likeliest first."""
    value = value.strip()
    unix = _UNIX.fullmatch(value)
    if unix is not None:  # Mon Jan  5 10:00:00 2026, and with a zone before the year
        return [f"%a %b %d %H:%M:%S{' %Z' if unix['z'] else ''} %Y"]
    first = _TIME_FIRST.fullmatch(value)
    if first is not None:
        ahead = _times(" " + first["time"])
        return [f"{time.strip()} {date}" for time in ahead for date in candidates(first["date"]) if date != "iso"]
    found = _DATE.fullmatch(value)
    if found is None:
        return []
    g = found.groupdict()
    weekday = (
        "%a" + g["weekday"].lstrip("".join(c for c in g["weekday"] if c.isalpha())).lstrip(".") if g["weekday"] else ""
    )
    dates: list[str]
    compact = ""
    if g["y1"]:
        s1, s2, s3 = g["s1"], g["s2"], g["s3"]
        dates = [f"%Y{s1}%m{s2}%d{s3}", f"%Y{s1}%d{s2}%m{s3}"]
    elif g["y2"]:
        y = "%Y" if len(g["y2"]) == 4 else "%y"
        dates = [f"%d{g['s4']}%m{g['s5']}{y}", f"%m{g['s4']}%d{g['s5']}{y}"]
        if y == "%y":
            dates.append(f"%y{g['s4']}%m{g['s5']}%d")
    elif g["m3"]:
        dates = [f"%d{g['s6']}%b{g['s7']}{'%Y' if len(g['y3']) == 4 else '%y'}"]
    elif g["m4"]:
        dates = [f"%b{g['s8']}%d{g['s9']}%Y"]
    else:
        compact = g["c5"]
        dates = ["%Y%m%d", "%d%m%Y", "%m%d%Y"] if len(compact) != 6 else ["%y%m%d", "%d%m%y", "%m%d%y"]
        dates = [date + {14: "%H%M%S", 12: "%H%M"}.get(len(compact), "") for date in dates]
    times = _times(g["rest"] or "")
    patterns = [re.sub(r"\s+", " ", weekday + date + time) for date in dates for time in times]
    return (["iso"] if re.fullmatch(timestamps.ISO[1:-1], value) else []) + patterns


def _times(rest: str) -> list[str]:
    """Patterns of what follows the date."""
    if not rest:
        return [""]
    for expression in (_TIME, _COMPACT_TIME):
        found = expression.fullmatch(rest)
        if found is None:
            continue
        g = found.groupdict()
        half = bool(g.get("ap"))
        text = g["gap"] + ("%I" if half else "%H")
        colon1, colon2 = (g.get("c1") or "", g.get("c2") or "") if expression is _TIME else ("", "")
        text += f"{colon1}%M" if g["m"] else ""
        text += f"{colon2}%S" if g["s"] else ""
        text += f"{g['f'][0]}%f" if g.get("f") else ""
        if half:
            text += (" " if g["ap"][0].isspace() else "") + "%p"
        text += g.get("word") or ""
        if g.get("z"):
            text += (" " if g["z"][0].isspace() else "") + "%z"
        return [text]
    return []


def settle(counts: DateCounts, answers: Answers, name: str) -> tuple[tuple[str, ...], list[str]]:
    """(formats, what is unsure). Raises Question if day-first and month-first both fit, or numbers have
    no known unit.
    """
    unsure: list[str] = []
    if answers.time_format:
        return tuple(answers.time_format.split("|")), unsure
    if counts.typed:
        return ("iso",), unsure
    formats: list[str] = []
    if counts.lengths:
        number = _number_format(counts, name)
        if number is not None:
            formats.append(number)
    orders = _orders(counts, answers)
    for shape, _ in counts.shapes.most_common():
        fits = counts.fits[shape]
        if (
            formats
            and formats[0] in ("epoch_s", "epoch_ms", "epoch_us", "epoch_ns", "excel")
            and shape in NUMERIC_SHAPES
        ):
            continue
        best = max(fits.values(), default=0)
        good = [pattern for pattern in fits if fits[pattern] == best and best]
        if not good:
            continue
        wanted = [pattern for pattern in good if _order(pattern) in ("", orders)] or good
        if not set(formats) & set(wanted):
            formats.append(wanted[0])
            first = wanted[0].startswith("%y")
            other = [pattern for pattern in good if "%y" in pattern and pattern.startswith("%y") != first]
            if other and "%y" in wanted[0]:
                unsure.append(f"dates in {name} are read as {wanted[0]}, but all fit {other[0]} too (--time-format)")
    if not formats and counts.lengths:
        raise Question(
            f"the times in {name} are numbers from {counts.low:g} to {counts.high:g}, which could count anything",
            "time_format",
            "--time-format seconds|hours|days|excel|epoch_s|epoch_ms",
        )
    if not formats:
        raise Question(f"the times in {name} have no format that is known", "time_format", "--time-format PATTERN")
    return tuple(formats), unsure


def _order(pattern: str) -> str:
    """day-first, month-first, or "" where the order is no question."""
    if "%b" in pattern or pattern == "iso":
        return ""
    places = [pattern.find(code) for code in ("%d", "%m")]
    year = max(pattern.find("%Y"), pattern.find("%y"))
    if year >= 0 and year < min(places):
        return "" if places[1] < places[0] else "year-day-month"
    return "day-first" if places[0] < places[1] else "month-first"


def _orders(counts: DateCounts, answers: Answers) -> str:
    """The order of day and month that fits all values of all shapes. Raises Question if both do."""
    both: list[str] = []
    fits: dict[str, int] = {"day-first": 0, "month-first": 0}
    total = 0
    for shape, patterns in counts.fits.items():
        best = {order: max((n for p, n in patterns.items() if _order(p) == order), default=0) for order in fits}
        other = max((n for p, n in patterns.items() if _order(p) == ""), default=0)
        if other >= max(best.values()) and other and not (_two_digit_year(patterns) and max(best.values()) == other):
            continue
        if not any(best.values()):
            continue
        total += counts.shapes[shape]
        for order in fits:
            fits[order] += best[order]
        both.append(shape)
    if not both:
        return ""
    if answers.dates:
        return answers.dates
    if fits["day-first"] == fits["month-first"]:
        raise Question(
            f"every date in {' and '.join(counts.columns)} can be read day first and month first",
            "dates",
            "--dates day-first or --dates month-first",
            ("day-first", "month-first"),
        )
    return max(fits, key=lambda order: fits[order])


def _two_digit_year(patterns: Counter[str]) -> bool:
    return any("%y" in pattern for pattern in patterns)


def _number_format(counts: DateCounts, name: str) -> str | None:
    """The format of times that are numbers; None if they are digits of a date, or of no known unit."""
    from sources.datasets.detect.roles import words_of

    low, high = counts.low, counts.high
    for unit, scale in (("epoch_s", 1.0), ("epoch_ms", 1e3), ("epoch_us", 1e6), ("epoch_ns", 1e9)):
        if 631_152_000 * scale <= low and high <= 4_102_444_800 * scale:
            return unit
    digits = sum(counts.shapes[shape] for shape in NUMERIC_SHAPES)
    if (
        digits
        and digits == sum(counts.lengths.values())
        and any(max(counts.fits[s].values(), default=0) == counts.shapes[s] for s in NUMERIC_SHAPES if counts.shapes[s])
    ):
        return None
    words = words_of(name)
    if low >= 29_221 and high <= 73_050 and (counts.fractions or re.search("dat|time|when|zeit|fecha|booked", words)):
        return "excel"
    for unit, pattern in (("seconds", "sec|transactiondt|_s$"), ("hours", "hour|step|stunde"), ("days", "day|tag")):
        if re.search(pattern, words):
            return unit
    return None
