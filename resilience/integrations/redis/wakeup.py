"""Wakeup: ends the synchronizer's wait for its sockets, from any thread."""

import socket
from contextlib import suppress


class Wakeup:
    """A pair of sockets: writing to one makes the other ready to be read (a self-pipe)."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.settimeout(0)
        self._writer.settimeout(0)

    def set(self) -> None:
        """End the wait that is under way, or the next one; never blocks."""
        with suppress(OSError):  # the buffer is full, so that it is set already; or it is closed
            self._writer.send(b"\0")

    def clear(self) -> None:
        """Make the next wait block again."""
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass

    def fileno(self) -> int:
        """Return the descriptor that can be read while it is set."""
        return self._reader.fileno()

    def close(self) -> None:
        """Close both sockets."""
        self._reader.close()
        self._writer.close()
