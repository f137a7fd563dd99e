"""TDS, the protocol of SQL Server, version 7.4."""

import socket
import struct

from tests.integration.clients.servers import Behaviour, hang
from tests.integration.clients.wire.stream import cut_off, linger, read_exactly

_REPLY = 4
_ERROR, _LOGIN_ACK, _DONE = 0xAA, 0xAD, 0xFD
_NO_ENCRYPTION = 2
_MARK = "provoked".encode("utf-16-le")  # a query with this word is the one that a test is about


def refusing_logins(number: int, severity: int = 14) -> Behaviour:
    """Return a behaviour that answers a login with this error."""

    def serve(connection: socket.socket) -> None:
        _agree(connection)
        _read(connection)
        _send(connection, _error(number, severity) + _done(failed=True))
        linger(connection)

    return serve


def refusing_queries(number: int, severity: int = 16) -> Behaviour:
    """Return a behaviour that lets everybody in, and answers the query with this error.

    Args:
        number: The error's number.
        severity: From 20 on the server closes the connection.
    """

    def serve(connection: socket.socket) -> None:
        _log_in(connection)
        while True:
            _serve_to_mark(connection)
            _send(connection, _error(number, severity) + _done(failed=True))
            if severity >= 20:
                linger(connection)
                return

    return serve


def hanging_queries(connection: socket.socket) -> None:
    """Let the client in, and never answer its query."""
    _log_in(connection)
    _serve_to_mark(connection)
    hang(connection)


def cutting(connection: socket.socket) -> None:
    """Let the client in, send half of the answer to its query, and reset the connection."""
    _log_in(connection)
    _serve_to_mark(connection)
    cut_off(connection, struct.pack("!BBHHBB", _REPLY, 1, 200, 0, 1, 0) + bytes(50))


def idle(connection: socket.socket) -> None:
    """Let the client in, and answer every query."""
    _log_in(connection)
    _serve_to_mark(connection)


def _serve_to_mark(connection: socket.socket) -> None:
    while _MARK not in _read(connection):
        _send(connection, _done())


def _agree(connection: socket.socket) -> None:
    """Answer the first message: this server is version 15, and does not encrypt."""
    _read(connection)
    version, encryption = struct.pack("!BBHH", 15, 0, 0, 0), bytes([_NO_ENCRYPTION])
    start = 2 * 5 + 1
    head = struct.pack("!BHHBHH", 0, start, 6, 1, start + 6, 1) + b"\xff"
    _send(connection, head + version + encryption)


def _log_in(connection: socket.socket) -> None:
    _agree(connection)
    _read(connection)
    name = "Microsoft SQL Server".encode("utf-16-le")
    body = struct.pack("!BIB", 1, 0x74000004, len(name) // 2) + name + bytes([15, 0, 0, 0])
    _send(connection, struct.pack("<BH", _LOGIN_ACK, len(body)) + body + _done())


def _read(connection: socket.socket) -> bytes:
    """Read a message, which may have several packets."""
    message = b""
    is_last = False
    while not is_last:
        _, status, size = struct.unpack("!BBH", read_exactly(connection, 4))
        message += read_exactly(connection, size - 4)[4:]
        is_last = bool(status & 1)
    return message


def _send(connection: socket.socket, body: bytes) -> None:
    connection.sendall(struct.pack("!BBHHBB", _REPLY, 1, len(body) + 8, 0, 1, 0) + body)


def _error(number: int, severity: int) -> bytes:
    text = "for the sake of a test"
    body = (
        struct.pack("<iBBH", number, 1, severity, len(text))
        + text.encode("utf-16-le")
        + b"\0\0"  # the names of the server and of the procedure
        + struct.pack("<i", 1)
    )
    return struct.pack("<BH", _ERROR, len(body)) + body


def _done(*, failed: bool = False) -> bytes:
    return struct.pack("<BHHQ", _DONE, 2 if failed else 0, 0, 0)
