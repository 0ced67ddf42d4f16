"""Currencies: amounts in one base currency, so that a limit of 1,000 means the same for every payment. Pure.

RatesChanged (a control event) names the base currency and what one unit of each other currency is worth in it. The
worker logs a payment's `rate`, the one in force at the control position that it is decided under; features, rules,
severity and every sum of money use amount × rate (`base_amount`). Replay reads the logged rate and checks it against c.

    base        rate 1
    rated       its rate
    not given   rate 1: taken for the base currency
    any other   rate 1, and rule UNKNOWN_CURRENCY hits, since no limit means anything for its amount

Before a base is set, amounts are compared as they are: every code of ISO 4217 has rate 1, and any other is unknown.
Codes are compared in canonical form, in capitals.

Cost: 0.1 µs per transaction.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from msgspec.structs import force_setattr

from core.canonical import text
from core.errors import BadInput
from core.events import RatesChanged
from core.events.feedback import FeedbackReceived
from core.events.transactions import Transaction

RATES_MAX = 1_000
RATE_MIN, RATE_MAX = 1e-9, 1e9
_CODE = re.compile(r"[A-Z][A-Z0-9]{2,9}")

_MONEY = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BYR BZD "
    "CAD CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD EEK EGP ERN ETB EUR FJD FKP GBP "
    "GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW "
    "KWD KYD KZT LAK LBP LKR LRD LSL LTL LVL LYD MAD MDL MGA MKD MMK MNT MOP MRO MRU MUR MVR MWK MXN MXV MYR MZN "
    "NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE "
    "SLL SOS SRD SSP STD STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED "
    "VEF VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG ZWL"
)
ISO_4217 = frozenset(_MONEY.split())
"""Codes of money in ISO 4217, with those withdrawn since 2010; not metals, funds, tests and "no currency" (X…)."""


class Payment(Protocol):
    """A payment's amount in its own currency, and what one unit of that is worth in the base currency."""

    @property
    def amount(self) -> float: ...
    @property
    def rate(self) -> float: ...


ANSWERS_MAX = 4096


class Priced(Payment, Protocol):
    """A payment with its currency."""

    @property
    def currency(self) -> str: ...


def base_amount(payment: Payment) -> float:
    """The amount in the base currency."""
    return payment.amount * payment.rate


@lru_cache(maxsize=4096)
def code(currency: str) -> str:
    """The currency's code in canonical form; "" if none is given."""
    form = text(currency)
    return form.upper() if form.isascii() else form


@dataclass(frozen=True, slots=True)
class Rates:
    """The base currency, "" before one is set, and rates by code."""

    base: str = ""
    by_code: Mapping[str, float] = field(default_factory=dict)
    _answers: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)
    """What `knows` has answered: every payment asks."""

    def of(self, currency: str) -> float:
        """What one unit of the currency is worth in the base currency; 1 if that is not known."""
        return self.by_code.get(code(currency), 1.0)

    def knows(self, currency: str) -> bool:
        """Whether the currency can be compared with the base, or is not given."""
        answer = self._answers.get(currency)
        if answer is None:
            answer = self._knows(currency)
            if len(self._answers) < ANSWERS_MAX:
                self._answers[currency] = answer
        return answer

    def _knows(self, currency: str) -> bool:
        known = code(currency)
        if not known or known == self.base or known in self.by_code:
            return True
        return not self.base and known in ISO_4217

    def unknown(self, currencies: Iterable[str]) -> set[str]:
        """Those of the currencies, as given, that are not known."""
        return {currency for currency in set(currencies) if not self.knows(currency)}


def set_rates(rates: Rates, events: Iterable[Transaction | FeedbackReceived]) -> None:
    """Set the rate of payments and verdicts that are decided next, whatever it was."""
    for event in events:
        rate = rates.of(event.currency)
        if event.rate != rate:
            force_setattr(event, "rate", rate)


def wrong_rates(rates: Rates, transactions: Sequence[Priced]) -> dict[int, str]:
    """What is wrong with the logged rates of payments decided under `rates`, in words by index."""
    if not rates.by_code and all(t.rate == 1.0 for t in transactions):
        return {}
    return {
        i: f"rate: logged {t.rate!r}, but that of {t.currency!r} was {rates.of(t.currency)!r}"
        for i, t in enumerate(transactions)
        if t.rate != rates.of(t.currency)
    }


def check_code(currency: str) -> str:
    """The code in canonical form. Raises BadInput unless it could be one."""
    found = code(currency)
    if not _CODE.fullmatch(found):
        raise BadInput(f"{currency!r} is not a currency code; write three letters (ISO 4217), such as EUR")
    return found


def check_rates(event: RatesChanged) -> None:
    """Raise BadInput unless base and rates are valid: codes, each once, and positive rates; the base has rate 1."""
    base = check_code(event.base)
    if len(event.rates) > RATES_MAX:
        raise BadInput(f"{len(event.rates):,} rates, more than {RATES_MAX:,}")
    seen: dict[str, None] = {}
    for name, rate in event.rates.items():
        found = check_code(name)
        if found in seen:
            raise BadInput(f"the rate of {found} is given twice")
        seen[found] = None
        if not (math.isfinite(rate) and RATE_MIN <= rate <= RATE_MAX):
            raise BadInput(f"the rate of {found} must be a number from {RATE_MIN:g} to {RATE_MAX:g}, not {rate}")
        if found == base and rate != 1.0:
            raise BadInput(f"{base} is the base currency, so its rate is 1, not {rate:g}")


def rates_of(event: RatesChanged) -> Rates:
    """The event's rates by canonical code, without the base's own."""
    base = code(event.base)
    return Rates(base, {found: rate for name, rate in event.rates.items() if (found := code(name)) != base})
