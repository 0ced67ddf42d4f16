"""The documentation that repeats what the code says: `make docs` writes it, a test compares it.

A whole page, or a table in a page whose other words are written by hand. Such a table is found by its first line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import msgspec
import typer

from console import command_page, completing, edge_schemas, least_rights, metrics_page
from console.api import access
from console.cli import SECTIONS, application
from core import authority, feedback_sources
from core.events import page as events
from core.features import spec
from core.program import page as language
from core.program.language import names_read
from core.program.library import library
from core.program.resolving import Library
from core.program.shipped import LIBRARIES
from learners.drift import policy as drift
from models import artifacts
from projections import catalogue
from projections.tables import catalogue as tables
from tests.builders import broken_setups, dashboards, panels, real_faults
from tests.simulation import report

DOCS = Path(__file__).resolve().parents[2] / "docs"
_RULES_HEAD = """# Rules

The rules of `standard@1`, the library that every log decides by until a program of its own is deployed, in the order in
which alerts name them. `core/program/standard.toml` is their definition: the engine evaluates it, alerts and audits
speak in its words, and this page is generated from it. `sentinel program show standard@1` prints it.

Effects: `flag` only explains, `review` and `decline` set the mildest decision possible, `allow` overrides everything
except blocks and conflicting IDs. A program that uses the library can change a rule's effect, mode, roll-out and words,
or add rules of its own ([programs](programs.md)); the conditions are in [the language of programs](language.md).
Features are explained in [features](features.md). Names in braces are replaced by their values when somebody reads an
alert.
"""


def rules_page() -> str:
    """The page docs/rules.md, from the shipped document."""
    found = library(LIBRARIES["standard@1"])
    rows = [_RULES_HEAD, "| code | effect | hits on | in words |", "|---|---|---|---|"]
    for rule, checked in zip(found.program.rules, found.rules, strict=True):
        condition = rule.when.replace("|", "\\|")
        rows.append(f"| `{rule.code}` | {checked.effect} | `{condition}` | {checked.words} |")
    rows += [
        "",
        "Parameters: amounts in the base currency, travel in km and km/h, shares and probabilities from 0 to 1,",
    ]
    rows += ["delays in seconds, counts before the payment. `sentinel rule` and `sentinel threshold` set them."]
    rows += ["", "| parameter | default | read by |", "|---|---|---|"]
    rows += [f"| `{name}` | {value:g} | {_readers(name, found)} |" for name, value in _parameters().items()]
    return "\n".join(rows) + "\n"


def _parameters() -> Mapping[str, float]:
    """Defaults of the shipped library's parameters: the rules' in their order, then those of the decision alone."""
    found = library(LIBRARIES["standard@1"])
    read = [name for rule in found.rules for name in names_read(rule.when).parameters]
    return {name: found.program.parameters[name] for name in dict.fromkeys([*read, *found.program.parameters])}


def _readers(name: str, of: Library) -> str:
    readers = [(f"`{rule.code}`", rule.when) for rule in of.rules]
    readers += [("the decision", each) for each in (of.decline, of.review) if each is not None]
    readers += [("the severity", each) for _, each in of.severity]
    return ", ".join(dict.fromkeys(reader for reader, each in readers if name in names_read(each).parameters))


_DECISIONS_HEAD = """# Decision records

Why the system is as it is: each record says what was the case, what was decided, and what follows. A decision that is
replaced stays, and says by which one.

| no. | decision | status |
|---|---|---|
"""


def decisions_page() -> str:
    """The page docs/decisions/README.md, from the records' titles and status. Raises ValueError if one has none."""
    rows = []
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        text = path.read_text(encoding="utf-8")
        number, title = text.partition("\n")[0].removeprefix("# ").split(". ", 1)
        status = re.search(r"^Status: (.+)$", text, re.M)
        if status is None:
            raise ValueError(f"{path.name} has no line `Status: …`")
        rows.append(f"| {number} | [{title}]({path.name}) | {status[1].rstrip('.')} |")
    return _DECISIONS_HEAD + "\n".join(rows) + "\n"


def completion_words() -> bytes:
    """The file from which shells' completions are answered."""
    return msgspec.json.format(msgspec.json.encode(_words(), order="deterministic"), indent=1) + b"\n"


@cache
def _words() -> dict[str, completing.Words]:
    return completing.words_of(typer.main.get_command(application()))


def commands_page() -> str:
    """The page docs/commands.md."""
    return command_page.markdown(SECTIONS, _words())


WHOLE: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "decisions/README.md": decisions_page,
    "events.md": events.markdown,
    "features.md": spec.markdown,
    "language.md": language.markdown,
    "rules.md": rules_page,
}
WHOLE |= {f"schemas/{name}.json": partial(edge_schemas.text, name) for name in edge_schemas.names("json")}
WHOLE |= {f"schemas/{name}.avsc": partial(edge_schemas.text, name, "avro") for name in edge_schemas.names("avro")}
TABLES: dict[str, Callable[[], str]] = {
    "api.md": access.matrix,
    "doctor.md": broken_setups.markdown,
    "drift.md": drift.markdown,
    "identity.md": authority.matrix,
    "feedback.md": feedback_sources.markdown,
    "metrics.md": metrics_page.markdown,
    "queries.md": catalogue.markdown,
    "reliability.md": report.markdown,
    "security.md": least_rights.markdown,
    "sql.md": tables.markdown,
    "training.md": artifacts.markdown,
}


MORE: dict[str, tuple[Callable[[], str], ...]] = {
    "identity.md": (authority.feedback_matrix,),
    "reliability.md": (report.faults_struck, report.mutations_found, real_faults.markdown),
}
"""Further tables of pages that have several."""


def wanted(name: str) -> str:
    """What the page must be: its own words, with the code's tables."""
    if name in WHOLE:
        return WHOLE[name]()
    page = (DOCS / name).read_text(encoding="utf-8")
    for table in (TABLES[name], *MORE.get(name, ())):
        page = _with_table(name, page, table())
    return page


def _with_table(name: str, page: str, table: str) -> str:
    before, head, after = page.partition(table.partition("\n")[0] + "\n")
    if not head:
        raise ValueError(f"docs/{name} has lost the first line of its table: {table.partition(chr(10))[0]}")
    return before + table + after[after.index("\n\n") + 1 :]


if __name__ == "__main__":
    for name in (*WHOLE, *TABLES):
        (DOCS / name).write_text(wanted(name), encoding="utf-8")
    for dashboard in panels.DASHBOARDS:
        (dashboards.FOLDER / f"{dashboard.name}.json").write_text(dashboards.text(dashboard), encoding="utf-8")
    completing.FILE.write_bytes(completion_words())
