"""The known public fraud datasets, as layouts. docs/datasets.md explains the choices their publishers left open.

Attributes and side columns are optional: excerpts of these datasets go around with any part of the columns.
"""

from __future__ import annotations

from core.times import parse_iso
from sources.datasets.layout import FileFormat, Join, Label, Layout, Money
from sources.datasets.timestamps import TimeFormat

HANDBOOK = Layout(
    name="handbook",
    columns={
        "transaction_id": "TRANSACTION_ID",
        "account_id": "CUSTOMER_ID",
        "merchant_id": "TERMINAL_ID",
        "amount": "TX_AMOUNT",
    },
    time=TimeFormat(("TX_DATETIME",)),
    label=Label("TX_FRAUD"),
    scenario="TX_FRAUD_SCENARIO",
    scenario_values={"0": "", "1": "large_amount", "2": "compromised_terminal", "3": "compromised_card"},
    optional=frozenset({"TX_FRAUD_SCENARIO"}),
)

SPARKOV = Layout(
    name="sparkov",
    columns={
        "transaction_id": "trans_num",
        "account_id": "cc_num",
        "merchant_id": "merchant",
        "merchant_category": "category",
        "amount": "amt",
        "card_id": "cc_num",
    },
    time=TimeFormat(("trans_date_trans_time",), ("iso", "%d-%m-%Y %H:%M")),
    label=Label("is_fraud"),
    constants={"currency": "USD", "country": "US"},
    attributes={
        "state": "state",
        "city_population": "city_pop",
        "home_latitude": "lat",
        "home_longitude": "long",
        "merchant_latitude": "merch_lat",
        "merchant_longitude": "merch_long",
    },
    optional=frozenset({"state", "city_pop", "lat", "long", "merch_lat", "merch_long"}),
)

PAYSIM = Layout(
    name="paysim",
    columns={
        "account_id": "nameOrig",
        "merchant_id": "nameDest",
        "merchant_category": "type",
        "amount": "amount",
    },
    time=TimeFormat(("step",), ("hours",), origin=parse_iso("2026-01-01T00:00:00Z"), spread=True),
    label=Label("isFraud"),
    constants={"channel": "transfer"},
    attributes={
        "balance_before": "oldbalanceOrg",
        "balance_after": "newbalanceOrig",
        "recipient_balance_before": "oldbalanceDest",
        "recipient_balance_after": "newbalanceDest",
    },
    optional=frozenset({"oldbalanceOrg", "newbalanceOrig", "oldbalanceDest", "newbalanceDest"}),
    aliases={"oldbalanceOrg": ("oldbalanceOrig",), "newbalanceOrig": ("newbalanceOrg",)},
)

BANKSIM = Layout(
    name="banksim",
    columns={
        "account_id": "customer",
        "merchant_id": "merchant",
        "merchant_category": "category",
        "amount": "amount",
    },
    time=TimeFormat(("step",), ("days",), origin=parse_iso("2012-11-01T00:00:00Z"), spread=True),
    label=Label("fraud"),
    constants={"currency": "EUR", "country": "ES"},
    attributes={"age_group": "age", "gender": "gender"},
    file=FileFormat(strip="'"),
    optional=frozenset({"age", "gender"}),
)

CREDITCARD = Layout(
    name="creditcard",
    columns={"amount": "Amount"},
    time=TimeFormat(("Time",), ("seconds",), origin=parse_iso("2013-09-01T00:00:00Z")),
    label=Label("Class"),
    constants={"account_id": "all", "currency": "EUR"},
    attributes={f"v{i}": f"V{i}" for i in range(1, 29)},
    optional=frozenset({f"V{i}" for i in range(4, 29)}),
)

IEEE_CIS = Layout(
    name="ieee-cis",
    columns={
        "transaction_id": "TransactionID",
        "account_id": ("card1", "addr1"),
        "merchant_category": "ProductCD",
        "amount": "TransactionAmt",
        "device_id": "DeviceInfo",
        "card_id": "card1",
    },
    time=TimeFormat(("TransactionDT",), ("seconds",), origin=parse_iso("2017-11-30T00:00:00Z")),
    label=Label("isFraud"),
    constants={"currency": "USD", "channel": "online"},
    attributes={
        "device_type": "DeviceType",
        "card_brand": "card4",
        "card_type": "card6",
        "payer_email_domain": "P_emaildomain",
        "recipient_email_domain": "R_emaildomain",
        "billing_distance": "dist1",
    },
    whole=("account_id", "card_id"),
    first_seen="D1",
    join=Join("train_transaction.csv", "train_identity.csv", "TransactionID", ("DeviceType", "DeviceInfo")),
    optional=frozenset({"addr1", "D1", "ProductCD", "card4", "card6", "P_emaildomain", "R_emaildomain", "dist1"}),
)
IEEE_SECONDS_A_ROW = 26.6
"""The published file's 15.7 million seconds by its 590,540 rows: how far apart rows are taken to be if an excerpt has
no
TransactionDT."""

TABFORMER = Layout(
    name="tabformer",
    columns={
        "account_id": "User",
        "card_id": ("User", "Card"),
        "amount": "Amount",
        "merchant_id": "Merchant Name",
        "merchant_category": "MCC",
        "channel": "Use Chip",
    },
    time=TimeFormat(("Year", "Month", "Day", "Time"), ("%Y %m %d %H:%M",)),
    money=Money(negative="refund"),
    label=Label("Is Fraud?"),
    constants={"currency": "USD"},
    values={
        "channel": {
            "Swipe Transaction": "card_present",
            "Chip Transaction": "card_present",
            "Online Transaction": "online",
        }
    },
    attributes={
        "entry": "Use Chip",
        "merchant_city": "Merchant City",
        "merchant_state": "Merchant State",
        "errors": "Errors?",
    },
    optional=frozenset({"MCC", "Merchant City", "Merchant State", "Errors?"}),
)

AMLSIM = Layout(
    name="amlsim",
    columns={
        "transaction_id": "TX_ID",
        "account_id": "SENDER_ACCOUNT_ID",
        "merchant_id": "RECEIVER_ACCOUNT_ID",
        "merchant_category": "TX_TYPE",
        "amount": "TX_AMOUNT",
    },
    time=TimeFormat(("TIMESTAMP",), ("days", "iso"), origin=parse_iso("2017-01-01T00:00:00Z")),
    label=Label("IS_FRAUD"),
    constants={"channel": "transfer"},
    attributes={"alert": "ALERT_ID"},
    optional=frozenset({"TX_TYPE", "ALERT_ID"}),
    aliases={
        "TX_ID": ("tran_id",),
        "SENDER_ACCOUNT_ID": ("orig_acct",),
        "RECEIVER_ACCOUNT_ID": ("bene_acct",),
        "TX_AMOUNT": ("base_amt",),
        "TIMESTAMP": ("tran_timestamp",),
        "IS_FRAUD": ("is_sar",),
    },
)

S_FFSD = Layout(
    name="s-ffsd",
    columns={
        "account_id": "Source",
        "merchant_id": "Target",
        "merchant_category": "Type",
        "amount": "Amount",
    },
    time=TimeFormat(("Time",), ("seconds",), origin=parse_iso("2026-01-01T00:00:00Z")),
    label=Label("Labels", fraud=("1",), legitimate=("0",), unlabelled=("2",)),
    attributes={"location": "Location"},
    optional=frozenset({"Type", "Location"}),
)

LAYOUTS = {
    layout.name: layout
    for layout in (HANDBOOK, IEEE_CIS, SPARKOV, PAYSIM, BANKSIM, CREDITCARD, TABFORMER, AMLSIM, S_FFSD)
}
