"""Shared by `sentinel whatif` and the API: the changes as asked for, checked, and in words; the range of the log."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Annotated, NamedTuple

import msgspec

from console import wiring
from core import control_stream
from core.errors import BadInput
from core.events import ModelRegistered, Position
from core.log.base import EventLog
from core.policy import check_thresholds
from core.times import parse_iso
from core.validation import AMOUNT_MAX, ID_CHARACTERS_MAX
from projections.audit.whatif import Changes, Scope, programs

Word = Annotated[str, msgspec.Meta(max_length=ID_CHARACTERS_MAX)]


class OtherPayment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Values that the payment has instead; what is not given stays. Texts may be "" for unknown."""

    amount: Annotated[float, msgspec.Meta(ge=0, le=AMOUNT_MAX)] | None = None
    merchant_id: Word | None = None
    merchant_category: Word | None = None
    country: Word | None = None
    channel: Word | None = None
    device_id: Word | None = None
    card_id: Word | None = None
    ip: Word | None = None
    attributes: dict[str, float | str] | None = None


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


def logged_artifact(log: EventLog, text: str) -> tuple[bytes, str] | None:
    """(artifact, label) of a registered model, or of a blob in the log by its SHA-256; None for another name."""
    if re.fullmatch("[0-9a-f]{64}", text):
        return log.get_blob(text), f"model-{text[:8]}"
    known = registered(log)
    return (log.get_blob(known[text]), text) if text in known else None


def registered(log: EventLog) -> dict[str, str]:
    """SHA-256 of the registered models, by `name-version`."""
    events = (event for _, event in control_stream.accepted(log))
    return {f"{e.name}-{e.version}": e.digest for e in events if isinstance(e, ModelRegistered)}


def scope_of(start: str | None, end: str | None, names: tuple[str, str] = ("--from", "--to")) -> Scope:
    """The range between two times or positions. names: what the caller knows them by. Raises BadInput."""
    first = _bound(names[0], start) if start is not None else None
    last = _bound(names[1], end) if end is not None else None
    return Scope(
        start_ms=first if isinstance(first, int) else None,
        end_ms=last if isinstance(last, int) else None,
        first=first if isinstance(first, Position) else None,
        last=last if isinstance(last, Position) else None,
    )


def _bound(name: str, text: str) -> int | Position:
    """Epoch ms, or a position."""
    if re.fullmatch(r"\d{1,10}-\d{1,18}", text) and not re.fullmatch(r"\d{4}-\d{2}", text):
        return Position.parse(text)
    try:
        return parse_iso(text)
    except ValueError:
        raise BadInput(
            f"{name} {text!r} is neither a time such as 2026-01-31T12:00 nor a position such as 1-533"
        ) from None


def words(wanted: Wanted, rules: str = "") -> list[str]:
    """The changes in words. rules: what the rules in force are replaced by, "" if they are not."""
    said = []
    if wanted.model is not None:
        said.append(f"model {wanted.model[1]} ({hashlib.sha256(wanted.model[0]).hexdigest()[:16]})")
    c = wanted.changes
    named = {"review": c.review, "decline": c.decline, "review loss": c.review_loss, "decline loss": c.decline_loss}
    said += [f"{name} {value}" for name, value in named.items() if value is not None]
    if rules:
        said.append(f"rules from {rules}")
    said += [f"{name}={value:g}" for name, value in c.parameters.items()]
    said += [f"without {code}" for code in c.disabled]
    return said
