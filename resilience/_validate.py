"""Arguments, checked where they come in: an error names the argument, what came, and what fits."""

import inspect
import math
from typing import Any


def check_callable(name: str, value: Any, takes: str, *, optional: bool = False) -> None:
    """Refuse what cannot be called without awaiting; `takes` describes its argument."""
    if optional and value is None:
        return
    if not callable(value):
        raise TypeError(f"{name} must be a callable that takes {takes}, got {type(value).__name__}")
    if is_async(value):
        raise TypeError(f"{name} must be a plain function, got the async {name_of(value)}")


def check_classifiers(on_error: object, on_result: object) -> None:
    """Refuse classifiers that nobody could ask."""
    check_callable("classifier", on_error, "an exception and returns an Outcome")
    check_callable("result_classifier", on_result, "a result and returns an Outcome", optional=True)


def check_type(name: str, value: object, *expected: type) -> None:
    """Refuse a value of another type."""
    if not isinstance(value, expected):
        raise TypeError(f"{name} must be a {expected[0].__name__}, got {type(value).__name__}")


def check_text(name: str, value: object) -> str:
    """Refuse what is no text or has nothing in it; returns it as a plain str."""
    if not isinstance(value, str):
        # Its type only: credentials that were given for their region would show their secrets.
        raise TypeError(f"{name} must be a str, got a {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{name} must not be empty, got {value!r}")
    return str.__str__(value)  # the member of a StrEnum becomes its value


def check_count(name: str, value: object) -> None:
    """Refuse what is no whole number of at least 1."""
    _check_number(name, value, int, lambda n: n >= 1, "a whole number of at least 1")


def check_seconds(name: str, value: object) -> None:
    """Refuse what is no finite number of seconds above 0."""
    _check_number(name, value, float, lambda n: 0 < n < math.inf, "a finite number of seconds > 0")


def check_timeout(value: object) -> None:
    """Refuse a time-out that is neither None nor a number of seconds from 0 on."""
    if value is not None:
        _check_number("timeout", value, float, lambda n: n >= 0, "None or seconds of at least 0")


def _check_number(name: str, value: Any, kind: type, fits: Any, expected: str) -> None:
    if not isinstance(value, (int, kind)) or isinstance(value, bool):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    if not fits(value):
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def name_of(thing: object) -> str:
    """Name a function, or the type of anything else, whose repr might show secrets."""
    named = getattr(thing, "func", thing)  # of a functools.partial
    return str(getattr(named, "__qualname__", type(named).__qualname__))


def is_async(function: object) -> bool:
    """Tell whether a call makes a coroutine: an async def, or an object whose __call__ is one."""
    call = inspect.getattr_static(type(function), "__call__", None)
    return any(map(inspect.iscoroutinefunction, (function, call)))
