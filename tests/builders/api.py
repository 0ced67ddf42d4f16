"""The HTTP API on a log of the synthetic stream, and clients of it in each role."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from litestar import Litestar
from litestar.testing import TestClient

from console.api import users
from console.api.app import build
from console.api.desk import Desk
from console.api.users import ROLES, UserFile
from core.log.base import EventLog
from core.settings import Settings

NOW_MS = 1_767_600_000_000
PASSWORD = "correct horse battery"


class Served(NamedTuple):
    """A running application. tokens: of the user that is named after each role. alice: has a password."""

    client: TestClient[Litestar]
    desk: Desk
    users: UserFile
    tokens: Mapping[str, str]

    def get(self, path: str, role: str = "auditor", headers: Mapping[str, str] | None = None, **query: Any) -> Any:
        return self.client.get(path, params=query or None, headers={**self.bearer(role), **(headers or {})})

    def post(self, path: str, body: Any = None, role: str = "admin", **query: Any) -> Any:
        return self.client.post(path, json=body, params=query or None, headers=self.bearer(role))

    def bearer(self, role: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.tokens[role]}"}


@contextmanager
def served(log: EventLog, directory: Path, settings: Settings | None = None) -> Iterator[Served]:
    """The API on `log`, caught up with it."""
    file = UserFile(directory / "users.json")
    for role in ROLES:
        users.add(file, role, [role], NOW_MS)
    users.add(file, "alice", ["analyst", "viewer"], NOW_MS, PASSWORD)
    tokens = {role: users.new_token(file, role, int(time.time() * 1000), days=1) for role in ROLES}
    desk = Desk(settings or Settings(), directory / "projections", log)
    with TestClient(build(desk, file), raise_server_exceptions=False) as client:
        deadline = time.monotonic() + 60.0
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, client.get("/readyz").text
            time.sleep(0.02)
        yield Served(client, desk, file, tokens)
