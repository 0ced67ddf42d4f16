"""What masking asks of the log (`console.api.masking`), and the one way past it: a payment is shown to somebody for
whom it is masked once the control stream says so.
"""

from __future__ import annotations

from typing import Any

import msgspec

from console.api.answers import Unmasked
from console.api.desk import Desk
from console.api.personal import Classes, personal_fields
from console.api.problems import ProblemError, not_found
from core import control_stream
from core.codec import decode_transaction
from core.events import ValuesUnmasked
from learners.governance.control_events import Act
from projections.audit.redecide import DecisionPlace


class Unmasking:
    """Payments of one log, and what is personal in them. Its methods wait for servers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._classes: tuple[int, Classes] | None = None

    def payment(self, name: str) -> dict[str, Any] | None:
        """A decided payment as logged; None if there is not exactly one of this name."""
        try:
            return self._logged(name)[1]
        except ProblemError:
            return None

    def classes(self) -> Classes:
        """What the programs in force say of personal data; kept while the control stream stands still."""
        state, resolver = self._desk.control, self._desk.resolver
        if self._classes is None or self._classes[0] != state.position:
            programs = resolver.context(state, resolver.unavailable(state)).programs
            fields = [each for program in programs for each in program.plan.program.fields.items()]
            personal = {name: field for name, field in fields if field.personal != "none"}
            secret = {field.attribute for field in personal.values()} | set(self._desk.settings.sealed_attributes)
            shown = frozenset(field.attribute for _, field in fields) - secret
            self._classes = state.position, Classes(shown, frozenset(personal))
        return self._classes[1]

    def unmask(self, name: str, act: Act) -> Unmasked:
        """A payment as logged, once the control stream says who saw what of it. Raises ProblemError if there is not
        exactly one of this name, BadInput if the roster does not allow it.
        """
        place, payment = self._logged(name)
        fields = personal_fields(payment, self.classes())
        event = ValuesUnmasked(**act.fields, place=str(place), fields=tuple(fields))
        done = control_stream.append(self._desk.log, lambda known: [event])
        return Unmasked(str(place), done.position, payment)

    def _logged(self, name: str) -> tuple[DecisionPlace, dict[str, Any]]:
        place = self._desk.find(name).place
        content = self._desk.log.get(place.partition, "transactions", place.position)
        if content is None:
            raise not_found(f"decision {name}")
        payment: dict[str, Any] = msgspec.to_builtins(decode_transaction(content))
        return place, payment
