"""Results that are not finished when the call is: awaited later, or lazy.

A call ends when its function returns. What the result does after that is outside of the circuit
breaker, which then counts a success for work that has not begun. The exception is an awaitable that
a `def` returns: it is awaited as part of the call.

An `async def` is looked at only once. What it returns was awaited already, so it is lazy only where
nothing else is possible: a response or a connection pool has `__aenter__`, too, and has done its
work.
"""

import asyncio
import concurrent.futures
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum, auto
from types import AsyncGeneratorType, GeneratorType
from typing import TypeVar

from resilience import log
from resilience._by_type import ByType
from resilience._interrupts import raise_interrupt
from resilience._introspection import is_a
from resilience._validate import name_of

T = TypeVar("T")


class Unfinished(Enum):
    """How the work of a result goes on."""

    AWAITABLE = auto()
    ASYNC_GENERATOR = auto()  # nothing of it has begun
    LAZY = auto()


# What `contextlib` makes of a generator can decorate a function, too.
_LAZY = (GeneratorType, concurrent.futures.Future, contextlib.ContextDecorator)
# Out of an `async def`. None of these can have done its work.
_LAZY_WHEN_AWAITED = (
    AsyncGeneratorType,
    Coroutine,
    asyncio.Future,
    concurrent.futures.Future,
    contextlib.ContextDecorator,
    contextlib.AsyncContextDecorator,
)


def _is_lazy_when_awaited(kind: type) -> bool:
    try:
        return issubclass(kind, _LAZY_WHEN_AWAITED)
    except BaseException as fault:  # noqa: BLE001 - its metaclass may raise anything
        raise_interrupt(fault)
        return False


# Of the calls of an `async def`: a watched call that raises costs a seventh more.
_MOST_WATCHED = 10


def _find(kind: type) -> Unfinished | None:
    try:
        return _look_at(kind)
    except BaseException as fault:  # noqa: BLE001 - its metaclass may raise anything
        raise_interrupt(fault)
        return None


def _look_at(kind: type) -> Unfinished | None:
    if hasattr(kind, "__await__"):
        return Unfinished.AWAITABLE
    if issubclass(kind, AsyncGeneratorType):
        return Unfinished.ASYNC_GENERATOR
    is_lazy = issubclass(kind, _LAZY) or hasattr(kind, "__aenter__") or hasattr(kind, "__aiter__")
    return Unfinished.LAZY if is_lazy else None


#: How the work of what a `def` returned goes on, by its type; None: it is finished.
unfinished: ByType[Unfinished | None] = ByType(_find)


def must_be_awaited(result: object) -> bool:
    """Return whether what a `def` returned must be awaited."""
    how = unfinished.of(type(result))
    if how is Unfinished.LAZY:
        return _is_awaitable_generator(result)
    return how is Unfinished.AWAITABLE


def _is_awaitable_generator(result: object) -> bool:
    """Return whether a result is a generator that can be awaited: `types.coroutine` makes them."""
    flag = inspect.CO_ITERABLE_COROUTINE
    return is_a(result, GeneratorType) and bool(result.gi_code.co_flags & flag)


class ResultWatch:
    """Notices that what one function returns is not finished.

    Args:
        fn: The function.
        acquire: The expression that acquires a permit by hand, for the error and the log.
    """

    __slots__ = ("_acquire", "_first_lazy", "_fn")

    def __init__(self, fn: Callable[..., object], acquire: str) -> None:
        self._fn = fn
        self._acquire = acquire
        self._first_lazy = log.Once()

    def checked(self, result: T) -> T:
        """Return what a `def` returned: refuse an async generator, and log that it is lazy once.

        Raises:
            TypeError: It is an async generator. None of its work has begun.
        """
        how = unfinished.of(type(result))
        if how is Unfinished.ASYNC_GENERATOR:
            raise TypeError(
                f"{name_of(self._fn)}() returned an async generator, whose work begins when the"
                f" call is over: write `with {self._acquire}:` around each call inside it"
            )
        is_lazy = how is Unfinished.LAZY and not must_be_awaited(result)
        if is_lazy and not _is_generator_expression(result):
            self._log(result)
        return result

    def watch_first_call(
        self, fn: Callable[..., Awaitable[T]], when_over: Callable[[], None]
    ) -> Callable[..., Awaitable[T]]:
        """Look at the first result of an `async def`, and log that it is lazy.

        Args:
            fn: The `async def`.
            when_over: Called when a call has returned, or ten have not, so that later ones need not
                be watched.

        Returns:
            What is to be called instead until then.
        """
        calls = 0

        async def first_call(*args: object, **kwargs: object) -> T:
            nonlocal calls
            calls += 1
            if calls == _MOST_WATCHED:
                when_over()
            result = await fn(*args, **kwargs)
            when_over()
            if _is_lazy_when_awaited(type(result)):
                self._log(result)
            return result

        return first_call

    def _log(self, result: object) -> None:
        if self._first_lazy.happens():
            log.log_lazy_result(self._fn, result, self._acquire)


def _is_generator_expression(result: object) -> bool:
    """Return whether a result has begun its work: an expression reads from what is there."""
    return is_a(result, GeneratorType) and result.gi_code.co_name == "<genexpr>"
