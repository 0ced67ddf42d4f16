"""Level 3 of the stand-alone verifier: features follow from the account's history, which is whole, or it is refused."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sentinel_verify import bundle, cli, ed25519
from sentinel_verify.aggregates import BEFORE, NEEDS_KEY
from sentinel_verify.checkpoint import Key
from sentinel_verify.program import COLUMNS

from core.codec import decode_score, decode_transaction, encode
from core.context import Resolver
from core.errors import BadInput
from core.events import AccountBlocked, SourceQuarantined, TransactionScored
from core.features import packing, spec
from core.identity import FIXED
from core.log.base import Batch, Entry
from core.log.memory import MemoryLog
from core.log.paging import entries
from core.times import HOUR_MS
from ingest.offline import OfflineIngest
from projections.audit.redecide import DecisionPlace
from sources.record import Record
from tests.builders import logs
from tests.builders.events import T0, verdict
from tests.builders.forging import rechained
from tests.builders.models import load_tiny
from tests.builders.proofs import Corpus, Proof, changed, corpus, earlier, golden, lied, smallest, with_history, without
from tests.builders.tokened import PARTITIONS, Tokened

FOLDER = Path(__file__).parents[3] / "verifier"
OF_TABLES = {name for name in spec.NAMES if name.startswith(("merchant_", "device_")) and not name.endswith("is_new")}


def verify(content: bytes, key: str, level: int = 3) -> dict[str, Any]:
    """What the verifier says."""
    return cli.verify(content, [Key.parse(key)], level)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same signature of the same text is verified once."""
    monkeypatch.setattr(ed25519, "verify", lru_cache(maxsize=100_000)(ed25519.verify))


def place_with(found: Corpus, wanted: Callable[[TransactionScored], bool]) -> DecisionPlace:
    """The first decision that is wanted."""
    return next(place for place, score in found.decisions() if wanted(score))


def ingested(
    records: Iterable[Any],
    partitions: int = 1,
    accounts_max: int = 1000,
    events: dict[int, Any] | None = None,
    every: int = 5,
) -> MemoryLog:
    """A log without a model. events: control events before records, by number. every: records in a batch."""
    log = MemoryLog()
    identity = FIXED._replace(accounts_max=accounts_max)
    resolver = Resolver(log.get_blob, load_tiny)
    ingest = OfflineIngest(log, resolver, partitions=partitions, identity=identity)
    for number, record in enumerate(records):
        if events and number in events:
            ingest.flush()
            ingest.change([events[number]])
        ingest.feed([record])
        if number % every == every - 1:
            ingest.flush()
    ingest.flush()
    return log


@cache
def late() -> Corpus:
    """A random log with late payments, duplicates, verdicts and blocks."""
    return corpus(ingested(logs.records(7, 500), partitions=3), 3)


def test_features_of_the_golden_log_follow_from_their_history() -> None:
    """Proofs of each account's last decision by each program, whose histories are all decisions of the log: all columns
    but those of reference tables are recomputed bit for bit.
    """
    found = golden()
    last: dict[tuple[int, str, str], DecisionPlace] = {}
    total = 0
    for place, score in found.decisions():
        payload = found.log.get(place.partition, "transactions", place.position)
        last[place.partition, decode_transaction(payload or b"").account_id, score.program] = place
        total += 1
    payments: Counter[tuple[int, str]] = Counter()
    for (partition, name, _), place in last.items():
        result = verify(found.proof(place, level=3, whole_control=True), found.key)
        assert result["exit_code"] == 0 and result["level"] == 3, (str(place), result)
        assert {*result["features_from_record"]} == OF_TABLES
        payments[partition, name] = max(payments[partition, name], result["history"]["payments"] + 1)
    print(f"{len(last)} proofs; {payments.total()} of {total} decisions recomputed from their histories")
    assert payments.total() == total > 2_000 and len({program for *_, program in last}) >= 3


def test_without_the_log_s_key_distinct_texts_are_recorded() -> None:
    """And members of lists; all else is recomputed, whatever kind of decision it is."""
    found = golden()
    for place, score in [each for number, each in enumerate(found.decisions()) if not number % 150]:
        result = verify(found.proof(place, level=3), found.key)
        assert result["exit_code"] == 0 and result["level"] == 3, (str(place), result)
        assert result["history"]["payments"] == earlier(score) and result["history"]["before"] == 0
        reasons = {why for name, why in result["features_from_record"].items() if name not in OF_TABLES}
        assert reasons <= {NEEDS_KEY, "lists of identifiers"}, reasons
        assert len(result["features_recomputed"]) > len(COLUMNS) - len(OF_TABLES) - 6


