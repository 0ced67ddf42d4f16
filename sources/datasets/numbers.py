"""Numbers and sums of money as text → doubles. A number is read only if it fits the given marks exactly.

Strict on purpose: under a decimal point, `1.234,56` and `1,50` are no numbers, not 1.234 and 150. Signs, parentheses
and currency symbols never change which digits count, so they are always understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

import polars as pl

_CODES = """AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF
CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG
HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK
MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD
SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV
WST XAF XCD XOF XPF YER ZAR ZMW ZWL BTC USDT"""
CURRENCIES = frozenset(_CODES.split())
_SYMBOLS = """€ EUR £ GBP ₹ INR ₽ RUB ₺ TRY ₴ UAH ₩ KRW ₪ ILS ₫ VND ฿ THB ₦ NGN ₱ PHP R$ BRL A$ AUD C$ CAD US$ USD
HK$ HKD NZ$ NZD S$ SGD zł PLN Kč CZK Ft HUF Fr. CHF SFr. CHF"""
SYMBOLS = dict(zip(_SYMBOLS.split()[::2], _SYMBOLS.split()[1::2], strict=True))
"""Symbols that name one currency. `$`, `¥` and `kr` are those of several, so they name none."""
_LOCAL = "kr. kr Rs. Rs RM TL lei руб. руб р. R zł Kč Ft Fr. SFr. eur usd gbp chf"
_SIGN = "[$¢£¤¥֏؋৲৳৻૱௹฿៛₠-⃀꠸﷼﹩＄￠￡￥￦]"
_CURRENCY = "|".join([*sorted(CURRENCIES), f"[A-Z]{{0,3}}{_SIGN}", *map(re.escape, _LOCAL.split())])
_MINUS = "\u2212\u2013-"
_AROUND = re.compile(
    rf"(?P<open>\()?\s*(?P<before>[+{_MINUS}])?\s*(?P<unit>{_CURRENCY})?\s*(?P<inside>[+{_MINUS}])?\s*\0"
    rf"(?P<exponent>[eE][+-]?[0-9]{{1,3}})?\s*(?P<unit_after>{_CURRENCY})?\s*(?P<after>[+{_MINUS}])?\s*"
    r"(?P<word>CR|DR|Cr|Dr|cr|dr)?\s*(?P<close>\))?"
)
"""What may stand before and behind the digits, with a zero byte in their place."""
_DIGITS = r"(?s)^(?P<before>.*?)(?P<number>[.,]?[0-9](?:[0-9.,'’\s]*[0-9.,])?)(?P<behind>.*)$"
_DOTTED_UNIT = r"^([-(\s]*(?:kr|Rs|S?Fr|руб|р))\.\s*([0-9])"
_PLAIN = r"^-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?$"
_GROUP = {"": None, ",": ",", ".": r"\.", "'": "['’]", " ": r"\s"}


@dataclass(frozen=True)
class NumberFormat:
    """decimal: "." or ",". thousands: "", ",", ".", "'" or " " (any space). They must differ."""

    decimal: str = "."
    thousands: str = ""

    @cached_property
    def pattern(self) -> str:
        """What the digits and marks of a number look like. Groups may have two digits, as in India: 1,23,456.00; a
        number in groups doesn't begin with 0."""
        point, group = re.escape(self.decimal), _GROUP[self.thousands]
        grouped = rf"|[1-9][0-9]{{0,2}}(?:{group}[0-9]{{2,3}})*{group}[0-9]{{3}}" if group else ""
        return rf"^(?:(?:[0-9]+{grouped})(?:{point}[0-9]*)?|{point}[0-9]+)$"


DOT = NumberFormat()


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    return {**SYMBOLS, **{code: code for code in CURRENCIES}, **{c.lower(): c for c in ("EUR", "USD", "GBP", "CHF")}}


def plain(values: pl.Series) -> pl.Series:
    """Whether each text is a number with a decimal point and no marks besides. Boolean, null for null."""
    return values.str.contains(_PLAIN)


