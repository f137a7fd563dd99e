"""Bolt, the protocol of Neo4j, version 4.4."""

import socket
import struct

from tests.integration.clients.servers import Behaviour, hang
from tests.integration.clients.wire.stream import cut_off, linger, read_exactly

_HELLO, _RUN, _GOODBYE, _RESET = 0x01, 0x10, 0x02, 0x0F
_SUCCESS, _FAILURE, _IGNORED = 0x70, 0x7F, 0x7E


def refusing(code: str, *, at: int = _RUN) -> Behaviour:
    """Return a behaviour that answers a message with this error.

    Args:
        code: The error's code, "Neo.ClientError.Statement.SyntaxError" for example.
        at: The kind of the message: a query, or the login.
    """

    def serve(connection: socket.socket) -> None:
        _shake_hands(connection)
        has_failed = False
        while True:
            kind = _read(connection)
            if has_failed and kind not in {_RESET, _GOODBYE}:
                _send(connection, _IGNORED)
                continue
            has_failed = kind == at
            if has_failed:
                _send(connection, _FAILURE, _map(code=code, message="for the sake of a test"))
                if at == _HELLO:
                    linger(connection)
                    return
            else:
                _reply(connection, kind)

    return serve


def refusing_logins(code: str) -> Behaviour:
    """Return a behaviour that answers a login with this error."""
    return refusing(code, at=_HELLO)


def hanging_queries(connection: socket.socket) -> None:
    """Let the client in, and never answer its query."""
    _serve_to_query(connection)
    hang(connection)


def cutting(connection: socket.socket) -> None:
    """Send half of the answer to a query, and reset the connection."""
    _serve_to_query(connection)
    cut_off(connection, struct.pack("!H", 100) + b"x" * 50)


def _serve_to_query(connection: socket.socket) -> None:
    _shake_hands(connection)
    while (kind := _read(connection)) != _RUN:
        _reply(connection, kind)


def _shake_hands(connection: socket.socket) -> None:
    read_exactly(connection, 20)  # who it is, and four versions that it would like
    connection.sendall(bytes([0, 0, 4, 4]))


def _reply(connection: socket.socket, kind: int) -> None:
    if kind == _GOODBYE:
        raise EOFError("the client says goodbye")
    known = {"server": "Neo4j/4.4.0", "connection_id": "c"} if kind == _HELLO else {}
    _send(connection, _SUCCESS, _map(**known))


def _read(connection: socket.socket) -> int:
    """Read a message and return its kind."""
    message = b""
    while True:
        (size,) = struct.unpack("!H", read_exactly(connection, 2))
        if size == 0 and message:
            return message[1]
        message += read_exactly(connection, size)


def _send(connection: socket.socket, kind: int, fields: bytes = b"") -> None:
    message = bytes([0xB1 if fields else 0xB0, kind]) + fields
    connection.sendall(struct.pack("!H", len(message)) + message + b"\0\0")


def _map(**texts: str) -> bytes:
    parts = [_string(part) for item in texts.items() for part in item]
    return bytes([0xA0 + len(texts)]) + b"".join(parts)


def _string(text: str) -> bytes:
    return bytes([0xD0, len(text)]) + text.encode()
