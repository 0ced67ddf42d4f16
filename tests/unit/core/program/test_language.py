"""core/program/{checking,calling,language}.py: what texts become, and what can be said about it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.features import spec
from core.program import functions, page, typed
from core.program.compiling import compile_expressions
from core.program.errors import ProgramError
from core.program.fields import STANDARD
from core.program.formatting import formatted
from core.program.language import (
    Cost,
    Reads,
    canonical_text,
    check,
    complete,
    cost,
    identity,
    names_read,
    serialised,
    walk,
)
from core.program.parsing import parse
from core.program.scope import Place
from core.program.syntax import Node, levels
from core.program.tokens import KEYWORDS, RESERVED
from core.program.typed import AGGREGATES, OPERATIONS, Aggregate, Apply, Column, Constant, Expression, Hit, Listed
from core.times import DAY_MS, HOUR_MS, MINUTE_MS
from tests.builders.scopes import scope
from tests.builders.syntax_trees import trees

ANY = ("number", "bool", "string", "time")
AMOUNT = Column("number", "field", "amount")
MERCHANT = Column("string", "field", "merchant_id", "text")
MEAN = Column("number", "feature", "mean_30d")
NEW = Column("bool", "feature", "device_is_new")
GUEST = Column("bool", "field", "is_guest")
MAIL = Column("string", "field", "mail", "raw")
AT = Column("time", "field", "occurred_at")
DECISION = Column("string", "outcome", "decision", "raw")
VERDICT = Column("string", "outcome", "verdict", "raw")


def number(value: float) -> Constant:
    return Constant("number", value)


def text(value: str) -> Constant:
    return Constant("string", value)


def declined() -> Expression:
    return Apply("bool", "equal_string", (DECISION, text("decline")))


TYPED: list[tuple[Place, str, Expression]] = [
    ("rule", "amount > 500", Apply("bool", "less", (number(500), AMOUNT))),
    ("rule", "amount <= 500", Apply("bool", "less_equal", (AMOUNT, number(500)))),
    ("rule", "mean_30d >= 99.99", Apply("bool", "less_equal_single", (number(99.99), MEAN))),
    ("rule", "amount < mean_30d", Apply("bool", "less_single", (AMOUNT, MEAN))),
    ("rule", "-mean_30d == amount", Apply("bool", "equal_single", (Apply("number", "negate", (MEAN,)), AMOUNT))),
    ("rule", "mean_30d * 2 != 1",
        Apply("bool", "unequal", (Apply("number", "multiply", (MEAN, number(2))), number(1)))),
    ("rule", "mean_30d in [1, 2]", Apply("bool", "in_numbers_single", (MEAN, Constant("numbers", (1.0, 2.0))))),
    ("rule", "amount in [1, -2]", Apply("bool", "in_numbers", (AMOUNT, Constant("numbers", (1.0, -2.0))))),
    ("rule", "mail in ['a']", Apply("bool", "in_strings", (MAIL, Constant("strings", ("a",))))),
    ("rule", "amount > amount_high", Apply("bool", "less", (Column("number", "parameter", "amount_high"), AMOUNT))),
    ("rule", "currency == 'EUR'",
        Apply("bool", "equal_string", (Column("string", "field", "currency", "country"), text("EUR")))),
    ("rule", "merchant_id == 'Shop'", Apply("bool", "equal_string", (MERCHANT, text("Shop")))),
    ("rule", "is_guest != device_is_new", Apply("bool", "unequal_bool", (GUEST, NEW))),
    ("rule", "occurred_at >= sent_at", Apply("bool", "less_equal_time", (Column("time", "field", "sent_at"), AT))),
    ("rule", "occurred_at == sent_at", Apply("bool", "equal_time", (AT, Column("time", "field", "sent_at")))),
    ("rule", "occurred_at - sent_at", Apply("number", "elapsed", (AT, Column("time", "field", "sent_at")))),
    ("rule", "mail + 'x'", Apply("string", "concat", (MAIL, text("x")))),
    ("rule", "amount % 100", Apply("number", "remainder", (AMOUNT, number(100)))),
    ("rule", "!is_guest", Apply("bool", "not", (GUEST,))),
    ("rule", "is_guest ? amount : 1", Apply("number", "choose", (GUEST, AMOUNT, number(1)))),
    ("rule", "has(mail)", Apply("bool", "has", (MAIL,))),
    ("rule", "default(mail, 'x')", Apply("string", "default", (MAIL, text("x")))),
    ("rule", "max(amount, 1, 2)", Apply("number", "max", (AMOUNT, number(1), number(2)))),
    ("rule", "size(mail)", Apply("number", "size", (MAIL,))),
    ("rule", "mail.startsWith('a')", Apply("bool", "starts_with", (MAIL, text("a")))),
    ("rule", "mail.lowerAscii().contains('a')",
        Apply("bool", "contains", (Apply("string", "lower", (MAIL,)), text("a")))),
    ("rule", "(is_guest ? mail : 'b').endsWith('a')",
        Apply("bool", "ends_with", (Apply("string", "choose", (GUEST, MAIL, text("b"))), text("a")))),
    ("rule", "mail.matches('^a')", Apply("bool", "matches", (MAIL, text("^a")))),
    ("rule", "hour(occurred_at)", Apply("number", "hour", (AT, number(0)))),
    ("rule", "weekday(sent_at, '-02:30')",
        Apply("number", "weekday", (Column("time", "field", "sent_at"), number(-2.5 * HOUR_MS)))),
    ("rule", "merchant_id in list('block')", Listed(MERCHANT, "block")),
    ("decision", "probability", Column("number", "outcome", "probability")),
    ("decision", "decision == 'decline'", declined()),
    ("decision", "hit('VELOCITY')", Hit("VELOCITY")),
    ("feature", "speed_kmh()", Column("number", "library", "speed_kmh")),
    ("feature", "amount()", Column("number", "library", "amount")),
    ("feature", "count(account, '10m')", Aggregate("number", "count", window_ms=10 * MINUTE_MS)),
    ("feature", "count(account, '24h', decision == 'decline')",
        Aggregate("number", "count", window_ms=DAY_MS, condition=declined())),
    ("feature", "count(account, '24h', alerted && hit('VELOCITY'))",
        Aggregate("number", "count", window_ms=DAY_MS,
            condition=Apply("bool", "and", (Column("bool", "outcome", "alerted"), Hit("VELOCITY"))))),
    ("feature", "max(account_merchant, '7d', amount, is_guest)",
        Aggregate("number", "max", ("merchant_id",), 7 * DAY_MS, AMOUNT, GUEST)),
    ("feature", "max(amount, km)", Apply("number", "max", (AMOUNT, Column("number", "field", "km")))),
    ("feature", "std(account, '30d', amount * 2)",
        Aggregate("number", "std", (), 30 * DAY_MS, Apply("number", "multiply", (AMOUNT, number(2))))),
    ("feature", "distinct(account, '1h', merchant_id)", Aggregate("number", "distinct", (), HOUR_MS, MERCHANT)),
    ("feature", "share(account, '1h', is_guest)", Aggregate("number", "share", (), HOUR_MS, None, GUEST)),
    ("feature", "first(account, mail)", Aggregate("string", "first", value=MAIL)),
    ("feature", "last(account, sent_at, is_guest)",
        Aggregate("time", "last", value=Column("time", "field", "sent_at"), condition=GUEST)),
    ("feature", "since(account)", Aggregate("number", "since")),
    ("feature", "since(account, verdict == 'fraud')",
        Aggregate("number", "since", condition=Apply("bool", "equal_string", (VERDICT, text("fraud"))),
            on_verdicts=True)),
    ("feature", "count(account, '30d', verdict in ['fraud', 'unsure'])",
        Aggregate("number", "count", (), 30 * DAY_MS,
            condition=Apply("bool", "in_strings", (VERDICT, Constant("strings", ("fraud", "unsure")))),
            on_verdicts=True)),
    ("feature", "decayed(account, '45d', amount)", Aggregate("number", "decayed", (), 45 * DAY_MS, AMOUNT)),
    ("feature", "typical(account, amount)", Aggregate("number", "typical", value=AMOUNT)),
    ("feature", "is_new(account, mail, 8)", Aggregate("bool", "is_new", value=MAIL, size=8)),
]  # fmt: skip


@pytest.mark.parametrize(("place", "source", "expected"), TYPED, ids=[source for _, source, _ in TYPED])
def test_a_text_becomes_its_typed_expression(place: Place, source: str, expected: Expression) -> None:
    """Operations, types, forms, windows and entities are those that the text means, and the text is canonical."""
    found = check(source, scope(place), ANY)
    assert found.expression == expected
    assert found.text == source


@pytest.mark.parametrize(("place", "source", "expected"), TYPED, ids=[source for _, source, _ in TYPED])
def test_the_engine_compiles_what_is_accepted(place: Place, source: str, expected: Expression) -> None:
    """Every typed expression, and what its aggregates read of earlier events, becomes code."""
    inner = [each for _, node in walk(expected) if isinstance(node, Aggregate) for each in (node.value, node.condition)]
    code = compile_expressions([expected, *(each for each in inner if each is not None)])
    assert code.outputs == 1 + sum(each is not None for each in inner)


def result_of(expression: Apply) -> None:
    """Assert that the operation's arguments and result are of the types that the table says."""
    operation = OPERATIONS[expression.operation]
    wanted = operation.arguments
    given = [each.type for each in expression.arguments]
    if operation.repeated:
        wanted = (*wanted, *[wanted[-1]] * (len(given) - len(wanted)))
    assert len(wanted) == len(given)
    anys = {each for each, want in zip(given, wanted, strict=True) if want == "any"}
    assert len(anys) <= 1
    assert all(want in ("any", each) for each, want in zip(given, wanted, strict=True))
    assert expression.type == (anys.pop() if operation.result == "any" else operation.result)


