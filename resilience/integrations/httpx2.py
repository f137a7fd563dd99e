"""Transports for httpx2, sync and async: a circuit for each region that requests are sent to.

Needs httpx2: ``pip install "region-breaker[httpx2]"``.
"""

from collections.abc import Callable

from resilience._extras import needs_extra

with needs_extra(__name__, "httpx2"):
    import httpx2

from resilience.classify import classify_status
from resilience.errors import CircuitBreakerOpenError
from resilience.integrations.http_client import HttpClient, RequestOptions
from resilience.integrations.httpx_transport import (
    AsyncBody,
    AsyncProtectingTransport,
    Body,
    PickledWithoutRequest,
    ProtectingTransport,
    region_of_url,
)
from resilience.outcome import Classifier, ResultClassifier
from resilience.registry import CircuitBreakerRegistry


class RequestRejectedError(PickledWithoutRequest, CircuitBreakerOpenError, httpx2.TransportError):
    """A request was not sent, because the circuit of its region admits none."""


class RequestTimeoutError(PickledWithoutRequest, httpx2.TimeoutException, TimeoutError):
    """The `call_timeout` of the policy has ended a request, or the reading of its response."""


_CLIENT: HttpClient[httpx2.Request] = HttpClient(
    region_of_url, RequestRejectedError, RequestTimeoutError
)


class RegionTransport(ProtectingTransport[httpx2.Request, httpx2.Response], httpx2.BaseTransport):
    """Sends the requests of an `httpx2.Client` through the circuit breakers of their regions.

    It does what `resilience.integrations.httpx.RegionTransport` does for httpx.

    Args:
        transport: The transport that sends them; None: a new `httpx2.HTTPTransport`.
        registry: As for the transport for httpx.
        region_of: The same, with an `httpx2.Request`.
        classifier: The same.
        result_classifier: The same.
        observe_limits: The same.

    Raises:
        TypeError: An argument has the wrong type.
    """

    def __init__(
        self,
        transport: httpx2.BaseTransport | None = None,
        registry: CircuitBreakerRegistry | None = None,
        *,
        region_of: Callable[[httpx2.Request], str] | None = None,
        classifier: Classifier | None = None,
        result_classifier: ResultClassifier | None = classify_status,
        observe_limits: bool = False,
    ) -> None:
        super().__init__(
            httpx2.HTTPTransport() if transport is None else transport,
            RequestOptions(registry, region_of, classifier, result_classifier, observe_limits),
            _CLIENT,
            _Body,
        )


class AsyncRegionTransport(
    AsyncProtectingTransport[httpx2.Request, httpx2.Response], httpx2.AsyncBaseTransport
):
    """Sends the requests of an `httpx2.AsyncClient` through the circuit breakers of their regions.

    It is used and counts as `RegionTransport`.

    Args:
        transport: The transport that sends them; None: a new `httpx2.AsyncHTTPTransport`.
        registry: As for `RegionTransport`.
        region_of: The same.
        classifier: The same.
        result_classifier: The same.
        observe_limits: The same.

    Raises:
        TypeError: An argument has the wrong type.
    """

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport | None = None,
        registry: CircuitBreakerRegistry | None = None,
        *,
        region_of: Callable[[httpx2.Request], str] | None = None,
        classifier: Classifier | None = None,
        result_classifier: ResultClassifier | None = classify_status,
        observe_limits: bool = False,
    ) -> None:
        super().__init__(
            httpx2.AsyncHTTPTransport() if transport is None else transport,
            RequestOptions(registry, region_of, classifier, result_classifier, observe_limits),
            _CLIENT,
            _AsyncBody,
        )


class _Body(Body, httpx2.SyncByteStream):
    """A body, as httpx2 asks for it."""

    DECODING_ERROR = httpx2.DecodingError


class _AsyncBody(AsyncBody, httpx2.AsyncByteStream):
    """A body, as httpx2 asks for it in async code."""

    DECODING_ERROR = httpx2.DecodingError
