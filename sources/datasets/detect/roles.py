"""Which column is which, by names in several languages and by what the columns hold. Proposes; a person
may say otherwise.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

import polars as pl

from sources.datasets.detect.questions import Answers
from sources.datasets.numbers import NumberFormat, parse_money
from sources.datasets.words import FRAUD_WORDS, LEGITIMATE_WORDS, NULL_WORDS, label_key

NAMES: dict[str, str] = {
    "account_id": """account_id account_number account_no account_nr account acct_id acct_no acct acc_no acc_id acc
        accountid account_ref iban konto_nr kontonummer konto kontoid compte numero_compte cuenta
        numero_cuenta conto rekening conta customer_id customer_no customer_number customer cust_id cust
        custid client_id client_no client clientid kunden_nr kundennummer kunden_id kunde cliente_id cliente
        id_cliente klant user_id user userid uid member_id member cardholder_id cardholder holder_id
        payer_id payer sender_id sender orig_acct nameorig originator from_account source_account
        debtor_account debtor debitor auftraggeber source card_id card_number card_no card_nr cardnumber
        cc_num cc_number card pan kartennummer karten_nr karte numero_carte carte tarjeta carta""",
    "card_id": """card_id card_number card_no card_nr cardnumber cc_num cc_number card pan card_hash card_token
        kartennummer karten_nr karte numero_carte carte tarjeta carta""",
    "transaction_id": """transaction_id transactionid transaction_no transaction_number trans_id trans_num trans_no
        txn_id txn_no txnid tx_id txid tran_id transaction_ref payment_id order_id reference reference_no ref_no
        ref uuid guid transaktions_id transaktionsnummer vorgangsnummer buchungs_id buchungsnummer
        id_transaction id_transaccion id_transazione operation_id event_id id""",
    "amount": """amount amt transaction_amount trans_amount txn_amount tx_amount transactionamt tx_amt base_amt
        amount_usd amount_eur amount_gbp amount_cents amount_minor amt_cents payment_amount purchase_amount
        value total sum price betrag umsatz summe wert montant somme valeur importe monto cantidad valor
        importo quantia bedrag kwota belopp belob castka""",
    "debit": """debit debit_amount amount_debit debits withdrawal withdrawals paid_out money_out out soll belastung
        ausgang debito montant_debit cargo dare debet""",
    "credit": """credit credit_amount amount_credit credits deposit deposits paid_in money_in in haben gutschrift
        eingang credito montant_credit abono avere""",
    "merchant_id": """merchant_id merchant_name merchant merchantid merch shop_id shop store_id store payee vendor
        seller terminal_id terminal recipient_id recipient receiver_id receiver beneficiary bene_acct counterparty
        namedest destination to_account target handler haendler handler_id haendler_id empfanger empfaenger
        zahlungsempfanger commercant marchand beneficiaire comercio comerciante beneficiario esercente
        negozio winkel sklep description""",
    "merchant_category": """merchant_category merchant_category_code mcc mcc_code category category_code branche
        kategorie categorie categoria merchant_type transaction_type trans_type txn_type tx_type type""",
    "currency": """currency currency_code ccy cur curr iso_currency transaction_currency wahrung waehrung devise moneda
        divisa moeda valuta""",
    "country": """country country_code ctry merchant_country land laendercode landercode pays pais paese nation""",
    "channel": """channel chan entry_mode pos_entry_mode payment_method payment_channel method kanal canal canale
        use_chip how""",
    "device_id": """device_id device dev deviceid device_info deviceinfo device_fingerprint fingerprint gerat geraet
        appareil dispositivo""",
    "ip": """ip ip_address ipaddress client_ip customer_ip ip_addr remote_addr adresse_ip""",
    "label": """is_fraud isfraud fraud fraud_flag fraudflag fraud_label fraudulent tx_fraud is_fraudulent
        fraud_reported fraud_ind label labels class is_chargeback chargeback cbk has_cbk is_laundering
        is_sar betrug ist_betrug betrugsfall fraude est_fraude es_fraude fraudulento fraudulenta frode
        is_frode target y status outcome verdict fr flag bad""",
    "scenario": """fraud_scenario tx_fraud_scenario fraud_type scenario modus fraud_modus typology betrugsart""",
}
"""Our field → names that its column may have, best first; without accents, words joined by `_`."""
TIME_NAMES = """transaction_time transaction_timestamp transaction_datetime transaction_date_time
    trans_date_trans_time tx_datetime tx_time tran_timestamp timestamp time_stamp datetime date_time
    booked_at booking_time occurred_at event_time created_at created purchase_time payment_time
    authorized_at auth_time transaction_date trans_date txn_date tx_date transaktionszeit
    transaktionsdatum buchungszeit buchungszeitpunkt zeitpunkt zeitstempel buchungstag buchungsdatum
    datum date when time zeit fecha_hora fecha data_ora data_hora data horodatage heure hora ora uhrzeit
    step transactiondt booking_date posting_date posted_at value_date valuta valutadatum wertstellung
    seconds hour day ts at unix_time epoch"""
NOT_TRANSACTION_TIMES = (
    "birth dob geburt naissance nacimiento nascita expir expiry valid ablauf open_date opened updated modified"
)
_PIECES = {
    "year": "year jahr annee ano anno yyyy yr tx_year trans_year",
    "month": "month monat mois mes mese mm tx_month trans_month",
    "day": "day tag jour dia giorno dd day_of_month tx_day trans_day",
    "time": "time zeit uhrzeit heure hora ora tx_time trans_time time_of_day hour stunde hh",
    "minute": "minute minuten min",
    "second": "second sekunde sec",
}
_CLOCK = r"^\d{1,2}(?:[:h]\d{2}(?:[:.]\d{2}(?:[.,]\d+)?)?|\.\d{2}\.\d{2})\s?(?:[AaPp]\.?[Mm]\.?)?$"
_DATELIKE = (
    r"(?i)^(?:\p{L}{2,9}\.?,?\s+)?(?:\d{1,4}[-/. ]\d{1,2}[-/. ]\d{1,4}|\d{1,2}[-. /]*\p{L}{3,10}\.?[-. /,]*\d{2,4}"
    r"|\p{L}{3,10}\.?\s+\d{1,2},?\s+\d{4}|\d{4}年\d{1,2}月\d{1,2}日|(?:19|20)\d{6}(?:T?\d{4,6})?Z?$)(?:$|[T\s,:_].*)"
    r"|^\p{L}{3}\s\p{L}{3}\s+\d{1,2}\s\d{2}:\d{2}:\d{2}\s.*\d{4}$|^\d{1,2}:\d{2}\S*\s.*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}$"
)
_FRAUD_NAME = re.compile("(?:(?:is|tx|ist|es|est)_?)?(?:fraud|betrug|fraude|frode|chargeback)(?:_?(?:flag|label|ind))?")
"""Names of labels whatever the values are; what those mean is then asked."""
_IP = r"^(?:\d{1,3}\.){3}\d{1,3}$|^[0-9a-fA-F:]*:[0-9a-fA-F:]+$"


def words_of(name: str) -> str:
    """A column's name as lower-case words joined by `_`, without accents: `Händler-ID` is `handler_id`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    plain = "".join(c for c in unicodedata.normalize("NFKD", spaced) if not unicodedata.combining(c))
    return "_".join(re.findall(r"[a-z0-9]+", plain.casefold()))


