"""Every shell block of the README and of docs/, run in order as printed, each page in a clean folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from console.stack import Broker
from tests.builders import shell_pages, shell_places
from tests.builders.shell_places import Bank

RUN = [page for page in shell_pages.PAGES if any(not each.not_run for each in shell_pages.blocks(page))]
"""The pages that have something to run."""


@pytest.fixture(scope="session")
def banks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bool], Bank]]:
    """The bank of a kind, made when the first page asks for it."""
    directory = tmp_path_factory.mktemp("banks")
    held: dict[bool, Bank] = {}
    with ExitStack() as running:
        broker = running.enter_context(Broker(directory=directory / "broker"))

        def made(tokens: bool) -> Bank:
            if tokens not in held:
                place = directory / ("tokens" if tokens else "plain")
                held[tokens] = running.enter_context(shell_places.bank(place, broker, tokens=tokens))
            return held[tokens]

        yield made


@pytest.mark.parametrize("page", RUN, ids=shell_pages.name_of)
def test_a_page_runs_as_printed(page: Path, banks: Callable[[bool], Bank], tmp_path: Path) -> None:
    """Each block ends with 0, says no traceback, and what it leaves running ends in order when it is interrupted."""
    said = shell_places.run(page, tmp_path / "reader", banks)
    assert all(f"== {each.name}\n" in said for each in shell_pages.blocks(page) if not each.not_run)
