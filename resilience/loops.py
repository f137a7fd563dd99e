"""Loops: asks for the retry loops of a function to be stopped when its circuit opens.

What knows about loops stands above this file, and imports tenacity. It is asked only where a
library with loops is imported already: a function cannot have a loop otherwise.
"""

import sys
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from tenacity import BaseRetrying

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)
F = TypeVar("F", bound=Callable[..., object])


class StopsLoops(Protocol):
    """Returns what to call instead of a function, so that its loops stop with its circuit."""

    def __call__(self, fn: F, /) -> F:
        """Return the function itself where it has no loop."""
        ...


#: Other libraries whose decorators make a loop in each call, where nobody can find it.
HIDE_THEIR_LOOPS = {"backoff", "stamina"}
_LIBRARIES = ("tenacity", *HIDE_THEIR_LOOPS)

_stoppers: list[StopsLoops] = []


def stop_loops_with(stopper: StopsLoops) -> None:
    """Set what stops loops.

    Args:
        stopper: Stands in for the one before.
    """
    _stoppers[:] = [stopper]


def with_loops_stopped(fn: F) -> F:
    """Return what to call instead of a function, so that its retry loops stop with its circuit."""
    asked: object = fn
    is_plain = isinstance(asked, FunctionType) and not asked.__dict__
    if is_plain or not any(library in sys.modules for library in _LIBRARIES):
        return fn
    for stopper in _stoppers:
        fn = stopper(fn)
    return fn


# What type checkers see


class HasLoop(Protocol[P, T_co]):
    """A function with tenacity's decorator, as the type checkers see it.

    tenacity declares no type of that kind in public.
    """

    retry: "BaseRetrying"
    statistics: dict[str, Any]

    def retry_with(self, *args: Any, **kwargs: Any) -> Any:
        """Return the function with another loop."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Call it."""
        ...


class HasFirst(Protocol[S_contra, P, T_co]):
    """A protected function with a first parameter.

    mypy compares the type of that parameter in a `Callable`, but not in a `Retried`.
    """

    @property
    def __wrapped__(self) -> Callable[Concatenate[S_contra, P], T_co]:
        """The function without its protection."""
        ...


class Retried(Protocol[P, T_co]):
    """A protected function that keeps what tenacity offers on it."""

    __name__: str
    __qualname__: str
    retry: "BaseRetrying"
    statistics: dict[str, Any]

    @property
    def __wrapped__(self) -> Callable[P, T_co]:
        """The function without its protection, and with its loop."""
        ...

    def retry_with(self, *args: Any, **kwargs: Any) -> "Retried[P, T_co]":
        """Return the function with another loop, protected as well."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Call it."""
        ...

    # A class method and a static one are recognized by their first parameter alone.
    @overload  # a class method: it takes the class
    def __get__(
        self: HasFirst[S, Q, T_co], instance: object, owner: S, /
    ) -> "Retried[Q, T_co]": ...
    @overload  # a method or a static method, of the class
    def __get__(self, instance: None, owner: type | None = None, /) -> "Retried[P, T_co]": ...
    @overload  # a method, of an object
    def __get__(
        self: HasFirst[S, Q, T_co], instance: S, owner: type | None = None, /
    ) -> "Retried[Q, T_co]": ...
    @overload  # a static method, of an object
    def __get__(self, instance: object, owner: type | None = None, /) -> "Retried[P, T_co]": ...
    def __get__(self, instance: object, owner: Any = None, /) -> Any:
        """Bind a method, as a function does."""
