"""What is personal in an answer of the API, and what stands in its place. Pure; see `console.api.masking`."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from core.errors import BadInput
from core.identity import LogIdentity
from core.tokens import is_token

PREFIX = "masked."
TEXT = "masked"
"""What stands for a text that somebody wrote."""
_ABOUT = frozenset(("account", "card", "device", "ip"))
_NAMED = frozenset(f"{kind}{end}" for kind in _ABOUT for end in ("", "_id", "s", "_ids")) | {"blocked_accounts"}
"""Fields that hold, or name by their keys, whom or what a payment is about."""
_HELD = frozenset(("value", "values", "add", "remove", "members", "id", "name"))
"""Fields with such values beside a field `kind` that says so."""
_WRITTEN = frozenset(("note", "notes", "mentions", "error", "blocked_reason"))
_OF_PAYMENTS = frozenset(("account_id", "account", "transaction_id", "case_id"))
"""Beside one of these, a `reason` is about a person; elsewhere it is about a setting."""


class Masks:
    """The masks of one log."""

    def __init__(self, identity: LogIdentity) -> None:
        self._cipher = AESSIV(identity.mac_key("masks, 1") + identity.mac_key("masks, 2"))

    def of(self, value: str) -> str:
        """The value's mask; the value itself if it tells nothing."""
        if not value or value.startswith(PREFIX) or is_token(value):
            return value
        sealed = self._cipher.encrypt(value.encode("utf-8", "surrogatepass"), None)
        return PREFIX + urlsafe_b64encode(sealed).decode().rstrip("=")

    def opened(self, mask: str) -> str:
        """What a mask stands for; a token stands for itself. Raises BadInput for anything else."""
        if is_token(mask):
            return mask
        text = mask.removeprefix(PREFIX)
        try:
            if text == mask:
                raise ValueError
            sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            return self._cipher.decrypt(sealed, None).decode("utf-8", "surrogatepass")
        except (ValueError, InvalidTag):
            raise BadInput("your roles see masked values only: ask by a mask, as answers show it, or unmask") from None


class Classes(msgspec.Struct, frozen=True):
    """What the programs in force say of personal data. shown: attributes that are not personal. fields: own fields that
    are.
    """

    shown: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()


def masked(content: Any, masks: Masks, classes: Classes, about: Any = None, more: Iterable[str] = ()) -> Any:
    """An answer, decoded, without what is personal. about: a payment whose values are masked too; more: others."""
    found = _Personal(classes)
    found.walk(content)
    found.walk(about)
    values = sorted({value for value in (*found.values, *more) if masks.of(value) != value}, key=len, reverse=True)
    within = re.compile("|".join(rf"(?<![\w.@-]){re.escape(value)}(?![\w@-])" for value in values)) if values else None
    return _Replacing(masks, frozenset(values), within, classes).of(content)


class _Personal:
    """Collects personal values of an answer."""

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self.values: set[str] = set()

    def walk(self, content: Any, *, is_personal: bool = False) -> None:
        """is_personal: whether strings in it are, by the name of the field that holds it."""
        match content:
            case str() if is_personal:
                self.values.add(content)
            case int() | float() if is_personal and not isinstance(content, bool):
                texts = repr(content), f"{content:g}", f"{content:.0f}", f"{content:,.0f}"
                self.values.update(text for text in texts if len(text) > 1)  # as texts may tell it
            case list():
                for each in content:
                    self.walk(each, is_personal=is_personal)
            case dict():
                self._fields(content, is_personal=is_personal)
            case _:
                pass

    def _fields(self, content: dict[str, Any], *, is_personal: bool) -> None:
        about = content.get("kind") in _ABOUT or _is_of_list(content)
        for name, value in content.items():
            if name == "attributes" and isinstance(value, dict):
                for attribute, each in value.items():
                    self.walk(each, is_personal=attribute not in self._classes.shown)
                continue
            named = _is_named(name) or name in self._classes.fields
            if named and isinstance(value, dict) and (name.endswith("s") or ":" in name):
                self.values |= value.keys()
            holds = name in _HELD and (about or is_personal)
            self.walk(value, is_personal=named or holds)


def _is_named(name: str) -> bool:
    """Whether a field is about somebody: `account_id`, `devices`, or a list such as `card:block`."""
    return name in _NAMED or name.partition(":")[0] in _ABOUT


def _is_of_list(content: dict[str, Any]) -> bool:
    """Whether an entry is a change of a list of people or things: `"name": "account:blocked"`."""
    name = content.get("name")
    return isinstance(name, str) and ":" in name and _is_named(name)


def alerts_told(content: Any) -> Iterator[str]:
    """The alerts that an answer tells in words, which may name values that stand nowhere else in it."""
    match content:
        case dict():
            for name, value in content.items():
                if name == "reasons" and isinstance(value, dict):
                    yield from (key for key, each in value.items() if isinstance(each, dict) and "words" in each)
                yield from alerts_told(value)
        case list():
            for each in content:
                yield from alerts_told(each)
        case _:
            pass


class _Replacing:
    """Replaces values in an answer."""

    def __init__(self, masks: Masks, values: frozenset[str], within: re.Pattern[str] | None, classes: Classes) -> None:
        self._masks, self._values, self._within, self._classes = masks, values, within, classes

    def of(self, content: Any, *, is_about: bool = False) -> Any:
        """is_about: whether it is about somebody, so that a reason in it is too."""
        match content:
            case str():
                return self._text(content)
            case list():
                return [self.of(each, is_about=is_about) for each in content]
            case dict():
                return dict(self._fields(content, is_about=is_about))
            case _:
                return content

    def _text(self, text: str) -> str:
        if text in self._values:
            return self._masks.of(text)
        return text if self._within is None else self._within.sub(lambda found: self._masks.of(found[0]), text)

    def _fields(self, content: dict[str, Any], *, is_about: bool) -> Iterator[tuple[str, Any]]:
        is_about |= not _OF_PAYMENTS.isdisjoint(content) or content.get("type") == "list_changed.v1"
        is_about |= _is_of_list(content)
        for name, value in content.items():
            is_written = name in _WRITTEN or (name == "reason" and is_about)
            if name == "attributes" and isinstance(value, dict):
                yield name, {key: self._attribute(key, each) for key, each in value.items()}
            elif name in self._classes.fields and isinstance(value, int | float):
                yield name, TEXT
            elif is_written and isinstance(value, str):
                yield name, TEXT if value else value
            elif is_written and isinstance(value, list):
                yield name, [TEXT if isinstance(each, str) else self.of(each) for each in value]
            else:
                yield self._text(name), self.of(value, is_about=is_about or _is_named(name))

    def _attribute(self, name: str, value: Any) -> Any:
        if name in self._classes.shown:
            return self.of(value)
        return self._text(value) if isinstance(value, str) else TEXT


def personal_fields(payment: Mapping[str, Any], classes: Classes) -> list[str]:
    """The fields of a payment that are masked, those of its attributes as `attributes.X`; in order."""
    found = [name for name, value in payment.items() if name in _NAMED and value]
    found += [f"attributes.{name}" for name in payment.get("attributes", {}) if name not in classes.shown]
    return sorted(found)
