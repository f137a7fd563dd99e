"""The most recent messages of the stream, kept once for all clients."""

from collections import deque

from resilience._lock import lock


class MessageBuffer:
    """The most recent messages, numbered from 0; safe to use from any thread.

    Every client reads from it at its own pace and remembers how far it has come.

    Args:
        max_bytes: The number of bytes that it keeps. When there are more, the oldest messages go.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._messages: deque[bytes] = deque()
        self._first = 0  # the number of the oldest message that is kept
        self._total_bytes = 0

    @property
    def total_bytes(self) -> int:
        """The number of bytes of the messages that are kept."""
        return self._total_bytes

    def append(self, message: bytes) -> None:
        """Add a message, and remove the oldest ones if there is no room for it."""
        with lock:
            self._messages.append(message)
            self._total_bytes += len(message)
            while self._total_bytes > self.max_bytes:
                self._total_bytes -= len(self._messages.popleft())
                self._first += 1

    def end(self) -> int:
        """Return the number that the next message will have."""
        with lock:
            return self._first + len(self._messages)

    def read(self, position: int, max_bytes: int) -> list[bytes] | None:
        """Return messages from a number on, none if there are no more.

        Args:
            position: The number of the first message.
            max_bytes: The number of bytes after which it stops; it returns whole messages.

        Returns:
            The messages, or None if the first one is no longer kept.
        """
        messages: list[bytes] = []
        taken = 0  # bytes
        with lock:
            index = position - self._first
            if index < 0:
                return None
            while index < len(self._messages) and taken < max_bytes:
                messages.append(self._messages[index])
                taken += len(self._messages[index])
                index += 1
        return messages

    def clear(self) -> None:
        """Remove all messages; the numbers go on."""
        with lock:
            self._first += len(self._messages)
            self._messages.clear()
            self._total_bytes = 0
