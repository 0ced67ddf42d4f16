"""What a commit lacks to be released."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from release.building import git

SIGNERS = Path("release/allowed_signers")


def version_of(root: Path) -> str:
    """The version that pyproject.toml says."""
    return str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def missing(root: Path) -> Iterator[str]:
    """What must be done first, in words."""
    version = version_of(root)
    if changed := git(root, "status", "--porcelain"):
        yield f"files that are not committed: {', '.join(line[3:] for line in changed.splitlines()[:5])}"
    yield from _changelog((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    tag = f"v{version}"
    if git(root, "tag", "--list", tag) and git(root, "rev-parse", f"{tag}^{{commit}}") != git(
        root, "rev-parse", "HEAD"
    ):
        yield f"the tag {tag} is another commit: raise the version in pyproject.toml"
    keys = [line for line in (root / SIGNERS).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    if not keys:
        yield f"{SIGNERS} lists no key that may sign a release"


def _changelog(text: str, version: str) -> Iterator[str]:
    """Its first section is Unreleased, and empty; its second is the version's, with a date."""
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    titles = [section.partition("\n")[0].strip() for section in sections]
    if not titles or titles[0] != "Unreleased":
        yield "CHANGELOG.md does not begin with the section Unreleased"
        return
    if sections[0].partition("\n")[2].strip():
        yield "CHANGELOG.md has changes under Unreleased: give them the version's section"
    if len(titles) < 2 or not re.fullmatch(rf"{re.escape(version)} – \d{{4}}-\d\d-\d\d", titles[1]):
        yield f"CHANGELOG.md's newest section is not '## {version} – YYYY-MM-DD'"
