"""The web console's files, served in front of the API: pages, scripts and styles that are part of the package.

`with_console` wraps an ASGI application: a GET of a page or of one of these files is answered here, and all else goes
to the application. Files need no login, since they hold no data; what a page shows comes from the API under the
reader's session. Every address of a page answers `index.html`, which shows what the address says.

Nothing is loaded from another host, and the headers forbid it: scripts and styles come only from these files, never
from a page's own text. The files are read once, at the start; their names are the only ones that are served.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

ROOT = Path(__file__).resolve().parent
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
PAGES = frozenset(
    ("", "live", "queue", "case", "search", "account", "decision", "rules", "lists", "models", "experiments", "drift")
) | {"audit", "system", "whatif", "rings"}
"""The first parts of the addresses of pages."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
    (b"vary", b"accept-encoding"),
)


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent."""

    content: bytes
    zipped: bytes
    media_type: bytes
    tag: bytes


def files() -> dict[str, File]:
    """What is served, by path: `/static/…` and `/vendor/…`."""
    found = {}
    for folder in ("static", "vendor"):
        for path in sorted((ROOT / folder).rglob("*")):
            is_source = "bundling" in path.relative_to(ROOT).parts
            if path.is_file() and path.suffix in TYPES and not is_source:
                content = path.read_bytes()
                tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'.encode()
                name = f"/{path.relative_to(ROOT).as_posix()}"
                found[name] = File(content, gzip.compress(content, 9, mtime=0), TYPES[path.suffix].encode(), tag)
    return found


def with_console(application: Application) -> Application:
    """The application with the console in front of it."""
    served = files()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        file = _asked(served, scope)
        if file is None:
            await application(scope, receive, send)
            return
        asked = dict(scope["headers"])
        headers = [*HEADERS, (b"etag", file.tag)]
        if file.tag in asked.get(b"if-none-match", b""):
            await _send(send, 304, headers, b"")
            return
        body = file.content
        if b"gzip" in asked.get(b"accept-encoding", b""):
            headers.append((b"content-encoding", b"gzip"))
            body = file.zipped
        headers += [(b"content-type", file.media_type), (b"content-length", str(len(body)).encode())]
        await _send(send, 200, headers, b"" if scope["method"] == "HEAD" else body)

    return answer


def _asked(served: dict[str, File], scope: Scope) -> File | None:
    """The file that a request asks for; None if it is for the application."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return None
    path = scope["path"]
    return served["/static/index.html"] if path.split("/")[1] in PAGES else served.get(path)


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
