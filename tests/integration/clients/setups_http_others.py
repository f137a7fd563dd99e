"""HTTP clients on event loops and engines of their own; each call imports its client."""

import threading
from functools import cache, partial

from tests.integration.clients.client_setup import timeout
from tests.integration.clients.http_setup import PROXY_AND_REDIRECTS, http_setup, raw_setup
from tests.integration.clients.servers import answer

# tornado


async def tornado_raises(host, port, scheme="http://", kind="simple", **options):
    from tornado.httpclient import AsyncHTTPClient

    AsyncHTTPClient.configure(f"tornado.{kind}_httpclient.{kind.title()}AsyncHTTPClient")
    options = {"connect_timeout": timeout(), "request_timeout": timeout(), **options}
    client = AsyncHTTPClient(force_instance=True)
    try:
        return await client.fetch(f"{scheme}{host}:{port}/", **options)
    finally:
        client.close()


async def tornado_returns(host, port):
    return await tornado_raises(host, port, raise_error=False)


async def tornado_closed(host, port):
    from tornado.httpclient import AsyncHTTPClient

    client = AsyncHTTPClient(force_instance=True)
    client.close()
    await client.fetch(f"http://{host}:{port}/")


# Twisted


@cache
def reactor():
    """Return the reactor of Twisted, which runs in a thread until the process ends."""
    from twisted.internet import reactor

    threading.Thread(
        target=reactor.run, kwargs={"installSignalHandlers": False}, daemon=True
    ).start()
    return reactor


def treq_call(host, port, scheme="http://", **options):
    import treq
    from twisted.internet import threads
    from twisted.web.client import Agent

    agent = Agent(reactor())

    def fetch():
        client = treq.client.HTTPClient(agent)
        response = client.get(f"{scheme}{host}:{port}/", timeout=timeout(), **options)
        return response.addCallback(treq_read)

    return threads.blockingCallFromThread(reactor(), fetch)


def treq_read(response):
    import treq

    read = treq.content(response)
    return read.addCallback(lambda _: response)


# libcurl


def pycurl_call(host, port, scheme="http://", **options):
    import pycurl

    curl = pycurl.Curl()
    try:
        curl.setopt(pycurl.URL, options.get("url", f"{scheme}{host}:{port}/"))
        curl.setopt(pycurl.TIMEOUT_MS, round(timeout() * 1000))
        curl.setopt(pycurl.FAILONERROR, True)
        curl.setopt(pycurl.FOLLOWLOCATION, True)
        curl.setopt(pycurl.MAXREDIRS, 5)
        return curl.perform_rb()
    finally:
        curl.close()


def pycurl_wrong_option(host, port):
    import pycurl

    pycurl.Curl().setopt(pycurl.URL, 5)


def pycurl_closed(host, port):
    import pycurl

    curl = pycurl.Curl()
    curl.close()
    curl.perform()


def curl_cffi_call(host, port, scheme="http://", **options):
    from curl_cffi import requests

    response = requests.get(f"{scheme}{host}:{port}/", timeout=timeout(), **options)
    response.raise_for_status()
    return response.json()


async def curl_cffi_async(host, port, scheme="http://", **options):
    from curl_cffi import requests

    async with requests.AsyncSession() as session:
        response = await session.get(f"{scheme}{host}:{port}/", timeout=timeout(), **options)
        response.raise_for_status()
        return response.json()


def curl_cffi_closed(host, port):
    from curl_cffi import requests

    session = requests.Session()
    session.close()
    session.get(f"http://{host}:{port}/", timeout=timeout())


# reqwest, which is written in Rust


def primp_call(host, port, scheme="http://", **options):
    import primp

    response = primp.Client(timeout=timeout(), **options).get(f"{scheme}{host}:{port}/")
    response.raise_for_status()
    return response.json()


async def primp_async(host, port, scheme="http://"):
    import primp

    async with primp.AsyncClient(timeout=timeout()) as client:
        response = await client.get(f"{scheme}{host}:{port}/")
        response.raise_for_status()
        return response.json()


# OAuth


def requests_oauthlib_call(host, port, scheme="http://"):
    from requests_oauthlib import OAuth1Session

    with OAuth1Session("client", "secret", "token", "secret") as session:
        response = session.get(f"{scheme}{host}:{port}/", timeout=timeout())
        response.raise_for_status()
        return response.json()


