"""aiohttp, httpx and httpcore, and the successors of the last two.

A client is imported by the call that uses it: all imports together take half a minute, and each
worker of a run needs only some of them.
"""

from functools import partial
from importlib import import_module

from tests.integration.clients.client_setup import TIMEOUT, timeout
from tests.integration.clients.http_setup import PROXY_AND_REDIRECTS, http_setup, raw_setup

# aiohttp


async def aiohttp_raises(host, port, scheme="http", **options):
    import aiohttp

    limit = aiohttp.ClientTimeout(total=timeout())
    async with aiohttp.ClientSession(timeout=limit, raise_for_status=True) as session:
        async with session.get(f"{scheme}://{host}:{port}/", **options) as response:
            return await response.read()


async def aiohttp_returns(host, port):
    import aiohttp

    limit = aiohttp.ClientTimeout(sock_connect=timeout(), sock_read=timeout())
    async with aiohttp.ClientSession(timeout=limit) as session:
        async with session.get(f"http://{host}:{port}/") as response:
            await response.read()
            return response


async def aiohttp_streams(host, port):
    import aiohttp

    limit = aiohttp.ClientTimeout(sock_connect=timeout(), sock_read=timeout())
    async with aiohttp.ClientSession(timeout=limit, raise_for_status=True) as session:
        async with session.post(f"http://{host}:{port}/", json={"stream": True}) as response:
            return [line async for line in response.content]


async def aiohttp_closed(host, port):
    import aiohttp

    session = aiohttp.ClientSession()
    await session.close()
    await session.get(f"http://{host}:{port}/")


# httpx and httpx2 have the same interface; so do httpcore and httpcore2.


def sync_client(library, host, port, scheme="http", **options):
    with import_module(library).Client(timeout=timeout(), follow_redirects=True) as client:
        return client.get(f"{scheme}://{host}:{port}/", **options).raise_for_status().json()


async def async_client(library, host, port, scheme="http", **options):
    httpx = import_module(library)
    async with httpx.AsyncClient(timeout=timeout(), follow_redirects=True) as client:
        response = await client.get(f"{scheme}://{host}:{port}/", **options)
        return response.raise_for_status().json()


def on_trio(library, host, port):
    import trio

    return trio.run(async_client, library, host, port)


async def returned(library, host, port):
    async with import_module(library).AsyncClient(timeout=timeout()) as client:
        return await client.get(f"http://{host}:{port}/")


async def streamed(library, host, port):
    async with import_module(library).AsyncClient(timeout=timeout()) as client:
        async with client.stream("GET", f"http://{host}:{port}/") as response:
            response.raise_for_status()
            return [chunk async for chunk in response.aiter_bytes()]


def closed_client(library, host, port):
    client = import_module(library).Client()
    client.close()
    client.get(f"http://{host}:{port}/")


async def closed_async_client(library, host, port):
    client = import_module(library).AsyncClient()
    await client.aclose()
    await client.get(f"http://{host}:{port}/")


def full_pool(library, host, port):
    httpx = import_module(library)
    limits = httpx.Limits(max_connections=1)
    with httpx.Client(timeout=httpx.Timeout(timeout(), pool=TIMEOUT), limits=limits) as client:
        with client.stream("GET", f"http://{host}:{port}/"):
            client.get(f"http://{host}:{port}/")


async def full_async_pool(library, host, port):
    httpx = import_module(library)
    limits = httpx.Limits(max_connections=1)
    limit = httpx.Timeout(timeout(), pool=TIMEOUT)
    async with httpx.AsyncClient(timeout=limit, limits=limits) as client:
        async with client.stream("GET", f"http://{host}:{port}/"):
            await client.get(f"http://{host}:{port}/")


def mistakes(call):
    """Return the wrong arguments that every one of these clients refuses."""
    return {
        "bad scheme": partial(call, scheme="nonsense"),
        "no scheme": partial(call, scheme=""),
        "bad header": partial(call, headers={"X-Header": "a\nb"}),
        "wrong argument": partial(call, headers=object()),
    }


