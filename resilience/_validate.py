"""Checks of arguments: an error names the argument, what came, and what was expected."""

import inspect
import math
from collections.abc import Callable


def check_callable(name: str, value: object, takes: str, *, optional: bool = False) -> None:
    """Reject anything that cannot be called without awaiting; `takes` describes its argument."""
    if optional and value is None:
        return
    if not callable(value):
        raise TypeError(f"{name} must be a callable that takes {takes}, got {type(value).__name__}")
    if is_async(value):
        raise TypeError(f"{name} must be a plain function, got the async {name_of(value)}")


def check_classifiers(classifier: object, result_classifier: object) -> None:
    """Reject classifiers that cannot be called."""
    check_callable("classifier", classifier, "an exception and returns an Outcome")
    takes = "a result and returns an Outcome"
    check_callable("result_classifier", result_classifier, takes, optional=True)


def check_type(name: str, value: object, *expected: type) -> None:
    """Reject a value of another type."""
    if not isinstance(value, expected):
        raise TypeError(f"{name} must be a {expected[0].__name__}, got {type(value).__name__}")


def check_text(name: str, value: object) -> str:
    """Reject anything that is not a string, or is empty; return it as a plain `str`."""
    if not isinstance(value, str):
        # Its type only: credentials passed instead of their region would show their secrets.
        raise TypeError(f"{name} must be a str, got a {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{name} must not be empty, got {value!r}")
    return str.__str__(value)  # the member of a StrEnum becomes its value


def check_count(name: str, value: object) -> None:
    """Reject anything that is not a whole number of at least 1."""
    expected = "a whole number of at least 1"
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def check_seconds(name: str, value: object) -> None:
    """Reject anything that is not a finite number of seconds above 0."""
    expected = "a finite number of seconds > 0"
    _check_number(name, value, expected, lambda seconds: 0 < seconds < math.inf)


def check_timeout(value: object) -> None:
    """Reject a timeout that is neither None nor a number of seconds from 0 on."""
    if value is not None:
        expected = "None or seconds of at least 0"
        _check_number("timeout", value, expected, lambda seconds: seconds >= 0)


def _check_number(name: str, value: object, expected: str, fits: Callable[[float], bool]) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    if not fits(value):
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def name_of(thing: object) -> str:
    """Return the name of a function, or of the type of anything else: a repr may show secrets."""
    try:
        named: object = getattr(thing, "func", thing)  # of a functools.partial
        return str(getattr(named, "__qualname__", type(named).__qualname__))
    except Exception:  # noqa: BLE001 - an object may answer to any name with an error
        return type(thing).__qualname__


def is_async(function: object) -> bool:
    """Return whether a call makes a coroutine: of an async def, or of an async `__call__`."""
    call: object = inspect.getattr_static(type(function), "__call__", None)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
