"""Explanations, how-tos and the page on capacity, held against the code: what they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
EXPLANATION = sorted((DOCS / "explanation").glob("*.md"))
HOWTO = sorted((DOCS / "howto").glob("*.md"))
PAGES = [*EXPLANATION, *HOWTO, DOCS / "capacity.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMES = [path.relative_to(DOCS).as_posix() for path in PAGES]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.M)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "") for title in titles)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link of the page leads to a file of the repository, and its anchor to a heading there."""
    missing = []
    for link in LINK.findall(prose(page)):
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_exist(page: Path) -> None:
    """Every path of the repository in backticks exists."""
    named = set(re.findall(r"`((?:[a-z_]+/)+[\w.]*)`", prose(page)))
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_explanations_name_code() -> None:
    """The explanations say where things are: an empty list would prove nothing."""
    named = {path for page in EXPLANATION for path in re.findall(r"`((?:[a-z_]+/)+\w+\.py)`", prose(page))}
    assert len(named) > 80


def test_invariants_exist() -> None:
    """Every invariant that a page names stands in ARCHITECTURE.md."""
    known = set(re.findall(r"^\| (I\d+) \|", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.M))
    named = {name for page in PAGES for name in re.findall(r"\bI\d+\b", prose(page))}
    assert named and named <= known


@pytest.mark.parametrize("page", HOWTO, ids=[page.name for page in HOWTO])
def test_a_howto_is_whole(page: Path) -> None:
    """It says its goal, starts and ends its own stack, asks nobody anything, and says what to do when it goes wrong."""
    text = page.read_text(encoding="utf-8")
    assert re.search(r"^Goal: ", text, re.M) and "## When it goes wrong" in text
    blocks = re.findall(r"^```sh\n(.+?)^```", text, re.M | re.S)
    commands = [line for block in blocks for line in block.splitlines()]
    assert "sentinel up" in commands and commands[-1] == "sentinel down"
    assert not re.search(r"--follow|<[a-z]+>|\bread -p\b", "\n".join(commands))