def rank(name: str, names: str) -> int | None:
    """The place of a column's name among names; None if it is none of them. An exact name comes before one that ends
    with it, begins with it or has it inside.
    """
    words = words_of(name)
    joined = words.replace("_", "")
    best: int | None = None
    for place, each in enumerate(names.split()):
        if words == each or joined == each.replace("_", ""):
            found = place
        elif len(each) > 3 and re.search(rf"(?:^|_){each}(?:_|$)", words):
            found = 200 + place
        elif len(each) > 4 and place == 0 and "fraud" in each and re.search("fraud|betrug|frode", words):
            found = 400
        else:
            continue
        best = found if best is None else min(best, found)
    return best


class Sample:
    """The first rows of a file: what each column seems to hold. frame: String or typed columns."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self.names = frame.columns
        self._given: dict[str, pl.Series] = {}

    def given(self, name: str) -> pl.Series:
        """The column's values that are something, as text."""
        if name not in self._given:
            column = self.frame[name].cast(pl.String).drop_nulls().str.strip_chars().str.strip_chars("'")
            self._given[name] = column.filter(~column.str.to_lowercase().is_in(NULL_WORDS))
        return self._given[name]

    def share(self, name: str, pattern: str) -> float:
        """The share of the column's values that match."""
        values = self.given(name)
        return float(values.str.contains(pattern).mean() or 0.0) if len(values) else 0.0  # type: ignore[arg-type]

    def is_money(self, name: str) -> bool:
        """Whether the values are numbers in some way of writing them."""
        values = self.given(name)
        if not len(values) or self.is_date(name):
            return False
        forms = (NumberFormat(".", ","), NumberFormat(",", "."), NumberFormat(",", " "), NumberFormat(".", "'"))
        return any(parse_money(values, form)[0].null_count() <= 0.5 * len(values) for form in forms)

    def is_date(self, name: str) -> bool:
        """Whether the values are dates, with or without a time of day."""
        place = rank(name, TIME_NAMES)
        enough = 0.5 if place is not None and place < 200 else 0.9
        return self.frame[name].dtype in (pl.Date, pl.Datetime) or self.share(name, _DATELIKE) >= enough

    def has_clock(self, name: str) -> bool:
        """Whether dates have a time of day."""
        if self.frame[name].dtype.is_temporal():
            return bool(self.frame[name].dtype == pl.Datetime)
        return (
            self.share(name, r"[0-9][:.h][0-9]{2}") >= 0.2
            and self.share(name, r":|h[0-9]|[\sT,][0-9]{1,2}[.][0-9]{2}(?:[.][0-9]{2})?$") > 0.2
        ) or (self.share(name, r"^[0-9]{12,14}Z?$|^[0-9]{8}T[0-9]{4,6}") >= 0.9)

    def is_clock(self, name: str) -> bool:
        """Whether the values are times of day alone."""
        if self.frame[name].dtype == pl.Time or self.share(name, _CLOCK) >= 0.9:
            return True
        place = rank(name, _PIECES["time"])
        return (
            place is not None and place < 200 and self.share(name, r"^\d{3,6}$") >= 0.9 and "hour" not in words_of(name)
        )

    def is_plain(self, name: str) -> bool:
        """Whether the values are neither dates nor times of day."""
        return not self.is_date(name) and not self.is_clock(name)

    def is_number(self, name: str) -> bool:
        """Whether the values are plain numbers."""
        return self.share(name, r"^-?\d+(?:[.,]\d+)?$") >= 0.9

    def is_label(self, name: str) -> bool:
        """Whether the values are few, and some are words for fraud or legitimate, or the name says what they mean."""
        keys = {label_key(value) for value in self.given(name).unique().to_list()[:30]}
        known = {label_key(w) for w in (*FRAUD_WORDS, *LEGITIMATE_WORDS)} | {"f", "l", "g"}
        return 0 < len(keys) <= 12 and (bool(keys & known) or bool(_FRAUD_NAME.fullmatch(words_of(name))))


