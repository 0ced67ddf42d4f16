"""The web console's files: what is vendored is what was pinned, and what is served loads nothing from elsewhere."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any, get_args

import pytest
from setuptools import build_meta

from console.web import serving
from core.events import Control

ROOT = Path(serving.__file__).parent
REPOSITORY = ROOT.parent.parent
SCRIPT_BYTES_MAX = 250_000


def ask(path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of a request to the console in front of an application that answers 418."""
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": named}
    asyncio.run(serving.with_console(application)(scope, receive, send))
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, sent[1]["body"]


def test_vendored_files_have_the_pinned_hashes() -> None:
    """A vendored file that differs from VENDORED.toml, or that it does not name, is found."""
    pinned = {each["path"]: each for each in tomllib.loads((ROOT / "vendor/VENDORED.toml").read_text())["files"]}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (ROOT / "vendor").iterdir()
        if path.is_file() and path.name != "VENDORED.toml"
    }
    assert found == {name: each["sha256"] for name, each in pinned.items()}
    for name, each in pinned.items():
        if name.endswith(".js"):
            assert all(part["version"] and part["licence"] for part in each["packages"].values())


def test_all_scripts_stay_under_the_budget_when_compressed() -> None:
    """All scripts together stay under 250 kB as they are sent."""
    assert sum(len(f.zipped) for name, f in serving.files().items() if name.endswith(".js")) < SCRIPT_BYTES_MAX


def test_nothing_is_loaded_from_another_host() -> None:
    """No page, script or style of ours names an address outside, or holds a script or style of its own."""
    for path in (ROOT / "static").rglob("*.*"):
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn", text), path
        if path.suffix == ".html":
            assert not re.search(r"<script(?![^>]* src=)|<style|\son[a-z]+=|\sstyle=", text), path


def test_every_import_of_a_script_is_served() -> None:
    """A module that is imported under a name that is not served is found before a browser does."""
    names = set(serving.files())
    for path in (ROOT / "static").rglob("*.js"):
        for target in re.findall(r'(?:from |import\()"([^"]+)"', path.read_text()):
            if target.startswith("/"):
                assert target in names, (path, target)
            else:
                assert (path.parent / target).resolve().is_file(), (path, target)
    pages = {path.stem for path in (ROOT / "static/pages").glob("*.js")} - {"login"}
    assert pages == set(serving.PAGES) - {""}


def test_pages_and_files_are_answered_and_the_rest_goes_to_the_application() -> None:
    """Deep links answer the page, files their content, and every other path or method reaches the API."""
    for path in ("/", "/queue", "/case/07:1-533"):
        status, headers, body = ask(path)
        assert status == 200 and body == (ROOT / "static/index.html").read_bytes()
        assert "script-src 'self'" in headers["content-security-policy"] and "unsafe" not in str(headers)
    assert ask("/static/app.js")[1]["content-type"].startswith("text/javascript")
    assert ask("/vendor/LICENCES.txt")[0] == 200
    for path in (
        "/v1/cases",
        "/static/nothing.js",
        "/static/../serving.py",
        "/vendor/bundling/package.json",
        "/schema",
    ):
        assert ask(path)[0] == 418
    assert ask("/queue", "POST")[0] == 418


def test_a_file_is_compressed_and_not_sent_twice() -> None:
    """With gzip the same content comes compressed; with the file's tag nothing comes."""
    status, headers, body = ask("/static/app.js", accept_encoding="gzip, br")
    assert status == 200 and headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == (ROOT / "static/app.js").read_bytes()
    assert ask("/static/app.js", if_none_match=headers["etag"])[::2] == (304, b"")
    status, headers, body = ask("/static/app.js", "HEAD")
    assert status == 200 and body == b"" and int(headers["content-length"]) > 0


def test_the_wheel_holds_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed console is complete: the wheel has each file that is served."""
    for name in ("pyproject.toml", "README.md"):
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    (tmp_path / "console").mkdir()
    (tmp_path / "console/__init__.py").touch()
    (tmp_path / "console/web").symlink_to(ROOT)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    wheel = build_meta.build_wheel(str(tmp_path / "out"))
    held = set(zipfile.ZipFile(tmp_path / "out" / wheel).namelist())
    missing = {f"console/web{name}" for name in serving.files()} - held
    assert not missing


def test_every_control_event_is_told_in_words() -> None:
    """The audit trail has a sentence for each kind of control event, and none for a kind that does not exist."""
    script = (ROOT / "static" / "lib" / "acting.js").read_text(encoding="utf-8")
    texts = script.partition("const TEXTS = {")[2].partition("\n};")[0]
    tags = {str(event.__struct_config__.tag).partition(".")[0] for event in get_args(Control)}
    assert set(re.findall(r"^  (\w+):", texts, re.M)) == tags
