"""The event log's contract (tests/contracts/test_event_log.py) on Debian's redis-server, over TLS, and on a Redis
Cluster.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from core.errors import Unavailable
from core.log.base import EventLog
from core.log.redis_streams import connect
from tests.contracts.test_event_log import *  # noqa: F403
from tests.integration.servers import RedisCluster, RedisServer

_prefixes = (f"contract-{n}" for n in itertools.count())


@pytest.fixture(params=["redis", "tls", "cluster"])
def event_log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    """An empty log on each of the servers in turn."""
    server: RedisServer | RedisCluster = request.getfixturevalue(
        {"redis": "redis_server", "tls": "redis_tls", "cluster": "redis_cluster"}[request.param]
    )
    ca_file = str(server.ca_file) if isinstance(server, RedisServer) and server.tls else None
    log = connect(
        "127.0.0.1",
        server.port,
        cluster=isinstance(server, RedisCluster),
        tls=ca_file is not None,
        ca_file=ca_file,
        prefix=next(_prefixes),
    )
    yield log
    log.close()


def test_a_certificate_that_nobody_signed_is_refused(redis_tls: RedisServer) -> None:
    """Without the authority's file the server is not trusted: Unavailable, in one line that says so."""
    log = connect("127.0.0.1", redis_tls.port, tls=True)
    with pytest.raises(Unavailable, match="certificate") as raised:
        log.control_head()
    assert "\n" not in str(raised.value)
    log.close()
