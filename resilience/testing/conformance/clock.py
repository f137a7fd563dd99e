"""Time that a scenario moves by hand: under the breakers, and under the event loop."""

import asyncio
import selectors
from collections.abc import Coroutine, Generator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TypeVar
from unittest import mock

T = TypeVar("T")


class ManualClock:
    """Both clocks of a machine, which a scenario moves by hand."""

    def __init__(self) -> None:
        self._monotonic = 1_000.0
        self._wall = datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        """Return the seconds of the clock that nobody sets."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._monotonic += seconds
        self.set_wall_clock(seconds)

    def set_wall_clock(self, seconds: float) -> None:
        """Move the wall clock, as an administrator or NTP does; no time passes."""
        self._wall += timedelta(seconds=seconds)

    @property
    def datetime(self) -> type[datetime]:
        """A `datetime` class that reads this wall clock."""
        clock = self

        class Moved(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return clock._wall.astimezone(tz)

        return Moved

    @contextmanager
    def under(self, patches: Mapping[str, str]) -> Generator[None, None, None]:
        """Put this clock under a library.

        Args:
            patches: The names in the library, and the attribute of this clock for each.
        """
        with ExitStack() as stack:
            for name, attribute in patches.items():
                stack.enter_context(mock.patch(name, getattr(self, attribute)))
            yield


class _NoWaiting(selectors.DefaultSelector):
    """Moves the time of the event loop where the loop would sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("every task waits, and none of them for the time")
            self.slept += timeout
        return ready


class _TimelessLoop(asyncio.SelectorEventLoop):
    """An event loop in which a sleep takes no time, and the order of things is always the same."""

    def __init__(self) -> None:
        self._selected = _NoWaiting()
        super().__init__(self._selected)

    def time(self) -> float:
        return self._selected.slept


def run_timeless(coroutine: Coroutine[object, object, T]) -> T:
    """Run a coroutine in an event loop in which a sleep takes no time."""
    with asyncio.Runner(loop_factory=_TimelessLoop) as runner:
        return runner.run(coroutine)