@pytest.mark.parametrize("function", [*functions.FUNCTIONS, *functions.LIBRARY], ids=lambda f: f"{f.name} {f.becomes}")
def test_every_function_has_an_example_that_works(function: functions.Function) -> None:
    """The example of each row checks, uses the function, and has types as the table of operations says."""
    at: Place = "decision" if function.becomes == "hit" else "feature"
    found = check(function.example, scope(at), ANY)
    assert any(getattr(node, "name", "") == function.name for _, node in levels(parse(function.example)))
    for _, each in walk(found.expression):
        if isinstance(each, Apply):
            result_of(each)
    known = {"operation": OPERATIONS, "aggregate": AGGREGATES, "library": spec.NAMES}
    assert function.operation in known.get(function.becomes, (function.operation,))


def test_every_operation_and_aggregate_can_be_written() -> None:
    """Nothing of the typed expressions is out of the language's reach, but what the planner adds itself."""
    written: set[str] = set()
    more = [("rule", t) for t in ("amount - 1 < 2", "amount / 2 <= 3", "amount == 1", "amount != 1", "mail != 'x'",
            "mean_30d != 1", "mean_30d < 1", "mean_30d == 1", "sent_at < occurred_at", "sent_at != occurred_at",
            "is_guest == device_is_new", "is_guest || is_guest", "amount + 1 > 2")]  # fmt: skip
    examples = [(p, t) for p, t, _ in TYPED] + [("feature", f.example) for f in functions.FUNCTIONS if f.name != "hit"]
    for place, source in [*examples, *more]:
        for _, each in walk(check(source, scope(place), ANY).expression):
            written.add(each.operation if isinstance(each, Apply) else getattr(each, "function", ""))
    assert (set(OPERATIONS) | set(AGGREGATES)) - written == {"single"}


