"""BreakerAdapter: what the suite asks of a circuit breaker."""

from collections.abc import Callable
from typing import ClassVar, Protocol, TypeVar

Function = TypeVar("Function", bound=Callable[..., object])

#: The settings of every breaker in the suite: this many failures in a row open it, it stays open
#: for this many seconds, and this many successes in a row close it.
THRESHOLD = 10
RECOVERY = 60.0
SUCCESSES = 3

CLOSED, OPEN, HALF_OPEN = "CLOSED", "OPEN", "HALF_OPEN"


class ClockReading(Protocol):
    """The clock under a breaker."""

    def monotonic(self) -> float:
        """Return its seconds."""
        ...


class BreakerAdapter:
    """One circuit breaker, set up with `THRESHOLD`, `RECOVERY` and `SUCCESSES`.

    Derive a class, with an `__init__` that takes the clock. Whatever one adapter protects shares
    one circuit.

    Args:
        clock: The clock of the suite, for a breaker that takes one: `clock.monotonic`. For one that
            takes none, set `patches`.
    """

    #: What a call raises while the circuit is open.
    rejection: ClassVar[type[Exception]]
    #: The names that the clock replaces in a breaker that takes none, such as ``"library.time"``.
    #: The value is the attribute of the clock, ``"monotonic"`` or ``"datetime"``.
    patches: ClassVar[dict[str, str]] = {}

    def __init__(self, *, clock: ClockReading) -> None:
        raise NotImplementedError

    def protect(self, fn: Function) -> Function:
        """Decorate a function, `async def` or `def`, that takes the region as its first argument.

        What it raises is judged by `is_failure`.

        Args:
            fn: The function.
        """
        raise NotImplementedError

    def state(self) -> str:
        """Return the state that the breaker reports: CLOSED, OPEN or HALF_OPEN."""
        raise NotImplementedError

    def use_classifier_that_raises(self) -> None:
        """Use `is_failure` as the classifier, if the breaker does not do so yet."""
