"""TNS, the protocol of Oracle's listener: how it turns a client away."""

import socket
import struct

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, linger

_REFUSE = 4


def refusing(code: int) -> Behaviour:
    """Return a behaviour that turns every client away with this error."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(_refusal(code))
        linger(connection)

    return serve


def cutting(connection: socket.socket) -> None:
    """Send half of an answer, and reset the connection."""
    connection.recv(65536)
    answer = _refusal(12518)
    cut_off(connection, answer[: len(answer) // 2])


def _refusal(code: int) -> bytes:
    text = f"(DESCRIPTION=(TMP=)(VSNNUM=0)(ERR={code})(ERROR_STACK=(ERROR=(CODE={code})(EMFI=4))))"
    body = struct.pack("!BBH", 34, 0, len(text)) + text.encode()
    return struct.pack("!HHBBH", len(body) + 8, 0, _REFUSE, 0, 0) + body
