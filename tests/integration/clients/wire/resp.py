"""RESP, the protocol of Redis and Valkey."""

import socket
from collections.abc import Callable

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, read_exactly, read_line

# What clients send before the command that they are asked for.
_GREETINGS = {b"AUTH", b"CLIENT", b"HELLO", b"INFO", b"PING", b"SELECT"}


def answering(error: str, *, to: bytes = b"") -> Behaviour:
    """Return a behaviour that answers commands with this error.

    Args:
        error: The error's text with its code in front: "LOADING Redis is loading".
        to: The only command that is answered so; otherwise every one but the greetings.
    """

    def serve(connection: socket.socket) -> None:
        _serve(connection, lambda name: name == to if to else name not in _GREETINGS, error)

    return serve


def refusing_all(error: str) -> Behaviour:
    """Return a behaviour that answers every command with this error, greetings included."""
    return lambda connection: _serve(connection, lambda name: True, error)


def idle(connection: socket.socket) -> None:
    """Answer every command with OK."""
    while True:
        connection.sendall(_ok(_read_command(connection)))


def cutting(connection: socket.socket) -> None:
    """Promise a value of 1000 bytes, send half of it, and reset the connection."""
    name = _read_command(connection)
    while name in _GREETINGS:
        connection.sendall(_ok(name))
        name = _read_command(connection)
    cut_off(connection, b"$1000\r\n" + b"x" * 500)


def _serve(connection: socket.socket, is_refused: Callable[[bytes], bool], error: str) -> None:
    while True:
        name = _read_command(connection)
        connection.sendall(f"-{error}\r\n".encode() if is_refused(name) else _ok(name))


def _ok(name: bytes) -> bytes:
    if name == b"HELLO":
        return b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"
    return b"+OK\r\n"


def _read_command(connection: socket.socket) -> bytes:
    count = int(read_line(connection).removeprefix(b"*"))
    words = []
    for _ in range(count):
        size = int(read_line(connection).removeprefix(b"$"))
        words.append(read_exactly(connection, size + 2)[:-2])
    return words[0].upper()
