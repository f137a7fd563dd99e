"""The status page as a server: what it answers, to whom, and what its stream does under load."""

import asyncio
import contextlib
import json
import socket
from types import SimpleNamespace
from unittest.mock import AsyncMock

import aiohttp
import pytest
from aiohttp import web

from resilience import BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.integrations.status_page import page as page_module
from resilience.integrations.status_page import status_page
from resilience.integrations.status_page.access import is_address
from resilience.integrations.status_page.aiohttp_connection import AiohttpConnection
from resilience.integrations.status_page.buffer import MessageBuffer
from resilience.integrations.status_page.clients import CHUNK_SIZE, Client
from resilience.integrations.status_page.download import Download
from resilience.integrations.status_page.state import PageState
from resilience.integrations.status_page.stream import Stream
from resilience.testing import FakeClock

HOSTILE = '<img src=x onerror="alert(1)">'
NEVER = 3600  # seconds; the watchdog ends a test that would wait for it
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class ServerError(Exception):
    status = 503


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)


@contextlib.asynccontextmanager
async def serving(app):
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def asking(app):
    async with serving(app) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session


async def messages(response):
    """Yield what a stream says, as (name, data)."""
    name = ""
    async for line in response.content:
        if line.startswith(b"event: "):
            name = line.removeprefix(b"event: ").strip().decode()
        elif line.startswith(b"data: "):
            yield name, json.loads(line.removeprefix(b"data: "))


async def first(stream, name):
    async for got, what in stream:
        if got == name:
            return what
    raise AssertionError(f"the stream ended without {name}")


def under(registry):
    app = web.Application()
    app.add_subapp("/circuits", status_page(registry))
    return app


# What there is