def find_columns(sample: Sample, answers: Answers) -> dict[str, str]:
    """Our field (also debit, credit, label, scenario) → column, each column for one field (a card may be
    the account too).
    """
    fits: dict[str, Callable[[str], bool]] = {
        "amount": sample.is_money,
        "debit": sample.is_money,
        "credit": sample.is_money,
        "label": sample.is_label,
        "ip": lambda name: sample.share(name, _IP) >= 0.9,
        "currency": lambda name: sample.share(name, r"^\p{Sc}$|^[A-Za-z]{3}$") >= 0.9,
    }
    found: dict[str, str] = {
        field: column
        for field, column in answers.columns.items()
        if field not in ("time", "account_id") or "," not in column
    }
    found.pop("time", None)
    order = ("label", "scenario", "amount", "debit", "credit", "transaction_id", "account_id", *NAMES)
    for field in dict.fromkeys(order):
        if field in answers.columns or field in answers.constants:
            continue
        taken = set(found.values()) - ({found.get("account_id")} if field == "card_id" else set())
        ranked = [
            (place, position, name)
            for position, name in enumerate(sample.names)
            if (place := rank(name, NAMES[field])) is not None and name not in taken
            if fits.get(field, sample.is_plain)(name)
        ]
        if ranked:
            found[field] = min(ranked)[2]
    return _guessed(_settled(found, answers), sample, answers)