def test_features_of_late_payments_follow_too() -> None:
    """A stream with late payments, duplicates and verdicts: windows ignore what came too late, as the engine's do."""
    found = late()
    for number, (place, _) in enumerate(found.decisions()):
        if number % 7 == 0:
            said = verify(found.proof(place, level=3, whole_control=number % 2 == 0), found.key)
            assert said["exit_code"] == 0 and said["level"] == 3, (str(place), said)
            assert "id_conflict" not in str(said["taken_from_record"])


@pytest.mark.parametrize("days", [1, 8, 40])
def test_of_a_part_of_the_history_the_rest_is_said_to_be_recorded(days: int) -> None:
    """Fewer payments, fewer features; none of these differs, and the others are named as taken from the record."""
    recomputed = []
    for found in (golden(), late()):
        for number, (place, score) in enumerate(found.decisions()):
            if number % 151:
                continue
            said = verify(found.proof(place, level=3, days=days), found.key)
            assert said["exit_code"] == 0, (str(place), said)
            held = said["history"]
            assert held["payments"] + held["before"] == earlier(score)
            if held["before"]:
                assert BEFORE in said["features_from_record"].values()
                assert f"{held['before']} before them are not in the proof" in cli.text(said)
                recomputed.append({*said["features_recomputed"]})
    assert recomputed and all({"transactions_total", "fraud_verdicts"} <= names for names in recomputed)
    assert any("count_1h" in names for names in recomputed) and not any(
        "typical_amount" in names for names in recomputed
    )
    if days == 40:
        assert all("sum_30d" in names for names in recomputed)


def test_an_earlier_payment_that_is_left_out_is_found() -> None:
    """Each one alone, all up to some, and all: the numbers that the payments' own records give don't fit any more."""
    found = late()
    place = place_with(found, lambda score: earlier(score) > 25)
    assert verify(with_history(found, place, lambda held: held), found.key)["level"] == 3
    for number in range(25):
        content = with_history(found, place, lambda held, n=number: held._replace(payments=without(held.payments, n)))
        said = verify(content, found.key)
        if number:
            assert "the history is not complete" in said["refused"], number
        else:  # then what is proved is the history since, and it is said that something came before
            assert said["history"]["before"] == 1 and BEFORE in said["features_from_record"].values()
    content = with_history(found, place, lambda held: held._replace(payments=[]))
    assert "the history is not complete" in verify(content, found.key)["refused"]


def test_feedback_that_is_left_out_is_found() -> None:
    """Every verdict that counts, every block and every end of one, in the histories of all accounts of a log; what is
    not found changed no feature of any payment.
    """
    found, outcomes = late(), Counter[str]()
    last: dict[tuple[int, str], DecisionPlace] = {}
    for place, _ in found.decisions():
        payload = found.log.get(place.partition, "transactions", place.position)
        last[place.partition, decode_transaction(payload or b"").account_id] = place
    for place in last.values():
        held = json.loads(found.proof(place, level=3))["history"]["feedback"]
        for number, entry in enumerate(held):
            content = with_history(found, place, lambda h, n=number: h._replace(feedback=without(h.feedback, n)))
            said = verify(content, found.key)
            kind, refused = json.loads(entry["payload"])["type"], said.get("refused", "no effect")
            is_found = "does not follow" in refused or "is not what follows" in refused
            outcomes[f"{kind} {'found' if is_found else refused}"] += 1
    assert {each.partition(" ")[2] for each in outcomes} == {"found", "no effect"}
    assert outcomes["feedback.v1 found"] > 15 and outcomes["account_blocked.v1 found"] > 0


