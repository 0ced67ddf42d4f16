"""Attacks on who stands behind an act. Each is refused by the fold, so by every reader of the log, for ever."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core import control_stream
from core.changes import content
from core.codec import decode_control, encode
from core.errors import BadInput
from core.events import (
    Arm,
    ChangeProposed,
    ChangeWithdrawn,
    Control,
    DeploymentProposed,
    DeploymentWithdrawn,
    ExperimentRamped,
    ExperimentStarted,
    GovernanceChanged,
    IdentityAdded,
    IdentityChanged,
    IdentityKeyAdded,
    IdentityKeyRevoked,
    IdentityRequired,
    IdentityRevoked,
    ListChanged,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    PartitionParked,
    ProgramApproved,
    ProgramProposed,
    ProgramRegistered,
    RatesChanged,
    RulesChanged,
    ThresholdsChanged,
)
from core.log.memory import MemoryLog
from core.signing import Place, encoded, message
from tests.builders.decisions import control_entries
from tests.builders.identities import KEYS, ROLES, Key, added, by, created, enrolled, log_of, put

ONE, TWO, EVIL = "1" * 64, "2" * 64, "e" * 64


def model(version: str = "2", digest: str = TWO) -> dict[str, Any]:
    return {"name": "m", "version": version, "digest": digest}


def refused(*events: Control) -> dict[int, str]:
    return control_stream.fold(control_entries(*events)).refused


REGISTERED: tuple[Control, ...] = (
    ModelRegistered(**by("ann"), **model("1", ONE), spec=1),
    ModelRegistered(**by("ann"), **model(), spec=1),
    ModelDeployed(**by("ann"), **model("1", ONE)),
    GovernanceChanged(**by("ann"), four_eyes=True),
)
STARTED = ExperimentStarted(
    **by("ann"), experiment_id="e", arms=(Arm("a", "m", "1", ONE, 5000), Arm("b", "m", "2", TWO, 5000)), salt="s"
)
SPELLINGS = ["Ann", "ann ", "ａｎｎ", "a\u200bnn", "аnn", "ANN"]


@pytest.mark.parametrize("name", SPELLINGS)
def test_another_spelling_is_no_second_person(name: str) -> None:
    """For a model and for a program; the last but one has a Cyrillic a."""
    proposed = DeploymentProposed(**by("ann"), proposal_id="p", **model())
    assert list(refused(*REGISTERED, proposed, ModelDeployed(**by(name), **model(), causation_id="p"))) == [6]
    program = ProgramRegistered(**by("ann"), name="p", version="1", digest=ONE)
    asked = ProgramProposed(**by("ann"), proposal_id="p", digest=ONE)
    assert list(refused(*REGISTERED, program, asked, ProgramApproved(**by(name), proposal_id="p"))) == [7]


def test_a_label_denotes_one_artifact_whatever_names_it() -> None:
    """Deployed, rolled back, proposed, as a shadow, as an arm, or registered after it was deployed."""
    wrong = model("2", EVIL)
    others: list[Control] = [
        ModelDeployed(**by("bob"), **wrong),
        ModelDeployed(**by("bob"), **wrong, alias="shadow"),
        ModelRolledBack(**by("bob"), **wrong, alias="shadow"),
        DeploymentProposed(**by("bob"), proposal_id="p", **wrong),
        msgspec.structs.replace(STARTED, arms=(STARTED.arms[0], Arm("b", "m", "2", EVIL, 5000))),
    ]
    for event in others:
        why = refused(*REGISTERED[:3], event)
        assert list(why) == [4] and "m-2 is already another artifact" in why[4], event
    assert list(refused(ModelDeployed(**by("ann"), **model()), ModelRegistered(**by("bob"), **wrong, spec=1))) == [2]


# --- signatures ---------------------------------------------------------------------------------------------------


def thresholds(actor: str, review: float = 0.3) -> ThresholdsChanged:
    return ThresholdsChanged(**by(actor), review=review, decline=0.9, reason="season")


def test_a_signed_event_takes_effect_where_it_was_signed() -> None:
    """By its key, its actor's, whose roles allow it."""
    log = log_of(*enrolled(), ("ann", thresholds("ann")), ("worker-1", parked()))
    assert control_stream.current(log).review == 0.3


def parked(actor: str = "sentinel ingest") -> Control:
    return PartitionParked(**by(actor), partition=0, code="poison")


def last(log: MemoryLog) -> bytes:
    return log.read_control(log.control_head() - 1)[0][1]


