"""What a schema registry's wire format costs a worker, in CPU time of one thread, with the schemas known
(`python -m benchmarks.wire_format`): per message, beside what the edge takes to decode and check it, and beside
fastavro. No registry is asked: that is one request per schema.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fastavro
import msgspec

from benchmarks.running import per_call_us
from console import edge_schemas
from core.validation import decode_transaction
from ingest import avro
from ingest.wire_format import WireFormat
from tests.builders.registry import Registry

AVRO, JSON = 1, 2
CALLS = 50_000
KEY = b"a000005"
PAYMENT: dict[str, Any] = {
    "transaction_id": "t7-000011702",
    "account_id": "a000005",
    "amount": 723.42,
    "occurred_at": 1_772_628_240_000,
    "currency": "EUR",
    "merchant_id": "m00003",
    "merchant_category": "electronics",
    "country": "DE",
    "channel": "card_not_present",
    "device_id": "d-81",
    "card_id": "c0000051",
}


def main() -> None:
    """Print one line per cost."""
    text = edge_schemas.text("transaction", "avro")
    schema = fastavro.parse_schema(msgspec.json.decode(text))
    packed = io.BytesIO()
    fastavro.schemaless_writer(packed, schema, PAYMENT)
    payload, plain = packed.getvalue(), msgspec.json.encode(PAYMENT)
    framed = {number: b"\x00" + number.to_bytes(4, "big") for number in (AVRO, JSON)}
    read = avro.reader(text)
    costs: dict[str, Callable[[], object]]
    with Registry(schemas={AVRO: ("AVRO", text), JSON: ("JSON", "{}")}) as registry:
        wire = WireFormat(registry.url, None)
        costs = {
            "JSON without a frame": lambda: wire.read(plain),
            "JSON in a frame": lambda: wire.read(framed[JSON] + plain),
            "Avro in a frame": lambda: wire.read(framed[AVRO] + payload),
            "  of it, reading Avro": lambda: read(payload),
            "  reading it by fastavro": lambda: fastavro.schemaless_reader(io.BytesIO(payload), schema, None),
            "the edge's decoding of the JSON": lambda: decode_transaction(plain, KEY),
        }
        empty = per_call_us(lambda: None, CALLS)
        for name, run in costs.items():
            run()
            print(f"{name:<34} {per_call_us(run, CALLS) - empty:>7.2f} µs a payment")


if __name__ == "__main__":
    main()
