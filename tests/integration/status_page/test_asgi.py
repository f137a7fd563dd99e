"""The status page as an ASGI application, in the frameworks that can mount it."""

import asyncio
import json
import subprocess
import sys

import aiohttp
import pytest
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from resilience import BreakerPolicy, CircuitBreakerRegistry
from resilience.integrations import status_page as package
from resilience.integrations.status_page import StatusPage, status_page
from tests.support.asgi_server import serve_asgi
from tests.support.django_page import django_passing_on


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)


@pytest.fixture
def page(registry):
    page = StatusPage(registry)
    yield page
    page.close()


def in_fastapi(page):
    app = FastAPI()
    app.mount("/circuits", page)
    return app


def in_starlette(page):
    return Starlette(routes=[Mount("/circuits", app=page)])


def alone(page):
    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        scope = {**scope, "path": scope["path"].removeprefix("/circuits")}
        await page(scope, receive, send)

    return app


EVERYWHERE = pytest.mark.parametrize("mount", [in_fastapi, in_starlette, django_passing_on, alone])


@EVERYWHERE
async def test_the_page_is_served_below_its_mount(mount, page, registry):
    registry.get("eu-west-1").acquire().fail()
    async with serve_asgi(mount(page)) as url, aiohttp.ClientSession(url) as session:
        for path, kind in {
            "/circuits": "text/html",
            "/circuits/": "text/html",
            "/circuits/page.css": "text/css",
            "/circuits/page.js": "text/javascript",
            "/circuits/icon.svg": "image/svg+xml",
            "/circuits/icon-alert.svg": "image/svg+xml",
        }.items():
            async with session.get(path) as answer:
                assert (answer.status, answer.content_type) == (200, kind), path
                assert answer.headers["X-Frame-Options"] == "DENY"
        async with session.get("/circuits/api/circuits") as answer:
            (circuit,) = (await answer.json())["regions"]
            assert (circuit["region"], circuit["state"]) == ("eu-west-1", "OPEN")
        async with session.get("/circuits/other") as answer:
            assert answer.status == 404
        async with session.post("/circuits/") as answer:
            assert answer.status == 405


async def test_both_pages_say_the_same(page, registry):
    registry.get("eu-west-1").acquire().fail()
    runner = web.AppRunner(status_page(registry))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    told = []
    async with serve_asgi(page) as url, aiohttp.ClientSession() as session:
        for address in (url, f"http://127.0.0.1:{runner.addresses[0][1]}"):
            for path in ("/", "/page.js", "/api/circuits"):
                async with session.get(address + path) as answer:
                    skipped = ("Date", "Server", "Content-Length")
                    headers = {k.title(): v for k, v in answer.headers.items()}
                    told.append({k: v for k, v in headers.items() if k not in skipped})
    await runner.cleanup()
    assert told[:3] == told[3:]


async def message(answer):
    """Return the next message of a stream, as its name and its data."""
    name = (await answer.content.readline()).decode().removeprefix("event: ").strip()
    data = json.loads((await answer.content.readline()).decode().removeprefix("data: "))
    await answer.content.readline()
    return name, data


@EVERYWHERE
async def test_the_stream_begins_with_everything_and_goes_on(mount, page, registry):
    async with serve_asgi(mount(page)) as url, aiohttp.ClientSession(url) as session:
        async with session.get("/circuits/stream") as answer:
            assert answer.content_type == "text/event-stream"
            assert answer.headers["X-Accel-Buffering"] == "no"
            name, _ = await message(answer)
            assert name == "state"
            registry.get("eu-west-1").force_open("maintenance")
            while name != "transition":
                name, data = await message(answer)
            assert data["new"] == "OPEN"
            page.close()
            await answer.content.read()
        async with session.get("/circuits/stream") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "10"


async def until(true):
    while not true():  # noqa: ASYNC110 - nothing tells when; the watchdog ends it
        await asyncio.sleep(0.001)


async def test_a_browser_that_leaves_is_forgotten(page):
    async with (
        serve_asgi(page) as url,
        aiohttp.ClientSession(url) as session,
        session.get("/stream") as answer,
    ):
        await message(answer)
        assert len(page._stream.clients) == 1
        answer.close()
        await until(lambda: not page._stream.clients)


async def test_other_host_names_and_other_sites_are_refused(page):
    async with serve_asgi(page) as url, aiohttp.ClientSession(url) as session:
        for headers, status in (
            ({"Host": "evil.example"}, 421),
            ({"Host": "a b"}, 400),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ):
            async with session.get("/", headers=headers) as answer:
                assert answer.status == status
                assert answer.headers["X-Frame-Options"] == "DENY"
                if status == 421:
                    assert "add it to hosts=" in await answer.text()


async def test_a_client_that_reads_nothing_is_dropped(registry):
    page = StatusPage(registry)
    page._stream._write_timeout = 0.05
    sent = []
    stuck = asyncio.Event()

    async def send(message):
        sent.append(message["type"])
        if len(sent) > 1:
            await stuck.wait()

    async def receive():
        await stuck.wait()

    scope = {"type": "http", "method": "GET", "path": "/stream", "client": None}
    scope["headers"] = [(b"host", b"localhost")]
    await page(scope, receive, send)
    assert sent == ["http.response.start", "http.response.body"]
    assert not page._stream.clients


async def test_a_request_that_is_cancelled_is_forgotten(page):
    async def send(message):
        pass

    async def receive():
        await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": "/stream", "client": ("127.0.0.1", 1)}
    scope["headers"] = [(b"host", b"localhost")]
    serving = asyncio.create_task(page(scope, receive, send))
    await until(lambda: page._stream.clients)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not page._stream.clients


async def test_it_answers_http_only(page):
    with pytest.raises(ValueError, match="HTTP requests only, got websocket"):
        await page({"type": "websocket"}, None, None)


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"registry": 1}, TypeError, "registry must be a CircuitBreakerRegistry"),
        ({"registry": {}}, ValueError, "registry must be a CircuitBreakerRegistry.*got none"),
        ({"max_listeners": 0}, ValueError, "max_listeners"),
        ({"show_tenants": 1}, TypeError, "show_tenants"),
        ({"hosts": "one.example"}, TypeError, "hosts must be a collection"),
    ],
)
def test_wrong_arguments_are_refused(registry, wrong, error, text):
    with pytest.raises(error, match=text):
        StatusPage(**{"registry": registry, **wrong})


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="no attribute 'page_of_status'"):
        _ = package.page_of_status


def test_the_page_needs_no_library():
    lines = (
        "import sys",
        "sys.modules['aiohttp'] = None",
        "from resilience import default_registry",
        "from resilience.integrations.status_page import StatusPage, bearer_token",
        "StatusPage(default_registry, actions=bearer_token('a-token-for-tests'))",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
