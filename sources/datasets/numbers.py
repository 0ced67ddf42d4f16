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
_CURRENCY = "|".join([*sorted(CURRENCIES), r"[A-Z]{0,3}\p{Sc}", *map(re.escape, _LOCAL.split())])
_MINUS = "[-\u2212\u2013]"
_MONEY = (
    rf"^(?P<open>\()?\s*(?P<before>{_MINUS}|\+)?\s*(?P<unit>{_CURRENCY})?\s*(?P<inside>{_MINUS}|\+)?\s*"
    r"(?P<number>[0-9.,][0-9.,'’\s]*?)(?P<exponent>[eE][+-]?[0-9]{1,3})?"
    rf"\s*(?P<unit_after>{_CURRENCY})?\s*(?P<after>{_MINUS}|\+)?\s*(?P<word>CR|DR|Cr|Dr|cr|dr)?\s*(?P<close>\))?$"
)
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


def parse_money(values: pl.Series, form: NumberFormat, *, currency: bool = False) -> tuple[pl.Series, pl.Series | None]:
    """(amounts, currencies): Float64, negative for `-5`, `5-`, `(5)` and `5 CR`, null where the value is no number in
    this format; and, if asked for, String: the currency that the value names, "" if it names none.
    """
    if values.dtype != pl.String or (form.decimal == "." and plain(values).all()):
        return parse(values, form), pl.Series([""]).new_from_index(0, len(values)) if currency else None
    parts = pl.DataFrame({"value": values}).select(pl.col("value").str.extract_groups(_MONEY)).unnest("value")
    number = pl.col("number").str.strip_chars()
    digits = number
    if form.thousands:
        digits = digits.str.replace_all(_GROUP[form.thousands] or "", "")
    if form.decimal != ".":
        digits = digits.str.replace(form.decimal, ".", literal=True)
    signs = [pl.col(name).str.contains(_MINUS).fill_null(False) for name in ("before", "inside", "after")]
    bracket = pl.col("open").is_not_null()
    credit = pl.col("word").str.to_lowercase() == "cr"
    negations = pl.sum_horizontal([*signs, bracket, credit.fill_null(False)])
    value = (digits + pl.col("exponent").fill_null("")).cast(pl.Float64, strict=False)
    valid = number.str.contains(form.pattern) & (bracket == pl.col("close").is_not_null()) & (negations <= 1)
    signed = pl.when(negations == 1).then(-value).otherwise(value)
    amounts = parts.select(pl.when(valid & value.is_finite()).then(signed)).to_series()
    if not currency:
        return amounts, None
    unit = pl.coalesce("unit", "unit_after", pl.lit(""))
    return amounts, parts.select(unit.replace_strict(_names(), default="", return_dtype=pl.String)).to_series()
