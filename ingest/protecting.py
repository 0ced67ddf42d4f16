"""Takes out of decoded messages what the log must not hold, before anything of them is decided or stored.

Messages are decoded as they were sent, because an account's partition follows from its raw ID. Then:

    card data     messages that may hold some (a fast search of all values at once says so) are replaced, event and
                  bytes, by what the log may hold (`core.hiding`). With `card_data = "reject"` they become rejects
    identifiers   in a log with tokens (`LogCreated.tokens`), account, card, device and IP address become tokens, and
                  personal attributes sealed values, under keys in the vault (`ingest.vault`). What is rejected is kept
                  sealed as a whole
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec.structs import force_setattr

from core.canonical import listed
from core.card_numbers import is_suspicious
from core.codec import encode
from core.errors import BadInput
from core.events import AccountEvent, ListKind, Transaction
from core.hiding import LIST_FIELDS, Hiding
from core.identity import LogIdentity
from core.program.checked import OwnField
from core.sealing import is_sealed, seal
from core.settings import Settings
from core.tokens import SEEN_MAX, KeyedTokens, Tokens, home, is_token
from core.validation import ID_CHARACTERS_MAX
from ingest.intake import Message
from ingest.vault import AccountKeys, Vault, open_vault, sealed_reject

PERSONAL = frozenset(("account_id", "card_id", "device_id", "ip"))
"""Identifying fields that are about a person; a merchant or a transaction is not."""
NAMES_MAX = 200_000
"""Accounts of one partition whose keys are remembered."""

Keys = dict[str, AccountKeys]
Patience = Callable[[Callable[[], Keys]], Keys]


def _at_once(action: Callable[[], Keys]) -> Keys:
    return action()


@dataclass(frozen=True)
class Protection:
    """refuses: whether messages with card data are rejected. free: identifying fields that are never card numbers.
    vault: of a log with tokens. sealed: attributes with personal data, beside those that the program names. patience:
    how the vault is asked, which may be locked or on a full disk: see `ingest.patience`.
    """

    refuses: bool = False
    free: frozenset[str] = frozenset()
    vault: Vault | None = None
    sealed: frozenset[str] = frozenset()
    patience: Patience = _at_once
    _made: dict[LogIdentity, tuple[Tokens, Hiding]] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, settings: Settings, patience: Patience = _at_once) -> Protection:
        """The settings' protection. Raises as Vault."""
        refuses, free = settings.card_data == "reject", frozenset(settings.card_free_fields)
        return cls(refuses, free, open_vault(settings), frozenset(settings.sealed_attributes), patience)

    def hiding(self, identity: LogIdentity) -> Hiding:
        """What hides in the messages of a log what it must not hold."""
        return self._of(identity)[1]

    def tokens(self, identity: LogIdentity) -> Tokens:
        """The log's tokens. Raises BadInput if it needs another vault."""
        return self._of(identity)[0]

    def _of(self, identity: LogIdentity) -> tuple[Tokens, Hiding]:
        found = self._made.get(identity)
        if found is None:
            tokens, always = self._tokens(identity), PERSONAL if identity.tokens else frozenset[str]()
            found = self._made[identity] = tokens, Hiding(tokens, self.free, always)
        return found

    def _tokens(self, identity: LogIdentity) -> Tokens:
        if not identity.tokens:
            return KeyedTokens.of(identity.key, identity.partitioner, identity.partitions)
        if self.vault is None or self.vault.key_id != identity.tokens:
            raise BadInput("the log holds tokens: set SENTINEL_TOKENISE=true and name its vault (SENTINEL_VAULT)")
        return VaultTokens(self.vault, identity, self.patience)

    def listed(self, identity: LogIdentity, kind: ListKind, values: Iterable[str]) -> list[str]:
        """Values that a person puts on a list, or takes off it, as the log holds them. Raises BadInput for a network,
        which has no token.
        """
        field = LIST_FIELDS.get(kind, "")
        if not identity.tokens or field not in PERSONAL:
            return list(values)
        found = []
        for value in values:
            form = value if is_token(value) or kind == "account" else listed(kind, value)
            if kind == "ip" and "/" in form:
                raise BadInput(f"{form} is a network: in a log with tokens, lists hold single addresses")
            found.append(self.hiding(identity).identifier(field, form))
        return found

    def asked(self, identity: LogIdentity | None, field: str, value: str) -> str:
        """The value of an identifying field as the log holds it, to look it up: by its raw form or its token. Makes no
        keys; without the log's vault, only tokens can be asked for.
        """
        if identity is None or not value or is_token(value):
            return value
        if identity.tokens:
            if self.vault is None or self.vault.key_id != identity.tokens:
                return value
            if field == "account_id":
                keys = self.vault.find(value)
                return value if keys is None else keys.token
        return self.hiding(identity).identifier(field, value)

    def forget(self) -> None:
        """Forget all sealed values, because keys were destroyed."""
        for tokens, _ in self._made.values():
            if isinstance(tokens, VaultTokens):
                tokens.forget()

    def classes(self, fields: Iterable[OwnField] = ()) -> dict[str, str]:
        """How attributes are treated, by name: a program's classes of personal data, and what the settings seal."""
        found: dict[str, str] = {each.attribute: each.personal for each in fields if each.personal != "none"}
        return found | dict.fromkeys(self.sealed, "personal")


