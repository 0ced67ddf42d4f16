"""The stand-alone verifier: what it accepts, and that it refuses everything else."""

from __future__ import annotations

import ast
import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentinel_verify import cli, ed25519
from sentinel_verify.checkpoint import Key

from core.codec import decode_transaction
from core.events import TransactionScored
from core.log import notes, seals
from core.log.base import GENESIS_DIGEST
from core.log.checkpoints import origin_of
from core.log.paging import entries
from tests.builders.proofs import (
    OTHER,
    PRIVATE,
    Corpus,
    Proof,
    anchored,
    changed,
    encoded,
    golden,
    lied,
    signed,
    smallest,
)

FOLDER = Path(__file__).parents[3] / "verifier"


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return golden()


@pytest.fixture(scope="module")
def small(corpus: Corpus) -> bytes:
    """A short proof."""
    return smallest(corpus, lambda score: score.model.startswith("rules") or not score.digest)


@pytest.fixture(scope="module")
def alerted(corpus: Corpus) -> bytes:
    """A proof with an alert and a linear model."""
    return smallest(corpus, lambda score: score.decision == "decline" and score.model == "line-1.0.0")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same signature of the same text is verified once."""
    monkeypatch.setattr(ed25519, "verify", lru_cache(maxsize=100_000)(ed25519.verify))


def verify(content: bytes, key: str, level: int = 2, unanchored: bool = False) -> dict[str, Any]:
    return cli.verify(content, [Key.parse(key)], level, unanchored)


def test_decisions_of_every_kind_are_recomputed(corpus: Corpus) -> None:
    """Every tenth decision of the golden log is intact, and its score recomputed, whatever kind of model decided."""
    models: Counter[str] = Counter()
    for number, (place, score) in enumerate(corpus.decisions()):
        if number % 10:
            continue
        found = verify(corpus.proof(place), corpus.key)
        assert found["exit_code"] == 0 and found["level"] == 2, (str(place), found)
        models[score.model] += 1
    assert len(models) > 6


@pytest.mark.parametrize(
    "wanted",
    [
        lambda s: s.arm != "champion",
        lambda s: "program_unavailable" in (s.degraded or ""),
        lambda s: "model_unavailable" in (s.degraded or ""),
        lambda s: "model_error" in (s.degraded or ""),
        lambda s: s.degraded == "no_model",
        lambda s: bool(s.shadow_rules),
        lambda s: "LIST_BLOCK" in s.rules,
        lambda s: "ID_CONFLICT" in s.rules,
        lambda s: s.shadow_model != "",
        lambda s: len(s.features) > 100 and s.decision == "review",
    ],
    ids=["arm", "default program", "no such model", "model fails", "no model", "shadow rules", "listed", "conflict",
         "shadow model", "alert"],
)  # fmt: skip
def test_what_decisions_may_be(corpus: Corpus, wanted: Callable[[TransactionScored], bool]) -> None:
    """Arms, degradations, lists and conflicts: no such decision is refused, and what the proof lacks is said."""
    places = [place for place, score in corpus.decisions() if wanted(score)]
    assert places
    for place in places[:5]:
        found = verify(corpus.proof(place), corpus.key)
        assert found["verified"] and found["level"] == 2, found
        assert any("LIST_BLOCK" in each or "rule" not in each for each in found["taken_from_record"])


ALLOWED = re.compile(
    r"(ID_CONFLICT|LIST_ALLOW) \(.*\): reads the account's earlier payment IDs"
    r"|the shadow model .*, which decides nothing"
)


def test_with_the_whole_control_stream_more_is_recomputed(corpus: Corpus) -> None:
    """Lists, draws of arms and roll-outs, degradations and the default program: only what the account's past decides is
    taken from the record.
    """
    reached: Counter[int] = Counter()
    arms: Counter[str] = Counter()
    for number, (place, score) in enumerate(corpus.decisions()):
        if number % 20 and score.arm == "champion" and not score.degraded:
            continue
        found = verify(corpus.proof(place, whole_control=True), corpus.key)
        assert "refused" not in found, (str(place), found["refused"])
        assert found["settings_complete"]
        assert [each for each in found["taken_from_record"] if not ALLOWED.fullmatch(each)] == []
        reached[found["level"]] += 1
        arms[score.arm] += 1
    assert reached[2] > 50 and len(arms) > 2


def test_what_the_whole_control_stream_denies_is_refused(corpus: Corpus) -> None:
    """An event taken out, exchanged or called refused, an arm that was not drawn, and a listing that is not there."""
    content = recomputed(corpus, lambda score: "LIST_BLOCK" in score.rules)
    listing = next(n for n, each in enumerate(json.loads(content)["stream"]["payloads"]) if "list_changed" in each)

    def without(proof: Proof) -> None:
        del proof["stream"]["payloads"][listing]

    def not_refused(proof: Proof) -> None:
        proof["stream"]["refused"].append("0" * 64)

    def other(proof: Proof) -> None:
        proof["stream"]["payloads"][listing] = proof["stream"]["payloads"][listing].replace("ann", "bob")

    for change in (without, not_refused, other):
        assert "control" in verify(changed(content, change), corpus.key)["refused"]

    def unlisted(proof: Proof) -> None:
        digest = GENESIS_DIGEST
        for position, payload in enumerate(proof["stream"]["payloads"], 1):
            digest = seals.control_digest(digest, position, payload.encode())
            if '"list_changed.v1"' in payload and '"block"' in payload:
                proof["stream"]["refused"].append(digest)

    assert "rules that hit" in verify(changed(content, unlisted), corpus.key)["refused"]

    def moved(proof: Proof) -> None:
        proof["score"] = re.sub('"arm":"[^"]*",', "", proof["score"])

    drawn = recomputed(corpus, lambda score: score.arm != "champion")
    assert "refused" in verify(lied(drawn, moved), corpus.key)


def recomputed(corpus: Corpus, wanted: Callable[[TransactionScored], bool]) -> bytes:
    """The proof, with the whole control stream, of the first decision that is wanted and reaches level 2."""
    proofs = (corpus.proof(place, whole_control=True) for place, score in corpus.decisions() if wanted(score))
    return next(content for content in proofs if verify(content, corpus.key)["level"] == 2)


def test_every_byte_of_a_proof_counts(small: bytes, alerted: bytes, corpus: Corpus, quick: None) -> None:
    """Each byte changed, by one of its bits or to any other: refused, every one."""
    rng = random.Random(5)
    place = next(place for place, score in corpus.decisions() if score.degraded == "no_model")
    for content in (small, alerted, corpus.proof(place, whole_control=True)):
        assert verify(content, corpus.key)["verified"]
        for place, byte in enumerate(content):
            other = rng.choice([byte ^ 1 << rng.randrange(8), (byte + rng.randrange(1, 256)) % 256])
            found = verify(content[:place] + bytes([other]) + content[place + 1 :], corpus.key)
            assert "refused" in found and found["exit_code"] == 3, (place, byte, other)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_other_edit_is_accepted(data: st.DataObject) -> None:
    """Pieces removed, repeated, moved or replaced; keys and items of its structure removed, repeated or exchanged.
    Only a control event may be left out: then nothing is said about what it set.
    """
    corpus = golden()
    content = _proof_to_edit()
    if data.draw(st.booleans(), label="bytes"):
        a, b, c = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 3)))
        piece = data.draw(st.sampled_from([b"", content[a:b], content[b:c], b" ", b"0", b"\n", b"{}"]))
        edited = content[:a] + piece + content[data.draw(st.sampled_from([a, b, c])) :]
    else:
        proof = json.loads(content)
        holder, key = data.draw(st.sampled_from(_items(proof)))
        value = data.draw(st.sampled_from([None, True, 0, -1, 2**64, 1.5, "", "0-0", [], {}, [[]], holder[key]]))
        if isinstance(holder, list) and data.draw(st.booleans()):
            holder.insert(key, holder[key])
        elif data.draw(st.booleans()):
            del holder[key]
        else:
            holder[key] = value
        edited = encoded(proof)
    found, before = verify(edited, corpus.key), verify(content, corpus.key)
    if "made for level 1" in found["not_reached"]:
        assert json.loads(edited)["blobs"] == {} and not found["verified"]
    elif "refused" not in found:
        assert found["decision"] == before["decision"] and found["settings"].items() <= before["settings"].items()
        less = json.loads(content)
        less["control"] = [each for each in less["control"] if each in json.loads(edited)["control"]]
        assert encoded(less) == edited


@lru_cache(maxsize=1)
def _proof_to_edit() -> bytes:
    return smallest(golden(), lambda score: score.decision == "decline" and score.model == "line-1.0.0")


def _items(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a structure, as its holder and the key or index in it."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [found for key in keys for found in _items(value[key])]


def test_another_key_is_refused(small: bytes, corpus: Corpus) -> None:
    """Neither another key of the log's name, nor a signature by it under the known key's ID."""
    name = origin_of(corpus.log_id)
    other = notes.public_key(name, OTHER).text
    assert "none of the given keys" in verify(small, other)["refused"]
    forged = signed(corpus.log_id, corpus.anchor.checkpoint.state, OTHER).note
    known = forged._replace(signatures=(forged.signatures[0]._replace(key_id=notes.public_key(name, PRIVATE).key_id),))
    swapped = changed(small, lambda proof: proof.update(checkpoint=known.content.decode()))
    assert "does not match" in verify(swapped, corpus.key)["refused"]


def test_a_notary_of_another_log_is_refused(small: bytes, corpus: Corpus) -> None:
    """A known key that signs the checkpoint of a log that is not its own."""
    name = origin_of("1" * 32)
    text = json.loads(small)["checkpoint"].partition("\n\n")[0] + "\n"
    note = notes.sign(text, name, PRIVATE).content.decode()
    found = verify(changed(small, lambda proof: proof.update(checkpoint=note)), notes.public_key(name, PRIVATE).text)
    assert "not signed by that log's notary" in found["refused"]


def test_an_older_checkpoint_does_not_cover_it(corpus: Corpus) -> None:
    """With a checkpoint that ends before the decision's seal the proof is refused."""
    place, _ = list(corpus.decisions())[-1]
    early = anchored(corpus.log, corpus.log_id, corpus.partitions, seals=3, events=5)
    content = changed(
        corpus.proof(place), lambda proof: proof.update(checkpoint=early.note.content.decode(), control=[])
    )
    assert "a later checkpoint is needed" in verify(content, corpus.key)["refused"]


