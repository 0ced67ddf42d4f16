"""Texts in a spelling that a field never has: refused, with the spelling that works."""

from __future__ import annotations

import random

import pytest

from core import canonical
from core.canonical import Form
from core.program.errors import ProgramError
from core.program.formatting import string_text
from core.program.language import check
from tests.builders.scopes import scope

# (text, column, what the message must hold)
REFUSED = [
    ("merchant_id.startsWith('SHOP-6')", 24, "never starts with 'SHOP-6'", "write 'shop-6'"),
    ("merchant_id.endsWith('GmbH')", 22, "never ends with 'GmbH'", "write 'gmbh'"),
    ("merchant_id.contains('Casino')", 22, "never contains 'Casino'", "write 'casino'"),
    ("merchant_id.contains('a  b')", 22, "never contains 'a  b'", "write 'a b'"),
    ("merchant_id.startsWith(' x')", 24, "never starts with ' x'", "write 'x'"),
    ("merchant_id.endsWith('x ')", 22, "never ends with 'x '", "write 'x'"),
    ("merchant_id.contains('STRASSE \u2013 1')", 22, "never contains", "write 'strasse - 1'"),
    ("country.startsWith('d')", 20, "country never starts with 'd'", "write 'D'"),
    ("card_id.contains('12 34')", 18, "never contains '12 34'", "write '1234'"),
    ("card_id.contains('-')", 18, "never contains '-'", "canonical form"),
    ("ip.startsWith('2001:DB8')", 15, "never starts with '2001:DB8'", "write '2001:db8'"),
    ("default(merchant_id, device_id).contains('X')", 42, "never contains 'X'", "write 'x'"),
    ("(is_guest ? merchant_id : device_id).contains('X')", 47, "never contains 'X'", "write 'x'"),
    ("merchant_id.lowerAscii().contains('X')", 35, "never contains 'X'", "write 'x'"),
    ("mail.lowerAscii().endsWith('.COM')", 28, "never ends with '.COM'", "write '.com'"),
    ("transaction_id.lowerAscii() == 'TEST'", 32, "never 'TEST'", "write 'test'"),
    ("'TEST' != transaction_id.lowerAscii()", 1, "never 'TEST'", "write 'test'"),
    ("transaction_id.lowerAscii() in ['a', 'B']", 38, "never 'B'", "write 'b'"),
    ("country.lowerAscii() == 'DE'", 25, "never 'DE'", "write 'de'"),
    ("merchant_id.matches('^SHOP[0-9]+$')", 21, "never has 'S'", "write 's'"),
    ("merchant_id.matches('shop|Kiosk')", 21, "never has 'K'", "(?i)"),
    ("merchant_id.matches('^[A-Z]+$')", 21, "never has 'A'", "write 'a'"),
    ("device_id.matches('^[0-9A-F]+$')", 19, "never has 'A'", "write 'a'"),
    ("country.matches('^(DE|at)$')", 17, "never has 'a'", "write 'A'"),
    ("mail.lowerAscii().matches('@GMX[.]')", 27, "never has 'G'", "write 'g'"),
    ("count(account, '7d', merchant_id.startsWith('SHOP')) > 1", 45, "never starts with 'SHOP'", "write 'shop'"),
]

ACCEPTED = [
    "merchant_id == 'SHOP-66'",
    "merchant_id in ['SHOP-66', ' shop  7']",
    "default(merchant_id, 'X') == 'SHOP'",
    "default(merchant_id, 'X').startsWith('X')",
    "'SHOP'.startsWith(merchant_id)",
    "merchant_id.contains('p 6')",
    "merchant_id.startsWith('shop ')",
    "merchant_id.endsWith(' ag')",
    "country.startsWith('D')",
    "country.lowerAscii() == 'de'",
    "mail.endsWith('.COM')",
    "transaction_id.startsWith('TX')",
    "(is_guest ? transaction_id : merchant_id).contains('X')",
    "(is_guest ? merchant_id.lowerAscii() : transaction_id) == 'X'",
    "merchant_id.matches('(?i)^SHOP')",
    "merchant_id.matches('(?s-m:shop)')",
    "merchant_id.matches('(?P<Name>shop)')",
    "merchant_id.matches('^[A-Za-z]+$')",
    "merchant_id.matches('^[^A-Z]+$')",
    r"merchant_id.matches('\\Ashop\\S\\D\\W\\B\\pL\\p{Greek}\\PN\\x{4A}[[:alpha:]]\\z')",
    "country.matches('^[A-Z]{2}$')",
    "ip.startsWith('10.')",
    "ip.contains('::')",
]


@pytest.mark.parametrize(("text", "column", "found", "advice"), REFUSED)
def test_a_spelling_that_a_field_never_has_is_refused_with_the_one_that_works(
    text: str, column: int, found: str, advice: str
) -> None:
    """The message stands at the constant, says that it never matches, and gives the canonical spelling."""
    with pytest.raises(ProgramError) as caught:
        check(text, scope("feature" if text.startswith("count") else "rule"), "bool")
    assert (caught.value.line, caught.value.column) == (1, column), caught.value.message
    assert found in caught.value.message and advice in caught.value.message, caught.value.message


@pytest.mark.parametrize("text", ACCEPTED)
def test_a_spelling_that_a_field_may_have_is_accepted(text: str) -> None:
    """What can match is not refused: whole values in any spelling, values as sent, and parts in canonical form."""
    check(text, scope("rule"), "bool")


@pytest.mark.parametrize(("field", "form"), [("merchant_id", "text"), ("card_id", "card"), ("ip", "ip")])
def test_every_part_of_a_canonical_text_is_accepted(field: str, form: Form) -> None:
    """Beginnings, ends and middles of what the field may hold are never refused."""
    source = random.Random(7)
    letters = "aBZ 09-_.:/|\u00c9\u00df\u0130\u0301\u0323\u200b\u2013\uff21\u03a3\u1100\u1161"
    for _ in range(300):
        text = "".join(source.choices(letters, k=source.randint(1, 12)))
        (found,) = canonical.in_form(form, [text])
        at = source.randint(0, len(found))
        for function, part in (("startsWith", found[:at]), ("endsWith", found[at:]), ("contains", found[at : at + 3])):
            check(f"{field}.{function}({string_text(part)})", scope("rule"), "bool")
