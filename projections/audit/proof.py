"""Proofs: one decision with everything that shows, without this code and without the log, that it stands in the log and
follows from its features. `verifier/` checks them; docs/proofs.md describes the format and what it keeps out.

A proof goes to one customer, so it holds no content of anything that concerns other accounts: neighbours in the batch
and in the trees are hashes, and of the control stream only the events that set what decided: never lists of
identifiers, and never the log's first event, which holds the key of its hashes. Reads only.

Cost: the seals of one partition are read and hashed, about 10 µs each, and the control stream.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from core.codec import decode_score, decode_transaction
from core.control_stream import ControlEntry, fold
from core.errors import BadInput, Corrupt
from core.events import (
    CHAMPION_ARM,
    DegradationStarted,
    ExperimentRamped,
    ExperimentStarted,
    ModelDeployed,
    ModelRolledBack,
    ProgramDeployed,
    ProgramRolledBack,
    RatesChanged,
    RulesChanged,
    ThresholdsChanged,
    TransactionScored,
)
from core.governance import CHAMPION
from core.identity import required
from core.log import merkle
from core.log.base import GENESIS_DIGEST, EventLog
from core.log.checkpoints import origin_of
from core.log.notes import Note
from core.log.seals import control_digest
from core.program import document, library, loading
from core.program.shipped import LIBRARIES
from projections.audit import proof_history
from projections.audit.redecide import DecisionPlace
from projections.audit.sealed_entries import Anchor, BatchHashes, NotAnchored, in_hex, read_seals

FORMAT = "stream-sentinel/proof@1"
Json = dict[str, Any]


def prove(
    log: EventLog,
    place: DecisionPlace,
    control: Sequence[ControlEntry],
    anchor: Anchor | None,
    *,
    level: int = 2,
    whole_control: bool = False,
    days: int | None = None,
) -> bytes:
    """The proof of the decision at a place, in its canonical form.

    control: the whole stream, including refused events. anchor: None for a proof that only repeats what the log says.
    level: 1 leaves out program, model and control events: who receives the proof need not know rules and thresholds.
    3 puts the account's earlier events in; days: only payments of so many days before the decision.
    whole_control: for an auditor, with all control events up to the decision, so that lists, draws and the completeness
    of the settings can be checked too; these hold identifiers of others and the key of the log's hashes.
    Raises BadInput if there is no decision, or its history can't be proved (`proof_history.history_of`), NotAnchored if
    the checkpoint does not cover it, Corrupt if the log is not what the checkpoint signs, or contradicts itself.
    """
    partition, position = place
    transaction, score = (log.get(partition, stream, position) for stream in ("transactions", "scores"))
    if transaction is None or score is None:
        raise BadInput(f"there is no decision at {place}; check the position")
    if anchor is not None and partition >= len(anchor.checkpoint.state.partitions):
        raise NotAnchored(f"checkpoint {anchor.checkpoint.number} names no partition {partition}")
    scored = decode_score(score)
    history = None
    if level > 2:
        history = proof_history.history_of(log, place, decode_transaction(transaction), scored, control, days)
    earlier, said = history.positions if history is not None else ([], [])
    seals = read_seals(log, partition, [*earlier, position], said, anchor)
    seal = next(each for each in seals.found if position <= each.after.transactions)
    batch = BatchHashes(log, partition, seal)
    sealed: Json = {
        **seal.json,
        "proof": in_hex(merkle.inclusion(seals.hashes, seal.after.sequence - 1)) if anchor else [],
    }
    proof: Json = {
        "format": FORMAT,
        "partition": partition,
        "position": str(position),
        "transaction": transaction.decode(),
        "score": score.decode(),
        "batch": batch.proof("decision", position),
        "seal": sealed,
        "control": [],
        "blobs": {
            hashlib.sha256(content).hexdigest(): base64.b64encode(content).decode()
            for content in (_blobs(log, control, scored) if level > 1 else ())
        },
    }
    if history is not None:
        proof["history"] = proof_history.json_of(history, log, partition, seals)
    if level > 1 and not whole_control:
        proof["control"] = _events(control, scored, partition, anchor, history)
    if whole_control:
        proof["stream"] = _stream(control, scored.control_position, anchor)
    if ("alert", position) in batch.places:
        alert = log.get(partition, "alerts", position)
        assert alert is not None
        proof["alert"] = {"payload": alert.decode(), "batch": batch.proof("alert", position)}
    if anchor is not None:
        proof["checkpoint"] = _signed(anchor)
    return json.dumps(proof, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()


def _signed(anchor: Anchor) -> str:
    """The note with the notary's signatures only: a verifier refuses those of keys that it is not given."""
    origin = origin_of(anchor.checkpoint.log_id)
    kept = tuple(each for each in anchor.note.signatures if each.name == origin)
    return Note(anchor.note.text, kept).content.decode()


