"""BreakerAdapter: what the suite asks of a circuit breaker."""

from collections.abc import Callable
from typing import ClassVar, ParamSpec, TypeVar

from resilience.testing.conformance.clock import ManualClock

P = ParamSpec("P")
T = TypeVar("T")

#: The settings of every breaker in the suite: this many failures in a row open it, it stays open
#: for this many seconds, and this many successes in a row close it.
THRESHOLD = 10
RECOVERY = 60.0
SUCCESSES = 3

CLOSED, OPEN, HALF_OPEN = "CLOSED", "OPEN", "HALF_OPEN"


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

    def __init__(self, *, clock: ManualClock) -> None:
        raise NotImplementedError

    def protect(self, fn: Callable[P, T]) -> Callable[P, T]:
        """Decorate a function, `async def` or `def`, that takes the region as its first argument.

        The errors that it raises have a ``.status``, or are built-in ones. A breaker that knows
        these needs no classifier; `is_failure` is one for those that do not.

        Args:
            fn: The function.
        """
        raise NotImplementedError

    def state(self) -> str:
        """Return the state that the breaker reports: CLOSED, OPEN or HALF_OPEN."""
        raise NotImplementedError

    def use_classifier_that_raises(self) -> None:
        """Use a classifier that calls `is_failure`, if the breaker does not do so yet."""
