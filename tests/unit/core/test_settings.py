"""Settings: where a value comes from, and one clear line for every bad one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from core.settings import Settings, environment_name, load


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "s.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(environ: dict[str, str], path: Path | None = None, overrides: dict[str, Any] | None = None) -> str:
    """The one line of the refusal."""
    with pytest.raises(BadInput) as caught:
        load(environ, path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads a sentinel.toml that happens to lie about."""
    monkeypatch.chdir(tmp_path)


def test_defaults_are_good() -> None:
    """Nothing configured is a working configuration."""
    assert load({}) == Settings()


def test_file_then_environment_then_flags(tmp_path: Path) -> None:
    """A flag beats the environment, which beats the file, which beats the default; a flag of None is not given."""
    path = toml(
        tmp_path, 'redis_port = 1\nbatch_size = 2\nlinger_ms = 3\n[kafka]\n"security.protocol" = "SSL"\nretries = 5\n'
    )
    s = load({"REDIS_PORT": "11", "SENTINEL_BATCH_SIZE": "12"}, path, {"redis_port": 21, "linger_ms": None})
    assert (s.redis_port, s.batch_size, s.linger_ms) == (21, 12, 3)
    assert s.kafka == {"security.protocol": "SSL", "retries": 5}


def test_a_file_is_read_only_if_it_is_named(tmp_path: Path) -> None:
    """A sentinel.toml that happens to lie in the current folder has no effect; the environment or a flag names one."""
    (tmp_path / "sentinel.toml").write_text("partitions = 3\n")
    assert load({}) == Settings()
    assert load({"SENTINEL_CONFIG": "sentinel.toml"}).partitions == 3
    assert load({"SENTINEL_CONFIG": "none.toml"}, tmp_path / "sentinel.toml").partitions == 3
    assert refused({"SENTINEL_CONFIG": "none.toml"}).startswith("none.toml: ")


SECRETS = [
    'redis_password = "hunter2"',
    'kafka_password = "hunter2"',
    '[kafka]\n"sasl.password" = "hunter2"',
    '[kafka]\n"ssl.key.password" = "hunter2"',
    '[kafka]\n"ssl.key.pem" = "hunter2"',
]


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o666])
def test_a_file_with_secrets_is_nobody_elses(tmp_path: Path, text: str, mode: int) -> None:
    """A settings file that holds a secret and may be read or changed by others is refused, with the remedy."""
    path = toml(tmp_path, text)
    path.chmod(mode)
    line = refused({}, path)
    assert line.startswith(f"{path}: ") and "hunter2" not in line and "chmod" in line
    path.chmod(0o600)
    assert load({}, path).secrets_in_file


def test_a_file_that_everybody_may_change_is_refused(tmp_path: Path) -> None:
    """Whatever it holds: whoever changes it chooses the servers. Others may read it, and its group may change it."""
    path = toml(tmp_path, "partitions = 3")
    path.chmod(0o666)
    assert "chmod o-w" in refused({}, path)
    path.chmod(0o664)
    found = load({}, path)
    assert (found.partitions, found.secrets_in_file) == (3, ())


def test_secrets_of_the_environment_are_not_in_the_file(tmp_path: Path) -> None:
    """The file is judged by what it holds itself."""
    path = toml(tmp_path, "partitions = 3")
    assert load({"REDIS_PASSWORD": "hunter2", "KAFKA_PASSWORD": "hunter2"}, path).secrets_in_file == ()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"redis_ca_file": "ca.pem"}, "redis_tls"),
        ({"kafka_ca_file": "ca.pem"}, "kafka_tls"),
        ({"redis_tls": True, "redis_certificate_file": "c.pem"}, "redis_key_file"),
        ({"redis_tls": True, "redis_key_file": "k.pem"}, "redis_certificate_file"),
        ({"kafka_tls": True, "kafka_key_file": "k.pem"}, "kafka_certificate_file"),
        ({"kafka_sasl": "SCRAM-SHA-512"}, "kafka_username"),
    ],
)
def test_settings_that_need_each_other(given: dict[str, Any], word: str) -> None:
    """A setting of TLS or SASL that would have no effect is an error that names the one that is missing."""
    assert word in refused({}, None, given)


def test_a_choice_names_what_can_be_chosen() -> None:
    """A profile that does not exist is answered with those that do."""
    assert "'development', 'staging' or 'production'" in refused({"STREAM_SENTINEL_ENV": "local"})


