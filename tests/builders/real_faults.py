"""The table of docs/reliability.md that says which real faults the integration suite makes: the tests' own words."""

from __future__ import annotations

import ast
from pathlib import Path

INTEGRATION = Path(__file__).resolve().parents[1] / "integration"
MODULES = ("test_full_disks", "test_log_server_states", "test_bad_networks", "test_followers")
"""Those modules of tests/integration whose tests each make a fault."""


def markdown() -> str:
    """The table, one row a test."""
    rows = ["| fault, on Apache Kafka and Redis | what the test shows |", "|---|---|"]
    for name in MODULES:
        module = ast.parse((INTEGRATION / f"{name}.py").read_text(encoding="utf-8"))
        for node in module.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                words = " ".join((ast.get_docstring(node) or "").split()).replace("|", "\\|")
                rows.append(f"| {node.name.removeprefix('test_').replace('_', ' ')} | {words} |")
    return "\n".join(rows) + "\n"
