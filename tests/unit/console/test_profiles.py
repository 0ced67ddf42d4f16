"""Profiles: production starts only with all that it requires, staging says what is missing, development just runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from console import profiles, wiring
from console.profiles import LOG_REQUIREMENTS, REQUIREMENTS, log_profile_findings, missing, profile_findings
from core import control_stream
from core.errors import BadInput, Unavailable
from core.identity import FIXED
from core.log.memory import MemoryLog
from core.settings import Settings, load
from tests.builders.decisions import append_unchecked

COMPLETE: dict[str, Any] = {
    "environment": "production",
    "redis_tls": True,
    "redis_username": "sentinel-worker",
    "redis_password": "from the environment",
    "kafka_tls": True,
    "kafka_sasl": "SCRAM-SHA-512",
    "kafka_username": "sentinel-worker",
    "kafka_password": "from the environment",
    "identity_key": "worker.key",
    "vault_key": "ab" * 32,
    "anchors": {"directories": ["/worm"]},
}
LACKS: list[tuple[dict[str, Any], str]] = [
    ({"redis_tls": False}, "TLS and a user on the log server"),
    ({"redis_username": ""}, "TLS and a user on the log server"),
    ({"redis_password": ""}, "TLS and a user on the log server"),
    ({"kafka_tls": False}, "TLS and a user on Kafka"),
    ({"kafka_sasl": ""}, "TLS and a user on Kafka"),
    ({"schema_registry": "http://registry"}, "TLS to the schema registry"),
    ({"identity_key": ""}, "an identity"),
    ({"vault_key": ""}, "tokens instead of identifiers"),
    ({"anchors": {}}, "anchors outside the log"),
]


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profiles look at the folders of where they run; other tests leave some here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    """The log that opens; nobody has begun it."""
    opened = MemoryLog()
    monkeypatch.setattr(wiring, "open_log", lambda s: opened)
    return opened


def test_a_complete_production_starts(log: MemoryLog) -> None:
    """Nothing is missing, nothing is said."""
    s = Settings(**COMPLETE)
    assert list(missing(s)) == []
    assert profiles.open_log(s) is log
    assert [f.status for f in profile_findings(s)] == ["ok"]


@pytest.mark.parametrize(("lack", "requirement"), LACKS)
def test_production_refuses_to_start_without(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch, lack: dict[str, Any], requirement: str
) -> None:
    """One line with what is missing and what to do; nothing is sent to a server."""

    def never(s: Settings) -> MemoryLog:
        raise AssertionError("the log was opened")

    monkeypatch.setattr(wiring, "open_log", never)
    s = Settings(**COMPLETE | lack)
    assert {name for name, _ in missing(s)} == {requirement}
    with pytest.raises(BadInput) as caught:
        profiles.open_log(s)
    assert "→" in str(caught.value) and "\n" not in str(caught.value) and "from the env" not in str(caught.value)
    assert {f.status for f in profile_findings(s)} == {"fail"}


@pytest.mark.parametrize(("lack", "requirement"), LACKS)
def test_staging_says_what_is_missing_and_starts(
    log: MemoryLog, capsys: pytest.CaptureFixture[str], lack: dict[str, Any], requirement: str
) -> None:
    """On stderr; `doctor` warns."""
    s = Settings(**COMPLETE | {"tokenise": True} | lack | {"environment": "staging"})
    assert profiles.open_log(s) is log
    assert "production would not start" in capsys.readouterr().err
    assert {f.status for f in profile_findings(s)} == {"warn"}


def test_development_requires_nothing(log: MemoryLog, capsys: pytest.CaptureFixture[str]) -> None:
    """The default; nothing is said."""
    assert Settings().environment == "development"
    append_unchecked(log, FIXED.event("worker"))
    assert profiles.open_log(Settings()) is log
    assert capsys.readouterr() == ("", "")


def test_every_requirement_can_fail(tmp_path: Path) -> None:
    """Each name in the list is one that some deployment lacks; folders and secrets of the file have tests below."""
    tried = {requirement for _, requirement in LACKS}
    assert set(REQUIREMENTS) - tried == {"secrets outside the settings file", "folders of this user alone"}
    assert set(LOG_REQUIREMENTS) == {"identity required by the log", "tokens in the log"}


def test_a_service_needs_no_secret_that_it_does_not_use(log: MemoryLog) -> None:
    """One that only reads and writes the log starts without the vault's key and without a user on Kafka; responders
    start without the vault's key; `doctor` still looks at everything.
    """
    bare = Settings(**COMPLETE | {"kafka_tls": False, "kafka_sasl": "", "vault_key": ""})
    assert profiles.open_log(bare, profiles.LOG_ONLY) is log
    with pytest.raises(BadInput, match="Kafka"):
        profiles.open_log(bare, profiles.WITHOUT_VAULT)
    assert profiles.open_log(Settings(**COMPLETE | {"vault_key": ""}), profiles.WITHOUT_VAULT) is log
    assert REQUIREMENTS.keys() >= profiles.LOG_ONLY
    assert {f.status for f in profile_findings(bare)} == {"fail"}


def test_kafka_without_verification_is_no_tls() -> None:
    """A [kafka] table that switches verification off does not count as TLS."""
    for off in ({"enable.ssl.certificate.verification": False}, {"ssl.endpoint.identification.algorithm": "none"}):
        table = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "a", **off}
        s = Settings(**COMPLETE | {"kafka_tls": False, "kafka_sasl": "", "kafka": table})
        assert [name for name, _ in missing(s)] == ["TLS and a user on Kafka"]


def test_secrets_in_the_file_are_missing_elsewhere(tmp_path: Path) -> None:
    """Whatever the file's mode: it is copied, committed and shown."""
    path = tmp_path / "s.toml"
    path.write_text(f'redis_password = "x"\nvault_key = "{"ab" * 32}"\n[kafka]\n"ssl.key.password" = "x"\n')
    path.chmod(0o600)
    s = load({}, path)
    assert [each.what for _, each in missing(s) if "secret" in each.what] == [
        "the settings file holds the secret redis_password",
        "the settings file holds the secret vault_key",
        "the settings file holds the secret kafka.ssl.key.password",
    ]


