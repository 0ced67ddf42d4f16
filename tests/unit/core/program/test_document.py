"""The document of a program: one identity whatever its layout, and every fault told with its place."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Corrupt
from core.program import document, document_writing, loading
from core.program.document_reading import PAYMENTS_MAX, read
from core.program.problems import DocumentError, Problem

HEAD = '[program]\nname = "cards"\nversion = "1.0.0"\n'
USING = HEAD + 'uses = ["standard@1"]\n'
CARDS = (
    USING
    + """
[fields]
km = { from = "attributes.dist1", type = "number", unit = "km", default = 0 }
mail = { from = "attributes.mail", type = "string", personal = "personal" }
seen = { from = "attributes.seen", type = "time", required = true }

[parameters]
velocity_10m = 6
most = 500.0

[entities]
shop = ["account_id", "merchant_id"]

[features]
declines = "count(account, '10m', decision=='decline')"
night = { value = "share(account, '30d', hour < 6)", phrase = "{value:.0%} at night", log = false }
twice = "night*2"

[[rules]]
code = "DECLINES"
when = "declines > 3 && (amount > most)"
effect = "review"
words = "{declines:.0f} declines, then {amount:,.2f}"
owner = "risk"
expires = 2027-01-01

[[rules]]
code = "VELOCITY_10M"
mode = "shadow"

[decision]
decline = "probability >= 0.85"

[decision.severity]
high = "decision == 'decline'"

[limits]
alerts_per_day = 500

[[examples]]
name = "after declines"
payments = [{ amount = 20, repeat = 4, after = "1m" }, { amount = 900, km = 3 }]
misses = ["VELOCITY_10M"]
"""
)


def problems(text: str | bytes) -> list[Problem]:
    with pytest.raises(DocumentError) as found:
        loading.check(text if isinstance(text, bytes) else text.encode())
    return list(found.value.problems)


def digest(text: str) -> str:
    return loading.check(text.encode()).digest


def test_a_document_survives_the_log() -> None:
    """Canonical form and back, through TOML and back: always the same program with the same meaning."""
    loaded = loading.check(CARDS.encode())
    content = document.canonical(loaded.program)
    assert document.decode(content) == loaded.program
    assert loading.of_program(document.decode(content)) == loaded
    assert digest(document_writing.toml(loaded.program)) == loaded.digest
    assert digest(document_writing.reformatted(CARDS.encode())) == loaded.digest


def test_layout_is_not_identity() -> None:
    """Comments, spacing, order, quotes, parentheses and explicit defaults change nothing; everything else does."""
    same = CARDS.replace(
        "count(account, '10m', decision=='decline')", "count( account,  '10m', (decision == 'decline'))"
    )
    same = same.replace('when = "declines > 3', "when = '''\n  declines > 3").replace('most)"', "most)\n'''")
    same = same.replace('effect = "review"', 'mode = "live" # as usual\neffect = "review"\nrollout = 100')
    same = same.replace('personal = "personal"', 'personal = "personal", required = false')
    tables = same.split("\n[")
    moved = "\n[".join([tables[0], *(table for table in tables[1:] if table.startswith("features"))])
    moved += "\n[" + "\n[".join(table for table in tables[1:] if not table.startswith("features"))
    assert digest(moved) == digest(CARDS)
    for old, new in (
        ("> 3", "> 4"),
        ("velocity_10m = 6", "velocity_10m = 7"),
        ("{declines:.0f} declines", "{declines} declines"),
        ('mode = "shadow"', 'mode = "off"'),
        ('owner = "risk"\n', ""),
        ("log = false", "log = true"),
        ("2027-01-01", "2027-01-02"),
        ("default = 0", "default = 1"),
    ):
        assert old in CARDS and digest(CARDS.replace(old, new)) != digest(CARDS), (old, new)


def test_the_order_of_rules_is_identity() -> None:
    """Reasons are shown in the rules' order, so two orders are two programs."""
    rules = ['[[rules]]\ncode = "A"\nwhen = "amount > 1"\n', '[[rules]]\ncode = "B"\nwhen = "amount > 2"\n']
    assert digest(HEAD + "".join(rules)) != digest(HEAD + "".join(rules[::-1]))


