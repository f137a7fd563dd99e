"""The text protocol of memcached."""

import socket

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, read_line


def answering(line: bytes) -> Behaviour:
    """Return a behaviour that answers every command with this line."""

    def serve(connection: socket.socket) -> None:
        while True:
            read_line(connection)
            connection.sendall(line + b"\r\n")

    return serve


def cutting(connection: socket.socket) -> None:
    """Promise a value of 1000 bytes, send half of it, and reset the connection."""
    read_line(connection)
    cut_off(connection, b"VALUE key 0 1000\r\n" + b"x" * 500)
