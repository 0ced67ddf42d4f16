"""The API under identity required: its key vouches for its users, whose roles on the roster count."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core import control_stream
from core.errors import BadInput
from core.events import AccountBlocked, IdentityAdded, IdentityRequired, IdentityRevoked
from core.feedback_signing import check
from core.log.memory import MemoryLog
from tests.builders import baseline_log
from tests.builders.api import Served, served
from tests.builders.identities import KEYS, by, enrolled, put


@pytest.fixture
def log() -> MemoryLog:
    """Its roster has the users publisher and analyst of the API; the latter may publish by the API's roles only."""
    log = MemoryLog()
    baseline_log.fill(log, transactions=100, accounts=10)
    people = [
        ("ann", IdentityAdded(**by("ann"), name=name, roles=(role,), subject=user))
        for name, role, user in (
            ("Pam", "publisher", "publisher"),
            ("Al", "analyst", "admin"),
            ("Al B", "viewer", "analyst"),
        )
    ]
    assert not put(log, *enrolled()[1:-1], *people, enrolled()[-1])
    log.signer = KEYS["web"]
    return log


@pytest.fixture
def api(log: MemoryLog, tmp_path: Path) -> Iterator[Served]:
    with served(log, tmp_path) as found:
        yield found


def test_a_user_on_the_roster_acts(api: Served, log: MemoryLog) -> None:
    """Signed by the API, in the user's name; the trail shows the key."""
    got = api.client.patch(
        "/v1/thresholds", json={"decline": 0.95, "reason": "season"}, headers=api.bearer("publisher")
    )
    assert got.status_code == 200 and got.json()["changed"]
    last = control_stream.history(log)[-1]
    assert (last.event.actor, last.event.key, last.refused) == ("publisher", KEYS["web"].key_id, "")
    trail = api.get("/v1/control", after=last.position - 1).json()
    assert KEYS["web"].key_id in str(trail)


def test_roles_on_the_roster_count(api: Served, log: MemoryLog) -> None:
    """An administrator of the API who is an analyst on the roster switches nothing; a viewer lists nothing."""
    head = log.control_head()
    for path, body, user in (
        ("/v1/four-eyes", {"on": True, "reason": "r"}, "admin"),
        ("/v1/lists", {"kind": "device", "effect": "block", "add": ["d1"], "reason": "r"}, "analyst"),
    ):
        got = api.post(path, body, user)
        assert got.status_code == 422 and "may not do this" in got.json()["detail"], got.text
    assert log.control_head() == head


def test_a_revoked_person_acts_no_more(api: Served, log: MemoryLog) -> None:
    """Though the API still knows the user."""
    put(log, ("ann", IdentityRevoked(**by("ann"), name="Pam")))
    got = api.post("/v1/models/rollback", {"reason": "r"}, "publisher")
    assert got.status_code == 422


def test_feedback_is_signed_for_who_may_give_it(api: Served, log: MemoryLog) -> None:
    """Under the API's key, in the user's name; what workers would refuse is refused before Kafka has it."""
    required = IdentityRequired(**by("ann"), required=True, feedback="signed")
    cy = IdentityAdded(**by("ann"), name="Cy", roles=("analyst",), subject="cy")
    assert not put(log, ("ann", cy), ("ann", required))
    api.desk.control_page(0, 1, None)  # reads what was appended
    told = api.desk.attest(AccountBlocked(account_id="a1", occurred_at=1, actor="cy"))
    assert told.key == KEYS["web"].key_id
    check(told, api.desk.control.governance.roster, api.desk.control.identity.log_id)  # type: ignore[union-attr]
    for user in ("publisher", "Cy", "nobody", ""):
        with pytest.raises(BadInput):
            api.desk.attest(AccountBlocked(account_id="a1", occurred_at=1, actor=user))
    got = api.post("/v1/accounts/a1/block", {"reason": "stolen"}, "analyst")
    assert got.status_code == 403 and got.json()["reason"] == "not_permitted", got.text