NAMES = st.from_regex(r"x[a-z0-9_]{0,8}", fullmatch=True)
NUMBERS = st.floats(-1e12, 1e12).map(lambda x: x + 0.0)
ATOMS = st.one_of(
    NUMBERS.map(lambda x: f"amount > {abs(x)!r}"),
    st.text("abcäß'\\\"{}# =", min_size=1, max_size=6).map(
        lambda s: "transaction_id == '" + s.replace("\\", "\\\\").replace("'", "\\'") + "'"
    ),
    st.sampled_from(["has(merchant_id)", "!currency_known", "hour(occurred_at, '+02:00') < 6", "ip in list('watch')"]),
)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(NAMES, unique=True, max_size=8))
    k = draw(st.integers(0, len(names)))
    rules = draw(st.lists(CONDITIONS, max_size=4))
    return {
        "program": {"name": "p", "version": "1.2.3"},
        "parameters": {name: draw(NUMBERS) for name in names[:k]},
        "features": {
            name: draw(st.sampled_from(["count(account, '24h')", "amount * 2", "sum(account, '7d', amount)"]))
            for name in names[k:]
        },
        "rules": [
            {
                "code": f"R{i}",
                "when": when,
                "rollout": draw(st.integers(1, 100)),
                "mode": draw(st.sampled_from(["live", "off"])),
            }
            for i, when in enumerate(rules)
        ],
    }


@settings(max_examples=60, deadline=None, derandomize=True)
@given(documents(), st.randoms(use_true_random=False))
def test_any_layout_of_any_document_has_one_digest(tables: dict[str, Any], random: Any) -> None:
    """Tables and keys in any order give one digest, and the canonical form gives the program back."""

    def text(shuffled: bool) -> str:
        names = list(tables)
        if shuffled:
            random.shuffle(names)
        lines = []
        for name in names:
            for table in tables[name] if name == "rules" else [tables[name]]:
                lines.append(f"[[{name}]]" if name == "rules" else f"[{name}]")
                pairs = list(table.items())
                if shuffled:
                    random.shuffle(pairs)
                    lines.append("# a comment")
                lines += [
                    f"{key}{' ' * (1 + 2 * shuffled)}= {document_writing.value_text(value)}" for key, value in pairs
                ]
        return "\n".join(lines) + "\n"

    first, second = loading.check(text(False).encode()), loading.check(text(True).encode())
    assert first == second
    content = document.canonical(first.program)
    assert document.decode(content) == first.program
    assert document.canonical(document.decode(content)) == content
    assert loading.of_program(first.program) == first


