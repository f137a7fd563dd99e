"""What the transports for httpx and httpx2 share: the two libraries have the same interface."""

from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from resilience._validate import kind_of
from resilience.errors import CircuitBreakerOpenError
from resilience.integrations.http_client import RequestProtection, region_of_host
from resilience.outcome import Classifier, ResultClassifier
from resilience.permit import Permit
from resilience.registry import CircuitBreakerRegistry

# Those of httpx or of httpx2.
Request = TypeVar("Request")
Response = TypeVar("Response")


class RejectsRequest:
    """What the rejections of both libraries have: the request is not part of a pickle."""

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
        registry: Whose circuits to use; None means `default_registry`.
        region_of: Takes a request and returns its region; None: the region is that of the host.
        classifier: Classifies what a request raises; None: the registry's does.
        result_classifier: Classifies the responses; None: the registry's does.
        observe_limits: Whether the rate limit headers of each response are read.
        rejection: The type of the rejection.
        make_body: Takes the stream of a response and a permit, and returns the stream that settles
            the permit.
    """

    #: The method of the other transport that sends a request.
    _send_method: ClassVar[str]

    def __init__(
        self,
        transport: Any,
        registry: CircuitBreakerRegistry | None,
        *,
        region_of: Callable[[Request], str] | None,
        classifier: Classifier | None,
        result_classifier: ResultClassifier | None,
        observe_limits: bool,
        rejection: type[CircuitBreakerOpenError],
        make_body: Callable[[Any, Permit], Any],
    ) -> None:
        _check_transport(transport, self._send_method)
        self._transport = transport
        self._make_body = make_body
        self._protection: RequestProtection[Any] = RequestProtection(
            registry=registry,
            region_of=region_of,
            classifier=classifier,
            result_classifier=result_classifier,
            observe_limits=observe_limits,
            region_of_url=_region_of_url,
            rejection=rejection,
        )

    def _watch(self, permit: Permit, response: Any) -> Response:
        """Have the stream of a response settle the call, if it has to."""
        body_permit = self._protection.answered(
            permit, response, response.status_code, has_ended=response.is_closed
        )
        if body_permit is not None:
            response.stream = self._make_body(response.stream, body_permit)
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

    def _send(self, permit: Permit, request: Request) -> Response:
        return self._watch(permit, self._transport.handle_request(request))

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
        """
        if not _has_host(request):
            return cast("Response", await self._transport.handle_async_request(request))
        try:
            permit = self._protection.admit(request)
            return await permit.call_async(self._send, (permit, request), {})
        except CircuitBreakerOpenError as error:
            raise self._protection.rejection_for(error) from error.__cause__

    async def _send(self, permit: Permit, request: Request) -> Response:
        return self._watch(permit, await self._transport.handle_async_request(request))

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


class Body:
    """The body of a response: what becomes of it settles the call.

    Args:
        stream: The stream of the response.
        permit: The permit of the call.
    """

    def __init__(self, stream: Any, permit: Permit) -> None:
        self._stream = stream
        self._permit = permit

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
            self._permit.answered()  # unless it has ended before

    def __del__(self) -> None:
        self._permit.answered()


class AsyncBody:
    """The same, in async code.

    Args:
        stream: The stream of the response.
        permit: The permit of the call.
    """

    def __init__(self, stream: Any, permit: Permit) -> None:
        self._stream = stream
        self._permit = permit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._stream:
                yield piece
        except GeneratorExit:  # the reader has stopped; `aclose` follows
            raise
        except BaseException as error:
            self._permit.raised(error)
            raise
        self._permit.succeed()

    async def aclose(self) -> None:
        """End the stream."""
        try:
            await self._stream.aclose()
        finally:
            self._permit.answered()  # unless it has ended before

    def __del__(self) -> None:
        self._permit.answered()


def _has_host(request: Any) -> bool:
    return bool(request.url.host)


def _region_of_url(request: Any) -> str:
    return region_of_host(request.url.host, request.url.port)


def _check_transport(transport: object, method: str) -> None:
    """Reject what cannot send requests: a registry in this place, or a transport of the other kind.

    Any object with the method will do, as it does for the client.
    """
    if isinstance(transport, type) or not callable(getattr(transport, method, None)):
        raise TypeError(f"transport must have the method {method}(), got {kind_of(transport)}")
