"""Card numbers, security codes and tracks are taken out of whatever is stored; identifiers still identify."""

from __future__ import annotations

import random
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.events import CaseNoted, FeedbackReceived, ListChanged, Transaction
from core.hiding import RAW_BYTES_MAX, Hiding, holds_card_number, masked, masked_bytes, named_after
from core.identity import FIXED
from core.tokens import KeyedTokens, home, is_token
from tests.builders.card_oracle import card_number, card_numbers, digits_of, in_script, spelled

PAN = "4111111111111111"
FOUR = FIXED._replace(partitioner="murmur2", partitions=4)


def hiding(*free: str) -> Hiding:
    return Hiding(KeyedTokens.of(FOUR.key, FOUR.partitioner, FOUR.partitions), frozenset(free))


def payment(**changes: object) -> Transaction:
    fields = {"transaction_id": "t1", "account_id": "a1", "amount": 5.0, "occurred_at": 1_790_000_000_000, **changes}
    return msgspec.convert(fields, Transaction)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"paid with {PAN}", "paid with ****1111"),
        ("paid with 4111 1111 1111 1111 today", "paid with ****1111 today"),
        ("４１１１１１１１１１１１１１１１", "****1111"),
        ("4111\u00a01111\u20111111\u200b1111", "****1111"),
        ("the CVV is 123", "the CVV is ***"),
        ("cvc2: 1234, thanks", "cvc2: ***, thanks"),
        ("security code 987.", "security code ***."),
        (";4111111111111111=27121010000012300000?", ";****?"),
        ("%B4111111111111111^DOE/JANE^2712101000000123?", "%B****?"),
        ("cvv matched, 12345 points", "cvv matched, 12345 points"),
        ("order 4111111111111112", "order 4111111111111112"),
        ("", ""),
    ],
)
def test_texts_are_masked(text: str, expected: str) -> None:
    """What identifies the card goes, the rest stays; a text without any comes back as the same object."""
    assert masked(text) == expected
    assert expected != text or masked(text) is text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"card_id":"4111111111111111"', b'{"card_id":"****1111"'),
        (b'{"card":4111111111111111,"x":1}', b'{"card":****1111,"x":1}'),
        (b'{"card":"\\u0034111-1111-1111-1111"', b'{"card":"****1111"'),
        (b'{"cvv":"123","cid":4567,"pin": "1234"', b'{"cvv":"***","cid":***,"pin": "***"'),
        (b"pan=4111111111111111&cvc=123", b"pan=****1111&cvc=***"),
        (PAN.encode("utf-16-le"), b"****1111\x00"),
        (b"\xff\xfe4111 1111 1111 1111\x80", b"\xff\xfe****1111\x80"),
        (b"nothing", b"nothing"),
        (None, None),
    ],
)
def test_raw_bytes_are_masked(content: bytes | None, expected: bytes | None) -> None:
    """Of rejects: no JSON, cut JSON, escapes, UTF-16, bytes that are no UTF-8."""
    assert masked_bytes(content) == expected


def test_a_huge_reject_is_cut_if_it_holds_card_data() -> None:
    """So that looking through it takes bounded time; without card data it is kept in full."""
    clean = b'{"a":"' + b"x" * 3 * RAW_BYTES_MAX + b'"}'
    assert masked_bytes(clean) is clean
    kept = masked_bytes(clean + PAN.encode())
    assert kept is not None and len(kept) == RAW_BYTES_MAX
    kept = masked_bytes(PAN.encode() + clean)
    assert kept is not None and kept.startswith(b"****1111{") and len(kept) < RAW_BYTES_MAX


@pytest.mark.parametrize(
    "name", ["cvv", "CVV2", "card_cvc", "cardCvv", "securityCode", "card-verification-value", "cid"]
)
def test_attributes_named_after_a_security_code(name: str) -> None:
    """Under whatever spelling, as text or number."""
    for value in ("123", "1234", 123, 123.0, " 123 ", "１２３"):
        event, kinds = hiding().event(payment(attributes={name: value, "other": 123}))
        assert event.attributes == {name: "***", "other": 123} and kinds == {"security_code"}
    assert hiding().is_named({name: "123"})


@pytest.mark.parametrize("name", ["cvv_result", "cvvMatch", "cvc_check", "customer_id", "score", "pincode", "track_id"])
def test_results_of_checks_stay(name: str) -> None:
    """Whether a code was right is no security code."""
    assert not named_after(name)
    assert not hiding().is_named({name: "123"})


def test_a_security_codes_attribute_may_hold_other_things() -> None:
    """Only three or four digits are one."""
    for value in ("M", "", "12", "12345", 7):
        event = payment(attributes={"cvv": value})
        assert hiding().event(event)[0] is event