def test_what_is_changed_moved_or_repeated_is_refused() -> None:
    """Payments and feedback exchanged, twice, under another seal or position, of another account, or changed."""
    found = late()
    content = found.proof(place_with(found, lambda score: earlier(score) > 8), level=3)
    theirs = json.loads(found.proof(DecisionPlace(0, next(p for p, _ in found.decisions()).position), level=3))

    def exchanged(proof: Proof) -> None:
        payments = proof["history"]["payments"]
        payments[2], payments[3] = payments[3], payments[2]

    def repeated(proof: Proof) -> None:
        proof["history"]["payments"].insert(2, proof["history"]["payments"][2])

    def moved(proof: Proof) -> None:
        payments = proof["history"]["payments"]
        payments[2]["position"], payments[3]["position"] = payments[3]["position"], payments[2]["position"]

    def altered(proof: Proof) -> None:
        payment = proof["history"]["payments"][2]
        payment["transaction"] = json.dumps({**json.loads(payment["transaction"]), "amount": 1.5})

    def scored(proof: Proof) -> None:
        payment = proof["history"]["payments"][2]
        payment["score"] = payment["score"].replace('"margin":', '"margin":1')

    def left_out(proof: Proof) -> None:
        del proof["history"]["payments"][3]

    def under_another(proof: Proof) -> None:
        payment = proof["history"]["payments"][2]
        payment["seal"] = (payment["seal"] + 1) % len(proof["history"]["seals"])

    def resealed(proof: Proof) -> None:
        proof["history"]["seals"][0] = proof["history"]["seals"][1]

    def without_proof(proof: Proof) -> None:
        proof["history"]["proof"] = proof["history"]["proof"][1:]

    def more_proof(proof: Proof) -> None:
        proof["history"]["proof"].append("0" * 64)

    def itself(proof: Proof) -> None:
        proof["history"]["payments"].append({**proof["history"]["payments"][-1], "position": proof["position"]})

    def nobody(proof: Proof) -> None:
        proof["history"] = theirs["history"] | {"payments": [], "seals": [], "proof": [], "feedback": []}

    for change in (exchanged, repeated, moved, altered, scored, left_out, under_another, resealed, without_proof,
                   more_proof, itself, nobody):  # fmt: skip
        said = verify(changed(content, change), found.key)
        assert "refused" in said, change.__name__
    stripped = changed(content, lambda proof: proof.pop("history"))
    said = verify(stripped, found.key)
    assert (said["level"], said["exit_code"]) == (2, 1) and "made for level 2" in said["not_reached"]
    assert verify(stripped, found.key, level=0)["exit_code"] == 0


def forged(kind: str) -> Corpus:
    """A log that was wrong from the beginning, and is signed like that: each batch is sealed again over what was
    changed after it was decided.
    """
    log = ingested(logs.records(7, 500), partitions=3)
    victim = next(p for p, s in late().decisions() if p.partition == 1 and earlier(s) > 20)
    payload = log.get(1, "transactions", victim.position) or b""
    account = decode_transaction(payload).account_id
    mine = [e for e in logs.entries(log, 1, "transactions") if decode_transaction(e.payload).account_id == account]
    target = mine[10].id

    def change(batch: Batch, seal: Any) -> Any:
        for number, entry in enumerate(batch.transactions):
            if entry.id == target:
                if kind == "amount":
                    t = decode_transaction(entry.payload)
                    other = encode(msgspec.structs.replace(t, amount=t.amount + 1.0))
                    batch.transactions[number] = Entry(entry.id, other)
                else:
                    score = decode_score(batch.scores[number].payload)
                    vector = packing.vector(score.features).copy()
                    vector[spec.index("sum_30d")] += 1.0
                    features = packing.pack(vector.reshape(1, -1))[0]
                    other = encode(msgspec.structs.replace(score, features=features))
                    batch.scores[number] = Entry(entry.id, other)
        return seal

    return corpus(rechained(log, 1, change), 3)


@pytest.mark.parametrize("kind", ["amount", "feature"])
def test_a_log_that_was_wrong_when_it_was_signed_is_found(kind: str) -> None:
    """An earlier payment's amount, or a feature that it stored, was another when it was decided: its signature holds,
    and level 2 of a later decision, too. Level 3 names the payment that does not follow.
    """
    found = forged(kind)
    place = next(p for p, s in found.decisions() if p.partition == 1 and earlier(s) > 20)
    content = found.proof(place, level=3)
    assert verify(content, found.key, level=2)["exit_code"] == 0
    assert "does not follow from the events before it" in verify(content, found.key)["refused"]


def test_every_byte_of_a_history_counts() -> None:
    """Each byte of a proof with payments and feedback before it, changed to another: refused, every one."""
    found, rng = golden(), random.Random(5)
    proofs = (
        found.proof(place, level=3) for place, s in found.decisions() if earlier(s) == 2 and s.degraded == "no_model"
    )
    content = min((each for each in proofs if json.loads(each)["history"]["feedback"]), key=len, default=b"")
    content = content or min(
        (found.proof(place, level=3) for place, s in found.decisions() if earlier(s) == 1), key=len
    )
    assert verify(content, found.key)["level"] == 3
    for place, byte in enumerate(content):
        other = rng.choice([byte ^ 1 << rng.randrange(8), (byte + rng.randrange(1, 256)) % 256])
        said = verify(content[:place] + bytes([other]) + content[place + 1 :], found.key)
        assert "refused" in said and said["exit_code"] == 3, (place, byte, other)


