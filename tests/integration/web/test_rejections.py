"""What a rejected call makes of a request to a web server: 503, and when to come back."""

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from resilience import CircuitBreaker, CircuitBreakerOpenError, CircuitState, TenantThrottledError
from resilience.errors import CallRejectedError
from resilience.integrations.aiohttp_web import rejection_middleware
from resilience.integrations.httpx import RequestRejectedError
from resilience.integrations.starlette import handle_rejections
from resilience.integrations.unavailable import headers_for
from tests.support.asgi_server import serve_asgi

BODY = {"detail": "upstream is unavailable"}
OPEN = CircuitState.OPEN


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", clock=clock)


@pytest.mark.parametrize(
    ("retry_after", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (59.2, "60"), (None, None)]
)
def test_the_time_is_rounded_up(retry_after, header):
    error = CircuitBreakerOpenError("eu-west-1", OPEN, "ServerError 503", retry_after)
    assert headers_for(error).get("Retry-After") == header


def test_a_throttled_tenant_comes_back_later_too():
    assert headers_for(TenantThrottledError("eu-west-1", "acme", 2.5)) == {"Retry-After": "3"}
    assert headers_for(CallRejectedError()) == {}


def fastapi_app(call):
    app = FastAPI()
    handle_rejections(app)

    @app.get("/")
    async def answer():
        call()
        return "ok"

    return app


def starlette_app(call):
    async def answer(_):
        call()
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", answer)])
    handle_rejections(app)
    return app


@pytest.mark.parametrize("make_app", [fastapi_app, starlette_app])
async def test_asgi_frameworks_answer_503(make_app, breaker):
    app = make_app(lambda: breaker.acquire().succeed())
    async with serve_asgi(app) as url, aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert response.status == 200
        breaker.force_open("maintenance")
        async with session.get(url) as response:
            assert (response.status, await response.json()) == (503, BODY)
            assert "Retry-After" not in response.headers
        breaker.reset()
        for _ in range(10):
            breaker.acquire().fail()
        async with session.get(url) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "60")


async def test_the_rejection_of_a_client_is_one_too():
    def call():
        raise RequestRejectedError("eu-west-1", OPEN, "ServerError 503", 2)

    async with serve_asgi(fastapi_app(call)) as url, aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "2")


async def test_other_errors_stay_what_they_are():
    def call():
        raise KeyError("a bug")

    async with serve_asgi(fastapi_app(call)) as url, aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert response.status == 500


async def test_a_websocket_is_told_to_try_again_later(breaker):
    app = FastAPI()
    handle_rejections(app)

    @app.websocket("/")
    async def talk(socket: WebSocket):
        await socket.accept()
        breaker.acquire()

    breaker.force_open("maintenance")
    async with serve_asgi(app) as url, aiohttp.ClientSession() as session:
        async with session.ws_connect(url) as socket:
            message = await socket.receive()
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1013)


async def test_aiohttp_answers_503(breaker):
    async def answer(_):
        breaker.acquire().succeed()
        return web.Response(text="ok")

    app = web.Application(middlewares=[rejection_middleware])
    app.router.add_get("/", answer)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/")).status == 200
        for _ in range(10):
            breaker.acquire().fail()
        response = await client.get("/")
        assert (response.status, await response.json()) == (503, BODY)
        assert response.headers["Retry-After"] == "60"


async def test_an_answer_of_aiohttp_that_has_begun_is_cut(breaker):
    async def answer(request):
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"half")
        breaker.acquire()

    app = web.Application(middlewares=[rejection_middleware])
    app.router.add_get("/", answer)
    breaker.force_open("maintenance")
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/")
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


def test_what_is_not_an_application_is_refused():
    with pytest.raises(TypeError, match="app must be a FastAPI or a Starlette application, got"):
        handle_rejections(web.Application())
