"""Small files and texts that once ended a command with a traceback, or the part of it that reads them."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from console import identity_keys
from console.anchoring import keys as notary_keys
from console.anchoring.destinations import check_url
from console.api import users
from console.api.oidc_settings import oidc_settings
from console.api.problems import not_found
from console.cli import main
from console.commands.rates import read_rates
from console.commands.whatif import _rule_set
from core import settings
from core.errors import BadInput, Corrupt
from core.log.archive import segment
from core.log.archive.manifest import DECISIONS, EVENTS
from core.log.base import START, STREAMS
from core.text import MESSAGE_MAX, clipped
from core.toml_text import parse_toml
from models import linear
from projections.engine import as_of
from sources.datasets import mapping
from sources.datasets.parts import parts
from sources.datasets.words import label_key
from tests.builders.artifacts import ARTIFACTS
from tests.builders.logs import filled

TOML = ("x = " + "[" * 5_000, "[" + "a." * 5_000 + "a]\nx = 1", "x = " + "9" * 5_000, "x = 2026-02-30")


@pytest.mark.parametrize("text", TOML)
def test_toml_that_is_nested_deeply_or_means_nothing(tmp_path: Path, text: str) -> None:
    """In settings, mappings, rates and rule sets; each names the file."""
    path = tmp_path / "x.toml"
    path.write_text(text)
    path.chmod(0o600)
    for read in (lambda: settings.load({}, path), lambda: mapping.load(path), lambda: read_rates(path)):
        with pytest.raises(BadInput, match=r"x\.toml"):
            read()
    with pytest.raises(BadInput, match=r"x\.toml"):
        _rule_set(path)


def test_toml_of_ordinary_depth_is_read() -> None:
    """Depth is bounded far above what people write."""
    assert parse_toml("[a.b.c]\nd = [[1], {e = 2}]") == {"a": {"b": {"c": {"d": [[1], {"e": 2}]}}}}


def test_rates_in_json_that_is_nested_deeply(tmp_path: Path) -> None:
    """One line says what is wrong."""
    path = tmp_path / "x.json"
    for text in ("[" * 5_000, '{"USD": ' + "[" * 900 + "]" * 900 + "}"):
        path.write_text(text)
        with pytest.raises(BadInput, match=r"x\.json"):
            read_rates(path)


def test_an_environment_that_is_no_text() -> None:
    """Python gives bytes that are no UTF-8 as lone surrogates."""
    with pytest.raises(BadInput, match="SENTINEL_LOG_PREFIX"):
        settings.load({"SENTINEL_LOG_PREFIX": "\udcff"})


@pytest.mark.parametrize("text", ["c" + "9" * 5_000, "p0:s" + "9" * 5_000, "p0:1-" + "9" * 5_000, "t" + "9" * 5_000])
def test_positions_of_thousands_of_digits(text: str) -> None:
    """They are no moment, and told as that."""
    with pytest.raises(BadInput, match="as-of"):
        as_of.resolve(filled(1, 20), range(3), text)


def test_a_label_of_thousands_of_digits_is_only_a_text() -> None:
    """It is counted like any other value."""
    assert label_key("9" * 5_000) == "9" * 5_000
    assert label_key("+01,00") == "1"


def test_a_zip_whose_member_has_no_name(tmp_path: Path) -> None:
    """It is refused as a zip that can't be read."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("d.csv", "a,b\n")
    (tmp_path / "d.zip").write_bytes(out.getvalue().replace(b"d.csv", b"\0.csv"))
    with pytest.raises(BadInput, match="no file in this archive"):
        parts(tmp_path / "d.zip")


def test_a_private_key_of_an_unknown_kind(tmp_path: Path) -> None:
    """X25519's algorithm with one bit changed: the library knows no such kind."""
    path = tmp_path / "k"
    identity_keys.write(path, identity_keys.new("ann"), {})
    path.write_text(path.read_text().replace("MC4CAQAwBQYDK2Vw", "MC4CAQAwBQYDK2V7"))
    with pytest.raises(BadInput, match="PEM"):
        identity_keys.read(path, {})


def test_a_segment_that_does_not_read_as_far_as_it_begins() -> None:
    """Its columns are read when they are asked for; a damaged page is Corrupt then too."""
    log = filled(3, 200)
    files = segment.encode({stream: log.read(0, stream, START, 1_000) for stream in STREAMS})
    found = segment.Segment(files[DECISIONS], files[EVENTS])
    assert found.read("scores", START, 5)
    content, refused = files[DECISIONS], 0
    for place in range(1_000, len(content) - 20_000, 997):
        try:
            damaged = segment.Segment(content[:place] + b"\xff" * 64 + content[place + 64 :], files[EVENTS])
            damaged.read("scores", START, 1_000)
            damaged.read("transactions", START, 1_000)
            damaged.table(["account_id", "amount"])
            list(damaged.groups(["account_id", "amount"], START, log.head(0).transactions))
        except Corrupt:
            refused += 1
    assert refused > 5


def test_a_message_repeats_no_megabytes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What quotes hostile content is clipped at the terminal and in the API's problems."""
    assert clipped("x" * MESSAGE_MAX) == "x" * MESSAGE_MAX
    assert len(not_found("x" * 99_999).problem.detail) == MESSAGE_MAX
    monkeypatch.setattr("sys.argv", ["sentinel", "map", "/nowhere/" + "x" * 99_999])
    with pytest.raises(SystemExit):
        main()
    assert len(capsys.readouterr().err) < MESSAGE_MAX + 100


@pytest.mark.parametrize("url", ["https://[::1", "https://]x", "https://[x]/"])
def test_addresses_with_brackets_in_the_host(url: str) -> None:
    """Of the identity provider and of witnesses."""
    table = {"issuer": url, "client_id": "s", "public_url": "https://s.example", "roles": {"*": ["viewer"]}}
    with pytest.raises(BadInput, match="issuer"):
        oidc_settings(table)
    with pytest.raises(BadInput, match="witness"):
        check_url("witness", url)


def test_a_stored_hash_that_is_not_ascii_matches_nothing() -> None:
    """Nobody logs in with it, and nothing breaks."""
    assert not users.verify("$argon2id$v=\u0663", "secret")


@pytest.mark.parametrize("field", ["counts", "means", "steps"])
def test_a_linear_model_with_a_number_of_400_digits(field: str) -> None:
    """It is refused as out of range."""
    model = json.loads(ARTIFACTS["linear"]())
    model[field] = 10**400 if field == "steps" else [10**400] * len(model[field])
    with pytest.raises(Corrupt, match="linear model"):
        linear.parse(json.dumps(model, separators=(",", ":")).encode())


def test_a_zip_of_a_later_version(tmp_path: Path) -> None:
    """It is refused, with what is wrong."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("d.csv", "a,b\n")
    content = bytearray(out.getvalue())
    content[content.index(b"PK\x01\x02") + 6] = 91
    (tmp_path / "d.zip").write_bytes(content)
    with pytest.raises(BadInput, match="version"):
        parts(tmp_path / "d.zip")


def test_a_private_key_that_openssl_can_not_take(tmp_path: Path) -> None:
    """An Ed448 key of Ed25519's length."""
    path = tmp_path / "k"
    path.write_text(
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VvBCIEIBmT6btwH+957CcX5Th3bMSQ5CsDRDsoSLAXDvEy6Gt5\n"
        "-----END PRIVATE KEY-----\n"
    )
    path.chmod(0o600)
    with pytest.raises(BadInput, match="Ed25519"):
        notary_keys.load(path)
