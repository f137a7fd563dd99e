"""The client/server protocol of MySQL and MariaDB."""

import socket
import struct

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, linger, read_exactly

_QUIT, _QUERY = 1, 3
_MARK = b"provoked"  # a query with this word is the one that a test is about
# What SQLAlchemy asks a new connection, by a word of the query.
_ANSWERS = {
    b"version()": b"8.0.30",
    b"isolation": b"REPEATABLE-READ",
    b"sql_mode": b"",
    b"lower_case": b"0",
}
# LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH
_CAPABILITIES = 1 | 8 | 0x200 | 0x2000 | 0x8000 | 0x80000
_AUTOCOMMIT = 2


def refusing_connections(code: int) -> Behaviour:
    """Return a behaviour that sends this error in the place of the greeting."""

    def serve(connection: socket.socket) -> None:
        # Before the greeting no version is agreed on: such an error has no SQLSTATE.
        body = b"\xff" + struct.pack("<H", code) + b"refused for the sake of a test"
        connection.sendall(_packet(0, body))
        linger(connection)

    return serve


def refusing_logins(code: int, sqlstate: str) -> Behaviour:
    """Return a behaviour that greets, and answers the login with this error."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(_packet(0, _greeting()))
        _read_packet(connection)
        connection.sendall(_packet(2, _error(code, sqlstate)))
        linger(connection)

    return serve


def refusing_queries(code: int, sqlstate: str) -> Behaviour:
    """Return a behaviour that lets everybody in, and answers the query with this error."""

    def serve(connection: socket.socket) -> None:
        _log_in(connection)
        while True:
            query = _read_packet(connection)
            refused = _MARK in query
            connection.sendall(_packet(1, _error(code, sqlstate)) if refused else _reply(query))

    return serve


def idle(connection: socket.socket) -> None:
    """Let the client in, and answer every query."""
    _log_in(connection)
    while True:
        connection.sendall(_reply(_read_packet(connection)))


def hanging_queries(connection: socket.socket) -> None:
    """Let the client in, and never answer its query."""
    _log_in(connection)
    _serve_to_mark(connection)
    while connection.recv(65536):
        pass


def cutting(connection: socket.socket) -> None:
    """Let the client in, send half of the answer to its query, and reset the connection."""
    _log_in(connection)
    _serve_to_mark(connection)
    cut_off(connection, _rows(b"x" * 200)[:60])


def _serve_to_mark(connection: socket.socket) -> None:
    query = _read_packet(connection)
    while _MARK not in query:
        connection.sendall(_reply(query))
        query = _read_packet(connection)


def _log_in(connection: socket.socket) -> None:
    connection.sendall(_packet(0, _greeting()))
    _read_packet(connection)
    connection.sendall(_packet(2, _ok()))


def _greeting() -> bytes:
    low, high = _CAPABILITIES & 0xFFFF, _CAPABILITIES >> 16
    return (
        b"\x0a8.0.30\0"
        + struct.pack("<I", 1)
        + b"saltsalt\0"
        + struct.pack("<HBHHB", low, 45, _AUTOCOMMIT, high, 21)
        + bytes(10)
        + b"saltsaltsalt\0"
        + b"mysql_native_password\0"
    )


def _read_packet(connection: socket.socket) -> bytes:
    head = read_exactly(connection, 4)
    body = read_exactly(connection, int.from_bytes(head[:3], "little"))
    if body == bytes([_QUIT]):
        raise EOFError("the client says goodbye")
    return body


def _reply(query: bytes) -> bytes:
    if query[0] == _QUERY and query[1:].lstrip().lower().startswith((b"select", b"show")):
        words = query[1:].lower()
        return _rows(next((text for word, text in _ANSWERS.items() if word in words), b"utf8mb4"))
    return _packet(1, _ok())


def _rows(value: bytes) -> bytes:
    """Return a result of one row with one column."""
    column = (
        b"".join(_text(part) for part in (b"def", b"", b"", b"", b"x", b"x"))
        + b"\x0c"
        + struct.pack("<HIBHB", 45, 255, 253, 0, 0)
        + bytes(2)
    )
    end = b"\xfe" + struct.pack("<HH", 0, _AUTOCOMMIT)
    packets = (b"\x01", column, end, _text(value), end)
    return b"".join(_packet(number, body) for number, body in enumerate(packets, start=1))


def _text(value: bytes) -> bytes:
    return bytes([len(value)]) + value


def _ok() -> bytes:
    return b"\0\0\0" + struct.pack("<HH", _AUTOCOMMIT, 0)


def _error(code: int, sqlstate: str) -> bytes:
    head = b"\xff" + struct.pack("<H", code) + b"#" + sqlstate.encode()
    return head + b"refused for the sake of a test"


def _packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body
