"""Generates docs/language.md; a test compares the two."""

from __future__ import annotations

from core.program import patterns, tokens, windows
from core.program.fields import OUTCOME_VALUES, OUTCOMES, STANDARD
from core.program.functions import FUNCTIONS, Function
from core.program.typed import CHARACTERS, Type

_TYPES: dict[Type, str] = {
    "number": "number", "bool": "bool", "string": "text", "time": "time", "numbers": "list", "strings": "list"
}  # fmt: skip

_HEAD = """# The language of decision programs

Features, rules and decisions are expressions in a typed subset of [CEL](https://cel.dev), the Common Expression
Language. Every expression has one type, known before anything runs, and a known cost; nothing in it can loop.

```
amount > 500 && (country == 'DE' || mean_30d >= 99.99)
count(account, '10m', decision == 'decline') + 1
merchant_id in list('watch') ? 1 : 0
```

## Values

| type | literals | notes |
|---|---|---|
| number | `500`, `0.5`, `1e3`, `0x1F` | 64-bit IEEE 754; `5 / 2` is 2.5; x / 0 is an infinity or NaN |
| bool | `true`, `false` | |
| text | `'DE'`, `"DE"`, `'it\\'s'`, `r'\\d'` | CEL's escapes; `r'…'` has none |
| time | | a field; `t1 - t2` is the seconds between |
| list | `['DE', 'AT']`, `[1, 2]` | constants, to the right of `in` only |

**A missing value** (a field that the source left out, an aggregate over nothing) makes what is computed from it missing
too. `&&` and `||` absorb it where the other side decides: `false && missing` is false, `true || missing` is true. A
condition that ends up missing does not hold. `has(x)` asks, `default(x, y)` replaces.

**Text** of standard fields is compared in canonical form, so `merchant_id == 'SHOP-66'` also finds `shop-66 ` (ADR 14);
own fields are compared as the source sent them. Functions that read characters see the canonical form, so their
constants must be written in it: `merchant_id.startsWith('shop')`. Another spelling could never match and is refused.

**A named feature** is stored with the score as a 32-bit number. Whoever reads it by its name reads the stored value,
and a comparison that it takes part in rounds both sides to 32 bits, so `mean_30d >= 99.99` holds for a mean of 99.99.

## Operators

From loose to tight. Parentheses group.

| operators | operands | result |
|---|---|---|
| `c ? a : b` | a bool, and two of one type | their type |
| `\\|\\|` | bool | bool |
| `&&` | bool | bool |
| `==` `!=` | two of one type: number, bool, text or time | bool |
| `<` `<=` `>` `>=` | two numbers, or two times | bool |
| `in` | a number or text, and a list; a field and `list('watch')` | bool |
| `+` `-` | numbers; `+` also joins texts, `-` also subtracts times | number, text |
| `*` `/` `%` | numbers; `%` is the remainder, with the sign of the left side | number |
| `!` `-` | bool; number | the same |
| `x.f(y)`, `f(x, y)` | functions | |

Comparisons don't chain: `1 < x && x < 3`. What can have one answer only is refused: `hour == 24`,
`decision == 'declined'`, `country == 'GER'`, `x / 0`.

## Where what can be read

| | features | rules | `[decision]` | inside an aggregate |
|---|---|---|---|---|
| fields, standard and own | ✓ | ✓ | ✓ | ✓, of the earlier payment |
| features by name, parameters, `list(…)` | ✓ | ✓ | ✓ | |
| aggregates, columns of the library | ✓ | | | |
| `probability`, `reviews` | | | ✓ | |
| `decision`, `hit(…)` | | | ✓ | ✓, of the earlier payment |
| `severity`, `alerted`, `verdict` | | | | ✓ |

Rules read what is stored, so that every rule can be judged again later: what an aggregate computes gets a name in
`[features]` first. The columns of the library are all of [features](features.md), as functions without arguments:
`speed_kmh()`."""

_CEL = """## Beside CEL

A test holds the parser against Google's implementation of CEL: what both accept has the same value. What is different:
integer literals are numbers, so `5 / 2` is 2.5; comparisons don't chain; `has` and `default` take any expression; there
are no maps, messages, macros, `null`, bytes, triple quotes and comments; strings have no order."""

_SHORTEST = windows.shown(windows.WIDTHS[0] * windows.BUCKETS_MIN)
_LONGEST = windows.shown(windows.WINDOW_MAX_MS)
_WIDTHS = ", ".join(map(windows.shown, windows.WIDTHS))
_AGGREGATES = f"""## Aggregates

Figures over the earlier payments of an entity, always before this one. `E` is `account`, or a declared entity that
contains `account_id`, such as `account_merchant = ["account_id", "merchant_id"]`: this account's payments at this
payment's merchant. `x` and the condition are about the earlier payment: its fields, its `decision`, `severity`,
`alerted` and `hit('CODE')`. A payment whose condition or `x` is missing does not count.

`W` is a window of {_SHORTEST} to {_LONGEST}, written `'10m'`, `'24h'`, `'30d'`; it follows the receive time.
It is divided into {windows.BUCKETS_MIN} to {windows.BUCKETS_MAX} equal buckets, as wide as they can be among
{_WIDTHS}. A window of n buckets of width w covers between (n − 1)·w and n·w.

A condition on `verdict` makes `count`, `share` and `since` read the verdicts on the account instead, at the time at
which they came; it reads nothing else."""

_LIMITS = f"""## Limits

A text has at most {tokens.CHARACTERS_MAX:,} characters, {tokens.TOKENS_MAX:,} names, values and signs,
and {tokens.LEVELS_MAX} levels; a chain of `&&` or `||` is one level. A pattern has at most
{patterns.CHARACTERS_MAX} characters. Whole numbers are exact up to 2^53."""


def markdown() -> str:
    """The reference of the language."""
    operations = [each for each in FUNCTIONS if each.becomes != "aggregate"]
    aggregates = [each for each in FUNCTIONS if each.becomes == "aggregate"]
    parts = [
        _HEAD,
        "## Functions",
        _table(operations),
        _AGGREGATES,
        _table(aggregates),
        "## Fields",
        "\n".join([
            "| name | type | meaning |", "|---|---|---|",
            *(f"| `{name}` | {_TYPES[each.type]} | {each.meaning} |" for name, each in STANDARD.items()),
        ]),
        "Outcomes: " + "; ".join(map(_outcome, OUTCOMES)) + ".",
        _CEL,
        _LIMITS,
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _outcome(name: str) -> str:
    values = ", ".join(f"`'{value}'`" for value in OUTCOME_VALUES.get(name, ()))
    return f"`{name}` ({values or _TYPES[OUTCOMES[name]]})"


def _table(functions: list[Function]) -> str:
    rows = ["| function | result | meaning | example |", "|---|---|---|---|"]
    for each in functions:
        result = "as its argument" if each.result == "any" else _TYPES[each.result]
        meaning = each.meaning + ("; reads characters" if each.operation in CHARACTERS else "")
        rows.append(f"| `{each.signature}` | {result} | {meaning} | `{each.example}` |")
    return "\n".join(rows)
