"""`sentinel serve`: the HTTP API (docs/api.md) in this process, until it is stopped."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from console import wiring
from console.log_options import DIRECTORY, Checkpoints
from console.options import Config, KafkaServers, LogPrefix, RedisHost, RedisPort

UserFileOption = Annotated[Path, typer.Option("--users", help="File of users (`sentinel user`); of mode 0600.")]
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    config: Config = None,
    kafka_servers: KafkaServers = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    host: Annotated[str, typer.Option(help="Address to listen on. Beyond loopback, put a TLS proxy before it.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65_535)] = 8700,
    users: UserFileOption = Path(".sentinel/users.json"),
    checkpoint_directory: Checkpoints = DIRECTORY,
) -> None:
    """Serve the HTTP API and the web console. The first start creates the user `admin` and prints an address that logs
    them in, once; there they choose a password.

    sentinel serve --port 8700
    """
    s = wiring.settings(
        config, kafka_servers=kafka_servers, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix
    )
    from console.api import server
    from console.api import users as known

    file = known.UserFile(users)
    is_first = not file.load().users
    if host not in LOOPBACK:
        print(
            f"warning: listening on {host} without TLS: tokens can be read on the network; put a TLS proxy before it",
            file=sys.stderr,
        )

    def welcome(url: str) -> None:
        now_ms = int(time.time() * 1000)
        name = known.owner(file, now_ms)
        print(
            f"created the user {name} in {users}; this logs in, once, within {known.LINK_MINUTES} minutes:", flush=True
        )
        print(known.login_link(file, name, now_ms, url), flush=True)
        print(f"another link: sentinel user link {name} --url {url}{known.file_option(users)}", flush=True)

    server.run(s, file, checkpoint_directory, host, port, welcome if is_first else None)
