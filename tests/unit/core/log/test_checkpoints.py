"""Checkpoints: their exact text, and that none can go back behind another."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.errors import Corrupt
from core.log import checkpoints, merkle, notes
from core.log.checkpoints import NOTHING, Checkpoint, State, TreeHead

LOG = "1d" * 16
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
ROOTS = [merkle.leaf(b"%d" % n) for n in range(9)]
FIRST_STATE = State(1_700_000_000_123, NOTHING, TreeHead(7, ROOTS[0]), (TreeHead(3, ROOTS[1]), TreeHead()))
FIRST = Checkpoint(LOG, 1, FIRST_STATE.leaf, FIRST_STATE)


def following(before: Checkpoint, **changes: object) -> Checkpoint:
    """The checkpoint after one, with another state."""
    state = before.state._replace(previous=before.digest, time_ms=before.state.time_ms + 60_000)._replace(**changes)  # type: ignore[arg-type]
    return Checkpoint(LOG, before.number + 1, merkle.root([before.state.leaf, state.leaf]), state)


def test_the_text_is_the_documented_one() -> None:
    """Origin, size and root of the tree of states, then the state, line by line; the leaf is over its lines."""
    root, control, partition, empty = (
        base64.b64encode(each).decode() for each in (FIRST.root, ROOTS[0], ROOTS[1], merkle.EMPTY)
    )
    state = (
        f"time 2023-11-14T22:13:20.123Z\nprevious {NOTHING}\ncontrol 7 {control}\n"
        f"partition 0 3 {partition}\npartition 1 0 {empty}\n"
    )
    assert FIRST.text == f"stream-sentinel/{LOG}\n1\n{root}\n{state}"
    assert FIRST.root == merkle.leaf(state.encode())
    assert checkpoints.parse(FIRST.text) == FIRST


def test_a_signed_checkpoint_is_read_with_its_key_only() -> None:
    """Another key, and no key, are refused."""
    note = notes.sign(FIRST.text, checkpoints.origin_of(LOG), PRIVATE)
    assert checkpoints.read(note.content, [notes.public_key(note.signatures[0].name, PRIVATE)]) == (FIRST, note)
    for keys in ([], [notes.public_key(note.signatures[0].name, OTHER)]):
        with pytest.raises(Corrupt, match="not signed by any"):
            checkpoints.read(note.content, keys)


def test_a_witness_alone_does_not_make_a_checkpoint() -> None:
    """A cosignature says that somebody saw the text, not that the notary signed it."""
    signature = notes.cosign(FIRST.text, "witness", OTHER, 1_700_000_000)
    key = notes.public_key("witness", OTHER, notes.COSIGNATURE)
    with pytest.raises(Corrupt, match="not signed by any"):
        checkpoints.read(notes.Note(FIRST.text, (signature,)).content, [key])


LINES = FIRST.text.split("\n")
WRONG = {
    "no lines": "\n",
    "another origin": FIRST.text.replace("stream-sentinel/", "other/"),
    "number 0": FIRST.text.replace("\n1\n", "\n0\n"),
    "a number spelled otherwise": FIRST.text.replace("\n1\n", "\n01\n"),
    "a root that is no hash": FIRST.text.replace(LINES[2], "AAAA"),
    "a time spelled otherwise": FIRST.text.replace(".123Z", ".1230Z"),
    "no time": FIRST.text.replace(LINES[3] + "\n", ""),
    "a previous that is no hash": FIRST.text.replace(NOTHING, NOTHING[1:]),
    "a negative size": FIRST.text.replace("control 7", "control -7"),
    "a partition left out": FIRST.text.replace(LINES[6] + "\n", ""),
    "partitions in another order": "\n".join([*LINES[:6], LINES[7], LINES[6], ""]),
    "a root of 31 bytes": FIRST.text.replace(LINES[6], "partition 0 3 " + base64.b64encode(ROOTS[1][1:]).decode()),
    "a line more": FIRST.text + "and more\n",
    "no last newline": FIRST.text[:-1],
}


@pytest.mark.parametrize("what", WRONG)
def test_other_texts_are_corrupt(what: str) -> None:
    """A checkpoint has one spelling."""
    assert WRONG[what] != FIRST.text
    with pytest.raises(Corrupt):
        checkpoints.parse(WRONG[what])


def test_checkpoints_that_continue() -> None:
    """Growth anywhere, and the same checkpoint again."""
    second = following(FIRST, control=TreeHead(8, ROOTS[3]), partitions=(TreeHead(3, ROOTS[1]), TreeHead(2, ROOTS[4])))
    assert checkpoints.backwards(FIRST, second) == ""
    assert checkpoints.backwards(FIRST, FIRST) == ""
    assert checkpoints.backwards(FIRST, following(second)) == ""


BACK = {
    "control stream had 7": following(FIRST, control=TreeHead(6, ROOTS[5])),
    "control stream has other content": following(FIRST, control=TreeHead(7, ROOTS[5])),
    "partition 0 had 3 leaves": following(FIRST, partitions=(TreeHead(2, ROOTS[1]), TreeHead())),
    "partition 0 has other content": following(FIRST, partitions=(TreeHead(3, ROOTS[2]), TreeHead())),
    "fewer partitions": following(FIRST, partitions=(TreeHead(3, ROOTS[1]),)),
    "earlier": following(FIRST, time_ms=0),
    "does not name checkpoint 1": following(FIRST, previous=NOTHING),
    "two different checkpoints 1": FIRST._replace(root=ROOTS[8]),
    "goes back behind": FIRST._replace(number=0),
    "of log": following(FIRST)._replace(log_id="other"),
}


@pytest.mark.parametrize("what", BACK)
def test_checkpoints_that_go_back_are_found(what: str) -> None:
    """A smaller tree, other content at one size, an earlier time, another predecessor, another log."""
    assert what in checkpoints.backwards(FIRST, BACK[what])
