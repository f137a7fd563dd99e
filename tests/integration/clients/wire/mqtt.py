"""MQTT 3.1.1 and 5."""

import socket

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, linger, read_exactly

_CONNACK, _SUBACK, _DISCONNECT = 0x20, 0x90, 0xE0


def refusing(code: int, *, version: int = 5) -> Behaviour:
    """Return a behaviour that answers a connection with this reason code."""
    properties = b"\0" if version == 5 else b""

    def serve(connection: socket.socket) -> None:
        _read(connection)
        connection.sendall(_packet(_CONNACK, bytes([0, code]) + properties))
        linger(connection)

    return serve


def disconnecting(code: int) -> Behaviour:
    """Return a behaviour that answers a message by saying goodbye for this reason."""

    def serve(connection: socket.socket) -> None:
        _accept(connection)
        _read(connection)
        connection.sendall(_packet(_DISCONNECT, bytes([code, 0])))
        linger(connection)

    return serve


def acknowledging(code: int) -> Behaviour:
    """Return a behaviour that acknowledges each subscription with this reason code."""

    def serve(connection: socket.socket) -> None:
        _accept(connection)
        while True:
            _, body = _read(connection)
            connection.sendall(_packet(_SUBACK, body[:2] + bytes([0, code])))

    return serve


def silent(connection: socket.socket) -> None:
    """Let the client in, and never answer its subscription."""
    _accept(connection)
    while True:
        _read(connection)


def cutting(connection: socket.socket) -> None:
    """Let the client in, send half of the answer to its subscription, and reset the connection."""
    _accept(connection)
    _read(connection)
    cut_off(connection, bytes([_SUBACK, 4, 0]))


def _accept(connection: socket.socket) -> None:
    _read(connection)
    connection.sendall(_packet(_CONNACK, bytes(3)))


def _read(connection: socket.socket) -> tuple[int, bytes]:
    kind = read_exactly(connection, 1)[0] >> 4
    (size,) = read_exactly(connection, 1)  # a small packet's size is one byte
    return kind, read_exactly(connection, size)


def _packet(kind: int, body: bytes) -> bytes:
    return bytes([kind, len(body)]) + body
