"""The local Genesys region: what it answers, how it goes down, what it counts."""

import asyncio
import contextlib
import importlib
import random
import socket
import subprocess
import sys

import aiohttp
import httpx
import pytest
import requests
from freezegun import freeze_time

import resilience.testing
from resilience.testing import FakeClock, FakeGenesys

ERROR_FIELDS = {"message", "code", "status", "contextId", "details", "errors"}
BASIC = httpx.BasicAuth("client-id", "client-secret")
FORM = {"grant_type": "client_credentials"}


def message(text="Hello", sender="+15551234"):
    return {
        "channel": {
            "from": {"id": sender, "idType": "Phone"},
            "time": "2026-11-23T10:00:00.000Z",
            "messageId": f"message {text}",
        },
        "text": text,
    }


def without(path):
    body = message()
    *steps, last = path.split(".")
    part = body
    for step in steps:
        part = part[step]
    del part[last]
    return body


@pytest.fixture
async def genesys():
    async with FakeGenesys(require_token=False) as server:
        yield server


@pytest.fixture
async def client():
    async with httpx.AsyncClient(trust_env=False, timeout=60) as session:
        yield session


async def post(client, genesys, body=None, **kwargs):
    return await client.post(genesys.message_url(), json=body or message(), **kwargs)


async def until(condition):
    while not condition():  # noqa: ASYNC110 - no event tells what a server has received
        await asyncio.sleep(0)


