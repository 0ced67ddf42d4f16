"""What reads files, settings, texts and stored objects, each as a `Surface`: valid samples, and one call that reads.

`SURFACES` takes a folder for the files. A feed returns or raises SentinelError; anything else is a fault.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from console import identity_keys, wiring
from console.anchoring import keys as notary_keys
from console.anchoring.reading import parse_keys, read_anchors, read_progress, write_progress
from console.anchoring.timestamps import read_roots, stamped_at
from console.api import cursors, users
from console.api.users import UserFile
from console.commands.lists import read_lines
from console.commands.rates import read_rates
from core import codec, control_stream, replay, settings
from core.features.reference import COLUMNS, ReferenceTable
from core.identity import FIXED
from core.log import checkpoints, notes
from core.log.archive import archiver, manifest
from core.log.archive.archive import open_archive
from core.log.archive.manifest import DECISIONS, EVENTS
from core.log.archive.segment import Segment
from core.log.base import START, STREAMS
from core.log.checkpoints import origin_of
from core.log.growth import upto
from core.log.memory import MemoryLog
from core.program import document, document_reading, loading, parsing
from ingest.snapshots import SnapshotStore
from ingest.submission import Rejected, Tally, submit, submit_events
from models import artifacts
from projections.engine import as_of
from projections.engine.base import Place
from projections.engine.checkpoints import CheckpointStore
from projections.engine.runner import Runner
from projections.views.cases import CASES
from sources.datasets import DatasetSource, mapping
from sources.datasets.detect import toml_text
from sources.datasets.detect.propose import propose
from sources.datasets.detect.questions import Answers
from sources.datasets.layout import Layout
from sources.feedback_files import read_rows
from tests.builders.artifacts import ARTIFACTS, NAMES, rows
from tests.builders.hostile import Surface
from tests.builders.logs import PARTITIONS, filled
from tests.builders.program_texts import ONE
from tests.builders.public_files import PUBLIC
from tests.builders.spreadsheets import write_xlsx

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
Feed = Callable[[bytes], object]
MAPPING = b"""[columns]
account_id = "acct"
amount = "amt"
merchant_id = "shop"
transaction_id = "id"
[attributes]
city = "city"
[numbers]
decimal = "."
[time]
column = "when"
zone = "Europe/Berlin"
[label]
column = "fraud"
fraud = ["1"]
legitimate = ["0"]
"""
TABLE = [
    ["id", "acct", "amt", "shop", "when", "fraud", "city"],
    *([f"t{n}", f"a{n % 3}", f"{n}.50", "Café", f"2026-01-05 10:{n:02}", str(int(n == 4)), "X"] for n in range(12)),
]
SETTINGS = b"""kafka_servers = "a:9092,b:9092"
redis_port = 6379
log_prefix = "ss"
partitions = 8
fraud_threshold = 0.8
card_free_fields = ["merchant_id"]
base_currency = "EUR"
log_level = "info"
[kafka]
"socket.timeout.ms" = 1000
[learn]
labels_min = 500
[cases]
[responders.channels.desk]
kind = "webhook"
url = "https://desk.example/hook"
secret_env = "DESK"
[[responders.routes]]
queue = "big"
severity = ["high"]
amount_min = 500.0
[anchors]
directories = ["/var/anchors"]
[oidc]
issuer = "https://login.example"
client_id = "sentinel"
public_url = "https://console.example"
roles = { fraud = ["analyst"] }
"""
VERDICTS = b"""transaction_id,account_id,verdict,source,occurred_at,confidence,amount
t1,a1,fraud,chargeback,2026-01-05T10:00:00Z,1,12.5
t2,a2,legitimate,analyst,1767607200000,0.5,3
"""
EXPRESSIONS = (
    "declines > 3.0 && amount >= 100.0 && !(merchant_id in ['m1', 'm2'])",
    "hour_of_day >= 22.0 ? amount / 2.0 > 5.0 : -amount < -5.0 || merchant_id == 'x'",
    "min(amount, declines) + abs(amount - 2.0) * 3.0 < 2.0e3",
)


def table(kind: str) -> bytes:
    """TABLE as a file of this kind."""
    lines = "\n".join(",".join(row) for row in TABLE).encode() + b"\n"
    if kind == "jsonl":
        return b"\n".join(json.dumps(dict(zip(TABLE[0], row, strict=True))).encode() for row in TABLE[1:])
    if kind == "json":
        return json.dumps([dict(zip(TABLE[0], row, strict=True)) for row in TABLE[1:]]).encode()
    if kind == "gz":
        return gzip.compress(lines, mtime=0)
    if kind in ("zip", "parquet"):
        out = io.BytesIO()
        if kind == "zip":
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("d.csv", lines)
        else:
            pq.write_table(pa.table({name: [r[n] for r in TABLE[1:]] for n, name in enumerate(TABLE[0])}), out)
        return out.getvalue()
    return lines


@cache
def log() -> MemoryLog:
    """A log with decisions, feedback, rejects and control events."""
    return filled(3, 600)


def file_of(folder: Path, name: str, read: Callable[[Path], object]) -> Feed:
    """Writes the content into a file of its owner's, and reads that."""
    path = folder / name

    def feed(content: bytes) -> object:
        path.write_bytes(content)
        path.chmod(0o600)
        return read(path)

    return feed


