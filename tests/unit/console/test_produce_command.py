"""`sentinel produce` with a dataset: the edge is asked first, and an interrupted run is continued."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from console import cli
from console.commands import produce as produce_command
from console.stack import Broker, free_port
from core.errors import Unavailable
from core.settings import environment_name
from sources.record import Record
from tests.builders.payment_rows import HEADER, MAPPING, row

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs `sentinel` in a directory with the mapping; (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    Path("m.toml").write_text(MAPPING)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["sentinel", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def write(*rows: str) -> tuple[str, ...]:
    """The options that name the rows' file."""
    Path("data.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return "--dataset", "custom", "data.csv", "--mapping", "m.toml"


def test_a_check_needs_no_kafka_and_names_lines(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1 and the reasons with their lines if a message would be rejected, else 0."""
    monkeypatch.setenv("KAFKA_SERVERS", f"127.0.0.1:{free_port()}")
    code, out, _ = run("produce", "--check", *write(row(1), row(2, shop="x" * 200)))
    assert code == 1 and "1 × rejected, bad_id" in out and "data.csv: line 3" in out
    code, out, _ = run("produce", "--check", *write(row(1), row(2)), "--json")
    assert code == 0 and json.loads(out)["rows"] == 2
    code, out, _ = run("analyze", *write(row(1), row(2, shop="x" * 200)), "--json")
    assert code == 0 and json.loads(out)["edge"]["rejects"]["bad_id"]["count"] == 1


def test_a_rate_and_a_duration_are_a_number_of_payments(run: Run) -> None:
    """Of the synthetic stream, or of the rows of a file; `--tps` is `--rate`."""
    code, out, _ = run("produce", "--check", "--tps", "40", "--duration", "2.5", "--json")
    assert code == 0 and json.loads(out)["rows"] == 100
    code, out, _ = run("produce", "--check", *write(row(1), row(2), row(3)), "--rate", "1", "--duration", "2", "--json")
    assert code == 0 and json.loads(out)["rows"] == 2
    for options, said in (
        (["--duration", "2"], "--duration needs --tps"),
        (["--duration", "2", "--tps", "5", "--days", "3"], "--duration can't be combined with"),
        (["--duration", "-1", "--tps", "5"], "must be from 1 to 10,000,000,000 transactions"),
        (["--duration", "nan", "--tps", "5"], "must be from 1 to"),
    ):
        code, _, err = run("produce", *options)
        assert code == 2 and said in err


def test_nothing_is_sent_before_the_edge_accepts_all(run: Run, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last row stops the run before the first is sent; --bad-rows reject leaves it out and says so."""
    for field in ("transactions_topic", "feedback_topic"):
        monkeypatch.setenv(environment_name(field), f"asked-first.{field}")
    monkeypatch.setenv("KAFKA_SERVERS", broker.bootstrap)
    sent: list[Record] = []

    def publish(chunks: object, *arguments: object, **options: object) -> object:
        held = list(chunks)  # type: ignore[call-overload]
        sent.extend(record for chunk in held for record in chunk)
        return real(held, *arguments, **options)  # type: ignore[arg-type]

    real = produce_command.publish
    monkeypatch.setattr(produce_command, "publish", publish)
    options = write(row(1), row(2), row(3, amount="2e12"))
    code, _, err = run("produce", "--no-history", *options)
    assert code == 2 and "nothing was sent: 1 of 3 messages would be rejected" in err and "data.csv: line 4" in err
    assert not sent
    code, out, err = run("produce", "--no-history", *options, "--bad-rows", "reject", "--json")
    assert code == 0 and json.loads(out)["produced"] == 2 and "left out" in err and "absurd_amount" in err
    assert [record.key for record in sent] == ["a1", "a1"]
    code, out, _ = run("produce", "--no-history", *options, "--bad-rows", "reject", "--resume", "--json")
    assert code == 0 and json.loads(out)["produced"] == 0


def test_an_interruption_says_how_to_go_on(run: Run, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C and a failed delivery name what was delivered and --resume."""
    for field in ("transactions_topic", "feedback_topic"):
        monkeypatch.setenv(environment_name(field), f"interrupted.{field}")
    monkeypatch.setenv("KAFKA_SERVERS", broker.bootstrap)
    real = produce_command.publish

    def interrupted(chunks: object, *arguments: object, **options: object) -> object:
        def some() -> object:
            for chunk in chunks:  # type: ignore[attr-defined]
                yield chunk[:2]
                raise KeyboardInterrupt

        return real(some(), *arguments, **options)  # type: ignore[arg-type]

    options = write(*(row(number) for number in range(6)))
    with monkeypatch.context() as patch:
        patch.setattr(produce_command, "publish", interrupted)
        code, out, err = run("produce", "--no-history", *options)
    assert code == 130 and out.startswith("2 transactions and 0 verdicts delivered") and "--resume" in err
    code, out, _ = run("produce", "--no-history", *options, "--resume")
    assert code == 0 and out.startswith("4 transactions")

    def failed(*_: object, **__: object) -> object:
        raise Unavailable("3 of 6 messages were not delivered")

    monkeypatch.setattr(produce_command, "publish", failed)
    code, _, err = run("produce", "--no-history", *options)
    assert code == Unavailable.exit_code and err.endswith("The same command with --resume sends the rest\n")
    assert "can't be combined" in run("produce", "--resume", "--now")[2]