def test_parts_of_another_proof_are_refused(corpus: Corpus) -> None:
    """Seal, decision, score, alert, control events, program and place of another decision don't fit."""
    wanted = [
        place for place, score in corpus.decisions() if score.model == "line-1.0.0" and score.decision != "approve"
    ]
    one, other = (corpus.proof(place) for place in (wanted[0], wanted[-1]))
    assert verify(one, corpus.key)["verified"] and verify(other, corpus.key)["verified"]
    theirs = json.loads(other)
    for key, value in theirs.items():
        if json.loads(one).get(key) == value:
            continue
        mixed = changed(one, lambda proof, key=key, value=value: proof.update({key: value}))  # type: ignore[misc]
        assert "refused" in verify(mixed, corpus.key), key


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        ({"margin": -3.25}, "margin"),
        ({"probability": 0.5}, "probability"),
        ({"decision": "approve"}, "decision"),
        ({"severity": "low"}, "severity"),
        ({"rules": ["AMOUNT_HIGH"]}, "rules that hit"),
        ({"effects": 0}, "effects"),
        ({"model": "line-1.0.1"}, "deploy"),
        ({"digest": "0" * 16}, "deploy"),
        ({"program": "0" * 16}, "does not contain the program"),
        ({"c": 3}, "its seal"),
        ({"arm": "e/x"}, "no experiment"),
    ],
)
def test_a_record_that_does_not_follow_is_refused(
    alerted: bytes, corpus: Corpus, lie: dict[str, Any], says: str
) -> None:
    """Even if the notary signed it: the score must be the one that its features give."""

    def change(proof: Proof) -> None:
        score = json.loads(proof["score"])
        proof["score"] = json.dumps({**score, **lie})

    content = lied(alerted, change)
    assert says in verify(content, corpus.key)["refused"]
    assert verify(lied(alerted, lambda proof: None), corpus.key)["verified"]