def text_of(read: Callable[[str], object]) -> Feed:
    """Reads the content as a parameter would hold it: any text."""
    return lambda content: read(content.decode("utf-8", "replace"))


def model(content: bytes) -> None:
    """Load a model, and score and explain rows."""
    digest = hashlib.sha256(content).hexdigest()
    scorer: Any = artifacts.load_scorer(content, version="h-1.0.0", expected_digest=digest, spec=3, columns=NAMES)
    scorer.margins(rows(5))
    scorer.contributions(rows(1)[0])


def blob(content: bytes) -> None:
    """Load a program's blob as a worker does."""
    digest = hashlib.sha256(content).hexdigest()
    loading.load(digest, lambda _: content)


def dataset(layout: Layout, path: Path) -> None:
    """Read all of a file of payments."""
    for each in DatasetSource(layout, path, bad_rows="reject").tables():
        each.rows()


def proposed(path: Path) -> None:
    """Propose a mapping for a file, write it, and read it again."""
    found = propose(path, Answers(zone="UTC", fraud=("1",), legitimate=("0",)), "own")
    mapping.parse(toml_text.text(found, path.name), "own")


def verdicts(path: Path) -> None:
    """Check a file of verdicts."""
    given = {"source": "chargeback", "verdict": "fraud"}
    list(submit(read_rows(path), given, 1_767_700_000_000, None, Tally(), rejected))


def events(content: bytes) -> None:
    """Check lines of verdict events."""
    lines = enumerate(content.split(b"\n"), 1)
    list(submit_events(lines, 1_767_700_000_000, Tally(), rejected))


def rejected(row: Rejected) -> None:
    """As a rejects file holds it."""
    json.dumps(row.values, default=str)