def test_folders_that_others_may_change(tmp_path: Path) -> None:
    """Snapshots hold account data, and whoever can read the log could make some."""
    folder = tmp_path / "snapshots"
    folder.mkdir(mode=0o700)
    s = Settings(**COMPLETE | {"snapshot_directory": str(folder)})
    assert list(missing(s)) == []
    folder.chmod(0o777)
    assert {name for name, _ in missing(s)} == {"folders of this user alone"}


def test_production_requires_a_log_with_identity_and_tokens(log: MemoryLog) -> None:
    """A log that was begun without them is refused, and closed; `doctor` says why."""
    append_unchecked(log, FIXED.event("worker"))
    s = Settings(**COMPLETE)
    with pytest.raises(BadInput, match=r"unsigned control events.*without tokens"):
        profiles.open_log(s)
    found = list(log_profile_findings(s, control_stream.current(log)))
    assert [f.status for f in found] == ["fail", "fail"]
    assert list(log_profile_findings(Settings(), control_stream.current(log))) == []


def test_the_page_lists_what_production_requires() -> None:
    """docs/security.md has the list."""
    page = Path(__file__).parents[3] / "docs" / "security.md"
    assert profiles.markdown() in page.read_text(encoding="utf-8")


def test_a_server_that_is_not_there_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all settings, the next error is that of the server."""

    def gone(s: Settings) -> MemoryLog:
        raise Unavailable("no server")

    monkeypatch.setattr(wiring, "open_log", gone)
    with pytest.raises(Unavailable, match="no server"):
        profiles.open_log(Settings(**COMPLETE))
