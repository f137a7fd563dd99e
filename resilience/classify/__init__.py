"""Outcome, and deciding it: did this call fail?

T10, "Failure Counting": only server-side failures count, that is 5xx answers, time-outs and
connection errors; 4xx and 429 never do. An error is asked in this order, and the first answer
stands: its HTTP status, its type, then the error that it wraps. Whoever gives no answer is
IGNORED, since a bug in the caller's code says nothing about a region.

The types of aiohttp, httpx and the others are looked up among the modules that are loaded
already; nothing is imported for it.
"""

import sys
from collections.abc import Callable
from concurrent.futures import Future
from enum import StrEnum
from errno import EHOSTDOWN, EHOSTUNREACH, EMFILE, ENETDOWN, ENETRESET, ENETUNREACH, ENFILE
from functools import lru_cache
from typing import Any, TypeAlias

from resilience._text import one_line
from resilience.errors import CircuitBreakerOpenError


class Outcome(StrEnum):
    """What one call says about its region."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    IGNORED = "IGNORED"


# To look up a member of an enumeration takes its time.
FAILED, _IGNORED = Outcome.FAILURE, Outcome.IGNORED

Classifier: TypeAlias = Callable[[BaseException], Outcome]
ResultClassifier: TypeAlias = Callable[[Any], Outcome]
Report: TypeAlias = tuple[Outcome, str]  # what a call says, and what failed if it did
SUCCESS: Report = (Outcome.SUCCESS, "")
IGNORED: Report = (_IGNORED, "")

_CLIENT_ERROR, _SERVER_ERROR = 400, 500
_MAX_DEPTH = 16  # wrapped errors may form a circle

# Time-outs and connection errors that are neither a TimeoutError nor a ConnectionError.
_OUTAGE = """
    aiohttp.ClientConnectionError aiohttp.ClientPayloadError asyncio.IncompleteReadError
    http.client.BadStatusLine http.client.IncompleteRead http.client.LineTooLong httpx.NetworkError
    httpx.ProxyError httpx.RemoteProtocolError httpx.TimeoutException
    requests.exceptions.ChunkedEncodingError requests.exceptions.ConnectionError
    requests.exceptions.Timeout socket.gaierror socket.herror ssl.SSLError trio.BrokenResourceError
    trio.TooSlowError urllib.error.ContentTooShortError urllib3.exceptions.NewConnectionError
    urllib3.exceptions.ProtocolError urllib3.exceptions.ProxyError urllib3.exceptions.SSLError
    urllib3.exceptions.TimeoutError
