"""Outcome, and deciding it: did this call fail?

T10, "Failure Counting": only server-side failures count, that is 5xx answers, time-outs and
connection errors; 4xx and 429 never do. An error is asked in this order, and the first answer
stands: its HTTP status, its type, then the error that it wraps. Whoever gives no answer is
IGNORED, since a bug in the caller's code says nothing about a region.

The types of aiohttp, httpx and the others are looked up among the modules that are loaded
already; nothing is imported for it.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeAlias

from resilience.errors import CircuitBreakerOpenError
from resilience.text import one_line


class Outcome(StrEnum):
    """What one call says about its region."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    IGNORED = "IGNORED"


Classifier: TypeAlias = Callable[[BaseException], Outcome]
ResultClassifier: TypeAlias = Callable[[Any], Outcome]

_CLIENT_ERROR = 400
_SERVER_ERROR = 500
_MAX_DEPTH = 16  # wrapped errors may form a circle

# Module -> types in it. First those that are a time-out or a connection error without being a
# TimeoutError or ConnectionError; then what aiohttp's parser raises.
_OUTAGE = {
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
    "asyncio": ("IncompleteReadError",),
    "http.client": ("BadStatusLine", "IncompleteRead", "LineTooLong"),
    "httpx": ("NetworkError", "ProxyError", "RemoteProtocolError", "TimeoutException"),
    "requests.exceptions": ("ChunkedEncodingError", "ConnectionError", "Timeout"),
    "socket": ("gaierror", "herror"),
    "ssl": ("SSLError",),
    "trio": ("BrokenResourceError", "TooSlowError"),
    "urllib.error": ("ContentTooShortError",),
    "urllib3.exceptions": (
        "NewConnectionError",
        "ProtocolError",
        "ProxyError",
        "SSLError",
        "TimeoutError",
    ),
}
_UNPARSABLE = {"aiohttp.http_exceptions": ("HttpProcessingError",)}

_UNREACHABLE = {
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.ENETUNREACH,
}
_OUT_OF_FILES = {errno.EMFILE, errno.ENFILE}


def classify_error(error: BaseException) -> Outcome:
    """Decide what an exception says about the region that was called.

    The default classifier (T10, "Failure Counting"): HTTP status 500 and up, time-outs and
    connection errors are a FAILURE. ``tenacity.RetryError`` is judged by its last attempt, an
    error raised ``from`` another by that other if it says nothing itself, and an exception group
    is a failure if any of its errors is.

    Args:
        error: What the protected function raised.

    Returns:
        FAILURE or IGNORED; never SUCCESS.
    """
    return _verdict(error)[0] or Outcome.IGNORED


def classify_status(response: object) -> Outcome:
    """Decide what an answer says by its HTTP status, for clients that return a 503.

    A result classifier for clients that do not raise for a status.

    Args:
        response: Anything with a ``status``, a ``status_code`` or a ``response`` that has one.

    Returns:
        FAILURE for 500 and up, IGNORED for 400 to 499, SUCCESS for everything else.
    """
    status = _status(response)
    return Outcome.SUCCESS if status is None else _by_status(status, below=Outcome.SUCCESS)


def failures(*types: type[Exception]) -> Classifier:
    """Make a classifier for which these exception types are failures too.

    Args:
        types: Exception types that count, whatever their status; every other error is judged as
            `classify_error` does it.

    Returns:
        A classifier for a breaker, a registry or a decorator.

    Raises:
        TypeError: No type was given, or something that is no subclass of Exception.
    """
    if not types:
        raise TypeError("failures() needs at least one exception type, got none")
    given: tuple[object, ...] = types
    for kind in given:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(f"failures() takes subclasses of Exception, got {kind!r}")

    def classify(error: BaseException) -> Outcome:
        return _verdict(error, types)[0] or Outcome.IGNORED

    return classify


def says_nothing(error: BaseException) -> bool:
    """Tell whether no rule of `classify_error` knows this error."""
    return _verdict(error)[0] is None


def describe_error(error: BaseException) -> str:
    """Name an error by type and HTTP status, and never by its text, which may hold secrets."""
    return _describe(_verdict(error)[1])


def describe_result(result: object) -> str:
    """Name a returned object by type and HTTP status."""
    return _describe(result)


def _describe(thing: object) -> str:
    name, status = type(thing).__name__, _status(thing)
    return one_line(name if status is None else f"{name} {status}")


_Verdict: TypeAlias = tuple[Outcome | None, BaseException]


