"""What decides at a control position: the fold of the control events that a proof contains.

With the whole stream (`Record.refused` is not None) everything is known. With some events only, these are believed to
be the last of their kinds, and lists, the log's key and its default program are unknown.
"""

from dataclasses import dataclass, field
from typing import Any

from . import siphash
from .errors import Refused
from .forms import address, in_form, network
from .rates import Rates
from .record import Json, Record

KINDS = {
    "account_id": "account", "card_id": "card", "merchant_id": "merchant", "device_id": "device", "ip": "ip",
    "country": "country",
}  # fmt: skip
_FORMS = {"account": "text", "merchant": "text", "device": "text", "card": "card", "ip": "ip", "country": "country"}

Lists = dict[tuple[str, str], dict[str, None]]


@dataclass
class Settings:
    """positions: of the events in force, by what they set. program: SHA-256 of the deployed one, "" for the log's
    default; default: its SHA-256, "" if unknown. key: of the log's hashes, and lists: by kind and effect, None if
    unknown. missing: artifacts that the partition was decided without.
    """

    positions: dict[str, int] = field(default_factory=dict)
    thresholds: Json = field(default_factory=dict)
    rules: Json = field(default_factory=dict)
    model: Json | None = None
    experiment: Json | None = None
    program: str = ""
    default: str = ""
    rates: Rates = field(default_factory=lambda: Rates(None))
    key: bytes | None = None
    lists: Lists | None = None
    references: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> dict[str, float]:
        """Parameters of programs that are set; the thresholds always are."""
        given = {
            **self.rules.get("parameters", {}),
            "review_probability": self.thresholds.get("review", 0.4),
            "decline_probability": self.thresholds.get("decline", 0.8),
            "review_loss": self.thresholds.get("review_loss", 0.0),
            "decline_loss": self.thresholds.get("decline_loss", 0.0),
        }
        return {name: float(value) for name, value in given.items()}

    def has(self, kind: str, effect: str, form: str) -> bool:
        """Whether a list, which is known, holds a value in canonical form, or a network around it."""
        assert self.lists is not None
        members = self.lists.get((kind, effect), {})
        found = address(form) if kind == "ip" else None
        around = [] if found is None else [net for each in members if "/" in each and (net := network(each))]
        return form in members or any(found in net for net in around)

    def arm_of(self, account: str) -> Json | None:
        """The arm of the running experiment that is drawn for an account; None if it is not in it. The key is known."""
        if self.experiment is None or self.key is None:
            return None
        drawn = siphash.of_text(account, siphash.derived(self.key, self.experiment["salt"]))
        if (drawn >> 32) * 10_000 >> 32 >= self.experiment.get("traffic", 10_000):
            return None
        part = (drawn & 0xFFFFFFFF) * 10_000 >> 32
        for arm in self.experiment["arms"]:
            part -= arm["share"]
            if part < 0:
                return dict(arm)
        raise Refused("the shares of the experiment's arms do not add up")

    def is_rolled_out(self, account: str, code: str, percent: float) -> bool:
        """Whether a rule is live for an account. The key is known."""
        assert self.key is not None
        salt = siphash.of_text(code, siphash.derived(self.key, "rollout"))
        drawn = siphash.mixed(siphash.of_text(account, self.key) ^ salt) >> 32
        return drawn < round(percent / 100.0 * 2**32)


def fold(record: Record, partition: int) -> Settings:
    """The settings in force at the decision."""
    found = Settings(lists=None if record.refused is None else {})
    for position, event in record.control.items():
        what = _apply(found, event, partition)
        if what:
            found.positions[what] = position
    return found


def _apply(s: Settings, event: Json, partition: int) -> str:
    """Apply an event; what it sets, "" for nothing that is told."""
    match event["type"]:
        case "log_created.v1":
            s.key, s.default = bytes.fromhex(event["hash_key"]), event["program"]
        case "thresholds_changed.v1":
            s.thresholds = event
            return "thresholds"
        case "rules_changed.v1":
            s.rules = event
            return "rules"
        case "rates_changed.v1":
            s.rates = Rates(event)
            return "rates"
        case "reference_published.v1":
            s.references[event["kind"]] = event["digest"]
        case "model_deployed.v1" | "model_rolled_back.v1" if event.get("alias", "champion") == "champion":
            if s.model is None or s.model["digest"] != event["digest"]:
                _end(s)
            s.model = event
            return "champion"
        case "program_deployed.v1" | "program_rolled_back.v1":
            if (s.program or s.default) != (event["digest"] or s.default):
                _end(s)
            s.program = event["digest"]
            return "program"
        case "experiment_started.v1":
            s.experiment = event
            return "experiment"
        case "experiment_ramped.v1" if s.experiment is not None:
            s.experiment = {**s.experiment, "traffic": event["traffic"]}
            return "ramp"
        case "experiment_stopped.v1" | "experiment_concluded.v1":
            _end(s)
        case "list_changed.v1" if s.lists is not None:
            _change_list(s.lists, event)
        case "degradation_started.v1" if partition in event["partitions"]:
            s.missing = event["artifacts"]
            return "degradation"
        case "degradation_ended.v1" if partition in event["partitions"]:
            s.missing = []
            s.positions.pop("degradation", None)
        case _:
            pass
    return ""


def _end(s: Settings) -> None:
    """The running experiment ends, if there is one."""
    s.experiment = None
    s.positions.pop("experiment", None)
    s.positions.pop("ramp", None)


def _change_list(lists: Lists, event: Json) -> None:
    kind = event["kind"]
    members: dict[str, Any] = lists.setdefault((kind, event["effect"]), {})
    for value in event.get("add", []):
        if form := in_form(_FORMS[kind], value):
            members[form] = None
    for value in event.get("remove", []):
        members.pop(in_form(_FORMS[kind], value), None)
