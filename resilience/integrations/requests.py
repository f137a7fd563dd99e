"""An adapter for requests: a circuit for each region that requests are sent to.

Needs requests: ``pip install "region-breaker[requests]"``.
"""

import copy
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, cast
from urllib.parse import urlsplit

from resilience._extras import needs_extra

with needs_extra(__name__, "requests"):
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import MaxRetryError, ResponseError
    from urllib3.util import Retry, Timeout
    from urllib3.util.retry import RequestHistory

from resilience import scope
from resilience.classify import classify_status
from resilience.errors import CircuitBreakerOpenError
from resilience.identity import KeepsIdentity
from resilience.integrations.http_client import (
    HttpClient,
    RequestOptions,
    RequestProtection,
    region_of_host,
)
from resilience.outcome import Classifier, ResultClassifier
from resilience.permit import Permit
from resilience.registry import CircuitBreakerRegistry

_DEFAULT_PORTS = {"http": 80, "https": 443}


class RequestRejectedError(CircuitBreakerOpenError, requests.RequestException):
    """A request was not sent, or its retries were ended: the circuit of its region admits none."""

    request = None
    response = None


class RegionAdapter(KeepsIdentity, HTTPAdapter):
    """Sends the requests of a `requests.Session` through the circuit breakers of their regions.

    Every request is a call, each of those after a redirect included, however often ``max_retries``
    lets it be sent: these retries end when the circuit opens, and a probe is sent once. A call ends
    when the body was read. A body that is cut, or takes too long, is a failure. A response that is
    closed or dropped with its body unread counts as answered.

    Args:
        registry: Whose circuits to use; None means `default_registry`.
        region_of: Takes a `requests.PreparedRequest` and returns its region; None: the region is
            that of the host. Hosts of Genesys Cloud are known; any other host is a region of its
            own.
        classifier: Classifies what a request raises; None: the registry's does.
        result_classifier: Classifies the responses; None: the registry's does.
        observe_limits: Whether the rate limit headers of each response are read, as by
            `CircuitBreaker.observe`.
        options: Those of `requests.adapters.HTTPAdapter`: ``pool_connections``, ``pool_maxsize``,
            ``max_retries``, ``pool_block``.

    Raises:
        TypeError: An argument has the wrong type.
    """

    NOT_PICKLED = "mount a new one in the other process"

    def __init__(
        self,
        registry: CircuitBreakerRegistry | None = None,
        *,
        region_of: Callable[[requests.PreparedRequest], str] | None = None,
        classifier: Classifier | None = None,
        result_classifier: ResultClassifier | None = classify_status,
        observe_limits: bool = False,
        **options: Any,
    ) -> None:
        own_options = RequestOptions(
            registry, region_of, classifier, result_classifier, observe_limits
        )
        self._protection: RequestProtection[requests.PreparedRequest] = RequestProtection(
            own_options, _REQUESTS
        )
        super().__init__(**options)
        self.max_retries = _stopping_with_circuit(self.max_retries)

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """Send a request, unless the circuit of its region is open.

        Raises:
            RequestRejectedError: It is.
        """
        try:
            permit = self._protection.admit(request)
            return permit.call_sync(self._send, (permit, request, *args), kwargs)
        except CircuitBreakerOpenError as error:
            raise self._protection.rejection_for(error) from error.__cause__

    def _send(
        self,
        permit: Permit,
        request: requests.PreparedRequest,
        stream: Any = None,
        timeout: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> requests.Response:
        limit = permit.call_timeout
        if limit is not None:  # nothing can end the call of a thread, but it can give up in time
            timeout = _at_most(limit, timeout)
        try:
            response = super().send(request, stream, timeout, *args, **kwargs)
        except _RetriesStoppedError as stopped:
            raise permit.breaker.rejection() from stopped.last_error
        has_ended = getattr(response.raw, "length_remaining", None) == 0
        body_permit = self._protection.answered(
            permit, response, response.status_code, has_ended=has_ended
        )
        if body_permit is not None:
            response.raw = _Body(response.raw, body_permit)
        return response


def _region_of_url(request: requests.PreparedRequest) -> str:
    url = urlsplit(request.url or "")
    port = None if url.port == _DEFAULT_PORTS.get(url.scheme) else url.port
    return region_of_host(url.hostname or "", port)


_REQUESTS: HttpClient[requests.PreparedRequest] = HttpClient(_region_of_url, RequestRejectedError)


def _at_most(limit: float, timeout: Any) -> Any:
    """Return a timeout with which an attempt waits for its headers no longer than these seconds.

    Args:
        limit: The seconds.
        timeout: What `requests.Session.request` takes as `timeout=`.
    """
    if isinstance(timeout, Timeout):
        shortened = timeout.clone()
    elif not isinstance(timeout, tuple):
        shortened = Timeout(connect=timeout, read=timeout)
    elif len(timeout) == 2:  # noqa: PLR2004
        shortened = Timeout(connect=timeout[0], read=timeout[1])
    else:
        return timeout  # requests explains what is wrong with it
    total = shortened.total
    shortened.total = min(total, limit) if isinstance(total, int | float) else limit
    return shortened


class _Body(io.IOBase):
    """The body of a response: what becomes of it settles the call.

    What is not defined here is that of the `urllib3.HTTPResponse`.

    Args:
        body: The response of urllib3.
        permit: The permit of the call.
    """

    def __init__(self, body: Any, permit: Permit) -> None:
        self._body = body
        self._permit = permit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces(self._body)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """Read piece by piece."""
        return self._pieces(self._body.stream(*args, **kwargs))

    def read_chunked(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """Read chunk by chunk."""
        return self._pieces(self._body.read_chunked(*args, **kwargs))

    def read(self, amt: int | None = None, *args: Any, **kwargs: Any) -> bytes:
        """Read this many bytes at most, or all."""
        reads_all = amt is None or amt < 0
        return self._read(self._body.read, amt, *args, reads_all=reads_all, **kwargs)

    def read1(self, amt: int | None = None, *args: Any, **kwargs: Any) -> bytes:
        """Read what is there."""
        return self._read(self._body.read1, amt, *args, reads_all=False, **kwargs)

    @property
    def data(self) -> bytes:
        """All of the body."""

        def read(_: object) -> bytes:
            everything: bytes = self._body.data
            return everything

        return self._read(read, None, reads_all=True)

    def json(self) -> Any:
        """Return what all of the body says in JSON."""
        return json.loads(self.data.decode())

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Close the connection, unless all was read."""
        try:
            self._body.close()
        finally:
            self._permit.answered()  # unless it has ended before

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        is_closed: bool = self._body.closed
        return is_closed

    def readable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the number of the socket."""
        number: int = self._body.fileno()
        return number

    def tell(self) -> int:
        """Return the number of bytes that were received."""
        position: int = self._body.tell()
        return position

    def _pieces(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        try:
            yield from pieces
        except GeneratorExit:  # the reader has stopped; `close` follows
            raise
        except BaseException as error:
            self._permit.raised(error)
            raise
        self._permit.succeed()

    def _read(
        self,
        read: Callable[..., bytes],
        amt: int | None,
        *args: Any,
        reads_all: bool,
        **kwargs: Any,
    ) -> bytes:
        try:
            piece = read(amt, *args, **kwargs)
        except BaseException as error:
            self._permit.raised(error)
            raise
        left = self._body.length_remaining
        # `read1` without an amount does not notice that a body is cut.
        is_at_end = not piece and amt != 0 and not left
        if reads_all or is_at_end or left == 0:
            self._permit.succeed()
        return piece


# Retries inside of urllib3


class _RetriesStoppedError(Exception):
    """A circuit has opened while a retry was waiting.

    Args:
        last_error: What the last attempt ended with.
    """

    def __init__(self, last_error: BaseException) -> None:
        super().__init__()
        self.last_error = last_error


class _StopsWithCircuit(Retry):
    """A retry configuration of urllib3 whose retries end when the circuit opens."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Self:
        """Note a failed attempt, and allow the next one if the circuit does."""
        following = super().increment(method, url, response, error, *args, **kwargs)
        if scope.blocking_call(first=False) is None:
            return following
        # As if the retries were used up.
        pool: Any = args[0] if args else kwargs.get("_pool")
        reason = _last_error(following)
        raise MaxRetryError(pool, url or "", reason) from reason

    def sleep(self, response: Any = None) -> None:
        """Wait before the next attempt, until the circuit opens."""
        call = scope.current()
        seconds = self._seconds_after(response)
        if call is not None and seconds > 0:
            scope.sleep_in_thread(seconds, call)
        if scope.blocking_call(first=False) is not None:
            raise _RetriesStoppedError(_last_error(self))

    def _seconds_after(self, response: Any) -> float:
        if self.respect_retry_after_header and response:
            asked = self.get_retry_after(response)
            if asked:
                return asked
        return self.get_backoff_time()


def _last_error(retry: Retry) -> Exception:
    last = cast("RequestHistory", cast("tuple[object, ...]", retry.history)[-1])
    if last.error is not None:
        return last.error
    return ResponseError(ResponseError.SPECIFIC_ERROR.format(status_code=last.status))


def _stopping_with_circuit(retry: Retry) -> Retry:
    """Return the same configuration, of a class of its own, whose retries end with the circuit."""
    kind = type(retry)
    stopping = copy.copy(retry)
    stopping.__class__ = type(kind.__name__, (_StopsWithCircuit, kind), {})
    return stopping
