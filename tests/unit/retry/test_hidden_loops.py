"""The loops of other libraries, made in each call, where no circuit breaker can see them."""

import asyncio
import functools
import subprocess
import sys

import backoff
import pytest
import stamina
import stamina.instrumentation
from loguru import logger
from tenacity import stop_after_attempt

from resilience import CircuitBreakerOpenError, CircuitBreakerRegistry, CircuitState, region_breaker
from resilience.retry import gate, is_transient, transient_retry
from resilience.testing import FakeClock, run_in_virtual_time
from tests.support.driving import ServerError
from tests.support.retrying import Backend


def by_stamina(fn):
    return stamina.retry(on=is_transient, attempts=5, wait_jitter=0)(fn)


def by_backoff(fn):
    return backoff.on_exception(
        backoff.expo, Exception, max_tries=5, giveup=lambda error: not is_transient(error)
    )(fn)


every_library = pytest.mark.parametrize("retry", [by_stamina, by_backoff])


@pytest.fixture(autouse=True)
def quiet():
    stamina.instrumentation.set_on_retry_hooks([])
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.fixture
def warnings():
    lines = []
    number = logger.add(lambda line: lines.append(line.rstrip("\n")), format="{level} {message}")
    yield lines
    logger.remove(number)


# What the how-to says: the circuit breaker below them


@every_library
def test_with_the_circuit_breaker_inside_nothing_is_sent_after_it_has_opened(retry):
    registry, sent = CircuitBreakerRegistry(), []
    circuit = registry.get("eu")

    @retry
    @region_breaker(region_from="region", registry=registry)
    async def send(region):
        sent.append(circuit.state)
        await asyncio.sleep(0.01)
        raise ServerError

    async def start(number):
        await asyncio.sleep(number * 0.005)
        with pytest.raises((ServerError, CircuitBreakerOpenError)):
            await send("eu")

    async def storm():
        await asyncio.gather(*map(start, range(50)))

    run_in_virtual_time(storm(), FakeClock())
    assert circuit.snapshot().trips == 1
    assert set(sent) == {CircuitState.CLOSED}
    assert len(sent) < 20


@every_library
def test_with_the_circuit_breaker_inside_a_rejection_ends_a_plain_loop(breaker, monkeypatch, retry):
    monkeypatch.setattr("time.sleep", lambda _: None)
    backend = Backend()

    def send():
        breaker.force_open("maintenance")
        return backend.answer()

    with pytest.raises(CircuitBreakerOpenError):
        retry(breaker(send))()
    assert backend.attempts == 1


# Over them it cannot stop them, and says so


def protect(breaker, fn):
    return breaker(fn)


def protect_with_a_retry_between(breaker, fn):
    return breaker(transient_retry(attempts=1)(fn))


def protect_with_a_decorator_between(breaker, fn):
    @functools.wraps(fn)
    def logged():
        return fn()

    return breaker(logged)


def protect_with_a_gate_between(breaker, fn):
    return breaker(gate(fn))


WAYS = [
    protect,
    protect_with_a_retry_between,
    protect_with_a_decorator_between,
    protect_with_a_gate_between,
]


@every_library
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["send", "send_plain"])
def test_a_circuit_breaker_above_them_warns(breaker, warnings, retry, way, name):
    way(breaker, retry(getattr(Backend, name).__get__(Backend(default=None))))
    (line,) = warnings
    library = retry.__name__.removeprefix("by_")
    assert line.startswith("WARNING Circuit breaker cannot stop the retries of ")
    assert line.endswith(f": a loop of {library}")


@every_library
async def test_it_warns_once_however_often_it_is_called(breaker, warnings, retry):
    send = retry(Backend(default=None).send)
    for _ in range(3):
        assert await breaker.call(send) == "sent"
    breaker(send)
    assert len(warnings) == 1


@every_library
def test_there_is_no_warning_where_nothing_is_expected_of_the_circuit_breaker(
    breaker, warnings, retry
):
    registry = CircuitBreakerRegistry()
    leave = region_breaker(region_from=lambda: "eu", registry=registry, stop_retries=False)
    left = leave(retry(Backend().send))
    breaker(left)
    retry(breaker(Backend().send))
    breaker(transient_retry(stop=stop_after_attempt(1))(Backend().send))
    assert warnings == []


def test_it_warns_where_tenacity_is_not_imported():
    program = """
import sys
import backoff
from resilience import CircuitBreaker

assert "tenacity" not in sys.modules

@CircuitBreaker("eu-west-1")
@backoff.on_exception(backoff.expo, OSError)
def send(): return "sent"

assert send() == "sent"
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "cannot stop the retries of send: a loop of backoff" in ran.stderr
