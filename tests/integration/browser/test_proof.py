"""The proof of a decision, saved from the console."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from playwright.sync_api import Page
from sentinel_verify import cli

from tests.builders.bank import Bank
from tests.builders.pictures import settled


def test_a_proof_is_saved_byte_for_byte(as_user: Callable[[str], Page], running: Bank) -> None:
    """The file is what the API answers, and the stand-alone verifier accepts it, relative to its seal."""
    page = as_user("ann")
    with closing(running.session("ann")) as client:
        place = client.get("/v1/decisions", params={"decision": "approve", "limit": 1}).json()["decisions"][0]["place"]
        settled(page, f"/decision/{place}")
        with page.expect_download() as saved:
            page.get_by_role("button", name="Proof", exact=True).click()
        content = saved.value.path().read_bytes()
        assert saved.value.suggested_filename == f"{place.replace(':', '-')}.proof"
        assert content == client.get(f"/v1/decisions/{place}/proof").content
        assert cli.verify(content, [], unanchored=True)["verified"]