RULE = HEAD + '[[rules]]\ncode = "A"\nwhen = "true"\n'
EXAMPLE = HEAD + '[[examples]]\nname = "x"\n'
BAD: list[tuple[str, str, str]] = [
    ("", "[program]", "name is missing"),
    ('[program]\nname = "cards"\n', "line 1, [program]", "version is missing"),
    ('[program]\nname = "Cards"\nversion = "1"\n', "line 2, [program] name", "begins with a letter"),
    ('[program]\nname = "c"\nversion = "1"\n', "line 3, [program] version", "such as 1.0.0"),
    (HEAD + 'uses = ["standart@1"]\n', "line 4, [program] uses", "did you mean standard@1?"),
    (HEAD + "[feature]\n", "line 4, [feature]", "did you mean features?"),
    (HEAD + '[fields]\nkm = { from = "attributes.km", typ = "number" }\n',
        "line 5, [fields] km.typ", "did you mean type?"),
    (HEAD + '[fields]\nkm = { type = "number" }\n', "line 5, [fields] km", 'from = "attributes.km"'),
    (HEAD + '[fields]\nkm = { from = "amout", type = "number" }\n', "line 5, [fields] km.from", "did you mean amount?"),
    (HEAD + '[fields]\nkm = { from = "amount", type = "string" }\n', "line 5, [fields] km.type", "amount is a number"),
    (HEAD + '[fields.km]\nfrom = "attributes.km"\ntype = "numbr"\n',
        "line 6, [fields] km.type", "did you mean number?"),
    (HEAD + '[fields.km]\nfrom = "attributes.km"\ntype = "number"\ndefault = "x"\n',
        "line 7, [fields] km.default", "a number"),
    (HEAD + "[parameters]\nmost = true\n", "line 5, [parameters] most", "must be a number, not true or false"),
    (HEAD + "[parameters]\nmost = inf\n", "line 5, [parameters] most", "not inf"),
    (HEAD + "[parameters]\nMost = 1\n", "line 5, [parameters] Most", "begins with a letter"),
    (HEAD + "[parameters]\namount = 1\n", "line 5, [parameters] amount", "a standard field"),
    (HEAD + "[parameters]\ncount = 1\n", "line 5, [parameters] count", "a function"),
    (HEAD + "[parameters]\naccount = 1\n", "line 5, [parameters] account", "a word of the language"),
    (HEAD + "[parameters]\nx = 1\n[features]\nx = \"1.0\"\n", "line 7, [features] x", "x is a parameter already"),
    (USING + "[features]\ncount_10m = \"1.0\"\n", "line 6, [features] count_10m", "defined by standard@1"),
    (HEAD + "[features]\ncount_10m = \"1.0\"\n", "line 5, [features] count_10m", "a column of the library"),
    (HEAD + "[entities]\nshop = [\"merchant\"]\n", "line 5, [entities] shop", "did you mean merchant_id?"),
    (HEAD + "[features]\nx = 1\n", "line 5, [features] x", 'must be an expression in quotes: "1"'),
    (HEAD + "[features]\nx = \"amount >\"\n", "line 5, [features] x, at 1:9", "ends too early"),
    (HEAD + "[features]\nx = \"amont * 2\"\n", "line 5, [features] x, at 1:1", "did you mean amount?"),
    (HEAD + "[features]\nx = '''\namount *\n  amont\n'''\n", "line 7, [features] x, at 2:3", "did you mean amount?"),
    (HEAD + "[features.x]\nlog = true\nvalue = \"amont\"\n", "line 6, [features] x, at 1:1", "did you mean amount?"),
    (HEAD + "[features]\nx = \"y\"\ny = \"z\"\nz = \"x + 1\"\n", "line 7, [features] z", "in a circle: x → y → z → x"),
    (HEAD + "[features]\nx = \"merchant_id\"\n",
        "line 5, [features] x, at 1:1", "a number or true or false is expected"),
    (HEAD + '[features]\nx = { value = "amount", phrase = "{amount}" }\n', "line 5, [features] x.phrase", "{value}"),
    (HEAD + '[[rules]]\ncode = "lower"\nwhen = "true"\n', "line 5, [[rules]] 1 code", "A–Z"),
    (HEAD + '[[rules]]\nwhen = "true"\n', "line 4, [[rules]] 1", "code is missing"),
    (HEAD + '[[rules]]\ncode = "A"\n', "line 4, [[rules]] 1", "needs a condition (when)"),
    (HEAD + '[[rules]]\ncode = "A"\nwhen = "amount"\n',
        "line 6, [[rules]] 1 when, at 1:1", "true or false is expected"),
    (RULE + 'effect = "block"\n', "line 7, [[rules]] 1 effect", "flag, review"),
    (RULE + 'rollout = 0\n', "line 7, [[rules]] 1 rollout", "from 1 to 100"),
    (RULE + 'expires = "soon"\n', "line 7, [[rules]] 1 expires", "2026-12-31"),
    (RULE + 'words = "{amout}"\n', "line 7, [[rules]] 1 words", "did you mean amount?"),
    (RULE + 'words = "{amount"\n', "line 7, [[rules]] 1 words", "placeholder"),
    (RULE + RULE[len(HEAD) :], "line 8, [[rules]] 2 code", "the code of rule 1 too"),
    (USING + '[[rules]]\ncode = "VELOCITY_10M"\nwhen = "true"\n', "line 6, [[rules]] 1 code", "a library's rule"),
    (HEAD + '[decision]\ndecline = "probability > 0.5"\nserverity = 1\n',
        "line 6, [decision] serverity", "did you mean severity?"),
    (HEAD + '[decision]\ndecline = "count(account, \'1h\') > 2"\n', "line 5, [decision] decline, at 1:1", "feature"),
    (HEAD + '[decision.actions]\nlow = ["explode"]\n', "line 5, [decision] actions.low", "queue_for_review"),
    (HEAD + "[limits]\nalerts = 3\n", "line 5, [limits] alerts", "did you mean alerts_per_day?"),
    (EXAMPLE + 'payments = [{ amout = 1 }]\nhits = []\n', "line 6, [[examples]] 1 payments[1].amout", "amount?"),
    (EXAMPLE + 'payments = [{}]\nhits = ["A"]\n', "line 7, [[examples]] 1 hits", "no rule has the code A"),
    (EXAMPLE + 'payments = [{}]\n', "line 4, [[examples]] 1", "what must hold"),
    ("a = [1\n", "line 2", "not valid TOML"),
    ("a = 1\na = 2\n", "line 2", "not valid TOML"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "place", "words"), BAD, ids=lambda v: "")
