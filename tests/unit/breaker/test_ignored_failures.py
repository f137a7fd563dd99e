"""Failures whose cause is known not to be the region: they are seen, and do not count."""

import contextlib

import pytest

from resilience import CircuitBreaker, Outcome
from resilience.scope import watch_outcomes
from tests.support.driving import CLOSED, HALF_OPEN, ServerError, half_open


def fail_by_call(breaker):
    async def call():
        raise ServerError

    with contextlib.suppress(ServerError):
        next(iter(breaker.call(call).__await__()), None)


def fail_by_function(breaker):
    @breaker
    def call():
        raise ServerError

    with contextlib.suppress(ServerError):
        call()


def fail_by_permit(breaker):
    breaker.acquire().fail(ServerError())


def fail_by_attempt(breaker):
    permit = breaker.acquire()
    permit.attempt_failed(ServerError())
    permit.fail(ServerError())


@pytest.mark.parametrize("fail", [fail_by_call, fail_by_function, fail_by_permit, fail_by_attempt])
def test_they_leave_the_streak_as_it_is(breaker, fail):
    for _ in range(20):
        with watch_outcomes(ignore_failures=True):
            fail(breaker)
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.streak, snapshot.failures) == (CLOSED, 0, 0)
    assert snapshot.ignored >= 20


def test_a_probe_gives_its_place_back(breaker, clock):
    half_open(breaker, clock)
    with watch_outcomes(ignore_failures=True):
        fail_by_function(breaker)
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.ignored_probes) == (HALF_OPEN, 1)
    assert snapshot.ignored_reasons == ("ServerError 503",)
    breaker.acquire().succeed()


def test_they_are_recorded_as_failures_for_those_who_watch(breaker):
    error = ServerError()

    @breaker
    def call():
        raise error

    with watch_outcomes(ignore_failures=True) as outcomes:
        with contextlib.suppress(ServerError):
            call()
        assert outcomes.outcome_of(error) is Outcome.FAILURE


def test_successes_count(breaker, clock):
    half_open(breaker, clock)
    with watch_outcomes(ignore_failures=True):
        for _ in range(breaker.policy.success_threshold):
            breaker.acquire().succeed()
    assert breaker.state is CLOSED


def test_other_failures_count_as_before(breaker):
    with watch_outcomes():
        fail_by_function(breaker)
    fail_by_function(breaker)
    assert breaker.snapshot().streak == 2


def test_a_failure_that_the_block_reports_itself_is_recorded_as_a_failure(breaker):
    error = ServerError()
    with watch_outcomes(ignore_failures=True) as outcomes:
        with contextlib.suppress(ServerError), breaker.acquire() as permit:
            permit.fail(error)
            raise error
        assert outcomes.outcome_of(error) is Outcome.FAILURE
    assert (breaker.snapshot().failures, breaker.snapshot().ignored) == (0, 1)


def test_a_result_that_counts_as_a_failure_is_ignored_as_well():
    breaker = CircuitBreaker("eu", result_classifier=lambda _: Outcome.FAILURE)
    call = breaker(lambda: "503")
    with watch_outcomes(ignore_failures=True):
        call()
    call()
    assert (breaker.snapshot().failures, breaker.snapshot().ignored) == (1, 1)
