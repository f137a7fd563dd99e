"""The errors that an error stands for: what it wraps, and what was handled in the same call."""

from collections.abc import Iterable
from concurrent.futures import Future
from itertools import islice

from resilience._introspection import (
    arguments_of,
    cause_of,
    context_of,
    is_a,
    suppresses_context,
    traceback_of,
)
from resilience.classify.known_types import FACTS, library_of_module
from resilience.classify.reading import read, safe_getattr
from resilience.classify.status import last_attempt

# Where errors of any library keep the one that they wrap: urllib.error.URLError has a reason.
_PLACES = ("reason", "original_exception", "original_error", "inner_exception")
_MOST_IN_ONE_PLACE = 10_000


def wrapped_errors(error: BaseException) -> list[BaseException]:
    """Return the errors that an error wraps: those of the first place that has any."""
    attempt = last_attempt(error)
    if attempt is not None:
        failed = Future.exception(attempt)
        if is_a(failed, BaseException):
            return [failed]
    library = FACTS.of(type(error)).library
    for path in (*_PLACES, *(() if library is None else library.wrapped)):
        found = _errors_in(read(error, path))
        if found:
            return found
    cause = cause_of(error)
    if cause is not None:
        return [cause]
    if library is None:
        return []
    found = _errors_in(arguments_of(error))
    if not found and library.hides_cause:
        handled = handled_error(error)
        found = [] if handled is None else [handled]
    return found


def handled_error(error: BaseException) -> BaseException | None:
    """Return the error that was being handled in the same call when this one was raised.

    The other one was caught in a frame that this error passed. What the caller was handling when
    the call began was caught further out.
    """
    handled = context_of(error)
    caught = None if handled is None else traceback_of(handled)
    if caught is None or suppresses_context(error):
        return None
    catching, passed = caught.tb_frame, traceback_of(error)
    while passed is not None:
        if passed.tb_frame is catching:
            return handled
        passed = passed.tb_next
    return None


def is_raised_by_library(error: BaseException) -> bool:
    """Return whether the code of a known client library raised an error."""
    passed = traceback_of(error)
    if passed is None:
        return False
    while passed.tb_next is not None:
        passed = passed.tb_next
    return library_of_module(passed.tb_frame.f_globals.get("__name__")) is not None


def _errors_in(value: object) -> list[BaseException]:
    items: Iterable[object] = (value,)
    # Not as their own classes do it, which may have no end.
    if is_a(value, list):
        items = list.__iter__(value)
    elif is_a(value, tuple):
        items = tuple.__iter__(value)
    elif is_a(value, dict):
        items = dict.values(value)
    found = [item for item in islice(items, _MOST_IN_ONE_PLACE) if is_a(item, BaseException)]
    return [_without_failure(error) for error in found]


def _without_failure(error: BaseException) -> BaseException:
    """Return an error itself, where Twisted hands it around in a Failure."""
    if is_a(error, Exception):
        return error
    value = safe_getattr(error, "value")
    return value if is_a(value, BaseException) else error