def pay(number: int, account: str, at: int, **more: Any) -> Record:
    """A payment as it comes."""
    body = {"transaction_id": f"t{number}", "account_id": account, "amount": 5.0 + number, "occurred_at": at, **more}
    return Record("transactions", account, at, msgspec.json.encode(body))


def said(event: Any) -> Record:
    """Feedback as it comes."""
    return Record("feedback", event.account_id, event.occurred_at, encode(event))


def test_an_account_that_was_forgotten_begins_anew() -> None:
    """Its history is what came after it was evicted: payments, and of the feedback in between what came after, too."""
    records = [pay(n, "a", T0 + n * 1000) for n in range(5)]
    records.append(said(AccountBlocked(account_id="a", occurred_at=T0 + 6000, actor="ann")))
    records.append(said(verdict("b", occurred_at=T0 + 6500)))
    for n in range(40):
        records.append(pay(100 + n, f"x{n}", T0 + 10_000 + n * 1000))
        if n % 3 == 0:
            records.append(said(verdict(f"x{n}", occurred_at=T0 + 10_500 + n * 1000, transaction_id=f"t{100 + n}")))
    records += [pay(200 + n, name, T0 + 60_000 + n * 1000) for n, name in enumerate(["b", "x1", "b", "x3", "b", "x1"])]
    found = corpus(ingested(records, accounts_max=16), 1)
    fresh = 0
    for place, score in found.decisions():
        content = found.proof(place, level=3)
        result = verify(content, found.key)
        assert result["exit_code"] == 0 and result["level"] == 3, (str(place), result)
        assert result["history"]["payments"] == earlier(score)
        payload = found.log.get(0, "transactions", place.position)
        fresh += decode_transaction(payload or b"").transaction_id > "t200" and not earlier(score)
    assert fresh


