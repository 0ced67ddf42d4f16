"""A checked program: its expressions typed, its libraries merged. What `core.program.plan` starts from. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from core.canonical import Form
from core.events import Severity
from core.program.typed import Expression, Type

Effect = Literal["flag", "review", "decline", "allow"]
Mode = Literal["live", "shadow", "off"]
Personal = Literal["none", "pseudonym", "personal", "secret"]


class OwnField(NamedTuple):
    """A field of `[fields]`: where it comes from (`attributes.X`), and its type. is_required: a message without it is
    rejected. personal: its class of personal data.
    """

    attribute: str
    type: Type
    form: Form = ""
    is_required: bool = False
    default: float | bool | str | None = None
    personal: Personal = "none"


class Definition(NamedTuple):
    """A named feature: a number or a bool. is_logged: stored with every score."""

    name: str
    expression: Expression
    is_logged: bool = True


class CheckedRule(NamedTuple):
    """A rule. rollout: the share of accounts, in percent, for which it is live; for the others it is a shadow rule."""

    code: str
    when: Expression
    effect: Effect
    mode: Mode = "live"
    rollout: float = 100.0
    words: str = ""


@dataclass(frozen=True, slots=True)
class CheckedProgram:
    """digest: SHA-256 of the canonical form (64 hex digits). label: name and version. features: the program's own, in
    the order of the document; those of `core.features.spec` are the kernel's. rules: those of the libraries first.
    decline, review: what asks for the decision; None: nothing but rules. severity: conditions, the gravest first; where
    none holds, a review is low and a decline is high. actions: what is recommended, by severity.
    """

    digest: str
    label: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    fields: Mapping[str, OwnField] = field(default_factory=dict)
    features: tuple[Definition, ...] = ()
    rules: tuple[CheckedRule, ...] = ()
    decline: Expression | None = None
    review: Expression | None = None
    severity: tuple[tuple[Severity, Expression], ...] = ()
    actions: Mapping[Severity, tuple[str, ...]] = field(default_factory=dict)
