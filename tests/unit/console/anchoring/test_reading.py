"""What `sentinel verify` makes of anchors: faults of single files, contradictions between them, and who else signed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from console.anchoring import timestamps
from console.anchoring.destinations import Directory, Witness
from console.anchoring.reading import anchors_of, log_of, parse_keys, read_anchors, read_progress, write_progress
from console.anchoring.running import Anchoring
from console.anchoring.timestamps import Authority
from console.commands.verify import run
from core.errors import BadInput
from core.identity import FIXED
from core.log import checkpoints, merkle, notes
from core.log.anchored import Anchors
from core.log.checkpoints import Checkpoint
from core.log.growth import Place, upto
from core.log.memory import MemoryLog
from core.log.notes import PublicKey
from core.settings import Settings
from tests.builders.anchors import KEY, NOW, OTHER_KEY, notary_of, public_key, tsa_in, witness_of
from tests.builders.batches import batch_after
from tests.builders.forging import control_changed
from tests.builders.logs import filled

SETTINGS = Settings(log_prefix="ss", snapshot_directory="/nonexistent")


class Made(NamedTuple):
    """A log with three checkpoints, cosigned and time-stamped; witness: its key; roots: the authority's, a PEM file."""

    log: MemoryLog
    directory: Path
    witness: PublicKey
    roots: Path

    @property
    def files(self) -> Path:
        return self.directory / FIXED.log_id

    def checkpoint(self, number: int) -> Checkpoint:
        return checkpoints.read((self.files / f"{number:09d}.checkpoint").read_bytes(), [public_key(self.log)])[0]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder, log = tmp_path_factory.mktemp("anchors"), filled(5, 300)
    with witness_of(log) as witness, tsa_in(folder / "tsa") as tsa, notary_of(log, folder / "state") as notary:
        others = [Witness(witness.url, witness.key), Authority("tsa", tsa.url)]
        anchoring = Anchoring(notary, [Directory(str(folder / "worm"))], others)
        for number in range(3):
            log.append(1, batch_after(log.head(1)), log.head(1))
            assert anchoring.round(NOW + 60_000 * number).failed == {}
        yield Made(log, folder / "worm", witness.key, tsa.roots)


@pytest.fixture
def made(original: Made, tmp_path: Path) -> Made:
    """A copy that a test may change."""
    copy = tmp_path / "worm" / FIXED.log_id
    copy.mkdir(parents=True)
    for path in original.files.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return original._replace(log=original.log.clone(), directory=copy.parent)


def faults(made: Made, *others: Path) -> list[str]:
    read = read_anchors([str(made.directory), *map(str, others)], [public_key(made.log), made.witness], [])
    return run(SETTINGS, made.log, None, anchors=anchors_of(read, None), read=read).faults


def test_what_others_signed_is_told(made: Made) -> None:
    """The newest cosignature of each witness, and the newest time stamp, if their keys and roots are given."""
    keys, roots = [public_key(made.log), made.witness], timestamps.read_roots(made.roots)
    read = read_anchors([str(made.directory)], keys, roots)
    assert (read.faults, read.files, len(read.checkpoints)) == ([], 3, 3)
    assert read.cosigned == {made.witness.name: (3, NOW)}
    assert read.stamped is not None and read.stamped[0] == 3
    without = read_anchors([str(made.directory)], keys[:1], [])
    assert (without.faults, without.cosigned, without.stamped) == ([], {}, None)
    assert faults(made) == []
    assert [each.number for each in read_anchors([str(made.directory)], keys, roots, begin=2).checkpoints] == [2, 3]


def test_a_changed_anchor_is_a_fault_and_hides_no_other(made: Made) -> None:
    """One file is spoiled; the log is still compared with the others."""
    path = made.files / "000000002.checkpoint"
    path.write_bytes(path.read_bytes().replace(b"control ", b"control 1"))
    (named,) = faults(made)
    assert named.startswith(f"anchor {path}: ")
    made.log.truncate(1, made.log.head(1).sequence - 1)
    assert any("the tail is missing: checkpoint 3" in fault for fault in faults(made))


def test_an_anchor_under_another_number_is_a_fault(made: Made) -> None:
    """An older checkpoint can't pass for the newest."""
    (made.files / "000000004.checkpoint").write_bytes((made.files / "000000001.checkpoint").read_bytes())
    assert "holds checkpoint 1 of log" in faults(made)[0]


def test_a_changed_stamp_and_one_of_nothing_are_faults(made: Made) -> None:
    """Each by its file."""
    os.rename(made.files / "000000001.tsa.tsr", made.files / "000000002.tsa.tsr")
    (made.files / "000000009.tsa.tsr").write_bytes((made.files / "000000003.tsa.tsr").read_bytes())
    read = read_anchors([str(made.directory)], [public_key(made.log)], timestamps.read_roots(made.roots))
    assert ["does not verify" in read.faults[0], "is missing" in read.faults[1], len(read.faults)] == [True, True, 2]


def test_two_checkpoints_with_one_number_are_a_fault(made: Made, tmp_path: Path) -> None:
    """The notary signed twice: somebody has the key, or it was run twice."""
    second = made.checkpoint(3)
    state = second.state._replace(time_ms=second.state.time_ms + 1)
    _write(tmp_path / "two", second._replace(state=state, root=merkle.leaf(b"x")))
    assert any("two different checkpoints 3" in fault for fault in faults(made, tmp_path / "two"))


