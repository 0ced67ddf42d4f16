"""A decided log in its three forms, for the tests of tables."""

from __future__ import annotations

import pytest

from core.log.base import EventLog
from core.log.memory import MemoryLog
from tests.builders import baseline_log
from tests.builders.halves import forms


@pytest.fixture(scope="session")
def log() -> MemoryLog:
    """A month of payments, decided."""
    found = MemoryLog()
    baseline_log.fill(found, transactions=1500, accounts=30)
    return found


@pytest.fixture(scope="session")
def held(log: MemoryLog, tmp_path_factory: pytest.TempPathFactory) -> dict[str, EventLog]:
    """The log in its three forms."""
    return forms(log, tmp_path_factory.mktemp("archives"))