async def test_the_page_and_its_files_are_there(registry):
    async with asking(under(registry)) as session:
        for path, kind in [
            ("", "text/html"),
            ("page.css", "text/css"),
            ("page.js", "text/javascript"),
            ("icon.svg", "image/svg+xml"),
            ("icon-alert.svg", "image/svg+xml"),
            ("api/circuits", "application/json"),
        ]:
            async with session.get(f"/circuits/{path}") as answer:
                assert (answer.status, answer.content_type) == (200, kind)
                assert {name: answer.headers[name] for name in HEADERS} == HEADERS
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_the_slash_is_added(registry):
    async with asking(under(registry)) as session:
        async with session.get("/circuits", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (308, "circuits/")
        async with session.get("/circuits") as answer:
            assert "<h1>Circuits</h1>" in await answer.text()


async def test_it_runs_by_itself(registry):
    async with asking(status_page(registry)) as session, session.get("/") as answer:
        assert "<h1>Circuits</h1>" in await answer.text()


async def test_the_json_has_all_that_the_snapshots_say(registry, clock):
    breaker = registry.get("eu-west-1")
    breaker.acquire().succeed()
    breaker.acquire().answered()
    breaker.acquire().fail(ServerError("Bearer hunter2"))
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()
    clock.advance(20)
    async with asking(status_page(registry)) as session, session.get("/api/circuits") as answer:
        text = await answer.text()
    seen = json.loads(text)
    assert "hunter2" not in text
    assert (seen["host"], seen["clock"]) == (socket.gethostname(), clock())
    assert seen["process"] > 0
    (region,) = seen["regions"]
    snapshot = breaker.snapshot()
    for name in ("region", "state", "since", "streak", "retry_after", "reason", "successes",
                 "failures", "answered", "ignored", "rejected", "probes", "trips",
                 "ignored_probes"):  # fmt: skip
        assert region[name] == getattr(snapshot, name)
    assert (region["seconds_in_state"], region["recovery_timeout"]) == (20.0, 60.0)
    assert region["forced"] is False
    (event,) = seen["history"]
    assert (event["old"], event["new"], event["reason"]) == ("CLOSED", "OPEN", "ServerError 503")
    assert (event["rule"], event["mode"], region["mode"]) == ("streak", "enforce", "enforce")


async def test_the_json_shows_the_mode(registry):
    registry.configure(policy=BreakerPolicy(failure_threshold=1, mode="observe"))
    registry.get("eu-west-1").force_open("a test")
    async with asking(status_page(registry)) as session, session.get("/api/circuits") as answer:
        seen = await answer.json()
    ((region,), (event,)) = seen["regions"], seen["history"]
    assert (region["mode"], event["mode"], event["rule"]) == ("observe", "observe", None)


async def test_the_json_shows_probes_that_say_nothing(registry, clock):
    breaker = registry.get("eu-west-1")
    breaker.acquire().fail(ServerError())
    clock.advance(60)
    for _ in range(2):
        with pytest.raises(KeyError), breaker.acquire():
            raise KeyError("Bearer hunter2")
    breaker.acquire().ignore()
    async with asking(status_page(registry)) as session, session.get("/api/circuits") as answer:
        text = await answer.text()
    (region,) = json.loads(text)["regions"]
    assert (region["state"], region["ignored_probes"]) == ("HALF_OPEN", 3)
    assert region["ignored_reasons"] == ["KeyError", "reported by the caller"]
    assert "hunter2" not in text


async def test_the_json_says_since_when_everything_is_known(registry, clock):
    started = clock()
    state = PageState(registry)
    clock.advance(5)
    registry.get("a").force_open("one")
    assert state.full()["known_since"] == started
    registry.history.resize(1)
    registry.get("a").force_open("two")
    assert state.full()["known_since"] == clock()


def test_without_a_clock_of_its_own_it_reads_the_breakers():
    registry = CircuitBreakerRegistry()
    state = PageState(registry)
    assert state.now() <= registry.get("a").snapshot().since + 1 <= state.now() + 2


async def test_a_hostile_name_and_reason_are_data(registry):
    registry.get(HOSTILE).force_open(f"\u202e{HOSTILE}\n")
    async with asking(status_page(registry)) as session, session.get("/api/circuits") as answer:
        (region,) = (await answer.json())["regions"]
    assert region["region"] == HOSTILE
    assert "\n" not in region["reason"]
    assert "\u202e" not in region["reason"]


# Who is let in


@pytest.mark.parametrize(
    "method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
)
@pytest.mark.parametrize("path", ["/circuits/", "/circuits/api/circuits", "/circuits/stream"])
async def test_only_get_is_answered(registry, method, path):
    registry.get("a").force_open("a test")
    before = registry.snapshots()
    async with (
        asking(under(registry)) as session,
        session.request(method, path, data=b"state=CLOSED") as answer,
    ):
        assert answer.status == 405
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert registry.snapshots() == before


@pytest.mark.parametrize(
    "path",
    ["/circuits/x", "/circuits//", "/circuits/page.py", "/circuits/api", "/circuits/%2e%2e/page.py",
     "/circuits/..%2fpage.py", "/circuits/api/circuits/eu-west-1", "/circuits/stream/"],
)  # fmt: skip
async def test_wrong_paths_are_not_found(registry, path):
    async with (
        serving(under(registry)) as port,
        aiohttp.ClientSession() as session,
        session.get(aiohttp.client.URL(f"http://127.0.0.1:{port}{path}", encoded=True)) as answer,
    ):
        assert answer.status == 404
        assert "Content-Security-Policy" in answer.headers


GOOD_HOSTS = ["127.0.0.1", "localhost:80", "LOCALHOST", "[::1]:8080", "10.1.2.3", "status.example"]
BAD_HOSTS = [
    "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b", "[::1", "0x7f.1",
    "evil.example@localhost", "localhost:80:80", "localhost/", "x" * 300, "[1.2.3]",
]  # fmt: skip


@pytest.mark.parametrize("host", GOOD_HOSTS)
async def test_is_answered_under_its_own_names(registry, host):
    app = status_page(registry, hosts=["Status.Example"])
    async with asking(app) as session, session.get("/", headers={"Host": host}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("host", BAD_HOSTS)
@pytest.mark.parametrize("path", ["/", "/api/circuits", "/stream"])
async def test_is_not_answered_under_a_strangers_name(registry, host, path):
    async with (
        asking(status_page(registry)) as session,
        session.get(path, headers={"Host": host}) as answer,
    ):
        assert answer.status in (400, 421)
        assert "Content-Security-Policy" in answer.headers or answer.status == 400


async def raw(port, *lines):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
    try:
        return (await reader.read()).decode("latin-1")
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "lines",
    [
        ["GET / HTTP/1.1"],
        ["GET / HTTP/1.0"],
        ["GET / HTTP/1.1", "Host: localhost", "Host: evil.example"],
        ["GET / HTTP/1.1", "Host: localhost", "X: " + "x" * 20_000],
        ["GET / HTTP/1.1", "Host: localhost", "bad header"],
        ["GET /" + "x" * 20_000 + " HTTP/1.1", "Host: localhost"],
        ["nonsense"],
    ],
)
async def test_wrong_headers_are_refused(registry, lines):
    async with serving(status_page(registry)) as port:
        assert " 4" in (await raw(port, *lines)).split("\r\n")[0]
        assert " 200 " in (await raw(port, "GET / HTTP/1.1", "Host: localhost")).split("\r\n")[0]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/stream", "/api/circuits", "/page.js"])
async def test_another_sites_page_gets_nothing(registry, site, path):
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors"}
    async with (
        asking(status_page(registry)) as session,
        session.get(path, headers=headers) as answer,
    ):
        assert answer.status == 403


async def test_a_link_from_elsewhere_opens_the_page(registry):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    async with (
        asking(status_page(registry)) as session,
        session.get("/", headers=headers) as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"registry": None}, TypeError, "registry must be a CircuitBreakerRegistry"),
        ({"max_listeners": 0}, ValueError, "max_listeners must be a whole number"),
        ({"hosts": "one.example"}, TypeError, "hosts must be a collection of host names"),
        ({"hosts": [""]}, ValueError, "a host must not be empty"),
    ],
)
def test_wrong_arguments_are_refused(registry, wrong, error, text):
    with pytest.raises(error, match=text):
        status_page(**{"registry": registry, **wrong})