def test_a_copied_event_is_refused() -> None:
    """The very bytes of an accepted event again, at the next place and at a later one."""
    log = log_of(*enrolled(), ("ann", thresholds("ann", 0.3)))
    copied = last(log)
    put(log, ("ann", thresholds("ann", 0.5)))
    log.append_control([copied], log.control_head())
    state = control_stream.current(log)
    assert state.review == 0.5 and "does not fit" in state.refused[log.control_head()]


def test_what_is_signed_names_its_place() -> None:
    """The log, the position, the history before it, and the event: a change of any is another message."""
    place, other = Place("a" * 32, 7, "0" * 64), Place("b" * 32, 8, "1" * 64)
    signed = {message(place._replace(**{name: getattr(other, name)}), b"{}") for name in Place._fields}
    assert len(signed | {message(place, b"{}"), message(place, b"[]")}) == 5


def test_reordered_events_are_refused() -> None:
    """Two signed events that change places: both are refused, and so is every signed event after them."""
    log = log_of(*enrolled(), *(("ann", thresholds("ann", review)) for review in (0.3, 0.4, 0.5)))
    head = log.control_head()
    one, other = (log.read_control(p - 1, 1)[0][1] for p in (head - 2, head - 1))
    log.tamper_control(head - 2, other)
    log.tamper_control(head - 1, one)
    assert sorted(control_stream.current(log).refused) == [head - 2, head - 1, head]


@pytest.mark.parametrize(
    "field", [{"reason": "other"}, {"actor": "bob"}, {"occurred_at": 2}, {"review": 0.1}, {"causation_id": "x"}]
)
def test_an_edited_event_is_refused(field: dict[str, Any]) -> None:
    """Its reason, actor, time, cause or content."""
    log = log_of(*enrolled(), ("ann", thresholds("ann")))
    event = decode_control(last(log))
    log.tamper_control(log.control_head(), encode(msgspec.structs.replace(event, **field)))
    assert list(control_stream.current(log).refused) == [log.control_head()]


def test_an_event_before_it_that_is_edited_refuses_all_later_ones() -> None:
    """A signature stands for the whole history: an unsigned event's reason is edited."""
    log = log_of(("", created()), ("", thresholds("eve")), *enrolled()[1:], ("ann", thresholds("ann")))
    event = decode_control(log.read_control(1, 1)[0][1])
    log.tamper_control(2, encode(msgspec.structs.replace(event, reason="nothing to see")))
    assert list(control_stream.current(log).refused)[:1] == [3]


def test_a_signature_of_another_log_is_refused() -> None:
    """The same history but for the log's ID."""
    log = log_of(*enrolled(), ("ann", thresholds("ann")))
    payloads = [payload for _, payload in log.read_control(0)]
    first = msgspec.structs.replace(created(), log_id="f" * 32)
    other = MemoryLog.restored({}, [encode(first), *payloads[1:]], {})
    assert sorted(control_stream.current(other).refused)[0] == 2 and not control_stream.current(
        other
    ).refused.keys() & {1}


@pytest.mark.parametrize(
    ("signer", "event", "why"),
    [
        ("", thresholds("ann"), "not signed"),
        ("bob", thresholds("ann"), "ann is not bob"),
        ("carol", thresholds("carol"), "may not do this"),
        ("worker-1", thresholds("sentinel ingest"), "may not do this"),
        ("loop", thresholds("loop"), "may not do this"),
        ("ann", parked(), "may not do this"),
        ("web", thresholds("ann"), "ann is not web"),
        ("web", thresholds("web"), "may not do this"),
        ("carol", GovernanceChanged(**by("carol"), four_eyes=True), "may not do this"),
        ("carol", IdentityRequired(**by("carol"), required=False), "may not do this"),
    ],
)
def test_who_may_not_is_refused(signer: str, event: Control, why: str) -> None:
    """Unsigned, another's key, or a role that does not allow it; also to turn off that identity is required."""
    log = log_of(*enrolled())
    refused = put(log, (signer, event))
    assert why in refused[log.control_head()]


def test_a_stranger_is_refused() -> None:
    """A key that is on no roster; and a key that an attacker writes into the event but does not have."""
    log = log_of(*enrolled())
    place, stranger = control_stream.current(log).next_place, Key("eve")
    event = thresholds("ann")
    signed = encoded([msgspec.structs.replace(event, key=stranger.key_id)], stranger, place)
    claimed = encoded([msgspec.structs.replace(event, key=KEYS["ann"].key_id)], stranger, place)
    for payload, why in ((signed[0], "not on the roster"), (claimed[0], "does not fit")):
        other = log.clone()
        other.append_control([payload], other.control_head())
        assert why in control_stream.current(other).refused[other.control_head()]


