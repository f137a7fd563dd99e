"""Bell: wakes the lane from any thread while it waits for sockets."""

import socket
from contextlib import suppress


class Bell:
    """A pair of sockets: whoever pulls the rope makes the bell ready to be read."""

    def __init__(self) -> None:
        self._bell, self._rope = socket.socketpair()
        self._bell.settimeout(0)
        self._rope.settimeout(0)

    def ring(self) -> None:
        """Wake the lane, now or as soon as it waits; never blocks."""
        with suppress(OSError):  # it is ringing already, or was taken down
            self._rope.send(b"!")

    def silence(self) -> None:
        """Stop ringing."""
        with suppress(BlockingIOError):
            while self._bell.recv(4096):
                pass

    def fileno(self) -> int:
        """Give what can be read while it rings."""
        return self._bell.fileno()

    def close(self) -> None:
        """Take it down."""
        self._bell.close()
        self._rope.close()
