"""Acts of the business on what decides: lists, thresholds, rules, rates. Each is one conditional append to the control
stream.

    change a list     add and remove values of one kind and effect           ListChanged, at most VALUES_MAX values each
    set thresholds    review, decline, or both                               ThresholdsChanged
    change rules      set or reset parameters, disable or enable codes       RulesChanged
    set rates         the base currency and the rates of all others          RatesChanged

Under four eyes an act that lets more through is only proposed (`learners.governance.proposals`).

An act that already has its result appends nothing, so each act can be repeated after an unknown outcome. What it
changes is read at the position that it is appended after, so two people who change different parameters at once both
succeed. Raises BadInput for an invalid request, and ConcurrencyError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from core.canonical import listed
from core.control import ControlState
from core.control_stream import ControlStream
from core.currency import check_code, check_rates, rates_of
from core.errors import BadInput
from core.events import Control, ListChanged, ListEffect, ListKind, RatesChanged, RulesChanged, ThresholdsChanged
from core.log.base import EventLog
from core.policy import Thresholds
from core.program import loading
from core.program.errors import meant
from learners.governance.control_events import Act
from learners.governance.proposals import append

THRESHOLDS = ("review_probability", "decline_probability", "review_loss", "decline_loss")
"""Parameters of programs that ThresholdsChanged sets."""
VALUES_MAX = 10_000
"""Values in one event; a longer change is several events, appended together."""


@dataclass(frozen=True, slots=True)
class Done:
    """The result of an act. position: the control position after it; state: what is in force there. changed: False if
    everything was so already, or waits for a second person. proposals: IDs of what waits.
    """

    position: int
    state: ControlState
    changed: bool
    proposals: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ListAct:
    """The result of a change of a list: values in canonical form. unchanged: already on the list, or not on it.
    proposals: IDs of what waits for a second person: additions to an allow list, removals from the others.
    """

    position: int
    kind: ListKind
    effect: ListEffect
    added: list[str]
    removed: list[str]
    unchanged: list[str]
    proposals: list[str] = field(default_factory=list)


def change_list(
    log: EventLog, kind: ListKind, effect: ListEffect, act: Act, add: Iterable[str] = (), remove: Iterable[str] = ()
) -> ListAct:
    """Add values to a list and remove others from it."""
    wanted = list(dict.fromkeys(listed(kind, value) for value in add))
    unwanted = list(dict.fromkeys(listed(kind, value) for value in remove))
    if not wanted and not unwanted:
        raise BadInput("no value given")
    if both := set(wanted) & set(unwanted):
        raise BadInput(f"{min(both)!r} can't be added and removed by one act")
    added: list[str] = []
    removed: list[str] = []

    def events(state: ControlState) -> list[Control]:
        members = state.lists.get((kind, effect), {})
        added[:] = [value for value in wanted if value not in members]
        removed[:] = [value for value in unwanted if value in members]
        pages = [ListChanged(**act.fields, kind=kind, effect=effect, add=page) for page in _pages(added)]
        return [*pages, *(ListChanged(**act.fields, kind=kind, effect=effect, remove=page) for page in _pages(removed))]

    done = _append(log, events)
    changed = {*added, *removed}
    unchanged = [value for value in [*wanted, *unwanted] if value not in changed]
    return ListAct(done.position, kind, effect, added, removed, unchanged, done.proposals)


def _pages(values: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(values[start : start + VALUES_MAX]) for start in range(0, len(values), VALUES_MAX)]


def set_thresholds(
    log: EventLog,
    act: Act,
    review: float | None = None,
    decline: float | None = None,
    *,
    review_loss: float | None = None,
    decline_loss: float | None = None,
) -> Done:
    """Set the probabilities or the expected losses (`core.policy.Thresholds`) from which payments are reviewed and
    declined; what is not given stays. A probability that is given ends the decision by expected loss.
    """
    given = (review, decline, review_loss, decline_loss)
    if all(value is None for value in given):
        raise BadInput("give --review, --decline, --review-loss or --decline-loss")

    def events(state: ControlState) -> list[Control]:
        now = Thresholds(state.review, state.decline, state.review_loss, state.decline_loss)
        wanted = Thresholds(*(old if new is None else new for old, new in zip(now, given, strict=True)))
        if review is not None and review_loss is None:
            wanted = wanted._replace(review_loss=0.0)
        if decline is not None and decline_loss is None:
            wanted = wanted._replace(decline_loss=0.0)
        return [] if wanted == now else [ThresholdsChanged(**act.fields, **wanted._asdict())]

    return _append(log, events)


def change_rules(
    log: EventLog,
    act: Act,
    *,
    parameters: Mapping[str, float] | None = None,
    reset: Sequence[str] = (),
    disable: Sequence[str] = (),
    enable: Sequence[str] = (),
) -> Done:
    """Set parameters, reset others to their defaults, disable and enable rules; all others stay as they are. Names are
    those of the program in force.
    """
    parameters = parameters or {}
    for name, value in parameters.items():
        if not math.isfinite(value):
            raise BadInput(f"rule parameter {name} must be a finite number, not {value}")
    if both := set(disable) & set(enable):
        raise BadInput(f"{min(both)} can't be disabled and enabled by one act")

    def events(state: ControlState) -> list[Control]:
        program = loading.load(state.program_in_force, log.get_blob).checked
        codes = [rule.code for rule in program.rules]
        for name in (*parameters, *reset):
            _check_parameter(name, program.parameters)
        for code in (*disable, *enable):
            if code not in codes:
                raise BadInput(f"unknown rule {code!r}{meant(code, codes)}; known: {', '.join(codes)}")
        kept = {name: value for name, value in {**state.parameters, **parameters}.items() if name not in reset}
        off = {*state.disabled, *disable} - {*enable}
        disabled = tuple(code for code in dict.fromkeys([*codes, *state.disabled]) if code in off)
        if (kept, set(disabled)) == (state.parameters, set(state.disabled)):
            return []
        return [RulesChanged(**act.fields, parameters=kept, disabled=disabled)]

    return _append(log, events)


def _check_parameter(name: str, known: Mapping[str, float]) -> None:
    if name in THRESHOLDS:
        raise BadInput(f"{name} is a threshold: set it with `sentinel threshold set`")
    if name not in known:
        others = ", ".join(each for each in known if each not in THRESHOLDS)
        raise BadInput(f"unknown rule parameter {name!r}{meant(name, known)}; known: {others}")


def set_rates(log: EventLog, act: Act, rates: Mapping[str, float], base: str = "") -> Done:
    """Set the rates of all currencies at once: what one unit of each is worth in the base. base: "" keeps the log's.

    Codes are stored in canonical form; the base's own rate, which is 1, is left out.
    """

    def events(state: ControlState) -> list[Control]:
        wanted = base or state.rates.base
        if not wanted:
            raise BadInput("the log has no base currency yet: name it, for example with --base EUR")
        given = RatesChanged(**act.fields, base=check_code(wanted), rates=dict(rates))
        check_rates(given)
        found = rates_of(given)
        if found == state.rates:
            return []
        return [RatesChanged(**act.fields, base=found.base, rates=dict(found.by_code))]

    return _append(log, events)


def _append(log: EventLog, events: Callable[[ControlState], list[Control]]) -> Done:
    stream = ControlStream()
    done = append(log, lambda known: events(known.state), stream)
    return Done(done.position, stream.state, bool(done.events), done.proposals)
