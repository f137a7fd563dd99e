"""Thrift's binary protocol; the messages are made by its own library."""

import socket

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, linger


def answering(kind: int) -> Behaviour:
    """Return a behaviour that answers a call with an exception of this kind."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(_exception(kind))
        linger(connection)

    return serve


def cutting(connection: socket.socket) -> None:
    """Send half of the answer to a call, and reset the connection."""
    connection.recv(65536)
    answer = _exception(0)
    cut_off(connection, answer[: len(answer) // 2])


def _exception(kind: int) -> bytes:
    from thrift.protocol.TBinaryProtocol import TBinaryProtocol
    from thrift.Thrift import TApplicationException, TMessageType
    from thrift.transport.TTransport import TMemoryBuffer

    buffer = TMemoryBuffer()
    protocol = TBinaryProtocol(buffer)
    protocol.writeMessageBegin("provoked", TMessageType.EXCEPTION, 0)
    TApplicationException(kind, "for the sake of a test").write(protocol)
    protocol.writeMessageEnd()
    return buffer.getvalue()
