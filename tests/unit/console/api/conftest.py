"""One application for all tests of the API that only read; its log is in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.log.memory import MemoryLog
from tests.builders import baseline_log
from tests.builders.api import Served, served


@pytest.fixture(scope="session")
def decided() -> MemoryLog:
    """A log of decisions: read it, don't write to it."""
    log = MemoryLog()
    baseline_log.fill(log, transactions=2500, accounts=40)
    return log


@pytest.fixture(scope="session")
def api(decided: MemoryLog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The API on that log."""
    with served(decided, tmp_path_factory.mktemp("api")) as found:
        yield found