def environment(content: bytes) -> None:
    """Each line is a variable."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    pairs = (line.partition("=") for line in lines)
    settings.load({name.strip(): value.replace("\0", "") for name, _, value in pairs if name.strip()})


def settings_file(path: Path) -> None:
    """All that checks settings before anything is reached."""
    wiring.settings(path)


def sections(folder: Path) -> tuple[bytes, bytes]:
    """The two files of a segment."""
    archive = open_archive(str(folder / "archive"))
    archiver.archive_partition(log(), archive, 0, recorded_until=2**62, segment_transactions=100)
    row = archive.rows(0)[0]
    decisions, others = (
        next((folder / "archive" / file.name).read_bytes() for file in row.files if file.name.endswith(ending))
        for ending in (DECISIONS, EVENTS)
    )
    return decisions, others


def segment(decisions: bytes, others: bytes) -> None:
    """Read all of a segment in every way."""
    found = Segment(decisions, others)
    for stream in STREAMS:
        for entry in found.read(stream, START, 10_000)[:3]:
            found.get(stream, entry.id)
    found.table(["account_id", "amount", "occurred_at"])
    list(found.groups(["account_id", "amount"], START, log().head(0).transactions))


def snapshot(folder: Path) -> tuple[bytes, Feed]:
    """A snapshot, and its reading by a worker that starts."""
    store, identity = SnapshotStore(folder, "t"), control_stream.identity_of(log())
    path, end = folder / "t-p00.snapshot", log().head(0)
    store.save(0, end, replay.rebuild(log(), 0, end, identity))

    def read(_: Path) -> None:
        store.heads(1)
        store.forgotten(identity)
        store.load(0, log(), end, identity)

    return path.read_bytes(), file_of(folder, path.name, read)


def checkpoint(folder: Path) -> tuple[bytes, Feed]:
    """A projection's checkpoint, and its reading."""
    store = CheckpointStore(folder, "t")
    runner = Runner(log(), range(PARTITIONS), [CASES], store)
    runner.catch_up()
    runner.checkpoint()
    path = store.path(CASES)
    return path.read_bytes(), file_of(
        folder, path.name, lambda _: [CheckpointStore(folder, "t").load(CASES, log(), p, Place(10**9)) for p in (0, 1)]
    )


def user_file(folder: Path) -> bytes:
    """A file of users."""
    held = UserFile(folder / "made.json")
    users.add(held, "ann", ["analyst"], 5)
    users.new_token(held, "ann", 5, days=1)
    return held.path.read_bytes()


def read_users(path: Path) -> None:
    """Read the users, and use what was read as the API does."""
    for user in UserFile(path).load().users.values():
        users.verify(user.password, "secret")
        for token in user.tokens:
            users.verify(token.hash, "secret")


def entry(content: bytes) -> None:
    """Decode a log entry of every kind."""
    for name in dir(codec):
        if name.startswith("decode_"):
            try:
                getattr(codec, name)(content)
            except codec.Corrupt:
                continue


def control(content: bytes) -> None:
    """Fold a control stream with one hostile event at its end."""
    copied = log().clone()
    copied.append_control([content], copied.control_head())
    control_stream.fold(control_stream.history(copied))


def signed_checkpoint() -> bytes:
    """A checkpoint as the notary signs it."""
    from tests.builders.proofs import anchored

    return anchored(log(), FIXED.log_id, PARTITIONS).note.content


def progress(folder: Path) -> bytes:
    """The file of `sentinel verify --incremental`."""
    checkpoint, note = checkpoints.read(signed_checkpoint(), [public_key()])
    trees = upto(log(), checkpoint)
    places = trees.places
    write_progress(folder / "made.progress", note, (places.control, places.partitions))
    return (folder / "made.progress").read_bytes()


def public_key() -> notes.PublicKey:
    """Of the log's notary."""
    return notes.public_key(origin_of(FIXED.log_id), KEY)


def anchors(folder: Path) -> Feed:
    """A directory of anchors that holds the content."""
    place = folder / "anchors" / FIXED.log_id
    place.mkdir(parents=True)

    def feed(content: bytes) -> None:
        (place / "000000001.checkpoint").write_bytes(content)
        read_anchors([str(folder / "anchors")], [public_key()], [])

    return feed


def proof(content: bytes) -> None:
    """Verify a proof; the verifier answers, whatever it is given."""
    from sentinel_verify import cli
    from sentinel_verify.checkpoint import Key

    from tests.builders.proofs import golden

    cli.text(cli.verify(content, [Key.parse(golden().key)]))


