"""The stand-alone verifier's parts against other implementations: its vectors, this project's code, and libraries."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sentinel_verify import cli, ed25519, forms, language, model, numbers, settings, trees, values
from sentinel_verify import program as programs
from sentinel_verify.errors import Refused

from core import canonical, numeric
from core.assignment import Allocation
from core.errors import BadInput
from core.events import ModelRegistered
from core.features import spec
from core.hashing import HashKey, hash_strings
from core.log import batch_tree, merkle
from core.program import document
from core.program import language as ours
from core.program.codes import ENGINE
from core.program.functions import FUNCTIONS
from core.program.inputs import offers
from core.program.library import content, kernel
from core.program.loading import check, default
from core.program.loops import settle
from core.program.plan import plan
from core.program.scope import Scope
from core.program.shipped import KERNEL_COLUMNS, LIBRARIES
from core.program.typed import Apply, Constant
from core.times import DAY_MS
from models.artifacts import KINDS, format_of, load_scorer
from models.shipped import shipped_baseline
from tests.builders import arm_programs, expressions, own_program, slow_engine
from tests.builders.arms import STARTED
from tests.builders.proofs import golden
from tests.builders.scopes import scope

VECTORS = Path(__file__).parents[3] / "verifier" / "vectors"
INDEX: dict[str, Any] = json.loads((VECTORS / "vectors.json").read_bytes())
PROGRAMS = [own_program.TOML, arm_programs.FIRST, arm_programs.SECOND_PROGRAM]


@pytest.mark.parametrize("vector", INDEX["proofs"], ids=lambda vector: vector["file"])
def test_its_vectors(vector: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Each committed proof is accepted or refused as its index says."""
    path = VECTORS / vector["file"]
    code = cli.main([str(path), "--public-key", INDEX["public_key"], *vector["options"]])
    out = capsys.readouterr().out
    assert code == vector["exit_code"], out
    assert vector["says"] in out


def test_signatures_are_those_of_the_rfc_and_of_another_library() -> None:
    """RFC 8032's vectors; signatures of a library verify, and no changed one does."""
    for each in json.loads((VECTORS / "ed25519.json").read_bytes()):
        key, message, signature = (bytes.fromhex(each[name]) for name in ("key", "message", "signature"))
        assert ed25519.verify(key, message, signature) is each["valid"], each["source"]
    rng = random.Random(1)
    for n in range(20):
        private, message = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32)), rng.randbytes(3 * n)
        key, signature = private.public_key().public_bytes_raw(), private.sign(message)
        assert ed25519.verify(key, message, signature)
        at = rng.randrange(512)
        changed = (int.from_bytes(signature, "big") ^ 1 << at).to_bytes(64, "big")
        assert not ed25519.verify(key, message, changed)
        assert not ed25519.verify(key, message + b"x", signature)
    for weak in (bytes([1]) + bytes(31), bytes(32)):
        assert not ed25519.verify(weak, b"", weak + bytes(32))


def test_trees_are_those_of_the_log() -> None:
    """Roots from proofs equal the roots that were signed, at every place of every small tree."""
    for size in (1, 2, 3, 5, 8, 13, 16, 17, 33, 272):
        hashes = [merkle.leaf(b"%d" % n) for n in range(size)]
        for index in range(size):
            assert trees.root_of(hashes[index], index, size, merkle.inclusion(hashes, index)) == merkle.root(hashes)
            path = batch_tree.path(hashes, index)
            assert trees.batch_root(hashes[index], index, size, path) == batch_tree.root(hashes)
    assert trees.batch_leaf("decision", "1-5", b"a", b"bc") == batch_tree.leaf("decision", "1-5", b"a", b"bc")