def test_faults_are_told_with_their_place(text: str, place: str, words: str) -> None:
    """The message says what is wrong, and where: line, table, key, and line and column of an expression."""
    found = problems(text)
    assert any(each.place == place and words in each.message for each in found), [str(each) for each in found]


def test_all_faults_are_told_at_once() -> None:
    """In the order of the file, form and meaning separately, never more than fifty."""
    text = HEAD + '[features]\nx = "amont"\ny = "1 +"\n[[rules]]\ncode = "A"\nwhen = "x > z"\n'
    assert [each.line for each in problems(text)] == [5, 6, 9]
    assert len(problems(HEAD + "[features]\n" + "\n".join(f"F{i} = 1" for i in range(500)))) == 50


def test_a_long_chain_of_features_is_refused() -> None:
    """What a feature comes to with all that it names is bounded: in depth, and where it would grow as 2^n."""
    chain = "\n".join(f'x{i} = "x{i - 1} + 1"' for i in range(1, 200))
    assert "levels" in problems(f'{HEAD}[features]\nx0 = "amount"\n{chain}\n')[0].message
    doubled = "\n".join(f'x{i} = "x{i - 1} + x{i - 1}"' for i in range(1, 30))
    assert "parts" in problems(f'{HEAD}[features]\nx0 = "amount"\n{doubled}\n')[0].message


MILLION = 1_000_000
HOSTILE = {
    "lists": b"a = " + b"[" * (MILLION - 4),
    "tables": b"a = {" + b"b = {" * 190_000,
    "dots": b"a" + b".a" * 499_990 + b" = 1",
    "headers": b"[a.b]\n" * 160_000,
    "rules": b"[[rules]]\n" * 99_000,
    "quotes": b'a = """' + b'"" ' * 333_000,
    "backslashes": b'a = "' + b"\\" * 999_990,
    "newlines": b"\n" * (MILLION - 1),
    "digits": b"a = " + b"9" * 999_000,
    "names": b"[features]\n" + b"".join(b'F%05d = "1"\n' % i for i in range(20_000)),
    "features": HEAD.encode() + b"[features]\n" + b"".join(b'f%d = "1"\n' % i for i in range(20_000)),
    "long expressions": HEAD.encode()
    + b"[features]\n"
    + b"".join(b'f%d = "%s"\n' % (i, b"1+" * 2_000) for i in range(200)),
    "too much state": USING.encode()
    + b"[features]\n"
    + b"".join(b"f%d = \"count(account, '90d', amount > %d)\"\n" % (i, i) for i in range(600)),
    "many faults": HEAD.encode() + b"[features]\n" + b"".join(b'f%d = "amont > %d"\n' % (i, i) for i in range(1_000)),
    "one name": HEAD.encode() + b"[features]\n" + b"x" * 900_000 + b' = "1"\n',
    "payments": HEAD.encode() + b"[[examples]]\nname='x'\npayments = [" + b"{}," * 200_000 + b"]",
    "zeros": b"\0" * (MILLION - 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_is_refused_quickly(name: str) -> None:
    """A megabyte of anything is refused within a second of this process's time."""
    content = HOSTILE[name]
    assert len(content) <= MILLION
    began = time.process_time()
    found = problems(content)
    assert time.process_time() - began < 1.0
    assert found and all(len(str(each)) < 2_000 for each in found)


def test_sizes_are_bounded() -> None:
    """Bytes, features, payments of an example."""
    assert "1,000,001 bytes" in problems(b"#" * 1_000_001)[0].message
    payments = "{}, " * (PAYMENTS_MAX + 1)
    found = problems(f'{HEAD}[[examples]]\nname = "x"\nhits = []\npayments = [{payments}]\n')
    assert found[0].place == "line 7, [[examples]] 1 payments" and "more than" in found[0].message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"name":"cards"', b'"name": "cards"'),
        (b'"name":"cards"', b'"name":"cards","more":1'),
        (b'"log":false', b'"log":false,"unit":""'),
        (b"decision == 'decline'", b"decision=='decline'"),
        (b'"name":"cards"', b'"name":"Cards"'),
        (b'"rollout":50.0', b'"rollout":500.0'),
        (b"declines > 3", b"declined > 3"),
        (b'{"declines"', b'{"amount":{"value":"1"},"declines"'),
    ],
)
def test_a_blob_is_checked_like_a_file(old: bytes, new: bytes) -> None:
    """Whoever wrote the blob: what `check` would refuse, or would have written otherwise, does not load."""
    text = CARDS.replace('owner = "risk"', 'owner = "risk"\nrollout = 50')
    content = document.canonical(loading.check(text.encode()).program)
    assert old in content
    with pytest.raises(Corrupt):
        loading.of_program(document.decode(content.replace(old, new)))


