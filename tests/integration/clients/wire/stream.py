"""Reading from a client, and breaking off in the middle of an answer."""

import contextlib
import socket

from tests.integration.clients.servers import Behaviour, reset


def read_exactly(connection: socket.socket, size: int) -> bytes:
    """Read this many bytes.

    Raises:
        EOFError: The client closed the connection before.
    """
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError("the client closed the connection")
        data += more
    return data


def read_line(connection: socket.socket) -> bytes:
    """Read until the end of a line, and return the line without it.

    Raises:
        EOFError: The client closed the connection before.
    """
    line = b""
    while not line.endswith(b"\n"):
        line += read_exactly(connection, 1)
    return line.rstrip(b"\r\n")


def greet(*parts: bytes) -> Behaviour:
    """Return a behaviour that sends a greeting, reads what comes back, and ends."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"".join(parts))
        linger(connection)

    return serve


def linger(connection: socket.socket) -> None:
    """Close for writing, and read until the client has closed too, so that nothing is lost."""
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass


def end_after_data(connection: socket.socket) -> None:
    """Close the connection in an orderly way when the client has sent something, or waits.

    A server that closes without reading resets the connection where the client has sent something
    already. Whether it has is a matter of luck, and clients tell the two ends apart.
    """
    _wait_for_data(connection)
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while connection.recv(65536):
            pass


def reset_after_data(connection: socket.socket) -> None:
    """Reset the connection when the client has sent something, or waits."""
    _wait_for_data(connection)
    reset(connection)


def _wait_for_data(connection: socket.socket) -> None:
    connection.settimeout(0.05)
    with contextlib.suppress(TimeoutError):
        connection.recv(1, socket.MSG_PEEK)


def cut_off(connection: socket.socket, half: bytes) -> None:
    """Send the first half of an answer, then reset the connection."""
    connection.sendall(half)
    # A reset that overtakes the half would be "dropping": wait until the client has it.
    connection.settimeout(0.05)
    with contextlib.suppress(TimeoutError):
        connection.recv(1)
    reset(connection)
