"""A log with tokens in memory, its vault, and what happens to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from console import wiring
from console.erasing import erase
from core import control_stream
from core.codec import decode_transaction
from core.events import CaseNoted
from core.identity import FIXED, LogIdentity
from core.log.memory import MemoryLog
from ingest.offline import OfflineIngest
from ingest.protecting import Protection
from ingest.vault import Vault
from learners.governance.control_events import Act
from sources.record import Record
from tests.builders.events import T0
from tests.builders.logs import entries

ACT = Act("dpo", "request of 26 November", T0)
PARTITIONS = 3


class Tokened:
    """A log with tokens of accounts `person-N`, each of two payments with an e-mail address, and its vault."""

    def __init__(self, directory: Path, accounts: int = 60) -> None:
        self.vault = Vault(directory / "vault" / "keys")
        self.protection = Protection(vault=self.vault, sealed=frozenset(("email",)))
        self.log = MemoryLog()
        identity = FIXED._replace(tokens=self.vault.key_id)
        self.ingest = OfflineIngest(
            self.log,
            wiring.open_resolver(self.log),
            partitions=PARTITIONS,
            reference=False,
            identity=identity,
            protection=self.protection,
        )
        self.count = 0
        self.pay([f"person-{n}" for n in range(accounts)] * 2)

    @property
    def identity(self) -> LogIdentity:
        return control_stream.identity_of(self.log)

    def pay(self, accounts: list[str]) -> None:
        for account in accounts:
            self.count += 1
            body = {"transaction_id": f"t{self.count}", "account_id": account, "amount": 5.0}
            body |= {"device_id": f"phone-{account}", "occurred_at": T0 + self.count * 1000}
            body |= {"attributes": {"email": f"{account}@example.com"}}
            self.ingest.feed([Record("transactions", account, T0 + self.count * 1000, msgspec.json.encode(body))])
        self.ingest.flush()

    def note(self, account: str, text: str) -> None:
        event = CaseNoted(account_id=account, case_id="c1", occurred_at=T0 + 1, actor="ann", note=text)
        self.ingest.feed([Record("feedback", account, T0 + self.count * 1000 + 1, msgspec.json.encode(event))])
        self.ingest.flush()

    def erase(self, *names: str, folders: dict[str, Path] | None = None) -> Any:
        return erase(self.log, self.vault, self.identity, names, ACT, folders or {})

    def tokens(self) -> list[str]:
        """The accounts of all payments, in the order in which they were sent."""
        logged = [
            decode_transaction(e.payload) for p in range(PARTITIONS) for e in entries(self.log, p, "transactions")
        ]
        return [t.account_id for t in sorted(logged, key=lambda t: int(t.transaction_id[1:]))]

    def forget(self) -> None:
        """As a worker does that reads of an erasure."""
        for owned in self.ingest.owned:
            owned.names.clear()
        self.protection.forget()
