"""A newcomer's path: docs/tutorial.md and nothing else, from a clone to judged payments of one's own, timed by step.

    python -m benchmarks.newcomer            # what pip has in its cache is not fetched again
    python -m benchmarks.newcomer --cold     # everything is fetched
    python -m benchmarks.newcomer --json

Each shell block runs as printed, in one bash with an empty home directory, an almost empty environment and no terminal.
Between them, where the tutorial says so, a headless browser (Debian's chromium) opens the printed address, and later
looks at the case in the queue. The tutorial's own time to read is not in the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, sync_playwright

from console.stack import is_free
from tests.builders import shell_pages

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.md"
PORT = 8700
STEP_S = 900.0
PAGE_MS = 60_000
_SECTION = re.compile(r"^## (\d+\. .+)$", re.M)


def run(source: Path, *, cold: bool = False) -> dict[str, Any]:
    """Seconds of each section, and of all. Raises SystemExit if a block fails."""
    if not is_free(PORT):
        raise SystemExit(f"port {PORT} is in use: stop what listens there")
    with tempfile.TemporaryDirectory(prefix="sentinel-newcomer-") as temporary, sync_playwright() as p:
        folder = Path(temporary)
        (folder / "home").mkdir()
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        reader = Reader(folder, _environment(source, folder, cold=cold))
        try:
            return _followed(reader, browser.new_page(viewport={"width": 1366, "height": 768}))
        except (PlaywrightError, OSError) as error:
            raise SystemExit(f"{error}\n{reader.said()[-4000:]}") from None
        finally:
            reader.close()
            browser.close()


def _environment(source: Path, folder: Path, *, cold: bool) -> dict[str, str]:
    """What a new user has, and how pip reaches its registry here."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_")) or "proxy" in name.lower()
    }
    path = os.pathsep.join(each for each in os.environ["PATH"].split(os.pathsep) if ".venv" not in each)
    if not cold:
        kept["PIP_CACHE_DIR"] = str(Path.home() / ".cache" / "pip")
    return {**kept, "PATH": path, "HOME": str(folder / "home"), "USER": "newcomer", "REPOSITORY": str(source)}


class Reader:
    """A bash that reads one block after the other, and says when each has ended."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.output = folder / "output"
        self._folder = folder
        fifo = folder / "script"
        os.mkfifo(fifo)
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                ["bash", "-e", "-o", "pipefail", str(fifo)],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._script: IO[str] = fifo.open("w", encoding="utf-8")
        self._number = 0

    def run(self, block: str) -> float:
        """Run a block to its end; the seconds that it took. Raises SystemExit if it fails."""
        self._number += 1
        mark = self._folder / f"done-{self._number}"
        began = time.monotonic()
        self._script.write(f"{block}\n: > {mark}\n")
        self._script.flush()
        while not mark.exists():
            if self._process.poll() is not None or time.monotonic() - began > STEP_S:
                raise SystemExit(f"this block failed:\n{block}\n{self.said()[-4000:]}")
            time.sleep(0.02)
        return time.monotonic() - began

    def said(self) -> str:
        """All output so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End the bash, and what `sentinel up` left running if the tutorial did not come to its end."""
        self._script.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()
        clone = self._folder / "stream-sentinel"
        if (clone / ".sentinel" / "local" / "state.json").exists():
            subprocess.run([clone / ".venv" / "bin" / "sentinel", "down"], cwd=clone, check=False)


def _followed(reader: Reader, page: Page) -> dict[str, Any]:
    text = TUTORIAL.read_text(encoding="utf-8")
    sections = [(text[: found.start()].count("\n") + 1, found[1]) for found in _SECTION.finditer(text)]
    seconds: dict[str, float] = {}
    began = time.monotonic()
    for block in shell_pages.blocks(TUTORIAL):
        name = next(title for line, title in reversed(sections) if line < block.line)
        seconds[name] = round(seconds.get(name, 0.0) + reader.run(block.text), 1)
        if "sentinel up" in block.text:
            seconds["the console opens"] = _opened(reader, page)
        elif "sentinel case show" in block.text:
            seconds["the case is in the queue"] = _case_shown(page)
    total = round(time.monotonic() - began, 1)
    return {"seconds": seconds, "total_s": total, "load": round(os.getloadavg()[0], 1)}


def _opened(reader: Reader, page: Page) -> float:
    """Log in by the address that `up` printed."""
    began = time.monotonic()
    page.set_default_timeout(PAGE_MS)
    address = re.search(r"http://127\.0\.0\.1:\d+/\S+", reader.said())
    if address is None:
        raise SystemExit(f"no address:\n{reader.said()}")
    page.goto(address[0])
    page.wait_for_selector("nav.rail")
    return round(time.monotonic() - began, 1)


def _case_shown(page: Page) -> float:
    """Open the first case of the queue by keyboard; it is Anna's."""
    began = time.monotonic()
    page.keyboard.press("g")
    page.keyboard.press("q")
    page.wait_for_url("**/queue**")
    page.wait_for_selector("table[aria-label=cases] td:has-text('anna')")
    page.keyboard.press("Enter")
    page.wait_for_url("**/case/**")
    page.wait_for_selector("text=anna")
    return round(time.monotonic() - began, 1)


def main() -> None:
    """Print the seconds of each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT, help="the repository to clone; by default, this one")
    parser.add_argument("--cold", action="store_true", help="let pip fetch everything")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = run(given.source.resolve(), cold=given.cold)
    if given.json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for name, value in found["seconds"].items():
        print(f"{name:<34} {value:>7.1f} s")
    print(f"{'total':<34} {found['total_s']:>7.1f} s, load {found['load']}")


if __name__ == "__main__":
    main()
