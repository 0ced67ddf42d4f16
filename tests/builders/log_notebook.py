"""The example notebook of the package `stream_sentinel`, docs/log.ipynb; see `tests.builders.notebook`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from console.stack import Valkey
from core.log.redis_streams import connect
from tests.builders import baseline_log
from tests.builders.notebook import Cell, executed

FILE = Path(__file__).resolve().parents[2] / "docs" / "log.ipynb"
PREFIX = "notebook"
CELLS: list[Cell] = [
    (
        "markdown",
        """# A log in a notebook

The package `stream_sentinel` opens a log as every command does (settings file, environment, or keywords), archive and
hot log as one, and reads only. The outputs below are of 2,500 synthetic payments of 40 accounts.""",
    ),
    (
        "code",
        """import polars as pl

from stream_sentinel import BadInput, open_log

log = open_log(log_prefix="notebook")
log.sql("select decision, count(*) as payments, round(avg(probability), 4) as score from decisions group by all"
        " order by payments desc")""",
    ),
    (
        "markdown",
        """## Decisions

The newest that match, as a Polars frame; `.to_pandas()` makes one of pandas. The conditions are those of
`sentinel decisions` and the API.""",
    ),
    (
        "code",
        """found = log.decisions(start="2026-01-12", end="2026-01-20", min_amount=200, alerts=True)
found.select("place", "account_id", "amount", "severity", "rules").head(4)""",
    ),
    ("code", "found.to_pandas().groupby('severity')['amount_base'].agg(['count', 'median']).round(2)"),
    (
        "markdown",
        "## Tables\n\nAll that the log holds, whole or by period: docs/sql.md names tables and columns.",
    ),
    (
        "code",
        """verdicts = log.table("feedback", columns=["transaction_id", "source", "verdict"])
verdicts.group_by("source", "verdict").len().sort("source", "verdict")""",
    ),
    (
        "markdown",
        "## As of a moment\n\nA time, a position, or an answer's `as_of`: what was known then, and nothing later.",
    ),
    (
        "code",
        """place, account = found["place"][0], found["account_id"][0]
then, now = log.at(place).account(account).profile, log.account(account).profile
print("then", then.transactions, "payments,", sum(then.alerts.values()), "alerts, blocked:", then.blocked)
print("now ", now.transactions, "payments,", sum(now.alerts.values()), "alerts, blocked:", now.blocked)""",
    ),
    (
        "markdown",
        """## What if

One decision made again by the live path, from the account's state before it, with other thresholds, rules or values of
the payment. Nothing is written.""",
    ),
    (
        "code",
        """declined = log.decisions(decision="decline", limit=1)["place"][0]
for change in ({}, {"review": 0.9, "decline": 1.0}, {"amount": 1.0, "country": "DE"}):
    answer = log.what_if(declined, **change)
    print(change, answer.logged.decision, "->", answer.changed.decision, f"{answer.changed.probability:.3f}")
answer.reproduced""",
    ),
    ("markdown", "A mistake is one line that says what to do."),
    (
        "code",
        """try:
    log.sql("select * from '/etc/passwd'")
except BadInput as error:
    print(error)
log.close()""",
    ),
]


def written() -> str:
    """The notebook, run now."""
    with tempfile.TemporaryDirectory() as directory, Valkey(Path(directory)) as server:
        log = connect(server.host, server.port, prefix=PREFIX)
        baseline_log.fill(log, transactions=2500, accounts=40)
        log.close()
        before = dict(os.environ)
        os.environ |= {"REDIS_HOST": server.host, "REDIS_PORT": str(server.port)}
        try:
            held: dict[str, Any] = {}
            return executed(CELLS, held)
        finally:
            os.environ.clear()
            os.environ.update(before)
