"""A primary, its replica and three Sentinels that watch over them, all on loopback."""

import subprocess
from pathlib import Path

import redis
import redis.sentinel

from tests.support.stores import SetUp, Store, free_port, until

SERVICE = "circuits"
_SETTINGS = """\
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor {service} 127.0.0.1 {primary} 2
sentinel down-after-milliseconds {service} 500
sentinel failover-timeout {service} 3000
"""


class Sentinels(SetUp):
    """Servers that are good for one fail-over after the other.

    Args:
        binary: The server, Redis or Valkey.
        folder: Where it may write.
        password: That of the Sentinels.
    """

    def __init__(self, binary, folder, password=None):
        super().__init__()
        self._binary, self._folder = binary, Path(folder)
        self._password = password

    def _set_up(self):
        self.stores = [Store(self._binary, self._folder) for _ in range(2)]
        for store in self.stores:
            self.callback(store.kill)
        primary, replica = self.stores
        primary.start()
        replica.start("--replicaof", "127.0.0.1", str(primary.port))
        self.ports = [free_port() for _ in range(3)]
        self._processes = {port: self._start_sentinel(port, primary) for port in self.ports}
        until(self._know_each_other, "the Sentinels know each other and the replica")

    def _start_sentinel(self, port, primary):
        file = self._folder / f"sentinel-{port}.conf"
        settings = {"port": port, "folder": self._folder, "service": SERVICE}
        text = _SETTINGS.format(primary=primary.port, **settings)
        if self._password:
            text += f"requirepass {self._password}\nsentinel sentinel-pass {self._password}\n"
        file.write_text(text)
        process = subprocess.Popen(
            [self._binary, str(file), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.callback(process.wait, 10)
        self.callback(process.kill)
        return process

    def _know_each_other(self):
        return all(
            state is not None and (state["num-other-sentinels"], state["num-slaves"]) == (2, 1)
            for state in map(self._state, self.ports)
        )

    def _state(self, port):
        try:
            with self.sentinel(port) as client:
                return client.sentinel_masters().get(SERVICE)
        except (redis.ConnectionError, redis.TimeoutError):
            return None

    def sentinel(self, port):
        return redis.Redis(port=port, password=self._password, socket_timeout=5)

    def addresses(self):
        return [("127.0.0.1", port) for port in self.ports]

    def client(self, kind=redis.sentinel):
        """Return a client of the primary, sync or async."""
        return kind.Sentinel(self.addresses()).master_for(SERVICE)

    def kill_sentinel(self, port):
        self._processes[port].kill()

    def primary(self):
        """Return the store that the Sentinels name."""
        (port,) = {state["port"] for port in self.ports if (state := self._state(port))}
        return next(store for store in self.stores if store.port == port)