def test_long_chains_nest_little() -> None:
    """A chain of n conditions is a tree of depth log n, in the order of the text."""
    chain = " || ".join(f"amount == {n}" for n in range(1, 200))
    found = check(chain, scope("rule"), "bool").expression
    assert cost(found) == Cost(199 + 198, 0, 10)
    constants = [each.value for _, each in walk(found) if isinstance(each, Constant)]
    assert constants == list(map(float, range(1, 200)))


def test_the_place_decides_what_can_be_read() -> None:
    """Each kind of name and call is accepted exactly where the table says."""
    kinds = {"amount > 1": "frde", "mean_30d > 1": "frd", "amount_high > 1": "frd", "speed_kmh() > 1": "f",
             "count(account, '1h') > 1": "f", "ip in list('watch')": "frd", "probability > 0.5": "d",
             "decision == 'review'": "de", "severity == 'low'": "e", "alerted": "e", "verdict == 'fraud'": "e",
             "hit('VELOCITY')": "de"}  # fmt: skip
    places: tuple[Place, ...] = ("feature", "rule", "decision", "event")
    for source, place in itertools.product(kinds, places):
        try:
            check(source, scope(place), "bool")
        except ProgramError:
            assert place[0] not in kinds[source], (source, place)
        else:
            assert place[0] in kinds[source], (source, place)