"""
_UNPARSABLE = "aiohttp.http_exceptions.HttpProcessingError"
_UNREACHABLE = {EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETRESET, ENETUNREACH}
_OUT_OF_FILES = {EMFILE, ENFILE}


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
    return verdict(error) or _IGNORED


def classify_status(response: object) -> Outcome:
    """Decide what an answer says by its HTTP status, for clients that return a 503.

    A result classifier for clients that do not raise for a status.

    Args:
        response: Anything with a ``status``, a ``status_code`` or a ``response`` that has one.

    Returns:
        FAILURE for 500 and up, IGNORED for 400 to 499, SUCCESS for everything else.
    """
    status = status_of(response)
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
    given: tuple[Any, ...] = types
    wrong = [k for k in given if not (isinstance(k, type) and issubclass(k, Exception))]
    if wrong or not given:
        raise TypeError(f"failures() takes subclasses of Exception, got {wrong or 'none'!r}")

    def classify(error: BaseException) -> Outcome:
        return _verdict(error, types)[0] or _IGNORED

    return classify


def verdict(error: BaseException) -> Outcome | None:
    """Find what an error says about the region; None is nothing.

    Most errors are simple: they wrap no other, and say nothing, or have a status by that very name.
    Whatever else an error may be takes a longer look.
    """
    kind: Any = type(error)
    if _is_simple(kind) and error.__cause__ is None:
        said = error.__dict__
        if not said:
            return None
        if type(status := said.get("status")) is int and "last_attempt" not in said:
            return FAILED if status >= _SERVER_ERROR or status == 0 else _IGNORED
    return _verdict(error)[0]


def speaker(thing: object) -> object:
    """Give the error that speaks for one that wraps it; anything else speaks for itself."""
    return _verdict(thing)[1] if isinstance(thing, BaseException) else thing


def describe(thing: object) -> str:
    """Name an error or a result by type and HTTP status; its text may hold secrets."""
    name, status = type(who := speaker(thing)).__name__, status_of(who)
    return one_line(name if status is None else f"{name} {status}")


_Verdict: TypeAlias = tuple[Outcome | None, BaseException]
_Types: TypeAlias = tuple[type[Exception], ...]
# Where errors keep what they say: the class of a simple one has none of them.
_SAYINGS = ("__getattr__", "headers", "last_attempt", "reason", "response", "status", "status_code")


@lru_cache(maxsize=512)
def _is_simple(kind: Any) -> bool:
    says = issubclass(kind, OSError | BaseExceptionGroup | CircuitBreakerOpenError)
    asked = any(look_up(kind, name) is not None for name in _SAYINGS)
    usual = look_up(kind, "__getattribute__") is Exception.__getattribute__
    says = says or asked or _is_one_of(kind, _OUTAGE)
    return issubclass(kind, Exception) and usual and not says


def _verdict(error: BaseException, counted: _Types = (), depth: int = 0) -> _Verdict:
    """Find what an error says, and which of the errors it wraps says so; None is nothing."""
    if isinstance(error, counted):
        return FAILED, error
    if depth > _MAX_DEPTH:
        return None, error
    if isinstance(error, BaseExceptionGroup):
        return _group_verdict(error, counted, depth)
    if not isinstance(error, Exception) or isinstance(error, CircuitBreakerOpenError):
        return _IGNORED, error
    own = _own_verdict(error)
    if own is not None:
        return own, error
    inner = _wrapped(error)
    verdict = (None, error) if inner is None else _verdict(inner, counted, depth + 1)
    return (None, error) if verdict[0] is None else verdict


def _group_verdict(group: BaseExceptionGroup[Any], counted: _Types, depth: int) -> _Verdict:
    verdicts = [_verdict(error, counted, depth + 1) for error in group.exceptions]
    order = (FAILED, _IGNORED, None)
    return min(verdicts, key=lambda verdict: order.index(verdict[0]))


def _own_verdict(error: Exception) -> Outcome | None:
    if _is_malformed_answer(error):
        return FAILED
    status = status_of(error)
    if status is not None:
        return _by_status(status, below=_IGNORED)
    if _is_out_of_files(error):
        return _IGNORED
    return FAILED if _is_outage(error) else None


def _by_status(status: int, *, below: Outcome) -> Outcome:
    # The Genesys SDK says 0 where no answer came at all.
    if status >= _SERVER_ERROR or status == 0:
        return FAILED
    return _IGNORED if status >= _CLIENT_ERROR else below


def status_of(thing: object) -> int | None:
    """Find an HTTP status where the known clients keep it; None is no status."""
    attempt = _last_attempt(thing)
    if attempt is not None and attempt.exception() is None:
        return status_of(attempt.result())  # a result that the retries did not want
    status = _own_status(thing)
    return _own_status(look_up(thing, "response")) if status is None else status


def _own_status(owner: object) -> int | None:
    for name in ("status", "status_code"):
        status = look_up(owner, name)
        if isinstance(status, int) and not isinstance(status, bool):
            return int(status)
    return None


def _wrapped(error: Exception) -> BaseException | None:
    """Find the error that an error stands for: a last attempt, a reason, or its cause."""
    attempt = _last_attempt(error)
    if attempt is not None and attempt.exception() is not None:
        return attempt.exception()
    reason = look_up(error, "reason")  # urllib3.MaxRetryError, urllib.error.URLError
    return reason if isinstance(reason, BaseException) else error.__cause__


def _last_attempt(error: object) -> Future[object] | None:
    """Find what a tenacity.RetryError is about; one that is not over would block who asks it."""
    attempt = look_up(error, "last_attempt")
    over = isinstance(attempt, Future) and attempt.done() and not attempt.cancelled()
    return attempt if over else None


def look_up(thing: object, name: str) -> Any:
    """Give an attribute of a thing that may be a stranger's, or None."""
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - a property of a stranger's class may raise anything
        return None


def _is_malformed_answer(error: Exception) -> bool:
    # aiohttp turns an answer that it cannot parse into a status 400 that the server never sent.
    kind: Any = type(error.__cause__)
    return _is_one_of(kind, _UNPARSABLE) and look_up(error, "headers") is None


def _is_outage(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return True
    kind: Any = type(error)
    return isinstance(error, TimeoutError | ConnectionError) or _is_one_of(kind, _OUTAGE)


# Cached by class: where a class of error exists, the library that it comes from is loaded.
@lru_cache(maxsize=512)
def _is_one_of(kind: Any, names: str) -> bool:
    paths = (name.rpartition(".") for name in names.split())
    found = (look_up(sys.modules.get(module), name) for module, _, name in paths)
    return issubclass(kind, tuple(known for known in found if isinstance(known, type)))


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
