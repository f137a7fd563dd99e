"""What the measurements ask of every library: one small adapter each."""

from importlib.metadata import version
from typing import ClassVar

from benchmarks.calls import Function
from resilience.testing.conformance import RECOVERY, SUCCESSES, THRESHOLD, BreakerAdapter
from resilience.testing.conformance import ManualClock as Clock
from resilience.testing.conformance.adapter import OPEN

__all__ = ["RECOVERY", "SUCCESSES", "THRESHOLD", "Clock", "Contender"]


class Contender(BreakerAdapter):
    """The circuit breaker of one library. Whatever one object protects shares its circuits.

    Args:
        threshold: The number of failures in a row that open the circuit.
        clock: The clock of the scoreboard, for a library that takes one; None is the library's own.
    """

    name: ClassVar[str]  # as on PyPI
    #: The settings that the library does not have, or has in another form than its manual shows.
    notes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, threshold: int = THRESHOLD, clock: Clock | None = None) -> None:
        raise NotImplementedError

    def protect(self, fn: Function, path: str = "region") -> Function:
        """Decorate a function, `async def` or `def`, as the library's manual does.

        Args:
            fn: The function.
            path: Where a library with one circuit for each region finds the region of a call: a
                parameter, or an attribute of one.
        """
        raise NotImplementedError

    def protect_with_retries(self, fn: Function) -> Function | None:
        """Decorate a function with the breaker over the library's own retries; None: it has none.

        Args:
            fn: The function.
        """
        del fn
        return None

    def is_open(self) -> bool:
        """Whether the library reports that the circuit is open."""
        return self.state() == OPEN

    @classmethod
    def title(cls) -> str:
        """Return the name of the library with its version."""
        return f"{cls.name} {version(cls.name)}"
