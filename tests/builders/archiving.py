"""The command line on a log in Valkey that holds some hundred decisions, with an archive beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import redis

from console import cli
from console.stack import Valkey
from core.context import Resolver
from core.log.redis_streams import RedisLog, connect
from ingest.offline import OfflineIngest
from tests.builders.logs import records
from tests.builders.models import load_tiny


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out.strip().splitlines()[-1])


class Sentinel:
    """The command line with this log's settings; `log` is another client of it, `server` a plain one, `offline` what
    decides more.
    """

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        log: RedisLog,
        server: redis.Redis,
        path: Path,
        offline: OfflineIngest,
    ) -> None:
        self._patch, self._capsys, self.offline = patch, capsys, offline
        self.prefix = os.environ["SENTINEL_LOG_PREFIX"]
        self.log, self.server, self.directory = log, server, path

    def setenv(self, name: str, value: str) -> None:
        """Set a variable for the commands that follow."""
        self._patch.setenv(name, value)

    def __call__(self, *arguments: str, archive: bool = True) -> Ran:
        self._patch.setenv("SENTINEL_ARCHIVE", str(self.directory) if archive else "")
        self._patch.setattr(sys, "argv", ["sentinel", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self._capsys.readouterr()
        return Ran(int(ended.value.code or 0), out, err)


def begun(server: Valkey, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> Sentinel:
    """A log of its own on this server, with `folder` as the working directory."""
    prefix = f"archive-{folder.name}"
    patch.chdir(folder)
    for name, value in {
        "REDIS_HOST": server.host,
        "REDIS_PORT": str(server.port),
        "SENTINEL_LOG_PREFIX": prefix,
    }.items():
        patch.setenv(name, value)
    log = connect(server.host, server.port, prefix=prefix)
    offline = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=2)
    for at, record in enumerate(records(3, 600)):
        offline.feed([record])
        if at % 40 == 0:
            offline.flush()
    offline.flush()
    client = redis.Redis(server.host, server.port)
    return Sentinel(patch, capsys, log, client, folder / "archive", offline)
