"""The API of a log with tokens answers questions about raw IDs, and shows none."""

from __future__ import annotations

from pathlib import Path

import msgspec

from core.settings import Settings
from sources.record import Record
from tests.builders.api import served
from tests.builders.events import T0
from tests.builders.tokened import Tokened

CARD = "4111111111111111"


def test_people_may_ask_by_raw_id_or_token(tmp_path: Path) -> None:
    """Accounts, searches, labels, what is shared: the same answer, without a raw ID in it."""
    on = Tokened(tmp_path, accounts=6)
    token = on.tokens()[2]
    paid = {"transaction_id": CARD, "account_id": "person-3", "amount": 5.0, "occurred_at": T0 + 60_000}
    on.ingest.feed([Record("transactions", "person-3", T0 + 60_000, msgspec.json.encode(paid))])
    on.ingest.flush()
    settings = Settings(tokenise=True, vault=str(tmp_path / "vault" / "keys"))
    with served(on.log, tmp_path / "api", settings) as api:
        moment = api.get("/v1/stats").json()["as_of"]
        for path in (
            "/v1/accounts/{}",
            "/v1/decisions?account={}",
            "/v1/labels?account={}",
            "/v1/cases?account={}",
            "/v1/accounts/{}/related",
            "/v1/summary?account={}",
        ):
            raw, known = (api.get(path.format(name), as_of=moment) for name in ("person-2", token))
            assert raw.status_code == 200 and raw.json() == known.json(), (path, raw.text)
            assert "person-2" not in raw.text
        assert api.get("/v1/accounts/person-2").json()["profile"]["transactions"] == 2
        assert len(api.get("/v1/decisions?device=phone-person-2").json()["decisions"]) == 2
        held = api.get(f"/v1/decisions?transaction_id={CARD}").json()["decisions"]
        assert len(held) == 1 and held[0]["transaction_id"].startswith("txn_")
        assert api.get("/v1/accounts/stranger").json()["profile"] is None
        place = api.get(f"/v1/decisions?account={token}").json()["decisions"][0]["place"]
        other, same = (
            api.post(f"/v1/decisions/{place}/whatif", {"payment": {"device_id": device}}, "analyst").json()
            for device in ("phone-stranger", "phone-person-2")
        )
        assert "phone" not in same["changes"][0] and same["features"] == [] != other["features"]
    assert on.vault.find("stranger") is None
