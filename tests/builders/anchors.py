"""Notaries of logs in tests, and the outside world that anchors go to: a witness and a time stamping authority."""

from __future__ import annotations

import base64
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from console.anchoring.notary import Notary, Signed
from core import control_stream
from core.errors import SentinelError
from core.log import checkpoints, merkle, notes
from core.log.base import EventLog
from core.log.checkpoints import NOTHING, Checkpoint, State
from core.log.growth import Trees
from core.log.notes import PublicKey

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
NOW = 1_800_000_000_000


def public_key(log: EventLog, private: Ed25519PrivateKey = KEY) -> PublicKey:
    """The notary's public key for a log."""
    return notes.public_key(checkpoints.origin_of(control_stream.identity_of(log).log_id), private)


def checkpoint_of(log: EventLog, now_ms: int = NOW) -> Checkpoint:
    """A first checkpoint of the whole log."""
    identity = control_stream.identity_of(log)
    trees = Trees(identity.partitions)
    trees.advance(log)
    state = State(now_ms, NOTHING, *trees.heads)
    return Checkpoint(identity.log_id, 1, state.leaf, state)


@contextmanager
def notary_of(
    log: EventLog,
    directory: Path,
    private: Ed25519PrivateKey = KEY,
    archived: Callable[[], EventLog] | None = None,
) -> Iterator[Notary]:
    """A notary that is closed at the end."""
    notary = Notary(log, directory, private, archived)
    try:
        yield notary
    finally:
        notary.close()


def signed(notary: Notary, now_ms: int = NOW) -> Signed:
    """What the notary signs now; there must be something new."""
    found = notary.sign(now_ms)
    assert found is not None
    return found


class Witness:
    """A witness as C2SP's tlog-witness describes it, with one log. seen: the size and root that it cosigned last."""

    name = "witness.example/w1"

    def __init__(self, log_key: PublicKey) -> None:
        self.log_key = log_key
        self.key = notes.public_key(self.name, OTHER_KEY, notes.COSIGNATURE)
        self.seen = (0, merkle.EMPTY)
        self.requests: list[bytes] = []
        self.broken: int = 0
        """A status to answer instead."""
        self.url = ""

    def answer(self, body: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body for a request."""
        self.requests.append(body)
        if self.broken:
            return self.broken, "text/plain", b"broken"
        head, _, note = body.partition(b"\n\n")
        first, *lines = head.decode().split("\n")
        old, proof = int(first.removeprefix("old ")), [base64.b64decode(line) for line in lines]
        try:
            found, parsed = checkpoints.read(note, [self.log_key])
        except SentinelError:
            return 403, "text/plain", b"unknown key"
        if old != self.seen[0]:
            return 409, "text/x.tlog.size", b"%d\n" % self.seen[0]
        if not merkle.is_consistent(old, found.number, self.seen[1], found.root, proof):
            return 422, "text/plain", b"not consistent"
        self.seen = (found.number, found.root)
        return 200, "text/plain", notes.cosign(parsed.text, self.name, OTHER_KEY, NOW // 1000).line.encode()


@contextmanager
def serving(answer: Callable[[bytes], tuple[int, str, bytes]], path: str) -> Iterator[str]:
    """A server on loopback that answers POSTs to a path by `answer(body)`; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, kind, content = answer(body) if self.path == path else (404, "text/plain", b"")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def witness_of(log: EventLog) -> Iterator[Witness]:
    """A witness of the log, on loopback."""
    witness = Witness(public_key(log))
    with serving(witness.answer, "/add-checkpoint") as witness.url:
        yield witness


_CONFIG = """
[tsa]
default_tsa = local
[local]
serial = {0}/serial
signer_cert = {0}/tsa.pem
signer_key = {0}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
ess_cert_id_alg = sha256
[extensions]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
"""


class Tsa:
    """A time stamping authority by openssl. roots: its root certificate, a PEM file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.roots = directory / "root.pem"
        self.url = ""
        (directory / "tsa.cnf").write_text(_CONFIG.format(directory))
        (directory / "serial").write_text("01\n")
        self._openssl("req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 30 -subj /CN=root")
        self._openssl("req -newkey rsa:2048 -nodes -keyout tsa.key -out tsa.csr -subj /CN=tsa")
        self._openssl(
            "x509 -req -in tsa.csr -CA root.pem -CAkey root.key -set_serial 2 -days 30 -out tsa.pem -extfile tsa.cnf"
            " -extensions extensions"
        )

    def _openssl(self, arguments: str) -> None:
        subprocess.run(["openssl", *arguments.split()], cwd=self._directory, check=True, capture_output=True)

    def answer(self, body: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body for a request."""
        (self._directory / "request.tsq").write_bytes(body)
        self._openssl("ts -reply -config tsa.cnf -queryfile request.tsq -out reply.tsr")
        return 200, "application/timestamp-reply", (self._directory / "reply.tsr").read_bytes()


@contextmanager
def tsa_in(directory: Path) -> Iterator[Tsa]:
    """A time stamping authority on loopback, with its files in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    tsa = Tsa(directory)
    with serving(tsa.answer, "/") as tsa.url:
        yield tsa
