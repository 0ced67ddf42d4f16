"""The example notebooks, docs/client.ipynb of the API's client and docs/log.ipynb of the package `stream_sentinel`:
their cells are run on a log of the synthetic stream, and stored with what they gave. `python -m
tests.builders.notebook` writes them; tests compare them.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from console.api import users
from console.api.app import build
from console.api.desk import Desk
from console.api.users import UserFile
from core.log.memory import MemoryLog
from core.settings import Settings
from tests.builders import baseline_log

FILE = Path(__file__).resolve().parents[2] / "docs" / "client.ipynb"
Cell = tuple[str, str]
CELLS: list[Cell] = [
    (
        "markdown",
        """# The API from Python

`console/client.py` is a client on httpx alone, and can be copied to where it is needed. Every answer is the API's JSON;
`/schema/openapi.json` describes it. The outputs below are of 2,500 synthetic payments of 40 accounts.
`sentinel user token NAME` makes a token.""",
    ),
    (
        "code",
        """import os
from itertools import islice

from console.client import ProblemError, Sentinel

sentinel = Sentinel(os.environ["SENTINEL_URL"], os.environ["SENTINEL_TOKEN"])
me = sentinel.get("/v1/me")
me["name"], me["roles"]""",
    ),
    ("markdown", "## Decisions\n\nPages are followed as you go, all as of the first one's moment."),
    (
        "code",
        """declined = list(islice(sentinel.decisions(decision="decline"), 5))
for row in declined:
    print(row["transaction_id"], f"{row['amount']:9.2f} {row['currency']}  {row['probability']:.2f}", *row["rules"])""",
    ),
    ("markdown", "Why was the first one declined? And is that what today's release decides, bit for bit?"),
    (
        "code",
        """place = declined[0]["place"]
print(*sentinel.get(f"/v1/decisions/{place}")["reasons"]["words"], sep="\\n")
sentinel.get(f"/v1/decisions/{place}/replay")["outcome"]""",
    ),
    ("markdown", "## Rules\n\nHits, and how many of the judged ones were fraud, with the 95 % interval of that share."),
    (
        "code",
        """for rule in sentinel.get("/v1/rules/hits", start="2026-01-01", end="2026-02-01")["rules"]:
    if rule["judged"]:
        print(f"{rule['code']:20} {rule['hits']:4} hits, {rule['confirmed']:3} of {rule['judged']:3} are fraud"
              f" ({rule['low']:.0%} to {rule['high']:.0%})")""",
    ),
    ("markdown", "## What if\n\nOther thresholds on the same payments: nothing is written."),
    (
        "code",
        """answer = sentinel.post("/v1/whatif", {"review": 0.3, "decline": 0.9, "curve": True})
total = answer["total"]
print(f"{total['changed']} of {total['decisions']} decisions change;"
      f" alerts {total['logged']['alerts']} -> {total['whatif']['alerts']}")
for point in answer["curve"][::6]:
    print(f"review from {point['review']:.2f}: {point['alerts']:4} alerts, {point['recall']:.0%} of frauds")""",
    ),
    ("markdown", "## As of a moment\n\nA time, a position of the log, or an answer's own `as_of`."),
    (
        "code",
        """then = sentinel.at(place)
print(sum(1 for _ in then.decisions()), "decisions had been made then,", sum(1 for _ in sentinel.decisions()), "by now")
try:
    sentinel.at("p00:1-1").get(f"/v1/decisions/{place}")
except ProblemError as problem:
    print(problem)""",
    ),
    (
        "markdown",
        """## Deciding, and listening

With a submitter's token, and a worker at work. Both can be broken off anywhere: a payment is decided once, and a stream
goes on where it ended.

```python
shop = Sentinel("http://127.0.0.1:8700", token)
payment = {"transaction_id": "t1", "account_id": "a1", "amount": 12.5, "currency": "EUR"}
shop.decide({**payment, "occurred_at": 1767600000000})

for event in sentinel.events(kind="alerts"):
    print(event.data["severity"], event.data["account_id"], event.place)
```""",
    ),
]


def written() -> str:
    """The notebook, run now."""
    log = MemoryLog()
    baseline_log.fill(log, transactions=2500, accounts=40)
    with tempfile.TemporaryDirectory() as directory, _served(log, Path(directory)):
        held: dict[str, Any] = {}
        text = executed(CELLS, held)
        held["sentinel"].close()
    return text


def executed(cells: list[Cell], held: dict[str, Any]) -> str:
    """The cells as a notebook, run one after another. held: their variables."""
    notebook = {
        "cells": [
            _markdown(n, text) if kind == "markdown" else _run(n, text, held) for n, (kind, text) in enumerate(cells)
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _markdown(number: int, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}


def _run(number: int, text: str, held: dict[str, Any]) -> dict[str, Any]:
    """The cell with its outputs: what it prints, and its last expression's value."""
    tree = ast.parse(text)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    said = io.StringIO()
    outputs: list[dict[str, Any]] = []
    with contextlib.redirect_stdout(said):
        exec(compile(tree, f"cell {number}", "exec"), held)
        value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), held) if last is not None else None  # type: ignore[attr-defined]
    if said.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": said.getvalue().splitlines(keepends=True)})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        outputs.append({"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"})
    return {
        "cell_type": "code",
        "execution_count": number,
        "id": f"cell-{number}",
        "metadata": {},
        "outputs": outputs,
        "source": text.splitlines(keepends=True),
    }


@contextmanager
def _served(log: MemoryLog, directory: Path) -> Iterator[None]:
    """The API on a port of this machine, whose address and an auditor's token are in the environment meanwhile."""
    file = UserFile(directory / "users.json")
    users.add(file, "ann", ["auditor"], 1)
    app = build(Desk(Settings(), directory / "projections", log), file)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    before = dict(os.environ)
    try:
        while not server.started:
            time.sleep(0.02)
        os.environ["SENTINEL_URL"] = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        os.environ["SENTINEL_TOKEN"] = users.new_token(file, "ann", int(time.time() * 1000), days=1)
        while not app.state.desk.views.is_caught_up:
            time.sleep(0.02)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.should_exit = True
        thread.join(20.0)


if __name__ == "__main__":
    from tests.builders import log_notebook

    FILE.write_text(written(), encoding="utf-8")
    log_notebook.FILE.write_text(log_notebook.written(), encoding="utf-8")