def test_the_expected_type_counts() -> None:
    """A rule's condition is true or false; a feature may be either."""
    assert check("amount", scope("feature"), ("number", "bool")).expression == AMOUNT
    with pytest.raises(ProgramError, match="a number or true or false is expected, and mail is text"):
        check("mail", scope("feature"), ("number", "bool"))


def test_names_read_include_those_inside_aggregates() -> None:
    """Fields, features, parameters, library columns, outcomes, entities, codes and lists are all found."""
    source = (
        "count(account_merchant, '1h', decision == 'decline' && is_guest && hit('VELOCITY')) + mean_30d > amount_high"
        " || speed_kmh() > amount || ip in list('watch')"
    )
    assert names_read(check(source, scope("feature"), "bool").expression) == Reads(
        fields=("amount", "ip", "is_guest"),
        features=("mean_30d",),
        parameters=("amount_high",),
        library=("speed_kmh",),
        outcomes=("decision",),
        entities=("merchant_id",),
        codes=("VELOCITY",),
        lists=(("ip", "watch"),),
    )


def test_different_expressions_have_different_identities() -> None:
    """Every example has an identity of its own; another spelling of the same expression has the same."""
    found = [check(source, scope(place), ANY).expression for place, source, _ in TYPED]
    assert len({identity(each) for each in found}) == len({*found}) == len(TYPED)
    assert len({serialised(each) for each in found}) == len(TYPED)

    def of(source: str) -> str:
        return identity(check(source, scope("feature"), ANY).expression)

    assert of("amount>5e2&&(is_guest)") == of("500.0 < amount && is_guest")
    assert of("is_guest && (device_is_new && is_guest)") == of("(is_guest && device_is_new) && is_guest")
    assert of("count(account, '60m')") == of("count(account, '1h')")
    assert of("amount > 0.1") != of("amount > 0.10000000000000002")
    assert of("amount * -0") != of("amount * 0")
    assert of("mail == \"a', raw 'b\"") != of("mail == 'a'")


def test_an_identity_never_changes() -> None:
    """The digest of an expression is part of artifacts and programs: a change of the serialisation needs a version."""
    source = "sum(account_merchant, '7d', amount, mail in ['a', 'b']) > 3.5 ? is_new(account, device_id, 8) : true"
    assert serialised(check(source, scope("feature"), ANY).expression) == (
        "choose bool (less bool (number 3.5, aggregate sum number ('merchant_id') 604800000 0 payments "
        "(field number 'amount' '') (in_strings bool (field string 'mail' 'raw', strings ['a', 'b']))), "
        "aggregate is_new bool () 0 8 payments (field string 'device_id' 'text') (), bool true)"
    )
    digest = identity(check("amount > 500", scope("rule"), ANY).expression)
    assert digest == "4c2a5686acdc35fffa989d913e39c06d7ff0a48b9dd94307f10c5daae5b3a2ce"


def test_an_editor_is_offered_what_may_stand_there() -> None:
    """Completion offers names and functions by prefix, only those of the place, and methods behind a point only."""
    rule, feature = scope("rule"), scope("feature")
    assert [each.insert for each in complete("amount > 5 && me", rule)] == [
        "merchant_id", "merchant_category", "mean_30d"
    ]  # fmt: skip
    assert "mean(" in [each.insert for each in complete("me", feature)]
    assert [each.insert for each in complete("merchant_id.st", rule)] == ["startsWith("]
    assert {each.insert for each in complete("merchant_id.", rule)} == {
        "startsWith(", "endsWith(", "contains(", "matches(", "lowerAscii("
    }  # fmt: skip
    assert [each.insert for each in complete("account", feature)] == ["account_id", "account", "account_merchant",
        "account_age_days(", "account_blocked("]  # fmt: skip
    assert "hit(" in [each.insert for each in complete("", scope("decision"))]
    assert "hit(" not in [each.insert for each in complete("", rule)]
    for each in complete("", feature):
        if each.insert.endswith("("):
            assert each.signature.count("(") == 1 and each.meaning


def test_the_canonical_text_needs_no_scope() -> None:
    """A document can be formatted before its names are known."""
    assert canonical_text("nobody>( 1 )") == "nobody > 1"


MEANINGFUL = trees(
    st.sampled_from(["amount", "mail", "is_guest", "occurred_at", "mean_30d", "device_is_new", "amount_high", "country",
                     "account", "account_merchant", "device", "decision", "verdict", "probability", "hour", "nobody"]),
    st.sampled_from(sorted(functions.BY_NAME)),
)  # fmt: skip


@settings(deadline=None, max_examples=500)
@given(MEANINGFUL, st.sampled_from(["feature", "rule", "decision", "event"]))
def test_every_tree_is_typed_or_refused_with_a_place(node: Node, place: Place) -> None:
    """Whatever is put together, the checker gives an expression that the engine compiles, or an error at a place."""
    source = formatted(node)
    try:
        found = check(source, scope(place), ANY)
    except ProgramError as error:
        assert error.line == 1 and 1 <= error.column <= len(source) + 1 and len(error.message) < 500
        return
    assert found.text == source
    for _, each in walk(found.expression):
        if isinstance(each, Apply):
            result_of(each)
    if not any(isinstance(each, Aggregate) for _, each in walk(found.expression)):
        assert compile_expressions([found.expression]).outputs == 1


def test_the_examples_of_the_reference_work() -> None:
    """Every expression in the code block of docs/language.md checks."""
    block = page.markdown().partition("```text\n")[2].partition("```")[0].splitlines()
    assert len(block) == 3
    for line in block:
        assert check(line, scope("feature"), ANY).text == line


def test_no_name_of_a_function_is_a_reserved_word_or_a_field() -> None:
    """Every name that the table offers can be written, and only hour and weekday are a field and a function."""
    assert not set(functions.BY_NAME) & (RESERVED | set(KEYWORDS))
    assert set(STANDARD) & {f.name for f in functions.FUNCTIONS} == {"hour", "weekday"}
    assert {f.name for f in functions.LIBRARY} == set(spec.NAMES)
    assert not {f.name for f in functions.LIBRARY} & {f.name for f in functions.FUNCTIONS}
    assert typed.is_single(MEAN)
