"""The documentation site: every page has a place in it, links fit, and it is built without a warning."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.builders import site
from tests.builders.site import BrokenNavigation


def nav() -> list[object]:
    """The navigation as zensical.toml has it."""
    return tomllib.loads((site.ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]


def test_every_page_is_in_the_navigation() -> None:
    """Each page has one place; the four parts are those of Diátaxis."""
    pages = site.sources()
    filled = site.navigation(nav(), pages)
    named = list(site.names(filled))
    assert sorted(named) == sorted(pages) and len(pages) > 80
    assert [next(iter(part)) for part in filled[1:]] == ["Tutorial", "How-to", "Reference", "Explanation"]


def test_a_page_without_a_place_is_an_error(tmp_path: Path) -> None:
    """As is a name that is no page, or that stands twice."""
    pages = {}
    for name in ("a.md", "howto/y.md", "howto/x.md"):
        pages[name] = tmp_path / Path(name).name
        pages[name].write_text(f"# {'Zebra' if 'x' in name else 'Ant'}\n")
    wanted = [{"A": "a.md"}, {"How-to": ["howto/y.md", "howto/x.md"]}]
    assert site.navigation([{"A": "a.md"}, {"How-to": ["howto/*.md"]}, {"Empty": ["no/*.md"]}], pages) == wanted
    for wrong in (["a.md"], ["a.md", "b.md", "howto/*.md"], ["a.md", "a.md", "howto/*.md"]):
        with pytest.raises(BrokenNavigation):
            site.navigation(list(wrong), pages)


def test_links_are_made_to_fit() -> None:
    """To pages of the root, to the README, and to code, which the site doesn't have; code blocks stay as they are."""
    pages = site.sources()
    text = "[a](ARCHITECTURE.md#x) [b](docs/run.md) [c](README.md) [`d`](core/codec.py) [e](https://x.org)\n\n```text\n[b](docs/run.md)\n```\n"
    fitted = site.fitted(text, "CONTRIBUTING.md", pages)
    assert fitted.startswith("[a](ARCHITECTURE.md#x) [b](run.md) [c](index.md) `d` [e](https://x.org)\n")
    assert fitted.endswith("[b](docs/run.md)\n```\n")
    inside = site.fitted("[a](../run.md) ![p](../console-dark.webp) [b](0001-events.md)", "decisions/README.md", pages)
    assert inside == "[a](../run.md) ![p](../console-dark.webp) [b](0001-events.md)"


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Strictly, so every link and anchor leads somewhere; nothing is loaded from another host."""
    said = site.build(tmp_path / "work")
    assert "Warning" not in said and "Error" not in said, said
    built = tmp_path / "work" / "site"
    for name in site.sources():
        made = (built / name).with_suffix(".html")
        made = made.with_name("index.html") if made.name == "README.html" else made
        assert made.exists(), name
    assert (built / "search.json").stat().st_size > 100_000
    foreign = []
    for page in built.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        foreign += re.findall(r"""<(?:script|img|link|iframe)[^>]+(?:src|href)=["']?(https?:[^"' >]+)""", text)
    assert [each for each in foreign if "127.0.0.1" not in each] == []


def test_a_broken_link_stops_the_build(tmp_path: Path) -> None:
    """To a page or an anchor that isn't there: the message says where."""
    for target in ("nowhere.md", "b.md#nowhere"):
        folder = tmp_path / target.partition(".")[0]
        (folder / "docs").mkdir(parents=True)
        (folder / "docs" / "index.md").write_text(f"# A\n\n[b]({target})\n")
        (folder / "docs" / "b.md").write_text("# B\n")
        (folder / "zensical.toml").write_text('[project]\nsite_name = "x"\ndocs_dir = "docs"\n')
        with pytest.raises(subprocess.CalledProcessError) as failed:
            site.made(folder)
        assert "index.md:3" in failed.value.output