def test_a_revoked_key_has_no_effect() -> None:
    """After the key is revoked, or its owner; what it signed before stays."""
    key = {"name": "bob", "key_id": KEYS["bob"].key_id}
    for revocation in (IdentityKeyRevoked(**by("ann"), **key), IdentityRevoked(**by("ann"), name="bob")):
        log = log_of(*enrolled(), ("bob", thresholds("bob", 0.4)), ("ann", revocation))
        refused = put(log, ("bob", thresholds("bob", 0.5)))
        assert "revoked" in refused[log.control_head()] and control_stream.current(log).review == 0.4


def test_a_rotated_key() -> None:
    """Its owner adds a key and revokes the old one; neither the revoked key nor its name comes back, for anybody."""
    new = Key("bob", 2)
    rotation = IdentityKeyAdded(**by("bob"), name="bob", public_key=new.public_key)
    log = log_of(*enrolled(), ("bob", rotation))
    log.signer = new
    control_stream.append(log, lambda _: [IdentityKeyRevoked(**by("bob"), name="bob", key_id=KEYS["bob"].key_id)])
    control_stream.append(log, lambda _: [thresholds("bob", 0.4)])
    refused = put(
        log,
        ("ann", IdentityKeyAdded(**by("ann"), name="carol", public_key=KEYS["bob"].public_key)),
        ("carol", IdentityKeyAdded(**by("carol"), name="bob", public_key=Key("carol", 2).public_key)),
        ("bob", thresholds("bob", 0.5)),
        ("ann", IdentityRevoked(**by("ann"), name="carol")),
        ("ann", added("carol", public_key=Key("carol", 3).public_key)),
    )
    head = log.control_head()
    assert sorted(refused) == [head - 4, head - 3, head - 2, head]


# --- the roster ---------------------------------------------------------------------------------------------------


def test_the_first_identity_is_an_administrator_who_signs_themselves() -> None:
    """And only the first: another who adds themselves, signed or not, is refused, also before identity is required."""
    log = log_of(*enrolled(required=False)[:2])
    refused = put(log, ("bob", added("bob", "bob")), ("", added("bob", "ann")), ("bob", added("bob", "ann")))
    assert sorted(refused) == [3, 4, 5]
    for bad in (
        ("bob", added("ann")),
        ("", added("ann")),
        ("carol", added("carol", "carol")),
        ("ann", added("ann", public_key="")),
        ("ann", added("ann", "bob")),
    ):
        assert list(put(log_of(("", created())), bad)) == [2], bad


def test_two_who_race_to_be_first() -> None:
    """One succeeds; the other is told so, and has appended nothing."""
    log = log_of(("", created()))
    log.signer = KEYS["bob"]

    def decide(known: control_stream.Known) -> list[Control]:
        if not known.state.governance.roster.identities:
            put(log, ("ann", added("ann")))
        return [added("bob", "bob")]

    with pytest.raises(BadInput, match="administrator"):
        control_stream.append(log, decide)
    state = control_stream.current(log)
    assert list(state.governance.roster.identities) == ["ann"] and not state.refused and log.control_head() == 2


@pytest.mark.parametrize("name", [*SPELLINGS, "аnn", "Ann\u0301 ", "sentinel ingest", "a/b", ""])
def test_nobody_gets_a_name_that_passes_for_another(name: str) -> None:
    """Nor the user of the API."""
    log = log_of(*enrolled())
    key = Key("eve").public_key
    new = IdentityAdded(**by("ann"), name=name, roles=("publisher",), public_key=key)
    if name != "Ann\u0301 ":
        assert list(put(log.clone(), ("ann", new))) == [log.control_head() + 1]
    user = IdentityAdded(**by("ann"), name="eve", roles=("publisher",), public_key=key, subject=name)
    if name in SPELLINGS and name != "аnn":
        assert list(put(log.clone(), ("ann", user))) == [log.control_head() + 1]