def test_an_address_is_not_a_host_name_that_anybody_can_point_here():
    assert is_address("::1")
    assert not is_address("one.example")


# The stream


async def test_the_stream_begins_with_everything_and_goes_on_with_what_happens(registry):
    registry.get("a").force_open("one")
    async with asking(status_page(registry)) as session, session.get("/stream") as answer:
        assert answer.content_type == "text/event-stream"
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        stream = messages(answer)
        name, everything = await anext(stream)
        assert name == "state"
        assert [one["region"] for one in everything["regions"]] == ["a"]
        assert [one["reason"] for one in everything["history"]] == ["forced open: one"]
        registry.get("a").reset()
        assert (await first(stream, "transition"))["reason"] == "reset by hand"


async def test_an_update_holds_only_what_changed(registry, clock):
    stream = Stream(PageState(registry), max_listeners=1)
    a, _ = registry.get("a"), registry.get("b")

    def look():
        stream.poll()
        (message,) = stream.buffer.read(stream.buffer.end() - 1, 1)
        data = json.loads(message.split(b"data: ")[1])
        return [one["region"] for one in data["regions"]], data["gone"]

    assert look() == (["a", "b"], [])
    clock.advance(10)
    assert look() == ([], []), "the page lets time pass by itself"
    a.acquire().fail()
    assert look() == (["a"], [])
    clock.advance(30)
    assert look() == ([], [])
    clock.advance(30)
    assert look() == (["a"], []), "a probe is due"
    a.reset()
    registry.configure(max_regions=1)
    assert look() == (["b"], ["a"]) or look() == ([], [])


async def test_nobody_looks_while_nobody_watches(registry, monkeypatch):
    listening, listen = [], registry.listen

    def watched_listen(listener):
        stop = listen(listener)
        listening.append(listener)

        def watched_stop():
            stop()
            listening.remove(listener)

        return watched_stop

    monkeypatch.setattr(registry, "listen", watched_listen)
    app = status_page(registry)
    async with asking(app) as session:
        assert len(listening) == 0
        async with session.get("/stream") as answer:
            await first(messages(answer), "update")
            assert len(listening) == 1
            answer.close()
        while listening:
            registry.get("a").force_open("x")  # a write to who has left is how one notices
            registry.get("a").reset()
            await asyncio.sleep(0)


async def test_one_more_than_may_watch_gets_503(registry):
    async with (
        asking(status_page(registry, max_listeners=2)) as session,
        session.get("/stream") as one,
        session.get("/stream") as two,
    ):
        await first(messages(one), "state")
        await first(messages(two), "state")
        async with session.get("/stream") as three:
            assert (three.status, three.headers["Retry-After"]) == (503, "10")
        async with session.get("/api/circuits") as answer:
            assert answer.status == 200


async def test_a_client_that_falls_behind_is_dropped(registry):
    stream = Stream(PageState(registry), max_listeners=1, buffer_size=1000)
    registry.listen(stream.publish)
    registry.get("a").force_open("one")
    (message,) = stream.buffer.read(0, 1000)
    assert b"forced open: one" in message
    assert stream.buffer.read(1, 1000) == []
    for number in range(20):
        registry.get("a").force_open(f"number {number}")
    assert stream.buffer.total_bytes <= 1000
    assert stream.buffer.read(1, 1000) is None
    client = Client(None, 1)
    client.drop()
    client.is_writing = True
    client.drop()