def test_a_payment_that_does_not_follow_is_refused(alerted: bytes, corpus: Corpus) -> None:
    """The features that a payment alone determines are compared with those of the score."""
    for name, value in (("amount", 1.5), ("occurred_at", 7_200_000)):

        def change(proof: Proof, name: str = name, value: float = value) -> None:
            proof["transaction"] = json.dumps({**json.loads(proof["transaction"]), name: value})

        assert "not what follows from the payment" in verify(lied(alerted, change), corpus.key)["refused"]


def test_without_a_checkpoint_it_says_so(corpus: Corpus) -> None:
    """A proof of an unanchored log is refused, unless that is asked for; then it names what it is relative to."""
    from projections.audit.proof import prove

    place = next(place for place, score in corpus.decisions() if score.model == "line-1.0.0")
    content = prove(corpus.log, place, corpus.control, None)
    assert "no signed checkpoint" in verify(content, corpus.key)["refused"]
    found = verify(content, corpus.key, unanchored=True)
    assert found["verified"] and "checkpoint" not in found
    assert "UNANCHORED" in cli.text(found) and found["place"]["seal_digest"] in cli.text(found)


def test_a_proof_names_no_other_account(corpus: Corpus) -> None:
    """No account, card, device or payment of anybody else is in it, nor the key of the log's hashes."""
    names: dict[str, set[str]] = {}
    for partition in range(corpus.partitions):
        for entry in entries(corpus.log, partition, "transactions"):
            t = decode_transaction(entry.payload)
            names.setdefault(t.account_id, set()).update((t.account_id, t.transaction_id, t.card_id, t.device_id))
    for number, (place, _) in enumerate(corpus.decisions()):
        if number % 50:
            continue
        payload = corpus.log.get(place.partition, "transactions", place.position)
        own = decode_transaction(payload or b"").account_id
        proof = json.loads(corpus.proof(place))
        del proof["blobs"]
        text = json.dumps(proof)
        foreign = {name for account, known in names.items() if account != own for name in known} - names[own]
        shown = [name for name in foreign if name and f'"{name}"' in text.replace("\\", "")]
        assert shown == []
        assert json.loads(corpus.control[0].payload)["hash_key"] not in text