def test_reading_needs_no_library() -> None:
    """The form of a document is read whatever digests its libraries have."""
    program, _ = read(CARDS.encode(), lambda label: "0" * 64)
    assert program.uses == {"standard@1": "0" * 64}


@pytest.mark.parametrize("fields", ["5", "[[]]", "true", "'account_id'"])
def test_fields_that_are_no_table_are_told_once(fields: str) -> None:
    """Entities and examples that name fields don't stumble over a `fields` that is none."""
    text = f"fields = {fields}\n{HEAD}[entities]\npair = ['account_id', 'x']\n[[examples]]\nname='e'\npayments=[{{}}]\n"
    found = problems(text)
    assert any(each.path == ("fields",) and "must be a table" in each.message for each in found)


def test_aggregates_never_follow_the_rates() -> None:
    """States are folded without the rates in force, so `currency_known` is in no entity, under no name."""
    assert "currency" in problems(f"{HEAD}[entities]\npair = ['account_id', 'currency_known']\n")[0].message
    own = problems(f"{HEAD}[fields]\nknown = {{ from = 'currency_known' }}\n")
    assert [each.path for each in own] == [("fields", "known", "from")]


def test_state_of_an_account_is_bounded() -> None:
    """Too many long windows are refused with the figure, the costliest feature and what to do; also in a blob."""
    head = f"{HEAD}[entities]\npair = ['account_id', 'merchant_id']\n[features]\nmost = \"sum(pair, '7d', amount)\"\n"

    def windows(count: int) -> str:
        return "".join(f"f{i} = \"count(account, '90d', amount > {i})\"\n" for i in range(count))

    (found,) = problems(head + windows(150))
    assert "bytes for each account; 65,536 are allowed. most alone needs" in found.message
    assert found.path == ("features", "most")
    fewer = loading.check((head + windows(5)).encode()).program
    more = {f"g{i}": document.Feature(value=f"count(account, '90d', amount > {i}.0)") for i in range(150)}
    with pytest.raises(Corrupt, match="bytes for each account"):
        loading.of_program(msgspec.structs.replace(fewer, features={**fewer.features, **more}))


@pytest.mark.parametrize("key", ["default = 'none'", "required = true"])
def test_a_standard_field_has_no_default_of_its_own(key: str) -> None:
    """Another name for a standard field is that field, so what would have no effect is refused."""
    (found,) = problems(f"{HEAD}[fields]\nshop = {{ from = 'merchant_id', {key} }}\n")
    assert found.path == ("fields", "shop", key.split(maxsplit=1)[0]) and "default(merchant_id, …)" in found.message
