"""Currencies: what one unit is worth in the base currency."""

from .forms import in_form
from .record import Json

_MONEY = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BYR BZD CAD CDF
    CHE CHF CHW CLF CLP CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD EEK EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD
    GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR
    LRD LSL LTL LVL LYD MAD MDL MGA MKD MMK MNT MOP MRO MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB
    PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STD STN SVC SYP SZL THB
    TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VEF VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR
    ZMW ZWG ZWL
    """.split()
)
"""Currencies that are known before a base currency is set (ISO 4217)."""


class Rates:
    """The base currency and the worth of others in it, as an event says; before any, every currency is worth 1."""

    def __init__(self, event: Json | None) -> None:
        self._base = in_form("country", event["base"]) if event is not None else ""
        given = {} if event is None else event.get("rates", {})
        self._rates = {in_form("country", name): float(rate) for name, rate in given.items()}
        self._rates.pop(self._base, None)

    def of(self, currency: str) -> float:
        """What one unit is worth; 1 if that is not known."""
        return self._rates.get(in_form("country", currency), 1.0)

    def knows(self, currency: str) -> bool:
        """Whether amounts in it can be compared."""
        code = in_form("country", currency)
        if not code or code == self._base or code in self._rates:
            return True
        return not self._base and code in _MONEY
