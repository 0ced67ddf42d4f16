"""The table of who may do what: complete, and nothing that decides is left to one person by forgetting it."""

from __future__ import annotations

import random
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import control_stream, events
from core.authority import KINDS, PERSONS, SERVICES, check_roles, matrix
from core.changes import content, digest, event_of, kind_of
from core.errors import BadInput
from core.events import (
    ChangeProposed,
    Control,
    GovernanceChanged,
    IdentityAdded,
    ListChanged,
    ModelDeployed,
    ProgramApproved,
    ProgramDeployed,
    RulesChanged,
    ThresholdsChanged,
)
from core.log.memory import MemoryLog
from core.persons import skeleton
from tests.builders.control_changes import anything
from tests.builders.identities import KEYS, ROLES, by, created, enrolled, log_of, put


def test_every_kind_of_control_event_has_an_entry() -> None:
    """A new kind fails here: say who may append it, and whether one person may alone."""
    assert set(KINDS) == set(get_args(Control))
    for kind, (roles, second) in KINDS.items():
        assert roles and roles <= {*PERSONS, *SERVICES} and second in ("never", "always", "loosening", "own"), kind


def test_a_role_without_power_appends_nothing_but_its_keys() -> None:
    """Who looks only, changes nothing."""
    for role in ("viewer", "submitter", "auditor", "api"):
        allowed = {kind for kind, (roles, _) in KINDS.items() if role in roles}
        assert allowed == {events.IdentityKeyAdded, events.IdentityKeyRevoked}, role


def test_roles_of_persons_and_services_do_not_mix() -> None:
    """Nor is a role unknown, given twice, or missing."""
    assert not check_roles(("admin", "publisher")) and not check_roles(("worker", "archiver"))
    for roles in (("admin", "worker"), ("root",), (), ("admin", "admin")):
        assert check_roles(roles), roles


def test_the_matrix_names_every_kind() -> None:
    """docs/identity.md has it."""
    assert all(f"`{kind.__name__}`" in matrix() for kind in KINDS)


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_a_proposal_holds_an_events_content_exactly(rng: random.Random) -> None:
    """Whatever the event: the same content and digest, whoever and whenever; another content has another digest."""
    state = control_stream.current(MemoryLog())
    event, other = anything(rng, state, "1"), anything(rng, state, "1")
    back = event_of(content(event), occurred_at=9, actor="bob", reason="r", causation_id="c")
    assert digest(back) == digest(event) and (back.actor, back.reason, back.causation_id) == ("bob", "r", "c")
    assert kind_of(back) == kind_of(event)
    assert (digest(event) == digest(other)) == (content(event) == content(other) and type(event) is type(other))


NAMES = ["ann", "Ann", "ANN ", "bob", "B0b", "ｂｏｂ", "carol", "a\u200bnn"]


@given(st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_no_covered_change_has_one_person_behind_it(rng: random.Random) -> None:
    """Random people under random spellings of their names do random acts, open proposals and carry them out, on a log
    with four eyes: whatever takes effect of what four eyes cover was proposed by another person, with this content.
    """
    log, state = MemoryLog(), control_stream.ControlStream()
    put(log, ("", created()), ("", GovernanceChanged(**by("zoe"), four_eyes=True)))
    made: list[tuple[str, Control]] = []
    for number in range(30):
        state.advance(log)
        known = state.state.governance
        actor = rng.choice(NAMES)
        roll = rng.random()
        if roll < 0.4:
            event = anything(rng, state.state, str(number))
            event = msgspec.structs.replace(event, actor=actor)
            if roll < 0.25 and KINDS[type(event)].second in ("always", "loosening"):
                made.append((str(number), event))
                event = ChangeProposed(**by(actor), proposal_id=str(number), change=content(event))
        elif made:
            proposal_id, event = rng.choice(made)
            event = msgspec.structs.replace(
                event, actor=actor, causation_id=rng.choice([proposal_id, *known.changes, ""])
            )
        else:
            continue
        covered = known.needs_second(event) or (
            known.four_eyes and isinstance(event, ModelDeployed) and event.alias == "champion"
        )
        open_, models = dict(known.changes), dict(known.proposals)
        put(log, ("", event))
        entries = state.advance(log)
        if covered and not entries[-1].refused:
            behind = open_.get(event.causation_id) or models.get(event.causation_id)
            assert behind is not None and skeleton(behind.actor) != skeleton(actor)


@given(st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_with_identity_required_two_persons_stand_behind_it(rng: random.Random) -> None:
    """The same under keys: what takes effect was signed by the key of its actor, whose roles allow it; of what four
    eyes cover, a person approved what another identity proposed.
    """
    stream = control_stream.ControlStream()
    log = log_of(*enrolled(), ("ann", GovernanceChanged(**by("ann"), four_eyes=True)))
    made: list[tuple[str, Control]] = []
    for number in range(25):
        stream.advance(log)
        known = stream.state.governance
        actor = rng.choice(["ann", "bob", "Bob", "carol", "loop", "web", "eve"])
        signer = rng.choice(["", actor.lower(), actor.lower(), actor.lower(), *KEYS])
        if rng.random() < 0.5 or not made:
            event = msgspec.structs.replace(anything(rng, stream.state, str(number)), actor=actor)
            if KINDS[type(event)].second in ("always", "loosening") and rng.random() < 0.7:
                made.append((str(number), event))
                event = ChangeProposed(**by(actor), proposal_id=str(number), change=content(event))
        else:
            cause, event = rng.choice(made)
            event = msgspec.structs.replace(event, actor=actor, causation_id=cause)
        covered, open_ = known.needs_second(event), dict(known.changes)
        put(log, (signer, event))
        [entry] = stream.advance(log)
        if entry.refused:
            continue
        assert signer and skeleton(actor) == skeleton(signer)
        roles = set(ROLES[signer])
        assert roles & KINDS[type(event)].roles
        if covered:
            assert not roles & set(SERVICES) and skeleton(open_[event.causation_id].actor) != skeleton(actor)


def test_an_unknown_second_is_a_mistake_of_ours() -> None:
    """The fold's own conditions agree with the table for what the table says is never covered."""
    known = control_stream.current(MemoryLog()).governance
    known.four_eyes = True
    for event in (
        ModelDeployed(**by("ann"), name="m", version="1", digest="1" * 64),
        ProgramApproved(**by("ann"), proposal_id="p"),
        ProgramDeployed(**by("ann"), digest="1" * 64),
    ):
        assert not known.needs_second(event)
    for event in (
        ThresholdsChanged(**by("ann"), review=0.1, decline=0.2),
        RulesChanged(**by("ann")),
        ListChanged(**by("ann"), kind="ip", effect="allow", add=("1.1.1.1",)),
    ):
        assert known.needs_second(event)
    assert not known.needs_second(IdentityAdded(**by("ann"), name="bob", roles=("viewer",), subject="bob"))
    with pytest.raises(BadInput, match="four eyes"):
        known.check(ThresholdsChanged(**by("ann"), review=0.1, decline=0.2))
