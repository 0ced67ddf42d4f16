"""A new user's first minutes: clone, install, run, browser, until the first alert is judged and its verdict is logged.

    python -m benchmarks.first_alert                # needs chromium; what pip has in its cache is not fetched again
    python -m benchmarks.first_alert --json

Clones this checkout into a temporary directory and does there what `make run` does, with a cold cache of compiled
kernels and on a free port. Then a headless browser opens the printed address, goes to the queue, opens the first case
and judges it by keyboard, like a person who needs no time to look.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import sync_playwright

from console.stack import free_port

ROOT = Path(__file__).resolve().parent.parent
WAIT_S = 300.0
STEP_MS = 60_000


def run(source: Path) -> dict[str, Any]:
    """Seconds of each step, and of all."""
    seconds: dict[str, Any] = {}
    began = last = time.monotonic()

    def done(step: str) -> None:
        nonlocal last
        now = time.monotonic()
        seconds[step], last = round(now - last, 1), now

    with tempfile.TemporaryDirectory(prefix="sentinel-first-") as temporary:
        clone = Path(temporary) / "stream-sentinel"
        subprocess.run(["git", "clone", "--quiet", str(source), str(clone)], check=True)
        done("clone_s")
        subprocess.run(["make", "--silent", ".venv/.runnable"], cwd=clone, check=True, stdout=subprocess.DEVNULL)
        done("install_s")
        seconds["install_cpu_s"] = installed = _cpu_s()
        process = _start(clone, Path(temporary) / "cache", free_port())
        try:
            address = _address(process, clone / "output")
            done("console_s")
            case = _judge(address)
            seconds["case"] = case
            done("judged_s")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60.0)
        done("stopped_s")
    seconds["run_cpu_s"] = round(_cpu_s() - installed, 1)
    seconds["total_s"] = round(last - began - seconds["stopped_s"], 1)
    seconds["load"] = round(os.getloadavg()[0], 1)
    return seconds


def _cpu_s() -> float:
    """CPU seconds of all children that have ended: what a busy machine's clock does not say."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(used.ru_utime + used.ru_stime, 1)


def _start(clone: Path, cache: Path, port: int) -> subprocess.Popen[bytes]:
    variables = {"XDG_CACHE_HOME": str(cache), "HOME": os.environ.get("HOME", "/"), "PATH": os.environ["PATH"]}
    command = [".venv/bin/sentinel", "run", "--sample", "--port", str(port)]
    with (clone / "output").open("wb") as output:
        return subprocess.Popen(command, cwd=clone, env=variables, stdout=output, stderr=subprocess.STDOUT)


def _address(process: subprocess.Popen[bytes], output: Path) -> str:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"open (http\S+)", output.read_text()):
            return found[1]
        time.sleep(0.1)
    raise SystemExit(f"no address:\n{output.read_text()}")


def _judge(address: str) -> str:
    """Judge the first case of the queue in a browser; returns its ID once the log says that it is closed."""
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.set_default_timeout(STEP_MS)
        page.goto(address)
        page.wait_for_selector("nav.rail")
        page.keyboard.press("g")
        page.keyboard.press("q")
        page.wait_for_selector("td:has-text('left')")
        page.keyboard.press("Enter")
        page.wait_for_url("**/case/**")
        page.wait_for_selector("text=payments shown")  # the evidence is there
        page.keyboard.press("f")
        page.wait_for_selector("text=closed as")
        case = page.url.rpartition("/")[2].partition("?")[0]
        cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
        with httpx.Client(base_url=address.partition("/#")[0], cookies=cookies, timeout=30.0) as client:
            while client.get(f"/v1/cases/{case}").json()["case"]["stage"] != "resolved":
                time.sleep(0.1)
        browser.close()
        return case


def main() -> None:
    """Print the seconds of each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT, help="the repository to clone; by default, this one")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = run(given.source)
    print(json.dumps(found) if given.json else "\n".join(f"{name:<10} {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
