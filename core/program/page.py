"""Generates docs/language.md; a test compares the two."""

from __future__ import annotations

from core.features import spec
from core.features.kernel import LINEAR_COUNT
from core.program import patterns, tokens, windows
from core.program.fields import OUTCOME_VALUES, OUTCOMES, STANDARD
from core.program.functions import FUNCTIONS, Function
from core.program.layout import ENTRIES
from core.program.typed import CHARACTERS, Type

_TYPES: dict[Type, str] = {
    "number": "number", "bool": "bool", "string": "text", "time": "time", "numbers": "list", "strings": "list"
}  # fmt: skip

_HEAD = """# The language of decision programs

Features, rules and decisions are expressions in a typed subset of [CEL](https://cel.dev), the Common Expression
Language. Every expression has one type, known before anything runs, and a known cost; nothing in it can loop.

```text
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
| time | | only as a field; `t1 - t2` is the difference in seconds |
| list | `['DE', 'AT']`, `[1, 2]` | constants; only to the right of `in` |

**A missing value** (a field that the source left out, an aggregate over nothing) makes whatever is computed from it
missing too. `&&` and `||` absorb it where the other side decides: `false && missing` is false and `true || missing` is
true. A condition that is missing does not hold. `has(x)` tests for a value, `default(x, y)` replaces a missing one.

**Text** of standard fields is compared in canonical form, so `merchant_id == 'SHOP-66'` also finds `shop-66 ` (ADR 14);
own fields are compared as the source sent them. Functions that read characters see the canonical form, so their
constants must be written in it: `merchant_id.startsWith('shop')`. Another spelling could never match and is refused.

**A named feature** is stored with the score as a 32-bit number. An expression that names it reads the stored value, and
a comparison with it rounds both sides to 32 bits, so `mean_30d >= 99.99` holds for a mean of 99.99.

## Operators

From the loosest to the tightest. Parentheses group.

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

Comparisons don't chain: write `1 < x && x < 3`. A comparison that could have only one answer is refused, such as
`hour == 24`, `decision == 'declined'` or `country == 'GER'`; so is `x / 0`.

## What can be read where

| | features | rules | `[decision]` | inside an aggregate |
|---|---|---|---|---|
| fields, standard and own | ✓ | ✓ | ✓ | ✓, of the earlier payment |
| features by name, parameters, `list(…)` | ✓ | ✓ | ✓ | |
| aggregates, columns of the library | ✓ | | | |
| `probability`, `reviews` | | | ✓ | |
| `decision`, `hit(…)` | | | ✓ | ✓, of the earlier payment |
| `severity`, `alerted`, `verdict` | | | | ✓ |

Rules read only what is stored with the score, so that every rule can be evaluated again later. To use an aggregate in a
rule, give it a name in `[features]`. The columns of the library are those of [features](features.md), written as
functions without arguments: `speed_kmh()`."""

_CEL = """## Differences from CEL

A test compares the parser with Google's implementation of CEL: whatever both accept has the same value. The
differences: integer literals are numbers, so `5 / 2` is 2.5; comparisons don't chain; `has` and `default` take any
expression; there are no maps, messages, macros, `null`, bytes, triple quotes or comments; texts have no order."""

_MEMORY = spec.TYPICAL_MEMORY


def _linear(bits: int) -> str:
    return f"{LINEAR_COUNT[bits]:.1f}"


_SHORTEST = windows.shown(windows.WIDTHS[0] * windows.BUCKETS_MIN)
_LONGEST = windows.shown(windows.WINDOW_MAX_MS)
_WIDTHS = ", ".join(map(windows.shown, windows.WIDTHS))
_AGGREGATES = f"""## Aggregates

An aggregate is computed over the earlier payments of an entity; the payment that is being decided never counts. `E` is
`account`, or a declared entity that contains `account_id`, such as `account_merchant = ["account_id", "merchant_id"]`:
this account's payments at this payment's merchant. `x` and the condition read the earlier payment: its fields, its
`decision`, `severity`, `alerted` and `hit('CODE')`. A payment whose condition or `x` is missing does not count.

`W` is a window of {_SHORTEST} to {_LONGEST}, written `'10m'`, `'24h'`, `'30d'`; it follows the receive time.
It is divided into {windows.BUCKETS_MIN} to {windows.BUCKETS_MAX} equal buckets of the widest of these widths that fits:
{_WIDTHS}. A window of n buckets of width w covers between (n − 1)·w and n·w.

With a condition on `verdict`, `count`, `share` and `since` read the verdicts on the account instead of payments, each
at the time at which it came. Such a condition can read nothing else."""
_EXACTLY = f"""### What they compute exactly

- **No payments.** Over no payment, `count`, `sum` and `distinct` are 0 and the others are missing. `is_new` is true if
  none of the entity's payments has the field; it is missing if the entity has no payment at all, or this payment lacks
  the field.
- **NaN and infinity.** A NaN counts: while it is in the window, `sum`, `mean`, `min`, `max` and `std` are NaN. An
  infinity is treated as IEEE 754 says. `decayed` and `typical` leave both out, since they would never recover.
- **`std`** is the standard deviation of the population (÷ n), so it is 0 for one payment.
- **`distinct`** is estimated from 64 bits by linear counting (Whang et al. 1990): 3 values read as {_linear(3)}, 10 as
  {_linear(10)}, and no number of values as more than {_linear(64)}. Values may share a bit, and then it is smaller.
  Compare it with `>` or `>=`, never with `==`.
- **`first`, `last` and `since`** follow the receive time. Of payments received at the same time, `first` reads the one
  that arrived first and `last` the one that arrived last. For a payment that arrives late,
  `since` is 0, never negative.
- **`decayed`** weights a payment by 2^(−age / half-life). **`typical`** moves by (x − typical) / min(k, {_MEMORY})
  with the k-th payment; after the first {spec.TYPICAL_PLAIN}, x is limited to {spec.TYPICAL_CUT:g} · typical + 1.
- **Late payments** count in the bucket of their own receive time, unless the window has already moved past it.
- **Entities.** Of each declared entity, an account remembers the {ENTRIES} used most recently. One that was forgotten
  reads as if it had no payments."""

_LIMITS = f"""## Limits

An expression has at most {tokens.CHARACTERS_MAX:,} characters, {tokens.TOKENS_MAX:,} names, values and signs,
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
        _EXACTLY,
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
