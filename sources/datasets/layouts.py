"""The known public fraud datasets, as layouts. docs/datasets.md explains the choices their publishers left open."""

from __future__ import annotations

from core.times import parse_iso
from sources.datasets.mapping import Layout

HANDBOOK = Layout(
    name="handbook",
    columns={
        "transaction_id": "TRANSACTION_ID",
        "account_id": "CUSTOMER_ID",
        "merchant_id": "TERMINAL_ID",
        "amount": "TX_AMOUNT",
    },
    time_column="TX_DATETIME",
    time_format="iso",
    label="TX_FRAUD",
    scenario="TX_FRAUD_SCENARIO",
    scenario_values={"0": "", "1": "large_amount", "2": "compromised_terminal", "3": "compromised_card"},
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
    time_column="trans_date_trans_time",
    time_format="iso",
    label="is_fraud",
    constants={"currency": "USD", "country": "US"},
    attributes={
        "state": "state",
        "city_population": "city_pop",
        "home_latitude": "lat",
        "home_longitude": "long",
        "merchant_latitude": "merch_lat",
        "merchant_longitude": "merch_long",
    },
)

PAYSIM = Layout(
    name="paysim",
    columns={
        "account_id": "nameOrig",
        "merchant_id": "nameDest",
        "merchant_category": "type",
        "amount": "amount",
    },
    time_column="step",
    time_format="hours",
    origin=parse_iso("2026-01-01T00:00:00Z"),
    spread=True,
    label="isFraud",
    constants={"channel": "transfer"},
    attributes={
        "balance_before": "oldbalanceOrg",
        "balance_after": "newbalanceOrig",
        "recipient_balance_before": "oldbalanceDest",
        "recipient_balance_after": "newbalanceDest",
    },
)

BANKSIM = Layout(
    name="banksim",
    columns={
        "account_id": "customer",
        "merchant_id": "merchant",
        "merchant_category": "category",
        "amount": "amount",
    },
    time_column="step",
    time_format="days",
    origin=parse_iso("2012-11-01T00:00:00Z"),
    spread=True,
    label="fraud",
    constants={"currency": "EUR", "country": "ES"},
    attributes={"age_group": "age", "gender": "gender"},
    strip="'",
)

CREDITCARD = Layout(
    name="creditcard",
    columns={"amount": "Amount"},
    time_column="Time",
    time_format="seconds",
    origin=parse_iso("2013-09-01T00:00:00Z"),
    label="Class",
    constants={"account_id": "all", "currency": "EUR"},
    attributes={f"v{i}": f"V{i}" for i in range(1, 29)},
)

IEEE_CIS = Layout(
    name="ieee-cis",
    columns={
        "transaction_id": "TransactionID",
        "account_id": "account_key",
        "merchant_category": "ProductCD",
        "amount": "TransactionAmt",
        "device_id": "DeviceInfo",
        "card_id": "card1",
    },
    time_column="TransactionDT",
    time_format="seconds",
    origin=parse_iso("2017-11-30T00:00:00Z"),
    label="isFraud",
    constants={"currency": "USD", "channel": "online"},
    attributes={
        "device_type": "DeviceType",
        "card_brand": "card4",
        "card_type": "card6",
        "payer_email_domain": "P_emaildomain",
        "recipient_email_domain": "R_emaildomain",
        "billing_distance": "dist1",
    },
)
IEEE_KEY_COLUMNS = ("card1", "addr1", "TransactionDT", "D1")
IEEE_IDENTITY_COLUMNS = ("DeviceType", "DeviceInfo")

LAYOUTS = {layout.name: layout for layout in (HANDBOOK, IEEE_CIS, SPARKOV, PAYSIM, BANKSIM, CREDITCARD)}
