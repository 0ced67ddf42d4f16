"""`sentinel unseal`: opens the sealed attributes of one payment for somebody who must read them, on the record."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from console import wiring
from console.acts import Actor, Reason, act_of
from console.commands.audit import locate
from console.log_options import asked_of
from console.options import Config, Json
from console.tables import print_fields, print_json
from core import control_stream
from core.codec import decode_transaction
from core.errors import BadInput
from core.events import SealedValuesOpened
from core.log.base import EventLog
from core.sealing import is_sealed, unseal
from ingest.vault import open_vault
from projections.audit.redecide import DecisionPlace


def unseal_payment(
    transaction_id: Annotated[str | None, typer.Argument(help="The transaction.")] = None,
    reason: Reason = "",
    account: Annotated[str | None, typer.Option(help="Its account; makes the search faster.")] = None,
    position: Annotated[str | None, typer.Option(help="Its position in the log (p07:1-533).")] = None,
    actor: Actor = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show what is sealed in one payment of a log with tokens: e-mail address, name and the like.

    Who opened what of which payment, when and why is recorded in the control stream before anything is shown.

    sentinel unseal t-4711 --reason "call the customer"
    """
    if not reason.strip():
        raise BadInput("--reason must say why")
    s = wiring.settings(config)
    vault = open_vault(s)
    if vault is None:
        raise BadInput("only a log with tokens has sealed values: set SENTINEL_TOKENISE=true and name its vault")
    with closing(wiring.open_log(s)) as log:
        found = locate(log, transaction_id, asked_of(s, log, "account_id", account), position)
        sealed = _sealed(log, found.place)
        keys = vault.by_token(found.account_id)
        if not sealed:
            raise BadInput(f"the payment at {found.place} has no sealed values")
        if keys is None:
            raise BadInput("its account's keys are not in this vault: the person was erased, or it is another vault")
        act = act_of(actor, reason, log)
        event = SealedValuesOpened(
            **act.fields, account=found.account_id, place=str(found.place), fields=tuple(sorted(sealed))
        )
        opened = {name: unseal(keys.key, name, text).decode("utf-8", "replace") for name, text in sealed.items()}
        control_stream.append(log, lambda known: [event])
    if as_json:
        print_json({"place": str(found.place), "account_id": found.account_id, "opened": opened})
    else:
        print_fields({"payment": str(found.place), "account": found.account_id, **opened})


def _sealed(log: EventLog, place: DecisionPlace) -> dict[str, str]:
    """The sealed attributes of a payment."""
    payment = log.get(place.partition, "transactions", place.position)
    assert payment is not None  # it was just found there
    attributes = decode_transaction(payment).attributes
    return {name: value for name, value in attributes.items() if isinstance(value, str) and is_sealed(value)}
