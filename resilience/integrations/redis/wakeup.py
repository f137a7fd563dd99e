"""Wakeup: ends the synchronizer's wait for its sockets, from any thread."""

import selectors
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

# Not epoll: the child of a fork would share it with its parent.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


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

    def wait(self, others: Iterable[_HasFileno], seconds: float) -> None:
        """Wait until it is set, or another one can be read, or the time is over.

        Args:
            others: Connections.
            seconds: The time.
        """
        with _Selector() as selector:
            for one in (self._reader, *others):
                selector.register(one, selectors.EVENT_READ)
            selector.select(max(0.0, seconds))
        self._clear()

    def _clear(self) -> None:
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass

    def close(self) -> None:
        """Close both sockets."""
        self._reader.close()
        self._writer.close()
