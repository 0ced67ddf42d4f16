"""The names that an expression may use at its place, and what each becomes.

Rules and decisions read fields, features and parameters only: what aggregates and the library compute has a name, under
which it is stored with the score, so every rule can be judged again from stored columns (ADR 24).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from core.canonical import Form
from core.features import spec
from core.program.errors import ProgramError, meant, quoted
from core.program.fields import OUTCOMES, STANDARD
from core.program.functions import BY_NAME
from core.program.syntax import Name
from core.program.typed import Column, Type

Place = Literal["feature", "rule", "event", "decision"]
"""event: the condition or value of an aggregate, about an earlier payment or verdict."""

ACCOUNT = "account"
"""The entity that is always there; its field is `account_id`."""

_OUTCOMES: dict[Place, tuple[str, ...]] = {
    "feature": (),
    "rule": (),
    "event": ("decision", "severity", "alerted", "verdict"),
    "decision": ("probability", "decision", "reviews"),
}
_OF_THIS_PAYMENT = ("currency_known",)
"""Fields that depend on the control stream, by which states are not folded: aggregates can't read them."""
_NOTHING = ("none", "nil", "nan", "missing", "undefined")
PLACE_WORDS: dict[Place, str] = {
    "feature": "a feature",
    "rule": "a rule's condition",
    "event": "the condition or value of an aggregate",
    "decision": "[decision]",
}


@dataclass(frozen=True, slots=True)
class Scope:
    """fields: the program's own, beside the standard ones. features: named ones and their types; a bool is stored as
    0 or 1 and read as bool. parameters: numbers. entities: the fields of each declared one. codes: of the rules.
    """

    fields: Mapping[str, tuple[Type, Form]] = field(default_factory=dict)
    features: Mapping[str, Type] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()
    entities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    codes: frozenset[str] = frozenset()
    place: Place = "feature"

    def of_events(self) -> Scope:
        """The scope inside an aggregate."""
        return replace(self, place="event")

    @property
    def has_aggregates(self) -> bool:
        """Whether aggregates and library columns may stand here."""
        return self.place == "feature"

    @property
    def has_hits(self) -> bool:
        """Whether hit(…) may stand here."""
        return self.place in ("event", "decision")

    def is_entity(self, name: str) -> bool:
        """Whether the name may stand first in an aggregate."""
        return name == ACCOUNT or name in self.entities

    def field(self, name: str) -> Column | None:
        """The standard or own field of this name."""
        if (standard := STANDARD.get(name)) is not None:
            return Column(standard.type, "field", name, standard.form)
        if name in self.fields:
            kind, form = self.fields[name]
            return Column(kind, "field", name, form)
        return None

    def column(self, name: str) -> Column | None:
        """What the name means here; None if nothing."""
        if self.place == "event" and name in _OF_THIS_PAYMENT:
            return None
        if (found := self.field(name)) is not None:
            return found
        if name in _OUTCOMES[self.place]:
            return Column(OUTCOMES[name], "outcome", name, "raw" if OUTCOMES[name] == "string" else "")
        if self.place == "event":
            return None
        if name in self.features:
            return Column(self.features[name], "feature", name)
        return Column("number", "parameter", name) if name in self.parameters else None

    def names(self) -> Iterator[str]:
        """Every name that means a value here."""
        yield from (name for name in STANDARD if self.place != "event" or name not in _OF_THIS_PAYMENT)
        yield from self.fields
        yield from _OUTCOMES[self.place]
        if self.place != "event":
            yield from self.features
            yield from sorted(self.parameters)

    def entity_names(self) -> tuple[str, ...]:
        """Every name that may stand first in an aggregate."""
        return (ACCOUNT, *self.entities)

    def is_stranger(self, name: str) -> bool:
        """Whether the name means nothing anywhere and is near no other name."""
        known = self.is_entity(name) or name in OUTCOMES or name in BY_NAME or name in self.features
        known = known or name.lower() in ("true", "false", *_NOTHING)
        return not known and name not in self.parameters and not meant(name, self.names())

    def unknown(self, node: Name) -> ProgramError:
        """Why the name means nothing here, and what to write."""
        return ProgramError(self._reason(node.name), *node.at)

    def _reason(self, name: str) -> str:
        shown = quoted(name)
        if self.is_entity(name):
            return f"{shown} is an entity, not a value; it stands first in an aggregate, as in count({name}, '24h')"
        if self.place == "event" and name in _OF_THIS_PAYMENT:
            return (
                f"{shown} can't be read in {PLACE_WORDS['event']}; it depends on the rates that hold for this payment"
            )
        if self.place == "event" and (name in self.features or name in self.parameters):
            what = "a feature" if name in self.features else "a parameter"
            return (
                f"{shown} is {what}, and {PLACE_WORDS['event']} reads only the earlier payment's fields and outcome, "
                "as in count(account, '24h', amount > 100)"
            )
        if name in OUTCOMES:
            places = [PLACE_WORDS[place] for place, names in _OUTCOMES.items() if name in names]
            return f"{shown} is not known in {PLACE_WORDS[self.place]}; it can be read in {' and '.join(places)}"
        if name.lower() in ("true", "false"):
            return f"{shown} is written {name.lower()}"
        if name.lower() in _NOTHING:
            return f"{shown} is not a value; to test for a missing one, write !has(merchant_id)"
        if name in spec.NAMES:
            if self.has_aggregates:
                return f"{shown} is a column of the library; write {name}()"
            return (
                f"{shown} is not a feature of this program; use the library that defines it, or define it in "
                f"[features]: {name} = '{name}()'"
            )
        if name in BY_NAME:
            return f"{shown} is a function; write it with its arguments, as in {BY_NAME[name][0].example}"
        return f"nothing is called {shown}" + (meant(name, self.names()) or f"; text stands in quotes: '{name[:40]}'")
