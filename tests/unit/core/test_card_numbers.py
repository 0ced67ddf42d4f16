"""Card numbers and tracks are found wherever an independent scanner finds them, and other numbers are left alone."""

from __future__ import annotations

import itertools
import random

import pytest

from core.card_numbers import CARD, NONE, TRACK, find, find_all, is_suspicious
from tests.builders.card_oracle import card_number, card_numbers, luhn, spelled

FOUND = [
    "4111111111111111",
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "4111.1111.1111.1111",
    "4111_1111_1111_1111",
    "4111/1111/1111/1111",
    "4111 - 1111 - 1111 - 1111",
    "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
    "41 11 11 11 11 11 11 11",
    "378282246310005",
    "3782 822463 10005",
    "30569309025904",
    "6011111111111117",
    "3530111333300000",
    "5555555555554444",
    "2223003122003222",
    "5019717010103742",
    "6304000000000000",
    "4222222222222",
    "6200000000000005",
    "acct-4111111111111111-x",
    "ref 4711: 4111 1111 1111 1111, exp 12/27",
    "4111111111111111.0",
    "4.111111111111111e+15",
    "4.111111111111111E15",
    "PAN4111111111111111",
]
LEFT = [
    "4111111111111112",
    "1767225600000",
    "1767225600000000",
    "1767225600000000000",
    "20261126204327",
    "20261126204327123",
    "2026112600000018",
    "0.4111111111111111",
    "-1.4111111111111111",
    "41111111111111110000",
    "411111111111",
    "+4222222222222",
    "1111 2222 3333 4444",
    "4111,1111,1111,1111",
    "4111  x 1111 1111 1111",
    "356938035643809",  # an IMEI
    "8944110068231234567",  # an ICCID
]


@pytest.mark.parametrize("text", FOUND)
def test_numbers_are_found_as_people_write_them(text: str) -> None:
    """Usual separators, groups, floats and scientific notation."""
    what, start, end = find(text.encode())
    assert what == CARD and 0 <= start < end <= len(text)
    assert is_suspicious(text.encode())


@pytest.mark.parametrize("text", LEFT)
def test_other_numbers_are_left_alone(text: str) -> None:
    """Times, dates, fractions, longer runs, and numbers that the formula or no scheme has."""
    assert find(text.encode())[0] == NONE and not is_suspicious(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        ";4111111111111111=27121010000012300000?",
        "4111111111111112=2712101000001",
        "4111111111111111D27121010000012300000",
        "%B4111111111111111^DOE/JANE^2712101000000123?",
        "%B4111111111111112^DOE/JANE^2712101?",
    ],
)
def test_tracks_are_found_whatever_the_formula_says(text: str) -> None:
    """Both tracks of a magnetic stripe."""
    assert find(text.encode())[0] == TRACK


def test_as_an_independent_scanner_finds_them() -> None:
    """In random mixtures of numbers, separators and letters, one is found if and only if the slow scanner finds one,
    and it begins where the first of its begins.
    """
    dice = random.Random(5)
    hits = 0
    for _ in range(20_000):
        parts = []
        for _ in range(dice.randrange(1, 6)):
            match dice.randrange(5):
                case 0:
                    parts.append(spelled(card_number(dice), dice))
                case 1:
                    parts.append("".join(dice.choice("0123456789") for _ in range(dice.randrange(1, 24))))
                case 2:
                    parts.append("".join(dice.choice(" -./_xé=,+") for _ in range(dice.randrange(1, 4))))
                case 3:
                    parts.append(f"{dice.randrange(10**6)}.{dice.randrange(10**16)}")
                case _:
                    parts.append("".join(dice.choice("0123456789 -.") for _ in range(dice.randrange(1, 30))))
        text = dice.choice(("", " ", "-", "x")).join(parts).replace("=", ";").replace("é", "e ").replace("D", "")
        expected = card_numbers(text)
        what, start, end = find(text.encode())
        if what == TRACK:
            continue
        assert (what == CARD) == bool(expected), text
        if expected:
            hits += 1
            assert text[start:end] in expected and start == text.find(min(expected, key=text.find)), text
    assert hits > 5_000


def test_the_search_stays_within_any_bytes() -> None:
    """Random bytes of all lengths."""
    dice = random.Random(7)
    for _ in range(3_000):
        text = bytes(dice.choice(b'0123456789 .-^=eE+\\u\xff\xc3cvCVnN2"') for _ in range(dice.randrange(60)))
        what, start, end = find(text)
        assert what == NONE or 0 <= start < end <= len(text)
        found = find_all(text).tolist()
        assert found[:1] == ([] if what == NONE else [[what, start, end]])
        assert all(a[2] <= b[1] for a, b in itertools.pairwise(found))
        is_suspicious(text)


def test_how_many_ids_are_taken_for_card_numbers() -> None:
    """About 4 % of random IDs of 16 digits, which satisfy the formula by chance and begin as cards do; no sequence
    number and no time.
    """
    dice = random.Random(11)
    random_ids = [f"{dice.randrange(10**15, 10**16)}" for _ in range(20_000)]
    taken = sum(find(each.encode())[0] == CARD for each in random_ids)
    assert 0.03 < taken / len(random_ids) < 0.05
    assert sum(map(luhn, random_ids)) / len(random_ids) > 0.09
    began = 1_790_000_000_000
    for scale in (1, 1_000, 1_000_000):
        times = [began * scale + dice.randrange(10**10) * scale for _ in range(5_000)]
        assert not any(find(b"%d" % each)[0] for each in times)
    assert not any(find(b"%016d" % (10**15 + n))[0] for n in range(5_000))
