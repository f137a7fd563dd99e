"""The text protocol of NATS."""

import json
import socket

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, linger, read_exactly, read_line

_INFO = {"server_id": "x", "version": "2.10.0", "proto": 1, "headers": True, "max_payload": 1048576}


def refusing(error: str) -> Behaviour:
    """Return a behaviour that answers a connection with this error, and closes it."""

    def serve(connection: socket.socket) -> None:
        _greet(connection)
        read_line(connection)
        connection.sendall(f"-ERR '{error}'\r\n".encode())
        linger(connection)

    return serve


def replying(headers: str, body: str = "") -> Behaviour:
    """Return a behaviour that answers a request with a message of these headers and this body."""

    def serve(connection: socket.socket) -> None:
        _greet(connection)
        while True:
            subject, subscription = _read_request(connection)
            head = f"NATS/1.0{headers}\r\n\r\n"
            sizes = f"{len(head)} {len(head) + len(body)}"
            message = f"HMSG {subject} {subscription} {sizes}\r\n{head}{body}\r\n"
            connection.sendall(message.encode())

    return serve


def silent(connection: socket.socket) -> None:
    """Accept requests and never answer one."""
    _greet(connection)
    while True:
        _read_request(connection)


def cutting(connection: socket.socket) -> None:
    """Send half of an answer, and reset the connection."""
    _greet(connection)
    subject, subscription = _read_request(connection)
    cut_off(connection, f"MSG {subject} {subscription} 1000\r\n".encode() + b"x" * 500)


def _greet(connection: socket.socket) -> None:
    connection.sendall(f"INFO {json.dumps(_INFO)}\r\n".encode())


def _read_request(connection: socket.socket) -> tuple[str, str]:
    """Return where the answer to a request goes: the subject, and the subscription's number."""
    subscription = "1"
    while True:
        words = read_line(connection).decode().split()
        verb = words[0].upper() if words else ""
        if verb == "PING":
            connection.sendall(b"PONG\r\n")
        elif verb == "SUB":
            subscription = words[-1]
        elif verb in {"PUB", "HPUB"}:
            read_exactly(connection, int(words[-1]) + 2)
            has_reply = len(words) == (4 if verb == "PUB" else 5)
            if has_reply:
                return words[2], subscription
