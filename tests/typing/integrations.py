"""The integrations of HTTP clients and web servers, and fallbacks."""

# A wrong line that is no error is one: both checkers refuse a `type: ignore` without a cause.
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from typing import Any, assert_type

import aiohttp
import httpx
import httpx2
import requests
from aiohttp import web
from starlette.applications import Starlette

from resilience import (
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    Outcome,
    classify_error,
    classify_status,
    region_breaker,
)
from resilience.integrations import aiohttp as for_aiohttp
from resilience.integrations import httpx as for_httpx
from resilience.integrations import httpx2 as for_httpx2
from resilience.integrations import requests as for_requests
from resilience.integrations.aiohttp_web import readiness_handler, rejection_middleware
from resilience.integrations.asgi import ReadinessApp
from resilience.integrations.readiness import is_ready
from resilience.integrations.starlette import handle_rejections, readiness_endpoint
from resilience.integrations.status_page import (
    ActionRequest,
    StatusPage,
    bearer_token,
    status_page,
)

registry = CircuitBreakerRegistry()


def strict(error: Exception) -> Outcome:
    return Outcome.FAILURE if isinstance(error, KeyError) else classify_error(error)


async def of_aiohttp() -> None:
    def region_of(request: aiohttp.ClientRequest) -> str:
        return str(request.url.host)

    session = for_aiohttp.region_session(
        "http://api.example.com", registry=registry, region_of=region_of, classifier=strict
    )
    assert_type(session, aiohttp.ClientSession)
    protection = for_aiohttp.RegionMiddleware(registry, result_classifier=classify_status)
    aiohttp.ClientSession(middlewares=[protection])
    try:
        await session.get("/")
    except for_aiohttp.RequestRejectedError as error:
        as_client_error: aiohttp.ClientError = error
        as_rejection: CircuitBreakerOpenError = error
        assert_type(as_rejection.region, str)
        assert_type(as_client_error.args, tuple[Any, ...])
    except for_aiohttp.RequestTimeoutError as late:
        as_server_timeout: aiohttp.ServerTimeoutError = late
        as_timeout: TimeoutError = late
        assert_type(as_server_timeout.args, tuple[Any, ...])
        assert_type(as_timeout.args, tuple[Any, ...])

    for_aiohttp.region_session(observe_limits="yes")  # type: ignore[arg-type]
    for_aiohttp.RegionMiddleware(region_of=len)  # type: ignore[arg-type]


def of_httpx() -> None:
    def region_of(request: httpx.Request) -> str:
        return request.url.host

    httpx.Client(transport=for_httpx.RegionTransport(registry=registry, region_of=region_of))
    httpx.AsyncClient(transport=for_httpx.AsyncRegionTransport(httpx.AsyncHTTPTransport()))
    httpx2.Client(transport=for_httpx2.RegionTransport(httpx2.HTTPTransport(), registry))
    httpx2.AsyncClient(transport=for_httpx2.AsyncRegionTransport())

    httpx.Client(transport=for_httpx.AsyncRegionTransport())  # type: ignore[arg-type]
    for_httpx.RegionTransport(httpx.AsyncHTTPTransport())  # type: ignore[arg-type]
    for_httpx.RegionTransport(region_of=7)  # type: ignore[arg-type]


def of_requests() -> None:
    def region_of(request: requests.PreparedRequest) -> str:
        return str(request.url)

    session = requests.Session()
    session.mount("https://", for_requests.RegionAdapter(registry, region_of=region_of))
    session.mount("http://", for_requests.RegionAdapter(max_retries=3))
    for_requests.RegionAdapter({})  # type: ignore[arg-type]


def of_servers() -> None:
    app = web.Application(middlewares=[rejection_middleware])
    app.router.add_get("/ready", readiness_handler(registry, required=["eu-west-1"]))
    asgi = Starlette()
    handle_rejections(asgi)
    asgi.mount("/circuits", StatusPage(registry, hosts=["status.example"]))
    asgi.mount("/ready", ReadinessApp())
    asgi.add_route("/ready", readiness_endpoint(registry))
    assert_type(is_ready(registry), bool)

    is_ready(required=[7])  # type: ignore[list-item]


def of_status_pages() -> None:
    def who(request: ActionRequest) -> str:
        return request.headers.get("X-User", "")

    async def who_in_aiohttp(request: web.Request) -> bool:
        return "X-User" in request.headers

    StatusPage(registry, actions=who)
    StatusPage(registry, actions=bearer_token("a-secret-of-some-length"))
    status_page(registry, actions=who_in_aiohttp)
    status_page(registry, actions=bearer_token("a-secret-of-some-length"))

    status_page(registry, actions=who)  # type: ignore[arg-type]
    StatusPage(registry, actions=who_in_aiohttp)  # type: ignore[arg-type]


async def last_known(rejection: CircuitBreakerOpenError, region: str) -> int:
    return len(rejection.region + region)


@region_breaker(region_from="region", fallback=last_known, classifier=strict)
async def fetch(region: str) -> int:
    return len(region)


async def fallbacks() -> None:
    assert_type(await fetch("eu-west-1"), int)
    region_breaker(region_from="region", fallback=7)  # type: ignore[arg-type]
