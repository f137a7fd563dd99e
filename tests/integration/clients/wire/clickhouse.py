"""The native protocol of ClickHouse, an old version of it."""

import socket
import struct

from tests.integration.clients.servers import Behaviour, hang
from tests.integration.clients.wire.stream import cut_off, linger

_HELLO, _EXCEPTION = 0, 2
_MARK = b"provoked"  # a query with this word is the one that a test is about


def refusing_logins(code: int, name: str) -> Behaviour:
    """Return a behaviour that answers a login with this error."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(_error(code, name))
        linger(connection)

    return serve


def refusing_queries(code: int, name: str) -> Behaviour:
    """Return a behaviour that answers the query with this error."""

    def serve(connection: socket.socket) -> None:
        _serve_to_query(connection)
        connection.sendall(_error(code, name))
        hang(connection)

    return serve


def hanging_queries(connection: socket.socket) -> None:
    """Never answer the query."""
    _serve_to_query(connection)
    hang(connection)


def cutting(connection: socket.socket) -> None:
    """Send half of the answer to the query, and reset the connection."""
    _serve_to_query(connection)
    answer = _error(241, "MEMORY_LIMIT_EXCEEDED")
    cut_off(connection, answer[: len(answer) // 2])


def _serve_to_query(connection: socket.socket) -> None:
    connection.recv(65536)
    # The name, a version that is old, and so has nothing more to say.
    connection.sendall(bytes([_HELLO]) + _string("ClickHouse") + bytes([1, 1]) + _number(50264))
    received = b""
    while _MARK not in received:
        more = connection.recv(65536)
        if not more:
            raise EOFError("the client closed the connection")
        received += more


def _error(code: int, name: str) -> bytes:
    text = _string(f"DB::{name}") + _string("for the sake of a test") + _string("")
    return bytes([_EXCEPTION]) + struct.pack("<i", code) + text + b"\0"


def _string(text: str) -> bytes:
    return _number(len(text)) + text.encode()


def _number(value: int) -> bytes:
    """Return a number in groups of seven bits, the lowest first."""
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
