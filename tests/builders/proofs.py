"""Proofs of decisions of the golden log, signed by a fixed key, and ways to forge them.

python -m tests.builders.proofs     writes verifier/vectors
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.codec import decode_score
from core.control_stream import ControlEntry, fold, history
from core.events import TransactionScored
from core.features import packing, spec
from core.identity import required
from core.log import batch_tree, merkle, notes
from core.log.base import EventLog
from core.log.checkpoints import NOTHING, Checkpoint, State, TreeHead, origin_of, parse
from core.log.paging import entries
from projections.audit import proof_history
from projections.audit.proof import prove
from projections.audit.proof_history import History
from projections.audit.redecide import DecisionPlace
from projections.audit.sealed_entries import Anchor
from tests.builders.golden import file

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
VECTORS = Path(__file__).parents[2] / "verifier" / "vectors"
SIGNED_MS = 1_790_000_000_000
Proof = dict[str, Any]


class Corpus(NamedTuple):
    """A log with its control stream, and a checkpoint at its end."""

    log: EventLog
    control: list[ControlEntry]
    log_id: str
    anchor: Anchor
    partitions: int

    @property
    def key(self) -> str:
        """The notary's public key."""
        return notes.public_key(origin_of(self.log_id), PRIVATE).text

    def decisions(self) -> Iterator[tuple[DecisionPlace, TransactionScored]]:
        """Every decision."""
        for partition in range(self.partitions):
            for entry in entries(self.log, partition, "scores"):
                yield DecisionPlace(partition, entry.id), decode_score(entry.payload)

    def proof(
        self, place: DecisionPlace, *, whole_control: bool = False, level: int = 2, days: int | None = None
    ) -> bytes:
        """The proof of a decision against the checkpoint."""
        return prove(self.log, place, self.control, self.anchor, level=level, whole_control=whole_control, days=days)


@cache
def golden() -> Corpus:
    """The golden log of the present engine."""
    held = file.read(max(file.DIRECTORY.glob("*.log.xz")))
    log = file.opened(held, Path(tempfile.mkdtemp(prefix="golden-")))
    return corpus(log, len(held.streams))


def corpus(log: EventLog, partitions: int) -> Corpus:
    """A log that is signed as it stands."""
    control = history(log)
    log_id = required(fold(control).identity).log_id
    return Corpus(log, control, log_id, anchored(log, log_id, partitions), partitions)


def anchored(log: EventLog, log_id: str, partitions: int, seals: int = 10**9, events: int = 10**9) -> Anchor:
    """A checkpoint of the log's first seals and control events."""
    trees = [[merkle.leaf(e.payload) for e in entries(log, p, "seals")][:seals] for p in range(partitions)]
    control = [merkle.leaf(entry.payload) for entry in history(log)][:events]
    heads = [TreeHead(len(tree), merkle.root(tree)) for tree in (control, *trees)]
    return signed(log_id, State(SIGNED_MS, NOTHING, heads[0], tuple(heads[1:])))


def signed(log_id: str, state: State, private: Ed25519PrivateKey = PRIVATE) -> Anchor:
    """The first checkpoint of a log, with this state."""
    checkpoint = Checkpoint(log_id, 1, merkle.root([state.leaf]), state)
    return Anchor(checkpoint, notes.sign(checkpoint.text, origin_of(log_id), private))


