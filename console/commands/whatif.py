"""`sentinel whatif`: decides any range of the log again under another model, thresholds or rules. Never writes."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from console import pool, whatif_report, wiring
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from console.plots.whatif import write_plot
from console.whatif_changes import Wanted, check, logged_artifact, registered, scope_of, words
from core import control_stream
from core.context import Resolver
from core.errors import BadInput, Corrupt
from core.log.base import EventLog, Head
from core.log.readonly import ReadOnlyLog
from core.partitions import partitions_of
from core.replay import Timeline
from core.settings import Settings
from core.toml_text import parse_toml
from projections.audit.whatif import Changes, Outcome, Scope, run
from projections.labelling.consensus import Label
from projections.labelling.reader import LabelReader


class RuleSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of a --rules file."""

    parameters: dict[str, float] = {}
    disabled: tuple[str, ...] = ()


def whatif(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Another model: a registered NAME-VERSION, an artifact file, or the SHA-256 of an artifact in the log."
        ),
    ] = None,
    review: Annotated[float | None, typer.Option(help="Another review threshold.")] = None,
    decline: Annotated[float | None, typer.Option(help="Another decline threshold.")] = None,
    review_loss: Annotated[float | None, typer.Option(help="Review from this expected loss on.")] = None,
    decline_loss: Annotated[float | None, typer.Option(help="Decline from this expected loss on.")] = None,
    rule: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Another rule parameter; may be repeated.")
    ] = None,
    disable: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="Switch this rule off; may be repeated.")
    ] = None,
    rules_file: Annotated[
        Path | None,
        typer.Option("--rules", help="TOML file with [parameters] and disabled = […]; replaces the rules in force."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="First event time (2026-01-31[T12:00], UTC) or position (1-533).")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="End of the range: an event time (exclusive) or the last position.")
    ] = None,
    partition: Annotated[list[int] | None, typer.Option(help="Only this partition; may be repeated.")] = None,
    jobs: Annotated[int, typer.Option(help="Number of processes.", min=1)] = min(2, os.cpu_count() or 1),
    top: Annotated[int, typer.Option(help="Maximum rows in the table of changed decisions.", min=0)] = 20,
    plot: Annotated[Path | None, typer.Option(help="Write a PNG plot to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Show what would have been decided, saved and lost under other settings: by day, with the changed decisions.

    Reads only: never writes a key of the log, whatever the options.
    """
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
    scope = scope_of(start, end)
    if plot is not None and not plot.parent.is_dir():
        raise BadInput(f"--plot {plot}: the directory {plot.parent} does not exist")
    with closing(ReadOnlyLog(wiring.open_log(s))) as log:
        wanted = Wanted(
            artifact_of(log, model) if model is not None else None,
            Changes(
                review=review,
                decline=decline,
                review_loss=review_loss,
                decline_loss=decline_loss,
                rule_set=_rule_set(rules_file) if rules_file is not None else None,
                parameters=_parameters(rule or []),
                disabled=tuple(disable or ()),
            ),
        )
        check(log, wanted)
        heads = {p: log.head(p) for p in partitions_of(log, partition)}
        total = sum(log.length(p, "scores") for p in heads)
        labels = LabelReader(log, partitions_of(log)).view()
    calls = [(s, p, head, wanted, scope, labels.of_partition(p), top) for p, head in heads.items()]
    parts = pool.each(_one, calls, jobs=jobs, title="deciding", total=total, quiet=as_json)
    result = whatif_report.report(
        Outcome.joined(parts, top), words(wanted, rules_file.name if rules_file is not None else "")
    )
    if plot is not None:
        write_plot(result, plot)
    print(msgspec.json.encode(result).decode() if as_json else whatif_report.text(result))


def _one(
    s: Settings,
    partition: int,
    head: Head,
    wanted: Wanted,
    scope: Scope,
    labels: dict[tuple[str, str], Label],
    top: int,
) -> Outcome:
    with closing(ReadOnlyLog(wiring.open_log(s))) as log:
        timeline = Timeline(control_stream.history(log), Resolver(log.get_blob, wiring.load_scorer))
        return run(log, partition, head, timeline, wanted.loaded(), scope, labels, top=top, progress=pool.report)


def artifact_of(log: EventLog, text: str) -> tuple[bytes, str]:
    """(artifact, label) of a registered model, a blob in the log, or a file. Raises BadInput if there is none, or if
    the file is not a model.
    """
    found = None if Path(text).exists() else logged_artifact(log, text)
    if found is not None:
        return found
    try:
        content = Path(text).read_bytes()
    except OSError as error:
        raise BadInput(f"--model {text}: {error.strerror}; registered models: {', '.join(registered(log))}") from error
    try:
        wiring.load_scorer(content, text, hashlib.sha256(content).hexdigest())
    except Corrupt as error:  # a bad file from the user, not corrupt data in the log
        raise BadInput(f"--model {text}: {error}") from None
    return content, Path(text).stem


def _rule_set(path: Path) -> tuple[dict[str, float], tuple[str, ...]]:
    try:
        found = msgspec.convert(parse_toml(path.read_text(encoding="utf-8")), RuleSet)
    except OSError as error:
        raise BadInput(f"--rules {path}: {error.strerror}") from error
    except (BadInput, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise BadInput(f"--rules {path}: {error}") from error
    return found.parameters, found.disabled


def _parameters(given: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise BadInput(f"--rule {text!r} is not valid; write NAME=VALUE with a number") from None
    return found
