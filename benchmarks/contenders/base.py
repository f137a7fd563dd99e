"""What the measurements ask of every library: one small adapter each."""

from importlib.metadata import version
from typing import ClassVar

from benchmarks.calls import Function
from benchmarks.clock import Clock

# The settings of every breaker: this many failures in a row open it, it stays open for this many
# seconds, and this many successes in a row close it.
THRESHOLD = 10
RECOVERY = 60.0
SUCCESSES = 3

CLOSED, OPEN, HALF_OPEN = "CLOSED", "OPEN", "HALF_OPEN"


class Contender:
    """The circuit breaker of one library. Whatever one object protects shares its circuits.

    Args:
        threshold: The number of failures in a row that open the circuit.
        clock: The clock of the scoreboard, for a library that takes one; None is the library's own.
    """

    name: ClassVar[str]  # as on PyPI
    rejection: ClassVar[type[Exception]]  # what a call raises while the circuit is open
    #: The settings that the library does not have, or has in another form than its manual shows.
    notes: ClassVar[tuple[str, ...]] = ()
    #: The names that the scoreboard's clock replaces, in a library that takes no clock. The value
    #: is the attribute of the clock.
    patches: ClassVar[dict[str, str]] = {}

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

    def use_classifier_that_raises(self) -> None:
        """Make the filter raise over a `PoisonError`, where `is_failure` is not the filter yet."""

    def state(self) -> str:
        """Return the state that the library reports, in this project's words."""
        raise NotImplementedError

    def is_open(self) -> bool:
        """Whether the library reports that the circuit is open."""
        return self.state() == OPEN

    @classmethod
    def title(cls) -> str:
        """Return the name of the library with its version."""
        return f"{cls.name} {version(cls.name)}"