def parse(values: pl.Series, form: NumberFormat) -> pl.Series:
    """Text or numbers → Float64, null where the value is not a finite number in this format, without anything around
    it. Values must be stripped.
    """
    if values.dtype != pl.String or (form.decimal == "." and plain(values).all()):
        number = values.cast(pl.Float64, strict=False)
        return pl.select(pl.when(number.is_finite()).then(number)).to_series()
    fits = values.str.contains(rf"^[+-]?{form.pattern[1:-1]}(?:[eE][+-]?[0-9]{{1,3}})?$")
    digits = values.str.replace_all(_GROUP[form.thousands] or "", "") if form.thousands else values
    number = digits.str.replace(form.decimal, ".", literal=True).cast(pl.Float64, strict=False)
    return pl.select(pl.when(fits & number.is_finite()).then(number)).to_series()


@dataclass(frozen=True, slots=True)
class Split:
    """Sums of money, split. number: the digits and their marks, String, null if there are none. exponent: String. sign:
    1 or -1, null if what is around the digits is neither sign nor currency. unit: the currency as written, "" for none.
    """

    number: pl.Series
    exponent: pl.Series
    sign: pl.Series
    unit: pl.Series

    def amounts(self, form: NumberFormat) -> pl.Series:
        """Float64, null where the digits don't fit the format."""
        digits = self.number.str.replace_all(_GROUP[form.thousands] or "", "") if form.thousands else self.number
        if form.decimal != ".":
            digits = digits.str.replace(form.decimal, ".", literal=True)
        value = (digits + self.exponent).cast(pl.Float64, strict=False) * self.sign
        fits = self.number.str.contains(form.pattern) & value.is_finite()
        return pl.select(pl.when(fits).then(value)).to_series()


def split(values: pl.Series) -> Split:
    """Split stripped texts into digits, sign and currency. Few different things stand around digits:
    each is read once.
    """
    if values.str.contains(_DOTTED_UNIT).any():
        values = values.str.replace(_DOTTED_UNIT, "${1} ${2}")  # Rs.500 is 500, not .500
    parts = values.str.extract_groups(_DIGITS).struct
    around = parts.field("before") + "\0" + parts.field("behind")
    found = {text: _around(text) for text in around.drop_nulls().unique().to_list()}
    sign = around.replace_strict({text: each[0] for text, each in found.items()}, default=None, return_dtype=pl.Float64)
    exponent, unit = (
        around.replace_strict({t: each[place] for t, each in found.items()}, default="", return_dtype=pl.String)
        for place in (1, 2)
    )
    return Split(parts.field("number"), exponent, sign, unit)


def _around(text: str) -> tuple[float | None, str, str]:
    """(sign, exponent, currency) of what is around digits."""
    found = _AROUND.fullmatch(text)
    if found is None or (found["open"] is None) != (found["close"] is None):
        return None, "", ""
    negations = sum(found[name] is not None and found[name] in _MINUS for name in ("before", "inside", "after"))
    negations += (found["open"] is not None) + ((found["word"] or "").lower() == "cr")
    unit = found["unit"] or found["unit_after"] or ""
    return (1.0, -1.0, None)[min(negations, 2)], found["exponent"] or "", unit


def parse_money(values: pl.Series, form: NumberFormat, *, currency: bool = False) -> tuple[pl.Series, pl.Series | None]:
    """(amounts, currencies): Float64, negative for `-5`, `5-`, `(5)` and `5 CR`, null where the value is no number in
    this format; and, if asked for, String: the currency that the value names, "" if it names none.
    """
    if values.dtype != pl.String or (form.decimal == "." and plain(values).all()):
        return parse(values, form), pl.Series([""]).new_from_index(0, len(values)) if currency else None
    parts = split(values)
    if not currency:
        return parts.amounts(form), None
    return parts.amounts(form), parts.unit.replace_strict(_names(), default="", return_dtype=pl.String)