def test_numbers_in_attributes_are_masked() -> None:
    """As JSON numbers, too."""
    event, kinds = hiding().event(payment(attributes={"pan": 4111111111111111, "v1": 0.4111111111111111, "n": 7}))
    assert event.attributes == {"pan": "****1111", "v1": 0.4111111111111111, "n": 7} and kinds == {"card_number"}
    event, _ = hiding().event(payment(attributes={"pan": 6200000000000000005}))  # a double does not hold it
    assert event.attributes == {"pan": "****"}


def test_identifiers_become_tokens_that_still_identify() -> None:
    """Equal cards have equal tokens however they are written; different cards, fields and logs have different ones."""
    of = hiding()
    first, _ = of.event(payment(card_id=PAN, device_id=PAN))
    again, _ = of.event(payment(card_id="4111-1111 1111 1111"))
    other, _ = of.event(payment(card_id="4012888888881881"))
    assert first.card_id == again.card_id != other.card_id and is_token(first.card_id)
    assert first.card_id.startswith("card_") and first.device_id.startswith("dev_")
    assert first.card_id[-32:] != first.device_id[-32:]
    elsewhere = Hiding(KeyedTokens.of(FOUR.key.derived("x"), "murmur2", 4))
    assert elsewhere.event(payment(card_id=PAN))[0].card_id != first.card_id
    assert of.event(first)[0] is first


def test_an_accounts_token_names_its_partition() -> None:
    """Messages about the account are routed by its raw ID or by its token, to the same partition."""
    dice = random.Random(3)
    for _ in range(200):
        account = card_number(dice)
        event, _ = hiding().event(payment(account_id=account))
        assert home(event.account_id, "murmur2", 4) == home(account, "murmur2", 4)
        verdict = FeedbackReceived(
            account_id=account, transaction_id="t1", occurred_at=1, source="analyst", verdict="fraud", reason=account
        )
        hidden, _ = hiding().event(verdict)
        assert hidden.account_id == event.account_id and hidden.reason == f"****{account[-4:]}"


def test_free_fields_are_left_alone() -> None:
    """Fields that are known to hold no card numbers."""
    event, kinds = hiding("transaction_id").event(payment(transaction_id=PAN, card_id=PAN))
    assert event.transaction_id == PAN and is_token(event.card_id) and kinds == {"card_number"}


def test_lists_and_notes() -> None:
    """A card on a list has the token of the payments' card; a note is masked."""
    token = hiding().identifier("card_id", PAN)
    change = ListChanged(occurred_at=0, actor="a", kind="card", effect="block", add=("4111 1111 1111 1111", "c1"))
    assert hiding().list_change(change).add == (token, "c1")
    note = CaseNoted(account_id="a1", case_id="c1", occurred_at=0, actor="a", note=f"{PAN} CVV 123", mentions=(PAN,))
    hidden, kinds = hiding().event(note)
    assert hidden.note == "****1111 CVV ***" and hidden.mentions == ("****1111",)
    assert kinds == {"card_number", "security_code"}


@given(st.randoms(use_true_random=False), st.text(max_size=20), st.text(max_size=20))
def test_nothing_that_the_slow_scanner_knows_is_left(dice: random.Random, before: str, after: str) -> None:
    """In any text around them, in any script, as text and as bytes, and masking again changes nothing."""
    number = card_number(dice)
    written = spelled(number, dice)
    if dice.randrange(4) == 0:
        written = in_script(written, dice)
    text = f"{before} {written} {after}"
    without = masked(text)
    assert number not in digits_of(without)[: len(number)] or not digits_of(before)
    assert not card_numbers(_ascii(without))
    assert masked(without) == without
    raw = masked_bytes(text.encode("utf-8", "surrogatepass"))
    assert raw is not None and number.encode() not in raw
    assert holds_card_number(written)


def _ascii(text: str) -> str:
    return "".join(c if c.isascii() else (digits_of(c) or "x") for c in text)


def test_a_long_text_with_an_escape_is_searched_by_runs_and_not_by_characters() -> None:
    """A message is searched whatever is wrong with it, so one escape in 60,000 characters may not make it cost as much
    as a thousand payments. What follows the escape is still found at its place, and the rest stays as it is.
    """
    filler = b"a" * 60_000
    masked_bytes(filler)  # compiles

    def seconds(content: bytes) -> float:
        took = []
        for _ in range(5):
            began = time.process_time()
            assert masked_bytes(content) == content
            took.append(time.process_time() - began)
        return min(took)

    assert seconds(b"\\u0041" + filler) < 8 * seconds(filler) + 1e-4
    assert masked_bytes(b"\\u0034" + filler + b" 4111111111111111 z") == b"\\u0034" + filler + b" ****1111 z"