def test_some_leaves_of_a_tree_are_proved_together() -> None:
    """One proof for several leaves gives the root, for random choices of them; no other leaf or hash does."""
    rng = random.Random(1)
    for size in (1, 2, 3, 7, 16, 33, 100):
        hashes = [merkle.leaf(b"%d" % n) for n in range(size)]
        for _ in range(10):
            chosen = sorted(rng.sample(range(size), rng.randrange(1, size + 1)))
            leaves = [(place, hashes[place]) for place in chosen]
            proof = merkle.joint_inclusion(hashes, chosen)
            assert trees.joint_root(leaves, size, proof) == merkle.root(hashes)
            bad = [([], proof), (leaves, [*proof, bytes(32)]), ([*leaves, (size, bytes(32))], proof)]
            bad += [(leaves, proof[:-1])] if proof else []
            bad += [(leaves[::-1], proof)] if len(leaves) > 1 else []
            for others, hashed in bad:
                with pytest.raises(Refused):
                    trees.joint_root(others, size, hashed)
            for number in range(len(proof)):
                wrong = [*proof[:number], bytes(32), *proof[number + 1 :]]
                assert trees.joint_root(leaves, size, wrong) != merkle.root(hashes)
    for indices in ([], [1, 1], [2, 1], [3], [-1]):
        with pytest.raises(BadInput):
            merkle.joint_inclusion([bytes(32)] * 3, indices)


def test_a_tree_that_continues_another_has_both_roots() -> None:
    """Proofs of consistency give both roots at every pair of small sizes, and none with a changed hash does."""
    hashes = [merkle.leaf(b"%d" % n) for n in range(20)]
    for new in range(1, 20):
        assert trees.tree_root(hashes[:new]) == merkle.root(hashes[:new])
        for old in range(1, new + 1):
            proof = merkle.consistency(hashes[:new], old)
            roots = merkle.root(hashes[:old]), merkle.root(hashes[:new])
            assert trees.grown_root(roots[0], old, new, proof) == roots
            for n in range(len(proof)):
                wrong = [*proof[:n], bytes(32), *proof[n + 1 :]]
                assert trees.grown_root(roots[0], old, new, wrong) != roots


def test_draws_are_those_of_the_log() -> None:
    """Arms of an experiment, and whether a rule's roll-out reaches an account."""
    key = HashKey.of("000102030405060708090a0b0c0d0e0f")
    event = {
        "type": "experiment_started.v1", "experiment_id": "e1", "salt": "s", "traffic": 6000,
        "arms": [{"name": "a", "share": 4000}, {"name": "b", "share": 6000}],
    }  # fmt: skip
    found = settings.Settings(key=bytes.fromhex(key.text), experiment=event)
    accounts = [f"ac{n}\u00e9" for n in range(2000)]
    wanted = Allocation.of(STARTED, key).arms_of(accounts).tolist()
    drawn = [found.arm_of(account) for account in accounts]
    assert [-1 if each is None else ["a", "b"].index(each["name"]) for each in drawn] == wanted
    owners, salts = hash_strings(accounts, key), hash_strings(["RULE"], key.derived("rollout"))
    share = round(0.25 * 2**32)
    live, counts = np.zeros((2000, 1), np.uint8), np.zeros((2000, 4), np.int64)
    settle(
        np.ones((1, 2000)), np.ones((1, 2000), np.uint8), np.array([1]), np.array([share], np.uint64), salts, owners,
        np.arange(2000), live, np.zeros((2000, 1), np.uint8), counts,
    )  # fmt: skip
    assert [found.is_rolled_out(account, "RULE", 25.0) for account in accounts] == live[:, 0].astype(bool).tolist()


def test_lists_hold_the_same_values() -> None:
    """Networks around an address, and other spellings."""
    values = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7", "::ffff:1.2.3.0/120", "x"]
    members = canonical.Members.of("ip", [canonical.canonical("ip", each) for each in values])
    found = settings.Settings(lists={("ip", "block"): {forms.in_form("ip", each): None for each in values}})
    assert {forms.in_form("ip", each) for each in values} == set(members)
    for text in ("10.1.2.3", "11.1.2.3", "2001:db8:1::5", "2001:db9::", "192.0.2.7", "1.2.3.9", "1.2.4.9", "x", "y"):
        form = forms.in_form("ip", text)
        assert found.has("ip", "block", form) is members.has(canonical.canonical("ip", text)), text