def test_identity_is_required_only_if_nobody_is_locked_out() -> None:
    """Two administrators under four eyes, else one, and a worker; and as many administrators stay."""
    ann, bob, worker = ("ann", added("ann")), ("ann", added("bob")), ("ann", added("worker-1"))
    on, require = ("", GovernanceChanged(**by("x"), four_eyes=True)), enrolled()[-1]
    for missing in ([ann, bob], [on, ann, worker]):
        log = log_of(("", created()), *missing)
        assert list(put(log, require)) == [log.control_head()]
    log_of(("", created()), ann, worker, require)
    log = log_of(("", created()), on, ann, worker, bob, require)
    roles: tuple[str, ...] = ("publisher",)
    for fewer in (
        IdentityRevoked(**by("ann"), name="bob"),
        IdentityKeyRevoked(**by("ann"), name="bob", key_id=KEYS["bob"].key_id),
    ):
        assert "only 1 administrators" in next(iter(put(log.clone(), ("ann", fewer)).values()))
    alone = log_of(("", created()), ann, worker, require)
    for fewer in (IdentityRevoked(**by("ann"), name="ann"), IdentityChanged(**by("ann"), name="ann", roles=roles)):
        assert "only 0 administrators" in next(iter(put(alone.clone(), ("ann", fewer)).values()))


def test_a_name_is_vouched_for_by_the_api_alone() -> None:
    """Exactly a user whose person is on the roster; not under the person's name, nor a user whose name looks like it;
    no other service; nobody who is no user.
    """
    log = log_of(*enrolled(), ("ann", IdentityChanged(**by("ann"), name="bob", roles=ROLES["bob"], subject="b.smith")))
    assert not put(log.clone(), ("web", thresholds("b.smith", 0.4)))
    for user in ("bob", "Bob", "b.sm1th", "B.Smith", "b.smith "):
        assert len(put(log.clone(), ("web", thresholds(user)))) == 1, user
    for signer, actor in (("web", "ann"), ("loop", "b.smith"), ("worker-1", "bob"), ("carol", "b.smith")):
        assert len(put(log.clone(), (signer, thresholds(actor)))) == 1


def test_the_apis_key_takes_nothing_over() -> None:
    """Who has it can act as its users, but not add a key to one, change the roster, or turn the switches off."""
    user = IdentityChanged(**by("ann"), name="bob", roles=ROLES["bob"], subject="b.smith")
    log = log_of(*enrolled(), ("ann", user), ("ann", GovernanceChanged(**by("ann"), four_eyes=True)))
    eve = Key("eve")
    by_user = by("b.smith")
    acts: list[Control] = [
        IdentityKeyAdded(**by_user, name="bob", public_key=eve.public_key),
        IdentityKeyRevoked(**by_user, name="bob", key_id=KEYS["bob"].key_id),
        IdentityAdded(**by_user, name="eve", roles=("admin",), public_key=eve.public_key),
        IdentityChanged(**by_user, name="carol", roles=("admin",), subject="carol"),
        IdentityRevoked(**by_user, name="carol"),
        IdentityRequired(**by_user, required=False),
        GovernanceChanged(**by_user, four_eyes=False),
    ]
    for event in acts:
        if not isinstance(event, IdentityKeyRevoked | IdentityRevoked):
            proposed = ("ann", proposal(event))
            assert len(put(log.clone(), proposed, ("web", as_of(event, "b.smith")))) == 1, event
        assert len(put(log.clone(), ("web", event))) == 1, event
    assert not put(log, ("web", GovernanceChanged(**by_user, four_eyes=True)))


def test_a_proposal_of_somebody_revoked_is_not_carried_out() -> None:
    """Of a change, and of a model."""
    third = IdentityAdded(**by("ann"), name="dave", roles=("admin", "publisher"), public_key=DAVE.public_key)
    log = log_of(*enrolled(), *MODELS, ("ann", third), ON)
    log.signer = DAVE
    event = thresholds("dave")
    control_stream.append(log, lambda _: [proposal(event, "dave")])
    control_stream.append(log, lambda _: [DeploymentProposed(**by("dave"), proposal_id="d", **model())])
    approvals = [("bob", as_of(event, "bob")), ("bob", ModelDeployed(**by("bob"), **model(), causation_id="d"))]
    assert not put(log.clone(), *approvals)
    assert len(put(log, ("ann", IdentityRevoked(**by("ann"), name="dave")), *approvals)) == 2


# --- four eyes ----------------------------------------------------------------------------------------------------

