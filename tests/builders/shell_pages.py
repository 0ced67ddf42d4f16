"""The shell blocks of the documents, run as printed.

A block is what a fence of `sh` holds. All blocks of a page run in one bash, in order, in a folder of their own, so that
a later block finds the files and variables of the earlier ones; the first command that fails ends the page. Nothing in
a block is replaced but the addresses of servers in `PLACEHOLDERS`.

A comment on the line before a block, which readers don't see, changes that:

    <!-- not run: WHY -->        it is not run. Only for what a test can't have: Docker, another host, hours
    <!-- goes on -->             what it starts in the background runs until the page ends, not until the block does
    <!-- file: NAME -->          before a block of another language: a file that the reader is told to write
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if path.name != "CHANGELOG.md")
KINDS = {"sh", "bash", "text", "toml", "json", "python", "csv", "sql", "yaml", "html"}
"""The languages of fences. `text` is output, a drawing or a file, `bash` a block that is left to a test of its own."""
NOT_RUN, GOES_ON, FILE = "<!-- not run: ", "<!-- goes on -->", "<!-- file: "
PLACEHOLDERS = re.compile(r"KAFKA_SERVERS=broker:9092 REDIS_HOST=log REDIS_PORT=6379")
TIMEOUT_S = 1200
SENTINEL = (sys.executable, "-m", "console.cli")
_COMMAND = Path(__file__).with_name("page_command.py")
_FENCE = re.compile(
    r"^(?P<before>[^\n]*)\n(?P<indent> *)```(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S
)


class Block(NamedTuple):
    """A fenced block. line: of the fence, from 1. not_run: why it is not run, "" if it is. file: which one it is, ""
    for none.
    """

    page: Path
    line: int
    kind: str
    text: str
    not_run: str
    goes_on: bool
    file: str

    @property
    def name(self) -> str:
        """Where it is, as a reader finds it."""
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    """The path of a page from the repository's root."""
    return page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else str(page)


def summary() -> str:
    """How many blocks of all pages are run, and which are not, and why."""
    found = [each for page in PAGES for each in blocks(page)]
    why = [f"  {each.name}: {each.not_run}" for each in found if each.not_run]
    return "\n".join([f"shell blocks: {len(found) - len(why)} run as printed, {len(why)} not run", *why])


def blocks(page: Path) -> list[Block]:
    """The shell blocks of a page, in order."""
    return [each for each in all_blocks(page) if each.kind == "sh"]


def all_blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, in order."""
    text = "\n" + page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        before = found["before"].strip()
        reason, file = (_said(before, mark) for mark in (NOT_RUN, FILE))
        inside = found["text"]
        if indent := found["indent"]:
            inside = re.sub(f"^{indent}", "", inside, flags=re.M)
        line = text[: found.start("kind")].count("\n")
        yield Block(page, line, found["kind"].strip(), inside, reason, before == GOES_ON, file)


def _said(comment: str, mark: str) -> str:
    return comment.removeprefix(mark).removesuffix("-->").strip() if comment.startswith(mark) else ""


class PageFailed(AssertionError):
    """A block did not run as printed; says which, and what it said."""


def run(page: Path, folder: Path, environment: Mapping[str, str], servers: str = "") -> str:
    """Run the blocks of a page in FOLDER, and return all that they said. environment: beside what every page has.
    servers: what stands for `PLACEHOLDERS`, as `NAME=value …`. Raises PageFailed.
    """
    tools(folder)
    wanted = [each for each in all_blocks(page) if each.file or (each.kind == "sh" and not each.not_run)]
    script = "\n".join(_scripted(each, servers) for each in wanted) + "\npage-end --all\n"
    base = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR", "CI") if name in os.environ}
    tool_path = str(folder / ".tools")
    whole = {
        **base,
        "PATH": f"{tool_path}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(folder / ".home"),
        "USER": "reader",
        "LOGNAME": "reader",
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),  # compiled kernels
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "COLUMNS": "160",
        "SHELL_PAGE_FOLLOWERS": str(folder / ".followers"),
        **environment,
    }
    said = folder / ".said"
    with said.open("wb") as output:
        try:
            code: int | None = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", script],
                cwd=folder,
                env=whole,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _clean(folder, whole)
    text = said.read_text(encoding="utf-8", errors="replace")
    if code != 0:
        how = "took too long" if code is None else f"ended with {code}"
        raise PageFailed(f"{name_of(page)} {how}:\n{text[-6000:]}")
    if "Traceback (most recent call last)" in text:
        raise PageFailed(f"{name_of(page)} printed a traceback:\n{text[-6000:]}")
    return text


def _scripted(block: Block, servers: str) -> str:
    if block.file:
        return f"cat > {shlex.quote(block.file)} <<'END OF FILE'\n{block.text}END OF FILE\n"
    text = PLACEHOLDERS.sub(servers or r"\g<0>", block.text)
    head = f"set +x; echo '== {block.name}'; set -v\n"
    if block.goes_on:
        return f"export SHELL_PAGE_GOES_ON=1; {head}{text}\nset +v; unset SHELL_PAGE_GOES_ON"
    return f"{head}{text}\nset +v; page-end"


def tools(folder: Path) -> None:
    """Make FOLDER look like a clone after `make install`, with `sentinel` and `python` on the PATH: the checkout's own,
    which stays as it is.
    """
    (folder / ".home").mkdir(parents=True, exist_ok=True)
    for place in (folder / ".tools", folder / ".venv" / "bin"):
        place.mkdir(parents=True, exist_ok=True)
        _tool(place / "sentinel", f'exec "{sys.executable}" -I -S "{_COMMAND}" "$@"')
        for name in ("python", "python3"):
            _tool(place / name, f'exec "{sys.executable}" "$@"')
    _tool(folder / ".tools" / "page-end", f'exec "{sys.executable}" -I -S "{_COMMAND}" --end "$@"')
    (folder / ".venv" / "bin" / "activate").write_text("PATH=$PWD/.venv/bin:$PATH\n")
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-run.lock", "verifier", "docker"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    for stamp in (".installed", ".runnable"):  # newer than what they are made of: nothing is installed again
        (folder / ".venv" / stamp).touch()


def _tool(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _clean(folder: Path, environment: Mapping[str, str]) -> None:
    """End what a page that failed has left running: its followers, and what `sentinel up` started in its folder."""
    end = [str(folder / ".tools" / "page-end"), "--all"]
    subprocess.run(end, env=dict(environment), capture_output=True, check=False)
    for state in folder.rglob("state.json"):
        down = [str(folder / ".tools" / "sentinel"), "down", "--data", str(state.parent)]
        subprocess.run(down, cwd=folder, env=dict(environment), capture_output=True, check=False)


def repository(folder: Path) -> Path:
    """A repository in FOLDER to clone, which then looks like a clone after `make install`."""
    folder.mkdir(parents=True)
    tools(folder)
    shutil.rmtree(folder / ".home")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    for words in (["init", "--quiet"], ["add", "--force", "."], ["commit", "--quiet", "--message", "as installed"]):
        subprocess.run([*git, *words], cwd=folder, check=True, capture_output=True)
    return folder
