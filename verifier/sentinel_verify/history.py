"""The account's earlier events: that they stand in the log like this, and in this order.

Integrity is shown as for the decision: entry ─► root of its batch ─► digest of its seal ─► root of the partition's
tree ─► checkpoint. That none is missing follows at level 3 from the records: each score holds, as `transactions_total`,
how many payments of the account were counted before, since its state began. So the numbers of consecutive payments
ascend by one, and a payment that is left out, put in or moved breaks the series. Of feedback, each score holds what had
come of it (verdicts that count, a block), and level 3 recomputes that for every payment of the series.

What is not shown: that the log has no payment of the account which no decision ever counted. A log that was wrong from
the beginning is found by deciding it again (`sentinel replay`), or by two proofs in which one number is given twice.
"""

import json
from itertools import pairwise
from typing import Any, NamedTuple

from . import trees
from .bundle import Bundle, Past
from .checkpoint import Checkpoint
from .errors import Refused
from .seals import digest_of, stated_digest

Json = dict[str, Any]
Position = tuple[int, int]


class Payment(NamedTuple):
    """An earlier payment. seen: up to where the feedback came before it."""

    transaction: Json
    score: Json
    seen: Position


class History(NamedTuple):
    """The account's earlier payments and feedback, in the order of the log."""

    payments: list[Payment]
    feedback: list[tuple[Position, Json]]


def check(bundle: Bundle, account: str, score: Json, checkpoint: Checkpoint | None) -> History | None:
    """The history of the account of the decision with this score; None if the proof has none. Raises Refused."""
    history = bundle.history
    if history is None:
        return None
    seals = [json.loads(seal.payload) for seal in history.seals]
    named = {event.seal for event in (*history.payments, *history.feedback)}
    if named != set(range(len(seals))):
        raise Refused("the history names a seal that is not in the proof, or one in the proof is not named")
    _in_partition(bundle, checkpoint)
    last, seen = position_of(bundle.position), position_of(score["f"])
    payments, feedback = [], []
    for event in history.payments:
        _under_seal(bundle, event, seals[event.seal])
        t, s = _of_account(event.payloads[0], account), json.loads(event.payloads[1])
        if s["c"] != seals[event.seal]["control"]:
            raise Refused(f"the score at {event.position} names another control position than its seal")
        payments.append(Payment(t, s, position_of(s["f"])))
    for event in history.feedback:
        _under_seal(bundle, event, seals[event.seal])
        feedback.append((position_of(event.position), _of_account(event.payloads[0], account)))
    _ascending("payments of the history", [*(position_of(each.position) for each in history.payments), last])
    _ascending("feedback of the history", [position for position, _ in feedback])
    if any(a > b for a, b in pairwise([*(each.seen for each in payments), seen])):
        raise Refused("the history goes back in the feedback that its decisions saw")
    if feedback and feedback[-1][0] > seen:
        raise Refused("the history has feedback that came after the decision")
    return History(payments, feedback)


def _of_account(payload: bytes, account: str) -> Json:
    found = json.loads(payload)
    if not isinstance(found, dict) or found.get("account_id") != account:
        raise Refused("the history has an event of another account")
    return found


def _under_seal(bundle: Bundle, event: Past, seal: Json) -> None:
    """Raise Refused unless the seal covers the event."""
    assert bundle.history is not None
    held = bundle.history.seals[event.seal]
    decisions, alerts, feedback, _ = seal["counts"]
    is_payment = len(event.payloads) == 2
    first, count, kind = (0, decisions, "decision") if is_payment else (decisions + alerts, feedback, "feedback")
    if not first <= event.entry.place < first + count:
        raise Refused(f"seal {held.sequence} has no {kind} at place {event.entry.place} of its batch")
    hashed = trees.batch_leaf(kind, event.position, *event.payloads)
    root = trees.batch_root(hashed, event.entry.place, sum(seal["counts"]), event.entry.path)
    if digest_of(held, root) != stated_digest(held):
        raise Refused(f"seal {held.sequence} does not cover the {kind} of the history at {event.position}")


def _in_partition(bundle: Bundle, checkpoint: Checkpoint | None) -> None:
    history = bundle.history
    assert history is not None
    if checkpoint is None or not history.seals:
        if history.proof:
            raise Refused("the proof has hashes for the history that prove nothing")
        return
    head = checkpoint.partitions[bundle.partition]
    leaves = [(seal.sequence - 1, trees.leaf(seal.payload)) for seal in history.seals]
    if trees.joint_root(leaves, head.size, history.proof) != head.root:
        raise Refused(f"the seals of the history are not in the tree of partition {bundle.partition} that was signed")


def _ascending(what: str, positions: list[Position]) -> None:
    if any(a >= b for a, b in pairwise(positions)):
        raise Refused(f"the {what} are not in the order of the log, or one is there twice")


def position_of(text: Any) -> Position:
    """A position in a partition, such as 1-533."""
    generation, _, offset = str(text).partition("-")
    return int(generation), int(offset)