def test_the_buffer_returns_whole_messages_up_to_a_number_of_bytes():
    buffer = MessageBuffer(10)
    for message in (b"one", b"two", b"six"):
        buffer.append(message)
    assert buffer.read(0, 4) == [b"one", b"two"]
    assert buffer.read(0, 3) == [b"one"]
    assert buffer.read(2, 4) == [b"six"]
    assert (buffer.end(), buffer.total_bytes) == (3, 9)
    buffer.append(b"ten")
    assert buffer.read(0, 4) is None, "the oldest message had to go"
    assert buffer.read(1, 100) == [b"two", b"six", b"ten"]
    buffer.clear()
    assert (buffer.end(), buffer.total_bytes) == (4, 0)
    assert buffer.read(3, 100) is None
    buffer.append(b"four")
    assert buffer.read(4, 100) == [b"four"]


def small_socket(port):
    """Connect with next to no room for what is not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    connection.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


def app_with(registry, **settings):
    """Make a page whose stream has other settings; gives it and the stream."""
    made = []

    def make(*args, **kwargs):
        made.append(Stream(*args, **{**kwargs, **settings}))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module, "Stream", make)
        return status_page(registry), made[0]


async def until(true):
    while not true():  # noqa: ASYNC110 - nothing tells when; the watchdog ends it
        await asyncio.sleep(0.001)


async def test_a_client_that_reads_nothing_is_dropped_after_a_while(registry):
    app, stream = app_with(registry, write_timeout=0.05)
    async with serving(app) as port:
        connection = small_socket(port)
        await until(lambda: stream.clients)
        while stream.clients:
            registry.get("a").force_open("x" * 150)
            registry.get("a").reset()
            await asyncio.sleep(0)
        connection.close()


async def test_a_client_that_falls_behind_on_a_real_connection_is_dropped(registry):
    app, stream = app_with(registry, buffer_size=20_000)
    async with asking(app) as session, session.get("/stream") as answer:
        await first(messages(answer), "state")
        for number in range(200):  # in one go: nobody can read meanwhile
            registry.get("a").force_open(f"number {number}")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()
        assert not stream.clients


async def test_a_loop_that_is_gone_harms_no_call(registry):
    stream = Stream(PageState(registry), max_listeners=1)
    stream._loop = asyncio.new_event_loop()
    stream._loop.close()
    registry.listen(stream.publish)
    registry.get("a").force_open("a test")
    assert stream.buffer.end() == 1


STORM = 250  # changes


async def test_100_watch_10_never_read_and_90_see_a_storm_in_order(registry):
    """A storm of changes; then the end, which waits for no client."""
    app, stream = app_with(registry, write_timeout=NEVER)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=NEVER)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    silent = [small_socket(port) for _ in range(10)]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session:
        answers = await asyncio.gather(*(session.get("/stream") for _ in range(90)))
        streams = [messages(answer) for answer in answers]
        for one in streams:
            await first(one, "state")
        await until(lambda: len(stream.clients) == 100)
        listening = [asyncio.create_task(transitions(one)) for one in streams]
        regions = [registry.get(f"region-{number}") for number in range(50)]
        for number in range(STORM):
            regions[number % 50].force_open(f"{number} " + "x" * 150)
            if number % 25 == 0:
                await asyncio.sleep(0)
        heard = await asyncio.gather(*listening)
        assert heard == [list(range(STORM))] * 90
        assert len(stream.clients) == 100, "those who read nothing too: the kernel took it"
        assert stream.buffer.total_bytes <= stream.buffer.max_bytes
        await runner.cleanup()
        assert not stream.clients
        for answer in answers:
            answer.close()
    for connection in silent:
        connection.close()


async def transitions(stream):
    numbers = []
    async for name, what in stream:
        if name == "transition":
            numbers.append(int(what["reason"].split()[2]))
            if len(numbers) == STORM:
                break
    return numbers


async def fill(client, registry):
    """Let things happen until the connection is full, and the kernel's buffer for it."""
    while not (client.is_writing and client.connection.transport.get_write_buffer_size() > 2**16):
        registry.get("a").force_open("x" * 150)
        registry.get("a").reset()
        await asyncio.sleep(0)


