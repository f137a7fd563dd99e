"""The rules: did this call fail?

Only server-side failures count, that is 5xx answers, timeouts and connection errors; 4xx never do,
429 included: they are ANSWERED, except for 407, which is a proxy's. An error is asked in this
order, and the first answer stands: its HTTP status, its type, then the error that it wraps. An
error that gives no answer is IGNORED, since a bug in the caller's code says nothing about a region.
"""

from concurrent.futures import Future
from errno import EHOSTDOWN, EHOSTUNREACH, EMFILE, ENETDOWN, ENETRESET, ENETUNREACH, ENFILE
from functools import lru_cache
from typing import TypeAlias

from resilience._text import one_line
from resilience.classify.libraries import (
    OUTAGES,
    UNPARSABLE_ANSWERS,
    is_one_of,
    safe_getattr,
)
from resilience.errors import CircuitBreakerOpenError
from resilience.outcome import Classifier, Outcome

_CLIENT_ERROR, _SERVER_ERROR = 400, 500
_PROXY_ERROR = 407  # says nothing about the region behind the proxy
# The Genesys SDK has the status 0 where no answer came.
_NO_ANSWER = 0
_LARGEST_STATUS = 999  # of the statuses that are shown
_MAX_DEPTH = 16  # wrapped errors may form a circle

_UNREACHABLE = {EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETRESET, ENETUNREACH}
_OUT_OF_FILES = {EMFILE, ENFILE}

# Reading a member of an enumeration takes 65 ns.
_FAILURE, _ANSWERED, _IGNORED = Outcome.FAILURE, Outcome.ANSWERED, Outcome.IGNORED


# What an error says; the error that says it, which is itself or one that it wraps; and the HTTP
# status of that one. An outcome of None means that no rule knows the error.
Finding: TypeAlias = tuple[Outcome | None, BaseException, int | None]


def classify_error(error: BaseException) -> Outcome:
    """Classify an exception: the default classifier.

    HTTP status 500 and up, timeouts and connection errors are a FAILURE, and status 400 to 499,
    except 407, is ANSWERED. ``tenacity.RetryError`` is judged by its last attempt, an error raised
    ``from`` another by that other if it says nothing itself, and an exception group is a FAILURE if
    any of its errors is, else ANSWERED if any is.

    Args:
        error: What the protected function raised.

    Returns:
        FAILURE, ANSWERED or IGNORED; never SUCCESS.
    """
    return examine(error)[0] or _IGNORED


def classify_status(response: object) -> Outcome:
    """Classify an answer by its HTTP status: for clients that return a 503.

    A result classifier for clients that do not raise for a status.

    Args:
        response: Anything with a ``status``, a ``status_code`` or a ``response`` that has one.

    Returns:
        FAILURE for 500 and up, IGNORED for 407, ANSWERED for the others from 400 to 499, SUCCESS
        for everything else.
    """
    status = status_of(response)
    if status is None:
        return Outcome.SUCCESS
    return _outcome_of_status(status, below=Outcome.SUCCESS)


def failures(*types: type[Exception]) -> Classifier:
    """Make a classifier for which these exception types are failures too.

    Args:
        types: Exception types that count, whatever their status; every other error is judged as
            `classify_error` does it.

    Returns:
        A classifier for a breaker, a registry or a decorator.

    Raises:
        TypeError: No type was given, or something that is not a subclass of Exception.
    """
    given: tuple[object, ...] = types
    wrong = [kind for kind in given if not _is_exception_type(kind)]
    if wrong or not given:
        raise TypeError(f"failures() takes subclasses of Exception, got {wrong or 'none'!r}")

    def classify(error: BaseException) -> Outcome:
        return _examine(error, types)[0] or _IGNORED

    return classify


def examine(error: BaseException) -> Finding:
    """Find the outcome that an error stands for.

    Most errors are simple: they wrap no other, and say nothing, or have a status by that very name.
    Every other error takes a longer look.
    """
    kind: object = type(error)
    if _is_simple(kind) and error.__cause__ is None:
        attributes = error.__dict__
        if not attributes:
            return None, error, None
        status: object = attributes.get("status")
        if type(status) is int and "last_attempt" not in attributes:
            if status >= _SERVER_ERROR or status == _NO_ANSWER:
                return _FAILURE, error, status
            is_answer = status >= _CLIENT_ERROR and status != _PROXY_ERROR
            return _ANSWERED if is_answer else _IGNORED, error, status
    return _examine(error)


def root_error(thing: object) -> object:
    """Return the error that speaks for one that wraps it; anything else speaks for itself."""
    return examine(thing)[1] if isinstance(thing, BaseException) else thing


def describe(thing: object) -> str:
    """Return the type and HTTP status of an error or a result; its text may hold secrets."""
    if isinstance(thing, BaseException):
        _, root, status = examine(thing)
        return describe_as(root, status)
    return describe_as(thing, status_of(thing))


def describe_as(root: object, status: int | None) -> str:
    """Return the type of an error or a result, and its HTTP status, which is known."""
    name = type(root).__name__
    if status is not None and 0 <= status <= _LARGEST_STATUS:
        name = f"{name} {status}"
    return one_line(name)


