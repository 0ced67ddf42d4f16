"""The feature spec: what every column of the feature vector means. Ordered and versioned; this table is the source.

Changing a meaning, the order or the length requires a new `SPEC_VERSION`; models name the version they read.
docs/features.md is generated from this module and a test compares the two.

"Before" always means before this transaction: features are point in time. Windows are sums over whole buckets aligned
to the epoch, so a window of n buckets of width w covers between (n−1)·w and n·w up to and including the current bucket.
Windows, recency, counts and ages follow the receive time, which no client can set (`core.receipt`); hour, weekday and
travel follow the source's time. A transaction belongs to the bucket of its receive time. Only history can be
late: then a transaction gets the features of its own time, computed from what had arrived by then. It is counted in its
own bucket, unless a newer bucket (n or more buckets later) has taken that bucket's place; then the window ignores it. A
newer bucket that takes a place drops the older contents, so a late transaction no longer sees them in its window.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from core.times import DAY_MS, HOUR_MS, MINUTE_MS

SPEC_VERSION = 3


class Window(NamedTuple):
    """A sliding window of `buckets` buckets of `width_ms` each."""

    name: str
    width_ms: int
    buckets: int


WINDOWS = (
    Window("10m", MINUTE_MS, 10),
    Window("1h", 5 * MINUTE_MS, 12),
    Window("24h", HOUR_MS, 24),
    Window("7d", 6 * HOUR_MS, 28),
    Window("30d", DAY_MS, 30),
)
BUCKETS_TOTAL = sum(w.buckets for w in WINDOWS)

DECAY_HALF_LIFE_MS = 30 * DAY_MS
RECENT_MERCHANTS = 16
RECENT_CATEGORIES = 8
RECENT_COUNTRIES = 8
RECENT_DEVICES = 8
DUPLICATE_MEMORY = 32
HOUR_COUNTS_MAX = 1024

TYPICAL_PLAIN = 10
TYPICAL_CUT = 2.0
TYPICAL_MEMORY = 512
HIGH_FACTOR = 3.0
HIGH_HALF_LIFE_MS = 7 * DAY_MS
"""The typical amount moves by (x − typical) / min(n, TYPICAL_MEMORY) with the n-th amount x, which is first cut at
TYPICAL_CUT times the typical amount plus 1 once TYPICAL_PLAIN have been seen: the M-estimator of Huber (1964), one step
an observation, so that a fortnight of a thief's purchases hardly moves it. A high amount is one above HIGH_FACTOR times
the typical amount, again once TYPICAL_PLAIN have been seen."""

RUN_GAP_DAYS = 8
"""A merchant's frauds form one run as long as at most this many days lie between one day with fraud and the next."""
LAST_KNOWN = (3, 8)


class Comparison(NamedTuple):
    """How drift compares a feature between two windows, and why.

    settle_days: days of log required before it is compared, because a 30-day sum still grows without any drift while
    the account has been followed for only 10 days. categories: its values, ascending (categorical only).
    """

    kind: Literal["numeric", "categorical", "excluded"]
    settle_days: int
    reason: str
    categories: tuple[float, ...] = ()


def _numeric(settle_days: int, reason: str = "a quantity") -> Comparison:
    return Comparison("numeric", settle_days, reason)


def _flag(settle_days: int, reason: str) -> Comparison:
    return Comparison("categorical", settle_days, reason, (0.0, 1.0))


def _excluded(reason: str) -> Comparison:
    return Comparison("excluded", 0, reason)


_HOURS = Comparison("categorical", 0, "24 hours on a circle: order has no meaning", tuple(map(float, range(24))))
_FEW_MERCHANTS = "few merchants have known fraud, and one moves all its payments for weeks, across accounts and days"


class Feature(NamedTuple):
    """One column: its meaning, unit, window ("" = none), what NaN means, how drift compares it, and words for an alert
    ("" = none). Reference columns are named after their table's kind.
    """

    name: str
    meaning: str
    unit: str
    window: str
    null: str
    drift: Comparison
    phrase: str = ""


