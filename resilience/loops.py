"""Loops: asks for the retry loops of a function to be stopped when its circuit opens.

What knows about loops stands above this file, and imports tenacity. It is asked only where tenacity
is imported already: a function cannot have a loop otherwise.
"""

import sys
from collections.abc import Callable
from types import FunctionType
from typing import Protocol, TypeVar

F = TypeVar("F", bound=Callable[..., object])


class StopsLoops(Protocol):
    """Returns what to call instead of a function, so that its loops stop with its circuit."""

    def __call__(self, fn: F, /) -> F:
        """Return the function itself where it has no loop."""
        ...


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
    if is_plain or "tenacity" not in sys.modules:
        return fn
    for stopper in _stoppers:
        fn = stopper(fn)
    return fn