async def test_the_end_does_not_wait_for_a_client_that_is_stuck_in_a_write(registry):
    app, stream = app_with(registry, write_timeout=NEVER)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=NEVER)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    connection = small_socket(runner.addresses[0][1])
    await until(lambda: stream.clients)
    (client,) = stream.clients
    await fill(client, registry)
    await runner.cleanup()
    connection.close()
    assert not stream.clients


async def test_a_client_that_reads_nothing_holds_no_more_memory_however_much_happens(registry):
    app, stream = app_with(registry, write_timeout=NEVER)
    async with serving(app) as port:
        connection = small_socket(port)
        await until(lambda: stream.clients)
        (client,) = stream.clients
        for number in range(3000):
            registry.get("a").force_open(f"{number} " + "x" * 150)
            await asyncio.sleep(0)
        assert stream.buffer.total_bytes > 10 * CHUNK_SIZE
        assert client in stream.clients
        assert client.connection.transport.get_write_buffer_size() < 3 * CHUNK_SIZE
        connection.close()


async def test_after_the_end_nobody_is_let_in(registry):
    app, stream = app_with(registry)
    async with asking(app) as session:
        stream.close()
        async with session.get("/stream") as answer:
            assert answer.status == 503


async def test_a_client_that_has_left_before_its_first_message_harms_nobody(registry):
    stream = Stream(PageState(registry), max_listeners=1)
    request = SimpleNamespace(get_extra_info=lambda _: None, transport=None, remote=None)
    connection = AiohttpConnection(request)
    client = stream._add_client(connection)
    client.abort()
    prepared = []
    connection.response = SimpleNamespace(
        headers={}, prepare=AsyncMock(side_effect=prepared.append)
    )
    await connection.start("text/event-stream", None)
    assert prepared == [request]
    client.drop()
    stream._remove_client(client)
    assert not stream.clients


# The data in one answer


def download_app_with(registry, **settings):
    """Make a page whose data is served with other settings; gives it and what serves it."""
    made = []

    def make(*args, **kwargs):
        made.append(Download(*args, **{**kwargs, **settings}))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module, "Download", make)
        return status_page(registry), made[0]


def crowded(registry):
    """A registry whose data is more than a kernel buffers for a client that reads nothing."""
    registry.configure(max_regions=10_000)
    for number in range(3_000):
        registry.get(f"region-{number}")
    return registry


def reads_nothing(port, source="127.0.0.1"):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.bind((source, 0))
    connection.connect(("127.0.0.1", port))
    connection.sendall(b"GET /api/circuits HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


async def test_readers_that_read_nothing_share_one_body_and_are_dropped(registry):
    app, download = download_app_with(crowded(registry), write_timeout=0.3)
    async with serving(app) as port:
        connections = [reads_nothing(port) for _ in range(20)]
        await until(lambda: len(download.clients) == 20)
        assert len({id(client.connection.transport) for client in download.clients}) == 20
        assert download._body
        await until(lambda: not download.clients)
        assert download._body == b""
        for connection in connections:
            connection.close()


async def test_they_hold_one_body_not_one_each(registry):
    app, download = download_app_with(crowded(registry), write_timeout=NEVER)
    encoded = []
    full = download._state.full
    download._state.full = lambda: encoded.append(1) or full()
    async with serving(app) as port:
        connections = [reads_nothing(port)]
        await until(lambda: download.clients)
        download._made_at += NEVER  # no time passes
        connections += [reads_nothing(port) for _ in range(30)]
        await until(lambda: len(download.clients) == 31)
        assert len(encoded) == 1
        waiting = [
            client.connection.transport.get_write_buffer_size() for client in download.clients
        ]
        assert max(waiting) < 3 * CHUNK_SIZE
        for connection in connections:
            connection.close()


async def test_a_body_that_is_old_is_made_again(registry):
    app, download = download_app_with(crowded(registry), write_timeout=NEVER)
    async with asking(app) as session:
        connection = reads_nothing(session._base_url.port)
        await until(lambda: download.clients)
        download._made_at -= 2
        registry.get("new").force_open("by a test")
        async with session.get("/api/circuits") as answer:
            assert "new" in [one["region"] for one in (await answer.json())["regions"]]
        connection.close()


async def test_more_readers_than_may_be_get_503(registry):
    app, download = download_app_with(crowded(registry), max_clients=2, write_timeout=NEVER)
    async with asking(app) as session:
        connections = [reads_nothing(session._base_url.port) for _ in range(2)]
        await until(lambda: len(download.clients) == 2)
        async with session.get("/api/circuits") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
        download.close()
        await until(lambda: not download.clients)
        for connection in connections:
            connection.close()


async def test_a_reader_that_has_left_harms_nobody(registry):
    app, download = download_app_with(crowded(registry), write_timeout=NEVER)
    async with serving(app) as port:
        connection = reads_nothing(port)
        await until(lambda: download.clients)
        connection.close()
        await until(lambda: not download.clients)


# One address, and the others


def from_address(port, source):
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    return aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector)


