"""DNS over TCP; the answers are made by dnspython."""

import socket
import struct

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, read_exactly


def answering(code: int) -> Behaviour:
    """Return a behaviour that answers every query with this code, and with no record."""

    def serve(connection: socket.socket) -> None:
        while True:
            connection.sendall(_answer(connection, code))

    return serve


def cutting(connection: socket.socket) -> None:
    """Send half of an answer, and reset the connection."""
    answer = _answer(connection, 0)
    cut_off(connection, answer[: len(answer) // 2])


def _answer(connection: socket.socket, code: int) -> bytes:
    import dns.message

    (size,) = struct.unpack("!H", read_exactly(connection, 2))
    answer = dns.message.make_response(dns.message.from_wire(read_exactly(connection, size)))
    answer.set_rcode(code)
    encoded = answer.to_wire()
    return struct.pack("!H", len(encoded)) + encoded
