"""Clients of Redis, Valkey and memcached."""

import asyncio
import contextlib
import importlib

from tests.integration.clients.client_setup import ClientSetup, Situation, timeout
from tests.integration.clients.servers import drop, hang, serving
from tests.integration.clients.wire import memcached, resp

_RESP_BEHAVIOURS = {
    Situation.UNAVAILABLE: resp.answering("LOADING Redis is loading the dataset in memory"),
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: resp.cutting,
}

# What no command can be carried out with, whatever it asks for.
_RESP_OUTAGES = {
    "CLUSTERDOWN": resp.answering("CLUSTERDOWN The cluster is down"),
    "MASTERDOWN": resp.answering("MASTERDOWN Link with MASTER is down"),
    # A script holds the only thread: the like of a server that hangs, but that says so.
    "BUSY": resp.answering("BUSY Redis is busy running a script."),
    # HTTP has 507 for a server that is full.
    "OOM": resp.answering("OOM command not allowed when used memory > 'maxmemory'."),
    # After a failover: what was the primary takes no writes any more. Clients of MongoDB call the
    # same situation a lost connection.
    "READONLY": resp.answering("READONLY You can't write against a read only replica."),
    "NOREPLICAS": resp.answering("NOREPLICAS Not enough good replicas to write."),
    "too many clients": resp.refusing_all("ERR max number of clients reached"),
}

_RESP_REFUSALS = {
    "NOAUTH": resp.answering("NOAUTH Authentication required."),
    # The clients derive this one from their ConnectionError.
    "WRONGPASS": resp.refusing_all("WRONGPASS invalid username-password pair or user is disabled."),
    "NOPERM": resp.answering("NOPERM this user has no permissions to run the 'get' command"),
    "WRONGTYPE": resp.answering(
        "WRONGTYPE Operation against a key holding the wrong kind of value"
    ),
    "unknown command": resp.answering("ERR unknown command 'GETT'"),
    "wrong arguments": resp.answering("ERR wrong number of arguments for 'get' command"),
    "NOSCRIPT": resp.answering("NOSCRIPT No matching script. Please use EVAL."),
    "CROSSSLOT": resp.answering("CROSSSLOT Keys in request don't hash to the same slot"),
}


def _client(library, host, port, *, asynchronous=False, **settings):
    """Return a client of redis-py, or of valkey-py, which is a copy of it."""
    name = "Redis" if library == "redis" else "Valkey"
    module = importlib.import_module(f"{library}.asyncio" if asynchronous else library)
    retry = importlib.import_module(f"{module.__name__}.retry").Retry
    backoff = importlib.import_module(f"{library}.backoff").NoBackoff()
    return getattr(module, name)(
        host=host,
        port=port,
        username="u",
        password="p",
        socket_timeout=timeout(),
        socket_connect_timeout=timeout(),
        retry=retry(backoff, 0),
        **settings,
    )


def _sync_setup(library, name):
    def get(host, port):
        with contextlib.closing(_client(library, host, port)) as client:
            client.get("key")

    def full_pool(host, port):
        with serving(resp.idle) as server:
            client = _client(library, host, server.port, max_connections=1)
            held = client.connection_pool.get_connection("GET")
            try:
                client.get("key")
            finally:
                client.connection_pool.release(held)
                client.close()

    def wrong_type(host, port):
        with (
            serving(resp.idle) as server,
            contextlib.closing(_client(library, host, server.port)) as client,
        ):
            client.set("key", object())

    return _setup(library, name, get, full_pool, wrong_type)


def _async_setup(library, name):
    async def get(host, port):
        async with _client(library, host, port, asynchronous=True) as client:
            await client.get("key")

    async def full_pool(host, port):
        with serving(resp.idle) as server:
            settings = {"asynchronous": True, "max_connections": 1}
            async with _client(library, host, server.port, **settings) as client:
                held = await client.connection_pool.get_connection("GET")
                try:
                    await client.get("key")
                finally:
                    await client.connection_pool.release(held)

    async def wrong_type(host, port):
        with serving(resp.idle) as server:
            async with _client(library, host, server.port, asynchronous=True) as client:
                await client.set("key", object())

    return _setup(library, name, get, full_pool, wrong_type)


def _setup(library, name, get, full_pool, wrong_type):
    return ClientSetup(
        name=name,
        distributions=(library,),
        call=get,
        behaviours=_RESP_BEHAVIOURS,
        outages=_RESP_OUTAGES,
        refusals=_RESP_REFUSALS,
        misuse={"exhausted pool": full_pool, "a value of a wrong type": wrong_type},
    )


_MEMCACHED_BEHAVIOURS = {
    Situation.UNAVAILABLE: memcached.answering(b"SERVER_ERROR temporary failure"),
    Situation.DROPPING: drop,
    Situation.HANGING: hang,
    Situation.CUTTING: memcached.cutting,
}


def _pymemcache(host, port):
    with contextlib.closing(_memcache(host, port)) as client:
        client.get("key")


def _memcache(host, port):
    from pymemcache.client.base import Client

    return Client((host, port), timeout=timeout(), connect_timeout=timeout())


def _illegal_key(host, port):
    with contextlib.closing(_memcache(host, port)) as client:
        client.get("a key with spaces")


async def _aiomcache(host, port):
    import aiomcache

    client = aiomcache.Client(host, port)
    try:
        # The library has no time-out of its own: its users do what stands here.
        async with asyncio.timeout(timeout()):
            await client.get(b"key")
    finally:
        await client.close()


async def _illegal_key_async(host, port):
    import aiomcache

    client = aiomcache.Client(host, port)
    try:
        await client.get(b"a key with spaces")
    finally:
        await client.close()


SETUPS = (
    _sync_setup("redis", "redis-py"),
    _async_setup("redis", "redis-py, async"),
    _sync_setup("valkey", "valkey-py"),
    _async_setup("valkey", "valkey-py, async"),
    ClientSetup(
        name="pymemcache",
        distributions=("pymemcache",),
        call=_pymemcache,
        behaviours=_MEMCACHED_BEHAVIOURS,
        outages={"out of memory": memcached.answering(b"SERVER_ERROR out of memory")},
        refusals={
            "bad data": memcached.answering(b"CLIENT_ERROR bad data chunk"),
            "unknown command": memcached.answering(b"ERROR"),
        },
        misuse={"an illegal key": _illegal_key},
    ),
    ClientSetup(
        name="aiomcache",
        distributions=("aiomcache",),
        call=_aiomcache,
        behaviours=_MEMCACHED_BEHAVIOURS,
        outages={"out of memory": memcached.answering(b"SERVER_ERROR out of memory")},
        refusals={"bad data": memcached.answering(b"CLIENT_ERROR bad data chunk")},
        misuse={"an illegal key": _illegal_key_async},
    ),
)