async def test_one_address_cannot_take_all_places_of_the_stream(registry):
    app = status_page(registry, max_listeners=3)
    async with (
        serving(app) as port,
        from_address(port, "127.0.0.1") as greedy,
        from_address(port, "127.0.0.2") as late,
    ):
        answers = [await greedy.get("/stream") for _ in range(3)]
        streams = [messages(answer) for answer in answers]
        for stream in streams:
            await first(stream, "state")
        async with late.get("/stream") as answer:
            assert answer.status == 200
            await first(messages(answer), "state")
            with contextlib.suppress(aiohttp.ClientPayloadError):
                async for _ in streams[0]:
                    pass  # until it is ended, as the oldest
            async with greedy.get("/stream") as again:
                assert again.status == 503, "it has two places already, and the other one has one"
        for answer in answers:
            answer.close()


async def test_one_address_cannot_take_all_places_of_the_readers(registry):
    app, download = download_app_with(crowded(registry), max_clients=3, write_timeout=NEVER)
    async with serving(app) as port:
        connections = [reads_nothing(port) for _ in range(3)]
        await until(lambda: len(download.clients) == 3)
        async with (
            from_address(port, "127.0.0.2") as late,
            late.get("/api/circuits") as answer,
        ):
            assert len((await answer.json())["regions"]) == 3_000
        for connection in connections:
            connection.close()


# Several registries


async def test_several_registries_are_on_one_page(clock):
    ahead = FakeClock(clock() + 1000)
    tokens = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), name="tokens", clock=clock)
    messages = CircuitBreakerRegistry(name="messages", clock=ahead)
    state = PageState([tokens, messages])
    tokens.get("eu-west-1").acquire().fail()
    ahead.advance(1)
    clock.advance(1)
    messages.get("eu-west-1").force_open("x")
    seen = state.full()
    assert [(one["registry"], one["region"], one["since"]) for one in seen["regions"]] == [
        ("tokens", "eu-west-1", clock() - 1),
        ("messages", "eu-west-1", clock()),
    ]
    assert len({one["key"] for one in seen["regions"]}) == 2
    assert [(one["registry"], one["at"]) for one in seen["history"]] == [
        ("tokens", clock() - 1),
        ("messages", clock()),
    ]
    assert {one["key"] for one in seen["history"]} == {one["key"] for one in seen["regions"]}


async def test_the_stream_has_the_changes_of_every_registry(clock):
    registries = [CircuitBreakerRegistry(name=name, clock=clock) for name in ("a", "b")]
    async with asking(status_page(registries)) as session, session.get("/stream") as answer:
        stream = messages(answer)
        await first(stream, "state")
        for registry in registries:
            registry.get("x").force_open("y")
            assert (await first(stream, "transition"))["registry"] == registry.name


def test_since_when_everything_is_known_is_the_latest_of_all(clock):
    registries = [CircuitBreakerRegistry(name=name, clock=clock) for name in ("a", "b")]
    state = PageState(registries)
    registries[0].history.resize(1)
    for reason in ("one", "two"):
        clock.advance(5)
        registries[0].get("x").force_open(reason)
    registries[1].get("x").force_open("y")
    assert state.full()["known_since"] == clock()


def test_one_registry_is_not_named_unless_it_has_a_name(clock):
    for name, shown in (("", ""), ("default", ""), ("tokens", "tokens")):
        registry = CircuitBreakerRegistry(name=name, clock=clock)
        registry.get("a").force_open("x")
        (circuit,) = PageState(registry).circuits().values()
        assert circuit["registry"] == shown
        (event,) = PageState(registry).full()["history"]
        assert event["registry"] == shown


def test_two_registries_of_one_name_are_refused(registry):
    with pytest.raises(ValueError, match="different names"):
        status_page([registry, CircuitBreakerRegistry()])
