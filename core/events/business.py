"""The control events of what the business sets: thresholds, rules, lists, rates, and whether responders act."""

from __future__ import annotations

from typing import Literal

from core.events.base import ControlEvent

ListKind = Literal["account", "card", "merchant", "device", "ip", "country"]
ListEffect = Literal["block", "watch", "allow"]


class ThresholdsChanged(ControlEvent, tag="thresholds_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """Probabilities at or above which a transaction is reviewed or declined; 0 < review ≤ decline ≤ 1.

    review_loss, decline_loss: if above 0, that decision is made from this expected loss on instead: probability ×
    amount, in the log's base currency.
    """

    review: float
    decline: float
    review_loss: float = 0.0
    decline_loss: float = 0.0


class RulesChanged(ControlEvent, tag="rules_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """Parameters of the program in force by name, and the codes of disabled rules."""

    parameters: dict[str, float] = {}
    disabled: tuple[str, ...] = ()


class ListChanged(ControlEvent, tag="list_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """Adds to and removes from the list of one kind and effect."""

    kind: ListKind
    effect: ListEffect
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class RatesChanged(ControlEvent, tag="rates_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on amounts are decided in currency `base`; rates: the worth of one unit of each other currency in it.
    All rates at once: one that is left out is no longer known.
    """

    base: str
    rates: dict[str, float] = {}


class ResponsesChanged(ControlEvent, tag="responses_changed.v1", tag_field="type", frozen=True, kw_only=True):
    """From here on responders carry out these recommended actions, or hold them back (the kill switch).

    begins: for each partition, the seal after which alerts count: those up to it are never acted on. () keeps the
    actions' former ones, so that what waited meanwhile is carried out.
    """

    enabled: bool
    actions: tuple[str, ...]
    begins: tuple[int, ...] = ()
