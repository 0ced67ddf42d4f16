"""Level 1: the record is intact. The decision stands, unchanged, in the log whose checkpoint was signed.

transaction, score, alert ─► root of their batch ─► digest of its seal ─► root of the partition's tree ─► checkpoint
control events ─► root of the control stream's tree ─► checkpoint
earlier events of the account ─► see `history`
blobs ─► their SHA-256, which program, model and events name
"""

import hashlib
import json
from typing import Any, NamedTuple

from . import trees
from .bundle import Bundle
from .checkpoint import Checkpoint, Key, read
from .errors import Refused
from .history import History, position_of
from .history import check as check_history
from .seals import digest_of, stated_digest

Json = dict[str, Any]


class Record(NamedTuple):
    """What was proved. control: events by their position, ascending; they are in the log, and at or before the one
    under which the batch was decided. refused: None if these are only some; else they are all, but for those that the
    log's rules refused, at these positions. checkpoint: None if nothing was signed. history: the account's past, None
    if it is not in the proof.
    """

    transaction: Json
    score: Json
    alert: Json | None
    seal: Json
    control: dict[int, Json]
    refused: list[int] | None
    checkpoint: Checkpoint | None
    digest: str
    history: History | None


def check(bundle: Bundle, keys: list[Key]) -> Record:
    """The proved record. Raises Refused."""
    checkpoint = read(bundle.checkpoint, keys) if bundle.checkpoint else None
    seal, digest = _seal(bundle)
    if checkpoint is not None:
        _in_partition(bundle, checkpoint)
    elif bundle.seal.proof or any(event.proof for event in bundle.control):
        raise Refused("the proof refers to a checkpoint, and contains none")
    for name, content in bundle.blobs.items():
        if hashlib.sha256(content).hexdigest() != name:
            raise Refused(f"the blob {name[:60]} has other content than its name says")
    score = _decoded(bundle.score, "score.v1")
    events = _some if bundle.stream is None else _whole
    control, refused = events(bundle, checkpoint, seal)
    transaction = _decoded(bundle.transaction, "transaction.v1")
    record = Record(
        transaction,
        score,
        _decoded(bundle.alert[0]) if bundle.alert is not None else None,
        seal,
        control,
        refused,
        checkpoint,
        digest,
        check_history(bundle, transaction["account_id"], score, checkpoint),
    )
    if record.alert is not None and record.alert.get("alert_id") != f"{bundle.partition:02d}:{bundle.position}":
        raise Refused(f"the alert is that of {record.alert.get('alert_id')}")
    if score["c"] != seal["control"]:
        raise Refused(f"the score names control position {score['c']}, and its seal {seal['control']}")
    if not position_of(score["f"]) <= position_of(seal["feedback"]):
        raise Refused(f"the score names feedback position {score['f']}, and its seal ends at {seal['feedback']}")
    if position_of(bundle.position) > position_of(seal["transactions"]):
        raise Refused(f"the decision is at {bundle.position}, and its seal ends at {seal['transactions']}")
    return record


def _seal(bundle: Bundle) -> tuple[Json, str]:
    """The seal over the batch, and its digest: SHA-256(digest before ‖ root of the batch ‖ seal without its digest)."""
    digest = stated_digest(bundle.seal)
    seal = _decoded(bundle.seal.payload, "seal.v1")
    decisions, alerts, feedback, rejects = seal["counts"]
    size = decisions + alerts + feedback + rejects
    if not bundle.decision.place < decisions:
        raise Refused(f"a batch with {decisions} decisions has none at {bundle.decision.place}")
    hashed = trees.batch_leaf("decision", bundle.position, bundle.transaction, bundle.score)
    root = trees.batch_root(hashed, bundle.decision.place, size, bundle.decision.path)
    if digest_of(bundle.seal, root) != digest:
        raise Refused("the seal does not cover this decision: transaction, score, seal or proof was changed")
    if bundle.alert is not None:
        payload, entry = bundle.alert
        if not decisions <= entry.place < decisions + alerts:
            raise Refused(f"a batch with {alerts} alerts after {decisions} decisions has none at {entry.place}")
        if trees.batch_root(trees.batch_leaf("alert", bundle.position, payload), entry.place, size, entry.path) != root:
            raise Refused("the seal does not cover this alert: the alert or its proof was changed")
    return seal, digest