def httpx_setups(library):
    """Return the set-ups of httpx or of httpx2."""
    synchronous, asynchronous = partial(sync_client, library), partial(async_client, library)
    return [
        http_setup(
            f"{library}, sync",
            (library,),
            synchronous,
            ignored=PROXY_AND_REDIRECTS,
            misuse=mistakes(synchronous)
            | {"closed client": partial(closed_client, library)}
            | {"full pool": partial(full_pool, library)},
        ),
        http_setup(
            f"{library}, async",
            (library,),
            asynchronous,
            ignored=PROXY_AND_REDIRECTS,
            misuse=mistakes(asynchronous)
            | {"closed client": partial(closed_async_client, library)}
            | {"full pool": partial(full_async_pool, library)},
        ),
        http_setup(f"{library} on trio", (library, "trio"), partial(on_trio, library)),
        raw_setup(f"{library}, status returned", (library,), partial(returned, library)),
        http_setup(f"{library}, streamed", (library,), partial(streamed, library)),
    ]


def timeouts(**others):
    """Return the time-outs of one request as httpcore wants them."""
    return {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout()) | others}


def sync_core(library, host, port, scheme="http", **options):
    with import_module(library).ConnectionPool() as pool:
        options.setdefault("extensions", timeouts())
        return pool.request("GET", f"{scheme}://{host}:{port}/", **options)


async def async_core(library, host, port, scheme="http", **options):
    async with import_module(library).AsyncConnectionPool() as pool:
        options.setdefault("extensions", timeouts())
        return await pool.request("GET", f"{scheme}://{host}:{port}/", **options)


def full_core_pool(library, host, port):
    with import_module(library).ConnectionPool(max_connections=1) as pool:
        with pool.stream("GET", f"http://{host}:{port}/", extensions=timeouts()):
            pool.request("GET", f"http://{host}:{port}/", extensions=timeouts(pool=TIMEOUT))


async def full_async_core_pool(library, host, port):
    async with import_module(library).AsyncConnectionPool(max_connections=1) as pool:
        async with pool.stream("GET", f"http://{host}:{port}/", extensions=timeouts()):
            await pool.request("GET", f"http://{host}:{port}/", extensions=timeouts(pool=TIMEOUT))


def httpcore_setups(library):
    """Return the set-ups of httpcore or of httpcore2."""
    synchronous, asynchronous = partial(sync_core, library), partial(async_core, library)
    return [
        raw_setup(
            f"{library}, sync",
            (library,),
            synchronous,
            misuse={
                "bad scheme": partial(synchronous, scheme="nonsense"),
                "bad header": partial(synchronous, headers={"X-Header": "a\nb"}),
                "full pool": partial(full_core_pool, library),
            },
        ),
        raw_setup(
            f"{library}, async",
            (library,),
            asynchronous,
            misuse={
                "bad scheme": partial(asynchronous, scheme="nonsense"),
                "bad header": partial(asynchronous, headers={"X-Header": "a\nb"}),
                "full pool": partial(full_async_core_pool, library),
            },
        ),
    ]


SETUPS = [
    http_setup(
        "aiohttp",
        ("aiohttp",),
        aiohttp_raises,
        ignored=PROXY_AND_REDIRECTS,
        misuse={
            "bad scheme": partial(aiohttp_raises, scheme="nonsense"),
            "no scheme": partial(aiohttp_raises, scheme=""),
            "bad header": partial(aiohttp_raises, headers={"X-Header": "a\nb"}),
            "wrong argument": partial(aiohttp_raises, json=object()),
            "closed session": aiohttp_closed,
        },
    ),
    raw_setup("aiohttp, status returned", ("aiohttp",), aiohttp_returns),
    http_setup("aiohttp, streamed", ("aiohttp",), aiohttp_streams),
    *httpx_setups("httpx"),
    *httpx_setups("httpx2"),
    *httpcore_setups("httpcore"),
    *httpcore_setups("httpcore2"),
]