def test_verdicts_of_a_quarantined_source_are_left_out() -> None:
    """From the event on; a proof without that event is refused, and a decision before it needs none."""
    hour = (T0 + 5000) // HOUR_MS * HOUR_MS
    records = [pay(1, "a", T0), pay(2, "a", T0 + 1000)]
    records += [said(verdict("a", occurred_at=T0 + 2000, actor="eve", transaction_id=f"t{n}")) for n in (1, 2)]
    records += [pay(3, "a", T0 + 8000), pay(4, "a", T0 + 9000), pay(5, "a", T0 + 10_000)]
    log = ingested(records)
    recorded = {json.loads(e.payload)["recorded_at"] // HOUR_MS * HOUR_MS for e in logs.entries(log, 0, "feedback")}
    hour = recorded.pop()
    event = SourceQuarantined(
        occurred_at=T0, actor="sentinel", reason="rate", source="analyst", name="eve", hour_start=hour
    )
    found = corpus(ingested(records, events={6: event}), 1)
    counts = []
    for place, score in found.decisions():
        content = found.proof(place, level=3)
        counts.append(packing.vector(score.features)[spec.index("fraud_verdicts")])
        assert verify(content, found.key)["level"] == 3
    assert counts[2] == 2 and counts[-1] == 0
    bare = changed(
        content, lambda proof: proof.update(control=[e for e in proof["control"] if "eve" not in e["payload"]])
    )
    assert "fraud_verdicts" in verify(bare, found.key)["refused"]


def test_an_erased_account_has_no_history(tmp_path: Path) -> None:
    """Before, its tokens stand in the proof and no raw identifier does; afterwards level 3 is refused, with the reason,
    and the decision itself is still proved.
    """
    on = Tokened(tmp_path, accounts=6)
    before = corpus(on.log, PARTITIONS)
    place = place_with(before, lambda score: earlier(score) == 1)
    content = before.proof(place, level=3)
    assert verify(content, before.key)["level"] == 3
    assert b"person-" not in content and b"example.com" not in content
    on.erase(*(f"person-{n}" for n in range(6)))
    after = corpus(on.log, PARTITIONS)
    with pytest.raises(BadInput, match="was erased"):
        after.proof(place, level=3)
    assert verify(after.proof(place), after.key, level=2)["exit_code"] == 0
    assert verify(content, before.key)["level"] == 3


def test_a_history_names_no_other_account() -> None:
    """A proof of level 3 holds no account, card or payment of anybody else, and nothing of cases and actions."""
    found = golden()
    place, _ = list(found.decisions())[-1]
    history = json.loads(found.proof(place, level=3))["history"]
    own = decode_transaction(found.log.get(place.partition, "transactions", place.position) or b"").account_id
    accounts = {json.loads(each["transaction"])["account_id"] for each in history["payments"]}
    kinds = {json.loads(each["payload"])["type"] for each in history["feedback"]}
    assert accounts == {own} == {json.loads(each["payload"])["account_id"] for each in history["feedback"]}
    assert kinds and kinds <= {"feedback.v1", "account_blocked.v1", "account_unblocked.v1"}
    text = json.dumps(history).replace("\\", "")
    others: set[str] = set()
    mine: set[str] = set()
    for partition in range(found.partitions):
        for entry in entries(found.log, partition, "transactions"):
            t = decode_transaction(entry.payload)
            names = mine if t.account_id == own else others
            names |= {t.account_id, t.transaction_id, t.card_id, t.device_id}
    assert [name for name in others - mine if f'"{name}"' in text] == []


def test_an_account_of_a_thousand_payments() -> None:
    """Among 20,000 of others, in batches of 200: the size of its proof, and the time to write and to verify it."""
    rng = random.Random(1)
    records = [
        pay(n, "a" if n % 21 == 0 else f"x{rng.randrange(500)}", T0 + n * 400_000, merchant_id=f"m{rng.randrange(90)}",
            device_id="d1", country="DE", channel="online")
        for n in range(21_000)
    ]  # fmt: skip
    found = corpus(ingested(records, every=200), 1)
    place = [place for place, score in found.decisions() if earlier(score) == 999][-1]
    began = time.process_time()
    content = found.proof(place, level=3)
    written = time.process_time()
    result = verify(content, found.key)
    verified = time.process_time()
    print(f"{len(content):,} bytes, {written - began:.2f} s to write, {verified - written:.2f} s to verify")
    assert result["level"] == 3 and result["history"] == {"payments": 999, "before": 0, "feedback": 0}
    assert len(content) < 6_000_000
    recent = found.proof(place, level=3, days=31)
    print(f"of the last 31 days: {len(recent):,} bytes, {verify(recent, found.key)['history']}")
    assert len(recent) < len(content) / 2


def run(content: bytes, tmp_path: Path, *arguments: str) -> tuple[int, str, float]:
    """The program's exit code, output and seconds."""
    (tmp_path / "hostile.proof").write_bytes(content)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-I", str(FOLDER), str(tmp_path / "hostile.proof"), "--public-key", golden().key, *arguments],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


def test_hostile_files_are_bounded(tmp_path: Path) -> None:
    """Many small items, deep nesting, long numbers, too many events, and too little memory: one line, no traceback."""
    nested = b"[" * 3_000_000
    for content, says in (
        (b"[" + b"{}," * 5_000_000 + b"{}]", "at most 4,000,000 items"),
        (nested, "not a proof"),
        (b'{"a":' + b"9" * 1_000_000 + b"}", "not a whole number"),
        (b"[" + b'"",' * 3_900_000 + b'""]', "not a proof of the form"),
    ):
        code, out, _ = run(content, tmp_path)
        assert code == 3 and says in out and "Traceback" not in out, out[-300:]
    code, out, _ = run(b'["' + b"a" * 50_000_000 + b'"]', tmp_path, "--megabytes", "150")
    assert code == 3 and "more memory than is allowed" in out, out[-300:]
    many = [{}] * (bundle.EVENTS_MAX + 1)

    def crowded(proof: Proof) -> None:
        proof["history"] = {"payments": many, "feedback": [], "seals": [], "proof": []}

    assert "at most 20,000 events" in verify(changed(small(), crowded), golden().key)["refused"]


@cache
def small() -> bytes:
    """A small proof of level 2."""
    return smallest(golden(), lambda score: score.degraded == "no_model")


def doubling(proof: Proof) -> None:
    """A program whose features double 60 times, under every hash and a signature."""
    import base64
    import hashlib

    score = json.loads(proof["score"])
    name = next(name for name in proof["blobs"] if name.startswith(score["program"]))
    document = json.loads(base64.b64decode(proof["blobs"].pop(name)))
    document["features"] = {
        f"f{n:02}": {"value": f"f{n - 1:02} + f{n - 1:02}" if n else "amount", "log": False} for n in range(60)
    }
    content = json.dumps(document).encode()
    digest = hashlib.sha256(content).hexdigest()
    proof["blobs"][digest] = base64.b64encode(content).decode()
    proof["score"] = json.dumps({**score, "program": digest[:16]})
    proof["control"] = []


def test_a_hostile_program_ends_in_time(tmp_path: Path) -> None:
    """A notary who signs a program that would take for ever: the verifier stops, and says so."""
    content = lied(small(), doubling)
    code, out, seconds = run(content, tmp_path, "--seconds", "3", "--megabytes", "1000")
    assert code == 3 and "Traceback" not in out and seconds < 60, out[-500:]
    assert "not verified after 3 seconds" in out or "more memory than is allowed" in out
