"""The protocol of Kafka: one broker with one topic, whose old versions are enough."""

import socket
import struct
from collections.abc import Callable

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, read_exactly

_PRODUCE, _METADATA, _API_VERSIONS, _INIT_PRODUCER_ID = 0, 3, 18, 22
# The versions that this broker claims to speak.
_VERSIONS = {_PRODUCE: (0, 3), 1: (0, 4), _METADATA: (0, 4), _API_VERSIONS: (0, 0)}
_UNSUPPORTED_VERSION = 35
_TOPIC = "provoked"


def answering(*, topic: int = 0, produce: int = 0) -> Behaviour:
    """Return the behaviour of a broker.

    Args:
        topic: The error code that it has for the topic.
        produce: The error code with which it answers a message.
    """
    return lambda connection: _serve(connection, topic, produce, connection.sendall)


def cutting(connection: socket.socket) -> None:
    """Answer a message with half an answer, and reset the connection."""

    def send(answer: bytes) -> None:
        if len(answer) == len(_framed(0, _produced(0))):
            cut_off(connection, answer[: len(answer) // 2])
            raise EOFError("cut off")
        connection.sendall(answer)

    _serve(connection, 0, 0, send)


def hanging_messages(connection: socket.socket) -> None:
    """Answer all but messages."""
    _serve(connection, 0, None, connection.sendall)


def _serve(
    connection: socket.socket, topic: int, produce: int | None, send: Callable[[bytes], None]
) -> None:
    host, port = connection.getsockname()
    while True:
        (size,) = struct.unpack("!i", read_exactly(connection, 4))
        request = read_exactly(connection, size)
        kind, version, number = struct.unpack("!hhi", request[:8])
        if kind == _API_VERSIONS:
            send(_framed(number, _versions(0 if version == 0 else _UNSUPPORTED_VERSION)))
        elif kind == _METADATA:
            send(_framed(number, _metadata(version, host, port, topic)))
        elif kind == _PRODUCE and produce is not None:
            send(_framed(number, _produced(produce)))


def _versions(error: int) -> bytes:
    versions = b"".join(
        struct.pack("!hhh", kind, first, last) for kind, (first, last) in _VERSIONS.items()
    )
    return struct.pack("!hi", error, len(_VERSIONS)) + versions


def _metadata(version: int, host: str, port: int, error: int) -> bytes:
    rack = struct.pack("!h", -1)
    broker = struct.pack("!i", 1) + _text(host) + struct.pack("!i", port)
    partition = struct.pack("!hiiiiii", 0, 0, 1, 1, 1, 1, 1)
    is_internal = b"\0" if version >= 1 else b""
    topic = struct.pack("!h", error) + _text(_TOPIC) + is_internal
    return (
        (bytes(4) if version >= 3 else b"")  # the throttle time
        + struct.pack("!i", 1)
        + broker
        + (rack if version >= 1 else b"")
        + (struct.pack("!h", -1) if version >= 2 else b"")  # the cluster's id
        + (struct.pack("!i", 1) if version >= 1 else b"")  # the controller
        + struct.pack("!i", 1)
        + topic
        + (struct.pack("!i", 1) + partition if error == 0 else struct.pack("!i", 0))
    )


def _produced(error: int) -> bytes:
    partition = struct.pack("!ihqq", 0, error, -1, -1)
    return struct.pack("!i", 1) + _text(_TOPIC) + struct.pack("!i", 1) + partition + bytes(4)


def _text(value: str) -> bytes:
    return struct.pack("!h", len(value)) + value.encode()


def _framed(number: int, body: bytes) -> bytes:
    return struct.pack("!ii", len(body) + 4, number) + body
