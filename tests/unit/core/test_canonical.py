"""Canonical forms: spellings that are one value to a list, values that stay different, and the same form everywhere."""

from __future__ import annotations

import hashlib
import ipaddress
import random
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from core import canonical as module
from core.canonical import FIELDS, Few, Members, canonical, forms, listed, texts
from core.errors import BadInput
from core.events import Transaction
from core.identity import FIXED
from projections.reference.tables import ReferenceBuilder
from tests.builders.decisions import context, decide_in
from tests.builders.events import T0, stream, transaction, verdict

SAME: list[tuple[Any, list[str]]] = [
    ("merchant", ["shop-66", "SHOP-66", "shop-66 ", "\tShop-66", "ｓｈｏｐ－６６", "shop\u201166"]),
    ("merchant", ["shop-66", "sh\u200bop-66", "shop-66\u00a0", "\u202eshop-66", "shop\u00ad-66"]),
    ("merchant", ["café 7", "CAFE\u0301  7", "Cafe\u0301\u30007", "ca\u00adfé 7", "CAFÉ\u202f7"]),
    ("account", ["straße", "STRASSE", "Strasse"]),
    ("device", ["ςσ", "ΣΣ", "σς"]),
    ("device", ["привет", "ПРИВЕТ"]),
    ("card", ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "4111\u20111111\u00a01111-1111"]),
    ("ip", ["10.1.2.3", " 10.1.2.3", "010.001.002.003", "::ffff:10.1.2.3", "::FFFF:0a01:0203", "１０.1.2.3"]),
    ("ip", ["fe80::1", "FE80:0:0:0:0:0:0:1", "fe80::1%eth0", "[fe80::1]", "fe80:0000::0001"]),
    ("ip", ["10.0.0.0/8", "010.0.0.0/8", "::ffff:10.0.0.0/104"]),
    ("ip", ["10.0.0.1", "10.0.0.1/32", "::ffff:10.0.0.1/128"]),
    ("ip", ["not an address", "NOT  AN address "]),
    ("country", ["FR", "fr", " Fr ", "ｆｒ", "F\u200bR"]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spellings"), SAME)
def test_spellings_of_one_value_have_one_form(kind: Any, spellings: list[str]) -> None:
    """Case, width, composition, white space, dashes, invisible characters; the kinds' own notations."""
    assert {canonical(kind, spelling) for spelling in spellings} == {canonical(kind, spellings[0])}


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("merchant", "shop-66", "shop66"),
        ("merchant", "shop 66", "shop66"),
        ("merchant", "shop-66", "sh\u043ep-66"),  # Cyrillic o
        ("account", "a.b", "ab"),
        ("card", "4111", "4112"),
        ("ip", "10.0.0.1", "10.0.0.10"),
        ("ip", "1.2.3.4", "1.2.3.4.5"),
        ("ip", "::1", "0.0.0.1"),
        ("country", "FR", "FRA"),
    ],
)
def test_different_values_stay_different(kind: Any, one: str, other: str) -> None:
    """Punctuation within an ID, look-alike letters and other addresses are other values."""
    assert canonical(kind, one) != canonical(kind, other)


def test_characters_that_combine_once_spaces_are_gone_are_combined() -> None:
    """A spacing accent is a space and a combining one, which joins the letter when a card's spaces go."""
    assert canonical("card", "C\u00b8") == canonical("card", "\u00e7") == "\u00e7"


@given(st.sampled_from(list(FIELDS)), st.text(max_size=12))
def test_a_canonical_form_is_its_own_form(kind: Any, value: str) -> None:
    """Applying it twice changes nothing, so an event that holds canonical values folds to the same list."""
    form = canonical(kind, value)
    assert canonical(kind, form) == form


