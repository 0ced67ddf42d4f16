"""console/wiring.py: the tables of the settings are checked when the settings are loaded, by those who use them."""

from __future__ import annotations

from pathlib import Path

import pytest

from console import wiring
from core.errors import BadInput, Unavailable
from core.settings import Settings
from ingest.kafka_properties import ALLOWED, is_encrypted, secured


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[kafka]\n"secruity.protocol" = "SSL"',
            "unknown setting 'secruity.protocol'; did you mean security.protocol?",
        ),
        ('[kafka]\n"linger.ms" = 1\n"zzz" = 1', "kafka: unknown setting 'zzz'"),
        (
            '[kafka]\n"security.protocol" = "SLL"',
            'kafka: Invalid value "SLL" for',
        ),
        ('[kafka]\n"linger.ms" = -5', "outside allowed range"),
        ('[kafka]\n"plugin.library.paths" = "/tmp/x"', "plugin.library.paths can't be set"),
        ('[kafka]\n"ssl.engine.location" = "/tmp/x"', "ssl.engine.location can't be set: it would load code"),
        ('[kafka]\n"ssl.providers" = "/tmp/x"', "ssl.providers can't be set: it would load code"),
        ('[kafka]\n"sasl.kerberos.kinit.cmd" = "sh"', "sasl.kerberos.kinit.cmd can't be set: it would run a command"),
        ('[kafka]\n"sasl.kerberos.principal" = "$(sh)"', "sasl.kerberos.principal can't be set"),
        ('[kafka]\n"bootstrap.servers" = "evil:9092"', "use the setting kafka_servers"),
        ('[kafka]\n"group.id" = "theirs"', "use the setting consumer_group"),
        ('[kafka]\n"enable.auto.commit" = true', "unknown setting 'enable.auto.commit'"),
        ('kafka_tls = true\n[kafka]\n"security.protocol" = "plaintext"', "contradicts the settings kafka_tls"),
        ('kafka_tls = true\n[kafka]\n"enable.ssl.certificate.verification" = false', "contradicts the settings"),
        ('kafka_sasl = "PLAIN"\nkafka_username = "ann"', "kafka_sasl is set without a password"),
        ("[learn]\nlables_min = 1", "learn: unknown setting 'lables_min'; did you mean labels_min?"),
        ("[learn]\nlabels_min = 'many'", "learn: Expected `int`, got `str` - at `$.labels_min`"),
        ("[learn]\ntrain_days = 0", "learn: train_days must be above 0"),
        ("[learn.gate]\ngain_mim = 0.0", "learn.gate: unknown setting 'gain_mim'; did you mean gain_min?"),
        ("[learn.gate]\nrows_min = 0", "gate: rows_min"),
    ],
)
def test_a_bad_table_stops_every_command(tmp_path: Path, text: str, said: str) -> None:
    """One line with the file, the table and the setting, whatever command reads it."""
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        wiring.settings(path)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value) and "\n" not in str(caught.value)


