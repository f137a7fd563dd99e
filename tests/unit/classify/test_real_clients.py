"""The errors that real clients raise when a server misbehaves."""

import asyncio
import socket
import socketserver
import threading
import urllib.error
import urllib.request

import aiohttp
import httpx
import pytest
import requests
import urllib3

from resilience import classify_error
from tests.support.classifying import ANSWERED, FAILURE, IGNORED


def get_aiohttp(url, timeout=30):
    async def get():
        limit = aiohttp.ClientTimeout(total=timeout)
        async with (
            aiohttp.ClientSession(timeout=limit, raise_for_status=True) as session,
            session.get(url) as response,
        ):
            await response.read()

    asyncio.run(get())


def get_aiohttp_with_a_socket_timeout(url, timeout=30):
    async def get():
        limit = aiohttp.ClientTimeout(sock_read=timeout)
        async with (
            aiohttp.ClientSession(timeout=limit, raise_for_status=True) as session,
            session.get(url) as response,
        ):
            await response.read()

    asyncio.run(get())


def get_httpx(url, timeout=30):
    with httpx.Client(timeout=timeout, trust_env=False) as client:
        client.get(url).raise_for_status()


def get_httpx_async(url, timeout=30):
    async def get():
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
            (await client.get(url)).raise_for_status()

    asyncio.run(get())


def get_requests(url, timeout=30):
    with requests.Session() as session:
        session.trust_env = False
        session.get(url, timeout=timeout).raise_for_status()


def get_urllib3(url, timeout=30):
    with urllib3.PoolManager(retries=1, timeout=timeout) as pool:
        pool.request("GET", url)


def get_urllib(url, timeout=30):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as response:
            response.read()
    except urllib.error.HTTPError as error:
        error.close()
        raise


CLIENTS = [
    get_aiohttp,
    get_aiohttp_with_a_socket_timeout,
    get_httpx,
    get_httpx_async,
    get_requests,
    get_urllib3,
    get_urllib,
]


RAISE_FOR_STATUS = [client for client in CLIENTS if client is not get_urllib3]


def of_each(clients):
    return pytest.mark.parametrize("get", clients, ids=lambda get: get.__name__)


@pytest.fixture
def answer_with():
    """Start a server on a loopback port that sends these bytes to whoever asks, and hangs up."""
    servers = []
    over = threading.Event()

    def start(answer):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                if answer is None:
                    over.wait()
                elif self.request.recv(65_536):
                    self.request.sendall(answer)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}/"

    yield start
    over.set()
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def outcome_of(get, url, **options):
    with pytest.raises(Exception) as caught:
        get(url, **options)
    return classify_error(caught.value)


@of_each(CLIENTS)
def test_a_refused_connection_is_a_failure(get):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port
        assert outcome_of(get, f"http://127.0.0.1:{taken.getsockname()[1]}/") is FAILURE


@of_each(CLIENTS)
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhello",
        b"this is no HTTP at all\r\n\r\n",
    ],
    ids=["no answer", "truncated", "truncated chunk", "malformed"],
)
def test_a_server_that_breaks_off_or_answers_garbage_is_a_failure(get, answer, answer_with):
    assert outcome_of(get, answer_with(answer)) is FAILURE


@of_each(CLIENTS)
def test_a_server_that_never_answers_is_a_failure(get, answer_with):
    assert outcome_of(get, answer_with(None), timeout=0.02) is FAILURE


@of_each(CLIENTS)
def test_a_server_that_speaks_no_tls_is_a_failure(get, answer_with):
    url = answer_with(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    assert outcome_of(get, url.replace("http:", "https:")) is FAILURE


@of_each(CLIENTS)
def test_a_host_that_nobody_knows_is_a_failure(get, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert outcome_of(get, "http://api.mypurecloud.test/") is FAILURE


@of_each(RAISE_FOR_STATUS)
@pytest.mark.parametrize(
    ("status", "outcome"), [(500, FAILURE), (503, FAILURE), (400, ANSWERED), (429, ANSWERED)]
)
def test_a_real_answer_is_judged_by_its_status(get, status, outcome, answer_with):
    head = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert outcome_of(get, answer_with(head.encode())) is outcome


@of_each(CLIENTS)
def test_a_bad_address_is_ignored(get):
    assert outcome_of(get, "gopher://127.0.0.1/") is IGNORED
