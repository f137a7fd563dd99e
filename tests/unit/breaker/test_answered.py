"""ANSWERED: a region that refuses a request is up."""

import asyncio

import pytest

from resilience import (
    CircuitBreaker,
    CircuitBreakerOpenError,
    Outcome,
    classify_error,
    classify_status,
)
from resilience.testing import FakeClock, run_in_virtual_time
from tests.support.driving import (
    CLOSED,
    HALF_OPEN,
    HOUR,
    OPEN,
    ServerError,
    answer,
    counters,
    give_way,
    half_open,
    moves,
    raise_in,
    record,
)

CALLERS = 20


class Response:
    def __init__(self, status):
        self.status = status


# A day of refusals after an outage


@pytest.mark.parametrize("status", [404, 401, 429])
def test_a_day_of_refusals_after_an_outage_closes_the_circuit_within_three_answers(status):
    async def day():
        loop = asyncio.get_running_loop()
        breaker = CircuitBreaker("eu-west-1", clock=loop.time)
        answers, rejections = [], 0

        @breaker
        async def look_up():
            await asyncio.sleep(0.05)
            if loop.time() < 60:
                raise ServerError(503)
            answers.append(breaker.circuit.state.name)
            raise ServerError(status)

        async def call_each_minute():
            nonlocal rejections
            while loop.time() < 24 * HOUR:
                try:
                    await look_up()
                except ServerError:
                    await asyncio.sleep(60)
                except CircuitBreakerOpenError as rejection:
                    rejections += 1
                    await asyncio.sleep(rejection.retry_after)

        await asyncio.gather(*(call_each_minute() for _ in range(CALLERS)))
        return breaker, answers, rejections

    breaker, answers, rejections = run_in_virtual_time(day(), FakeClock(), limit=25 * HOUR)
    assert answers[:3] == [HALF_OPEN] * 3
    assert set(answers[3:]) == {CLOSED}
    assert len(answers) > 23 * 60 * CALLERS
    assert rejections < 5 * CALLERS
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.probes, snapshot.trips) == (CLOSED, 3, 1)
    assert snapshot.answered == len(answers)


# In CLOSED


@pytest.mark.parametrize("status", [404, 429])
def test_nine_failures_one_refusal_and_one_failure_open_it(breaker, status):
    raise_in(breaker, ServerError(503), 9)
    raise_in(breaker, ServerError(status), 1)
    assert breaker.snapshot().streak == 9
    raise_in(breaker, ServerError(503), 1)
    assert breaker.state is OPEN


def test_refusals_move_nothing_while_it_is_closed(breaker, log):
    events = record(breaker)
    before = breaker.snapshot()
    raise_in(breaker, ServerError(404), 1_000)
    assert counters(breaker) == {"answered": 1_000}
    assert breaker.snapshot().streak == before.streak == 0
    assert (events, log) == ([], [])


# In HALF_OPEN


def test_probes_that_are_refused_close_it_and_say_so(breaker, clock):
    events = record(breaker)
    half_open(breaker, clock)
    raise_in(breaker, ServerError(404), 2)
    assert breaker.state is HALF_OPEN
    raise_in(breaker, ServerError(429), 1)
    assert moves(events)[-1] == (HALF_OPEN, CLOSED)
    assert events[-1].reason == "3 consecutive answers"


def test_a_permit_reports_it_by_hand(breaker, clock):
    half_open(breaker, clock)
    for _ in range(3):
        permit = breaker.acquire()
        permit.answered()
        permit.fail()  # settled already
    assert (breaker.state, breaker.snapshot().answered) == (CLOSED, 3)


def test_a_proxy_that_wants_a_password_proves_nothing_about_the_region(breaker, clock):
    half_open(breaker, clock)
    raise_in(breaker, ServerError(407), 5)
    assert breaker.state is HALF_OPEN
    assert counters(breaker) == {"failures": 10, "ignored": 5, "probes": 5, "trips": 1}


def test_a_group_of_which_one_error_is_a_refusal_is_one(breaker, clock):
    half_open(breaker, clock)
    raise_in(breaker, ExceptionGroup("", [ValueError(), ServerError(404)]), 3)
    assert breaker.state is CLOSED


async def test_a_refusal_that_closes_wakes_every_task_that_waits(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire().answered()
    breaker.acquire().answered()
    last = breaker.acquire()
    waiting = [asyncio.create_task(breaker.wait_until_ready()) for _ in range(3)]
    await give_way()
    assert not any(task.done() for task in waiting)
    last.answered()
    assert await asyncio.gather(*waiting) == [True] * 3


def test_a_nested_call_that_is_refused_reports_nothing_itself(breaker, clock):
    half_open(breaker, clock)
    for _ in range(3):
        with breaker.acquire():
            raise_in(breaker, ServerError(404), 2)
    assert breaker.state is CLOSED
    assert counters(breaker) == {"failures": 10, "successes": 3, "probes": 3, "trips": 1}


# Whatever a classifier says stands


def is_404(outcome):
    return lambda error: outcome if error.status == 404 else classify_error(error)


def test_a_classifier_that_ignores_a_404_keeps_doing_so(clock):
    breaker = CircuitBreaker("eu-west-1", classifier=is_404(Outcome.IGNORED), clock=clock)
    half_open(breaker, clock)
    raise_in(breaker, ServerError(404), 5)
    assert (breaker.state, breaker.snapshot().ignored) == (HALF_OPEN, 5)
    raise_in(breaker, ServerError(403), 3)
    assert breaker.state is CLOSED


def test_a_classifier_that_makes_a_404_a_success_keeps_doing_so(clock):
    breaker = CircuitBreaker("eu-west-1", classifier=is_404(Outcome.SUCCESS), clock=clock)
    raise_in(breaker, ServerError(503), 9)
    raise_in(breaker, ServerError(404), 1)
    assert breaker.snapshot().streak == 0


def test_a_classifier_may_say_answered_of_any_error(clock):
    breaker = CircuitBreaker("eu-west-1", classifier=lambda _: Outcome.ANSWERED, clock=clock)
    raise_in(breaker, ServerError(503), 9)
    assert breaker.classify(KeyError()) is Outcome.ANSWERED
    half_open(breaker, clock)
    raise_in(breaker, KeyError(), 3)
    assert (breaker.state, breaker.snapshot().answered) == (CLOSED, 12)


async def test_a_result_classifier_closes_by_refusals_too(clock):
    breaker = CircuitBreaker("eu-west-1", result_classifier=classify_status, clock=clock)
    half_open(breaker, clock)
    for _ in range(3):
        await breaker.call(answer, Response(404))
    assert (breaker.state, breaker.snapshot().answered) == (CLOSED, 3)