def status_of(thing: object) -> int | None:
    """Return an HTTP status from where the known clients keep it; None is no status."""
    attempt = _last_attempt(thing)
    if attempt is not None and attempt.exception() is None:
        return status_of(attempt.result())  # a result that the retries rejected
    status = _own_status(thing)
    return _own_status(safe_getattr(thing, "response")) if status is None else status


_Types: TypeAlias = tuple[type[Exception], ...]
# Where errors keep what they say: the class of a simple error has none of these.
_TELLING = ("__getattr__", "headers", "last_attempt", "reason", "response", "status", "status_code")


@lru_cache(maxsize=512)
def _is_simple(kind: type) -> bool:
    if not issubclass(kind, Exception) or issubclass(
        kind, OSError | BaseExceptionGroup | CircuitBreakerOpenError
    ):
        return False
    if safe_getattr(kind, "__getattribute__") is not Exception.__getattribute__:
        return False
    for name in _TELLING:
        if safe_getattr(kind, name) is not None:
            return False
    same_kind: object = kind
    return not is_one_of(same_kind, OUTAGES)


def _examine(error: BaseException, counted: _Types = (), depth: int = 0) -> Finding:
    """Take the longer look; `counted` are the types that are failures too."""
    if isinstance(error, counted):
        return _FAILURE, error, status_of(error)
    if depth > _MAX_DEPTH:
        return None, error, None
    if isinstance(error, BaseExceptionGroup):
        return _examine_group(error, counted, depth)
    if not isinstance(error, Exception) or isinstance(error, CircuitBreakerOpenError):
        return _IGNORED, error, None
    status = status_of(error)
    outcome = _examine_alone(error, status)
    wrapped = _wrapped_error(error) if outcome is None else None
    if wrapped is None:
        return outcome, error, status
    finding = _examine(wrapped, counted, depth + 1)
    return (None, error, status) if finding[0] is None else finding


def _examine_group(
    group: BaseExceptionGroup[BaseException], counted: _Types, depth: int
) -> Finding:
    findings = [_examine(error, counted, depth + 1) for error in group.exceptions]
    for telling in (_FAILURE, _ANSWERED, _IGNORED):
        for finding in findings:
            if finding[0] is telling:
                return finding
    return findings[0]


def _examine_alone(error: Exception, status: int | None) -> Outcome | None:
    """Find the outcome of an error by itself, whatever it wraps."""
    if _is_malformed_answer(error):
        return _FAILURE
    if status is not None:
        return _outcome_of_status(status, below=_IGNORED)
    if _is_out_of_files(error):
        return _IGNORED
    return _FAILURE if _is_outage(error) else None


def _outcome_of_status(status: int, *, below: Outcome) -> Outcome:
    if status >= _SERVER_ERROR or status == _NO_ANSWER:
        return _FAILURE
    if status == _PROXY_ERROR:
        return _IGNORED
    return _ANSWERED if status >= _CLIENT_ERROR else below


def _own_status(owner: object) -> int | None:
    for name in ("status", "status_code"):
        status = safe_getattr(owner, name)
        if isinstance(status, int) and not isinstance(status, bool):
            return int(status)
    return None


def _wrapped_error(error: Exception) -> BaseException | None:
    """Return the error that an error stands for: a last attempt, a reason, or its cause."""
    attempt = _last_attempt(error)
    if attempt is not None and attempt.exception() is not None:
        return attempt.exception()
    reason = safe_getattr(error, "reason")  # urllib3.MaxRetryError, urllib.error.URLError
    return reason if isinstance(reason, BaseException) else error.__cause__


def _last_attempt(error: object) -> Future[object] | None:
    """Return what a tenacity.RetryError is about; one that is not over would block its reader."""
    attempt = safe_getattr(error, "last_attempt")
    if not isinstance(attempt, Future) or not attempt.done() or attempt.cancelled():
        return None
    return attempt


def _is_malformed_answer(error: Exception) -> bool:
    kind: object = type(error.__cause__)
    return is_one_of(kind, UNPARSABLE_ANSWERS) and safe_getattr(error, "headers") is None


def _is_outage(error: Exception) -> bool:
    if isinstance(error, OSError) and _has_errno(error, _UNREACHABLE):
        return True
    kind: object = type(error)
    return isinstance(error, TimeoutError | ConnectionError) or is_one_of(kind, OUTAGES)


def _is_out_of_files(error: BaseException) -> bool:
    """Return whether this machine ran out of files: clients wrap that as a connection error.

    What was being handled when the error was raised (`__context__`) is not asked: a timeout that
    is raised while EMFILE is handled is still a timeout.
    """
    seen: list[BaseException] = [error]
    for one in seen:
        if isinstance(one, OSError) and _has_errno(one, _OUT_OF_FILES):
            return True
        seen += _parts(one)[: _MAX_DEPTH - len(seen)]
    return False


def _has_errno(error: OSError, numbers: set[int]) -> bool:
    number: object = error.errno  # whatever the error was made with
    return isinstance(number, int) and number in numbers


def _parts(error: BaseException) -> list[BaseException]:
    """Return what an error consists of: its cause, and the errors in its arguments or its group."""
    inner: tuple[object, ...] = error.args
    if isinstance(error, BaseExceptionGroup):
        inner = error.exceptions
    return [part for part in (error.__cause__, *inner) if isinstance(part, BaseException)]


def _is_exception_type(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)
