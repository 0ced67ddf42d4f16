"""What is said of a child process that does not do what it was started for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from console.service import Service, wait_for_partitions
from core.errors import Unavailable
from core.settings import Settings


def test_a_message_holds_the_last_words_and_names_no_log(tmp_path: Path) -> None:
    """The log may lie in a temporary directory, which is gone when somebody reads the message."""
    with Service("worker", ["--no-such-option"], Settings(), tmp_path) as worker:
        assert worker.wait(60.0) == 2
        with pytest.raises(Unavailable, match=r"(?s)worker exited with 2; it said last:.*no-such-option") as ended:
            worker.check()
    late = Service("worker", [], Settings(), tmp_path / "other")
    (tmp_path / "other").mkdir()
    late.log_path.write_text("compiling\n")
    said = "worker does not own its 4 partitions after 0 s; it said last:\ncompiling"
    with pytest.raises(Unavailable, match=re.escape(said)) as waited:
        wait_for_partitions(late, tmp_path / "stats.json", 4, 0.0)
    assert not any(str(tmp_path) in str(each.value) for each in (ended, waited))
