"""All settings of the responders: one frozen record, read from the `[responders]` table of the settings file.

Checked at the start of every command; secrets are only named here, and are read from the environment or a file when
`sentinel respond` starts (`responders.secrets`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from core.errors import BadInput
from core.events import Severity
from core.policy import SEVERITIES
from core.settings import unknown_name
from core.text import check_name

BLOCK, UNBLOCK, QUEUE = "block_account", "unblock_account", "queue_for_review"
NOTIFYING = ("request_step_up_authentication", "notify_customer", "notify_fraud_team")
"""Actions that are a message to somebody outside."""
ACTIONS = (QUEUE, *NOTIFYING, BLOCK)
"""Actions that responders carry out. `decline_transaction` is not among them: the published decision is the decline."""

ChannelKind = Literal["webhook", "apprise"]


class Channel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where messages go. url: of a webhook; that of an apprise service holds its secret, so it is named by url_env or
    url_file. secret_env, secret_file: a webhook's signing secrets (`whsec_…`, several separated by spaces while they
    are exchanged).
    """

    kind: ChannelKind
    url: str = ""
    url_env: str = ""
    url_file: str = ""
    secret_env: str = ""
    secret_file: str = ""
    timeout_s: float = 10.0
    parallel: int = 4


class Action(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one action is carried out. channels: of an action that notifies. delay_s: enforcement is delayed by a random
    time between these two. expire_hours: an alert that is older is not acted on any more.
    """

    channels: tuple[str, ...] = ()
    delay_s: tuple[float, float] = (0.0, 0.0)
    expire_hours: float = 24.0


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A queue, and which alerts go to it: those that satisfy everything given. codes: any of these reason codes."""

    queue: str
    severity: tuple[Severity, ...] = ()
    amount_min: float = 0.0
    codes: tuple[str, ...] = ()


SLA_S: dict[Severity, float] = {"critical": 5.0, "high": 10.0, "medium": 60.0, "low": 300.0}


class RespondSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """blocks_per_hour: automatic blocks in any hour, over all responders; 0: none. block_hours: after which an
    automatic block is lifted by itself; 0: never. give_up_hours: for how long a failing action is tried again before it
    is parked. poll_ms: how often the log is asked for alerts. routes: the first that fits gives an alert's queue.
    sla_s: by severity, how soon after the alert its actions shall have been carried out.
    """

    channels: dict[str, Channel] = {}
    actions: dict[str, Action] = {}
    routes: tuple[Route, ...] = ()
    queue: str = "fraud"
    blocks_per_hour: int = 100
    block_hours: float = 0.0
    give_up_hours: float = 6.0
    backoff_s: float = 1.0
    backoff_max_s: float = 300.0
    poll_ms: int = 50
    sla_s: dict[Severity, float] = msgspec.field(default_factory=lambda: dict(SLA_S))

    def __post_init__(self) -> None:
        for name, channel in self.channels.items():
            _check_channel(name, channel)
        for name, action in self.actions.items():
            self._check_action(name, action)
        for number, route in enumerate(self.routes, 1):
            check_name(f"responders.routes: queue of route {number}", route.queue)
        check_name("responders: queue", self.queue)
        _check_range("blocks_per_hour", self.blocks_per_hour, 0, 1_000_000)
        _check_range("block_hours", self.block_hours, 0, 24 * 365)
        _check_range("give_up_hours", self.give_up_hours, 0, 24 * 30)
        _check_range("backoff_s", self.backoff_s, 0.01, 3_600)
        _check_range("backoff_max_s", self.backoff_max_s, self.backoff_s, 86_400)
        _check_range("poll_ms", self.poll_ms, 1, 60_000)
        if missing := [severity for severity in SEVERITIES if not self.sla_s.get(severity, 0) > 0]:
            raise BadInput(f"responders.sla_s: {missing[0]} must be given and above 0")

    def _check_action(self, name: str, action: Action) -> None:
        where = f"responders.actions.{name}"
        if name not in ACTIONS:
            raise BadInput(f"responders.actions: {_unknown(name, ACTIONS)}")
        for channel in action.channels:
            if channel not in self.channels:
                raise BadInput(f"{where}: channel {_unknown(channel, self.channels)}")
        if name in NOTIFYING and not action.channels:
            raise BadInput(f'{where}: name at least one channel, for example channels = ["soc"]')
        if name not in NOTIFYING and action.channels:
            raise BadInput(f"{where}: only {', '.join(NOTIFYING)} have channels")
        low, high = action.delay_s
        if not 0 <= low <= high <= 86_400:
            raise BadInput(f"{where}: delay_s must be two times from 0 to 86,400, ascending, such as [0, 30]")
        if not 0 < action.expire_hours <= 24 * 365:
            raise BadInput(f"{where}: expire_hours must be above 0 and at most a year")

    def of(self, action: str) -> Action:
        """The action's settings, or the defaults."""
        return self.actions.get(action, _DEFAULT)


_DEFAULT = Action()


def _check_channel(name: str, channel: Channel) -> None:
    where = f"responders.channels.{name}"
    check_name("responders.channels: a channel's name", name)
    given = [field for field in ("url", "url_env", "url_file") if getattr(channel, field)]
    if len(given) != 1:
        raise BadInput(f"{where}: give its address by exactly one of url, url_env, url_file")
    if channel.kind == "apprise" and given == ["url"]:
        raise BadInput(
            f"{where}: an apprise URL holds a secret: put it in a file or the environment (url_file, url_env)"
        )
    if channel.url:
        check_url(where, channel.url)
    secrets = [field for field in ("secret_env", "secret_file") if getattr(channel, field)]
    if channel.kind == "webhook" and len(secrets) != 1:
        raise BadInput(f"{where}: a webhook is signed: name its secret by exactly one of secret_env, secret_file")
    if channel.kind == "apprise" and secrets:
        raise BadInput(f"{where}: only webhooks are signed; remove {secrets[0]}")
    _check_range("timeout_s", channel.timeout_s, 0.1, 120, where)
    _check_range("parallel", channel.parallel, 1, 64, where)


def check_url(where: str, url: str) -> None:
    """Raise BadInput unless a webhook may be sent to this address; the message does not repeat it."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or not url.isprintable() or " " in url:
        raise BadInput(f"{where}: its URL must be http:// or https:// with a host")
    if parts.username is not None or parts.password is not None:
        raise BadInput(f"{where}: its URL holds a user name or password; webhooks are authenticated by their signature")


def _check_range(name: str, value: float, low: float, high: float, where: str = "responders") -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise BadInput(f"{where}: {name} must be between {low:g} and {high:g}, not {value!r}")


def _unknown(name: str, known: Iterable[str]) -> str:
    return unknown_name(name, known).removeprefix("unknown setting ") + f"; known: {', '.join(known) or 'none'}"


def respond_settings(table: Mapping[str, Any]) -> RespondSettings:
    """Settings from a table of a configuration file. Raises BadInput with one line that names the setting."""
    for name in table:
        if name not in RespondSettings.__struct_fields__:
            raise BadInput(f"responders: {unknown_name(name, RespondSettings.__struct_fields__)}")
    for name, channel in dict(table.get("channels", {})).items() if isinstance(table.get("channels"), dict) else ():
        for literal in ("secret", "password", "token"):
            if isinstance(channel, dict) and literal in channel:
                raise BadInput(
                    f"responders.channels.{name}: secrets are not written in this file; put it in a file or the"
                    " environment, and name it with secret_file or secret_env"
                )
    try:
        return msgspec.convert(dict(table), RespondSettings)
    except msgspec.ValidationError as error:
        raise BadInput(f"responders: {error}") from None