def _stream(control: Sequence[ControlEntry], until: int, anchor: Anchor | None) -> Json:
    """All control events up to a position, with the proof that the signed tree continues theirs."""
    events = control[:until]
    proof: list[bytes] = []
    if anchor is not None:
        proof = merkle.consistency(_control_hashes(control, until, anchor), until)
    return {
        "payloads": [each.payload.decode() for each in events],
        "refused": _refused(events),
        "proof": in_hex(proof),
    }


def _refused(events: Sequence[ControlEntry]) -> list[str]:
    """The control stream's digest after each event that had no effect."""
    found, digest = [], GENESIS_DIGEST
    for each in events:
        digest = control_digest(digest, each.position, each.payload)
        if each.refused:
            found.append(digest)
    return found


def _events(
    control: Sequence[ControlEntry],
    score: TransactionScored,
    partition: int,
    anchor: Anchor | None,
    history: proof_history.History | None,
) -> list[Json]:
    """The events that set what decided, and those that leave verdicts of the history out, with their proofs."""
    chosen = list(_chosen(control, score, partition))
    if history is not None:
        chosen += proof_history.quarantines(control, history.hours, score.control_position)
        chosen.sort(key=lambda entry: entry.position)
    if anchor is None:
        return [{"position": each.position, "payload": each.payload.decode(), "proof": []} for each in chosen]
    hashes = _control_hashes(control, score.control_position, anchor)
    return [
        {
            "position": each.position,
            "payload": each.payload.decode(),
            "proof": in_hex(merkle.inclusion(hashes, each.position - 1)),
        }
        for each in chosen
    ]


def _control_hashes(control: Sequence[ControlEntry], until: int, anchor: Anchor) -> list[bytes]:
    """The leaves of the tree of control events that was signed."""
    head, number = anchor.checkpoint.state.control, anchor.checkpoint.number
    if until > head.size or len(control) < head.size:
        raise NotAnchored(
            f"checkpoint {number} ends at control event {head.size}, and the decision was made under {until}: sign a"
            " later one (sentinel anchor)"
        )
    hashes = [merkle.leaf(each.payload) for each in control[: head.size]]
    if merkle.root(hashes) != head.root:
        raise Corrupt(f"the control stream differs from checkpoint {number}: the log was rewritten; see verify")
    return hashes


def _chosen(control: Sequence[ControlEntry], score: TransactionScored, partition: int) -> Iterator[ControlEntry]:
    """The events in force at the decision, ascending: of each kind the last that took effect."""
    last: dict[str, ControlEntry] = {}
    for entry in control:
        if entry.position > score.control_position:
            break
        if entry.refused:
            continue
        match entry.event:
            case ThresholdsChanged() | RulesChanged() | RatesChanged():
                last[type(entry.event).__name__] = entry
            case ModelDeployed(alias=alias) | ModelRolledBack(alias=alias) if alias == CHAMPION:
                last["champion"] = entry
            case ProgramDeployed() | ProgramRolledBack():
                last["program"] = entry
            case ExperimentStarted() | ExperimentRamped() if score.arm != CHAMPION_ARM:
                last[type(entry.event).__name__] = entry
            case DegradationStarted(partitions=partitions) if score.degraded and partition in partitions:
                last["degradation"] = entry
            case _:
                pass
    yield from sorted(last.values(), key=lambda entry: entry.position)


def _blobs(log: EventLog, control: Sequence[ControlEntry], score: TransactionScored) -> Iterator[bytes]:
    """The program, its libraries, and the model that decided. Nothing of it names an account."""
    state = fold([entry for entry in control if entry.position <= score.control_position])
    arms = state.experiment.arms if state.experiment is not None else ()
    programs = [required(state.identity).program, state.program, *(arm.program for arm in arms)]
    digest = next((each for each in programs if each and each[:16] == score.program), None)
    if digest is None:
        raise Corrupt(f"the score names program {score.program}, which was not in force; see verify")
    program = loading.load(digest, log.get_blob).program
    yield document.canonical(program)
    for used in program.uses.values():
        yield library.content(used) if used in LIBRARIES.values() else log.get_blob(used)
    reasons = (score.degraded or "").split("+")
    if "no_model" in reasons or "model_unavailable" in reasons:
        return
    models = [*([state.champion.digest] if state.champion is not None else []), *(arm.digest for arm in arms)]
    yield log.get_blob(next(each for each in models if each[:16] == score.digest))
