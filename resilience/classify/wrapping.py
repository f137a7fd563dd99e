"""The errors that an error stands for: what it wraps, and what was handled in the same call."""

from collections.abc import Iterable

from resilience.classify.known_types import FACTS, library_of_module
from resilience.classify.reading import arguments_of, read, safe_getattr
from resilience.classify.status import last_attempt

# Where errors of any library keep the one that they wrap: urllib.error.URLError has a reason.
_PLACES = ("reason", "original_exception", "original_error", "inner_exception")


def wrapped_errors(error: BaseException) -> list[BaseException]:
    """Return the errors that an error wraps: those of the first place that has any."""
    attempt = last_attempt(error)
    if attempt is not None:
        failed = attempt.exception()
        if failed is not None:
            return [failed]
    library = FACTS[type(error)].library
    for path in (*_PLACES, *(() if library is None else library.wrapped)):
        found = _errors_in(read(error, path))
        if found:
            return found
    if error.__cause__ is not None:
        return [error.__cause__]
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
    handled = error.__context__
    if handled is None or error.__suppress_context__ or handled.__traceback__ is None:
        return None
    catching, passed = handled.__traceback__.tb_frame, error.__traceback__
    while passed is not None:
        if passed.tb_frame is catching:
            return handled
        passed = passed.tb_next
    return None


def is_raised_by_library(error: BaseException) -> bool:
    """Return whether the code of a known client library raised an error."""
    passed = error.__traceback__
    if passed is None:
        return False
    while passed.tb_next is not None:
        passed = passed.tb_next
    return library_of_module(passed.tb_frame.f_globals.get("__name__")) is not None


def _errors_in(value: object) -> list[BaseException]:
    items: Iterable[object] = (value,)
    if isinstance(value, list | tuple):
        items = value
    elif isinstance(value, dict):
        items = value.values()
    found = [item for item in items if isinstance(item, BaseException)]
    return [_without_failure(error) for error in found]


def _without_failure(error: BaseException) -> BaseException:
    """Return an error itself, where Twisted hands it around in a Failure."""
    if isinstance(error, Exception):
        return error
    value = safe_getattr(error, "value")
    return value if isinstance(value, BaseException) else error
