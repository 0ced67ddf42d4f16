"""Debian's Prometheus as a child process on loopback, and its promtool. Knows nothing of the project but where
processes export their metrics, and which rules to load.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.integration.servers import Server, free_port

INTERVAL = "1s"


def missing_for_prometheus() -> str | None:
    """What must be installed before `Prometheus` can run, or None."""
    is_there = shutil.which("prometheus") and shutil.which("promtool")
    return None if is_there else "prometheus not installed (Debian: prometheus)"


class Prometheus(Server):
    """Scrapes every second."""

    name = "prometheus"

    def __init__(self, folder: Path, targets: Mapping[str, int], rules: Path) -> None:
        """targets: the metrics ports of processes, by job."""
        super().__init__(folder)
        self.port = free_port()
        config = {
            "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL, "scrape_timeout": INTERVAL},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
                for job, port in targets.items()
            ],
        }
        self.config = folder / "prometheus.yml"
        self.config.write_text(json.dumps(config))  # JSON is YAML

    def command(self) -> Sequence[str]:
        return [
            "prometheus",
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]

    def is_ready(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def query(self, expression: str) -> list[Any]:
        """The series that the expression has now."""
        found: list[Any] = self.get("query", query=expression)["result"]
        return found

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the HTTP API."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(parameters)}"
        with urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]


def promtool(*arguments: str | Path) -> str:
    """What promtool prints. Fails if it is not content."""
    ran = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
