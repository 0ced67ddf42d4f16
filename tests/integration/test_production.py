"""A deployment in the profile production, from nothing: TLS, users, identity, tokens and anchors on real servers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from console.service import Service
from tests.integration.roles import SECONDS, Place, secured


@pytest.fixture(scope="module")
def place(needs_redis: None, needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Servers with topics and rights, and no log yet."""
    with secured(tmp_path_factory.mktemp("production")) as found:
        yield found


def test_production_starts_step_by_step(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step says what the next one is: settings first, then the roster, then everything runs and decides."""
    monkeypatch.setenv("STREAM_SENTINEL_ENV", "production")
    monkeypatch.chdir(place.folder)

    def run(role: str, *arguments: str) -> tuple[int, str]:
        settings = place.settings(role, role)
        command = Service(f"{arguments[0]}-{role}", [*arguments], settings, place.folder)
        command.log_path.unlink(missing_ok=True)
        with command:
            code = command.wait(SECONDS)
        said = command.log_path.read_text()
        assert "Traceback" not in said, said
        return code, said

    code, said = run("worker", "ingest", "--drain")
    assert code == 2 and "production requires more than is set" in said, said
    for missing in ("identity_key", "SENTINEL_VAULT_KEY", "[anchors]"):
        assert missing in said
    assert "TLS" not in said and "secret" not in said

    config = place.folder / "settings.toml"
    config.write_text(f'[anchors]\ndirectories = ["{place.folder / "worm"}"]\n')
    monkeypatch.setenv("SENTINEL_CONFIG", str(config))
    monkeypatch.setenv("SENTINEL_VAULT_KEY", "ab" * 32)
    monkeypatch.setenv("SENTINEL_VAULT", str(place.folder / "vault"))
    publics: dict[str, str] = {}
    for name in ("worker-1", "root-1"):
        code, said = run("admin", "identity", "new", name, "--out", str(place.folder / f"{name}.key"))
        assert code == 0, said
        publics[name] = re.findall(r"\b[0-9a-f]{64}\b", said)[0]
    monkeypatch.setenv("SENTINEL_IDENTITY_KEY", str(place.folder / "worker-1.key"))
    code, said = run("worker", "ingest", "--drain")
    assert code == 0, said  # it begins the log

    code, said = run("worker", "ingest", "--drain")
    assert code == 2 and "takes unsigned control events" in said and "identity require" in said, said
    monkeypatch.setenv("SENTINEL_IDENTITY_KEY", str(place.folder / "root-1.key"))
    for arguments in (
        ["add", "--role", "admin"],
        ["add", "worker-1", "--role", "worker", "--public-key", publics["worker-1"]],
        ["require", "--reason", "production"],
    ):
        code, said = run("admin", "identity", *arguments)
        assert code == 0, said

    code, said = run("api", "produce", "--no-history", "--transactions", "50", "--accounts", "10", "--days", "1")
    assert code == 0, said
    monkeypatch.setenv("SENTINEL_IDENTITY_KEY", str(place.folder / "worker-1.key"))
    code, said = run("worker", "ingest", "--drain")
    assert code == 0 and "transactions decided" in said, said
    code, said = run("admin", "doctor")
    assert not re.search(r"^FAIL +profile", said, re.M), said
    assert "production: the settings have all that production requires" in said
