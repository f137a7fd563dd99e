"""`is_transient`: which errors are worth another attempt."""

import asyncio

import aiohttp
import httpx
import pytest
import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerOpenError, CircuitState
from resilience.retry import is_transient, transient_retry
from tests.support.client_errors import caused_by, each_client
from tests.support.driving import ServerError
from tests.support.retrying import Backend, Sleeps, state_after


@each_client
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_server_errors_408_and_429_are_transient(client, status):
    assert is_transient(client(status)) is True
    assert is_transient(state_after(client(status))) is True


@each_client
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 499])
def test_no_other_4xx_is_transient(client, status):
    assert is_transient(client(status)) is False
    assert is_transient(state_after(client(status))) is False


TRANSIENT = [
    TimeoutError(),
    ConnectionResetError(),
    ConnectionRefusedError(),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ClientPayloadError(),
    aiohttp.ServerTimeoutError(),
    httpx.ConnectError(""),
    httpx.ReadTimeout(""),
    httpx.RemoteProtocolError(""),
    requests.ConnectionError(),
    requests.ReadTimeout(),
    ServerError(0),
    caused_by(TimeoutError()),
    caused_by(ServerError(429)),
    caused_by(ServerError(408)),
    ExceptionGroup("", [KeyError(), TimeoutError()]),
]
NOT_TRANSIENT = [
    KeyError(),
    ValueError(),
    OSError(24, "too many open files"),
    FileNotFoundError(),
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    SystemExit(),
    GeneratorExit(),
    BaseExceptionGroup("", [asyncio.CancelledError(), TimeoutError()]),
    CircuitBreakerOpenError("eu-west-1", CircuitState.OPEN, "TimeoutError", 60.0),
    caused_by(CircuitBreakerOpenError("eu-west-1", CircuitState.OPEN, "TimeoutError", 60.0)),
    caused_by(ServerError(404)),
    ServerError(410),
    ServerError(425),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_what_is_a_failure_is_transient(error):
    assert is_transient(error) is True
    assert is_transient(state_after(error)) is True


@pytest.mark.parametrize("error", NOT_TRANSIENT, ids=repr)
def test_all_else_is_not_transient(error):
    assert is_transient(error) is False
    assert is_transient(state_after(error)) is False


def test_a_rejection_raised_from_a_failure_is_not_transient():
    error = CircuitBreakerOpenError("eu-west-1", CircuitState.OPEN, "TimeoutError", 60.0)
    error.__cause__ = TimeoutError()
    assert is_transient(error) is False


def test_a_result_is_not_transient():
    assert is_transient(state_after(result=ServerError())) is False


def test_before_the_first_outcome_nothing_is_transient():
    assert not is_transient(RetryCallState(Retrying(), None, (), {}))


def test_what_is_transient_can_be_combined():
    also = is_transient | retry_if_exception_type(KeyError)
    other_way = retry_if_exception_type(KeyError) | is_transient
    both = is_transient & retry_if_exception_type(ServerError)
    for either in (also, other_way):
        assert either(state_after(KeyError()))
        assert either(state_after(ServerError()))
        assert not either(state_after(ValueError()))
    assert both(state_after(ServerError()))
    assert not both(state_after(TimeoutError()))


@pytest.mark.parametrize(
    "error",
    [
        ServerError(401),
        ServerError(404),
        KeyError(),
        CircuitBreakerOpenError("eu-west-1", CircuitState.OPEN),
    ],
    ids=repr,
)
async def test_what_is_not_transient_comes_out_after_one_attempt(error):
    backend = Backend(error)
    with pytest.raises(type(error)):
        await transient_retry()(backend.send)()
    assert backend.attempts == 1


async def test_a_429_never_moves_the_circuit(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    backend, sleeps = Backend(default=lambda: ServerError(429, {"Retry-After": "7"})), Sleeps()
    send = breaker(transient_retry(sleep=sleeps)(backend.send))
    for _ in range(20):
        with pytest.raises(ServerError):
            await send()
    assert (backend.attempts, breaker.state) == (100, CircuitState.CLOSED)
    assert (breaker.snapshot().failures, breaker.snapshot().answered) == (0, 20)
