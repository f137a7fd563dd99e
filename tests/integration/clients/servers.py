"""Servers on loopback that are dead, refuse, drop, hang or cut, on raw sockets.

A behaviour is what a server does with one connection: a function that gets the connected socket and
returns when it is done with it; the server closes the connection then. Each connection has a thread
of its own, and every blocking call on its socket ends when the server stops.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

Behaviour = Callable[[socket.socket], None]


class Server:
    """A server on a free port of 127.0.0.1 that treats every connection in the same way."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.host, self.port = self._listener.getsockname()
        self.accepted = 0
        self._farewell: object = None
        self.errors: list[BaseException] = []

    def start(self) -> None:
        """Begin to accept connections."""
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def stop(self) -> None:
        """Accept what has been connected so far, then close everything and wait for the threads."""
        # Connections are accepted in order: when the farewell is, all earlier ones have been.
        with socket.socket() as farewell:
            farewell.bind((self.host, 0))
            self._farewell = farewell.getsockname()
            farewell.connect((self.host, self.port))
            self._acceptor.join()
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            connection, peer = self._listener.accept()
            if peer == self._farewell:
                connection.close()
                return
            self.accepted += 1
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._behaviour(connection)
        except (OSError, EOFError):
            pass  # the client has gone, or the server stops
        except Exception as error:
            self.errors.append(error)


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Iterator[Server]:
    """Run a server with this behaviour for the time of a with block."""
    server = Server(behaviour)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def dead_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


# What any protocol has in common


def drop(connection: socket.socket) -> None:
    """Close the connection without a word, before anything is read."""


def hang(connection: socket.socket) -> None:
    """Read whatever comes and never answer, until the client has gone."""
    while connection.recv(65536):
        pass


def reset(connection: socket.socket) -> None:
    """End the connection with a reset (RST) instead of a close."""
    # A linger time of zero: the close throws away what was not sent and resets.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# HTTP


def end_after_request(connection: socket.socket) -> None:
    """Read a request and close the connection in an orderly way."""
    read_request(connection)


def read_request(connection: socket.socket) -> bytes:
    """Read one HTTP request, its body included where a Content-Length says how long it is.

    Raises:
        EOFError: The client closed the connection before the request was whole.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += _received(connection)
    return head + b"\r\n\r\n" + body


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise EOFError("the client closed the connection")
    return data


def answer(
    status: int,
    body: bytes = b'{"message": "no"}',
    *,
    headers: tuple[str, ...] = ("Content-Type: application/json",),
) -> Behaviour:
    """Return a behaviour that answers every request of a connection with this status.

    Args:
        status: The status of the answer.
        body: The body of the answer.
        headers: Lines of the head, Content-Length not included.
    """
    lines = [f"HTTP/1.1 {status} Status", *headers, f"Content-Length: {len(body)}", "", ""]
    whole = "\r\n".join(lines).encode() + body

    def serve(connection: socket.socket) -> None:
        while True:
            request = read_request(connection)
            connection.sendall(whole[: -len(body)] if request.startswith(b"HEAD ") else whole)

    return serve


def cut(connection: socket.socket) -> None:
    """Promise a body of 1000 bytes, send half of it, and close."""
    read_request(connection)
    connection.sendall(_HALF)


def stall(connection: socket.socket) -> None:
    """Send half of an answer as `cut` does, and go on without a word until the client has gone."""
    read_request(connection)
    connection.sendall(_HALF)
    hang(connection)


_HALF = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    b'{"half": "' + b"x" * 490
)

# What the harness serves where a set-up says nothing else; the keys are the situations' values.
HTTP: dict[str, Behaviour] = {
    "unavailable": answer(503),
    "dropping": drop,
    "hanging": hang,
    "cutting": cut,
}


def redirect(connection: socket.socket) -> None:
    """Send the client from one place to the next, without an end."""
    answer(302, headers=("Location: /again",))(connection)


def refusals(*statuses: int, body: bytes = b'{"message": "no"}') -> dict[str, Behaviour]:
    """Return the behaviours of a server that refuses with one of these statuses, by their names."""
    chosen = statuses or (400, 401, 403, 404, 409, 422, 429)
    return {str(status): answer(status, body) for status in chosen}
