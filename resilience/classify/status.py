"""The HTTP status of an error or an answer, wherever a client keeps it."""

import operator
import re
from concurrent.futures import Future
from enum import Enum
from typing import SupportsIndex, cast

from resilience._interrupts import raise_interrupt
from resilience._introspection import arguments_of, attributes_of, is_a
from resilience.classify.known_types import FACTS, STATUS_NAMES
from resilience.classify.library import ClientLibrary
from resilience.classify.reading import read, safe_getattr

CLIENT_ERROR, SERVER_ERROR = 400, 500
PROXY_AUTHENTICATION, REQUEST_TIMEOUT, TOO_MANY_REQUESTS = 407, 408, 429
#: The Genesys SDK has the status 0 where no answer came.
NO_ANSWER = 0
LARGEST_STATUS = 999

# A number called `code` may be anything, but what tells a failure from a refusal is an HTTP status.
_STATUS_CODES = range(400, 600)
_ELSEWHERE = (
    'response["ResponseMetadata"]["HTTPStatusCode"]',
    "meta.status",
    "resp.status",
    "resp.status_code",
)

# Codes that throttle a caller, of AWS and of those that speak as it does: their status may be 503.
_THROTTLING = (
    "BandwidthLimitExceeded",
    "EC2Throttl",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceeded",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "Throttl",
    "TooManyRequests",
    "TransactionInProgressException",
)
_THROTTLING_CODES = ('response["Error"]["Code"]', "code", "error_code")


def status_of(thing: object) -> int | None:
    """Return an HTTP status from where the known clients keep it; None is not a status."""
    library = None
    if is_a(thing, BaseException):
        library, _, _, is_bare, _ = FACTS.of(type(thing))
        if is_bare and not attributes_of(thing) and (library is None or not library.reads_status):
            return None
    attempt = last_attempt(thing)
    if attempt is not None and Future.exception(attempt) is None:
        return status_of(without_content(Future.result(attempt)))  # that the retries rejected
    if library is None:
        return _general_status(thing)
    for path in library.status:
        status = _as_status(read(thing, path))
        if status is not None:
            return status
    if library.status_text:
        return _status_in_text(thing, library)
    return _general_status(thing) if library.has_http_status else None


def without_content(answer: object) -> object:
    """Return the part of an answer that has the status: httplib2 returns it with the content."""
    return tuple.__getitem__(answer, 0) if is_a(answer, tuple) and tuple.__len__(answer) else answer


def names_throttling(thing: object) -> bool:
    """Return whether an error names a code that throttles the caller, whatever its status is."""
    library = FACTS.of(type(thing)).library
    if library is not None and not library.has_error_code:
        return False
    for path in _THROTTLING_CODES:
        code = read(thing, path)
        if is_a(code, str) and str.startswith(code, _THROTTLING):
            return True
    return False


def last_attempt(error: object) -> Future[object] | None:
    """Return what a tenacity.RetryError is about; one that is not over would block its reader."""
    attempt = safe_getattr(error, "last_attempt")
    if not is_a(attempt, Future):
        return None
    try:
        is_over = Future.done(attempt) and not Future.cancelled(attempt)
    except BaseException as fault:  # noqa: BLE001 - of a class that makes no real Future
        raise_interrupt(fault)
        return None
    return attempt if is_over else None


def _general_status(thing: object) -> int | None:
    status = _own_status(thing)
    if status is None:
        response = safe_getattr(thing, "response")
        status = _own_status(response) or None  # 0: there is no response
        if status is None and is_a(response, dict):
            status = _status_in_items(response)
    for path in _ELSEWHERE:
        if status is not None:
            break
        status = _as_status(read(thing, path))
    return status


def _own_status(owner: object) -> int | None:
    if owner is None:
        return None
    for name in STATUS_NAMES:
        status = _as_status(safe_getattr(owner, name))
        if status is not None:
            return status
    code = _as_status(safe_getattr(owner, "code"))
    return code if code in _STATUS_CODES else None


def _status_in_items(response: dict[object, object]) -> int | None:
    """Return the status in an answer that is a dictionary, whose numbers may be anything."""
    for name in (*STATUS_NAMES, "code"):
        status = _as_status(dict.get(response, name))
        if status in _STATUS_CODES:
            return status
    return None


def _as_status(value: object) -> int | None:
    if value is None or is_a(value, bool):
        return None
    number = int.__int__(value) if is_a(value, int) else _number_in(value)
    return number if number is not None and 0 <= number <= LARGEST_STATUS else None


_THREE_DIGITS = re.compile(r"[1-9][0-9]{2}")


def _number_in(value: object) -> int | None:
    """Return the number in a text, in a member of an enumeration, or of a type like NumPy's."""
    if is_a(value, Enum):
        value = safe_getattr(value, "value")
    if is_a(value, bool):
        return None
    if is_a(value, str):
        text = str.__str__(value)
        return int(text) if _THREE_DIGITS.fullmatch(text) else None
    try:
        return int.__int__(operator.index(cast("SupportsIndex", value)))
    except BaseException as fault:  # noqa: BLE001 - it is not a number, or its class does not work
        raise_interrupt(fault)
        return None


def _status_in_text(error: object, library: ClientLibrary) -> int | None:
    for text in texts_of(error, library):
        found = re.search(library.status_text, text)
        if found is not None:
            return int(found[1])
    return _general_status(error) if library.has_http_status else None


# What http.client says, in an error that has no type and no number.
_PROXY_FAILS = re.compile(r"Tunnel connection failed: 5\d\d\b")


def is_proxy_down(error: OSError) -> bool:
    """Return whether a proxy said that it, or what is behind it, is down."""
    return any(_PROXY_FAILS.match(text) for text in texts_of(error, None))


_LONGEST_TEXT = 10_000


def texts_of(error: object, library: ClientLibrary | None) -> list[str]:
    """Return the messages of an error; no code of the error's own class makes them."""
    arguments = arguments_of(error) if is_a(error, BaseException) else ()
    if not arguments and (library is None or not library.text):
        return []
    texts = [text for text in arguments if type(text) is str]
    texts += [text.decode(errors="replace") for text in arguments if type(text) is bytes]
    if library is not None and library.text:
        text = read(error, library.text)
        texts += [text] if type(text) is str else []
    return [text[:_LONGEST_TEXT] for text in texts]
