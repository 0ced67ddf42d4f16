"""What is looked at in all values of several batches at once, between decoding and admission: keys that a payment names
twice, card data, and, in a log with tokens, raw identifiers and personal attributes. One scan of all values costs a
fraction of one of each, and almost always finds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from core.duplicate_keys import scan
from core.events import AccountEvent, Position, Transaction
from core.program.checked import OwnField
from ingest.intake import Message
from ingest.partition import Decoded, Pending, Rejected, count_kinds
from ingest.protecting import NAMES_MAX, PROTECTION, Hidden, Protection, VaultTokens, hidden, is_clean, words


def screen(pendings: Sequence[Pending], protection: Protection = PROTECTION, fields: Iterable[OwnField] = ()) -> None:
    """Reject payments that name a key twice, and take out of all messages what the log must not hold. pendings: decoded
    batches of one log; they are changed. fields: those of the programs in force.
    """
    if not pendings:
        return
    content = b"".join([m.value or b"" for pending in pendings for part in pending.decoded for m in part.messages])
    if scan(content):
        for pending in pendings:
            pending.partition.decode_again(pending)
    hiding = protection.hiding(pendings[0].partition.state.identity)
    parts = [part for pending in pendings for part in pending.decoded]
    content += b"".join([m.value or b"" for part in parts for m, _ in part.feedback])
    if not is_clean(content, (t for part in parts for t in part.transactions), hiding):
        for pending in pendings:
            pending.decoded = [_protected(part, pending, protection) for part in pending.decoded]
    tokens = protection.tokens(pendings[0].partition.state.identity)
    if isinstance(tokens, VaultTokens):
        _tokenise(pendings, tokens, protection.classes(fields))


def _tokenise(pendings: Sequence[Pending], tokens: VaultTokens, classes: Mapping[str, str]) -> None:
    """Replace raw identifiers by tokens, and personal attributes by sealed values."""
    unseen: set[str] = set()
    for pending in pendings:
        names = pending.partition.names
        if len(names) > NAMES_MAX:
            names.clear()
        unseen |= {event.account_id for event in _events(pending)} - names.keys()
    found = tokens.accounts(unseen) if unseen else {}
    for pending in pendings:
        names = pending.partition.names
        if unseen:
            names |= {name: found[name] for event in _events(pending) if (name := event.account_id) in found}
        tokens.hide(names, _events(pending), classes)
        pending.rejected_as = tokens.sealed


def _events(pending: Pending) -> Iterator[Transaction | AccountEvent]:
    for part in pending.decoded:
        yield from part.transactions
        for _, event in part.feedback:
            yield event


def _protected(part: Decoded, pending: Pending, protection: Protection) -> Decoded:
    """The part without card data; messages that held some become rejects if the protection says so."""
    owned = pending.partition
    hiding = protection.hiding(owned.state.identity)
    feedback: list[tuple[Message, AccountEvent]] = []
    for message, event in part.feedback:
        found = hidden(message, event, hiding)
        if found is None:
            feedback.append((message, event))
        elif _is_kept(found, "feedback", owned.generations[1], pending, protection):
            feedback.append((found.message, found.event))  # type: ignore[arg-type]
    messages: list[Message] = []
    transactions: list[Transaction] = []
    for message, t in zip(part.messages, part.transactions, strict=True):
        found = hidden(message, t, hiding)
        if found is None:
            messages.append(message)
            transactions.append(t)
        elif _is_kept(found, "transactions", owned.generations[0], pending, protection):
            messages.append(found.message)
            transactions.append(found.event)  # type: ignore[arg-type]
    return Decoded(feedback, messages, transactions, part.feedback_end)


def _is_kept(found: Hidden, topic: str, generation: int, pending: Pending, protection: Protection) -> bool:
    """Count what a message held; whether it is accepted. Else it becomes a reject."""
    count_kinds(pending.card_data, found.kinds)
    if protection.refuses:
        position = Position(generation, found.message.offset + 1)
        pending.malformed.append(Rejected(topic, found.message, position, "card_number", words(found.kinds)))
    return not protection.refuses