# One entry per feature, not one argument per line.
# fmt: off
def _windowed(w: Window) -> tuple[Feature, ...]:
    span = f"{w.buckets} × {w.width_ms // 1000} s"
    drift = _numeric(w.width_ms * w.buckets // DAY_MS + 1, f"an account's last {w.name}")
    return (
        Feature(f"count_{w.name}", "transactions of the account before", "count", span, "never", drift,
            f"{{value:.0f}} transactions of this account in the last {w.name} before this one"),
        Feature(f"sum_{w.name}", "their amounts added up", "currency", span, "never", drift,
            f"{{value:,.2f}} spent in the last {w.name} before this one"),
        Feature(f"mean_{w.name}", "their mean amount", "currency", span, "none before", drift),
        Feature(f"max_{w.name}", "their largest amount", "currency", span, "none before", drift),
        Feature(f"merchants_{w.name}", "distinct merchants, by linear counting on 64 bits (Whang 1990)", "count", span,
            "never", drift, f"about {{value:.0f}} different merchants in the last {w.name}"),
    )


FEATURES: tuple[Feature, ...] = (
    Feature("amount", "amount of the transaction", "currency", "", "never", _numeric(0), "amount {value:,.2f}"),
    Feature("hour_of_day", "hour of the event time, UTC", "hour", "", "never", _HOURS, "at {value:.0f}:00 UTC"),
    Feature("day_of_week", "0 = Monday … 6 = Sunday, UTC", "day", "", "never",
        _excluded("the calendar: says which days are in the window, not what they look like")),
    *(feature for window in WINDOWS for feature in _windowed(window)),
    Feature("amount_to_mean_7d", "amount / mean_7d", "ratio", "7d", "none before or mean 0",
        _numeric(8, "relative to the account's last 7 days"), "{value:.1f} times this account's 7-day average"),
    Feature("amount_to_mean_30d", "amount / mean_30d", "ratio", "30d", "none before or mean 0",
        _numeric(31, "relative to the account's last 30 days"), "{value:.1f} times this account's 30-day average"),
    Feature("amount_to_max_30d", "amount / max_30d", "ratio", "30d", "none before or max 0",
        _numeric(31, "relative to the account's last 30 days"),
        "{value:.1f} times this account's largest amount in 30 days"),
    Feature("decayed_mean", "exponentially decayed mean amount, half-life 30 d", "currency", "", "none before",
        _numeric(31, "half-life 30 days: before one half-life it follows the account's age")),
    Feature("decayed_std", "exponentially decayed standard deviation (West 1979)", "currency", "", "none before",
        _numeric(31, "as decayed_mean; grows with the first transactions")),
    Feature("amount_zscore", "(amount − decayed_mean) / (decayed_std + 0.01·|decayed_mean| + 0.01)", "deviations", "",
        "none before", _numeric(31, "divides by decayed_std, which grows with the first transactions"),
        "{value:.1f} deviations above this account's usual amount"),
    Feature("typical_amount", "typical amount of the account, by a running mean that cuts outliers", "currency", "",
        "none before", _numeric(31, "settles with the account's first weeks of transactions")),
    Feature("amount_to_typical", "amount / typical_amount", "ratio", "", "none before or typical_amount 0",
        _numeric(31, "divides by typical_amount"), "{value:.1f} times this account's typical amount"),
    Feature("days_since_high_amount",
        f"since the account's latest transaction of more than {HIGH_FACTOR:.0f} typical amounts", "d", "",
        "no such transaction",
        _excluded("grows by a day a day until the next high amount, which a young log has few of"),
        "{value:.1f} days since an unusually high amount on this account"),
    Feature("high_amounts", f"such transactions before, each counting 2^(−age / {HIGH_HALF_LIFE_MS // DAY_MS} d)",
        "count", "", "never", _numeric(31, "half-life 7 days, after the ten transactions that an account needs first"),
        "{value:.1f} unusually high amounts on this account lately"),
    Feature("seconds_since_last", "since the account's latest transaction; negative if this one came late", "s", "",
        "none before", _numeric(8, "a gap longer than the log is not seen"),
        "{value:,.0f} s after this account's last transaction"),
    Feature("account_age_days", "since the account's first transaction", "d", "", "none before",
        _excluded("grows by a day a day"), "account first seen {value:.1f} days ago"),
    Feature("transactions_total", "transactions of the account before, ever", "count", "", "never",
        _excluded("only grows")),
    Feature("count_today", "transactions before on the same UTC day", "count", "day", "never", _numeric(1),
        "{value:.0f} earlier transactions today"),
    Feature("sum_today", "their amounts added up", "currency", "day", "never", _numeric(1),
        "{value:,.2f} spent earlier today"),
    Feature("hour_share", "share of the account's transactions within ±1 h of this hour of day", "share", "",
        "none before", _numeric(31, "share of the account's whole history: coarse while that is short"),
        "{value:.1%} of this account's transactions are at this time of day"),
    Feature("merchant_is_new", f"1 if not among the account's last {RECENT_MERCHANTS} merchants", "0/1", "",
        "none before or unknown", _flag(31, "yes or no; everything is new until 16 merchants are known"),
        "merchant new to this account"),
    Feature("category_is_new", f"1 if not among the account's last {RECENT_CATEGORIES} merchant categories", "0/1", "",
        "none before or unknown", _flag(31, "yes or no; everything is new until 8 categories are known"),
        "merchant category new to this account"),
    Feature("country_is_new", f"1 if not among the account's last {RECENT_COUNTRIES} countries", "0/1", "",
        "none before or unknown", _flag(31, "yes or no; everything is new at first"), "country new to this account"),
    Feature("device_is_new", f"1 if not among the account's last {RECENT_DEVICES} devices", "0/1", "",
        "none before or unknown", _flag(31, "yes or no; everything is new at first"), "device new to this account"),
    Feature("km_from_last", "straight line between the centres of this country and the last in-person one", "km", "",
        "not in person or a country unknown", _numeric(8), "{value:,.0f} km from the last in-person transaction"),
    Feature("speed_kmh", "km_from_last / hours between (at least one minute)", "km/h", "", "as km_from_last",
        _numeric(8), "{value:,.0f} km/h since the last in-person transaction"),
    Feature("fraud_verdicts", "fraud verdicts on the account so far", "count", "", "never", _excluded("only grows"),
        "{value:.0f} fraud verdicts on this account before"),
    Feature("days_since_fraud", "since the account's latest fraud verdict", "d", "", "no verdict",
        _excluded("grows by a day a day until the next verdict, and verdicts only accumulate"),
        "{value:.1f} days since a fraud verdict on this account"),
    Feature("legitimate_verdicts", "legitimate verdicts on the account so far", "count", "", "never",
        _excluded("only grows")),
    Feature("account_blocked", "1 while the account is blocked", "0/1", "", "never", _flag(0, "yes or no"),
        "the account is blocked"),
    Feature("merchant_count_1d", "merchant's transactions in the newest mature day", "count", "reference",
        "no table or merchant", _numeric(9, "table over 1d, 7 days of maturity before it")),
    Feature("merchant_count_7d", "… in the newest 7 mature days", "count", "reference", "no table or merchant",
        _numeric(15, "table over 7d, 7 days of maturity before it")),
    Feature("merchant_count_30d", "… in the newest 30 mature days", "count", "reference",
        "no table or merchant", _numeric(38, "table over 30d, 7 days of maturity before it")),
    Feature("merchant_risk_1d", "fraud share among merchant_count_1d", "share", "reference",
        "as merchant_count_1d, or count 0", _excluded(_FEW_MERCHANTS),
        "{value:.0%} of this merchant's recent transactions were fraud (1 day)"),
    Feature("merchant_risk_7d", "fraud share among merchant_count_7d", "share", "reference",
        "as merchant_count_7d, or count 0", _excluded(_FEW_MERCHANTS),
        "{value:.0%} of this merchant's recent transactions were fraud (7 days)"),
    Feature("merchant_risk_30d", "fraud share among merchant_count_30d", "share", "reference",
        "as merchant_count_30d, or count 0", _excluded(_FEW_MERCHANTS),
        "{value:.0%} of this merchant's recent transactions were fraud (30 days)"),
    Feature("merchant_reports_7d", "fraud verdicts on the merchant's transactions that came in the last 7 days",
        "count", "reference", "no table or merchant",
        _numeric(45, "reports of 7 days, and chargebacks come up to 5 weeks after the payment"),
        "{value:.0f} fraud reports on this merchant in 7 days"),
    Feature("merchant_days_since_fraud", "since the day of the merchant's newest transaction that is known to be fraud",
        "d", "reference", "no table, merchant, or such transaction in 38 days", _excluded(_FEW_MERCHANTS),
        "{value:.0f} days since the latest known fraud at this merchant"),
    Feature("merchant_run_days",
        f"since the first day of its run of frauds: those up to the newest without a gap of over {RUN_GAP_DAYS} days",
        "d", "reference", "as merchant_days_since_fraud", _excluded(_FEW_MERCHANTS),
        "known frauds at this merchant for {value:.0f} days"),
    Feature("merchant_run_frauds", "frauds of that run", "count", "reference", "no table or merchant",
        _excluded(_FEW_MERCHANTS), "{value:.0f} known frauds in a row at this merchant"),
    Feature("merchant_run_share",
        "share of fraud among the known transactions since that first day; known: fraud, or mature",
        "share", "reference", "as merchant_days_since_fraud", _excluded(_FEW_MERCHANTS),
        "{value:.0%} of this merchant's transactions since its first known fraud were fraud"),
    Feature("merchant_run_amount",
        "smallest amount among that run's frauds: small where a merchant leaks cards, high where one card is misused",
        "currency", "reference", "as merchant_days_since_fraud", _excluded(_FEW_MERCHANTS)),
    Feature("merchant_legitimate_since_fraud", "known legitimate transactions on the days after the newest known fraud",
        "count", "reference", "as merchant_days_since_fraud", _excluded(_FEW_MERCHANTS)),
    *(
        Feature(f"merchant_risk_last_{n}",
            f"share of fraud among the merchant's last {n} known transactions, the oldest day's in proportion",
            "share", "reference", "no table or merchant, or none known", _excluded(_FEW_MERCHANTS),
            f"{{value:.0%}} of this merchant's last {n} known transactions were fraud")
        for n in LAST_KNOWN
    ),
    Feature("device_accounts_30d", "accounts that used the device in 30 days", "count", "reference",
        "no table or device", _numeric(38, "table over 30 days"), "device used by {value:.0f} accounts in 30 days"),
    Feature("device_reports_30d", "fraud verdicts on the device's transactions that came in the last 30 days", "count",
        "reference", "no table or device",
        _numeric(68, "reports of 30 days, and chargebacks come up to 5 weeks after the payment"),
        "{value:.0f} fraud reports on this device in 30 days"),
    Feature("source_delay_s", "receive time minus the source's time; 0 for history, negative if its clock is ahead",
        "s", "", "never", _excluded("depends on the way here and on outages, not on the payer"),
        "received {value:,.0f} s after its own time"),
)
# fmt: on

NAMES: tuple[str, ...] = tuple(f.name for f in FEATURES)
WIDTH = len(FEATURES)
_INDEX = {name: column for column, name in enumerate(NAMES)}


def index(name: str) -> int:
    """Column of a feature. Raises KeyError for an unknown name."""
    return _INDEX[name]


def markdown() -> str:
    """The table for docs/features.md."""
    rows = [f"# Feature spec, version {SPEC_VERSION}", "", (__doc__ or "").split("\n\n", 2)[2].strip(), ""]
    rows += ["| # | name | meaning | unit | window | NaN means |", "|---|---|---|---|---|---|"]
    rows += [f"| {i} | `{f.name}` | {f.meaning} | {f.unit} | {f.window} | {f.null} |" for i, f in enumerate(FEATURES)]
    rows += ["", "## How drift compares them", ""]
    rows += ["| feature | compared as | settled after | why |", "|---|---|---|---|"]
    for f in FEATURES:
        days = "" if f.drift.kind == "excluded" else f"{f.drift.settle_days} d"
        rows.append(f"| `{f.name}` | {f.drift.kind} | {days} | {f.drift.reason} |")
    return "\n".join(rows) + "\n"
