"""console/wiring.py: the tables of the settings are checked when the settings are loaded, by those who use them."""

from __future__ import annotations

from pathlib import Path

import pytest

from console import wiring
from core.errors import BadInput
from core.settings import Settings


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
    found = wiring.settings(path)
    assert found.kafka["retries"] == 3 and found.learn == {"trials": 3}
    assert capfd.readouterr() == ("", "")


def test_an_unused_table_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tables the settings are the defaults."""
    monkeypatch.chdir(tmp_path)
    assert wiring.settings() == Settings()
