"""Actions of both status pages: who may change circuits, and what is refused."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web
from fastapi import FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount

from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState
from resilience.integrations.status_page import (
    ActionRequest,
    StatusPage,
    bearer_token,
    status_page,
)
from resilience.integrations.status_page.asgi_request import read_body
from tests.support.asgi_server import serve_asgi
from tests.support.django_page import django_passing_on

TOKEN = "a-token-for-tests"
HEADERS = {
    "Content-Type": "application/json",
    "X-Resilience-Action": "1",
    "Authorization": f"Bearer {TOKEN}",
}
RESET = {"action": "reset", "region": "eu-west-1", "registry": "", "reason": ""}
FORCE = RESET | {"action": "force-open", "reason": "moving"}
PATH = "/circuits/api/actions"


@pytest.fixture
def registry(clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)
    registry.get("eu-west-1").acquire().fail(TimeoutError())
    return registry


@pytest.fixture
def breaker(registry):
    return registry.get("eu-west-1")


@asynccontextmanager
async def in_aiohttp(registries, actions):
    app = web.Application()
    app.add_subapp("/circuits", status_page(registries, actions=actions))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@asynccontextmanager
async def in_fastapi(registries, actions):
    app = FastAPI()
    app.mount("/circuits", StatusPage(registries, actions=actions))
    async with serve_asgi(app) as url:
        yield url


@asynccontextmanager
async def in_django(registries, actions):
    app = django_passing_on(StatusPage(registries, actions=actions))
    async with serve_asgi(app) as url:
        yield url


@pytest.fixture(params=[in_aiohttp, in_fastapi, in_django], ids=lambda place: place.__name__)
def place(request):
    return request.param


async def ask_at(session, order, headers=HEADERS, path=PATH, method="POST"):
    data = order if isinstance(order, bytes) else json.dumps(order)
    async with session.request(method, path, data=data, headers=headers) as answer:
        return answer.status, await answer.text(), answer.headers.get("X-Frame-Options")


@pytest.fixture
async def serve(place, registry):
    """Serve the page; return a function that asks for an action, and gives status and text."""
    async with AsyncExitStack() as stack:

        async def start(actions, registries=registry):
            url = await stack.enter_async_context(place(registries, actions))
            session = await stack.enter_async_context(aiohttp.ClientSession(url))

            async def ask(*args, **options):
                status, text, frames = await ask_at(session, *args, **options)
                assert frames == "DENY"
                return status, text

            return ask

        yield start


async def test_a_circuit_is_reset_and_held_open(serve, breaker, log):
    ask = await serve(bearer_token(TOKEN))
    assert await ask(RESET) == (200, '{"state": "CLOSED"}')
    assert breaker.state is CircuitState.CLOSED
    assert await ask(FORCE) == (200, '{"state": "OPEN"}')
    assert breaker.snapshot().reason == "forced open: moving"
    asked = [record["message"] for record in log if "is asked" in record["message"]]
    assert asked == [
        "Circuit breaker is asked over the status page to reset region eu-west-1",
        "Circuit breaker is asked over the status page to force-open region eu-west-1",
    ]


async def test_the_check_may_name_who_asks(serve, breaker, log):
    async def check(request):
        assert request.headers["X-Resilience-Action"] == "1"
        return "ann\nforged"

    ask = await serve(check)
    await ask(FORCE)
    assert breaker.snapshot().reason == "forced open: moving by ann\\nforged"
    assert "is asked over the status page by ann\\nforged to force-open" in log[0]["message"]
    assert all(record["message"].isprintable() for record in log)


@pytest.mark.parametrize("answer", [False, None, "", 1, object(), ["ann"]])
async def test_whatever_is_not_a_yes_is_a_no(serve, breaker, answer):
    ask = await serve(lambda _request: answer)
    status, _ = await ask(RESET)
    assert (status, breaker.state) == (401, CircuitState.OPEN)


async def test_a_check_that_fails_lets_nobody_in(serve, breaker, log):
    def check(request):
        raise LookupError(request.headers["Authorization"])

    ask = await serve(check)
    assert (await ask(RESET))[0] == 500
    assert breaker.state is CircuitState.OPEN
    assert "raised LookupError" in log[-1]["message"]
    assert TOKEN not in str(log)


@pytest.mark.parametrize("place", [in_aiohttp])
async def test_a_check_may_answer_by_itself(serve, breaker):
    def check(_request):
        raise web.HTTPForbidden(text="ask ann\n")

    ask = await serve(check)
    assert await ask(RESET) == (403, "ask ann\n")
    assert breaker.state is CircuitState.OPEN


async def test_a_check_may_answer_in_the_way_of_its_framework(registry, breaker):
    def check(_request):
        raise HTTPException(403, "ask ann")

    async with in_fastapi(registry, check) as url, aiohttp.ClientSession(url) as session:
        assert (await ask_at(session, RESET))[:2] == (403, '{"detail":"ask ann"}')
    assert breaker.state is CircuitState.OPEN


class ByHeader(AuthenticationBackend):
    async def authenticate(self, conn):
        return AuthCredentials(), SimpleUser(conn.headers["X-User"])


async def test_a_check_may_ask_the_framework_who_it_is(registry, breaker):
    page = StatusPage(registry, actions=lambda request: request.scope["user"].display_name)
    app = Starlette(
        routes=[Mount("/circuits", app=page)],
        middleware=[Middleware(AuthenticationMiddleware, backend=ByHeader())],
    )
    async with serve_asgi(app) as url, aiohttp.ClientSession(url) as session:
        assert (await ask_at(session, FORCE, HEADERS | {"X-User": "ann"}))[0] == 200
        assert breaker.snapshot().reason == "forced open: moving by ann"
        assert (await ask_at(session, RESET, HEADERS | {"X-User": ""}))[0] == 401


async def test_a_framework_that_lets_every_site_in_lets_none_act(registry, breaker):
    page = StatusPage(registry, actions=lambda _request: True)
    everything = {"allow_origins": ["*"], "allow_methods": ["*"], "allow_headers": ["*"]}
    app = Starlette(
        routes=[Mount("/circuits", app=page)],
        middleware=[Middleware(CORSMiddleware, **everything)],
    )
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    async with serve_asgi(app) as url, aiohttp.ClientSession(url) as session:
        for headers in (foreign, {"Origin": "https://evil.example"}):
            assert (await ask_at(session, RESET, HEADERS | headers))[0] == 403
    assert breaker.state is CircuitState.OPEN


@pytest.mark.parametrize("name", [b"sec-fetch-site", b"content-type", b"authorization", b"host"])
async def test_a_header_that_comes_twice_is_neither_of_them(registry, breaker, name):
    page = StatusPage(registry, actions=bearer_token(TOKEN))
    headers = [(key.lower().encode(), value.encode()) for key, value in HEADERS.items()]
    headers += [(b"host", b"localhost"), (b"sec-fetch-site", b"same-origin")]
    twice = next(value for key, value in headers if key == name)
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": json.dumps(RESET).encode()}

    scope = {"type": "http", "method": "POST", "path": "/api/actions", "headers": headers}
    await page({**scope, "headers": [*headers, (name, twice)]}, receive, send)
    assert sent[0]["status"] in (400, 401, 403, 415)
    assert breaker.state is CircuitState.OPEN
    await page(scope, receive, send)
    assert breaker.state is CircuitState.CLOSED


async def test_a_client_that_leaves_in_the_middle_has_asked_for_nothing(registry, breaker):
    page = StatusPage(registry, actions=bearer_token(TOKEN))
    parts = [
        {"type": "http.request", "body": json.dumps(RESET)[:10].encode(), "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return parts.pop(0)

    headers = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
    scope = {"type": "http", "method": "POST", "path": "/api/actions"}
    await page({**scope, "headers": [*headers, (b"Host", b"localhost")]}, receive, send)
    assert sent[0]["status"] == 400
    assert breaker.state is CircuitState.OPEN


async def test_no_more_is_read_than_an_action_needs():
    reads = 0

    async def receive():
        nonlocal reads
        reads += 1
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    assert len(await read_body(receive, 4096)) == 5000
    assert reads == 5


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN} x", "Bearer \xe4"],
)
async def test_another_token_is_refused(serve, breaker, authorization):
    ask = await serve(bearer_token(TOKEN))
    headers = {**HEADERS, "Authorization": authorization}
    if authorization is None:
        del headers["Authorization"]
    status, text = await ask(RESET, headers)
    assert (status, breaker.state) == (401, CircuitState.OPEN)
    assert TOKEN not in text


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Sec-Fetch-Site", "cross-site", 403),
        ("Sec-Fetch-Site", "same-site", 403),
        ("Sec-Fetch-Site", "none", 403),
        ("Origin", "https://evil.example", 403),
        ("Origin", "null", 403),
        ("Origin", "http://127.0.0.1:1", 403),
        ("Content-Type", "text/plain", 415),
        ("Content-Type", "application/x-www-form-urlencoded", 415),
        ("X-Resilience-Action", None, 415),
        ("Host", "evil.example", 421),
    ],
)
async def test_what_another_site_may_have_sent_is_refused(serve, breaker, header, value, status):
    ask = await serve(lambda _request: True)  # a browser sends its cookies by itself
    headers = {name: text for name, text in {**HEADERS, header: value}.items() if text is not None}
    # A form that the user follows is a navigation.
    headers["Sec-Fetch-Mode"] = "navigate"
    assert (await ask(RESET, headers))[0] == status
    assert breaker.state is CircuitState.OPEN


async def test_the_page_itself_may_ask(serve, breaker):
    ask = await serve(lambda _request: True)
    assert (await ask(RESET, {**HEADERS, "Sec-Fetch-Site": "same-origin"}))[0] == 200
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize(
    "order",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 4000,
        b"[]",
        b'"reset"',
        {},
        RESET | {"more": ""},
        RESET | {"region": 7},
        RESET | {"region": None},
        RESET | {"action": "explode"},
        FORCE | {"reason": ""},
        FORCE | {"reason": "  \n"},
        {name: text for name, text in RESET.items() if name != "registry"},
    ],
)
async def test_what_is_not_an_action_is_refused(serve, breaker, order):
    ask = await serve(bearer_token(TOKEN))
    status, text = await ask(order)
    assert (status, breaker.state) == (400, CircuitState.OPEN)
    assert text.startswith("An action has the texts")


async def test_a_body_that_is_too_large_is_refused(serve, breaker):
    ask = await serve(bearer_token(TOKEN))
    assert (await ask(FORCE | {"reason": "x" * 10_000}))[0] == 413
    assert (await ask(FORCE | {"reason": "x" * 3_000}))[0] == 200
    assert len(breaker.snapshot().reason) == 200


async def test_no_name_from_outside_makes_a_circuit(serve, registry):
    ask = await serve(bearer_token(TOKEN))
    for region in ("eu-wset-1", "", " ", "x" * 3000, "\ud800"):
        assert (await ask(FORCE | {"region": region}))[0] == 404
    assert [breaker.region for breaker in registry] == ["eu-west-1"]


async def test_an_odd_name_is_found_as_it_is_shown(serve, registry):
    registry.get("a\nb").acquire().fail()
    ask = await serve(bearer_token(TOKEN))
    ((shown,),) = [
        [key for key in _keys(registry) if key.startswith("a")],
    ]
    assert (await ask(RESET | {"region": shown}))[0] == 200
    assert registry.get("a\nb").state is CircuitState.CLOSED


def _keys(registry):
    from resilience.integrations.status_page.state import PageState  # noqa: PLC0415

    return PageState(registry).circuits()


async def test_several_registries_are_told_apart(serve, clock):
    policy = BreakerPolicy(failure_threshold=1)
    tokens, messages = (
        CircuitBreakerRegistry(policy, name=name, clock=clock) for name in ("tokens", "messages")
    )
    for registry in (tokens, messages):
        registry.get("eu-west-1").acquire().fail()
    ask = await serve(bearer_token(TOKEN), [tokens, messages])
    assert (await ask(RESET | {"registry": "messages"}))[0] == 200
    assert tokens.get("eu-west-1").state is CircuitState.OPEN
    assert messages.get("eu-west-1").state is CircuitState.CLOSED
    assert (await ask(RESET | {"registry": "others"}))[0] == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_only_post_acts(serve, breaker, method):
    ask = await serve(lambda _request: True)
    assert (await ask(RESET, method=method))[0] == 405
    assert breaker.state is CircuitState.OPEN


async def test_without_actions_there_is_no_such_path(serve, breaker):
    ask = await serve(None)
    assert (await ask(RESET))[0] in (404, 405)
    assert (await ask(RESET, method="GET"))[0] == 404
    assert breaker.state is CircuitState.OPEN


@pytest.mark.parametrize(
    "token", ["short", "x" * 15, "with a space in it", "x" * 20 + "\n", "ü" * 20]
)
def test_a_token_that_is_no_secret_is_refused_and_not_shown(token):
    with pytest.raises(ValueError, match="at least 16 printable ASCII characters") as caught:
        bearer_token(token)
    assert token not in str(caught.value)
    with pytest.raises(TypeError):
        bearer_token(None)


def test_a_token_that_is_not_text_is_refused():
    """As aiohttp decodes a byte that is not UTF-8: a check that fails is logged each time."""
    sent = {"Authorization": b"Bearer \xff".decode("utf-8", "surrogateescape")}
    assert not bearer_token(TOKEN)(SimpleNamespace(headers=sent))


def test_what_is_not_a_check_is_refused(registry):
    for page in (status_page, StatusPage):
        with pytest.raises(TypeError, match="actions must be a function that takes a request"):
            page(registry, actions="token")


def test_the_headers_of_a_request_are_found_in_upper_and_lower_case():
    request = ActionRequest({"headers": [(b"Host", b"a"), (b"X-One", b"1"), (b"x-one", b"2")]})
    assert dict(request.headers) == {"host": "a", "x-one": "1, 2"}
    assert len(request.headers) == 2
    assert (request.headers["HOST"], request.headers.get("Other")) == ("a", None)
