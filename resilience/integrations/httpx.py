"""Transports for httpx, sync and async: a circuit for each region that requests are sent to.

Needs httpx: ``pip install "region-breaker[httpx]"``.
"""

from collections.abc import Callable

from resilience._extras import needs_extra

with needs_extra(__name__, "httpx"):
    import httpx

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


class RequestRejectedError(PickledWithoutRequest, CircuitBreakerOpenError, httpx.TransportError):
    """A request was not sent, because the circuit of its region admits none."""


class RequestTimeoutError(PickledWithoutRequest, httpx.TimeoutException, TimeoutError):
    """The `call_timeout` of the policy has ended a request, or the reading of its response."""


_CLIENT: HttpClient[httpx.Request] = HttpClient(
    region_of_url, RequestRejectedError, RequestTimeoutError
)


class RegionTransport(ProtectingTransport[httpx.Request, httpx.Response], httpx.BaseTransport):
    """Sends the requests of an `httpx.Client` through the circuit breakers of their regions.

    Every request that is sent is a call, each of those after a redirect included. A call ends when
    the body was read. A body that is cut, or takes too long, is a failure. A response that is
    closed or dropped with its body unread counts as answered.

    Args:
        transport: The transport that sends them; None: a new `httpx.HTTPTransport`. An option such
            as ``verify=`` or ``limits=`` belongs to that one, not to the client.
        registry: Whose circuits to use; None means `default_registry`.
        region_of: Takes an `httpx.Request` and returns its region; None: the region is that of the
            host. Hosts of Genesys Cloud are known; any other host is a region of its own.
        classifier: Classifies what a request raises; None: the registry's does.
        result_classifier: Classifies the responses; None: the registry's does.
        observe_limits: Whether the rate limit headers of each response are read, as by
            `CircuitBreaker.observe`.

    Raises:
        TypeError: An argument has the wrong type.
    """

    def __init__(
        self,
        transport: httpx.BaseTransport | None = None,
        registry: CircuitBreakerRegistry | None = None,
        *,
        region_of: Callable[[httpx.Request], str] | None = None,
        classifier: Classifier | None = None,
        result_classifier: ResultClassifier | None = classify_status,
        observe_limits: bool = False,
    ) -> None:
        super().__init__(
            httpx.HTTPTransport() if transport is None else transport,
            RequestOptions(registry, region_of, classifier, result_classifier, observe_limits),
            _CLIENT,
            _Body,
        )


class AsyncRegionTransport(
    AsyncProtectingTransport[httpx.Request, httpx.Response], httpx.AsyncBaseTransport
):
    """Sends the requests of an `httpx.AsyncClient` through the circuit breakers of their regions.

    It is used and counts as `RegionTransport`.

    Args:
        transport: The transport that sends them; None: a new `httpx.AsyncHTTPTransport`.
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
        transport: httpx.AsyncBaseTransport | None = None,
        registry: CircuitBreakerRegistry | None = None,
        *,
        region_of: Callable[[httpx.Request], str] | None = None,
        classifier: Classifier | None = None,
        result_classifier: ResultClassifier | None = classify_status,
        observe_limits: bool = False,
    ) -> None:
        super().__init__(
            httpx.AsyncHTTPTransport() if transport is None else transport,
            RequestOptions(registry, region_of, classifier, result_classifier, observe_limits),
            _CLIENT,
            _AsyncBody,
        )


class _Body(Body, httpx.SyncByteStream):
    """A body, as httpx asks for it."""

    DECODING_ERROR = httpx.DecodingError


class _AsyncBody(AsyncBody, httpx.AsyncByteStream):
    """A body, as httpx asks for it in async code."""

    DECODING_ERROR = httpx.DecodingError
