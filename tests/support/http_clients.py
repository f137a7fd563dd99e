"""The clients that have an integration, each with the same few methods for the tests."""

import asyncio
import gc
import inspect
from contextlib import asynccontextmanager

import aiohttp
import httpx
import httpx2
import requests

from resilience.integrations import aiohttp as for_aiohttp
from resilience.integrations import httpx as for_httpx
from resilience.integrations import httpx2 as for_httpx2
from resilience.integrations import requests as for_requests

READ_TIMEOUT = 0.2  # seconds


def closes_before_it_raises(library):
    """Whether it closes a response before it raises what its decoder does: httpx2 does by now."""
    return "finally" in inspect.getsource(library.Response.iter_raw)


async def run(function, *args):
    return await asyncio.to_thread(function, *args)


class OfAiohttp:
    family = aiohttp.ClientError
    rejection = for_aiohttp.RequestRejectedError
    call_timeout = for_aiohttp.RequestTimeoutError
    timeouts = aiohttp.ServerTimeoutError
    undecodable = aiohttp.ClientPayloadError
    cut = aiohttp.ClientPayloadError
    timeout = stopped = TimeoutError

    def __init__(self, session):
        self.session = session

    @classmethod
    @asynccontextmanager
    async def open(cls, registry, *, read_timeout=READ_TIMEOUT, **options):
        timeout = aiohttp.ClientTimeout(sock_connect=5, sock_read=read_timeout)
        async with for_aiohttp.region_session(
            timeout=timeout, registry=registry, **options
        ) as session:
            yield cls(session)

    async def get(self, url):
        async with self.session.get(url) as response:
            await response.read()
            return response.status

    async def post(self, url):
        async with self.session.post(url) as response:
            await response.read()
            return response.status

    async def head(self, url):
        async with self.session.head(url) as response:
            return response.status

    async def get_without_redirects(self, url):
        async with self.session.get(url, allow_redirects=False) as response:
            return response.status

    async def start(self, url, method="GET"):
        self.response = await self.session.request(method, url)
        return self.response.status

    async def read_first(self):
        return await self.response.content.readexactly(5)

    async def read_rest(self):
        return await self.response.content.read()

    async def shut(self):
        await self.session.close()

    async def close(self):
        self.response.close()

    async def drop(self):
        del self.response


class OfHttpxAsync:
    library = httpx
    integration = for_httpx

    def __init__(self, client):
        self.client = client
        self.family = self.library.TransportError
        self.rejection = self.integration.RequestRejectedError
        self.call_timeout = self.integration.RequestTimeoutError
        self.timeouts = self.library.TimeoutException
        self.undecodable = self.library.DecodingError
        self.cut = self.library.RemoteProtocolError
        self.timeout = self.stopped = self.library.ReadTimeout

    @classmethod
    @asynccontextmanager
    async def open(cls, registry, *, read_timeout=READ_TIMEOUT, **options):
        transport = cls.integration.AsyncRegionTransport(None, registry, **options)
        async with cls.library.AsyncClient(
            transport=transport, timeout=read_timeout, follow_redirects=True
        ) as client:
            yield cls(client)

    async def get(self, url):
        return (await self.client.get(url)).status_code

    async def post(self, url):
        return (await self.client.post(url)).status_code

    async def head(self, url):
        return (await self.client.head(url)).status_code

    async def get_without_redirects(self, url):
        return (await self.client.get(url, follow_redirects=False)).status_code

    async def start(self, url, method="GET"):
        request = self.client.build_request(method, url)
        self.response = await self.client.send(request, stream=True)
        self.pieces = self.response.aiter_raw()
        return self.response.status_code

    async def read_first(self):
        return await anext(self.pieces)

    async def read_rest(self):
        return b"".join([piece async for piece in self.pieces])

    async def shut(self):
        await self.client.aclose()

    async def close(self):
        await self.response.aclose()

    async def drop(self):
        del self.pieces
        del self.response


class OfHttpx2Async(OfHttpxAsync):
    library = httpx2
    integration = for_httpx2


class OfHttpx:
    library = httpx
    integration = for_httpx

    def __init__(self, client):
        self.client = client
        self.family = self.library.TransportError
        self.rejection = self.integration.RequestRejectedError
        self.call_timeout = self.integration.RequestTimeoutError
        self.timeouts = self.library.TimeoutException
        self.undecodable = self.library.DecodingError
        self.cut = self.library.RemoteProtocolError
        self.timeout = self.stopped = self.library.ReadTimeout

    @classmethod
    @asynccontextmanager
    async def open(cls, registry, *, read_timeout=READ_TIMEOUT, **options):
        transport = cls.integration.RegionTransport(None, registry, **options)
        with cls.library.Client(
            transport=transport, timeout=read_timeout, follow_redirects=True
        ) as client:
            yield cls(client)

    async def get(self, url):
        return (await run(self.client.get, url)).status_code

    async def post(self, url):
        return (await run(self.client.post, url)).status_code

    async def head(self, url):
        return (await run(self.client.head, url)).status_code

    async def get_without_redirects(self, url):
        return (await run(lambda: self.client.get(url, follow_redirects=False))).status_code

    async def start(self, url, method="GET"):
        request = self.client.build_request(method, url)
        self.response = await run(lambda: self.client.send(request, stream=True))
        self.pieces = self.response.iter_raw()
        return self.response.status_code

    async def read_first(self):
        return await run(next, self.pieces)

    async def read_rest(self):
        return b"".join(await run(list, self.pieces))

    async def close(self):
        await run(self.response.close)

    async def drop(self):
        del self.pieces
        del self.response


class OfHttpx2(OfHttpx):
    library = httpx2
    integration = for_httpx2


class OfRequests:
    family = requests.RequestException
    rejection = for_requests.RequestRejectedError
    cut = requests.exceptions.ChunkedEncodingError
    timeout = requests.exceptions.ReadTimeout
    timeouts = requests.Timeout
    undecodable = requests.exceptions.ContentDecodingError
    stopped = requests.ConnectionError

    def __init__(self, session, read_timeout):
        self.session = session
        self.options = {"timeout": read_timeout}

    @classmethod
    @asynccontextmanager
    async def open(cls, registry, *, read_timeout=READ_TIMEOUT, **options):
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", for_requests.RegionAdapter(registry, **options))
            yield cls(session, read_timeout)

    async def get(self, url):
        return (await run(lambda: self.session.get(url, **self.options))).status_code

    async def post(self, url):
        return (await run(lambda: self.session.post(url, **self.options))).status_code

    async def head(self, url):
        return (await run(lambda: self.session.head(url, **self.options))).status_code

    async def get_without_redirects(self, url):
        options = self.options | {"allow_redirects": False}
        return (await run(lambda: self.session.get(url, **options))).status_code

    async def start(self, url, method="GET"):
        options = self.options | {"stream": True}
        self.response = await run(lambda: self.session.request(method, url, **options))
        self.pieces = self.response.iter_content(5)
        return self.response.status_code

    async def read_first(self):
        return await run(next, self.pieces)

    async def read_rest(self):
        return b"".join(await run(list, self.pieces))

    async def close(self):
        await run(self.response.close)

    async def drop(self):
        del self.pieces
        del self.response


CLIENTS = (OfAiohttp, OfHttpx, OfHttpxAsync, OfHttpx2, OfHttpx2Async, OfRequests)
ASYNC_CLIENTS = (OfAiohttp, OfHttpxAsync, OfHttpx2Async)


async def drop(client):
    """Forget a response, and let everything that holds a part of it go."""
    await client.drop()
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0)