def _in_partition(bundle: Bundle, checkpoint: Checkpoint) -> None:
    if bundle.partition >= len(checkpoint.partitions):
        raise Refused(f"the checkpoint names no partition {bundle.partition}")
    head = checkpoint.partitions[bundle.partition]
    if not 1 <= bundle.seal.sequence <= head.size:
        raise Refused(
            f"seal {bundle.seal.sequence} of partition {bundle.partition} is not covered by checkpoint"
            f" {checkpoint.number}, which ends at {head.size}: a later checkpoint is needed"
        )
    hashed = trees.leaf(bundle.seal.payload)
    if trees.root_of(hashed, bundle.seal.sequence - 1, head.size, bundle.seal.proof) != head.root:
        raise Refused(f"seal {bundle.seal.sequence} is not in the tree of partition {bundle.partition} that was signed")


def _some(bundle: Bundle, checkpoint: Checkpoint | None, seal: Json) -> tuple[dict[int, Json], list[int] | None]:
    """The control events that the proof contains."""
    found: dict[int, Json] = {}
    last, until = 0, seal["control"]
    for event in bundle.control:
        if not last < event.position <= until:
            raise Refused(f"control event {event.position} is out of order, or after the decision")
        last = event.position
        if checkpoint is not None:
            head = checkpoint.control
            if event.position > head.size:
                raise Refused(f"control event {event.position} is not covered by checkpoint {checkpoint.number}")
            if trees.root_of(trees.leaf(event.payload), event.position - 1, head.size, event.proof) != head.root:
                raise Refused(f"control event {event.position} is not in the control stream that was signed")
        found[event.position] = _decoded(event.payload)
    return found, None


def _whole(bundle: Bundle, checkpoint: Checkpoint | None, seal: Json) -> tuple[dict[int, Json], list[int] | None]:
    """All control events up to the decision that had effect, and the positions of the others."""
    stream = bundle.stream
    assert stream is not None
    size = len(stream.payloads)
    if bundle.control or size != seal["control"]:
        raise Refused(f"the seal was decided under control position {seal['control']}, and the proof has {size} events")
    root = trees.tree_root([trees.leaf(payload) for payload in stream.payloads])
    if checkpoint is not None:
        if checkpoint.control.size < size:
            raise Refused(f"control event {size} is not covered by checkpoint {checkpoint.number}")
        if trees.grown_root(root, size, checkpoint.control.size, stream.proof) != (root, checkpoint.control.root):
            raise Refused("the control events are not those of the control stream that was signed")
    elif stream.proof:
        raise Refused("the proof refers to a checkpoint, and contains none")
    digest = bytes(32)
    positions: dict[bytes, int] = {}
    for position, payload in enumerate(stream.payloads, 1):
        digest = hashlib.sha256(digest + b"%d %d " % (position, len(payload)) + payload).digest()
        positions[digest] = position
    if seal.get("control_digest", digest.hex()) != digest.hex():
        raise Refused("the control events are not those that the seal names")
    refused = [positions.get(each, 0) for each in stream.refused]
    if 0 in refused or refused != sorted(set(refused)):
        raise Refused("the proof names control events without effect that it does not contain")
    events = enumerate(map(_decoded, stream.payloads), 1)
    return {position: event for position, event in events if position not in refused}, refused


def _decoded(payload: bytes, kind: str = "") -> Json:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or (kind and found.get("type") != kind):
        raise Refused(f"{payload[:60]!r} is not an entry of a log{f' of type {kind}' if kind else ''}")
    return found
