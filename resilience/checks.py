"""Arguments, checked where they come in: an error names the argument, what came, and what fits."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any


def check_callable(name: str, value: Any, takes: str) -> None:
    """Refuse what cannot be called without awaiting; `takes` describes its argument."""
    if not callable(value):
        raise TypeError(f"{name} must be a callable that takes {takes}, got {value!r}")
    if is_async(value):
        raise TypeError(
            f"{name} must be a plain function, not the async {value!r}: nobody awaits it"
        )


def check_clock(clock: Callable[[], float] | None) -> None:
    """Refuse a clock that cannot be asked."""
    if clock is not None:
        check_callable("clock", clock, "nothing and returns seconds")


def check_type(name: str, value: object, expected: type) -> None:
    """Refuse a value of another type."""
    if not isinstance(value, expected):
        raise TypeError(f"{name} must be a {expected.__name__}, got {value!r}")


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
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number of at least 1, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}")


def check_seconds(name: str, value: object) -> None:
    """Refuse what is no finite number of seconds above 0."""
    expected = "a finite number of seconds above 0"
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def check_timeout(value: float | None) -> None:
    """Refuse a time-out that is neither None nor a number of seconds from 0 on."""
    expected = "None or a number of seconds of at least 0"
    if value is None:
        return
    given: object = value
    if not isinstance(given, int | float) or isinstance(given, bool):
        raise TypeError(f"timeout must be {expected}, got {value!r}")
    if not value >= 0:
        raise ValueError(f"timeout must be {expected}, got {value!r}")


def is_async(function: object) -> bool:
    """Tell whether a call makes a coroutine: an async def, or an object whose __call__ is one."""
    call = inspect.getattr_static(type(function), "__call__", None)
    return any(map(inspect.iscoroutinefunction, (function, call)))