def test_environment_names() -> None:
    """The names that the issue asks for, and SENTINEL_ for the others; no two fields share one."""
    assert {
        environment_name(f)
        for f in (
            "environment",
            "kafka_servers",
            "redis_host",
            "redis_port",
            "fraud_threshold",
            "consumer_group",
            "log_level",
        )
    } == {
        "STREAM_SENTINEL_ENV",
        "KAFKA_SERVERS",
        "REDIS_HOST",
        "REDIS_PORT",
        "FRAUD_THRESHOLD",
        "CONSUMER_GROUP",
        "LOG_LEVEL",
    }
    assert environment_name("linger_ms") == "SENTINEL_LINGER_MS"
    names = [environment_name(f) for f in Settings.__struct_fields__]
    assert len(set(names)) == len(names)


BAD = [
    ("redis_port", "0"),
    ("redis_port", "65536"),
    ("redis_port", "abc"),
    ("redis_port", ""),
    ("redis_port", "1.5"),
    ("partitions", "0"),
    ("partitions", "-1"),
    ("partitions", "10001"),
    ("partitions", "1" * 400),
    ("fraud_threshold", "0"),
    ("fraud_threshold", "1.01"),
    ("fraud_threshold", "nan"),
    ("fraud_threshold", "high"),
    ("fraud_threshold", "-inf"),
    ("batch_size", "0"),
    ("linger_ms", "-1"),
    ("linger_ms", "10001"),
    ("session_timeout_ms", "10"),
    ("metrics_port", "70000"),
    ("snapshot_interval_s", "nan"),
    ("snapshot_interval_s", "0"),
    ("snapshot_interval_s", "inf"),
    ("unavailable_timeout_s", "-1"),
    ("log_level", "loud"),
    ("log_level", ""),
    ("kafka_servers", " "),
    ("transactions_topic", ""),
    ("feedback_topic", ""),
    ("consumer_group", ""),
    ("log_prefix", ""),
    ("redis_host", ""),
    ("redis_cluster", "perhaps"),
    ("redis_tls", "2"),
    ("redis_port", "63\n79"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_values_name_the_setting_and_the_variable(name: str, value: str) -> None:
    """A bad value in the environment is one line with the variable and the setting."""
    line = refused({environment_name(name): value})
    assert line.startswith(f"{environment_name(name)}: ") and name in line


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, v in BAD if v.strip() and "\n" not in v])
def test_bad_values_name_the_flag(name: str, value: str) -> None:
    """The same value from a flag names the flag."""
    assert refused({}, None, {name: value}).startswith(f"--{name.replace('_', '-')}: {name} = ")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("redis_port = 0", "redis_port"),
        ('redis_port = "x"', "redis_port"),
        ("redis_prot = 1", "redis_prot"),
        ("kafka = 5", "kafka"),
        ("[kafka]\na = [1]", "kafka"),
        ("[kafka.b]\na = 1", "kafka"),
        ("[redis]\nport = 1", "redis"),
        ("redis_port =", "TOML"),
        ("redis_host = 2020-01-01", "redis_host"),
        ("a\x00b", "TOML"),
    ],
)
def test_bad_files_name_the_file_and_the_setting(tmp_path: Path, text: str, word: str) -> None:
    """A bad value, an unknown setting or a broken file is one line with the file's name."""
    path = toml(tmp_path, text)
    line = refused({}, path)
    assert line.startswith(f"{path}: ") and word in line


def test_an_unknown_setting_names_the_nearest(tmp_path: Path) -> None:
    """A slip of the pen is answered with the setting that was meant; anything else with nothing."""
    assert refused({}, toml(tmp_path, "redis_prot = 1")).endswith(
        "unknown setting 'redis_prot'; did you mean redis_port?"
    )
    assert refused({}, toml(tmp_path, "zzz = 1")).endswith("unknown setting 'zzz'")


def test_unreadable_files(tmp_path: Path) -> None:
    """A file that isn't there, is a directory, or is not UTF-8 is named."""
    (tmp_path / "latin").write_bytes(b'redis_host = "\xff"')
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "latin"):
        assert refused({}, path).startswith(f"{path}: ")


def test_a_bad_secret_is_not_shown() -> None:
    """A refusal never repeats the password."""
    assert "hunter2" not in refused({}, None, {"redis_password": ["hunter2"]})
    assert "hunter2" not in refused({}, None, {"kafka": {"sasl.password": ["hunter2"]}})


@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from([environment_name(f) for f in Settings.__struct_fields__]), st.text(max_size=8), max_size=4
    )
)
def test_any_environment_is_settings_or_one_line(environ: dict[str, str]) -> None:
    """Whatever the environment holds: good settings, or one BadInput line."""
    try:
        assert msgspec.convert(msgspec.structs.asdict(load(environ)), Settings)
    except BadInput as error:
        assert "\n" not in str(error) and any(name in str(error) for name in environ)
