"""The documentation that repeats what the code says: `make docs` writes it, a test compares it.

A whole page, or a table in a page whose other words are written by hand. Such a table is found by its first line.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core import feedback_sources, rules
from core.events import page as events
from core.features import spec
from core.program import page as language
from learners.drift import policy as drift
from models import artifacts
from projections import catalogue

DOCS = Path(__file__).resolve().parents[2] / "docs"
WHOLE: dict[str, Callable[[], str]] = {
    "events.md": events.markdown,
    "features.md": spec.markdown,
    "language.md": language.markdown,
    "rules.md": rules.markdown,
}
TABLES: dict[str, Callable[[], str]] = {
    "drift.md": drift.markdown,
    "feedback.md": feedback_sources.markdown,
    "queries.md": catalogue.markdown,
    "training.md": artifacts.markdown,
}


def wanted(name: str) -> str:
    """What the page must be: its own words, with the code's tables."""
    if name in WHOLE:
        return WHOLE[name]()
    page, table = (DOCS / name).read_text(encoding="utf-8"), TABLES[name]()
    before, head, after = page.partition(table.partition("\n")[0] + "\n")
    if not head:
        raise ValueError(f"docs/{name} has lost the first line of its table: {table.partition(chr(10))[0]}")
    return before + table + after[after.index("\n\n") + 1 :]


if __name__ == "__main__":
    for name in (*WHOLE, *TABLES):
        (DOCS / name).write_text(wanted(name), encoding="utf-8")
