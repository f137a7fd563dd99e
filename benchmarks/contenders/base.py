"""What the measurements ask of every library: one small adapter each."""

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, ClassVar, Literal, TypeAlias

Send: TypeAlias = Callable[..., Awaitable[Any]]
SendNow: TypeAlias = Callable[..., Any]
#: Takes the new state, in the library's own word for it.
Listener: TypeAlias = Callable[[str], object]

THRESHOLD = 10  # consecutive failures
RECOVERY = 60.0  # seconds
SUCCESSES = 3  # consecutive successes of probes

REGION = "eu-west-1"

CLOSED, OPEN, HALF_OPEN = "CLOSED", "OPEN", "HALF_OPEN"


class CannotExpressError(Exception):
    """The library has nothing for it; that is said in a table, and is no failure."""


class Contender:
    """A circuit breaker of one library, set up as the mission says.

    Args:
        listener: Told about each change of state, where the library has listeners.

    Raises:
        CannotExpressError: A listener was given to a library that has none.
    """

    name: ClassVar[str]  # as on PyPI
    rejection: ClassVar[type[Exception]]  # what a call gets while the circuit is open
    #: What of the mission cannot be said to it, or is said in another way than its manual shows.
    notes: ClassVar[tuple[str, ...]] = ()
    #: The clock that it reads, and the names under which it does: each replaced by a moved one in
    #: the scoreboard. "call" is a function that returns seconds, "time" the module, "datetime" the
    #: class.
    reads: ClassVar[Literal["monotonic", "wall"]]
    clocks: ClassVar[dict[str, Literal["call", "time", "datetime"]]]

    def __init__(self, listener: Listener | None = None) -> None:
        raise NotImplementedError

    def protect(self, fn: Send) -> Send:
        """Decorate an `async def` as the library's manual does.

        Args:
            fn: Its first parameter is called `region`.
        """
        raise NotImplementedError

    def protect_sync(self, fn: SendNow) -> SendNow:  # noqa: ARG002 - for those who can
        """Decorate a `def`.

        Raises:
            CannotExpressError: The library is for coroutines only.
        """
        raise CannotExpressError("no sync functions")

    def use_classifier_that_raises(self) -> None:
        """See to it that the filter raises for a `PoisonError`, which `is_failure` does by itself.

        Raises:
            CannotExpressError: The library takes no function, only types.
        """

    def another(self, region: str) -> object:
        """Make the circuit of one more region, as the library makes it.

        Args:
            region: its name, which is new.
        """
        raise NotImplementedError

    def state(self) -> str:
        """Say what the library says of itself, in this project's words."""
        raise NotImplementedError

    def is_open(self) -> bool:
        """Tell whether the library says that it is open."""
        return self.state() == OPEN

    @classmethod
    def title(cls) -> str:
        """Name the library with its version."""
        return f"{cls.name} {version(cls.name)}"


def not_closed(*states: str) -> str:
    """Choose among the states of a library's breakers, of which only one is in use."""
    return next((state for state in states if state != CLOSED), CLOSED)


def no_listener(listener: Listener | None) -> None:
    """Refuse a listener on behalf of a library that has none."""
    if listener is not None:
        raise CannotExpressError("no listeners")
