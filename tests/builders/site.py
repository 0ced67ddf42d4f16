"""The documentation site: `make site` builds it into build/site; nothing in it comes from another host.

    python -m tests.builders.site           # build it; every broken link or anchor is an error
    python -m tests.builders.site --serve   # and serve it at http://127.0.0.1:8000

The pages stay where readers of the repository look for them. They are copied into one folder, with their links to each
other made to fit; a link to code becomes its text. The navigation is that of zensical.toml, whose names with * are
replaced by the pages that match.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import tomli_w

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OUTPUT = ROOT / "build" / "site"
TOP_LEVEL = ("ARCHITECTURE.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")
"""Pages of the repository's root that the site has too. The README is for those who look at the repository: the site's
first page takes its place."""
_FENCE = re.compile(r"(^ *```.*?^ *```[ \t]*$)", re.M | re.S)
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?!https?:|mailto:|#)([^)\s#]*)(#[^)\s]*)?\)")


class BrokenNavigation(Exception):
    """A page that nothing leads to, or a name in `nav` that is no page."""


def sources() -> dict[str, Path]:
    """Every page by its path in the site."""
    pages = {path.relative_to(DOCS).as_posix(): path for path in sorted(DOCS.rglob("*.md"))}
    return pages | {name: ROOT / name for name in TOP_LEVEL}


def title(page: Path) -> str:
    """The text of a page's first heading."""
    found = re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), re.M)
    if found is None:
        raise BrokenNavigation(f"{page} has no heading")
    return found[1].replace("`", "")


def navigation(nav: list[Any], pages: dict[str, Path]) -> list[Any]:
    """`nav` with every name that has a * replaced by the pages that match and are not named elsewhere, in order of
    their paths in decisions/, else of their titles. Sections without a page are left out. Raises BrokenNavigation if a
    name is no page, or a page is not named.
    """
    named = list(names(nav))
    if missing := [name for name in named if "*" not in name and name not in pages]:
        raise BrokenNavigation(f"nav names {', '.join(missing)}, which is no page")
    if twice := {name for name in named if named.count(name) > 1}:
        raise BrokenNavigation(f"nav names {', '.join(sorted(twice))} more than once")
    free = [name for name in pages if name not in named]
    filled = _filled(nav, free, pages)
    if lost := set(pages) - set(names(filled)):
        raise BrokenNavigation(f"nav has no place for {', '.join(sorted(lost))}")
    return filled


def names(nav: list[Any]) -> Iterator[str]:
    """Every name in a navigation, in order."""
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values():
                yield from [value] if isinstance(value, str) else names(value)


def _filled(nav: list[Any], free: list[str], pages: dict[str, Path]) -> list[Any]:
    filled: list[Any] = []
    for entry in nav:
        if isinstance(entry, str):
            if "*" not in entry:
                filled.append(entry)
                continue
            found = [name for name in free if fnmatch(name, entry)]
            if not entry.startswith("decisions/"):
                found.sort(key=lambda name: title(pages[name]))
            filled += found
        else:
            for name, value in entry.items():
                inside = value if isinstance(value, str) else _filled(value, free, pages)
                if inside:
                    filled.append({name: inside})
    return filled


def fitted(text: str, page: str, pages: dict[str, Path]) -> str:
    """A page's text with links that fit the site. page: its path there. A link to a file that the site doesn't have
    becomes its text, one to the README a link to the first page; fenced blocks stay as they are.
    """
    places = {path: name for name, path in pages.items()} | {ROOT / "README.md": "index.md"}
    origin = pages[page].parent

    def link(found: re.Match[str]) -> str:
        picture, words, target, anchor = found[1], found[2], found[3], found[4] or ""
        aim = (origin / target).resolve()
        if aim in places:
            place = places[aim]
        elif aim.is_file() and aim.is_relative_to(DOCS):
            place = aim.relative_to(DOCS).as_posix()
        elif aim.exists():
            return words
        else:
            return found[0]  # the build says what is wrong with it
        return f"{picture}[{words}]({os.path.relpath(place, os.path.dirname(page) or '.')}{anchor})"

    parts = _FENCE.split(text)
    return "".join(part if n % 2 else _LINK.sub(link, part) for n, part in enumerate(parts))


def stage(folder: Path) -> Path:
    """Write what the site is built from into an empty folder, and return its configuration."""
    pages = sources()
    for name, path in pages.items():
        place = folder / "docs" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(fitted(path.read_text(encoding="utf-8"), name, pages), encoding="utf-8")
    for path in DOCS.rglob("*"):
        if path.is_file() and path.suffix != ".md":
            place = folder / "docs" / path.relative_to(DOCS)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    settings = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    settings["project"]["nav"] = navigation(settings["project"]["nav"], pages)
    configuration = folder / "zensical.toml"
    configuration.write_text(tomli_w.dumps(settings), encoding="utf-8")
    return configuration


def build(folder: Path) -> str:
    """Build the site strictly into FOLDER/site, from a copy in FOLDER, and return what was said. Raises
    subprocess.CalledProcessError, with that as its output, if a link, an anchor or the configuration is wrong.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stage(folder)
    return made(folder)


def made(folder: Path) -> str:
    """Build what is staged in FOLDER; what was said. Raises subprocess.CalledProcessError."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    said = _COLOUR.sub("", done.stdout).partition("Traceback ")[0]
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, said)
    return said


def main() -> None:
    """Build, and serve if asked to."""
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--serve", action="store_true", help="serve it at http://127.0.0.1:8000 until Ctrl-C")
    arguments = parser.parse_args()
    work = OUTPUT.parent / "site-source"
    try:
        build(work)
    except subprocess.CalledProcessError as failed:
        sys.exit(f"{failed.output}\nthe site is not built: see above")
    shutil.rmtree(OUTPUT, ignore_errors=True)
    (work / "site").rename(OUTPUT)
    print(f"built {OUTPUT.relative_to(ROOT)}/index.html")
    if arguments.serve:
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(OUTPUT))
        print("http://127.0.0.1:8000", flush=True)
        http.server.ThreadingHTTPServer(("127.0.0.1", 8000), handler).serve_forever()


if __name__ == "__main__":
    main()