def test_it_runs_alone(small: bytes, corpus: Corpus, tmp_path: Path) -> None:
    """A copy of its folder runs isolated, without anything of ours on the path; its exit codes are as documented."""
    shutil.copytree(FOLDER, tmp_path / "verifier", ignore=shutil.ignore_patterns("__pycache__", "vectors"))
    proof, wrong = tmp_path / "a.proof", tmp_path / "b.proof"
    proof.write_bytes(small)
    wrong.write_bytes(small.replace(b'"partition":', b'"partition": '))
    (tmp_path / "notary.pub").write_text(corpus.key + "\n")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", tmp_path / "verifier", *arguments]
        return subprocess.run(
            [*map(str, command)], cwd="/", capture_output=True, text=True, timeout=60, env={}, check=False
        )

    done = run(proof, "--public-key", tmp_path / "notary.pub")
    assert done.returncode == 0 and "level 2    score recomputed" in done.stdout, done.stdout + done.stderr
    assert json.loads(run(proof, "--public-key", corpus.key, "--json").stdout)["level"] == 2
    assert run(wrong, "--public-key", corpus.key).returncode == 3
    assert "REFUSED" in run(wrong, "--public-key", corpus.key).stdout
    assert run(proof).returncode == 2
    assert run(proof, "--public-key", "nobody+00000000+AAAA").returncode == 2
    assert run(tmp_path / "none", "--public-key", corpus.key).returncode == 2


def test_it_needs_only_the_standard_library() -> None:
    """Every import is of Python's own modules or of the package itself; and Stream-Sentinel imports none of it."""
    for path in sorted((FOLDER / "sentinel_verify").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    assert {each.name.partition(".")[0] for each in names} <= sys.stdlib_module_names, path
                case ast.ImportFrom(module=module, level=0):
                    assert (module or "").partition(".")[0] in sys.stdlib_module_names, path
    for folder in ("core", "models", "projections", "learners", "responders", "sources", "ingest", "console"):
        for path in (FOLDER.parent / folder).rglob("*.py"):
            assert "import sentinel_verify" not in (text := path.read_text(encoding="utf-8")), path
            assert "from sentinel_verify" not in text, path
