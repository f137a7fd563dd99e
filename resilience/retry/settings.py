"""The settings of a loop: wrong ones are rejected when decorating.

tenacity takes any of them, and fails at the first retry, or retries every call without end: an
exception type in the place of a condition is true for each attempt.
"""

import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import tenacity
from tenacity import AsyncRetrying

from resilience._validate import is_async, is_generator, kind_of, name_of

_STATE = "a RetryCallState"
_TAKES = {
    "wait": _STATE,
    "retry": _STATE,
    "stop": _STATE,
    "before": _STATE,
    "after": _STATE,
    "before_sleep": _STATE,
    "retry_error_callback": _STATE,
    "sleep": "seconds",
}
_NEEDED = {"retry", "stop", "sleep"}
# Where tenacity's own conditions, waits and stops keep the ones that they combine.
_PARTS = ("retries", "stops", "wait_funcs", "strategies")
_EXCEPTION_TYPES = ("exception_types", "exception_cause_types")


def check_settings(settings: Mapping[str, object]) -> None:
    """Reject settings that no function can be retried with.

    Args:
        settings: By the names that tenacity has for them.

    Raises:
        TypeError: One of them has the wrong type.
    """
    for name, takes in _TAKES.items():
        given = settings.get(name)
        if name not in settings or (given is None and name not in _NEEDED):
            continue
        is_no_wait = name == "wait" and isinstance(given, int | float) and given == 0
        if not is_no_wait:
            check_strategy(name, given, takes)
    _check_error_class(settings)


def check_fits(fn: Callable[..., object], loop: object, settings: Mapping[str, object]) -> None:
    """Reject settings that do not fit to the kind of a function.

    Args:
        fn: The function that is retried.
        loop: What tenacity has made for it.
        settings: By the names that tenacity has for them.

    Raises:
        TypeError: One of them is an `async def` for a plain function, or blocks an `async def`.
    """
    what = name_of(fn)
    if isinstance(loop, AsyncRetrying):
        sleep = settings.get("sleep")
        if sleep is time.sleep or sleep is tenacity.sleep:
            raise TypeError(f"sleep must be an async def for {what}, got one that blocks its loop")
        return
    for name in _TAKES:
        for given in _with_parts(settings.get(name)):
            if is_async(given):
                got = f"got the async {name_of(given)}"
                raise TypeError(f"{name} must be a plain function for the plain {what}, {got}")


def check_strategy(name: str, given: object, takes: str = _STATE) -> None:
    """Reject what a loop cannot call, or what tenacity's own conditions in it cannot.

    Args:
        name: The name of the argument.
        given: What came for it.
        takes: What it is called with.

    Raises:
        TypeError: It is a class, or it cannot be called in this way.
    """
    expected = f"{name} must be a callable that takes {takes}"
    for part in _with_parts(given):
        if isinstance(part, type) or not callable(part):
            raise TypeError(f"{expected}, got {kind_of(part)}{_advice(part)}")
        if is_generator(part):
            raise TypeError(f"{expected}, got the generator {name_of(part)}")
        if not _takes_one_argument(part):
            raise TypeError(f"{expected}, got {name_of(part)}, which does not")
        _check_condition(name, part)


def _check_condition(name: str, condition: object) -> None:
    """Reject what one of tenacity's own conditions was made with."""
    if not _is_of_tenacity(condition):
        return
    predicate: object = getattr(condition, "predicate", None)
    expected = f"{name}: {name_of(condition)} must have a plain function"
    if isinstance(predicate, type):
        raise TypeError(f"{expected}, got {kind_of(predicate)}{_advice(predicate)}")
    if is_async(predicate) and not is_async(condition):
        raise TypeError(f"{expected}, got the async {name_of(predicate)}")
    for attribute in _EXCEPTION_TYPES:
        types: object = getattr(condition, attribute, Exception)
        try:
            isinstance(None, cast("type", types))
        except TypeError:
            expected = f"{name}: {name_of(condition)} must have exception types"
            raise TypeError(f"{expected}, got {kind_of(types)}") from None


def _check_error_class(settings: Mapping[str, object]) -> None:
    given = settings.get("retry_error_cls", tenacity.RetryError)
    if not callable(given):
        raise TypeError(f"retry_error_cls must be an exception type, got {kind_of(given)}")
    if settings["reraise"] and not hasattr(given, "reraise"):
        expected = "a subclass of tenacity.RetryError, or used with reraise=False"
        got = kind_of(given)
        raise TypeError(f"retry_error_cls must be {expected}, got {got}")


def _with_parts(setting: object) -> Iterable[object]:
    """Return a setting, and the ones that it combines."""
    found = [setting]
    for one in found:
        for attribute in _PARTS if _is_of_tenacity(one) else ():
            found += cast("Iterable[object]", getattr(one, attribute, ()))
    return found


def _is_of_tenacity(one: object) -> bool:
    return not isinstance(one, type) and type(one).__module__.partition(".")[0] == "tenacity"


def _takes_one_argument(function: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C
        return True
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True


def _advice(given: object) -> str:
    """Return what to write instead of exception types and of classes."""
    first = given[0] if isinstance(given, tuple) and given else given
    if not isinstance(first, type):
        return ""
    if issubclass(first, BaseException):
        names = first.__name__ if isinstance(given, type) else "..."
        return f": write retry_if_exception_type({names})"
    return f": write {first.__name__}(...)"
