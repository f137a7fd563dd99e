"""What the transports for httpx and httpx2 share: the two libraries have the same interface."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from resilience._validate import kind_of
from resilience.errors import CircuitBreakerOpenError
from resilience.integrations.http_client import (
    HttpClient,
    RequestOptions,
    RequestProtection,
    region_of_host,
)
from resilience.permit import Permit
from resilience.watched_permit import WatchedPermit

# Those of httpx or of httpx2.
Request = TypeVar("Request")
Response = TypeVar("Response")

_NO_CONTENT = 204
_WAITS = ("connect", "read", "write", "pool")


class PickledWithoutRequest:
    """What the errors for both libraries have: the request is not part of a pickle."""

    # Set by the client. It holds the headers of the request, and tokens in them.
    _request: Any = None

    def __reduce__(self) -> tuple[object, ...]:
        *parts, state = cast("tuple[object, ...]", super().__reduce__())
        kept = cast("dict[str, object]", state)
        return *parts, {name: value for name, value in kept.items() if name != "_request"}


class _Protecting(Generic[Request, Response]):
    """Sends requests through another transport, and the circuit breakers of their regions.

    Args:
        transport: The other transport.
        options: What the user has set.
        client: The client library.
        make_body: Takes the stream of a response, a permit and the request, and returns the stream
            that settles the permit.
    """

    #: The method of the other transport that sends a request.
    _send_method: ClassVar[str]

    def __init__(
        self,
        transport: Any,
        options: RequestOptions[Request],
        client: HttpClient[Request],
        make_body: Callable[[Any, Permit, Any], Any],
    ) -> None:
        _check_transport(transport, self._send_method)
        self._transport = transport
        self._make_body = make_body
        self._protection: RequestProtection[Any] = RequestProtection(options, client)

    def _watch(self, permit: Permit, request: Any, response: Any) -> Response:
        """Have the stream of a response settle the call, if it has to."""
        status = response.status_code
        has_no_body = request.method == "HEAD" or status == _NO_CONTENT
        body_permit = self._protection.answered(
            permit, response, status, has_ended=has_no_body or response.is_closed
        )
        if body_permit is not None:
            response.stream = self._make_body(response.stream, body_permit, request)
        return cast("Response", response)


class ProtectingTransport(_Protecting[Request, Response]):
    """Sends requests in sync code; see `RegionTransport`."""

    _send_method = "handle_request"

    def handle_request(self, request: Request) -> Response:
        """Send a request, unless the circuit of its region is open.

        Raises:
            RequestRejectedError: It is.
        """
        if not _has_host(request):  # it cannot be sent, as the other transport explains
            return cast("Response", self._transport.handle_request(request))
        try:
            permit = self._protection.admit(request)
            return permit.call_sync(self._send, (permit, request), {})
        except CircuitBreakerOpenError as error:
            raise self._protection.rejection_for(error) from error.__cause__

    def _send(self, permit: Permit, request: Any) -> Response:
        limit, given = permit.call_timeout, request.extensions
        if limit is not None:  # nothing can end the call of a thread, but it can give up in time
            request.extensions = {**given, "timeout": _at_most(limit, given.get("timeout", {}))}
        try:
            response = self._transport.handle_request(request)
        finally:
            request.extensions = given  # a redirect, which may be to another region, takes them
        return self._watch(permit, request, response)

    def close(self) -> None:
        """Close the other transport."""
        self._transport.close()

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._transport.__exit__(kind, error, traceback)


class AsyncProtectingTransport(_Protecting[Request, Response]):
    """Sends requests in async code; see `AsyncRegionTransport`."""

    _send_method = "handle_async_request"

    async def handle_async_request(self, request: Request) -> Response:
        """Send a request, unless the circuit of its region is open.

        Raises:
            RequestRejectedError: It is.
            RequestTimeoutError: The response has not begun within the `call_timeout`.
        """
        if not _has_host(request):
            return cast("Response", await self._transport.handle_async_request(request))
        try:
            permit = self._protection.admit(request)
            return await permit.call_async(self._send, (permit, request), {})
        except CircuitBreakerOpenError as error:
            raise self._protection.rejection_for(error) from error.__cause__

    async def _send(self, permit: Permit, request: Request) -> Response:
        return self._watch(permit, request, await self._transport.handle_async_request(request))

    async def aclose(self) -> None:
        """Close the other transport."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(kind, error, traceback)


class _SettlingBody:
    """The body of a response: what becomes of it settles the call.

    Args:
        stream: The stream of the response.
        permit: The permit of the call.
        request: What was sent.
    """

    #: What the library raises if a body cannot be decoded.
    DECODING_ERROR: ClassVar[type[Exception]]

    def __init__(self, stream: Any, permit: Permit, request: object) -> None:
        self._stream = stream
        self._permit = permit
        self._request = request

    def _end(self) -> None:
        """Settle the call, unless it has ended before: the response is closed."""
        # The response decodes what it reads from here. If that fails, it is closed for this error.
        error = sys.exception()
        if (
            isinstance(error, self.DECODING_ERROR)
            and getattr(error, "_request", None) is self._request
        ):
            self._permit.raised(error)
        self._permit.answered()

    def __del__(self) -> None:
        self._permit.answered()


class Body(_SettlingBody):
    """A body in sync code."""

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except GeneratorExit:  # the reader has stopped; `close` follows
            raise
        except BaseException as error:
            self._permit.raised(error)
            raise
        self._permit.succeed()

    def close(self) -> None:
        """End the stream."""
        try:
            self._stream.close()
        finally:
            self._end()


class AsyncBody(_SettlingBody):
    """A body in async code."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        permit, pieces = self._permit, aiter(self._stream)
        is_watched = isinstance(permit, WatchedPermit)  # every piece would cost 100 ns otherwise
        try:
            while True:
                piece = anext(pieces)
                yield await (permit.go_on(piece) if is_watched else piece)
        except StopAsyncIteration:
            permit.succeed()
        except GeneratorExit:  # the reader has stopped; `aclose` follows
            raise
        except BaseException as error:
            permit.raised(error)
            raise

    async def aclose(self) -> None:
        """End the stream."""
        try:
            await self._stream.aclose()
        finally:
            self._end()


def region_of_url(request: Any) -> str:
    """Return the region that a request is for by its URL."""
    return region_of_host(request.url.raw_host.decode("ascii"), request.url.port)


def _has_host(request: Any) -> bool:
    return bool(request.url.host)


def _check_transport(transport: object, method: str) -> None:
    """Reject what cannot send requests: a registry in this place, or a transport of the other kind.

    Any object with the method will do, as it does for the client.
    """
    if isinstance(transport, type) or not callable(getattr(transport, method, None)):
        raise TypeError(f"transport must have the method {method}(), got {kind_of(transport)}")


def _at_most(limit: float, timeouts: Mapping[str, float | None]) -> dict[str, float]:
    """Return the timeouts of a client, each of them no longer than this many seconds."""
    given = {name: timeouts.get(name) for name in _WAITS}
    return {name: limit if one is None else min(one, limit) for name, one in given.items()}