def requests_oauthlib_without_tls(host, port):
    """Ask without TLS, which version 2 of OAuth forbids."""
    from requests_oauthlib import OAuth2Session

    token = {"access_token": "token", "token_type": "Bearer"}
    with OAuth2Session("client", token=token) as session:
        session.get(f"http://{host}:{port}/", timeout=timeout())


def authlib_token(host, port, **options):
    from authlib.integrations.requests_client import OAuth2Session

    url = f"http://{host}:{port}/oauth/token"
    with OAuth2Session("client", "secret", default_timeout=timeout()) as session:
        return session.fetch_token(url, grant_type="client_credentials", **options)


async def authlib_httpx(host, port, scheme="http://"):
    from authlib.integrations.httpx_client import AsyncOAuth2Client

    token = {"access_token": "token", "token_type": "Bearer", "expires_at": 4_000_000_000}
    async with AsyncOAuth2Client("client", token=token, timeout=timeout()) as client:
        response = await client.get(f"{scheme}{host}:{port}/")
        return response.raise_for_status().json()


async def authlib_no_token(host, port):
    from authlib.integrations.httpx_client import AsyncOAuth2Client

    async with AsyncOAuth2Client("client", timeout=timeout()) as client:
        await client.get(f"http://{host}:{port}/")


SETUPS = [
    http_setup(
        "tornado",
        ("tornado",),
        tornado_raises,
        misuse={
            "bad scheme": partial(tornado_raises, scheme="nonsense://"),
            "wrong argument": partial(tornado_raises, no_such_argument=1),
            "closed client": tornado_closed,
        },
    ),
    http_setup(
        "tornado, curl",
        ("tornado", "pycurl"),
        partial(tornado_raises, kind="curl"),
        misuse={
            "bad scheme": partial(tornado_raises, kind="curl", scheme="nonsense://"),
        },
    ),
    raw_setup("tornado, status returned", ("tornado",), tornado_returns),
    raw_setup(
        "treq",
        ("treq", "twisted"),
        treq_call,
        misuse={
            "bad scheme": partial(treq_call, scheme="nonsense://"),
            "wrong argument": partial(treq_call, headers=5),
        },
    ),
    http_setup(
        "pycurl, FAILONERROR",
        ("pycurl",),
        pycurl_call,
        ignored=PROXY_AND_REDIRECTS,
        misuse={
            "bad scheme": partial(pycurl_call, scheme="nonsense://"),
            "no URL": partial(pycurl_call, url=""),
            "wrong argument": pycurl_wrong_option,
            "closed handle": pycurl_closed,
        },
    ),
    http_setup(
        "curl_cffi, sync",
        ("curl_cffi",),
        curl_cffi_call,
        ignored=PROXY_AND_REDIRECTS,
        misuse={
            "bad scheme": partial(curl_cffi_call, scheme="nonsense://"),
            "wrong argument": partial(curl_cffi_call, impersonate="nothing"),
            "closed session": curl_cffi_closed,
        },
    ),
    http_setup(
        "curl_cffi, async",
        ("curl_cffi",),
        curl_cffi_async,
        ignored=PROXY_AND_REDIRECTS,
        misuse={
            "bad scheme": partial(curl_cffi_async, scheme="nonsense://"),
            "wrong argument": partial(curl_cffi_async, impersonate="nothing"),
        },
    ),
    http_setup(
        "primp, sync",
        ("primp",),
        primp_call,
        ignored=PROXY_AND_REDIRECTS,
        misuse={
            "bad scheme": partial(primp_call, scheme="nonsense://"),
            "wrong argument": partial(primp_call, no_such_argument=1),
        },
    ),
    http_setup(
        "primp, async",
        ("primp",),
        primp_async,
        misuse={"bad scheme": partial(primp_async, scheme="nonsense://")},
    ),
    http_setup(
        "requests-oauthlib",
        ("requests-oauthlib",),
        requests_oauthlib_call,
        ignored=PROXY_AND_REDIRECTS,
        misuse={
            "bad scheme": partial(requests_oauthlib_call, scheme="nonsense://"),
            "no TLS": requests_oauthlib_without_tls,
        },
    ),
    http_setup(
        "Authlib, fetching a token",
        ("authlib", "requests"),
        authlib_token,
        # What it raises for a refusal has no status, but the protocol's word.
        refusals={"wrong credentials": answer(401, b'{"error": "invalid_client"}')},
        ignored={},
    ),
    http_setup(
        "Authlib, httpx",
        ("authlib", "httpx"),
        authlib_httpx,
        misuse={
            "bad scheme": partial(authlib_httpx, scheme="nonsense://"),
            "no token": authlib_no_token,
        },
    ),
]
