"""History: the most recent state changes of all circuits of a registry."""

from collections import deque
from collections.abc import Iterator

from resilience._lock import lock
from resilience._validate import check_count
from resilience.events import StateChanged

_SIZE = 200


class History:
    """The most recent state changes of a registry's circuits, in the order in which they happened.

    Iterate over it, oldest first; changes that happen meanwhile are left out.

    Args:
        size: The number of changes it keeps.

    Raises:
        TypeError: The size is not a whole number.
        ValueError: The size is less than 1.
    """

    def __init__(self, size: int = _SIZE) -> None:
        check_count("size", size)
        self._events: deque[StateChanged] = deque(maxlen=size)
        self._total = 0

    @property
    def total(self) -> int:
        """The number of changes since the start, including those that are no longer kept."""
        return self._total

    def resize(self, size: int) -> None:
        """Keep more changes, or fewer, from now on.

        Args:
            size: The number of changes.

        Raises:
            TypeError: The size is not a whole number.
            ValueError: The size is less than 1.
        """
        check_count("size", size)
        with lock:
            self._events = deque(self._events, maxlen=size)

    def record(self, event: StateChanged) -> None:
        """Add a change; the circuits do this themselves, immediately and under the lock."""
        self._events.append(event)
        self._total += 1

    def clear(self) -> None:
        """Forget all changes, and start counting again."""
        with lock:
            self._events.clear()
            self._total = 0

    def __iter__(self) -> Iterator[StateChanged]:
        with lock:
            return iter(list(self._events))

    def __len__(self) -> int:
        return len(self._events)
