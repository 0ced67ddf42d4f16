"""TOML → Program: the form of every table and key. All problems are collected, each with its place. Pure.

This module knows the document, not the language: what an expression means is checked by `core.program.resolving`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar, cast, get_args

from core import policy
from core.errors import BadInput
from core.program import document
from core.program.document import (
    Decision,
    Effect,
    Example,
    Feature,
    Field,
    FieldType,
    Mode,
    Payment,
    Personal,
    Program,
    Rule,
    Scalar,
)
from core.program.document_values import PLACEHOLDER, TooMany, Values
from core.program.errors import meant
from core.program.fields import STANDARD
from core.program.names import LABEL, LIBRARY, VERSION, code_fault
from core.program.places import Places, places_of
from core.program.problems import DocumentError, Path, Problem, shown

TABLES = (
    "program", "fields", "parameters", "entities", "features", "rules", "decision", "limits", "examples",
)  # fmt: skip
LIMITS = ("alerts_per_day", "account_bytes", "review_cost", "review_minutes", "chargeback_fee")
ACTIONS = (
    "queue_for_review", "request_step_up_authentication", "decline_transaction", "notify_customer", "block_account",
    "notify_fraud_team",
)  # fmt: skip
"""What `[decision.actions]` can recommend."""
USES_MAX = 8
ENTITY_FIELDS_MAX = 4
PAYMENTS_MAX = 200
ATTRIBUTE = "attributes."
GIVEN = tuple(
    name for name in STANDARD if name not in ("currency_known", "hour", "weekday", "received_at", "id_conflict")
)
"""The standard fields that a payment of an example may give."""

_AFTER = re.compile(r"[1-9][0-9]{0,5}[smhd]")
_T = TypeVar("_T")

LibraryDigest = Callable[[str], str]
"""`name@version` of a library → its SHA-256. Raises BadInput for an unknown one."""


def read(content: bytes, library_digest: LibraryDigest) -> tuple[Program, Places]:
    """The program of a TOML document, as its author wrote its expressions; and where its parts stand.

    Raises DocumentError with every problem found.
    """
    reader = _Reader(*parsed(content))
    try:
        program = reader.program(library_digest)
    except TooMany:
        program = None
    if reader.problems or program is None:
        raise DocumentError(sorted(reader.problems, key=lambda each: each.line))  # stable
    return program, reader.places


def checked_again(program: Program, given: dict[str, Any]) -> list[Problem]:
    """What is wrong with the form of a decoded program. given: its tables (`core.program.document_writing.tables`)."""
    reader = _Reader(given, Places(""))
    try:
        found = reader.program(lambda label: program.uses[label])
    except TooMany:
        return reader.problems
    if not reader.problems and found != program:
        return [Problem("a name, number or text is not in canonical form")]
    return reader.problems


def parsed(content: bytes) -> tuple[dict[str, Any], Places]:
    """A document as `tomllib` reads it, and where its parts stand. Raises DocumentError."""
    if len(content) > document.BYTES_MAX:
        _refuse(f"the document has {len(content):,} bytes, more than {document.BYTES_MAX:,}")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        _refuse("the document is not UTF-8; save it as UTF-8", content.count(b"\n", 0, error.start) + 1)
    try:
        places = places_of(text)
    except BadInput as error:
        _refuse(str(error))
    try:
        return tomllib.loads(text), places
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+), column \d+", str(error))
        _refuse(f"not valid TOML: {error}", int(found[1]) if found else text.count("\n") + 1)
    except (RecursionError, ValueError) as error:  # an integer of thousands of digits, a date that does not exist
        _refuse(f"not valid TOML: {error}")


def _refuse(message: str, line: int = 0) -> NoReturn:
    raise DocumentError([Problem(message, (), line)])


class _Reader(Values):
    """The program that the tables mean."""

    def program(self, library_digest: LibraryDigest) -> Program:
        self.table((), self.top, TABLES)
        head = self.table(("program",), self.top.get("program", {}), ("name", "version", "uses"))
        for key in ("name", "version"):
            if key not in head:
                self.add(("program",), f'{key} is missing; write [program] name = "cards", version = "1.0.0"')
        name, version = (self.text(("program", key), head.get(key, "x"), 64) for key in ("name", "version"))
        if not LABEL.fullmatch(name):
            self.add(("program", "name"), "a program's name has a–z, 0–9, - and _ and begins with a letter")
        if "version" in head and not VERSION.fullmatch(version):
            self.add(("program", "version"), f"must be a semantic version such as 1.0.0, not {shown(version)}")
        found = Program(
            name=name,
            version=version,
            uses=self.uses(head.get("uses", []), library_digest),
            fields={k: self.field(("fields", k), v) for k, v in self.named("fields", document.FIELDS_MAX).items()},
            parameters={
                k: self.number(("parameters", k), v, -1e300, 1e300)
                for k, v in self.named("parameters", document.PARAMETERS_MAX).items()
            },
            entities={
                k: self.entity(("entities", k), v) for k, v in self.named("entities", document.ENTITIES_MAX).items()
            },
            features={
                k: self.feature(("features", k), v) for k, v in self.named("features", document.FEATURES_MAX).items()
            },
            rules=tuple(self.rules()),
            decision=self.decision(),
            limits=dict(sorted(self.limits().items())),
            examples=tuple(self.examples()),
        )
        self.unique(found)
        return found

    def uses(self, value: object, library_digest: LibraryDigest) -> dict[str, str]:
        path: Path = ("program", "uses")
        found: dict[str, str] = {}
        for label in self.array(path, value, USES_MAX, "libraries"):
            if not isinstance(label, str) or not LIBRARY.fullmatch(label):
                self.add(path, f'a library is named such as "standard@1", not {shown(str(label))}')
                continue
            if any(label.partition("@")[0] == each.partition("@")[0] for each in found):
                self.add(path, f"{label}: a library can be used once, in one version")
            try:
                found[label] = library_digest(label)
            except BadInput as error:
                self.add(path, str(error))
        return dict(sorted(found.items()))

    def _own_fields(self) -> dict[str, Any]:
        """`[fields]` as it is given; {} if it is no table, which is reported elsewhere."""
        own = self.top.get("fields")
        return own if isinstance(own, dict) else {}

    def field(self, path: Path, value: object) -> Field:
        given = self.table(path, value, ("from", "type", "unit", "personal", "default", "required"))
        source = self.text((*path, "from"), given["from"]) if "from" in given else ""
        if "from" not in given:
            self.add(path, f'from is missing, such as from = "attributes.{shown(str(path[-1]))}"')
        elif source not in STANDARD and not (source.startswith(ATTRIBUTE) and len(source) > len(ATTRIBUTE)):
            near = meant(source, STANDARD)
            self.add((*path, "from"), f"must be attributes.X or a standard field, not {shown(source)!r}{near}")
        if source == "currency_known":
            self.add((*path, "from"), "currency_known can't have another name: aggregates must not read it")
        standard = STANDARD[source].type if source in STANDARD else ""
        if "type" not in given and not standard:
            self.add(path, "type is missing: number, string, bool or time")
        kind = self.choice((*path, "type"), given.get("type", standard or "number"), get_args(FieldType))
        if standard and kind != standard:
            self.add((*path, "type"), f"{source} is a {standard}, not a {kind}")
        default = self.default((*path, "default"), given["default"], kind) if "default" in given else None
        required = self.flag((*path, "required"), given.get("required", False))
        if required and default is not None:
            self.add((*path, "default"), "a required field is always there, so it has no default")
        for key in ("default", "required"):
            if source in STANDARD and key in given:
                self.add(
                    (*path, key),
                    f"only a field from attributes.X has this; for {source} write default({source}, …) or"
                    f" has({source}) where it is read",
                )
        return Field(
            source=source,
            type=cast(FieldType, kind),
            unit=self.text((*path, "unit"), given["unit"], 32) if "unit" in given else "",
            personal=cast(
                Personal, self.choice((*path, "personal"), given.get("personal", "none"), get_args(Personal))
            ),
            default=default,
            required=required,
        )

    def default(self, path: Path, value: object, kind: str) -> Scalar:
        found = self.scalar(path, value)
        wanted: dict[str, type] = {"number": float, "string": str, "bool": bool, "time": str}
        if not isinstance(found, wanted[kind]):
            self.add(path, f"must be a {kind}, as the field is")
        if kind == "time" and isinstance(found, str):
            found = self.time(path, found)
        return found

    def entity(self, path: Path, value: object) -> tuple[str, ...]:
        given = [value] if isinstance(value, str) else self.array(path, value, ENTITY_FIELDS_MAX, "fields")
        own = self._own_fields()
        found: list[str] = []
        for name in given:
            if not isinstance(name, str) or (name not in STANDARD and name not in own):
                near = meant(name, [*STANDARD, *own]) if isinstance(name, str) else ""
                self.add(path, f"must name fields; {shown(str(name))!r} is not one{near}")
            elif name == "currency_known":
                self.add(path, "currency_known follows the rates in force, so no entity can name it; name currency")
            elif name in found:
                self.add(path, f"{name} is named twice")
            else:
                found.append(name)
        if not given:
            self.add(path, "must name at least one field")
        return tuple(found)

    def feature(self, path: Path, value: object) -> Feature:
        if not isinstance(value, dict):
            return Feature(value=self.expression(path, value))
        given = self.table(path, value, ("value", "log", "phrase", "unit"))
        if "value" not in given:
            self.add(path, "value is missing: the feature's expression")
        phrase = self.words((*path, "phrase"), given["phrase"]) if "phrase" in given else ""
        if any(name != "value" for name, _ in PLACEHOLDER.findall(phrase)):
            self.add((*path, "phrase"), "a phrase holds the feature's value as {value} and nothing else in braces")
        return Feature(
            value=self.expression((*path, "value"), given["value"]) if "value" in given else "",
            log=self.flag((*path, "log"), given.get("log", True)),
            phrase=phrase,
            unit=self.text((*path, "unit"), given["unit"], 32) if "unit" in given else "",
        )

    def rules(self) -> Iterable[Rule]:
        codes: dict[str, int] = {}
        for i, value in enumerate(self.array(("rules",), self.top.get("rules", []), document.RULES_MAX, "rules")):
            rule = self.rule(("rules", i), value)
            if rule.code in codes:
                self.add(("rules", i, "code"), f"{rule.code} is the code of rule {codes[rule.code] + 1} too")
            codes.setdefault(rule.code, i)
            yield rule

    def rule(self, path: Path, value: object) -> Rule:
        keys = ("code", "when", "effect", "mode", "rollout", "words", "owner", "expires")
        given = self.table(path, value, keys)
        code = self.text((*path, "code"), given["code"]) if "code" in given else ""
        if fault := code_fault(code):
            self.add((*path, "code") if "code" in given else path, fault if "code" in given else "code is missing")

        def optional(key: str, read: Callable[[Path, object], _T]) -> _T | None:
            return read((*path, key), given[key]) if key in given else None

        effect = optional("effect", lambda at, each: self.choice(at, each, get_args(Effect)))
        mode = optional("mode", lambda at, each: self.choice(at, each, get_args(Mode)))
        rollout = optional("rollout", lambda at, each: self.number(at, each, 1.0, 100.0, "percent of accounts"))
        own = "when" in given  # what a rule of its own leaves out has a default; a library's keeps what it has
        return Rule(
            code=code,
            when=optional("when", self.expression) or "",
            effect=None if own and effect == "flag" else cast(Effect | None, effect),
            mode=None if own and mode == "live" else cast(Mode | None, mode),
            rollout=None if own and rollout == 100.0 else rollout,
            words=optional("words", self.words),
            owner=optional("owner", lambda at, each: self.text(at, each, 64)) or "",
            expires=optional("expires", self.date) or "",
        )

    def decision(self) -> Decision:
        path: Path = ("decision",)
        given = self.table(path, self.top.get("decision", {}), ("decline", "review", "severity", "actions"))
        grades = policy.SEVERITIES
        severity = self.table((*path, "severity"), given.get("severity", {}), grades)
        actions = self.table((*path, "actions"), given.get("actions", {}), grades)
        found = Decision(
            decline=self.expression((*path, "decline"), given["decline"]) if "decline" in given else "",
            review=self.expression((*path, "review"), given["review"]) if "review" in given else "",
            severity={g: self.expression((*path, "severity", g), severity[g]) for g in sorted(grades) if g in severity},
            actions={g: self.actions((*path, "actions", g), actions[g]) for g in sorted(grades) if g in actions},
        )
        return document.NO_DECISION if found == document.NO_DECISION else found

    def actions(self, path: Path, value: object) -> tuple[str, ...]:
        given = self.array(path, value, len(ACTIONS), "actions")
        return tuple(dict.fromkeys(self.choice(path, each, ACTIONS) for each in given))

    def limits(self) -> dict[str, float]:
        given = self.table(("limits",), self.top.get("limits", {}), LIMITS)
        return {key: self.number(("limits", key), value, 0.0, 1e15) for key, value in given.items()}

    def examples(self) -> Iterable[Example]:
        keys = ("name", "payments", "hits", "misses", "decision", "severity", "probability")
        given = self.array(("examples",), self.top.get("examples", []), document.EXAMPLES_MAX, "examples")
        for i, value in enumerate(given):
            path: Path = ("examples", i)
            one = self.table(path, value, keys)
            for key in ("name", "payments"):
                if key not in one:
                    self.add(path, f"{key} is missing")
            payments = self.array((*path, "payments"), one.get("payments", []), PAYMENTS_MAX, "payments")
            if not payments and "payments" in one:
                self.add((*path, "payments"), "an example has at least one payment")
            if not {"hits", "misses", "decision", "severity"} & one.keys():
                self.add(path, "an example says what must hold: hits, misses, decision or severity")
            yield Example(
                name=self.text((*path, "name"), one.get("name", "x"), 128),
                payments=tuple(self.payment((*path, "payments", k), each) for k, each in enumerate(payments)),
                hits=self.codes((*path, "hits"), one.get("hits", [])),
                misses=self.codes((*path, "misses"), one.get("misses", [])),
                decision=self.choice((*path, "decision"), one["decision"], policy.DECISIONS)
                if "decision" in one
                else "",
                severity=self.choice((*path, "severity"), one["severity"], policy.SEVERITIES)
                if "severity" in one
                else "",
                probability=self.number((*path, "probability"), one.get("probability", 0.0), 0.0, 1.0) or None,
            )

    def payment(self, path: Path, value: object) -> Payment:
        names = (*GIVEN, *self._own_fields())
        given = self.table(path, value, ("at", "after", "repeat", *names))
        if "at" in given and "after" in given:
            self.add(path, "a payment has at or after, not both")
        after = given.get("after", "")
        if not isinstance(after, str) or (after and not _AFTER.fullmatch(after)):
            self.add((*path, "after"), f"must be a duration such as '30s', '10m' or '2h', not {shown(str(after))}")
            after = ""
        repeat = self.number((*path, "repeat"), given.get("repeat", 1), 1, 1_000, "a count")
        values = {name: self.scalar((*path, name), given[name]) for name in sorted(names) if name in given}
        return Payment(
            values=values,
            at=self.time((*path, "at"), given["at"]) if "at" in given else "",
            after=after,
            repeat=int(repeat),
        )

    def codes(self, path: Path, value: object) -> tuple[str, ...]:
        found = self.array(path, value, document.RULES_MAX, "codes")
        for code in found:
            if not isinstance(code, str) or code_fault(code):
                self.add(path, f"{shown(str(code))!r} is not a code")
        return tuple(str(code) for code in found)

    def unique(self, program: Program) -> None:
        """A name stands for one thing."""
        kinds: Mapping[str, Mapping[str, object]] = {
            "field": program.fields,
            "parameter": program.parameters,
            "entity": program.entities,
            "feature": program.features,
        }
        tables = {"field": "fields", "parameter": "parameters", "entity": "entities", "feature": "features"}
        taken: dict[str, str] = {}
        for kind, names in kinds.items():
            for name in names:
                if name in taken:
                    self.add((tables[kind], name), f"{name} is a {taken[name]} already; choose another name")
                taken.setdefault(name, kind)


def placeholders(words: str) -> list[str]:
    """The names in braces."""
    return [name for name, _ in PLACEHOLDER.findall(words)]
