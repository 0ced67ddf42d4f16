"""Log servers with replicas: a pair, and a Redis Cluster in which a replica takes over from a master that is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import redis

from tests.integration.servers import RedisServer, ServerFailed

MASTERS = 3
NODE_TIMEOUT_MS = 1_000
WAIT_S = 40.0


def replica_of(primary: RedisServer, folder: Path) -> RedisServer:
    """A replica of a running server, started and in step."""
    made = RedisServer(folder, options={"replicaof": f"127.0.0.1 {primary.port}", "repl-diskless-sync-delay": "0"})
    made.start()
    with made.client() as client:
        _wait(lambda: client.info("replication")["master_link_status"] == "up", "a replica that is in step")
    return made


class ReplicatedCluster:
    """Three masters and a replica of each, on `nodes`: masters first, then their replicas in the same order."""

    def __init__(self, folder: Path) -> None:
        options = {
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0",
        }
        self.nodes = [RedisServer(folder / f"node-{n}", cluster=True, options=options) for n in range(2 * MASTERS)]

    @property
    def port(self) -> int:
        """The first node's port; cluster clients find the others from it."""
        return self.nodes[0].port

    def start(self) -> None:
        """Start and join all nodes, and wait until each slot has a master with a replica in step."""
        for node in self.nodes:
            node.start()
        bounds = [16384 * n // MASTERS for n in range(MASTERS + 1)]
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                if number < MASTERS:
                    client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
                if node is not first:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", first.port, first.bus_port)
        _wait(
            lambda: all(len(self._known(node)) == len(self.nodes) for node in self.nodes), "nodes that know each other"
        )
        for master, node in zip(self.nodes, self.nodes[MASTERS:], strict=False):
            with master.client() as client:
                name = client.execute_command("CLUSTER MYID")
            with node.client() as client:
                client.execute_command("CLUSTER REPLICATE", name)
        self.wait_ok()

    def wait_ok(self) -> None:
        """Wait until every running node sees all slots served, and every replica is in step."""
        _wait(lambda: all(self._is_ok(node) for node in self.nodes if node.running), "a cluster that is ok")

    def master_of(self, key: str) -> RedisServer:
        """The running node that serves the key."""
        client = redis.RedisCluster(host="127.0.0.1", port=self.port, socket_timeout=5)
        found = client.get_node_from_key(key)
        client.close()
        assert found is not None
        return next(node for node in self.nodes if node.port == found.port)

    def replica_of(self, master: RedisServer) -> RedisServer:
        """The running replica of a master."""
        with master.client() as client:
            port = client.info("replication")["slave0"]["port"]
        return next(node for node in self.nodes if node.port == port)

    def kill(self) -> None:
        """Kill every node."""
        for node in self.nodes:
            node.kill()

    def _known(self, node: RedisServer) -> list[str]:
        with node.client() as client:
            return [*client.execute_command("CLUSTER NODES")]

    def _is_ok(self, node: RedisServer) -> bool:
        try:
            with node.client() as client:
                state = client.execute_command("CLUSTER INFO")["cluster_state"]
                replication = client.info("replication")
        except redis.RedisError:
            return False
        is_in_step = replication["role"] == "master" or replication["master_link_status"] == "up"
        return bool(state == "ok" and is_in_step)


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise ServerFailed(f"waited {WAIT_S:.0f} s in vain: {what}")
        time.sleep(0.05)
