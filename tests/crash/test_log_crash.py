"""The event log's server or writer is killed in the middle of appends: no half batch, no acknowledged one lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from console.stack import Valkey
from core.errors import Unavailable
from core.log.base import Head
from core.log.redis_streams import RedisLog, connect
from tests.builders.batches import batch_after, batches_of, contents, verify

PARTITIONS = (0, 1, 2)


class Writer(threading.Thread):
    """Appends to every partition until the server is gone, and remembers each head that was acknowledged."""

    def __init__(self, log: RedisLog) -> None:
        super().__init__()
        self.log = log
        self.acknowledged: dict[int, list[Head]] = {p: [log.head(p)] for p in PARTITIONS}
        self.errors: list[Exception] = []

    def run(self) -> None:
        heads = {p: acknowledged[-1] for p, acknowledged in self.acknowledged.items()}
        while not self.errors:
            batches = [(p, batch_after(heads[p], transactions=20, alerts=3), heads[p]) for p in PARTITIONS]
            for partition, result in zip(PARTITIONS, self.log.append_many(batches), strict=True):
                if isinstance(result, Exception):
                    self.errors.append(result)
                else:
                    heads[partition] = result
                    self.acknowledged[partition].append(result)


def test_a_killed_server_keeps_whole_batches_and_all_that_were_acknowledged(tmp_path: Path) -> None:
    """Valkey dies mid-append, six times on one directory: every chain holds, and every acknowledged seal is in it."""
    server = Valkey(tmp_path)
    with server:
        for round_number in range(6):
            log = connect(server.host, server.port, timeout_s=2.0)
            writer = Writer(log)
            writer.start()
            deadline = time.monotonic() + 10
            while len(writer.acknowledged[0]) < 15 + 7 * round_number and time.monotonic() < deadline:
                time.sleep(0.001)
            server.kill()
            writer.join()
            assert all(isinstance(error, Unavailable) for error in writer.errors)
            server.start()
            for partition in PARTITIONS:
                held = contents(log, partition)
                head = verify(held)
                assert head == log.head(partition)
                digests = {sequence: digest for sequence, (_, digest) in enumerate(batches_of(held), 1)}
                for acknowledged in writer.acknowledged[partition][1:]:
                    assert digests[acknowledged.sequence] == acknowledged.digest
                assert head.sequence - writer.acknowledged[partition][-1].sequence in (0, 1)
            log.close()


def _log_file(directory: Path) -> Path:
    (file,) = directory.glob("appendonlydir/*.incr.aof")
    return file


def _written(directory: Path, batches: int) -> list[int]:
    """Append batches to a new server and stop it. The append-only file's size after each."""
    sizes = []
    with Valkey(directory) as server:
        log = connect(server.host, server.port)
        head = Head()
        for _ in range(batches):
            head = log.append(0, batch_after(head, transactions=4), head)
            sizes.append(_log_file(directory).stat().st_size)
        log.close()
    return sizes


def test_a_torn_file_loses_whole_batches_only(tmp_path: Path) -> None:
    """However many bytes of the append-only file's tail are missing, the batches that are whole in it are there, and
    nothing of the next one.
    """
    sizes = _written(tmp_path / "written", batches=4)
    cuts = [*range(sizes[1], sizes[2], (sizes[2] - sizes[1]) // 25), *(sizes[3] - n for n in (1, 2, 14, 15, 16, 40))]
    for cut in cuts:
        copy = tmp_path / str(cut)
        shutil.copytree(tmp_path / "written", copy)
        os.truncate(_log_file(copy), cut)
        with Valkey(copy) as server:
            log = connect(server.host, server.port)
            head = verify(contents(log, 0))
            assert head == log.head(0)
            assert head.sequence == sum(size <= cut for size in sizes)
            assert log.append(0, batch_after(head), head).sequence == head.sequence + 1
            log.close()
        shutil.rmtree(copy)


def test_a_flipped_bit_in_the_file_is_found_by_the_seals(tmp_path: Path) -> None:
    """The server loads a damaged payload without a word; the chain does not verify."""
    _written(tmp_path, batches=3)
    file = _log_file(tmp_path)
    stored = bytearray(file.read_bytes())
    stored[stored.index(b'"scores":"a 1-6"') + 11] ^= 1
    file.write_bytes(stored)
    with Valkey(tmp_path) as server:
        log = connect(server.host, server.port)
        assert log.head(0).sequence == 3
        with pytest.raises(AssertionError, match="seal 2-1 does not match"):
            verify(contents(log, 0))
        log.close()


_WRITER = """
import sys
from core.log.redis_streams import connect
from tests.builders.batches import batch_after
log = connect("127.0.0.1", int(sys.argv[1]), prefix=sys.argv[2])
heads = {p: log.head(p) for p in range(6)}
print("ready", flush=True)
while True:
    done = log.append_many([(p, batch_after(heads[p], transactions=200), heads[p]) for p in heads])
    heads = dict(enumerate(done))
"""


def test_a_killed_writer_leaves_whole_batches(redis_log: RedisLog, redis_prefix: str, valkey_server: Valkey) -> None:
    """A writer killed while it sends leaves no partial batch in any partition, and the next writer goes on."""
    for delay in (0.03, 0.051, 0.077):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(valkey_server.port), redis_prefix], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        for partition in range(6):
            head = verify(contents(redis_log, partition))
            assert head == redis_log.head(partition)
            assert redis_log.append(partition, batch_after(head), head).sequence == head.sequence + 1
    assert redis_log.head(0).sequence > 3
