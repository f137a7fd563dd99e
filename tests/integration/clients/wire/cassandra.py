"""The native protocol of Cassandra, version 4."""

import socket
import struct
import uuid

from tests.integration.clients.servers import Behaviour, hang
from tests.integration.clients.wire.stream import cut_off, read_exactly

_ERROR, _STARTUP, _READY, _OPTIONS, _SUPPORTED = 0x00, 0x01, 0x02, 0x05, 0x06
_AUTHENTICATE, _QUERY, _RESULT, _REGISTER = 0x03, 0x07, 0x08, 0x0B
_AUTH_RESPONSE, _AUTH_SUCCESS = 0x0F, 0x10
_MARK = b"provoked"  # a query with this word is the one that a test is about
_ROWS, _VARCHAR, _UUID, _INET, _SET = 2, 0x000D, 0x000C, 0x0010, 0x0022


def refusing_connections(code: int, *, at: int = _STARTUP) -> Behaviour:
    """Return a behaviour that answers the start of a connection with this error.

    Args:
        code: The error's code.
        at: The kind of the message that is answered so.
    """

    def serve(connection: socket.socket) -> None:
        while True:
            stream, kind, _ = _read(connection)
            if kind == at:
                _send(connection, stream, _ERROR, _error(code))
            else:
                _reply(connection, stream, kind, b"")

    return serve


def refusing_logins(code: int) -> Behaviour:
    """Return a behaviour that answers a password with this error."""
    return refusing_connections(code, at=_AUTH_RESPONSE)


def refusing_queries(code: int, details: bytes = b"") -> Behaviour:
    """Return a behaviour that answers the query for "provoked" with this error.

    Args:
        code: The error's code.
        details: What the error has in addition to its text.
    """

    def serve(connection: socket.socket) -> None:
        while True:
            stream = _serve_to_mark(connection)
            _send(connection, stream, _ERROR, _error(code) + details)

    return serve


def hanging_queries(connection: socket.socket) -> None:
    """Never answer the query for "provoked"."""
    _serve_to_mark(connection)
    hang(connection)


def cutting(connection: socket.socket) -> None:
    """Send half of the answer to the query for "provoked", and reset the connection."""
    stream = _serve_to_mark(connection)
    cut_off(connection, struct.pack("!BBhBi", 0x84, 0, stream, _RESULT, 1000) + b"x" * 500)


def consistency(required: int = 1, alive: int = 0) -> bytes:
    """Return the details of the error that too few replicas are alive."""
    return struct.pack("!Hii", 1, required, alive)


def timed_out(kind: str = "") -> bytes:
    """Return the details of the error that the replicas did not answer in time."""
    last = _string(kind) if kind else b"\0"
    return struct.pack("!Hii", 1, 0, 1) + last


def _serve_to_mark(connection: socket.socket) -> int:
    while True:
        stream, kind, body = _read(connection)
        if kind == _QUERY and _MARK in body:
            return stream
        _reply(connection, stream, kind, body)


def _reply(connection: socket.socket, stream: int, kind: int, body: bytes) -> None:
    if kind == _OPTIONS:
        options = {"CQL_VERSION": ["3.4.5"], "COMPRESSION": []}
        answer = struct.pack("!H", len(options))
        for name, values in options.items():
            answer += _string(name) + struct.pack("!H", len(values))
            answer += b"".join(_string(value) for value in values)
        _send(connection, stream, _SUPPORTED, answer)
    elif kind == _STARTUP:
        _send(connection, stream, _AUTHENTICATE, _string("PasswordAuthenticator"))
    elif kind == _AUTH_RESPONSE:
        _send(connection, stream, _AUTH_SUCCESS, struct.pack("!i", -1))
    elif kind == _REGISTER:
        _send(connection, stream, _READY, b"")
    elif b"system.local" in body:
        _send(connection, stream, _RESULT, _local(connection))
    else:
        _send(connection, stream, _RESULT, _rows({"peer": struct.pack("!H", _INET)}, []))


def _local(connection: socket.socket) -> bytes:
    """Return what a node says about itself."""
    address = socket.inet_aton(connection.getsockname()[0])
    values = {
        "key": b"local",
        "cluster_name": b"c",
        "data_center": b"d",
        "rack": b"r",
        "partitioner": b"org.apache.cassandra.dht.Murmur3Partitioner",
        "release_version": b"4.0.0",
        "cql_version": b"3.4.5",
    }
    types: dict[str, bytes] = {name: struct.pack("!H", _VARCHAR) for name in values}
    types |= {name: struct.pack("!H", _UUID) for name in ("host_id", "schema_version")}
    types |= {name: struct.pack("!H", _INET) for name in ("rpc_address", "broadcast_address")}
    types["tokens"] = struct.pack("!HH", _SET, _VARCHAR)
    tokens = struct.pack("!ii", 1, 1) + b"0"
    row = [*values.values(), uuid.UUID(int=1).bytes, uuid.UUID(int=2).bytes, address, address]
    return _rows(types, [*row, tokens])


def _rows(types: dict[str, bytes], row: list[bytes]) -> bytes:
    """Return a result with one row, or, where that is empty, with none."""
    columns = b"".join(_string(name) + kind for name, kind in types.items())
    head = struct.pack("!iii", _ROWS, 1, len(types)) + _string("system") + _string("local")
    cells = b"".join(struct.pack("!i", len(cell)) + cell for cell in row)
    return head + columns + struct.pack("!i", 1 if row else 0) + cells


def _error(code: int) -> bytes:
    return struct.pack("!i", code) + _string("for the sake of a test")


def _string(text: str) -> bytes:
    return struct.pack("!H", len(text)) + text.encode()


def _read(connection: socket.socket) -> tuple[int, int, bytes]:
    _, _, stream, kind, size = struct.unpack("!BBhBi", read_exactly(connection, 9))
    return stream, kind, read_exactly(connection, size)


def _send(connection: socket.socket, stream: int, kind: int, body: bytes) -> None:
    connection.sendall(struct.pack("!BBhBi", 0x84, 0, stream, kind, len(body)) + body)