def _guessed(found: dict[str, str], sample: Sample, answers: Answers) -> dict[str, str]:
    """Amount and account by what columns hold, and in a file without names the label, if there is only
    one that can be it.
    """
    free = [
        name
        for name in sample.names
        if name not in found.values() and not sample.is_date(name) and not sample.is_clock(name)
    ]
    nameless = all(re.fullmatch(r"column_\d+", name) for name in sample.names)
    rows = sample.frame.height
    if "amount" not in found and "debit" not in found:
        decimals = [n for n in free if sample.is_money(n) and sample.share(n, r"[.,][0-9]{1,2}\D*$") >= 0.5]
        if len(decimals) == 1:
            found["amount"] = decimals[0]
            free.remove(decimals[0])
    if nameless and "label" not in found:
        flags = [n for n in free if sample.is_label(n) and len(sample.given(n)) and sample.given(n).n_unique() <= 3]
        if len(flags) == 1:
            found["label"] = flags[0]
            free.remove(flags[0])
    if "account_id" not in found and "account_id" not in answers.columns and "account_id" not in answers.constants:
        kinds = [n for n in free if 3 < sample.given(n).n_unique() < 0.9 * rows and len(sample.given(n)) == rows]
        kinds = [n for n in kinds if sample.share(n, r"\s|[.,][0-9]") < 0.1 and not sample.is_label(n)]
        if len(kinds) == 1:
            found["account_id"] = kinds[0]
    return found


def _settled(found: dict[str, str], answers: Answers) -> dict[str, str]:
    """Debit and credit only as a pair, and then no amount unless it was said."""
    pair = "debit" in found and "credit" in found
    if pair and ("amount" not in answers.columns):
        found.pop("amount", None)
    else:
        found.pop("debit", None)
        found.pop("credit", None)
    return found


def find_time(sample: Sample, answers: Answers, taken: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """(the columns of the time, other columns that could be it). Empty if there is none."""
    if "time" in answers.columns:
        return tuple(part.strip() for part in answers.columns["time"].split(",")), []
    free = [name for name in sample.names if name not in taken]
    wrong = tuple(NOT_TRANSACTION_TIMES.split())
    dates = [name for name in free if sample.is_date(name) and not any(w in words_of(name) for w in wrong)]

    def order(name: str) -> tuple[int, int]:
        place = rank(name, TIME_NAMES)
        return (500 if place is None else place, sample.names.index(name))

    full = sorted((name for name in dates if sample.has_clock(name)), key=order)
    if full:
        return (full[0],), full[1:]
    days = sorted(dates, key=lambda name: (sample.is_clock(name), order(name)))
    clocks = sorted((name for name in free if sample.is_clock(name) and _names_clock(name, sample, days)), key=order)
    if days and clocks:
        return (days[0], clocks[0]), days[1:]
    pieces = _date_pieces(sample, free)
    if pieces:
        return pieces, []
    numbers = [name for name in free if rank(name, TIME_NAMES) is not None and sample.is_number(name)]
    if days:
        return (days[0],), days[1:]
    numbers.sort(key=order)
    return (tuple(numbers[:1]), numbers[1:])


def _names_clock(name: str, sample: Sample, days: Sequence[str]) -> bool:
    """Whether a column that looks like times of day is one: 20.03.26 is a date too, so there the name must say so."""
    return not sample.is_date(name) or (name != days[0] and rank(name, _PIECES["time"]) is not None)


def _date_pieces(sample: Sample, free: Sequence[str]) -> tuple[str, ...]:
    """Columns named year, month, day and, if there are, time, or hour, minute and second."""
    found: dict[str, str] = {}
    for piece, names in _PIECES.items():
        ranked = [(place, name) for name in free if (place := rank(name, names)) is not None and place < 200]
        if ranked:
            found[piece] = min(ranked)[1]
    if not {"year", "month", "day"} <= set(found):
        return ()
    return tuple(found[piece] for piece in _PIECES if piece in found)
