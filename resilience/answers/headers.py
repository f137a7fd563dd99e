"""The headers of an answer about delays and limits, wherever its client library keeps them.

They come from the network, through objects of any class: nothing here raises, and nothing is read
without a bound.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import cast

from resilience import scope
from resilience._interrupts import raise_interrupt
from resilience._introspection import is_a
from resilience.classify import examine, read, safe_getattr, status_of

_MOST_HEADERS = 1000
_LONGEST_VALUE = 8192  # what servers accept as one line
_MOST_DETAILS = 16
_MOST_SECONDS, _NANOS = 10**12, 10**9  # of a protobuf Duration

#: The name under which `Headers` has what Google's APIs ask for outside of headers, in seconds.
RETRY_INFO = "retryinfo"

# All others are passed over.
_NAMES = {
    "date",
    "grpc-retry-pushback-ms",
    "inin-ratelimit-allowed",
    "inin-ratelimit-count",
    "inin-ratelimit-reset",
    "ratelimit",
    "ratelimit-limit",
    "ratelimit-policy",
    "ratelimit-remaining",
    "ratelimit-reset",
    "retry-after",
    "x-rate-limit-remaining",
    "x-rate-limit-reset",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
}


class Headers:
    """The headers of one answer: a header may have several values.

    Args:
        answer: An error or a response of a client library.
    """

    def __init__(self, answer: object) -> None:
        self._answer = answer
        self._values: dict[str, list[str]] = {}

    def get(self, name: str) -> list[str]:
        """Return the values of a header; the name is in lower case."""
        return self._values.get(name, [])

    def status(self) -> int | None:
        """Return the HTTP status of the answer; None: unknown."""
        return status_of(self._answer)

    def now(self) -> datetime:
        """Return the server's time, as far as it is known: its clock may differ from this one."""
        dates = [date for text in self.get("date") if (date := parse_date(text)) is not None]
        return dates[0] if dates else datetime.now(UTC)

    def read(self, holder: object) -> None:
        """Add the headers of a mapping, or of pairs of names and values."""
        try:
            items: object = getattr(holder, "items", None)
            pairs = items() if callable(items) else holder
            for pair in islice(cast("Iterable[object]", pairs), _MOST_HEADERS):
                name, value = cast("tuple[object, object]", pair)
                known = _text(name).lower()
                if known in _NAMES:
                    self.add(known, value)
        except BaseException as fault:  # noqa: BLE001 - no headers, or an object that does not work
            raise_interrupt(fault)

    def add(self, name: str, value: object) -> None:
        """Add a header, with a value or a list of values."""
        # Not as their own classes do it, which may have no end.
        values: Iterable[object] = (value,)
        if is_a(value, list):
            values = list.__iter__(value)
        elif is_a(value, tuple):
            values = tuple.__iter__(value)
        texts = [_text(one) for one in islice(values, _MOST_HEADERS)]
        fitting = [text for text in texts if 0 < len(text) <= _LONGEST_VALUE]
        if fitting:
            self._values.setdefault(name, []).extend(fitting)


def headers_of(answer: object) -> list[Headers]:
    """Return the headers of an answer.

    Args:
        answer: An error or a response of a client library, or an error that wraps one or several.

    Returns:
        The headers of each answer that was found in it.
    """
    answers: list[object] = [answer]
    if is_a(answer, BaseExceptionGroup):
        answers = list(scope.members_of(answer))
    found: list[Headers] = []
    for one in answers:
        root = examine(one)[1] if is_a(one, BaseException) else one
        for candidate in (one,) if root is one else (one, root):
            headers = _headers_of_one(candidate)
            if headers is not None:
                found.append(headers)
    return found


def parse_date(text: str) -> datetime | None:
    """Return an HTTP date in any of the three forms of RFC 9110, or of an e-mail; None: not one."""
    try:
        date = parsedate_to_datetime(text)
        # A date without a zone is in UTC: `asctime` makes such dates.
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except Exception:  # noqa: BLE001 - the header is the server's: it may hold anything
        return None


def _headers_of_one(answer: object) -> Headers | None:
    """Return the headers of one answer; None, as for most errors, where it has none."""
    response = safe_getattr(answer, "response")
    places = [
        safe_getattr(answer, "headers"),
        safe_getattr(answer, "resp"),  # googleapiclient: a mapping, and the response as well
        safe_getattr(safe_getattr(answer, "meta"), "headers"),  # elastic_transport
    ]
    if response is not None:
        places.append(safe_getattr(response, "headers"))
        places.append(read(response, '["ResponseMetadata"]["HTTPHeaders"]'))  # botocore
    # google.api_core keeps the error of grpc as its response.
    rpc_error = response if is_a(response, BaseException) else answer
    is_error = is_a(rpc_error, BaseException)  # a call might wait here for its end
    if is_error and safe_getattr(rpc_error, "trailing_metadata") is not None:
        places.append(read(rpc_error, "trailing_metadata()"))
    details = safe_getattr(answer, "details")
    headers = None if details is None else Headers(answer)
    for place in places:
        if place is not None:
            headers = headers or Headers(answer)
            headers.read(place)
    if headers is not None:
        _read_google(headers, details)
    return headers


def _read_google(headers: Headers, details: object) -> None:
    """Read google.rpc.RetryInfo among the details of an error, as an object or from JSON."""
    found: Iterable[object] = ()
    if is_a(details, list):
        found = list.__iter__(details)
    elif is_a(details, tuple):
        found = tuple.__iter__(details)
    for detail in islice(found, _MOST_DETAILS):
        headers.add(RETRY_INFO, _text(read(detail, '["retryDelay"]')).removesuffix("s"))
        headers.add(RETRY_INFO, _seconds_of(safe_getattr(detail, "retry_delay")))


def _seconds_of(duration: object) -> str:
    """Return a protobuf Duration, or a timedelta, in seconds; an empty text is neither."""
    if is_a(duration, timedelta):
        return f"{timedelta.total_seconds(duration):f}"
    seconds, nanos = safe_getattr(duration, "seconds"), safe_getattr(duration, "nanos")
    if not is_a(seconds, int) or not is_a(nanos, int):
        return ""
    seconds, nanos = int.__int__(seconds), int.__int__(nanos)  # they may compare in their own way
    is_valid = 0 <= seconds < _MOST_SECONDS and 0 <= nanos < _NANOS
    return f"{seconds}.{nanos:09}" if is_valid else ""


def _text(value: object) -> str:
    if type(value) is str:
        return value.strip()
    try:
        text = bytes.decode(value, "latin-1") if is_a(value, bytes) else str(value)
        return str.strip(text)
    except BaseException as fault:  # noqa: BLE001 - an object of a stranger's class may raise anything
        raise_interrupt(fault)
        return ""