ON: tuple[str, Control] = ("ann", GovernanceChanged(**by("ann"), four_eyes=True))
DAVE = Key("dave")
DAVE_ADDED = IdentityAdded(**by("ann"), name="dave", roles=("admin",), public_key=DAVE.public_key)
COVERED: list[Control] = [
    thresholds("ann"),
    RulesChanged(**by("ann"), disabled=("UNUSUAL_HOUR",)),
    RatesChanged(**by("ann"), base="EUR", rates={"USD": 0.9}),
    ListChanged(**by("ann"), kind="account", effect="allow", add=("a1",)),
    ListChanged(**by("ann"), kind="account", effect="block", remove=("a1",)),
    ListChanged(**by("ann"), kind="account", effect="watch", remove=("a1",)),
    STARTED,
    GovernanceChanged(**by("ann"), four_eyes=False),
    IdentityRequired(**by("ann"), required=False),
    DAVE_ADDED,
    IdentityChanged(**by("ann"), name="carol", roles=("admin",)),
    IdentityKeyAdded(**by("ann"), name="carol", public_key=DAVE.public_key),
]
MODELS: list[tuple[str, Control]] = [("ann", each) for each in REGISTERED[:3]]


def four_eyed() -> MemoryLog:
    return log_of(*enrolled(), *MODELS, ON)


def proposal(event: Control, actor: str = "ann", proposal_id: str = "p") -> ChangeProposed:
    return ChangeProposed(**by(actor), proposal_id=proposal_id, change=content(event))


def as_of(event: Control, actor: str, cause: str = "p") -> Control:
    return msgspec.structs.replace(event, actor=actor, causation_id=cause)


@pytest.mark.parametrize("event", COVERED, ids=lambda event: type(event).__name__)
def test_nobody_changes_what_decides_alone(event: Control) -> None:
    """Without a proposal, on one's own, on one of another content, of a withdrawn one, or a second time on one."""
    log = four_eyed()
    assert len(put(log.clone(), ("ann", event))) == 1
    assert len(put(log.clone(), ("ann", proposal(event)), ("ann", as_of(event, "ann")))) == 1
    other = ListChanged(**by("ann"), kind="device", effect="allow", add=("d",))
    assert len(put(log.clone(), ("ann", proposal(other)), ("bob", as_of(event, "bob")))) == 1
    withdrawn = ("bob", ChangeWithdrawn(**by("bob"), proposal_id="p"))
    assert len(put(log.clone(), ("ann", proposal(event)), withdrawn, ("bob", as_of(event, "bob")))) == 1
    assert not put(log, ("ann", proposal(event)), ("bob", as_of(event, "bob")))
    state = control_stream.current(log)
    assert "p" not in state.governance.changes
    if state.governance.four_eyes and not isinstance(event, IdentityRequired):
        assert len(put(log, ("bob", as_of(event, "bob")))) == 1


@pytest.mark.parametrize("event", COVERED, ids=lambda event: type(event).__name__)
def test_without_identity_names_are_compared_in_canonical_form(event: Control) -> None:
    """Before identity is required, other spellings of the proposer's name approve nothing."""
    if isinstance(event, IdentityRequired | IdentityAdded | IdentityChanged | IdentityKeyAdded):
        return  # these need a key
    for name in SPELLINGS:
        log = log_of(("", created()), *(("", each) for each in REGISTERED))
        assert len(put(log, ("", proposal(event)), ("", as_of(event, name)))) == 1, name
    log = log_of(("", created()), *(("", each) for each in REGISTERED))
    assert not put(log, ("", proposal(event)), ("", as_of(event, "bob")))


def test_a_proposal_is_not_exchanged_under_its_id() -> None:
    """Withdrawn and proposed again with another content, after the approver looked: of a change, and of a model."""
    log = four_eyed()
    put(log, ("ann", proposal(thresholds("ann", 0.3))), ("ann", ChangeWithdrawn(**by("ann"), proposal_id="p")))
    assert len(put(log.clone(), ("ann", proposal(thresholds("ann", 0.8))))) == 1
    other = DeploymentProposed(**by("ann"), proposal_id="d", **model("1", ONE))
    mine = DeploymentProposed(**by("ann"), proposal_id="d", **model())
    put(log, ("ann", other), ("ann", DeploymentWithdrawn(**by("ann"), proposal_id="d")))
    assert len(put(log, ("ann", mine))) == 1


