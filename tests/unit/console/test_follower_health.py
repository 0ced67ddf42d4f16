"""Health and metrics of the commands that follow the log."""

from __future__ import annotations

import re
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from console import metrics_page
from console.follower_health import read_models, trouble
from console.service import Service
from console.stack import Valkey, free_port
from core.context import Resolver
from core.log.redis_streams import connect
from core.settings import Settings
from ingest.offline import OfflineIngest
from projections.engine.runner import Condition, Status
from tests.builders.logs import records
from tests.builders.models import deployed, load_tiny
from tests.worker_harness import wait_for


def status(name: str, behind: int = 0, condition: Condition = "following", *, is_current: bool = True) -> Status:
    return Status(name, 1, is_current, 0, "p00@1", condition, behind, behind / 10, 0, "")


def test_a_read_model_is_exported_once_for_all_its_sources() -> None:
    """Entries add up, the longest lag counts, one faulted source is a fault; versions that are not current are left
    out.
    """
    found = [status("cases", 3), status("cases", 5, "faulted"), status("labels"), status("cases", 9, is_current=False)]
    behind, lag, faulted = ({s.labels["projection"]: s.value for s in each.samples} for each in read_models(found))
    assert behind == {"cases": 8, "labels": 0}
    assert lag == {"cases": 0.5, "labels": 0}
    assert faulted == {"cases": 1, "labels": 0}


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ([status("cases", 100)], ""),
        ([status("cases", 60), status("cases", 60)], "cases has 120 entries left to fold, more than 100"),
        ([status("cases", 0, "retrying")], ""),
        ([status("cases", 0, "faulted"), status("labels", 500)], "at a standstill after an error: cases"),
        ([status("cases", 500, "faulted", is_current=False)], ""),
    ],
)
def test_what_is_wrong_with_read_models(found: list[Status], wrong: str) -> None:
    """One that stands still comes first; then the one that is furthest behind."""
    assert trouble(found, 100) == wrong


def test_a_projector_is_ready_and_exports_its_lag(valkey_server: Valkey, tmp_path: Path) -> None:
    """Once it has folded the log, /readyz is 200, and nothing is left to fold of any read model."""
    prefix, port = f"projector-{tmp_path.name}", free_port()
    log = connect(valkey_server.host, valkey_server.port, prefix=prefix)
    offline = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=2, start=[deployed()])
    offline.feed(records(3, 50))
    offline.flush()
    log.close()
    settings = Settings(
        redis_host=valkey_server.host, redis_port=valkey_server.port, log_prefix=prefix, metrics_port=port
    )
    arguments = ["project", "--follow", "--checkpoint-directory", str(tmp_path), "--interval-s", "0.2"]
    with Service("project", arguments, settings, tmp_path) as service:

        def answered(path: str) -> str:
            service.check()
            try:
                with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                    return str(answer.read().decode())
            except OSError:
                time.sleep(0.05)
                return ""

        wait_for(lambda: 'sentinel_projection_lag_entries{projection="cases"} 0' in answered("/metrics"), "cases", 180)
        assert 'sentinel_projection_faulted{projection="labels"} 0' in answered("/metrics")
        assert '"read models":""' in wait_for(lambda: answered("/readyz"), "/readyz", 180)


def test_names_are_as_prometheus_expects_them() -> None:
    """Each metric once and with a meaning; counters end with _total, others don't; times are seconds, sizes bytes."""
    found = list(metrics_page.rows())
    assert len({row.name for row in found}) == len(found) > 60
    for row in found:
        assert re.fullmatch(r"sentinel(_[a-z]+)+", row.name), row.name
        assert row.name.endswith("_total") == (row.kind == "counter"), row.name
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|percent)(_|$)", row.name), row.name
        assert row.meaning and row.by, row.name