def test_good_tables_are_taken(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Properties of any client of librdkafka, in any order; nothing is printed and no client is made."""
    path = tmp_path / "s.toml"
    path.write_text(
        '[kafka]\n"security.protocol" = "SASL_SSL"\n"sasl.mechanism" = "PLAIN"\n"sasl.username" = "ann"\n'
        '"sasl.password" = "hunter2"\n"ssl.ca.location" = "/no/such/file"\n"max.poll.interval.ms" = 60000\n'
        'retries = 3\n"socket.keepalive.enable" = true\n[learn]\ntrials = 3\n'
    )
    path.chmod(0o600)
    found = wiring.settings(path)
    assert found.kafka["retries"] == 3 and found.learn == {"trials": 3}
    assert capfd.readouterr() == ("", "")


def test_an_unused_table_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tables the settings are the defaults."""
    monkeypatch.chdir(tmp_path)
    assert wiring.settings() == Settings()


def test_properties_that_run_code_are_not_among_those_allowed() -> None:
    """The list holds none of the client's properties that load a library, run a command or call back."""
    dangerous = ("library", "engine", "providers", "kinit", "kerberos", "_cb", "unsecure", "opaque", "interceptor")
    assert [name for name in ALLOWED if any(word in name for word in dangerous)] == []
    assert not ALLOWED & {"bootstrap.servers", "metadata.broker.list", "group.id", "enable.auto.commit", "logger"}


def test_a_file_of_this_folder_is_told_of_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever put sentinel.toml into the folder changes nothing; one line says how to ask for it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sentinel.toml").write_text('[kafka]\n"plugin.library.paths" = "/tmp/evil.so"\n')
    assert wiring.settings() == Settings()
    assert wiring.settings() == Settings()
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "--config sentinel.toml" in said and "SENTINEL_CONFIG=" in said


def test_secrets_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords for both servers, read from files of mode 0600, without the line's end."""
    for server in ("redis", "kafka"):
        path = tmp_path / server
        path.write_text(f"{server} secret\n")
        path.chmod(0o600)
        monkeypatch.setenv(f"SENTINEL_{server.upper()}_PASSWORD_FILE", str(path))
    monkeypatch.setenv("SENTINEL_KAFKA_SASL", "SCRAM-SHA-512")
    monkeypatch.setenv("SENTINEL_KAFKA_TLS", "true")
    monkeypatch.setenv("KAFKA_USERNAME", "ann")
    s = wiring.settings()
    assert wiring.server(s)["password"] == "redis secret"
    properties = secured(s)
    assert properties["sasl.password"] == "kafka secret" and properties["security.protocol"] == "SASL_SSL"
    assert is_encrypted(s)


@pytest.mark.parametrize(
    ("name", "content", "mode", "said"),
    [
        ("redis_password_file", None, 0, "redis_password_file"),
        ("redis_password_file", "secret", 0o644, "may be read or changed by others"),
        ("redis_password_file", "secret", 0o620, "may be read or changed by others"),
        ("redis_password_file", "\n", 0o600, "is empty"),
        ("redis_password_file", "x" * 70_000, 0o600, "too large"),
        ("redis_ca_file", None, 0, "redis_ca_file"),
        ("redis_key_file", "key", 0o644, "may be read or changed by others"),
        ("kafka_password_file", "secret", 0o604, "may be read or changed by others"),
        ("kafka_ca_file", None, 0, "kafka_ca_file"),
        ("kafka_key_file", "key", 0o644, "may be read or changed by others"),
    ],
)
def test_a_file_that_can_not_be_used_names_its_setting(
    tmp_path: Path, name: str, content: str | None, mode: int, said: str
) -> None:
    """One line with the setting and the path; never what is in it."""
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    good = tmp_path / "good"
    good.write_text("x")
    server = name.partition("_")[0]
    given = {f"{server}_tls": True, name: str(path)}
    if name.endswith("key_file"):
        given[f"{server}_certificate_file"] = str(good)
    if name == "kafka_password_file":
        given |= {"kafka_sasl": "PLAIN", "kafka_username": "ann"}
    with pytest.raises(BadInput) as caught:
        wiring.settings(None, **given)
    line = str(caught.value)
    assert said in line and f"{name} {path}" in line and "secret" not in line.replace("a secret", "")


@pytest.mark.parametrize(
    "told",
    [
        "(1, '[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)')",
        "(1, '[SSL: SSLV3_ALERT_BAD_CERTIFICATE] sslv3 alert bad certificate (_ssl.c:2580)')",
        "(1, '[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired (_ssl.c:2580)')",
        "(1, '[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2580)')",
        "(1, '[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure (_ssl.c:1006)')",
        "EOF occurred in violation of protocol (_ssl.c:1006)",
        "Error 104 while writing to socket. Connection reset by peer.",
        "Error 32 while writing to socket. Broken pipe.",
        "Connection closed by server.",
    ],
)
def test_a_server_that_refuses_the_client_names_its_certificate(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    """However the refusal reaches a client by TLS: as an alert, or as a connection that is gone."""

    def refuse(**_: object) -> None:
        raise Unavailable(f"event log server 127.0.0.1:1: {told}")

    monkeypatch.setattr(wiring, "connect", refuse)
    with pytest.raises(Unavailable, match="check redis_certificate_file and redis_key_file"):
        wiring.open_hot(Settings(redis_tls=True))
