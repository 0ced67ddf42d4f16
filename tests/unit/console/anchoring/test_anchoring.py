"""Anchoring: each destination gets what is signed, whatever the others do, and nothing there is ever replaced."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from console.anchoring import timestamps
from console.anchoring.destinations import Attachment, Directory, Witness
from console.anchoring.notary import Signed
from console.anchoring.running import Anchoring
from console.anchoring.settings import anchor_settings
from console.anchoring.timestamps import Authority
from core import control_stream
from core.errors import BadInput, Corrupt, Unavailable
from core.identity import FIXED
from core.log import checkpoints, notes
from core.log.memory import MemoryLog
from tests.builders.anchors import NOW, Tsa, notary_of, public_key, serving, signed, tsa_in, witness_of
from tests.builders.batches import batch_after
from tests.builders.logs import filled


@pytest.fixture(scope="module")
def made() -> MemoryLog:
    return filled(5, 300)


@pytest.fixture
def log(made: MemoryLog) -> MemoryLog:
    return made.clone()


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> object:
    with tsa_in(tmp_path_factory.mktemp("tsa")) as authority:
        yield authority


class Failing:
    """A destination that is down."""

    name = "down"

    def deliver(self, signed: Signed, states: Sequence[bytes]) -> Attachment | None:
        raise Unavailable("no answer")


def grow(log: MemoryLog) -> None:
    log.append(0, batch_after(log.head(0)), log.head(0))


def held(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / FIXED.log_id).iterdir())


def test_a_round_reaches_every_destination(log: MemoryLog, tmp_path: Path, tsa: Tsa) -> None:
    """The checkpoint in both directories, with a witness's signature and a time stamp; recorded in the log."""
    one, two = Directory(str(tmp_path / "one")), Directory((tmp_path / "two").as_uri())
    with witness_of(log) as witness, notary_of(log, tmp_path / "state") as notary:
        others = [Witness(witness.url, witness.key), Authority("tsa", tsa.url)]
        anchoring = Anchoring(notary, [one, two], others)
        for number in (1, 2, 3):
            found = anchoring.round(NOW + number)
            assert (found.failed, len(found.delivered), found.is_new) == ({}, 4, True)
            assert found.signed is not None
            grow(log)
    endings = ("checkpoint", "tsa.tsr", "witness.example-w1.cosigned")
    expected = [f"{number:09d}.{ending}" for number in (1, 2, 3) for ending in endings]
    assert held(tmp_path / "one") == expected == held(tmp_path / "two")
    assert control_stream.current(log).checkpoint == 3
    content = (tmp_path / "one" / FIXED.log_id / expected[-1]).read_bytes()
    checkpoint, note = checkpoints.read(content, [public_key(log)])
    assert checkpoint == found.signed.checkpoint
    assert [each.time_s for each in notes.verify(note, [witness.key])] == [NOW // 1000]
    roots = timestamps.read_roots(tsa.roots)
    stamp = (tmp_path / "one" / FIXED.log_id / expected[-2]).read_bytes()
    assert abs(timestamps.stamped_at(stamp, checkpoint.text, roots) - tsa.roots.stat().st_mtime * 1000) < 600_000
    with pytest.raises(Corrupt, match="does not verify"):
        timestamps.stamped_at(stamp, checkpoint.text + "x", roots)
    with pytest.raises(Corrupt, match="does not verify"):
        timestamps.stamped_at(stamp[:-20], checkpoint.text, roots)


def test_what_fails_blocks_nothing_and_is_tried_again(log: MemoryLog, tmp_path: Path) -> None:
    """A witness that is down gets the newest checkpoint once it is back, with a proof from where it was."""
    directory = Directory(str(tmp_path / "one"))
    with witness_of(log) as witness, notary_of(log, tmp_path / "state") as notary:
        anchoring = Anchoring(notary, [directory], [Failing(), Witness(witness.url, witness.key)])
        assert anchoring.round(NOW).failed == {"down": "no answer"}
        witness.broken = 503
        for number in (1, 2):
            grow(log)
            found = anchoring.round(NOW + number)
            assert set(found.failed) == {"down", witness.url} and found.delivered == [directory.name]
        witness.broken = 0
        found = anchoring.round(NOW + 9)
        assert not found.is_new and found.delivered == [witness.url] and set(found.failed) == {"down"}
        assert witness.seen[0] == 3
    assert "000000003.witness.example-w1.cosigned" in held(tmp_path / "one")


def test_a_new_process_continues_with_a_witness(log: MemoryLog, tmp_path: Path) -> None:
    """Which says where it is; a checkpoint behind it is refused."""
    with witness_of(log) as witness, notary_of(log, tmp_path / "state") as notary:
        first = signed(notary)
        assert Witness(witness.url, witness.key).deliver(first, notary.states) is not None
        grow(log)
        second = signed(notary)
        assert Witness(witness.url, witness.key).deliver(second, notary.states) is not None
        assert len(witness.requests) == 3  # the last one twice: its first guess was 0
        with pytest.raises(Corrupt, match="it would go back"):
            Witness(witness.url, witness.key).deliver(first, notary.states)


@pytest.mark.parametrize(
    ("status", "headers", "body", "error"),
    [
        (409, "text/x.tlog.size", b"9" * 5_000, Corrupt),
        (409, "text/x.tlog.size", b"-1", Corrupt),
        (200, "text/plain\r\nContent-Encoding: gzip", b"no gzip", Unavailable),
        (200, "text/plain\r\nTransfer-Encoding: chunked", b"no chunks", Unavailable),
        (200, "text/plain", b"\xff", Corrupt),
        (200, "text/plain", b"", Unavailable),
    ],
)
def test_a_witness_that_answers_nonsense_has_failed(
    log: MemoryLog, tmp_path: Path, status: int, headers: str, body: bytes, error: type[Exception]
) -> None:
    """Whatever it sends, the directory has the checkpoint, and one line says what is wrong with the witness."""
    directory = Directory(str(tmp_path / "one"))
    with (
        serving(lambda _: (status, headers, body), "/add-checkpoint") as url,
        notary_of(log, tmp_path / "state") as notary,
    ):
        witness = Witness(url, public_key(log)._replace(kind=notes.COSIGNATURE))
        found = Anchoring(notary, [directory], [witness]).round(NOW)
        assert found.delivered == [directory.name] and set(found.failed) == {url}
        with pytest.raises(error):
            witness.deliver(signed(notary) if notary.newest is None else notary.newest, notary.states)


def test_a_witness_is_believed_with_its_key_only(log: MemoryLog, tmp_path: Path) -> None:
    """An answer by another key is no cosignature."""
    with witness_of(log) as witness, notary_of(log, tmp_path / "state") as notary:
        first = signed(notary)
        with pytest.raises(Unavailable, match="did not sign with the key"):
            Witness(witness.url, public_key(log)).deliver(first, notary.states)


def test_files_of_a_directory_are_created_once(log: MemoryLog, tmp_path: Path) -> None:
    """Read-only, whole, and never replaced; another checkpoint of the same number is an error."""
    directory = Directory(str(tmp_path / "one"))
    with notary_of(log, tmp_path / "state") as notary, notary_of(log, tmp_path / "other") as other:
        first = signed(notary)
        directory.deliver(first, notary.states)
        path = tmp_path / "one" / FIXED.log_id / "000000001.checkpoint"
        assert path.stat().st_mode & 0o777 == 0o444 and path.read_bytes() == first.note.content
        directory.deliver(first, notary.states)
        with pytest.raises(Corrupt, match="two notaries signed"):
            directory.deliver(signed(other, NOW + 1), other.states)
        assert path.read_bytes() == first.note.content
    assert held(tmp_path / "one") == ["000000001.checkpoint"]


def test_a_directory_that_can_not_be_written_is_said(log: MemoryLog, tmp_path: Path) -> None:
    """As Unavailable, and nothing is recorded in the log while no directory has the checkpoint."""
    (tmp_path / "one").write_text("a file")
    with notary_of(log, tmp_path / "state") as notary:
        anchoring = Anchoring(notary, [Directory(str(tmp_path / "one"))], [])
        assert "can't write" in next(iter(anchoring.round(NOW).failed.values()))
        assert control_stream.current(log).checkpoint == 0
        os.unlink(tmp_path / "one")
        assert anchoring.round(NOW).failed == {}
        assert control_stream.current(log).checkpoint == 1


def test_a_checkpoint_that_can_not_be_recorded_is_anchored(
    log: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notary without the right to append, or a full log server: said, and tried again in the next round."""
    with notary_of(log, tmp_path / "state") as notary:
        anchoring = Anchoring(notary, [Directory(str(tmp_path / "one"))], [])
        with monkeypatch.context() as patch:
            patch.setattr(log, "append_control", _refused)
            found = anchoring.round(NOW)
        assert found.failed == {"the control stream": "out of memory"} and held(tmp_path / "one")
        assert control_stream.current(log).checkpoint == 0
        assert anchoring.round(NOW + 1).failed == {}
        assert control_stream.current(log).checkpoint == 1


def _refused(payloads: Sequence[bytes], expected: int) -> int:
    raise Unavailable("out of memory")


def test_a_lost_state_is_taken_from_a_directory(log: MemoryLog, tmp_path: Path) -> None:
    """A notary on a new machine continues after the newest anchor."""
    directories = [Directory(str(tmp_path / "one")), Directory(str(tmp_path / "empty"))]
    with notary_of(log, tmp_path / "state") as notary:
        Anchoring(notary, directories[:1], []).round(NOW)
        grow(log)
        Anchoring(notary, directories[:1], []).round(NOW)
    with notary_of(log, tmp_path / "new") as notary:
        anchoring = Anchoring(notary, directories, [])
        anchoring.adopt(lambda text: None)
        grow(log)
        found = anchoring.round(NOW)
        assert found.signed is not None and found.signed.checkpoint.number == 3


def test_a_stamp_of_something_else_is_refused(log: MemoryLog, tmp_path: Path, tsa: Tsa) -> None:
    """An authority that answers with an old stamp, or with anything else."""
    with notary_of(log, tmp_path / "state") as notary:
        first = signed(notary)
        grow(log)
        attachment = Authority("tsa", tsa.url).deliver(signed(notary), notary.states)
        assert attachment is not None
        with serving(lambda body: (200, "", attachment.content), "/") as url, pytest.raises(Unavailable, match="else"):
            Authority("tsa", url).deliver(first, notary.states)
        with serving(lambda body: (200, "", b"<html>"), "/") as url, pytest.raises(Unavailable, match="no time stamp"):
            Authority("tsa", url).deliver(first, notary.states)


@pytest.mark.parametrize("url", ["http://example.com", "ftp://127.0.0.1", "https://", ""])
def test_destinations_on_the_network_need_tls(url: str) -> None:
    """Except on loopback."""
    with pytest.raises(BadInput):
        anchor_settings({"timestamps": [{"name": "tsa", "url": url}]})
    assert anchor_settings({"timestamps": [{"name": "tsa", "url": "http://127.0.0.1:1"}]}).timestamps
