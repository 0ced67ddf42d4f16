"""`sentinel whatif`: decides any range of the log again under another model, thresholds or rules. Never writes."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import typer

from console import pool, whatif_report, wiring
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from console.plots.whatif import write_plot
from core import control_stream
from core.context import Resolver
from core.errors import BadInput, Corrupt
from core.events import ModelRegistered, Position
from core.log.base import EventLog, Head
from core.log.readonly import ReadOnlyLog
from core.partitions import partitions_of
from core.policy import check_thresholds
from core.replay import Timeline
from core.settings import Settings
from core.times import parse_iso
from projections.audit.whatif import Changes, Outcome, Scope, programs, run
from projections.labelling.consensus import Label
from projections.labelling.reader import LabelReader


class RuleSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of a --rules file."""

    parameters: dict[str, float] = {}
    disabled: tuple[str, ...] = ()


class Wanted(NamedTuple):
    """The requested changes, with the model not yet loaded, so that they can be sent to another process."""

    model: tuple[bytes, str] | None
    changes: Changes

    def loaded(self) -> Changes:
        if self.model is None:
            return self.changes
        content, label = self.model
        scorer = wiring.load_scorer(content, label, hashlib.sha256(content).hexdigest())
        c = self.changes
        return replace(c, model=scorer)


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
    result = whatif_report.report(Outcome.joined(parts, top), _words(wanted, rules_file))
    if plot is not None:
        write_plot(result, plot)
    print(msgspec.json.encode(result).decode() if as_json else whatif_report.text(result))


def check(log: EventLog, wanted: Wanted) -> None:
    """Raise BadInput for changes that are invalid in any context, before a partition is read; also if no program that
    ever decided has the parameters and rules that they name.
    """
    changes = wanted.loaded()
    for name, value in (("--review", changes.review), ("--decline", changes.decline)):
        if value is not None and not 0.0 < value <= 1.0:
            raise BadInput(f"{name} must be above 0 and at most 1, not {value}")
    if changes.review is not None and changes.decline is not None:
        check_thresholds(changes.review, changes.decline)
    check_thresholds(0.5, 0.5, changes.review_loss or 0.0, changes.decline_loss or 0.0)
    refused: list[BadInput] = []
    for program in programs(log, control_stream.current(log)):
        try:
            changes.check(program)
        except BadInput as error:
            refused.append(error)
        else:
            return
    if refused:
        raise refused[0]


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
    if re.fullmatch("[0-9a-f]{64}", text) and not Path(text).exists():
        return log.get_blob(text), f"model-{text[:8]}"
    known: dict[str, str] = {}
    for _, event in control_stream.accepted(log):
        if isinstance(event, ModelRegistered):
            known[f"{event.name}-{event.version}"] = event.digest
    if text in known and not Path(text).exists():
        return log.get_blob(known[text]), text
    try:
        content = Path(text).read_bytes()
    except OSError as error:
        raise BadInput(f"--model {text}: {error.strerror}; registered models: {', '.join(known)}") from error
    try:
        wiring.load_scorer(content, text, hashlib.sha256(content).hexdigest())
    except Corrupt as error:  # a bad file from the user, not corrupt data in the log
        raise BadInput(f"--model {text}: {error}") from None
    return content, Path(text).stem


def _rule_set(path: Path) -> tuple[dict[str, float], tuple[str, ...]]:
    try:
        found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), RuleSet)
    except OSError as error:
        raise BadInput(f"--rules {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
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


def scope_of(start: str | None, end: str | None) -> Scope:
    """The range of --from and --to. Raises BadInput."""
    first = _bound("--from", start) if start is not None else None
    last = _bound("--to", end) if end is not None else None
    return Scope(
        start_ms=first if isinstance(first, int) else None,
        end_ms=last if isinstance(last, int) else None,
        first=first if isinstance(first, Position) else None,
        last=last if isinstance(last, Position) else None,
    )


def _bound(name: str, text: str) -> int | Position:
    """Epoch ms, or a position."""
    if re.fullmatch(r"\d+-\d+", text) and not re.fullmatch(r"\d{4}-\d{2}", text):
        return Position.parse(text)
    try:
        return parse_iso(text)
    except ValueError:
        raise BadInput(
            f"{name} {text!r} is neither a time such as 2026-01-31T12:00 nor a position such as 1-533"
        ) from None


def _words(wanted: Wanted, rules_file: Path | None) -> list[str]:
    words = []
    if wanted.model is not None:
        words.append(f"model {wanted.model[1]} ({hashlib.sha256(wanted.model[0]).hexdigest()[:16]})")
    c = wanted.changes
    named = {"review": c.review, "decline": c.decline, "review loss": c.review_loss, "decline loss": c.decline_loss}
    words += [f"{name} {value}" for name, value in named.items() if value is not None]
    if rules_file is not None:
        words.append(f"rules from {rules_file.name}")
    words += [f"{name}={value:g}" for name, value in c.parameters.items()]
    words += [f"without {code}" for code in c.disabled]
    return words
