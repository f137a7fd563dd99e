"""LDAP, version 3."""

import socket

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, linger, read_exactly

_BIND, _BOUND = 0x60, 0x61
_SEARCH, _SEARCHED = 0x63, 0x65
_EXTENDED = 0x78
_ENUMERATED, _INTEGER, _TEXT, _SEQUENCE = 0x0A, 0x02, 0x04, 0x30
_OID = 0x8A
_NOTICE_OF_DISCONNECTION = b"1.3.6.1.4.1.1466.20036"


def answering(*, bind: int = 0, search: int = 0) -> Behaviour:
    """Return a behaviour that answers logins and searches with these result codes."""

    def serve(connection: socket.socket) -> None:
        while True:
            number, kind = _read(connection)
            if kind == _BIND:
                _send(connection, number, _BOUND, _result(bind))
            elif kind == _SEARCH:
                _send(connection, number, _SEARCHED, _result(search))

    return serve


def disconnecting(connection: socket.socket) -> None:
    """Answer a search with the notice that the server goes, code 52."""
    _serve_to_search(connection)
    notice = _result(52) + _element(_OID, _NOTICE_OF_DISCONNECTION)
    _send(connection, 0, _EXTENDED, notice)
    linger(connection)


def cutting(connection: socket.socket) -> None:
    """Send half of the answer to a search, and reset the connection."""
    _serve_to_search(connection)
    cut_off(connection, bytes([_SEQUENCE, 100]) + bytes(50))


def silent(connection: socket.socket) -> None:
    """Answer the login, and never a search."""
    _serve_to_search(connection)
    while connection.recv(65536):
        pass


def _serve_to_search(connection: socket.socket) -> None:
    number, kind = _read(connection)
    while kind != _SEARCH:
        _send(connection, number, _BOUND, _result(0))
        number, kind = _read(connection)


def _read(connection: socket.socket) -> tuple[int, int]:
    """Read a message, and return its number and its kind."""
    read_exactly(connection, 1)
    (size,) = read_exactly(connection, 1)
    if size > 0x80:
        size = int.from_bytes(read_exactly(connection, size - 0x80), "big")
    message = read_exactly(connection, size)
    length = message[1]
    return int.from_bytes(message[2 : 2 + length], "big"), message[2 + length]


def _send(connection: socket.socket, number: int, kind: int, body: bytes) -> None:
    message = _element(_INTEGER, bytes([number])) + _element(kind, body)
    connection.sendall(_element(_SEQUENCE, message))


def _result(code: int) -> bytes:
    return _element(_ENUMERATED, bytes([code])) + _element(_TEXT, b"") + _element(_TEXT, b"")


def _element(tag: int, body: bytes) -> bytes:
    return bytes([tag, len(body)]) + body