def _write(directory: Path, checkpoint: Checkpoint) -> None:
    (directory / FIXED.log_id).mkdir(parents=True, exist_ok=True)
    note = notes.sign(checkpoint.text, checkpoints.origin_of(checkpoint.log_id), KEY)
    (directory / FIXED.log_id / f"{checkpoint.number:09d}.checkpoint").write_bytes(note.content)


def test_a_signed_root_that_the_log_never_had_is_a_fault(made: Made, tmp_path: Path) -> None:
    """Even one between two that fit, signed with the right key."""
    (made.files / "000000002.checkpoint").unlink()
    (made.files / "000000002.witness.example-w1.cosigned").unlink()
    true = made.checkpoint(1).state
    partitions = (true.partitions[0], true.partitions[1]._replace(root=merkle.leaf(b"x")), *true.partitions[2:])
    state = true._replace(previous=made.checkpoint(1).digest, partitions=partitions)
    root = merkle.root([true.leaf, state.leaf])
    _write(made.directory, Checkpoint(FIXED.log_id, 2, root, state))
    assert any("has other content at the same size" in fault for fault in faults(made))


def test_a_tree_of_states_that_does_not_continue_is_a_fault(made: Made) -> None:
    """The newest checkpoint's root must be over the states of those before it."""
    newest = made.checkpoint(3)
    wrong = newest._replace(root=merkle.root([merkle.leaf(b"a"), merkle.leaf(b"b"), newest.state.leaf]))
    anchors = Anchors([made.checkpoint(1), made.checkpoint(2), wrong])
    assert "does not continue the checkpoints before it" in anchors.contradictions({})
    assert Anchors([made.checkpoint(n) for n in (1, 2, 3)]).contradictions({}) == ""
    states = {2: made.checkpoint(2).state.leaf}
    assert Anchors([made.checkpoint(1), newest]).contradictions(states) == ""
    assert "does not continue" in Anchors([made.checkpoint(1), wrong]).contradictions(states)


def test_another_log_under_this_name_is_a_fault(made: Made) -> None:
    """The keys say which log it must be."""
    other = control_changed(made.log, 1, lambda event: msgspec.structs.replace(event, log_id="1d" * 16))
    read = read_anchors([str(made.directory)], [public_key(made.log)], [])
    found = run(SETTINGS, other, None, anchors=anchors_of(read, None), read=read).faults
    assert f"control stream: this is log {'1d' * 16}, the anchors are of {FIXED.log_id}" in found


def test_an_emptied_log_is_a_fault(made: Made) -> None:
    """Nothing is left, and the anchors say what was there."""
    empty = MemoryLog()
    read = read_anchors([str(made.directory)], [public_key(made.log)], [])
    found = run(SETTINGS, empty, None, anchors=anchors_of(read, None), read=read).faults
    assert any("the tail is missing" in fault for fault in found)


def test_progress_is_not_believed(made: Made, tmp_path: Path) -> None:
    """It must be signed by the notary, and its trees must have the signed roots."""
    path, keys = tmp_path / "progress", [public_key(made.log)]
    assert read_progress(path, keys) is None
    checkpoint = made.checkpoint(2)
    note = notes.sign(checkpoint.text, keys[0].name, KEY)
    trees = upto(made.log, checkpoint)
    places = trees.control.place, tuple(grown.place for grown in trees.partitions)
    write_progress(path, note, places)
    assert path.stat().st_mode & 0o777 == 0o600
    read = read_progress(path, keys)
    assert read is not None and read[0] == checkpoint and read[2].fits(checkpoint)
    write_progress(path, notes.sign(checkpoint.text, keys[0].name, OTHER_KEY), places)
    with pytest.raises(BadInput, match="not signed by any"):
        read_progress(path, keys)
    write_progress(path, note, (places[0], (Place(), *places[1][1:])))
    with pytest.raises(BadInput, match="delete it"):
        read_progress(path, keys)
    path.write_bytes(b"{}")
    with pytest.raises(BadInput, match="delete it"):
        read_progress(path, keys)


def test_progress_that_the_anchors_contradict_is_a_fault(made: Made) -> None:
    """What was verified before is another checkpoint than the one in the directory."""
    true = made.checkpoint(2)
    other = true._replace(root=merkle.leaf(b"x"))
    note = notes.sign(other.text, public_key(made.log).name, KEY)
    read = read_anchors([str(made.directory)], [public_key(made.log)], [])
    anchors_of(read, (other, note, upto(made.log, true)))
    assert read.faults == ["anchors: checkpoint 2 is not the one that was verified before"]


def test_keys_name_one_log(made: Made, tmp_path: Path) -> None:
    """From text or files; those of two logs, of witnesses alone, and of something else are refused."""
    key = public_key(made.log)
    (tmp_path / "keys").write_text(f"{key.text}\n{made.witness.text}\n")
    assert parse_keys([str(tmp_path / "keys")]) == [key, made.witness] == parse_keys([key.text, made.witness.text])
    assert log_of([key, made.witness]) == FIXED.log_id
    for keys in ([], [made.witness], [key, key._replace(name="stream-sentinel/2")], [key._replace(name="x")]):
        with pytest.raises(BadInput, match="one log's notary"):
            log_of(keys)
