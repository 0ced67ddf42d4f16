"""What is said about expressions that make no sense: the place, exactly, and the words that help."""

from __future__ import annotations

import pytest

from core.errors import BadInput
from core.program.errors import ProgramError
from core.program.language import check
from core.program.scope import Place
from tests.builders.scopes import scope

# (text, line, column, words that the message must hold)
READING = [
    ("", 1, 1, "empty", "amount > 500"),
    ("  \n ", 1, 1, "empty"),
    ("amount = 500", 1, 8, "==", "country == 'DE'"),
    ("amount === 500", 1, 10, "one = too many"),
    ("amount => 500", 1, 8, "=> is written >="),
    ("amount \u2265 500", 1, 8, "written >="),
    ("amount > 5 and hour < 6", 1, 12, "'and' is written &&"),
    ("amount > 5 OR hour < 6", 1, 12, "'or' is written ||"),
    ("not device_is_new", 1, 1, "'not' is written !"),
    ("!not device_is_new", 1, 2, "'not' is written !"),
    ("country not in ['DE']", 1, 9, "!(country in ['DE', 'AT'])"),
    ("country is 'DE'", 1, 9, "'is' is written =="),
    ("amount between 1", 1, 8, "amount >= 10 && amount <= 20"),
    ("if amount > 5", 1, 1, "'if' is not needed"),
    ("amount > 5 & hour < 6", 1, 12, "&&"),
    ("amount > 5 | hour < 6", 1, 12, "||"),
    ("country == \u201cDE\u201d", 1, 12, "typographic quotes", "'DE'"),
    ("country == `DE`", 1, 12, "typographic quotes"),
    ("amount > 500 EUR", 1, 14, "'EUR' can't follow a number", "base currency"),
    ("amount > 500EUR", 1, 10, "'500EUR'", "base currency"),
    ("amount > \u20ac500", 1, 10, "base currency"),
    ("amount > 1,000", 1, 11, "no separators"),
    ("amount > 5.", 1, 10, "1.0"),
    ("count(account, 10m)", 1, 16, "'10m'"),
    ("share > 50 %", 1, 12, "50 % is written 0.5"),
    ("count(account, '10m' > 3", 1, 6, "never closed"),
    ("amount > 5)", 1, 11, "closes nothing"),
    ("country in ['DE', 'AT')", 1, 23, "] is expected", "column 12"),
    ("country == 'DE", 1, 12, "no closing '"),
    ("country == 'D\nE'", 1, 12, "no closing '"),
    ("country == 'D\\E'", 1, 14, "is not an escape"),
    ("mail == '\\ud800'", 1, 10, "not a Unicode character"),
    ("amount >", 1, 9, "ends too early", "after '>'"),
    ("amount > > 5", 1, 10, "two operators in a row"),
    ("* 5", 1, 1, "a value is expected at the beginning"),
    ("min(amount,)", 1, 12, "a value is expected after ','"),
    ("()", 1, 2, "between ( and )"),
    ("amount hour", 1, 8, "an operator is expected between 'amount' and 'hour'"),
    ("1 < amount < 3", 1, 12, "don't chain", "&&"),
    ("amount > 5 ? 1", 1, 15, "two halves"),
    ("device_is_new ? is_guest ? 1 : 2 : 3", 1, 26, "stands in parentheses"),
    ("amount : 5", 1, 8, "belongs to no '?'"),
    ("attributes.email == 'x'", 1, 1, "[fields]", "attributes.X"),
    ("merchant_id.", 1, 12, "function's name"),
    ("countries[0]", 1, 10, "a list follows 'in'"),
    ("2(amount)", 1, 2, "multiplication is written *"),
    ("null == amount", 1, 1, "has(x)"),
    ("\u0430mount > 5", 1, 1, "U+0430", "can't stand in a name"),
    ("amount > 5 // much", 1, 13, "two operators"),
    ("amount > 5 # much", 1, 12, "comments stand outside"),
    ("amount >\n 5 && (hour\n < 6 &&& is_guest)", 3, 8, "single &"),
    ("amount > 1e999", 1, 10, "too large"),
    ("amount > 1e-999", 1, 10, "too small"),
    ("amount > 9007199254740993", 1, 10, "not exact", "in quotes"),
]
MEANING: list[tuple[Place, str, int, int, str, str]] = [
    ("rule", "amount", 1, 1, "true or false is expected", "amount > 500"),
    ("rule", "country", 1, 1, "country is text", "country == 'DE'"),
    ("rule", "amonut > 5", 1, 1, "'amonut'", "did you mean amount?"),
    ("rule", "Amount > 5", 1, 1, "'Amount'", "did you mean amount?"),
    ("rule", "amount > 5 && TRUE", 1, 15, "'TRUE'", "written true"),
    ("rule", "merchant_id == None", 1, 16, "not a value", "has(merchant_id)"),
    ("rule", "country == DE", 1, 12, "'DE'", "country == 'DE'"),
    ("rule", "merchant_id == 66", 1, 13, "merchant_id is text, and 66 is a number", "'66'"),
    ("rule", "amount > '500'", 1, 8, "amount is a number, and '500' is text", "without quotes"),
    ("rule", "device_is_new == 1", 1, 15, "device_is_new is true or false", "!device_is_new"),
    ("rule", "received_at > 5", 1, 13, "a time", "received_at - occurred_at"),
    ("rule", "occurred_at + 5 > 6", 1, 1, "+ needs numbers", "seconds"),
    ("rule", "amount + 'x' > 6", 1, 10, "'x' is text", "without quotes"),
    ("rule", "merchant_id + 5 == 'x'", 1, 1, "joined only with text", "size"),
    ("rule", "merchant_id > 'a'", 1, 13, "compares numbers or times", "=="),
    ("rule", "!amount", 1, 2, "a condition is expected", "amount > 500"),
    ("rule", "amount && is_guest", 1, 1, "a condition is expected", "compare it"),
    ("rule", "(is_guest ? 1 : 'x') == 1", 1, 17, "of one type", "'x' is text"),
    ("rule", "country in 'DE'", 1, 12, "a list is expected", "contains"),
    ("rule", "country in ['DE', 5]", 1, 19, "country is text", "a number"),
    ("rule", "country in []", 1, 12, "empty", "nothing is in it"),
    ("rule", "amount in [1, hour]", 1, 15, "only constants", "'hour'"),
    ("rule", "is_guest in [1]", 1, 1, "a number or text", "is_guest"),
    ("rule", "[1] == [1]", 1, 1, "only after 'in'", "country in"),
    ("rule", "amount / 0 > 1", 1, 8, "division by zero", "ratio"),
    ("rule", "amount % -0 > 1", 1, 8, "division by zero", "ratio"),
    ("rule", "hour == 24", 1, 9, "never true", "0 to 23"),
    ("rule", "-1 < hour", 1, 1, "always true", "0 to 23"),
    ("rule", "weekday in [5, 7]", 1, 16, "7 is never found", "Monday"),
    ("rule", "hour(occurred_at) > 23", 1, 21, "never true", "0 to 23"),
    ("rule", "country == 'GER'", 1, 12, "'GER' is not a country code", "DE"),
    ("rule", "currency == 'euro'", 1, 13, "'euro'", "EUR"),
    ("rule", "merchant_id == ' '", 1, 16, "never empty", "!has(merchant_id)"),
    ("rule", "mail == 'a\\x1fb'", 1, 9, "no payment has", "U+001F"),
    ("rule", "mail in ['a', 'a\\x1fb']", 1, 15, "no payment has", "U+001F"),
    ("rule", "mail.matches('\\x1f')", 1, 14, "no payment has", "U+001F"),
    ("rule", "ip == '10.0.0.0/8'", 1, 7, "never a network", "list('watch')"),
    ("rule", "probability > 0.5", 1, 1, "a rule's condition", "[decision]"),
    ("rule", "decision == 'decline'", 1, 1, "'decision' is not known in a rule's condition", "aggregate"),
    ("rule", "account > 5", 1, 1, "an entity", "count(account"),
    ("rule", "count > 5", 1, 1, "a function", "count(account"),
    ("rule", "speed_kmh > 5", 1, 1, "not a feature of this program", "speed_kmh()"),
    ("rule", "speed_kmh() > 5", 1, 1, "only in [features]", 'speed_kmh = "speed_kmh()"'),
    ("rule", "amount > mean(account, '7d', amount)", 1, 10, "only in [features]", "mean(account, '7d', amount)"),
    ("rule", "hit('AMOUNT_HIGH')", 1, 1, "a rule's condition", "count(account"),
    ("rule", "not(amount > 5)", 1, 1, "'not'", "!(country == 'DE')"),
    ("rule", "amount(5) > 5", 1, 1, "a value, not a function", "without parentheses"),
    ("rule", "startsWith(merchant_id, 'x')", 1, 1, "after its text", "merchant_id.startsWith('x')"),
    ("rule", "merchant_id.size() > 3", 1, 13, "before its arguments", "size(merchant_id)"),
    ("rule", "merchant_id.beginsWith('x')", 1, 13, "'beginsWith'", "startsWith"),
    ("rule", "amount.startsWith('x')", 1, 1, "amount is a number", "text"),
    ("rule", "merchant_id.startsWith()", 1, 13, "needs text", "merchant_id.startsWith('shop')"),
    ("rule", "merchant_id.startsWith('a', 'b')", 1, 29, "one too many", "s.startsWith(prefix)"),
    ("rule", "merchant_id.matches('(')", 1, 21, "RE2", "missing )"),
    ("rule", "merchant_id.matches(mail)", 1, 21, "constant in quotes", "'mail'"),
    ("feature", "last(account, mail).contains('x')", 1, 1, "characters", "fields"),
    ("feature", "default(last(account, mail), 'x').contains('x')", 1, 1, "characters", "fields"),
    ("feature", "last(account, mail) + 'x' == 'y'", 1, 1, "characters", "fields"),
    ("rule", "hour(occurred_at, 'Europe/Berlin') > 3", 1, 19, "time zone database", "'+02:00'"),
    ("rule", "hour(occurred_at, '+15:00') > 3", 1, 19, "-14:00 to +14:00", "'+15:00'"),
    ("rule", "hour(occurred_at, '2') > 3", 1, 19, "'+02:00'", "'UTC'"),
    ("rule", "hour(amount) > 3", 1, 6, "must be a time", "amount is a number"),
    ("rule", "min(amount) > 3", 1, 1, "as its second argument", "min(amount, 1000)"),
    ("rule", "default(channel, 5) == 'x'", 1, 18, "of one type", "5 is a number"),
    ("rule", "has() && is_guest", 1, 1, "needs a value", "has(merchant_id)"),
    ("rule", "amount in list('watch')", 1, 1, "no lists", "merchant_id"),
    ("rule", "merchant_id in list('wacth')", 1, 21, "'wacth'", "watch"),
    ("rule", "list('watch') == 'x'", 1, 1, "only after 'in'", "merchant_id in list('watch')"),
    ("decision", "decision == 'declined'", 1, 13, "never 'declined'", "did you mean 'decline'?"),
    ("decision", "decision == mail", 1, 13, "only with its values", "decision == 'decline'"),
    ("decision", "decision + 'x' == 'y'", 1, 1, "only with its values", "decision == 'decline'"),
    ("decision", "decision in ['review', 'refuse']", 1, 24, "never 'refuse'", "'decline'"),
    ("decision", "hit('AMOUNT_HIHG')", 1, 5, "'AMOUNT_HIHG'", "did you mean AMOUNT_HIGH?"),
    ("decision", "severity == 'low'", 1, 1, "not known in [decision]", "aggregate"),
    ("feature", "count(account)", 1, 1, "as its second argument", "'10m'"),
    ("feature", "count('10m')", 1, 1, "as its second argument", "count(account, '10m'"),
    ("feature", "count('10m', amount > 5)", 1, 7, "not an entity", "count(account"),
    ("feature", "count(acount, '10m')", 1, 7, "'acount'", "did you mean account?"),
    ("feature", "count(account, '10 minutes')", 1, 16, "not a duration", "'10m'"),
    ("feature", "count(account, 10)", 1, 16, "in quotes", "found '10'"),
    ("feature", "count(account, '91d')", 1, 16, "too long", "'90d'"),
    ("feature", "count(account, '121m')", 1, 16, "'121m' cannot be divided", "'2h'"),
    ("feature", "count(device, '10m')", 1, 7, "in several partitions", '["account_id", "device_id"]'),
    ("feature", "min(device, '10m', amount)", 1, 5, "in several partitions", "account_id"),
    ("feature", "count(account, '7d', amount)", 1, 22, "a condition is expected", "amount > 500"),
    ("feature", "sum(account, '7d')", 1, 1, "as its third argument", "sum(account, '7d', amount)"),
    ("feature", "sum(account, '7d', merchant_id)", 1, 20, "must be a number", "merchant_id is text"),
    ("feature", "sum(account, '7d', mean_30d)", 1, 20, "'mean_30d' is a feature", "reads only"),
    ("feature", "sum(account, '7d', amount_high)", 1, 20, "'amount_high' is a parameter", "reads only"),
    ("feature", "sum(account, '7d', count(account, '1h'))", 1, 20, "inside an aggregate", "reads only"),
    ("feature", "count(account, '7d', merchant_id in list('watch'))", 1, 37, "about this payment", "aggregate"),
    ("feature", "count(account, '7d', !currency_known)", 1, 23, "for this payment", "rates"),
    ("feature", "last(account, currency_known)", 1, 15, "for this payment", "rates"),
    ("feature", "count(account, '7d', decision == 'denied')", 1, 34, "'denied'", "'decline'"),
    ("feature", "count(account, '7d', verdict == 'fraudulent')", 1, 33, "'fraudulent'", "'fraud'"),
    ("feature", "count(account, '7d', verdict == 'fraud' && amount > 5)", 1, 22, "stands alone", "no amount"),
    ("feature", "sum(account, '7d', amount, verdict == 'fraud')", 1, 1, "can't read verdicts", "count"),
    ("feature", "since(account_merchant, verdict == 'fraud')", 1, 7, "about the account", "since(account"),
    ("feature", "distinct(account, '1h', amount > 5)", 1, 25, "must be a field", "merchant_id"),
    ("feature", "distinct(account, '1h', merchant)", 1, 25, "must be a field", "did you mean merchant_id?"),
    ("feature", "is_new(account, device_id)", 1, 1, "a whole number", "is_new(account, device_id, 8)"),
    ("feature", "is_new(account, device_id, 65)", 1, 28, "1 to 64", "'65'"),
    ("feature", "is_new(account, device_id, 0.5)", 1, 28, "1 to 64", "'0.5'"),
    ("feature", "avg(account, '7d', amount)", 1, 1, "'avg'", "mean(account, '7d', amount)"),
    ("feature", "speed_kmh + 1", 1, 1, "column of the library", "speed_kmh()"),
    ("feature", "speed_kmh(5)", 1, 11, "takes no arguments", "speed_kmh()"),
    ("feature", "decision == 'decline'", 1, 1, "not known in a feature", "[decision]"),
]