def _verdict(
    error: BaseException, counted: tuple[type[Exception], ...] = (), depth: int = 0
) -> _Verdict:
    """Find what an error says, and which of the errors it wraps says so; None is nothing."""
    if isinstance(error, counted):
        return Outcome.FAILURE, error
    if isinstance(error, BaseExceptionGroup):
        return _group_verdict(error, counted, depth)
    if not isinstance(error, Exception) or isinstance(error, CircuitBreakerOpenError):
        return Outcome.IGNORED, error
    own = _own_verdict(error)
    if own is not None:
        return own, error
    inner = _wrapped(error)
    if inner is None or depth >= _MAX_DEPTH:
        return None, error
    outcome, speaker = _verdict(inner, counted, depth + 1)
    return (None, error) if outcome is None else (outcome, speaker)


def _group_verdict(
    group: BaseExceptionGroup[BaseException], counted: tuple[type[Exception], ...], depth: int
) -> _Verdict:
    if depth >= _MAX_DEPTH:
        return None, group
    verdicts = [_verdict(error, counted, depth + 1) for error in group.exceptions]
    for wanted in (Outcome.FAILURE, Outcome.IGNORED):
        for outcome, speaker in verdicts:
            if outcome is wanted:
                return outcome, speaker
    return None, group


def _own_verdict(error: Exception) -> Outcome | None:
    if _is_malformed_answer(error):
        return Outcome.FAILURE
    status = _status(error)
    if status is not None:
        return _by_status(status, below=Outcome.IGNORED)
    if _is_out_of_files(error):
        return Outcome.IGNORED
    return Outcome.FAILURE if _is_outage(error) else None


def _by_status(status: int, *, below: Outcome) -> Outcome:
    # The Genesys SDK says 0 where no answer came at all.
    if status >= _SERVER_ERROR or status == 0:
        return Outcome.FAILURE
    return Outcome.IGNORED if status >= _CLIENT_ERROR else below


def _status(thing: object) -> int | None:
    """Find an HTTP status where the known clients keep it."""
    attempt = _last_attempt(thing)
    if attempt is not None and attempt.exception() is None:
        return _status(attempt.result())  # a result that the retries did not want
    for owner in (thing, _get(thing, "response")):
        for name in ("status", "status_code"):
            status = _get(owner, name)
            if isinstance(status, int) and not isinstance(status, bool):
                return int(status)
    return None


def _wrapped(error: Exception) -> BaseException | None:
    """Find the error that an error stands for: a last attempt, a reason, or its cause."""
    attempt = _last_attempt(error)
    if attempt is not None and attempt.exception() is not None:
        return attempt.exception()
    reason = _get(error, "reason")  # urllib3.MaxRetryError, urllib.error.URLError
    return reason if isinstance(reason, BaseException) else error.__cause__


def _last_attempt(error: object) -> Future[object] | None:
    """Find what a tenacity.RetryError is about; one that is not over would block who asks it."""
    attempt = _get(error, "last_attempt")
    over = isinstance(attempt, Future) and attempt.done() and not attempt.cancelled()
    return attempt if over else None


def _get(thing: object, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - a property of a stranger's class may raise anything
        return None


def _is_malformed_answer(error: Exception) -> bool:
    # aiohttp turns an answer that it cannot parse into a status 400 that the server never sent.
    cause = error.__cause__
    return cause is not None and _get(error, "headers") is None and _is_unparsable(type(cause))  # type: ignore[arg-type] # a class can be hashed


def _is_outage(error: Exception) -> bool:
    return (
        isinstance(error, TimeoutError | ConnectionError)
        or (isinstance(error, OSError) and error.errno in _UNREACHABLE)
        or _is_listed_outage(type(error))  # type: ignore[arg-type] # a class can be hashed
    )


# Cached by class: where a class of error exists, the library that it comes from is loaded.
@lru_cache(maxsize=512)
def _is_listed_outage(kind: type) -> bool:
    return issubclass(kind, _loaded(_OUTAGE))


@lru_cache(maxsize=512)
def _is_unparsable(kind: type) -> bool:
    return issubclass(kind, _loaded(_UNPARSABLE))


def _loaded(table: Mapping[str, tuple[str, ...]]) -> tuple[type, ...]:
    types = (
        _get(sys.modules.get(module), name) for module, names in table.items() for name in names
    )
    return tuple(kind for kind in types if isinstance(kind, type))


def _is_out_of_files(error: BaseException) -> bool:
    """Tell whether this machine, not the region, ran out: clients wrap it as a connection error."""
    wrapped: list[BaseException] = [error]
    for inner in wrapped:
        if isinstance(inner, OSError) and inner.errno in _OUT_OF_FILES:
            return True
        leaves = inner.exceptions if isinstance(inner, BaseExceptionGroup) else inner.args
        more = (inner.__cause__ or inner.__context__, *leaves)
        wrapped += [e for e in more if isinstance(e, BaseException)][: _MAX_DEPTH - len(wrapped)]
    return False