@given(st.text(alphabet=st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs"]), max_size=8))
@example("\u1fc2\u0591")  # a mark that decomposing moves before the subscript iota
def test_text_is_folded_as_unicode_folds_it(value: str) -> None:
    """Characters of Unicode 3.2 that match without case and compatibility forms (Unicode D146) are equal."""
    frozen = unicodedata.ucd_3_2_0
    if any(frozen.category(c) == "Cn" or frozen.category(c.casefold()[0]) == "Cn" for c in value):
        return
    twin = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", value).casefold())
    assert canonical("merchant", twin) == canonical("merchant", value)


def test_the_tables_are_frozen() -> None:
    """The forms of all characters have the digest of the release, on every version of Python."""
    forms = "\n".join(canonical("merchant", f"a{chr(code)}b") for code in range(0x30000) if not 0xD800 <= code < 0xE000)
    assert hashlib.sha256(forms.encode()).hexdigest()[:16] == "49eabd09b86bda0a"


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_networks_hold_their_addresses(base: ipaddress.IPv4Address, bits: int, other: ipaddress.IPv4Address) -> None:
    """A network on a list holds an address exactly if `ipaddress` says so, also in IPv6 notation."""
    network = ipaddress.ip_network((int(base), bits), strict=False)
    members = Members.of("ip", [listed("ip", str(network))])
    for address in (base, other):
        assert members.has(canonical("ip", f"::ffff:{address}")) == (address in network)


@given(st.ip_addresses(v=6), st.integers(0, 128))
def test_networks_of_ipv6_hold_their_addresses(base: ipaddress.IPv6Address, bits: int) -> None:
    """The same for IPv6."""
    if base.ipv4_mapped is not None or (int(base) >> 32) == 0:
        return
    network = ipaddress.ip_network((int(base), bits), strict=False)
    if network.network_address.ipv4_mapped is not None:
        return
    members = Members.of("ip", [listed("ip", str(network))])
    assert members.has(canonical("ip", base.exploded.upper()))


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("merchant", " ", "empty"),
        ("account", "\u200b", "invisible"),
        ("card", "--", "empty"),
        ("country", "Germany", "two letters"),
        ("country", "1F", "two letters"),
        ("ip", "10.0.0", "neither an IP address nor a network"),
        ("ip", "10.0.0.0/33", "neither"),
        ("ip", "10.1.2.3/8", "write 10.0.0.0/8"),
    ],
)
def test_a_value_that_could_never_match_is_refused(kind: Any, value: str, said: str) -> None:
    """A person who lists it is told what is wrong."""
    with pytest.raises(BadInput, match=said):
        listed(kind, value)


@given(st.lists(st.text(max_size=6) | st.sampled_from(["Shop 66", "shop-66", "", " a", "a|b", "É"]), max_size=6))
def test_many_at_once_are_what_each_is(values: list[str]) -> None:
    """The forms of a batch are those of its values one by one."""
    assert texts(values) == [canonical("merchant", value) for value in values]
    assert Few("country").each(values) == [canonical("country", value) for value in values]
    for kind in FIELDS:
        assert forms(kind, values) == [canonical(kind, value) for value in values]


def test_remembered_forms_are_bounded_and_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many values a field has, at most REMEMBERED are held, and every form is the value's."""
    monkeypatch.setattr(module, "REMEMBERED", 8)
    few = Few(None)
    values = [f" Name-{i % 19}" for i in range(100)]
    assert few.each(values) == [canonical("merchant", value) for value in values]
    assert len(few) <= 8


def spelled(rng: random.Random, value: str) -> str:
    """Another spelling of the value."""
    if not value:
        return value
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in value)
    return rng.choice([value, value.upper(), value.lower(), f" {value}", f"{value}\u00a0", f"\u200b{value}", wide])


def test_another_spelling_is_neither_new_nor_without_a_past() -> None:
    """Features of a stream in which every name is spelled anew each time are those of the plain stream, to the bit."""
    rng = random.Random(5)
    plain = [item for item in stream(5, 400) if isinstance(item, Transaction)]
    names = ("merchant_id", "merchant_category", "country", "channel", "device_id")
    other = [replace(item, **{name: spelled(rng, getattr(item, name)) for name in names}) for item in plain]
    assert other != plain
    one, two = (decide_in(items, [], context())[0][0] for items in (plain, other))
    assert one.features.tobytes() == two.features.tobytes()


def test_a_reference_table_knows_a_merchant_by_any_spelling() -> None:
    """Payments and reports under several spellings are rows of one merchant."""
    keys = []
    for spellings in (("shop-66",), ("SHOP-66", "Shop-66 ", "shop-66")):
        builder = ReferenceBuilder(FIXED.key)
        items = [
            transaction(n, merchant_id=spellings[n % len(spellings)], occurred_at=T0 + n, account_id=f"a{n}")
            for n in range(9)
        ]
        builder.add_transactions(0, items)
        said = verdict("a1", transaction_id="t1", merchant_id=f" {spellings[0]}", occurred_at=T0 + 50)
        builder.add_verdict(0, said, T0 + 50)
        table = builder.table("merchant", T0 + 20 * 86_400_000)
        keys.append((table.keys.tobytes(), table.values.tobytes()))
    assert keys[0] == keys[1]
