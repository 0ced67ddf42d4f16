"""Runs the application in this process: uvicorn on uvloop and httptools (ADR 27), until SIGINT or SIGTERM."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import uvicorn
from litestar import Litestar

from console.api.app import build
from console.api.desk import Desk
from console.api.system_gauges import System
from console.api.users import UserFile
from console.gc_tuning import keep_what_is_held, tune_for_serving
from console.web.serving import with_console
from core.errors import Unavailable
from core.settings import Settings
from ingest.health import BOARD, Health, serve
from ingest.telemetry import configure_logging

SWITCH_S = 0.0005
"""How long a thread that folds or decodes may keep the interpreter from the event loop; Python's default is 5 ms."""
CONNECTIONS_MAX = 1_000
KEEP_ALIVE_S = 30
STOP_S = 10


def run(
    settings: Settings,
    users: UserFile,
    checkpoints: Path,
    host: str,
    port: int,
    welcome: Callable[[str], None] | None = None,
) -> None:
    """Serve until stopped. welcome: called with the console's address once it answers. Raises SentinelError if the log
    can't be opened or the address is taken.
    """
    sys.setswitchinterval(SWITCH_S)
    tune_for_serving()
    configure_logging(settings)
    users.load()  # a file that is not valid is reported before anything is opened
    app = build(Desk(settings, checkpoints, on_caught_up=keep_what_is_held), users)
    _serve_health(settings, app)
    server = Server(
        uvicorn.Config(
            with_console(app),
            host=host,
            port=port,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
        ),
        welcome,
    )
    server.run()
    if not server.was_started:
        raise Unavailable(f"can't listen on {host}:{port}: is another server using it? choose another --port")


def _serve_health(settings: Settings, app: Litestar) -> None:
    """The checks of the API's `/readyz`, its metrics and the system's, on the metrics port."""
    system: System = app.state.system
    health = Health()
    health.check("log", system.log)
    health.check("read models", system.read_models)
    health.started()
    BOARD.put("system", system.collect)
    BOARD.put("api", app.state.metrics.registry.collect)
    serve(settings, health)


class Server(uvicorn.Server):
    """Prints its address once it listens. welcome: see `run`."""

    was_started = False

    def __init__(self, config: uvicorn.Config, welcome: Callable[[str], None] | None = None) -> None:
        super().__init__(config)
        self._welcome = welcome

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            self.was_started = True
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            print(f"listening on {address_of(host, port)}", flush=True)
            if self._welcome is not None:
                self._welcome(address_of("127.0.0.1" if host in ("0.0.0.0", "::") else host, port))


def address_of(host: str, port: int) -> str:
    """The console's address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
