"""What every test of the project keeps to: it says what it shows, and shares builders instead of leaning on others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONTRACT = "tests.contracts.test_event_log"
"""The one module of tests that others import: a contract runs again wherever its fixture is another one."""


def test_every_test_says_what_it_shows() -> None:
    """The docstring of every test, and of every module of tests, begins with a sentence that ends."""
    silent = []
    for path in sorted(ROOT.rglob("test_*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        tests = [
            node for node in ast.walk(module) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        ]
        for node in (module, *tests):
            words = ast.get_docstring(node)
            if not words or not re.search(r"[.?!:]", words):
                silent.append(f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'the module')}")
    assert silent == []


def test_tests_import_builders_and_never_each_other() -> None:
    """What several test modules need lies in tests/builders; no module of tests imports another."""
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if re.search(r"^tests\..*\btest_\w+$", name) and name != CONTRACT:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []
