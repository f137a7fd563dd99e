"""A middleware for the requests of aiohttp, and a session that has it: a circuit for each region.

Needs aiohttp: ``pip install "region-breaker[aiohttp]"``.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from resilience._extras import needs_extra

with needs_extra(__name__, "aiohttp"):
    import aiohttp
    from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse
    from yarl import URL

from resilience.classify import classify_status
from resilience.errors import CircuitBreakerOpenError
from resilience.integrations.http_client import (
    HttpClient,
    RequestOptions,
    RequestProtection,
    region_of_host,
)
from resilience.outcome import Classifier, ResultClassifier
from resilience.permit import Permit
from resilience.registry import CircuitBreakerRegistry

T = TypeVar("T")


class RequestRejectedError(CircuitBreakerOpenError, aiohttp.ClientError):
    """A request was not sent, because the circuit of its region admits none."""


class RequestTimeoutError(aiohttp.ServerTimeoutError):
    """The `call_timeout` of the policy has ended a request, or the reading of its response."""


class RegionMiddleware:
    """Sends the requests of a session through the circuit breakers of their regions.

    Pass it last in ``middlewares=``, so that whatever the other ones send is seen as well. What a
    single request passes in ``middlewares=`` takes the place of those of its session: pass this one
    there, too.

    Every request that is sent is a call: each of those after a redirect, and the second one that
    aiohttp makes of an idempotent request whose connection was dropped. A call ends when the body
    was received. A body that is cut, or takes too long, is a failure. A response that is closed
    with its body unread counts as answered.

    Args:
        registry: Whose circuits to use; None means `default_registry`.
        region_of: Takes an `aiohttp.ClientRequest` and returns its region; None: the region is that
            of the host. Hosts of Genesys Cloud are known; any other host is a region of its own.
        classifier: Classifies what a request raises; None: the registry's does.
        result_classifier: Classifies the responses; None: the registry's does.
        observe_limits: Whether the rate limit headers of each response are read, as by
            `CircuitBreaker.observe`.

    Raises:
        TypeError: An argument has the wrong type.
    """

    def __init__(
        self,
        registry: CircuitBreakerRegistry | None = None,
        *,
        region_of: Callable[[ClientRequest], str] | None = None,
        classifier: Classifier | None = None,
        result_classifier: ResultClassifier | None = classify_status,
        observe_limits: bool = False,
    ) -> None:
        options = RequestOptions(registry, region_of, classifier, result_classifier, observe_limits)
        self._protection: RequestProtection[ClientRequest] = RequestProtection(options, _AIOHTTP)

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send a request, unless the circuit of its region is open.

        Raises:
            RequestRejectedError: It is.
            RequestTimeoutError: The response has not begun within the `call_timeout`.
        """
        try:
            permit = self._protection.admit(request)
            return await permit.call_async(self._send, (permit, request, handler), {})
        except CircuitBreakerOpenError as error:
            raise self._protection.rejection_for(error) from error.__cause__

    async def _send(
        self, permit: Permit, request: ClientRequest, handler: ClientHandlerType
    ) -> ClientResponse:
        try:
            with _timer_of(request):
                response = await handler(request)
        except Exception:
            if _is_session_closed(request):  # then it was this side that has cut the connection
                permit.abandon("the session was closed")
            raise
        body = response.content
        body_permit = self._protection.answered(
            permit, response, response.status, has_ended=body.is_eof()
        )
        if body_permit is not None:
            body.on_eof(body_permit.succeed)
            response.content = _Body(body, body_permit)
        return response


def region_session(
    *args: Any,
    registry: CircuitBreakerRegistry | None = None,
    region_of: Callable[[ClientRequest], str] | None = None,
    classifier: Classifier | None = None,
    result_classifier: ResultClassifier | None = classify_status,
    observe_limits: bool = False,
    middlewares: Sequence[ClientMiddlewareType] = (),
    **options: Any,
) -> aiohttp.ClientSession:
    """Return an `aiohttp.ClientSession` with a circuit breaker for each region.

    Args:
        args: Those of `aiohttp.ClientSession`.
        registry: As for `RegionMiddleware`, which is the last middleware of the session.
        region_of: The same.
        classifier: The same.
        result_classifier: The same.
        observe_limits: The same.
        middlewares: The other ones.
        options: Further options of `aiohttp.ClientSession`.

    Returns:
        The session.

    Raises:
        TypeError: An argument has the wrong type.
    """
    # Elsewhere the registry comes first; aiohttp would take it for a URL.
    if any(isinstance(value, CircuitBreakerRegistry) for value in args):
        raise TypeError("region_session takes the registry by keyword: registry=")
    protection = RegionMiddleware(
        registry,
        region_of=region_of,
        classifier=classifier,
        result_classifier=result_classifier,
        observe_limits=observe_limits,
    )
    return aiohttp.ClientSession(*args, middlewares=(*middlewares, protection), **options)


def _timer_of(request: ClientRequest) -> AbstractContextManager[object]:
    """Return what makes a `TimeoutError` of the `ClientTimeout(total=)` of a request.

    aiohttp cancels the task, and makes the error where it enters the timer: around everything. A
    breaker below that would see a cancellation by somebody. The timer may be entered again here, as
    aiohttp itself does while it waits for the headers.
    """
    timer: AbstractContextManager[object] | None = getattr(request, "_timer", None)
    return nullcontext() if timer is None else timer


def _is_session_closed(request: ClientRequest) -> bool:
    session: aiohttp.ClientSession | None = getattr(request, "session", None)
    return session is not None and session.closed


def _region_of_url(request: ClientRequest) -> str:
    url: URL = request.url
    return region_of_host(url.raw_host or "", None if url.is_default_port() else url.port)


_AIOHTTP: HttpClient[ClientRequest] = HttpClient(
    _region_of_url, RequestRejectedError, RequestTimeoutError
)


class _Body(aiohttp.StreamReader):
    """The body of a response: what becomes of it settles the call.

    aiohttp goes on writing into the reader that it has made, and this one reads from it. It is a
    `StreamReader` for those who ask for its class, and has none of its attributes: what is not
    defined here finds them in the other reader.

    Args:
        body: The reader that aiohttp has made.
        permit: The permit of the call. It is settled as a success when all has been received.
    """

    __slots__ = ("_body", "_permit")

    def __init__(self, body: aiohttp.StreamReader, permit: Permit) -> None:
        self._body = body
        self._permit = permit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def __repr__(self) -> str:
        return repr(self._body)

    def __del__(self) -> None:
        error = self._body.exception()
        if error is not None:
            self._permit.raised(error)
        else:
            self._permit.answered()  # unless it has ended before

    def set_exception(self, *args: Any, **kwargs: Any) -> None:
        """End reading, because the response was closed."""
        self._permit.answered()
        self._body.set_exception(*args, **kwargs)

    async def readline(self, *args: Any, **kwargs: Any) -> bytes:
        """Read a line."""
        return await self._watch(self._body.readline(*args, **kwargs))

    async def readuntil(self, *args: Any, **kwargs: Any) -> bytes:
        """Read up to a separator."""
        return await self._watch(self._body.readuntil(*args, **kwargs))

    async def read(self, *args: Any, **kwargs: Any) -> bytes:
        """Read this many bytes at most, or all."""
        return await self._watch(self._body.read(*args, **kwargs))

    async def readany(self) -> bytes:
        """Read what is there."""
        return await self._watch(self._body.readany())

    async def readchunk(self) -> tuple[bytes, bool]:
        """Read a chunk."""
        return await self._watch(self._body.readchunk())

    async def readexactly(self, *args: Any, **kwargs: Any) -> bytes:
        """Read this many bytes."""
        return await self._watch(self._body.readexactly(*args, **kwargs))

    async def wait_eof(self) -> None:
        """Wait until all has been received."""
        await self._watch(self._body.wait_eof())

    def read_nowait(self, *args: Any, **kwargs: Any) -> bytes:
        """Read what is there, without waiting."""
        return self._body.read_nowait(*args, **kwargs)

    def unread_data(self, data: bytes) -> None:
        """Put data back."""
        self._body.unread_data(data)

    def set_read_chunk_size(self, n: int) -> None:
        """Let the reader hold this many bytes."""
        self._body.set_read_chunk_size(n)

    async def _watch(self, reading: Awaitable[T]) -> T:
        try:
            return await self._permit.go_on(reading)
        except BaseException as error:
            self._permit.raised(error)
            raise
