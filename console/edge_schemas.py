"""The schemas of all that crosses the edge, as JSON Schema (2020-12) and, of what lies on Kafka, as Avro: from the
structs that decode and encode it, and the limits of `core.validation`. `make docs` writes them to docs/schemas.

A schema says what it can. What it can't, and the edge refuses nevertheless, is listed in docs/schemas.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import inspect

from core import validation
from core.errors import BadInput
from core.events import AccountEvent, FeedbackReceived, Transaction
from core.validation import AMOUNT_MAX, ATTRIBUTES_MAX, ID_CHARACTERS_MAX, NAMES_MAX, TIME_MAX_MS, TIME_MIN_MS
from ingest.publisher import DeadLetterHeaders, DecisionMessage
from responders.messages import WebhookBody

Schema = dict[str, Any]
Form = Literal["json", "avro"]
NAMESPACE = "stream_sentinel"
WORKERS_OWN = ("rate", "received_at", "recorded_at", "subject")
"""Fields that the worker sets: a message that has one is rejected."""
_TIME: Schema = {"minimum": TIME_MIN_MS, "exclusiveMaximum": TIME_MAX_MS}
_SOMETIMES = {"anyOf": [{"const": 0}, {"type": "integer", **_TIME}], "default": 0}
_AMOUNT = {"minimum": 0, "maximum": AMOUNT_MAX}


class Published(NamedTuple):
    """A schema that is published. roots: the structs of which a message is one."""

    meaning: str
    roots: tuple[type[msgspec.Struct], ...]
    on_kafka: bool
    finish: Callable[[Schema], Schema]


def _as_it_is(schema: Schema) -> Schema:
    return schema


def _of_transaction(schema: Schema) -> Schema:
    fields = schema["properties"]
    for name in ("transaction_id", "account_id"):
        fields[name]["minLength"] = 1
    fields["amount"] |= _AMOUNT
    fields["occurred_at"] |= _TIME
    fields["attributes"]["maxProperties"] = ATTRIBUTES_MAX
    return _strict(schema, {})


def _of_feedback(schema: Schema) -> Schema:
    fields = schema["properties"]
    fields["account_id"]["minLength"] = 1
    fields["occurred_at"] |= _TIME
    is_verdict = schema["title"] == FeedbackReceived.__name__
    if is_verdict:
        fields["transaction_id"]["minLength"] = 1
        fields["amount"] |= _AMOUNT
        fields["confidence"] |= {"minimum": 0, "maximum": 1}
        fields["transaction_occurred_at"] = dict(_SOMETIMES)
    return _strict(schema, {} if is_verdict else validation.TEXT_CHARACTERS_MAX)


def _strict(schema: Schema, longer: Any) -> Schema:
    """Without the worker's own fields and others, and with the limits of texts."""
    fields = {name: field for name, field in schema["properties"].items() if name not in WORKERS_OWN}
    for name, field in fields.items():
        if field.get("type") == "string":
            field["maxLength"] = longer.get(name, ID_CHARACTERS_MAX)
        elif field.get("type") == "array":
            field |= {"maxItems": NAMES_MAX}
            field["items"]["maxLength"] = ID_CHARACTERS_MAX
    return schema | {"properties": fields, "additionalProperties": False}


PUBLISHED: dict[str, Published] = {
    "transaction": Published("a payment, on `transactions_topic`", (Transaction,), True, _of_transaction),
    "feedback": Published(
        "a verdict, block, act on a case or outcome of an action, on `feedback_topic`",
        AccountEvent.__args__,
        True,
        _of_feedback,
    ),
    "decision": Published("a decision, on `decisions_topic`", (DecisionMessage,), True, _as_it_is),
    "dead-letter": Published(
        "the headers on `dead_letter_topic`, as texts; key and value are those of the rejected message",
        (DeadLetterHeaders,),
        False,
        _as_it_is,
    ),
    "webhook": Published("the body of a webhook", (WebhookBody,), False, _as_it_is),
}
"""By name, in the order of docs/schemas.md."""


def names(form: Form) -> list[str]:
    """Which schemas there are in a form."""
    return [name for name, each in PUBLISHED.items() if form == "json" or each.on_kafka]


def text(name: str, form: Form = "json") -> str:
    """A schema as it is published. Raises BadInput if there is none."""
    if name not in names(form):
        raise BadInput(f"there is no schema {name!r} in this form; there are {', '.join(names(form))}")
    schema: Any = json_schema(name) if form == "json" else avro_schema(name)
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def json_schema(name: str) -> Schema:
    """The JSON Schema of a message."""
    published = PUBLISHED[name]
    found, definitions = msgspec.json.schema_components(published.roots)
    for definition in definitions.values():
        definition["description"] = " ".join(definition.get("description", "").split())
    for root in published.roots:
        definitions[root.__name__] = published.finish(definitions[root.__name__])
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:{NAMESPACE}:{name}:1"}
    if len(published.roots) == 1:
        body = definitions.pop(published.roots[0].__name__)
    else:
        body = {"title": name, "anyOf": list(found)}
    return {**head, **body, **({"$defs": definitions} if definitions else {})}


def avro_schema(name: str) -> Any:
    """The Avro schema of a message: a record, or a union of records."""
    records = [_record(root) for root in PUBLISHED[name].roots]
    return records[0] if len(records) == 1 else records


def _record(struct: type[msgspec.Struct]) -> Schema:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    fields: list[Schema] = []
    if info.tag_field is not None:
        fields.append({"name": info.tag_field, "type": "string", "default": info.tag})
    for field in info.fields:
        if field.encode_name in WORKERS_OWN:
            continue
        entry: Schema = {"name": field.encode_name, "type": _avro(field.type)}
        if not field.required:
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            entry["default"] = list(default) if isinstance(default, tuple) else default
        fields.append(entry)
    doc = " ".join((struct.__doc__ or "").split())
    return {"type": "record", "name": struct.__name__, "namespace": NAMESPACE, "doc": doc, "fields": fields}


def _avro(kind: inspect.Type) -> Any:
    """The Avro type of a field. A choice of words is a string: the words may become more."""
    match kind:
        case inspect.StrType() | inspect.LiteralType():
            return "string"
        case inspect.IntType():
            return "long"
        case inspect.FloatType():
            return "double"
        case inspect.BoolType():
            return "boolean"
        case inspect.NoneType():
            return "null"
        case inspect.UnionType():
            parts = sorted(kind.types, key=lambda each: not isinstance(each, inspect.NoneType))
            return [_avro(each) for each in parts]
        case inspect.DictType():
            return {"type": "map", "values": _avro(kind.value_type)}
        case inspect.VarTupleType() | inspect.ListType():
            return {"type": "array", "items": _avro(kind.item_type)}
    raise AssertionError(f"no Avro type for {kind}")