def encoded(proof: Proof) -> bytes:
    """The canonical form."""
    return json.dumps(proof, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()


def changed(content: bytes, change: Callable[[Proof], object]) -> bytes:
    """The proof with a change, in canonical form; nothing else follows it."""
    proof = json.loads(content)
    change(proof)
    return encoded(proof)


def lied(content: bytes, change: Callable[[Proof], object]) -> bytes:
    """A proof that a notary signed who takes part in the lie: every hash and signature follows the change."""
    proof = json.loads(content)
    change(proof)
    _resealed(proof)
    text = proof["checkpoint"].partition("\n\n")[0] + "\n"
    checkpoint = parse(text)
    state = checkpoint.state
    partitions = list(state.partitions)
    seal = proof["seal"]
    partitions[proof["partition"]] = _head(seal["payload"], seal["sequence"] - 1, partitions[proof["partition"]], seal)
    state = state._replace(partitions=tuple(partitions))
    proof["checkpoint"] = signed(checkpoint.log_id, state).note.content.decode()
    return encoded(proof)


def _head(payload: str, index: int, head: TreeHead, held: Proof) -> TreeHead:
    path = [bytes.fromhex(each) for each in held["proof"]]
    root = merkle.root_from_inclusion(merkle.leaf(payload.encode()), index, head.size, path)
    assert root is not None
    return TreeHead(head.size, root)


def _resealed(proof: Proof) -> None:
    """Compute the seal again over a changed decision; the alert is left out if there was one and it can't follow."""
    seal = json.loads(proof["seal"]["payload"])
    size = sum(seal["counts"])
    payloads = (proof["transaction"].encode(), proof["score"].encode())
    root = _batch_root(proof["batch"], batch_tree.leaf("decision", proof["position"], *payloads), size)
    if "alert" in proof:
        alert = batch_tree.leaf("alert", proof["position"], proof["alert"]["payload"].encode())
        _join(proof["batch"], proof["alert"]["batch"], alert, size, payloads, proof["position"])
        root = _batch_root(proof["batch"], batch_tree.leaf("decision", proof["position"], *payloads), size)
    header = proof["seal"]["payload"].rpartition('"digest":"')[0] + '"digest":"'
    before = bytes.fromhex(proof["seal"]["previous"])
    digest = hashlib.sha256(before + root + header.encode() + b'"}').hexdigest()
    proof["seal"]["payload"] = f'{header}{digest}"}}'


def _path(entry: Proof) -> batch_tree.Path:
    return [([bytes.fromhex(x) for x in left], [bytes.fromhex(x) for x in right]) for left, right in entry["path"]]


def _batch_root(entry: Proof, hashed: bytes, size: int) -> bytes:
    root = batch_tree.root_of(hashed, entry["index"], size, _path(entry))
    assert root is not None
    return root


def _join(one: Proof, two: Proof, alert: bytes, size: int, payloads: tuple[bytes, ...], position: str) -> None:
    """Put the new hashes of the decision (one) and the alert (two) into each other's paths."""
    hashes = {one["index"]: batch_tree.leaf("decision", position, *payloads), two["index"]: alert}
    for mine, other in ((one, two), (two, one)):
        index, at, hashed = mine["index"], other["index"], hashes[other["index"]]
        for (left, right), (beside_left, beside_right) in zip(mine["path"], _path(other), strict=True):
            first = index - index % batch_tree.FAN
            if at - at % batch_tree.FAN == first:
                row, place = (left, at - first) if at < index else (right, at - index - 1)
                row[place] = hashed.hex()
                break
            hashed = hashlib.sha256(b"".join((b"\x01", *beside_left, hashed, *beside_right))).digest()
            index, at = index // batch_tree.FAN, at // batch_tree.FAN


def with_history(found: Corpus, place: DecisionPlace, change: Callable[[History], History]) -> bytes:
    """A proof of level 3 by somebody who changes the account's history first, so that everything else fits it."""
    honest = proof_history.history_of
    with mock.patch.object(proof_history, "history_of", lambda *arguments: change(honest(*arguments))):
        return found.proof(place, level=3)


def without(events: list[Any], number: int) -> list[Any]:
    """The events without one."""
    return [*events[:number], *events[number + 1 :]]


def earlier(score: TransactionScored) -> int:
    """How many payments of the account were counted before, as the score has it."""
    return int(packing.vector(score.features)[spec.index("transactions_total")])


def smallest(found: Corpus, wanted: Callable[[TransactionScored], bool] = lambda score: True) -> bytes:
    """The smallest proof of a decision that is wanted."""
    return min((found.proof(place) for place, score in found.decisions() if wanted(score)), key=len)


def blob(content: bytes) -> str:
    """A blob as a proof holds it."""
    return base64.b64encode(content).decode()


def vectors() -> dict[str, tuple[bytes, int, str, list[str]]]:
    """Proofs for other implementations: content, expected exit code, part of what is said, and options, by name."""
    found = golden()
    short = smallest(found, lambda score: score.degraded == "no_model")
    alerted = smallest(found, lambda score: score.model == "line-1.0.0" and score.decision == "decline")
    other = smallest(found, lambda score: score.model == "line-1.0.0" and score.decision == "approve")
    place, _ = list(found.decisions())[-1]
    whole = found.proof(place, whole_control=True)
    young = next(
        place
        for place, score in found.decisions()
        if earlier(score) == 5 and score.degraded == "no_model" and _feedback_before(found, place)
    )
    history = found.proof(young, level=3)
    early = anchored(found.log, found.log_id, found.partitions, seals=3, events=5)
    forged = signed(found.log_id, found.anchor.checkpoint.state, OTHER).note.content.decode()
    late = changed(
        found.proof(place), lambda proof: proof.update(checkpoint=early.note.content.decode(), control=[], blobs={})
    )

    def relabelled(proof: Proof) -> None:
        score = json.loads(proof["score"])
        proof["score"] = json.dumps({**score, "probability": 0.5}, separators=(",", ":"))

    def bit(content: bytes, part: bytes) -> bytes:
        at = content.index(part)
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

    return {
        "no-model": (short, 0, "", []),
        "linear-model-and-alert": (alerted, 0, "", []),
        "linear-model": (other, 0, "", []),
        "whole-control": (whole, 0, "", []),
        "refused-event-left-out": (
            changed(whole, lambda proof: proof["stream"]["payloads"].pop(40)),
            3,
            "under control position",
            [],
        ),
        "refused-event-exchanged": (
            changed(whole, lambda proof: proof["stream"]["payloads"].__setitem__(40, proof["stream"]["payloads"][41])),
            3,
            "not those of the control stream",
            [],
        ),
        "unanchored": (unanchored(found, place), 0, "", ["--unanchored", "--level", "1"]),
        "refused-unanchored": (unanchored(found, place), 3, "no signed checkpoint", ["--level", "1"]),
        "refused-white-space": (short.replace(b'"partition":', b'"partition": '), 3, "not written as proofs are", []),
        "refused-order": (short.replace(b'{"batch"', b'{"zzz":0,"batch"'), 3, "not written as proofs are", []),
        "refused-unknown-key": (changed(short, lambda proof: proof.update(note="")), 3, "must have the keys", []),
        "refused-amount": (bit(short, b'amount\\"'), 3, "does not cover this decision", []),
        "refused-neighbour": (
            changed(alerted, lambda proof: max(proof["batch"]["path"][0], key=len).__setitem__(0, "0" * 64)),
            3,
            "does not cover this decision",
            [],
        ),
        "refused-place": (changed(short, lambda proof: proof.update(position="1-999")), 3, "does not cover", []),
        "refused-partition": (
            changed(short, lambda proof: proof.update(partition=1 - proof["partition"])),
            3,
            "not in the tree of partition",
            [],
        ),
        "refused-seal": (
            changed(alerted, lambda proof: proof.update(seal=json.loads(short)["seal"])),
            3,
            "REFUSED",
            [],
        ),
        "refused-control-event": (
            changed(alerted, lambda proof: proof["control"][0].update(position=proof["control"][0]["position"] + 1)),
            3,
            "not in the control stream",
            [],
        ),
        "refused-blob": (
            changed(alerted, lambda proof: proof["blobs"].update({next(iter(proof["blobs"])): blob(b"{}")})),
            3,
            "other content",
            [],
        ),
        "refused-alert-left-out": (changed(alerted, lambda proof: proof.pop("alert")), 3, "raised an alert", []),
        "refused-older-checkpoint": (late, 3, "a later checkpoint is needed", []),
        "refused-other-notary": (
            changed(short, lambda proof: proof.update(checkpoint=forged)),
            3,
            "none of the given keys",
            [],
        ),
        "refused-signature": (
            changed(
                short,
                lambda proof: proof.update(checkpoint=proof["checkpoint"].replace("\nprevious e", "\nprevious f")),
            ),
            3,
            "does not match",
            [],
        ),
        "history": (history, 0, "level 3    features recomputed: from all 5 payments", []),
        "history-of-a-day": (found.proof(young, level=3, days=1), 0, "before them are not in the proof", []),
        "history-level-2": (history, 0, "level 2    score recomputed", ["--level", "2"]),
        "no-history": (short, 1, "level 3    NOT REACHED", ["--level", "3"]),
        "refused-history-payment-left-out": (
            with_history(found, young, lambda held: held._replace(payments=without(held.payments, 2))),
            3,
            "the history is not complete",
            [],
        ),
        "refused-history-feedback-left-out": (
            with_history(found, young, lambda held: held._replace(feedback=[])),
            3,
            "does not follow from the events before it",
            [],
        ),
        "refused-history-order": (
            changed(history, lambda proof: proof["history"]["payments"].reverse()),
            3,
            "not in the order of the log",
            [],
        ),
        "refused-history-amount": (bit(history, b'amount\\"'), 3, "does not cover the feedback of the history", []),
        "refused-history-seals": (
            changed(history, lambda proof: proof["history"]["proof"].reverse()),
            3,
            "not in the tree of partition",
            [],
        ),
        "refused-signed-lie": (lied(alerted, relabelled), 3, "probability", []),
    }


def _feedback_before(found: Corpus, place: DecisionPlace) -> bool:
    """Whether the account's features would be others without the feedback on it."""
    scores = [json.loads(found.proof(place, level=3))["history"]["payments"][-1]["score"]]
    return bool(packing.vector(decode_score(scores[0].encode()).features)[spec.index("fraud_verdicts")])


def unanchored(found: Corpus, place: DecisionPlace) -> bytes:
    """A proof without a checkpoint."""
    return prove(found.log, place, found.control, None)


def write_vectors() -> None:
    """Write verifier/vectors."""
    for path in VECTORS.glob("*.proof"):
        path.unlink()
    listed = []
    for name, (content, code, says, options) in vectors().items():
        (VECTORS / f"{name}.proof").write_bytes(content)
        listed.append({"file": f"{name}.proof", "options": options, "exit_code": code, "says": says})
    index = {"public_key": golden().key, "proofs": listed}
    (VECTORS / "vectors.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_vectors()
