"""Checks of arguments: an error names the argument, what came, and what was expected."""

import functools
import inspect
import math
import time
import types
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from resilience._interrupts import raise_interrupt
from resilience._introspection import is_a, name_of_class, type_name
from resilience._text import one_line

P = ParamSpec("P")
T = TypeVar("T")

# A callable object may call another one, and so on, without end.
_MOST_LAYERS = 16
_LARGEST_SHOWN = 10**20
_NOT_PYTHON = (types.WrapperDescriptorType, types.MethodDescriptorType)


def check_callable(name: str, value: object, takes: str, *, optional: bool = False) -> None:
    """Reject anything that cannot be called without awaiting; `takes` describes its argument."""
    if optional and value is None:
        return
    if not callable(value):
        raise TypeError(f"{name} must be a callable that takes {takes}, got {kind_of(value)}")
    if is_async(value):
        raise TypeError(f"{name} must be a plain function, got the async {name_of(value)}")
    if is_generator(value):
        raise TypeError(f"{name} must be a plain function, got the generator {name_of(value)}")


def first_reading(clock: Callable[[], float] | None) -> float:
    """Return the time of a clock, and reject a clock that does not return seconds."""
    if clock is None:
        return time.monotonic()  # looked up at each use, so that freezegun can replace it
    takes = "nothing and returns seconds"
    check_callable("clock", clock, takes)
    if isinstance(clock, type):
        raise TypeError(f"clock must be a callable that takes {takes}, got {kind_of(clock)}")
    try:
        now: object = clock()
    except Exception as error:
        raise ValueError(f"clock raised {type(error).__name__}") from error
    expected = "clock must return a finite number of seconds"
    if not isinstance(now, int | float) or isinstance(now, bool):
        discard(now)
        raise TypeError(f"{expected}, got {kind_of(now)}")
    if not _is_a_float(now) or not math.isfinite(now):
        raise ValueError(f"{expected}, got {shown(now)}")
    return now


def check_type(name: str, value: object, *expected: type) -> None:
    """Reject a value of another type; a class is not what it makes."""
    # A class has the methods that a runtime-checkable protocol asks for.
    if not isinstance(value, expected) or isinstance(value, type):
        raise TypeError(f"{name} must be a {expected[0].__name__}, got {kind_of(value)}")


def keyword_only(example: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Explain, when a function of keywords is called with something else, how it is used.

    A decorator that takes arguments is often used without them, and without parentheses.

    Args:
        example: The right line.
    """

    def decorate(fn: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(fn)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            if args:
                name = example.partition("(")[0]
                got = kind_of(args[0])
                raise TypeError(f"{name} takes its arguments by keyword, got {got}: {example}")
            return fn(*args, **kwargs)

        return checked

    return decorate


def check_text(name: str, value: object) -> str:
    """Reject anything that is not a string, or is empty; return it as a plain `str`."""
    if not isinstance(value, str):
        # Its type only: credentials passed instead of their region would show their secrets.
        raise TypeError(f"{name} must be a str, got {type(value).__name__}")
    text = str.__str__(value)  # the member of a StrEnum becomes its value
    if not text.strip():
        raise ValueError(f"{name} must not be empty, got {shown(text)}")
    return text


def check_count(name: str, value: object) -> None:
    """Reject anything that is not a whole number of at least 1."""
    expected = "a whole number of at least 1"
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be {expected}, got {kind_of(value)}")
    if value < 1 or not _is_a_float(value):
        raise ValueError(f"{name} must be {expected}, got {shown(value)}")


def check_seconds(name: str, value: object) -> None:
    """Reject anything that is not a finite number of seconds above 0."""
    expected = "a finite number of seconds > 0"
    _check_number(name, value, expected, lambda seconds: 0 < seconds < math.inf)


def check_above_zero(name: str, value: object) -> None:
    """Reject anything that is not a finite number above 0."""
    expected = "a finite number > 0"
    _check_number(name, value, expected, lambda amount: 0 < amount < math.inf)


def check_share(name: str, value: object) -> None:
    """Reject anything that is not a number above 0 and up to 1."""
    expected = "a share above 0 and up to 1, such as 0.5 for 50 %"
    _check_number(name, value, expected, lambda share: 0 < share <= 1)


def check_factor(name: str, value: object) -> None:
    """Reject anything that is not a finite number of at least 1."""
    expected = "a finite number of at least 1"
    _check_number(name, value, expected, lambda factor: 1 <= factor < math.inf)


def check_flag(name: str, value: object) -> None:
    """Reject anything that is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {kind_of(value)}")


def check_amount(name: str, value: object) -> None:
    """Reject anything that is not a finite number of at least 0."""
    expected = "a finite number of at least 0"
    _check_number(name, value, expected, lambda amount: 0 <= amount < math.inf)


def check_timeout(value: object) -> None:
    """Reject a timeout that is neither None nor a number of seconds from 0 on."""
    if value is not None:
        expected = "None or seconds of at least 0"
        _check_number("timeout", value, expected, lambda seconds: seconds >= 0)


def _check_number(name: str, value: object, expected: str, fits: Callable[[float], bool]) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be {expected}, got {kind_of(value)}")
    if not _is_a_float(value) or not fits(value):
        raise ValueError(f"{name} must be {expected}, got {shown(value)}")


def _is_a_float(number: float) -> bool:
    """Return whether one can calculate with a number: an int may be too large to be a float."""
    try:
        float(number)
    except OverflowError:
        return False
    return True


def name_of(thing: object) -> str:
    """Return the name of a function, or of the type of anything else: a repr may show secrets."""
    try:
        named: object = getattr(thing, "func", thing)  # of a functools.partial
        return str(getattr(named, "__qualname__", type(named).__qualname__))
    except BaseException as fault:  # noqa: BLE001 - an object may answer to any name with an error
        raise_interrupt(fault)
        return type_name(thing)


def kind_of(value: object) -> str:
    """Return what a value is, for an error: its type, or which class it is; never its text.

    What somebody passes in the wrong place may well be credentials.
    """
    if is_a(value, type):
        return f"the class {one_line(name_of_class(value))}"
    return one_line(type_name(value))


def shown(value: object) -> str:
    """Return a number, or a text on one line, for an error; its type if it is anything else."""
    if type(value) is float or (type(value) is int and abs(value) < _LARGEST_SHOWN):
        return repr(value)
    if type(value) is str:
        return repr(one_line(value))
    return kind_of(value)


def is_async(function: object) -> bool:
    """Return whether a call makes a coroutine: of an async def, or of an async `__call__`."""
    return any(map(inspect.iscoroutinefunction, (function, called_function(function))))


def is_generator(function: object) -> bool:
    """Return whether a call makes a generator, sync or async: nothing runs before it is used."""
    called = called_function(function)
    return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


def called_function(thing: object) -> object:
    """Return the function that a call runs: behind a partial, a bound method or a `__call__`."""
    for _ in range(_MOST_LAYERS):
        if isinstance(thing, functools.partial | functools.partialmethod):
            thing = thing.func
        elif isinstance(thing, types.MethodType | staticmethod | classmethod):
            thing = thing.__func__
        elif isinstance(thing, type) or inspect.isroutine(thing):
            return thing
        else:
            call: object = inspect.getattr_static(type(thing), "__call__", None)
            if call is None or isinstance(call, _NOT_PYTHON):
                return thing
            thing = call
    return thing


def discard(result: object) -> None:
    """Close a coroutine that nobody will await, so that Python does not complain about it."""
    if inspect.iscoroutine(result):
        result.close()
