"""A cluster on loopback: three primaries, and a replica of the one that has the circuits."""

from pathlib import Path

import redis
from redis.crc import key_slot

from tests.support.stores import SetUp, Store, free_port, until

_SLOTS = 16384
SLOT = key_slot(b"region-breaker")


class StoreCluster(SetUp):
    """Servers that share the slots, and outlive the loss of a primary.

    Args:
        binary: The server, Redis or Valkey.
        folder: Where it may write.
    """

    def __init__(self, binary, folder):
        super().__init__()
        self._binary, self._folder = binary, Path(folder)

    def _set_up(self):
        self._bus = [free_port() for _ in range(4)]
        self.nodes = [self._start_node(number) for number in range(4)]
        *primaries, self.replica = self.nodes
        size = -(-_SLOTS // len(primaries))
        for number, node in enumerate(primaries):
            first, last = number * size, min((number + 1) * size, _SLOTS) - 1
            self._tell(node, "ADDSLOTSRANGE", first, last)
            if first <= SLOT <= last:
                self.owner = node
        self.others = [node for node in primaries if node is not self.owner]
        for node in self.nodes[1:]:
            self._tell(node, "MEET", "127.0.0.1", self.nodes[0].port, self._bus[0])
        until(self._know_each_other, "all know each other")
        self._tell(self.replica, "REPLICATE", self._tell(self.owner, "MYID").decode())
        until(self._is_ready, "the cluster is ready")

    def _start_node(self, number):
        node = Store(self._binary, self._folder)
        self.callback(node.kill)
        node.start(
            "--cluster-enabled", "yes", "--cluster-node-timeout", "1000",
            "--cluster-config-file", f"nodes-{number}.conf",
            "--cluster-port", str(self._bus[number]),
        )  # fmt: skip
        return node

    def _tell(self, node, *command):
        with redis.Redis(port=node.port, socket_timeout=10) as client:
            return client.execute_command(f"CLUSTER {command[0]}", *command[1:])

    def _know_each_other(self):
        return all(
            len(seen) == len(self.nodes)
            and not any("handshake" in flags for flags in seen.values())
            for seen in map(self._seen_by, self.nodes)
        )

    def _seen_by(self, node):
        answer = self._tell(node, "NODES")
        if isinstance(answer, dict):  # a newer redis-py has parsed it
            return {name: seen["flags"] for name, seen in answer.items()}
        rows = (line.split() for line in answer.decode().splitlines())
        return {row[1]: row[2] for row in rows}

    def _is_ready(self):
        def ready(node):
            with redis.Redis(port=node.port, socket_timeout=10) as client:
                return client.execute_command("CLUSTER INFO")["cluster_state"] == "ok"

        with self.replica.client() as client:
            linked = client.info("replication")["master_link_status"] == "up"
        return linked and all(ready(node) for node in self.nodes)