PROTECTION = Protection()


class VaultTokens:
    """Tokens under the keys of a vault (`core.tokens.Tokens`); a new account gets keys."""

    def __init__(self, vault: Vault, identity: LogIdentity, patience: Patience = _at_once) -> None:
        self._vault = vault
        self._patience = patience
        self._identity = identity
        self._others = KeyedTokens(vault.token_secret, self.partition)
        self._sealed: dict[tuple[str, str, str], str] = {}

    def partition(self, account: str) -> int:
        """That of an account's ID."""
        return home(account, self._identity.partitioner, self._identity.partitions)

    def token(self, field: str, value: str) -> str:
        """See Tokens."""
        return self.account(value).token if field == "account_id" else self._others.token(field, value)

    def account(self, name: str) -> AccountKeys:
        """An account's keys, by its raw ID or its token."""
        return self.accounts([name])[name]

    def accounts(self, names: Iterable[str]) -> dict[str, AccountKeys]:
        """Accounts' keys, by their raw IDs or tokens."""
        wanted = set(names)
        return self._patience(lambda: self._accounts(wanted))

    def _accounts(self, wanted: set[str]) -> dict[str, AccountKeys]:
        known = {name: keys for name in wanted if name.startswith("acct_") and (keys := self._vault.by_token(name))}
        return known | self._vault.accounts(wanted - known.keys(), self.partition)

    def sealed(self, message: Message) -> Message:
        """A rejected message as it is kept: its key is the account's token, its value sealed."""
        name = (message.key or b"").decode("utf-8", "replace")
        keys = self.account(name) if 0 < len(name) <= ID_CHARACTERS_MAX else None
        value = None if message.value is None else sealed_reject(self._vault, keys, message.value)
        return message._replace(key=message.key and (b"" if keys is None else keys.token.encode()), value=value)

    def hide(self, names: Mapping[str, AccountKeys], events: Iterable[Any], classes: Mapping[str, str]) -> None:
        """Replace, in the events themselves, identifiers by tokens and personal attributes by sealed values. names: the
        keys of their accounts.
        """
        other = self._others.token
        for event in events:
            keys = names[event.account_id]
            force_setattr(event, "account_id", keys.token)
            if isinstance(event, Transaction):
                if event.device_id:
                    force_setattr(event, "device_id", other("device_id", event.device_id))
                if event.card_id:
                    force_setattr(event, "card_id", other("card_id", event.card_id))
                if event.ip:
                    force_setattr(event, "ip", other("ip", event.ip))
                if event.attributes and not classes.keys().isdisjoint(event.attributes):
                    force_setattr(event, "attributes", self._attributes(keys, event.attributes, classes))
            elif getattr(event, "device_id", ""):
                force_setattr(event, "device_id", other("device_id", event.device_id))

    def _attributes(
        self, keys: AccountKeys, attributes: Mapping[str, float | str], classes: Mapping[str, str]
    ) -> dict[str, float | str]:
        found = dict(attributes)
        for name in attributes.keys() & classes.keys():
            value = attributes[name]
            text = value if isinstance(value, str) else repr(value)
            match classes[name]:
                case "secret":
                    found[name] = "***"
                case "pseudonym":
                    found[name] = self._others.token(name, text) if text else text
                case _ if not is_sealed(text):
                    found[name] = self._seal(keys, name, text)
        return found

    def _seal(self, keys: AccountKeys, name: str, text: str) -> str:
        """The sealed value, remembered: an account's e-mail address is the same in each of its payments."""
        place = keys.token, name, text
        known = self._sealed.get(place)
        if known is None:
            if len(self._sealed) >= SEEN_MAX:
                self._sealed.clear()
            known = self._sealed[place] = seal(keys.key, name, text.encode("utf-8", "surrogatepass"))
        return known

    def forget(self) -> None:
        """Forget all sealed values, because keys were destroyed."""
        self._sealed.clear()


class Hidden(NamedTuple):
    """What replaces a message, without its card data; kinds: of what was taken out."""

    message: Message
    event: Transaction | AccountEvent
    kinds: frozenset[str]


def is_clean(content: bytes, transactions: Iterable[Transaction], hiding: Hiding) -> bool:
    """Whether none of the messages can hold card data. content: of all; transactions: of those that are payments."""
    if is_suspicious(content):
        return False
    return not any([hiding.is_named(t.attributes) for t in transactions if t.attributes])


def hidden(message: Message, event: Transaction | AccountEvent, hiding: Hiding) -> Hidden | None:
    """The message without card data; None if it holds none."""
    value = message.value or b""
    named = isinstance(event, Transaction) and event.attributes and hiding.is_named(event.attributes)
    if not named and not is_suspicious(value):
        return None
    without, kinds = hiding.event(event)
    if not kinds:
        return None
    key = without.account_id.encode()
    return Hidden(message._replace(key=key, value=encode(without)), without, kinds)


def words(kinds: Iterable[str]) -> str:
    """What a message held, for the detail of a reject."""
    names = {"card_number": "a card number", "security_code": "a security code", "track": "magnetic-stripe data"}
    return f"the message holds {' and '.join(names[kind] for kind in sorted(kinds))}, which must not be stored"
