"""What the page shows, as data: the circuits, what happened to them, and in which process."""

import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from resilience._text import one_line
from resilience.events import StateChanged
from resilience.integrations.metrics import Reading, read, shown
from resilience.registry import CircuitBreakerRegistry

JSON = dict[str, Any]


class State:
    """Describes a registry, whole or in parts, for JSON.

    Args:
        registry: What is described.
    """

    def __init__(self, registry: CircuitBreakerRegistry) -> None:
        self._registry = registry
        self._started = self.now()

    def now(self) -> float:
        """Read the clock of the registry's breakers."""
        clock: Callable[[], float] | None = self._registry._settings["clock"]
        return time.monotonic() if clock is None else clock()

    def whole(self) -> JSON:
        """Describe everything."""
        history = self._registry.history
        with_events = list(history)
        overflown = history.total > len(with_events)
        return {
            "host": one_line(socket.gethostname()),
            "process": os.getpid(),
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "clock": self.now(),
            # What happened before this is not known.
            "known_since": with_events[0].at if overflown else self._started,
            "regions": [region(reading) for reading in read(self._registry)],
            "history": [happened(event) for event in with_events],
        }

    def regions(self) -> dict[str, JSON]:
        """Describe every circuit, by its name."""
        return {reading.name: region(reading) for reading in read(self._registry)}


def region(reading: Reading) -> JSON:
    """Describe one circuit."""
    seen = reading.snapshot
    return {
        "region": reading.name,
        "state": seen.state.value,
        "since": seen.since,
        "seconds_in_state": round(reading.seconds, 3),
        "retry_after": None if seen.retry_after is None else round(seen.retry_after, 3),
        "recovery_timeout": reading.recovery_timeout,
        "forced": seen.retry_after is None,
        "streak": seen.streak,
        "reason": seen.reason,
        "successes": seen.successes,
        "failures": seen.failures,
        "ignored": seen.ignored,
        "rejected": seen.rejected,
        "probes": seen.probes,
        "trips": seen.trips,
        "shared": seen.shared,
    }


def happened(event: StateChanged) -> JSON:
    """Describe one change of state."""
    return {
        "region": shown(event.region),
        "old": event.old.value,
        "new": event.new.value,
        "reason": event.reason,
        "at": event.at,
        "time": event.time.isoformat(),
        "streak": event.streak,
        "retry_after": event.retry_after,
        "by": event.by,
    }
