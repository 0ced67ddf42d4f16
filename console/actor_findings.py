"""What `sentinel doctor` says of who may act: this process's key, the roster, and acts that had no effect."""

from __future__ import annotations

from collections.abc import Iterator

from console.server_findings import Finding, Status
from core.control import ControlState
from core.log.base import EventLog
from core.persons import skeleton

REMEDY = "docs/identity.md"


def actor_findings(log: EventLog, state: ControlState) -> Iterator[Finding]:
    """Whether what this process would append has an effect. log: as this process opened it."""
    roster, signer = state.governance.roster, log.signer
    if signer is None:
        if roster.required:
            yield Finding(
                "identity",
                "warn",
                "is required, and these settings name no key: what is appended so has no effect",
                f"set identity_key (SENTINEL_IDENTITY_KEY): {REMEDY}",
            )
        return
    owner = roster.owner(signer.key_id)
    bad: Status = "fail" if roster.required else "warn"
    if owner is None:
        add = f"sentinel identity add {signer.name} --role … --public-key …"
        yield Finding("identity", bad, f"key {signer.key_id} of {signer.name} is not on the roster", add)
    elif signer.key_id not in owner.keys:
        yield Finding("identity", "fail", f"key {signer.key_id} of {owner.name} is revoked", "use another identity_key")
    elif skeleton(owner.name) != skeleton(signer.name):
        yield Finding(
            "identity",
            "fail",
            f"the key file names {signer.name}, but the roster says that key {signer.key_id} is {owner.name}'s",
            "correct the file's first line",
        )
    else:
        yield Finding("identity", "ok", f"{owner.name} ({', '.join(owner.roles)})")
    if roster.identities and not roster.required:
        yield Finding(
            "roster",
            "warn",
            f"has {len(roster.identities)} identities, but identity is not required: unsigned acts have an effect",
            "sentinel identity require, once every service has a key",
        )
