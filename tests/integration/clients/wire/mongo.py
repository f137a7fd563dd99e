"""The wire protocol of MongoDB: OP_MSG, and OP_QUERY for the first hello."""

import socket
import struct
from collections.abc import Mapping

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, read_exactly

_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_HELLO = {
    "helloOk": True,
    "ismaster": True,
    "isWritablePrimary": True,
    "maxBsonObjectSize": 16777216,
    "maxMessageSizeBytes": 48000000,
    "maxWriteBatchSize": 100000,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "readOnly": False,
    "ok": 1.0,
}


def refusing(code: int, name: str, **more: object) -> Behaviour:
    """Return a behaviour that answers every command but the hello with this error.

    Args:
        code: The error's number.
        name: Its name.
        more: Fields of the answer in addition.
    """
    text = "for the sake of a test"
    refusal = {"ok": 0.0, "code": code, "codeName": name, "errmsg": text, **more}

    def serve(connection: socket.socket) -> None:
        while True:
            number, kind, command = _read(connection)
            is_hello = command.keys() & {"hello", "ismaster", "isMaster"}
            connection.sendall(_reply(number, kind, _HELLO if is_hello else refusal))

    return serve


def cutting(connection: socket.socket) -> None:
    """Answer the hello, send half of the answer to a command, and reset the connection."""
    while True:
        number, kind, command = _read(connection)
        is_hello = command.keys() & {"hello", "ismaster", "isMaster"}
        whole = _reply(number, kind, _HELLO)
        if not is_hello:
            cut_off(connection, whole[: len(whole) // 2])
            return
        connection.sendall(whole)


def hanging_commands(connection: socket.socket) -> None:
    """Answer the hello and nothing else."""
    while True:
        number, kind, command = _read(connection)
        if command.keys() & {"hello", "ismaster", "isMaster"}:
            connection.sendall(_reply(number, kind, _HELLO))


def _read(connection: socket.socket) -> tuple[int, int, Mapping[str, object]]:
    import bson

    size, number, _, kind = struct.unpack("<iiii", read_exactly(connection, 16))
    body = read_exactly(connection, size - 16)
    if kind == _OP_QUERY:
        _, _, rest = body[4:].partition(b"\0")
        document = rest[8:]
    else:
        document = body[5:]  # the flags, and the kind of the first section
    (length,) = struct.unpack("<i", document[:4])
    return number, kind, bson.decode(document[:length])


def _reply(number: int, kind: int, document: Mapping[str, object]) -> bytes:
    import bson

    encoded = bson.encode(document)
    if kind == _OP_QUERY:
        operation, body = _OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + encoded
    else:
        operation, body = _OP_MSG, struct.pack("<iB", 0, 0) + encoded
    return struct.pack("<iiii", len(body) + 16, 1, number, operation) + body
