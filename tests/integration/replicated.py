"""Log servers with replicas: a pair, and a Redis Cluster in which a replica takes over from a master that is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import redis

from tests.integration.servers import MASTERS, RedisCluster, RedisServer, ServerFailed

NODE_TIMEOUT_MS = 1_000
WAIT_S = 40.0


def replica_of(primary: RedisServer, folder: Path) -> RedisServer:
    """A replica of a running server, started and in step."""
    made = RedisServer(folder, options={"replicaof": f"127.0.0.1 {primary.port}", "repl-diskless-sync-delay": "0"})
    made.start()
    with made.client() as client:
        _wait(lambda: client.info("replication")["master_link_status"] == "up", "a replica that is in step")
    return made


class ReplicatedCluster(RedisCluster):
    """Three masters and a replica of each, on `nodes`: masters first, then their replicas in the same order."""

    start_seconds_max = WAIT_S

    def __init__(self, folder: Path) -> None:
        options = {
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0",
        }
        super().__init__(folder, 2 * MASTERS, options)

    def master_of(self, key: str) -> RedisServer:
        """The running node that serves the key."""
        client = self.client()
        found = client.get_node_from_key(key)
        client.close()
        assert found is not None
        return next(node for node in self.nodes if node.port == found.port)

    def replica_of(self, master: RedisServer) -> RedisServer:
        """The running replica of a master."""
        with master.client() as client:
            port = client.info("replication")["slave0"]["port"]
        return next(node for node in self.nodes if node.port == port)

    def _join(self) -> None:
        super()._join()
        _wait(
            lambda: all(len(self._known(node)) == len(self.nodes) for node in self.nodes), "nodes that know each other"
        )
        for master, node in zip(self.nodes, self.nodes[MASTERS:], strict=False):
            with master.client() as client:
                name = client.execute_command("CLUSTER MYID")
            with node.client() as client:
                client.execute_command("CLUSTER REPLICATE", name)

    def _known(self, node: RedisServer) -> list[str]:
        with node.client() as client:
            return [*client.execute_command("CLUSTER NODES")]

    def _is_ok(self, node: RedisServer) -> bool:
        """Also that a replica is in step."""
        try:
            if not super()._is_ok(node):
                return False
            with node.client() as client:
                replication = client.info("replication")
        except redis.RedisError:
            return False
        return replication["role"] == "master" or replication["master_link_status"] == "up"


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise ServerFailed(f"waited {WAIT_S:.0f} s in vain: {what}")
        time.sleep(0.05)