def test_a_service_approves_nothing() -> None:
    """The loop may propose a test and a person approve it, not the other way round."""
    log = four_eyed()
    assert len(put(log.clone(), ("ann", proposal(STARTED)), ("loop", as_of(STARTED, "loop")))) == 1
    assert not put(log, ("loop", proposal(STARTED, "loop")), ("ann", as_of(STARTED, "ann")))


def test_what_takes_back_never_waits() -> None:
    """Blocks and watches are put on lists, less traffic takes part, four eyes are turned on, roles are revoked."""
    log = four_eyed()
    assert not put(log, ("ann", proposal(STARTED)), ("bob", as_of(STARTED, "bob")))
    assert not put(
        log,
        ("carol", ListChanged(**by("carol"), kind="account", effect="block", add=("a1",))),
        ("carol", ListChanged(**by("carol"), kind="account", effect="watch", add=("a1",))),
        ("carol", ListChanged(**by("carol"), kind="account", effect="allow", remove=("a1",))),
        ("ann", ExperimentRamped(**by("ann"), experiment_id="e", traffic=100)),
        ("ann", IdentityRevoked(**by("ann"), name="carol")),
        ("bob", IdentityKeyAdded(**by("bob"), name="bob", public_key=DAVE.public_key)),
        ("ann", GovernanceChanged(**by("ann"), four_eyes=True)),
    )
    assert len(put(log, ("ann", ExperimentRamped(**by("ann"), experiment_id="e", traffic=101)))) == 1


def test_four_eyes_are_not_turned_off_and_on_again_by_one() -> None:
    """Off, promote, on: nothing of it takes effect but the last, which changes nothing."""
    log = log_of(("", created()), *(("", each) for each in REGISTERED))
    off, on = (GovernanceChanged(**by("ann"), four_eyes=each) for each in (False, True))
    head = log.control_head()
    refused = put(log, ("", off), ("", ModelDeployed(**by("ann"), **model())), ("", on))
    assert sorted(refused) == [head + 1, head + 2]
    champion = control_stream.current(log).champion
    assert champion is not None and champion.digest == ONE


def test_a_proposal_of_what_was_in_force_before_is_closed() -> None:
    """Another change of thresholds took effect in between: approving the older one would undo it."""
    log = four_eyed()
    late, soon = thresholds("ann", 0.2), thresholds("ann", 0.4)
    put(log, ("ann", proposal(late)), ("ann", proposal(soon, proposal_id="q")), ("bob", as_of(soon, "bob", "q")))
    assert len(put(log, ("bob", as_of(late, "bob")))) == 1 and control_stream.current(log).review == 0.4


def test_what_was_proposed_before_identity_is_required_is_closed() -> None:
    """Nobody knows who proposed it."""
    log = log_of(*enrolled(required=False), *MODELS, ON)
    put(
        log, ("", proposal(thresholds("bob"), "bob")), ("", DeploymentProposed(**by("bob"), proposal_id="d", **model()))
    )
    put(log, ("ann", IdentityRequired(**by("ann"), required=True)))
    refused = put(
        log, ("ann", as_of(thresholds("ann"), "ann")), ("ann", ModelDeployed(**by("ann"), **model(), causation_id="d"))
    )
    assert len(refused) == 2


def test_what_can_not_be_proposed() -> None:
    """An act without a second person, nonsense, an author hidden in the content, an ID that is open."""
    log = four_eyed()
    good = content(thresholds("ann"))
    bad = [
        content(parked()),
        content(ModelDeployed(**by("ann"), **model())),
        {"type": "no_such_event.v1"},
        {},
        {**good, "actor": "bob"},
        {**good, "review": "much"},
    ]
    for change in bad:
        assert len(put(log.clone(), ("ann", ChangeProposed(**by("ann"), proposal_id="p", change=change)))) == 1, change
    again = ChangeProposed(**by("bob"), proposal_id="p", change=good)
    assert len(put(log, ("ann", proposal(thresholds("ann"))), ("bob", again))) == 1


def test_an_administrator_alone_makes_no_second_self() -> None:
    """Once there are two: every way to give a second identity power waits for the other one."""
    log = four_eyed()
    ways: list[list[Control]] = [
        [IdentityRevoked(**by("ann"), name="bob"), msgspec.structs.replace(DAVE_ADDED, name="eve")],
        [IdentityChanged(**by("ann"), name="bob", roles=("publisher",))],
        [IdentityKeyAdded(**by("ann"), name="bob", public_key=DAVE.public_key)],
    ]
    for way in ways:
        assert len(put(log.clone(), *(("ann", each) for each in way))) == len(way)
