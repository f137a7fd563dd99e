"""Actions of the status page: who may change circuits, and what is refused."""

import json

import aiohttp
import pytest
from aiohttp import web

from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState
from resilience.integrations.status_page import bearer_token, status_page

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


@pytest.fixture
async def serve(registry):
    """Serve the page; return a function that asks for an action, and gives status and text."""
    runners, sessions = [], []

    async def start(actions, registries=registry):
        app = web.Application()
        app.add_subapp("/circuits", status_page(registries, actions=actions))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        session = aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}")
        sessions.append(session)

        async def ask(order, headers=HEADERS, path=PATH, method="POST"):
            data = order if isinstance(order, bytes) else json.dumps(order)
            async with session.request(method, path, data=data, headers=headers) as answer:
                assert answer.headers["X-Frame-Options"] == "DENY"
                return answer.status, await answer.text()

        return ask

    yield start
    for session in sessions:
        await session.close()
    for runner in runners:
        await runner.cleanup()


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


async def test_a_check_may_answer_by_itself(serve, breaker):
    def check(_request):
        raise web.HTTPForbidden(text="ask ann\n")

    ask = await serve(check)
    assert await ask(RESET) == (403, "ask ann\n")
    assert breaker.state is CircuitState.OPEN


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
    assert (await ask(RESET))[0] == 404
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


def test_what_is_not_a_check_is_refused(registry):
    with pytest.raises(TypeError, match="actions must be a function that takes a request"):
        status_page(registry, actions="token")
