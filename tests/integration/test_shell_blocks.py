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


def parameters() -> list[object]:
    """The pages. Those that need the console's port run first, in one process, one after the other."""
    names = [(page, shell_pages.name_of(page)) for page in RUN]
    names.sort(key=lambda each: not shell_places.is_on_port_8700(each[1]))
    grouped = ["port" if shell_places.is_on_port_8700(name) else name for _, name in names]
    marks = [[pytest.mark.xdist_group(group)] for group in grouped]
    return [pytest.param(page, id=name, marks=mark) for (page, name), mark in zip(names, marks, strict=True)]


@pytest.mark.parametrize("page", parameters())
def test_a_page_runs_as_printed(page: Path, banks: Callable[[bool], Bank], tmp_path: Path) -> None:
    """Each block ends with 0, says no traceback, and what it leaves running ends in order when it is interrupted."""
    said = shell_places.run(page, tmp_path / "reader", banks)
    assert all(f"== {each.name}\n" in said for each in shell_pages.blocks(page) if not each.not_run)