def test_numbers_have_the_same_bits() -> None:
    """Sigmoid, exponential and logarithms equal those of the decision path, on hard and on random numbers."""
    rng = random.Random(2)
    hard = [*expressions.NUMBERS, 709.7, -745.1, -708.4, 1e-310, *(10.0**k for k in range(-30, 31))]
    random_ones = [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(3000)]
    for x in [*hard, *random_ones, *(rng.uniform(-50, 50) for _ in range(3000))]:
        for mine, other in ((numbers.exp, numeric.exp_of), (numbers.log10, numeric.log10_of)):
            assert _bits(mine(x)) == _bits(other(x)), (mine, x)
        assert _bits(numbers.sigmoid(x)) == _bits(float(numeric.sigmoid(np.array([x]), 1.0)[0])), x
        assert _bits(numbers.single(x)) == _bits(slow_engine.single(x)), x
        assert _bits(numbers.rounded(x)) == _bits(slow_engine.rounded(x)), x


def _bits(x: float) -> bytes:
    return b"NaN" if math.isnan(x) else struct.pack("<d", x)


def test_forms_are_canonical() -> None:
    """Names, cards, addresses and countries have the form that lists and features use."""
    rng = random.Random(3)
    letters = "aBß\u0130İσΣ\u00ad\u200b \u2013-–Ünï日本😀0./:%[]é\u0301Å\ufb01"
    texts = [*expressions.TEXTS, *("".join(rng.choices(letters, k=rng.randrange(8))) for _ in range(3000))]
    texts += ["::ffff:1.2.3.4", "1.02.3.004", "2001:DB8::1", "[::1]", "fe80::1%eth0", "300.1.1.1"]
    for text in texts:
        for form in ("raw", "text", "card", "country"):
            assert forms.in_form(form, text) == slow_engine.in_form(form, text), (form, text)
        assert forms.in_form("ip", text) == canonical.canonical("ip", text), text


def test_models_have_the_same_margins() -> None:
    """One of each kind, on rows with zeros, missing and infinite values: every bit."""
    rng = np.random.default_rng(4)
    rows = (rng.standard_normal((200, spec.WIDTH)) * 10.0 ** rng.integers(-3, 5, (200, spec.WIDTH))).astype(np.float32)
    for value in (0.0, -0.0, np.nan, np.inf, -np.inf, 1e-38):
        rows[rng.random(rows.shape) < 0.08] = value
    registered = [each.event for each in golden().control if isinstance(each.event, ModelRegistered)]
    artifacts = [shipped_baseline()[0], *(golden().log.get_blob(event.digest) for event in registered)]
    kinds = set()
    for artifact in artifacts:
        digest = hashlib.sha256(artifact).hexdigest()
        scorer = load_scorer(artifact, version="x", expected_digest=digest, spec=spec.SPEC_VERSION, columns=spec.NAMES)
        width = spec.WIDTH if scorer.inputs is None else len(scorer.inputs)
        loaded = model.load(artifact)
        for row, margin in zip(rows[:, :width], scorer.margins(rows[:, :width]).tolist(), strict=True):
            assert _bits(loaded.margin([float(x) for x in row])) == _bits(margin), format_of(artifact)
        kinds.add(format_of(artifact))
    assert kinds == {kind.name for kind in KINDS}


def test_a_tree_that_goes_round_ends() -> None:
    """In every format, a walk that comes back to where it was is refused."""
    lightgbm = (
        b"tree\nversion=v4\n\nTree=0\nnum_leaves=2\nsplit_feature=0\nthreshold=1\ndecision_type=2\nleft_child=0\n"
        b"right_child=0\nleaf_value=1 2\n\n\nend of trees\n"
    )
    tree = {
        "left_children": [0], "right_children": [0], "split_indices": [0], "split_conditions": [1.0],
        "default_left": [1],
    }  # fmt: skip
    learner = {
        "gradient_booster": {"name": "gbtree", "model": {"trees": [tree]}},
        "learner_model_param": {"base_score": "0.5"}, "objective": {"name": "binary:logistic"},
    }  # fmt: skip
    for artifact in (lightgbm, json.dumps({"learner": learner, "version": [3]}).encode()):
        with pytest.raises(Refused):
            model.load(artifact).margin([0.0])


# --- the language ------------------------------------------------------------------------------------------------


class _Row:
    """Values by leaf, as tests/builders/expressions.py makes them."""

    def __init__(self, row: Any, names: dict[str, str]) -> None:
        self._row, self._names = row, names

    def leaf(self, expression: language.Expression) -> values.Value:
        value: values.Value = self._row[self._names[language.serialised(expression)]]
        return value


