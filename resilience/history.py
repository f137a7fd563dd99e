"""History: the last changes of state of all circuits of a registry, for who comes to look later."""

from collections import deque
from collections.abc import Iterator

from resilience._lock import lock
from resilience._validate import check_count
from resilience.events import StateChanged

_SIZE = 200


class History:
    """The last changes of state of a registry's circuits, in the order in which they happened.

    Iterate over it, oldest first; what happens meanwhile is left out.

    Args:
        size: How many it keeps.

    Raises:
        TypeError: The size is no whole number.
        ValueError: The size is less than 1.
    """

    def __init__(self, size: int = _SIZE) -> None:
        check_count("size", size)
        self._events: deque[StateChanged] = deque(maxlen=size)
        self._total = 0

    @property
    def total(self) -> int:
        """How many changes there were since the start, those that are no longer kept included."""
        return self._total

    def resize(self, size: int) -> None:
        """Keep more, or fewer, from now on.

        Args:
            size: How many.

        Raises:
            TypeError: The size is no whole number.
            ValueError: The size is less than 1.
        """
        check_count("size", size)
        with lock:
            self._events = deque(self._events, maxlen=size)

    def note(self, event: StateChanged) -> None:
        """Take in a change; the circuits do this themselves, at once and under the lock."""
        self._events.append(event)
        self._total += 1

    def __iter__(self) -> Iterator[StateChanged]:
        with lock:
            return iter(list(self._events))

    def __len__(self) -> int:
        return len(self._events)
