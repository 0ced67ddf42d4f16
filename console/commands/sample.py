"""`sentinel sample`: a living synthetic bank on the configured servers, as `sentinel run --sample` has it."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Annotated

import typer

from console import wiring
from console.log_options import DIRECTORY, Checkpoints
from console.options import Config, KafkaServers, LogPrefix, RedisHost, RedisPort
from ingest import telemetry


def sample(
    config: Config = None,
    kafka_servers: KafkaServers = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    checkpoint_directory: Checkpoints = DIRECTORY,
    rate: Annotated[
        float | None, typer.Option(help="Payments per second, averaged over a day.", min=0.01, max=100.0)
    ] = None,
) -> None:
    """Send what the customers of a synthetic bank pay and report, as they do it, until stopped.

    On a log without payments, four weeks of history come first. A worker must have started on the log. Stopped and
    started again, the same customers go on. Some of what they pay is fraud; reports follow within minutes. Not for a
    log with real payments: synthetic ones would be decided among them.
    """
    s = wiring.settings(
        config, kafka_servers=kafka_servers, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix
    )
    telemetry.configure_logging(s)
    from console.sample_bank import SampleBank  # with the libraries of the synthetic stream
    from sources.bank import Bank

    bank = SampleBank(s, Bank() if rate is None else Bank(rate=rate), checkpoint_directory)

    def stop(signum: int, frame: FrameType | None) -> None:
        bank.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    bank.run()
