"""The builder of rules and the text beside it show one program."""

from __future__ import annotations

import random
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from core.program import loading
from tests.builders.pictures import WAIT_MS, settled

BOOK = "/static/lib/rulebook.js"
PROGRAM = """# kept
[program]
name = "cards"
version = "1.0.0"
uses = ["standard@1"]

[[rules]]
code = "FIRST" # also kept
when = "amount > 500 && device_is_new"
effect = "review"
words = "{amount:,.2f}"

[features]
twice = "amount * 2.0"

[[rules]]
when = "amount > 5 || twice > 20"
code = "SECOND"
"""


def call(page: Page, name: str, *arguments: Any) -> Any:
    """What a function of the rulebook returns."""
    return page.evaluate("([book, name, args]) => import(book).then((m) => m[name](...args))", [BOOK, name, arguments])


def test_conditions_are_read_and_written_as_they_are(page: Page) -> None:
    """Comparisons joined by one word are read and written back the same; anything else stays text."""
    draw = random.Random(5)
    parts = ["amount > 500", "amount <= -1.5", "country == 'DE'", "device_is_new", "!is_foreign", "amount > limit_a"]
    parts += ["merchant_id in list('watch')", "is_night == true", "merchant_category != 'a && b'"]
    for _ in range(60):
        chosen = draw.sample(parts, draw.randint(1, 4))
        when = draw.choice([" && ", " || "]).join(chosen)
        read = page.evaluate(
            "([book, when]) => import(book).then((m) => m.written(m.parsed(when), () => false))", [BOOK, when]
        )
        assert read == when
    for when in (
        "a > 1 && b > 1 || c > 1",
        "(a > 1)",
        "count(account, '1h') > 3",
        "a + 1 > 2",
        "a > 1 &&",
        "a ? b : c",
    ):
        assert call(page, "parsed", when) is None, when


def test_a_change_leaves_the_rest_of_the_text(page: Page) -> None:
    """One line changes, or one block comes or goes; comments and order stay, and the result is a valid program."""
    codes = [rule["code"] for rule in call(page, "rulesOf", PROGRAM)]
    assert codes == ["FIRST", "SECOND"]
    text = call(page, "changed", PROGRAM, 1, "when", "amount > 7")
    assert text == PROGRAM.replace("amount > 5 || twice > 20", "amount > 7")
    text = call(page, "changed", text, 1, "effect", "decline")
    assert text.endswith('code = "SECOND"\neffect = "decline"\n')
    text = call(page, "withRule", text)
    assert [rule.code for rule in loading.check(text.encode()).program.rules] == ["FIRST", "SECOND", "RULE_1"]
    assert call(page, "withoutRule", text, 0).count("[[rules]]") == 2
    assert text.startswith("# kept\n") and "# also kept" in text


@pytest.mark.parametrize("width", [1366, 390])
def test_builder_and_text_follow_each_other(page: Page, width: int) -> None:
    """A rule is added and changed by rows; the text has it, is checked and tried; what is typed shows in the rows."""
    page.set_viewport_size({"width": width, "height": 844})
    settled(page, "/rules?edit=current&beside=builder")
    content = page.locator(".text .cm-content")
    expect(content).to_contain_text("[program]", timeout=WAIT_MS)
    page.get_by_role("button", name="Add a rule").first.click()
    page.get_by_label("Code").fill("BUILT")
    page.get_by_label("Code").press("Enter")
    # a condition takes the names that it knows, and the server tells them: without them, country is none
    expect(page.locator("datalist#names option[value=country]")).to_have_count(1, timeout=WAIT_MS)
    page.get_by_role("button", name="Add a condition").click()
    page.get_by_label("name in condition 2").fill("country")
    page.get_by_label("name in condition 2").press("Tab")
    page.get_by_label("comparison in condition 2").select_option("!=")
    page.get_by_label("value in condition 2").fill("DE")
    page.get_by_label("value in condition 2").press("Tab")
    page.get_by_label("Effect").select_option("decline")
    text = page.evaluate("localStorage.getItem('sentinel.draft')")
    assert 'code = "BUILT"\nwhen = "amount > 500 && country != \'DE\'"\neffect = "decline"' in text
    expect(page.get_by_text("The program is valid.")).to_be_visible(timeout=WAIT_MS)
    content.focus()
    page.keyboard.press("Control+Home")
    page.keyboard.press("Control+End")
    page.keyboard.insert_text('\n[[rules]]\ncode = "TYPED"\nwhen = "amount > 1 || amount + 1 > 9"\n')
    page.get_by_label("rule", exact=True).select_option(label="TYPED")
    expect(page.get_by_text("change it in the text")).to_be_visible()
    page.get_by_role("button", name="Remove this rule").click()
    expect(page.get_by_label("rule", exact=True).locator("option", has_text="TYPED")).to_have_count(0)
    page.get_by_role("button", name="Discard the draft").click()