def test_expressions_have_the_same_values() -> None:
    """Random typed expressions over hard values: what the slow evaluator says, bit for bit, or said not to be known."""
    unknown = 0
    for seed in range(1500):
        made = expressions.Generator(seed)
        expression, row = made.any(4), made.row(0.2)
        settled = slow_engine.settled(expression)
        leaves = {
            ours.serialised(each): slow_engine.leaf_name(each)
            for _, each in ours.walk(expression)
            if not isinstance(each, Constant | Apply)
        }
        try:
            mine = values.value_of(values.settled(expressions.as_verified(expression)), _Row(row, leaves))
        except values.NotRecomputed:
            unknown += 1
            continue
        try:
            wanted = slow_engine.value_of(settled, row)
        except KeyError as error:
            assert error.args[0] in ("log10", "exp")
            continue
        assert slow_engine.bits(mine) == slow_engine.bits(wanted), (seed, expression)  # type: ignore[arg-type]
        assert (mine is None) == (wanted is None)
    assert unknown < 400


def test_it_is_written_for_old_pythons() -> None:
    """Every module is valid for Python 3.10."""
    for path in sorted((VECTORS.parent / "sentinel_verify").glob("*.py")):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_texts_have_the_same_types() -> None:
    """Every example of the language's functions becomes the same typed expression."""
    place = scope("feature")
    mine = _scope(place)
    tried = 0
    for function in FUNCTIONS:
        try:
            tree = ours.check(function.example, place, ("number", "bool", "string", "time")).expression
        except Exception:  # noqa: BLE001 - an example that stands in another place
            continue
        assert language.serialised(language.typed(function.example, mine)) == ours.serialised(tree)
        tried += 1
    assert tried > 30


def _scope(found: Scope) -> language.Scope:
    own = {name: (*kind, name) for name, kind in found.fields.items()}
    return language.Scope(own, found.features, found.parameters, found.entities, found.place)


@pytest.mark.parametrize("toml", [None, *PROGRAMS])
def test_programs_mean_the_same(toml: bytes | None) -> None:
    """Columns, rules with what changes them, decision, actions, and what models may read by definition."""
    loaded = default() if toml is None else check(toml)
    blobs = {digest: content(digest) for digest in LIBRARIES.values()} | {
        loaded.digest: document.canonical(loaded.program)
    }
    found, used = programs.load(loaded.digest[:16], blobs)
    wanted = plan(loaded.checked, kernel())
    assert set(used) == set(blobs)
    assert [name for name, place in sorted(found.columns.items(), key=lambda item: item[1]) if place >= spec.WIDTH] == [
        *wanted.names[spec.WIDTH : wanted.stored]
    ]
    assert found.width == wanted.stored
    live = [rule for rule in loaded.checked.rules if rule.mode != "off"]
    assert [(r.code, r.effect, r.mode, r.rollout, r.words) for r in found.rules] == [
        (r.code, r.effect, r.mode, r.rollout, r.words) for r in live
    ]
    for mine, other in zip(found.rules, live, strict=True):
        assert language.serialised(mine.when) == ours.serialised(other.when), mine.code
    for one, two in ((found.decline, loaded.checked.decline), (found.review, loaded.checked.review)):
        assert (one is None) == (two is None) and (
            two is None or language.serialised(one or ()) == ours.serialised(two)
        )
    assert [grade for grade, _ in found.severity] == [grade for grade, _ in loaded.checked.severity]
    assert {name: tuple(each) for name, each in found.actions.items()} == dict(loaded.checked.actions)
    assert dict(found.parameters) == dict(loaded.checked.parameters)
    known = offers(wanted)
    for name in found.definitions:
        assert programs.identity_of(programs.inlined(name, found), found) in known
    assert programs.identity_of(("col", "number", "library", "count_1h", ""), found) in known


def test_it_knows_the_engine() -> None:
    """Its tables of the engine's columns are this release's."""
    assert programs.COLUMNS == spec.NAMES
    assert (programs.ENGINE, programs.SPEC) == (ENGINE, spec.SPEC_VERSION)
    assert set(programs.stated()) == set(KERNEL_COLUMNS.values())
    assert DAY_MS == 86_400_000
