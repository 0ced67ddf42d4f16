"""The one way to make a rich console, and what every command's output passes.

rich reads markup (`[red]`) and emoji names in any string, and hands control characters to the terminal. Names come from
outside, so consoles made here read neither, and what is put into a table is `visible` first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from core.files import Visible, beneath


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A rich console on stdout or stderr for text that is already harmless (`core.text.visible`)."""
    return Console(file=beneath(sys.stderr if stderr else sys.stdout), width=width, markup=False, emoji=False)


@contextmanager
def harmless_output() -> Iterator[None]:
    """While it is open, whatever is printed on stdout or stderr passes `core.files.Visible`."""
    before: tuple[Any, Any] = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Visible(before[0]), Visible(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
