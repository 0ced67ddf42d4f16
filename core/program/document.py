"""The document of a decision program: its records, its canonical form and its identity. Pure.

    TOML that a person writes ──reading──► Program ──canonical()──► bytes in the log ──decode()──► the same Program

The canonical form is JSON: keys sorted, defaults left out, expressions as the formatter prints them, libraries as
SHA-256. Its SHA-256 is the program's identity. The order of tables, keys, spaces and comments never shows in it; only
the order of `[[rules]]`, of examples, of an entity's fields and of actions does.

docs/programs.md describes every table and key.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from core.errors import UNDECODABLE, Corrupt
from core.events import Severity

BYTES_MAX = 1_000_000
FIELDS_MAX = 1_000
FEATURES_MAX = 1_000
RULES_MAX = 1_000
PARAMETERS_MAX = 1_000
ENTITIES_MAX = 100
EXAMPLES_MAX = 200
NAME_CHARACTERS_MAX = 64
"""Of a field, feature, parameter, entity or code."""

FieldType = Literal["number", "string", "bool", "time"]
Personal = Literal["none", "pseudonym", "personal", "secret"]
Effect = Literal["flag", "review", "decline", "allow"]
Mode = Literal["live", "shadow", "off"]
Scalar = float | bool | str


class _Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    pass


class Field(_Record, frozen=True):
    """A value that the source sends beside the standard fields. source: `attributes.X`, or a standard field.

    unit: for people. personal: its class of personal data. default: what a payment without it has instead; required: a
    payment without it is rejected; else it is missing.
    """

    source: str
    type: FieldType
    unit: str = ""
    personal: Personal = "none"
    default: Scalar | None = None
    required: bool = False


class Feature(_Record, frozen=True):
    """A named value. log: whether it is stored with every score. phrase: words for an alert, with `{value}`."""

    value: str
    log: bool = True
    phrase: str = ""
    unit: str = ""


class Rule(_Record, frozen=True):
    """A rule, or with `when` = "" a change of a library's rule of this code: what is None stays as the library has it.

    rollout: the share of accounts, in percent, for which it is live. words: for an alert, with `{names}`. expires: from
    00:00 UTC of this day (ISO 8601) on it is off.
    """

    code: str
    when: str = ""
    effect: Effect | None = None
    mode: Mode | None = None
    rollout: float | None = None
    words: str | None = None
    owner: str = ""
    expires: str = ""


class Decision(_Record, frozen=True):
    """When the model asks for a decision, and how grave it is: conditions; "" leaves it to the libraries.

    severity: condition by severity; the gravest one that holds counts. actions: what to do, by severity.
    """

    decline: str = ""
    review: str = ""
    severity: dict[Severity, str] = {}
    actions: dict[Severity, tuple[str, ...]] = {}


NO_DECISION = Decision()
"""The encoder omits this very object, compared by identity."""


class Payment(_Record, frozen=True):
    """Payments of an example: the values of fields by name. after: since the payment before, such as "30s"; at: the
    time (ISO 8601) instead. repeat: how many of them, each `after` the one before.
    """

    values: dict[str, Scalar] = {}
    at: str = ""
    after: str = ""
    repeat: int = 1


class Example(_Record, frozen=True):
    """A short history, and what must hold for its last payment. hits, misses: codes. probability: what the model says,
    None for 0.
    """

    name: str
    payments: tuple[Payment, ...]
    hits: tuple[str, ...] = ()
    misses: tuple[str, ...] = ()
    decision: str = ""
    severity: str = ""
    probability: float | None = None


class Program(_Record, frozen=True):
    """A decision program. uses: SHA-256 of libraries by `name@version`. parameters: defaults, own ones and libraries'.
    entities: the fields of each. limits: figures for backtests, by name. Keys of mappings ascend.
    """

    name: str
    version: str
    uses: dict[str, str] = {}
    fields: dict[str, Field] = {}
    parameters: dict[str, float] = {}
    entities: dict[str, tuple[str, ...]] = {}
    features: dict[str, Feature] = {}
    rules: tuple[Rule, ...] = ()
    decision: Decision = NO_DECISION
    limits: dict[str, float] = {}
    examples: tuple[Example, ...] = ()

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER = msgspec.json.Decoder(Program)


def canonical(program: Program) -> bytes:
    """The canonical form: JSON, UTF-8."""
    return _ENCODER.encode(program)


def digest(program: Program) -> str:
    """The program's identity: SHA-256 of its canonical form, 64 hex digits."""
    return hashlib.sha256(canonical(program)).hexdigest()


def decode(content: bytes) -> Program:
    """The program of a canonical form. Raises Corrupt if it is none: other bytes may mean the same, but have another
    digest, so nothing but the canonical form is accepted.
    """
    if len(content) > BYTES_MAX:
        raise Corrupt(f"a program has at most {BYTES_MAX:,} bytes, not {len(content):,}")
    try:
        program = _DECODER.decode(content)
    except UNDECODABLE as error:
        raise Corrupt(f"not the canonical form of a program: {error}") from None
    if canonical(program) != content:
        raise Corrupt("not the canonical form of a program: its keys, defaults or numbers are written differently")
    return program