@pytest.mark.parametrize(("text", "line", "column", "words"), [(t, li, c, w) for t, li, c, *w in READING])
def test_what_cannot_be_read_says_where_and_what_to_write(text: str, line: int, column: int, words: list[str]) -> None:
    """The parser's message stands at the exact place and holds the words that help."""
    with pytest.raises(ProgramError) as caught:
        check(text, scope("feature"), ("number", "bool"))
    assert (caught.value.line, caught.value.column) == (line, column), caught.value.message
    assert all(word in caught.value.message for word in words), caught.value.message


@pytest.mark.parametrize(("place", "text", "line", "column", "found", "advice"), MEANING)
def test_what_makes_no_sense_says_where_and_what_to_write(
    place: Place, text: str, line: int, column: int, found: str, advice: str
) -> None:
    """The checker's message stands at the exact place, says what was found, and what would work."""
    with pytest.raises(ProgramError) as caught:
        check(text, scope(place), ("number", "bool") if place == "feature" else "bool")
    assert (caught.value.line, caught.value.column) == (line, column), caught.value.message
    assert found in caught.value.message and advice in caught.value.message, caught.value.message


def test_an_error_is_bad_input_with_its_place_in_words() -> None:
    """Whoever catches BadInput gets line, column and message in one line; the caret points at the place."""
    with pytest.raises(BadInput, match=r"^line 2, column 4: nothing is called 'hor'; did you mean hour\?$") as caught:
        check("amount > 5\n&& hor < 6", scope("rule"), "bool")
    assert isinstance(caught.value, ProgramError)
    shown = caught.value.rendered("amount > 5\n&& hor < 6")
    assert shown == "&& hor < 6\n   ^ nothing is called 'hor'; did you mean hour?"


def test_a_message_shows_nothing_that_moves_the_cursor() -> None:
    """Text that the author wrote is shown with escapes for what a terminal would obey."""
    with pytest.raises(ProgramError) as caught:
        check("decision == 'a\u202eb'", scope("decision"), "bool")
    assert "\u202e" not in caught.value.message + caught.value.rendered("decision == 'a\u202eb'")
