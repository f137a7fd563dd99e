"""The retry storm: what 50 tasks with retries send to a region that is down, on virtual time."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest
import tenacity
from tenacity import stop_after_attempt, wait_fixed, wait_none

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    region_breaker,
)
from resilience.retry import gate, is_transient, transient_retry
from resilience.testing import FakeClock, run_in_virtual_time
from tests.support.driving import ServerError
from tests.support.retrying import settle

OPEN, CLOSED = CircuitState.OPEN, CircuitState.CLOSED
TASKS, APART, BACKEND, PAUSE, ATTEMPTS = 50, 0.005, 0.010, 0.020, 5


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", clock=clock)  # ten failures


@dataclass
class Storm:
    started: int = 0
    started_open: int = 0
    results: Counter = field(default_factory=Counter)


async def storm(decorate, breaker):
    """Fifty tasks 5 ms apart against a backend that takes 10 ms to say 503."""
    seen = Storm()

    async def send():
        seen.started += 1
        seen.started_open += breaker.state is not CLOSED
        await asyncio.sleep(BACKEND)
        raise ServerError

    protected = decorate(send)

    async def task(number):
        await asyncio.sleep(number * APART)
        try:
            await protected()
        except Exception as error:
            seen.results[type(error)] += 1

    await asyncio.gather(*(task(number) for number in range(TASKS)))
    return seen


def own(**more):
    return tenacity.retry(
        stop=stop_after_attempt(ATTEMPTS), wait=wait_fixed(PAUSE), reraise=True, **more
    )


def test_without_a_breaker_the_storm_is_250_requests(breaker):
    assert run_in_virtual_time(storm(own(), breaker), FakeClock()).started == 250


def test_retries_that_are_left_as_they_are_go_on_after_the_circuit_opened(clock):
    registry = CircuitBreakerRegistry(clock=clock)

    def decorate(send):
        return region_breaker(
            region_from=lambda: "eu-west-1", registry=registry, stop_retries=False
        )(own()(send))

    seen = run_in_virtual_time(storm(decorate, registry.get("eu-west-1")), FakeClock())
    assert seen.started_open > 40
    assert seen.started > 150


STORMS = {
    "transient_retry": (transient_retry(attempts=ATTEMPTS, wait=wait_fixed(PAUSE)), 130),
    "plain tenacity": (own(), 130),
    "plain tenacity by its own condition": (own(retry=is_transient), 130),
    "gate": (lambda send: gate(own(retry=is_transient)(send)), 130),
    "per attempt": (
        transient_retry(attempts=ATTEMPTS, wait=wait_fixed(PAUSE), count_per="attempt"),
        20,
    ),
}


@pytest.mark.parametrize(("retries", "most"), STORMS.values(), ids=STORMS)
def test_no_request_starts_after_the_circuit_opened(breaker, retries, most):
    seen = run_in_virtual_time(storm(lambda send: breaker(retries(send)), breaker), FakeClock())
    assert seen.started_open == 0
    assert 10 <= seen.started <= most
    assert seen.results.total() == TASKS
    assert set(seen.results) == {ServerError, CircuitBreakerOpenError}
    snapshot = breaker.snapshot()
    assert (snapshot.failures, snapshot.trips) == (10, 1), "a loop that is ended does not fail"


def test_a_policy_of_one_failure_stops_a_storm_immediately(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    retries = transient_retry(attempts=ATTEMPTS, wait=wait_fixed(PAUSE), count_per="attempt")
    seen = run_in_virtual_time(storm(lambda send: breaker(retries(send)), breaker), FakeClock())
    assert seen.started_open == 0
    assert seen.started in (2, 3), "the third task begins in the moment in which the first fails"


def test_an_outage_costs_50_requests_per_call_and_10_per_attempt(clock):
    for count_per, requests in (("call", 50), ("attempt", 10)):
        breaker, made = CircuitBreaker("eu-west-1", clock=clock), []

        def send(made=made):
            made.append(True)
            raise ServerError

        protected = breaker(transient_retry(wait=wait_none(), count_per=count_per)(send))
        while breaker.state is CLOSED:
            with pytest.raises(ServerError):
                protected()
        assert len(made) == requests


def test_an_outage_ends_after_15_seconds_of_backoff_at_least():
    async def main():
        loop = asyncio.get_running_loop()
        breaker = CircuitBreaker("eu-west-1", clock=loop.time)

        @breaker
        @transient_retry()
        async def send():
            raise ServerError

        await asyncio.gather(*(send() for _ in range(10)), return_exceptions=True)
        assert breaker.state is OPEN
        return loop.time()

    assert 15 <= run_in_virtual_time(main(), FakeClock()) <= 19


async def test_fifty_tasks_that_sleep_an_hour_are_released_by_the_circuit(breaker):
    made = []

    @breaker
    @transient_retry(wait=wait_fixed(3600))
    async def send():
        made.append(True)
        raise ServerError

    tasks = [asyncio.create_task(send()) for _ in range(TASKS)]
    await settle()
    assert len(made) == TASKS
    for _ in range(10):
        breaker.acquire().fail()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {CircuitBreakerOpenError}
    assert {type(result.__cause__) for result in results} == {ServerError}
    assert len(made) == TASKS
