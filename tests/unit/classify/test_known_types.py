"""Errors that are known by their type only, and what is found by a name."""

import asyncio
import socket

import aio_pika.exceptions
import anyio
import httpcore
import pytest
import redis
import trio
import valkey

from resilience import classify_error
from resilience.classify.libraries import LIBRARIES
from resilience.classify.library import Meaning
from tests.support.classifying import ANSWERED, FAILURE, IGNORED, error_of, type_of

OUTCOMES = {
    Meaning.OUTAGE: FAILURE,
    Meaning.WRAPPER: FAILURE,
    Meaning.REFUSAL: ANSWERED,
    Meaning.THROTTLING: ANSWERED,
    Meaning.MISUSE: IGNORED,
    Meaning.LOCAL: IGNORED,
}
NAMED = [
    pytest.param(f"{package}.{name}", OUTCOMES[meaning], id=f"{package}.{name}")
    for library in LIBRARIES
    for package in library.packages
    for name, meaning in library.types().items()
]


@pytest.mark.parametrize(("name", "outcome"), NAMED)
def test_a_type_is_found_by_its_package_and_name_in_any_of_its_modules(name, outcome):
    package, _, own = name.rpartition(".")
    for module in (package, f"{package}.errors", f"{package}._private.base"):
        kind = type_of(f"{module}.{own}")
        assert classify_error(kind("a message")) is outcome
        derived = type("Derived", (kind,), {})
        assert classify_error(derived("a message")) is outcome


@pytest.mark.parametrize("name", sorted({name.values[0].rpartition(".")[2] for name in NAMED}))
def test_a_class_that_only_has_such_a_name_is_not(name):
    for module in ("app.errors", "__main__", "my_redis", "redisx.exceptions", "app.redis"):
        assert classify_error(type_of(f"{module}.{name}")("a message")) is IGNORED


@pytest.mark.parametrize("module", [None, 7, b"redis", "", ".", "redis..exceptions"])
def test_a_module_that_is_not_a_name_is_survived(module):
    kind = type("MyError", (Exception,), {"__module__": module})
    assert classify_error(kind()) is IGNORED


REAL = [
    (redis.ConnectionError("Error 111 connecting to localhost:6379. Refused."), FAILURE),
    (redis.TimeoutError("Timeout reading from socket"), FAILURE),
    (redis.BusyLoadingError("Redis is loading the dataset in memory"), FAILURE),
    (redis.AuthenticationError("invalid password"), ANSWERED),
    (redis.ResponseError("WRONGTYPE Operation against a key"), ANSWERED),
    (redis.DataError("Invalid input of type"), IGNORED),
    (redis.exceptions.MaxConnectionsError("Too many connections"), IGNORED),
    (redis.ConnectionError("No connection available."), IGNORED),
    (redis.WatchError(), IGNORED),
    (valkey.ConnectionError("Connection closed by server."), FAILURE),
    (valkey.ResponseError("unknown command"), ANSWERED),
    (aio_pika.exceptions.AMQPConnectionError("refused"), FAILURE),
    (aio_pika.exceptions.ProbableAuthenticationError("refused"), ANSWERED),
    (aio_pika.exceptions.ChannelNotFoundEntity("no queue"), ANSWERED),
    (aio_pika.exceptions.QueueEmpty(), IGNORED),
    (httpcore.ConnectError("refused"), FAILURE),
    (httpcore.ReadTimeout("slow"), FAILURE),
    (httpcore.RemoteProtocolError("cut"), FAILURE),
    (httpcore.PoolTimeout("full"), IGNORED),
    (httpcore.LocalProtocolError("bad header"), IGNORED),
    (trio.BrokenResourceError(), FAILURE),
    (trio.TooSlowError(), FAILURE),
    (trio.ClosedResourceError(), IGNORED),
    (anyio.EndOfStream(), FAILURE),
    (anyio.BrokenResourceError(), FAILURE),
    (anyio.ClosedResourceError(), IGNORED),
    (asyncio.IncompleteReadError(b"", 7), FAILURE),
    (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), FAILURE),
]


@pytest.mark.parametrize(("error", "outcome"), REAL, ids=lambda value: type(value).__qualname__)
def test_real_errors_of_real_libraries(error, outcome):
    assert classify_error(error) is outcome


# The data itself


def test_a_package_belongs_to_one_library():
    packages = [package for library in LIBRARIES for package in library.packages]
    assert sorted(packages) == sorted(set(packages))


def test_a_name_is_unique():
    names = [library.name for library in LIBRARIES]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_each_type_has_one_meaning(library):
    groups = (library.outages, library.wrappers, library.refusals)
    groups += (library.throttling, library.misuse, library.local)
    named = [name for group in groups for name in group]
    assert sorted(named) == sorted(set(named))


def test_the_fork_of_a_library_is_judged_as_it_is():
    assert classify_error(error_of("httpx2.ConnectTimeout", "slow")) is IGNORED
    base = type_of("httpx2.TimeoutException")
    assert classify_error(type_of("httpx2.ConnectTimeout", base)("slow")) is FAILURE
    base = type_of("niquests.exceptions.ConnectionError")
    assert classify_error(type_of("niquests.exceptions.ProxyError", base)("no")) is FAILURE