async def some_rounds(count=20):
    """Let everything happen that is on its way in this event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


def other_tasks():
    return asyncio.all_tasks() - {asyncio.current_task()}


# --- what it answers -----------------------------------------------------------------------------


async def test_a_message_is_delivered_and_answered_as_genesys_does(genesys, client):
    response = await post(client, genesys)
    answer = response.json()
    assert response.status_code == 200
    assert set(answer) == {"id", "conversationId", "channel", "type", "text"}
    assert (answer["type"], answer["text"]) == ("Text", "Hello")
    assert answer["channel"] == message()["channel"]
    assert genesys.messages == [message()]


async def test_one_sender_at_one_integration_has_one_conversation(genesys, client):
    async def conversation(integration, sender):
        url = genesys.message_url(integration)
        answer = (await client.post(url, json=message(sender=sender))).json()
        return answer["conversationId"]

    first = await conversation("a", "+1")
    assert await conversation("a", "+1") == first
    assert len({first, await conversation("a", "+2"), await conversation("b", "+1")}) == 3


async def test_a_token_is_given_for_the_right_credentials_and_opens_the_endpoint(client):
    async with FakeGenesys() as genesys:
        granted = await client.post(genesys.token_url, data=FORM, auth=BASIC)
        token = granted.json()
        assert granted.status_code == 200
        assert (token["token_type"], token["expires_in"]) == ("bearer", 86_400)
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        assert (await post(client, genesys, headers=headers)).status_code == 200


async def test_wrong_credentials_are_401_in_oauth_form(genesys, client):
    for auth in (None, httpx.BasicAuth("client-id", "wrong"), httpx.BasicAuth("wrong", "wrong")):
        response = await client.post(genesys.token_url, data=FORM, auth=auth)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Basic"
        assert response.json()["error"] == "invalid_client"
        assert response.json()["error_description"]


async def test_the_credentials_can_be_chosen(client):
    async with FakeGenesys(client_id="me", client_secret="pass") as genesys:
        right = await client.post(
            genesys.token_url, data=FORM, auth=(genesys.client_id, genesys.client_secret)
        )
        wrong = await client.post(genesys.token_url, data=FORM, auth=BASIC)
        assert (right.status_code, wrong.status_code) == (200, 401)


@pytest.mark.parametrize("form", [{}, {"grant_type": "password"}])
async def test_another_grant_is_400_in_oauth_form(genesys, client, form):
    response = await client.post(genesys.token_url, data=form, auth=BASIC)
    assert (response.status_code, response.json()["error"]) == (400, "unsupported_grant_type")


async def test_without_a_valid_token_a_message_is_401_with_genesys_error_body(client):
    async with FakeGenesys() as genesys:
        codes = {}
        for authorization in ("", "Basic eA==", "Bearer", "Bearer nonsense"):
            response = await post(client, genesys, headers={"Authorization": authorization})
            assert response.status_code == response.json()["status"] == 401
            assert set(response.json()) == ERROR_FIELDS
            codes[authorization] = response.json()["code"]
        assert codes == {
            "": "authentication.required",
            "Basic eA==": "authentication.required",
            "Bearer": "bad.credentials",
            "Bearer nonsense": "bad.credentials",
        }
        assert genesys.messages == []


async def test_a_token_expires_by_the_clock(client):
    clock = FakeClock()
    async with FakeGenesys(token_lifetime=10, clock=clock) as genesys:
        headers = {"Authorization": f"bearer {genesys.issue_token()}"}
        clock.advance(9.9)
        assert (await post(client, genesys, headers=headers)).status_code == 200
        clock.advance(0.1)
        assert (await post(client, genesys, headers=headers)).status_code == 401


async def test_tokens_can_be_revoked_and_new_ones_are_good(client):
    async with FakeGenesys() as genesys:
        old = {"Authorization": f"Bearer {genesys.issue_token()}"}
        genesys.revoke_tokens()
        new = {"Authorization": f"Bearer {genesys.issue_token()}"}
        assert (await post(client, genesys, headers=old)).status_code == 401
        assert (await post(client, genesys, headers=new)).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (without("text"), "text"),
        (without("channel.from.id"), "channel.from.id"),
        (without("channel.from.idType"), "channel.from.idType"),
        (without("channel.messageId"), "channel.messageId"),
        (without("channel.time"), "channel.time"),
        (message() | {"text": 5}, "text"),
        (message() | {"text": ""}, "text"),
        (message() | {"channel": message()["channel"] | {"time": "noon"}}, "channel.time"),
        (message() | {"channel": message()["channel"] | {"time": 1}}, "channel.time"),
    ],
)
async def test_a_wrong_body_is_400_and_names_the_field(genesys, client, body, field):
    response = await post(client, genesys, body)
    answer = response.json()
    assert (response.status_code, answer["code"]) == (400, "bad.request")
    assert set(answer) == ERROR_FIELDS
    assert answer["message"] == f"Missing or invalid: {field}."
    assert answer["details"] == [{"errorCode": "invalid.value", "fieldName": field}]
    assert genesys.messages == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
async def test_what_is_not_json_is_400(genesys, client, content):
    response = await client.post(genesys.message_url(), content=content)
    assert (response.status_code, response.json()["code"]) == (400, "bad.request")
    assert response.json()["message"] == "The request body is not valid JSON."


@pytest.mark.parametrize("content", [b"[]", b"null", b'{"channel": []}'])
async def test_json_of_another_shape_is_400_and_names_every_field(genesys, client, content):
    response = await client.post(genesys.message_url(), content=content)
    assert response.status_code == 400
    assert len(response.json()["details"]) == 5


async def test_another_path_is_404_and_another_method_405(genesys, client):
    missing = await client.post(f"{genesys.url}/api/v2/nothing")
    wrong = await client.get(genesys.message_url())
    assert (missing.status_code, missing.json()["code"]) == (404, "not.found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method.not.allowed")
    assert wrong.headers["Allow"] == "POST"


# --- how it goes down ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "internal.server.error"),
        (502, "bad.gateway"),
        (503, "service.unavailable"),
        (504, "request.timeout"),
        (401, "bad.credentials"),
        (599, "error"),
    ],
)
async def test_failing_answers_the_status_with_genesys_error_body(genesys, client, status, code):
    genesys.fail(status)
    response = await post(client, genesys)
    answer = response.json()
    assert response.status_code == answer["status"] == status
    assert set(answer) == ERROR_FIELDS
    assert answer["code"] == code
    assert genesys.messages == []


async def test_failing_answers_503_and_the_code_can_be_chosen(genesys, client):
    genesys.fail()
    assert (await post(client, genesys)).status_code == 503
    genesys.fail(504, code="authentication.request.timeout")
    assert (await post(client, genesys)).json()["code"] == "authentication.request.timeout"


@pytest.mark.parametrize("status", [200, 399, 600, "503", None])
def test_failing_with_a_status_that_is_not_an_error_is_refused(status):
    for switch in (FakeGenesys().fail, lambda status: FakeGenesys().flaky(0.5, status=status)):
        with pytest.raises(ValueError, match="status must be an HTTP error, 400 to 599, got"):
            switch(status)


async def test_every_error_has_a_context_of_its_own(genesys, client):
    genesys.fail()
    answers = [(await post(client, genesys)).json() for _ in range(3)]
    assert len({answer["contextId"] for answer in answers}) == 3


async def test_rate_limiting_says_when_to_come_back(genesys, client):
    genesys.rate_limit(retry_after=7)
    response = await post(client, genesys)
    assert (response.status_code, response.json()["code"]) == (429, "too.many.requests")
    assert response.headers["Retry-After"] == response.headers["inin-ratelimit-reset"] == "7"
    assert response.headers["inin-ratelimit-allowed"] == "300"
    assert response.headers["inin-ratelimit-count"] == "301"


@pytest.fixture
def sleeps(monkeypatch):
    """Record what is slept, and sleep nothing."""
    seconds, real_sleep = [], asyncio.sleep

    async def sleep(delay, result=None):
        if delay > 0:
            seconds.append(delay)
        return await real_sleep(0, result)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return seconds


async def test_slow_answers_normally_but_late(genesys, client, sleeps):
    genesys.slow(30)
    assert (await post(client, genesys)).status_code == 200
    assert sleeps == [30]


async def test_latency_is_for_good_answers_and_can_be_changed(client, sleeps):
    async with FakeGenesys(require_token=False, latency=0.25) as genesys:
        await post(client, genesys)
        genesys.fail()
        await post(client, genesys)
        genesys.latency = 4
        genesys.up()
        await post(client, genesys)
    assert sleeps == [0.25, 4]


async def test_a_connection_is_dropped_after_the_whole_request_has_been_read(genesys):
    genesys.drop()
    reader, writer = await asyncio.open_connection("127.0.0.1", genesys.port)
    writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nha")
    await until(lambda: genesys.requests)
    await some_rounds()
    assert not reader.at_eof()
    writer.write(b"lf")
    assert await reader.read() == b""
    writer.close()


async def test_a_slow_message_is_delivered_although_the_client_gives_up(genesys, client):
    genesys.slow(3600)
    call = asyncio.create_task(post(client, genesys))
    await until(lambda: genesys.messages)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert genesys.messages == [message()]


async def test_hanging_never_answers_and_delivers_nothing(genesys, client):
    genesys.hang()
    call = asyncio.create_task(post(client, genesys))
    await until(lambda: genesys.requests)
    genesys.up()
    assert (await post(client, genesys)).status_code == 200
    assert not call.done(), "a switch is for later requests"
    assert len(genesys.messages) == 1
    call.cancel()


async def test_a_hanging_request_ends_with_its_client(genesys, client):
    before = other_tasks()
    genesys.hang()
    call = asyncio.create_task(post(client, genesys))
    await until(lambda: genesys.requests)
    call.cancel()
    await until(lambda: other_tasks() <= before)


async def test_refusing_closes_the_port_and_another_switch_opens_the_same(genesys, client):
    port = genesys.port
    assert (await post(client, genesys)).status_code == 200
    for reopen in (genesys.up, genesys.fail):
        genesys.refuse()
        genesys.refuse()
        with pytest.raises(httpx.ConnectError):
            await post(client, genesys)
        reopen()
    assert (await post(client, genesys)).status_code == 503
    assert genesys.port == port
    assert genesys.requests == 2


async def test_refusing_ends_the_requests_that_are_running(genesys, client):
    genesys.hang()
    call = asyncio.create_task(post(client, genesys))
    await until(lambda: genesys.requests)
    genesys.refuse()
    with pytest.raises(httpx.RemoteProtocolError):
        await call


async def test_the_port_is_open_and_closed_from_the_very_switch_on(genesys):
    address = ("127.0.0.1", genesys.port)
    genesys.refuse()
    genesys.up()
    socket.create_connection(address).close()
    genesys.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_nobody_else_gets_the_port_while_it_refuses(genesys):
    genesys.refuse()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", genesys.port))


@pytest.mark.parametrize("rounds", range(8))
async def test_a_request_that_is_just_coming_in_is_ended_and_not_received_later(genesys, rounds):
    with socket.create_connection(("127.0.0.1", genesys.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.settimeout(0)
        await some_rounds(rounds)
        genesys.refuse()
        received = genesys.requests
        with contextlib.suppress(ConnectionResetError):
            answer = await asyncio.get_running_loop().sock_recv(connection, 1)
            assert answer == b"" or received == 1
        await some_rounds()
    assert genesys.requests == received


@pytest.mark.parametrize("rounds", range(8))
async def test_an_idle_connection_that_is_just_coming_in_is_ended(genesys, rounds):
    with socket.create_connection(("127.0.0.1", genesys.port)) as connection:
        connection.settimeout(0)
        await some_rounds(rounds)
        genesys.refuse()
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.get_running_loop().sock_recv(connection, 1) == b""


async def test_closing_ends_a_connection_with_more_requests_than_are_read():
    async with FakeGenesys() as genesys:
        genesys.hang()
        with socket.create_connection(("127.0.0.1", genesys.port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
            await until(lambda: genesys.requests)
            await some_rounds()
            await genesys.close()
            assert genesys.requests == 1


async def test_a_chosen_share_fails_and_the_seed_decides_which(genesys, client):
    chance = random.Random(7)
    expected = [502 if chance.random() < 0.3 else 200 for _ in range(30)]
    for _ in range(2):
        genesys.flaky(0.3, seed=7, status=502)
        assert [(await post(client, genesys)).status_code for _ in range(30)] == expected
    assert len(genesys.messages) == 2 * expected.count(200)


async def test_a_share_of_nothing_and_of_all(genesys, client):
    genesys.flaky(0)
    assert {(await post(client, genesys)).status_code for _ in range(5)} == {200}
    genesys.flaky(1)
    assert {(await post(client, genesys)).status_code for _ in range(5)} == {503}


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="share must be from 0 to 1, got"):
        FakeGenesys().flaky(share)


async def test_a_mode_can_hold_for_some_paths_only(genesys, client):
    async def statuses():
        token = await client.post(genesys.token_url, data=FORM, auth=BASIC)
        sent = await post(client, genesys)
        return token.status_code, sent.status_code

    genesys.fail(500, paths="/api/")
    assert await statuses() == (200, 500)
    genesys.fail(502, paths="/oauth/")
    assert await statuses() == (502, 500)
    genesys.up(paths="/api/v2/conversations/")
    assert await statuses() == (502, 200)
    genesys.fail(503)
    assert await statuses() == (503, 503)


async def test_it_can_be_down_from_the_start(client):
    genesys = FakeGenesys()
    genesys.fail(500)
    async with genesys:
        assert (await post(client, genesys)).status_code == 500


# --- what it counts ------------------------------------------------------------------------------


async def test_requests_are_counted_by_path_and_by_second_of_the_clock(client):
    clock = FakeClock(1000.5)
    async with FakeGenesys(require_token=False, clock=clock) as genesys:
        await post(client, genesys)
        clock.advance(0.9)
        await client.get(f"{genesys.url}/other?page=2")
        clock.advance(60)
        genesys.fail()
        await post(client, genesys)
        assert genesys.requests == 3
        path = genesys.message_url().removeprefix(genesys.url)
        assert genesys.requests_by_path == {path: 2, "/other": 1}
        assert genesys.requests_by_second == {0: 2, 60: 1}


async def test_without_a_clock_of_its_own_the_seconds_are_those_that_freezegun_moves(client):
    with freeze_time("2026-11-23", real_asyncio=True) as frozen:
        async with FakeGenesys(token_lifetime=60) as genesys:
            headers = {"Authorization": f"Bearer {genesys.issue_token()}"}
            assert (await post(client, genesys, headers=headers)).status_code == 200
            frozen.tick(60)
            assert (await post(client, genesys, headers=headers)).status_code == 401
        assert genesys.requests_by_second == {0: 1, 60: 1}


@pytest.mark.parametrize("mode", ["hang", "drop", "garbage"])
async def test_a_request_counts_when_it_is_received_whatever_becomes_of_it(genesys, mode):
    getattr(genesys, mode)()
    _, writer = await asyncio.open_connection("127.0.0.1", genesys.port)
    writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nunfinished")
    await until(lambda: genesys.requests)
    assert genesys.requests_by_path == {"/x": 1}
    writer.close()


async def test_counting_can_start_afresh(genesys, client):
    await post(client, genesys)
    old = genesys.messages
    genesys.reset_counts()
    assert (genesys.requests, genesys.messages) == (0, [])
    assert genesys.requests_by_path == genesys.requests_by_second == {}
    await post(client, genesys)
    assert (genesys.requests, len(genesys.messages), len(old)) == (1, 1, 1)


async def test_what_was_counted_can_be_read_after_the_end(client):
    async with FakeGenesys(require_token=False) as genesys:
        await post(client, genesys)
    assert (genesys.requests, genesys.messages) == (1, [message()])


# --- how it starts and ends ----------------------------------------------------------------------


async def test_closing_ends_hanging_requests_and_leaves_nothing_behind(client):
    before = other_tasks()
    async with FakeGenesys() as genesys:
        genesys.hang()
        calls = [asyncio.create_task(post(client, genesys)) for _ in range(5)]
        await until(lambda: genesys.requests == 5)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {httpx.RemoteProtocolError}
    assert other_tasks() <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", genesys.port))


@pytest.mark.parametrize("rounds", range(6))
async def test_closing_while_a_connection_comes_in_leaves_no_task(rounds):
    before = other_tasks()
    async with FakeGenesys() as genesys:
        connection = socket.create_connection(("127.0.0.1", genesys.port))
        await some_rounds(rounds)
    assert other_tasks() <= before
    connection.settimeout(60)
    with connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""


async def test_closing_right_after_a_switch_leaves_no_task():
    before = other_tasks()
    async with FakeGenesys() as genesys:
        genesys.refuse()
        genesys.up()
        genesys.refuse()
        genesys.up()
    assert other_tasks() <= before


async def test_closing_twice_or_while_refusing_is_fine():
    genesys = FakeGenesys()
    await genesys.close()
    async with genesys:
        genesys.refuse()
    await genesys.close()


async def test_it_can_be_started_again(client):
    genesys = FakeGenesys(require_token=False)
    for _ in range(2):
        async with genesys:
            assert (await post(client, genesys)).status_code == 200


async def test_it_cannot_be_started_twice_and_has_no_port_before():
    genesys = FakeGenesys()
    with pytest.raises(RuntimeError, match="has not been started: use `async with`, or `with`"):
        _ = genesys.url
    with pytest.raises(RuntimeError, match="not running"):
        genesys.refuse()
    async with genesys:
        with pytest.raises(RuntimeError, match="already running"):
            await genesys.start()


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open(genesys):
    with pytest.raises(OSError, match="in use"):
        await FakeGenesys(port=genesys.port).start()


# --- which clients can talk to it ----------------------------------------------------------------


async def with_aiohttp(url):
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=message(), raise_for_status=True) as response,
    ):
        return await response.json()


async def with_httpx(url):
    async with httpx.AsyncClient(trust_env=False) as session:
        return (await session.post(url, json=message())).raise_for_status().json()


async def with_requests(url):
    def call():
        with requests.Session() as session:
            session.trust_env = False
            response = session.post(url, json=message(), timeout=60)
            response.raise_for_status()
            return response.json()

    return await asyncio.to_thread(call)


CLIENTS = {
    with_aiohttp: {
        "fail": aiohttp.ClientResponseError,
        "drop": aiohttp.ServerDisconnectedError,
        "garbage": aiohttp.ClientResponseError,
        "refuse": aiohttp.ClientConnectorError,
    },
    with_httpx: {
        "fail": httpx.HTTPStatusError,
        "drop": httpx.RemoteProtocolError,
        "garbage": httpx.RemoteProtocolError,
        "refuse": httpx.ConnectError,
    },
    with_requests: {
        "fail": requests.HTTPError,
        "drop": requests.ConnectionError,
        "garbage": requests.ConnectionError,
        "refuse": requests.ConnectionError,
    },
}


@pytest.mark.parametrize("call", CLIENTS)
async def test_each_client_sees_the_outage_as_its_own_error_and_then_recovers(genesys, call):
    for mode, error in CLIENTS[call].items():
        getattr(genesys, mode)()
        with pytest.raises(error) as caught:
            await call(genesys.message_url())
        assert type(caught.value) is error or mode == "refuse"
    assert genesys.requests == 3
    genesys.up()
    assert (await call(genesys.message_url()))["text"] == "Hello"


async def test_aiohttp_takes_garbage_for_a_400_without_headers(genesys):
    genesys.garbage()
    with pytest.raises(aiohttp.ClientResponseError) as caught:
        await with_aiohttp(genesys.message_url())
    assert (caught.value.status, caught.value.headers) == (400, None)


# --- aiohttp is an extra -------------------------------------------------------------------------


def run(program):
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


def test_the_clock_comes_without_aiohttp():
    result = run(
        "import sys; from resilience.testing import FakeClock; print('aiohttp' in sys.modules)"
    )
    assert (result.stdout, result.stderr) == ("False\n", "")


def test_where_aiohttp_is_missing_the_clock_works_and_the_server_says_what_to_install():
    result = run(
        "import sys; sys.modules['aiohttp'] = None\n"
        "from resilience.testing import FakeClock; print(FakeClock()())\n"
        "from resilience.testing import FakeGenesys"
    )
    assert result.stdout == "0.0\n"
    last = result.stderr.splitlines()[-1]
    assert last.startswith(
        "ModuleNotFoundError: FakeGenesys needs the extra aiohttp: "
        'pip install "region-breaker[aiohttp]" ('
    )


def test_the_server_alone_says_what_to_install_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "resilience.testing.genesys")
    with pytest.raises(ImportError, match=r'pip install "region-breaker\[aiohttp\]"'):
        importlib.import_module("resilience.testing.genesys")


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match=r"resilience\.testing.*'FakeServer'"):
        _ = resilience.testing.FakeServer
