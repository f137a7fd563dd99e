"""The protocol of ZooKeeper."""

import socket
import struct

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, read_exactly

_PING, _CLOSE, _AUTH = 11, -11, 100


def refusing(code: int) -> Behaviour:
    """Return a behaviour that answers every request with this error code."""

    def serve(connection: socket.socket) -> None:
        _open_session(connection)
        while True:
            number, kind = _read_request(connection)
            is_request = kind not in {_PING, _CLOSE, _AUTH}
            _send(connection, struct.pack("!iqi", number, 1, code if is_request else 0))

    return serve


def dropping_requests(connection: socket.socket) -> None:
    """Open a session, and close the connection at the first request."""
    _open_session(connection)
    _read_request(connection)


def cutting(connection: socket.socket) -> None:
    """Open a session, send half of the answer to a request, and reset the connection."""
    _open_session(connection)
    _read_request(connection)
    cut_off(connection, struct.pack("!i", 100) + bytes(50))


def _open_session(connection: socket.socket) -> None:
    _read(connection)
    _send(connection, struct.pack("!iiqi", 0, 10_000, 1, 16) + bytes(16))


def _read_request(connection: socket.socket) -> tuple[int, int]:
    number, kind = struct.unpack("!ii", _read(connection)[:8])
    return number, kind


def _read(connection: socket.socket) -> bytes:
    (size,) = struct.unpack("!i", read_exactly(connection, 4))
    return read_exactly(connection, size)


def _send(connection: socket.socket, body: bytes) -> None:
    connection.sendall(struct.pack("!i", len(body)) + body)
