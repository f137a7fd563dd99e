"""Time that a scenario moves by hand: under the breakers, and under the event loop."""

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any
from unittest import mock

from benchmarks.contenders import Contender


class Clock:
    """Both clocks of a machine, as one library sees them."""

    def __init__(self) -> None:
        self.monotonic = 1_000.0
        self.wall = datetime(2026, 1, 1, tzinfo=UTC).timestamp()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.monotonic += seconds
        self.wall += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock, as an administrator or NTP does; no time passes."""
        self.wall += seconds

    @contextmanager
    def under(self, library: type[Contender]) -> Iterator[None]:
        """Put this clock under a library, in the places that its adapter names."""
        seconds = self._read_monotonic if library.reads == "monotonic" else self._read_wall
        stand_ins: dict[str, Any] = {
            "call": seconds,
            "time": SimpleNamespace(
                **{**vars(time), "time": self._read_wall, "monotonic": self._read_monotonic}
            ),
            "datetime": _moved_datetime(self._read_wall),
        }
        with ExitStack() as stack:
            for name, kind in library.clocks.items():
                stack.enter_context(mock.patch(name, stand_ins[kind]))
            yield

    def _read_monotonic(self) -> float:
        return self.monotonic

    def _read_wall(self) -> float:
        return self.wall


def _moved_datetime(seconds: Callable[[], float]) -> type[datetime]:
    class Moved(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds())
            return utc.replace(tzinfo=None) if tz is None else utc.astimezone(tz)

        @classmethod
        def utcnow(cls) -> datetime:  # type: ignore[override]
            return cls.now()

    return Moved


class _NoWaiting(selectors.DefaultSelector):
    """Where the event loop would sleep, its time jumps instead."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits, and nothing is due")
            self.slept += timeout
        return ready


class TimelessLoop(asyncio.SelectorEventLoop):
    """An event loop in which sleeping takes no time, and the order of things is always the same."""

    def __init__(self) -> None:
        self._clock = _NoWaiting()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.slept