def proofs() -> list[bytes]:
    """Proofs of the golden log."""
    from tests.builders.proofs import VECTORS

    return [
        (VECTORS / f"{name}.proof").read_bytes() for name in ("no-model", "linear-model-and-alert", "whole-control")
    ]


def resolve(text: str) -> None:
    """--as-of, and times by themselves."""
    as_of.parse_time(text)
    as_of.resolve(log(), range(PARTITIONS), text)


def cursor(text: str) -> None:
    """A cursor of every kind."""
    cursors.decode(text, cursors.DecisionCursor)


def surfaces(folder: Path) -> dict[str, Surface]:
    """Every surface by name, with its files in the folder."""
    for name in ("snapshots", "checkpoints", "made"):
        (folder / name).mkdir()
    layout = mapping.parse(MAPPING.decode(), "own")
    found: list[Surface] = []

    def add(name: str, samples: Callable[[], list[bytes]] | list[bytes], feed: Feed, structured: bool = False) -> None:
        made = samples if callable(samples) else lambda: samples
        found.append(Surface(name, cache(made), feed, structured))

    for kind, build in ARTIFACTS.items():
        if kind != "rules_only":
            add(f"model {kind}", lambda build=build: [build()], model, kind in ("xgboost", "catboost", "linear"))  # type: ignore[misc]
    shipped = Path(document.__file__).with_name("standard.toml").read_bytes()
    add("program TOML", [ONE.encode()], loading.check)
    add("library TOML", [shipped], lambda content: document_reading.read(content, lambda _: ""))
    add("program text", [each.encode() for each in EXPRESSIONS], text_of(parsing.parse))
    add(
        "program expression",
        [each.encode() for each in EXPRESSIONS],
        text_of(lambda text: loading.check(ONE.replace("declines > 3", json.dumps(text)[1:-1]).encode())),
    )
    canonical = document.canonical(loading.default().program)
    add("program blob", [canonical, document.canonical(loading.check(ONE.encode()).program)], blob, True)
    add("mapping", [MAPPING], file_of(folder, "m.toml", mapping.load))
    for kind in ("csv", "jsonl", "json", "gz", "zip", "parquet", "xlsx"):
        sample = write_xlsx(folder / "made.xlsx", TABLE).read_bytes() if kind == "xlsx" else table(kind)
        name = f"d.{'csv.gz' if kind == 'gz' else kind}"
        add(f"payments {kind}", [sample], file_of(folder, name, partial(dataset, layout)), kind == "json")
        others = [text.encode() for _, text, _ in PUBLIC.values()] if kind == "csv" else []
        add(f"proposal {kind}", [sample, *others], file_of(folder, f"p.{name}", proposed), kind == "json")
    add("settings", [SETTINGS], file_of(folder, "s.toml", settings_file))
    variables = (
        b"SENTINEL_REDIS_PORT=6379\nSENTINEL_FRAUD_THRESHOLD=0.5\nSENTINEL_LOG_PREFIX=ss\nSENTINEL_KAFKA_TLS=true"
    )
    add("environment", [variables], environment)
    archive = _made(folder)
    add("manifest", lambda: [archive()[0]], lambda content: manifest.decode(content, 0), True)
    add("segment decisions", lambda: [archive()[1]], lambda content: segment(content, archive()[2]))
    add("segment events", lambda: [archive()[2]], lambda content: segment(archive()[1], content))
    held, read = snapshot(folder / "snapshots")
    add("snapshot", [held], read)
    held, read = checkpoint(folder / "checkpoints")
    add("checkpoint", [held], read)
    add("reference table", [reference_table()], ReferenceTable.from_bytes)
    add("users", [user_file(folder)], file_of(folder, "users.json", read_users), True)
    add(
        "identity key",
        [key_file(folder)],
        file_of(folder, "ann.key", lambda path: identity_keys.read(path, {})),
    )
    notary_keys.create(folder / "notary.key")
    add("notary key", [(folder / "notary.key").read_bytes()], file_of(folder, "n.key", notary_keys.load))
    add("public key", [public_key().text.encode()], file_of(folder, "n.pub", lambda path: parse_keys([str(path)])))
    add("signed note", lambda: [signed_checkpoint()], lambda content: checkpoints.read(content, [public_key()]))
    add("anchor", lambda: [signed_checkpoint()], anchors(folder))
    add(
        "progress",
        lambda: [progress(folder)],
        file_of(folder, "x.progress", lambda path: read_progress(path, [public_key()])),
        True,
    )
    add(
        "roots",
        [b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"],
        file_of(folder, "r.pem", read_roots),
    )
    add("time stamp", [b"\x30\x03\x02\x01\x00"], lambda content: stamped_at(content, "x", []))
    add("proof", proofs, proof, True)
    add("verdicts csv", [VERDICTS], file_of(folder, "v.csv", verdicts))
    lines = [dict(zip(*(row.split(b",") for row in VERDICTS.split(b"\n")[:2]), strict=True))]
    text = b"\n".join(json.dumps({k.decode(): v.decode() for k, v in each.items()}).encode() for each in lines)
    add("verdicts jsonl", [text, text + b"\n" + text], file_of(folder, "v.jsonl", verdicts), True)
    add("verdicts parquet", [verdict_table()], file_of(folder, "v.parquet", verdicts))
    add("verdict events", [payload for payload in feedback_events()], events, True)
    add("rates csv", [b"currency,rate\nUSD,0.92\nGBP,1.17\n"], file_of(folder, "r.csv", read_rates))
    add("rates json", [b'{"base":"EUR","rates":{"USD":0.92}}'], file_of(folder, "r.json", read_rates), True)
    add("rates toml", [b'base = "EUR"\n[rates]\nUSD = 0.92\n'], file_of(folder, "r.toml", read_rates))
    add("list file", [b"a1\na2\n\n a3\n"], file_of(folder, "l.txt", lambda path: list(read_lines(path))))
    add(
        "as-of",
        [b"2026-03-01T12:00Z", b"p00:1-33,p01:1-5,c2,t1767607200000", b"1767607200000", b"p0:s3,c2"],
        text_of(resolve),
    )
    shown = cursors.encode(cursors.DecisionCursor(5, 1, 1, 5, "c2"))
    add("cursor", [shown.encode()], text_of(cursor))
    add("log entry", [*(e.payload for s in STREAMS for e in log().read(0, s, START, 3))], entry, True)
    add("control event", [payload for _, payload in log().read_control(count=20)], control, True)
    return {each.name: each for each in found}


def _made(folder: Path) -> Callable[[], tuple[bytes, bytes, bytes]]:
    @cache
    def made() -> tuple[bytes, bytes, bytes]:
        decisions, others = sections(folder / "made")
        return (folder / "made" / "archive" / manifest.name_of(0)).read_bytes(), decisions, others

    return made


def reference_table() -> bytes:
    """A reference table's blob."""
    keys, values = np.arange(5, dtype=np.uint64), np.ones((5, COLUMNS["merchant"]), dtype=np.float32)
    return ReferenceTable("merchant", 5, keys, values).to_bytes()


def key_file(folder: Path) -> bytes:
    """A key as `sentinel identity new` writes it."""
    identity_keys.write(folder / "made.key", identity_keys.new("ann"), {})
    return (folder / "made.key").read_bytes()


def verdict_table() -> bytes:
    """Verdicts in Parquet, with times."""
    from datetime import UTC, datetime

    out = io.BytesIO()
    when = [datetime(2026, 1, 5, tzinfo=UTC)] * 2
    pq.write_table(pa.table({"transaction_id": ["t1", "t2"], "account_id": ["a1", "a2"], "occurred_at": when}), out)
    return out.getvalue()


def feedback_events() -> list[bytes]:
    """Verdict events as they stand on the topic."""
    return [e.payload for e in log().read(0, "feedback", START, 5)]
