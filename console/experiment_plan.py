"""Shared by `sentinel experiment` and the API: a plan from percentages, days, and names of programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from core.assignment import WHOLE
from core.errors import BadInput
from core.log.base import EventLog
from core.times import DAY_MS
from learners.governance import experiments as acts
from learners.governance.control_events import ArmPlan, Plan

DAYS_MAX = 36_500.0


class ArmSaid(NamedTuple):
    """An arm as asked for. model: "" for the champion; program: "" for the deployed one; percent: None for an equal
    share.
    """

    name: str
    model: str
    program: str
    percent: float | None


def parts(percent: float) -> int:
    """The percentage in 1/10,000. Raises BadInput."""
    if not math.isfinite(percent):
        raise BadInput(f"{percent} is not a valid percentage")
    return round(percent * WHOLE / 100)


def days_ms(days: float) -> int:
    """Raises BadInput for a number of days that no experiment has."""
    if not abs(days) <= DAYS_MAX:
        raise BadInput(f"{days} is not a valid number of days; the maximum is {DAYS_MAX:g}")
    return round(days * DAY_MS)


def arm_plans(said: Sequence[ArmSaid]) -> tuple[ArmPlan, ...]:
    """The arms with their shares; without percentages, equal ones. Raises BadInput."""
    if not said:
        raise BadInput("an experiment needs arms; the first is the control")
    given = [arm.percent for arm in said if arm.percent is not None]
    if given and len(given) != len(said):
        raise BadInput("give a percentage for every arm, or for none")
    shares = [parts(percent) for percent in given] or [WHOLE // len(said)] * len(said)
    if given and (min(shares) <= 0 or sum(shares) != WHOLE):
        written = " + ".join(f"{percent:g}" for percent in given)
        raise BadInput(f"the percentages of the arms must be above 0 and add up to 100, not {written}")
    if not given:
        shares[0] += WHOLE - sum(shares)
    return tuple(ArmPlan(arm.name, arm.model, share, arm.program) for arm, share in zip(said, shares, strict=True))


def with_programs(log: EventLog, plan: Plan) -> Plan:
    """The plan with the SHA-256 of each arm's program in the place of its name."""
    arms = [
        msgspec.structs.replace(arm, program=acts.arm_program(log, arm.program)) if arm.program else arm
        for arm in plan.arms
    ]
    return msgspec.structs.replace(plan, arms=tuple(arms))
