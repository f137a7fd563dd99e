"""Permits: settled once, by hand or by a `with` block, attempt by attempt if need be."""

import asyncio

import pytest

from resilience import BreakerPolicy, CircuitBreaker, Permit
from tests.support.driving import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    ServerError,
    admits,
    answer,
    counters,
    give_way,
    half_open,
    raise_,
    record,
    rejection,
)

# Permits


def test_a_permit_is_settled_once(breaker):
    permit = breaker.acquire()
    permit.fail()
    permit.fail()
    permit.succeed()
    permit.ignore()
    assert counters(breaker) == {"failures": 1}
    assert breaker.snapshot().streak == 1


def test_a_probe_settled_twice_frees_one_place(two_probes, clock):
    half_open(two_probes, clock)
    first = two_probes.acquire()
    two_probes.acquire()
    first.ignore()
    first.ignore()
    two_probes.acquire()
    assert not admits(two_probes)


def test_fail_without_an_error_was_reported_by_the_caller(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    breaker.acquire().fail()
    assert breaker.snapshot().reason == "reported by the caller"
    assert rejection(breaker).reason == "reported by the caller"


def test_a_with_block_counts_its_success(breaker):
    with breaker.acquire() as permit:
        assert isinstance(permit, Permit)
        assert counters(breaker) == {}
    assert counters(breaker) == {"successes": 1}


def test_a_with_block_asks_the_classifier_and_passes_the_error_on(breaker):
    for error in (
        *(ServerError(503), TimeoutError()),
        *(ServerError(404), ServerError(429)),
        *(ServerError(407), ValueError("a bug")),
    ):
        with pytest.raises(type(error)) as caught, breaker.acquire():
            raise error
        assert caught.value is error
    assert counters(breaker) == {"failures": 2, "answered": 2, "ignored": 2}


@pytest.mark.parametrize(
    "leaving", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]
)
def test_a_with_block_left_by_a_base_exception_is_ignored(breaker, clock, leaving):
    half_open(breaker, clock)
    with pytest.raises(leaving), breaker.acquire():
        raise leaving
    assert breaker.snapshot().ignored == 1
    assert admits(breaker)


async def test_a_with_block_works_around_an_await(breaker):
    with breaker.acquire():
        await answer()
    with pytest.raises(ServerError), breaker.acquire():
        await raise_(ServerError())
    assert counters(breaker) == {"successes": 1, "failures": 1}


async def test_a_with_block_that_is_cancelled_gives_its_place_back(breaker, clock):
    half_open(breaker, clock)

    async def probe():
        with breaker.acquire():
            await asyncio.Event().wait()

    task = asyncio.create_task(probe())
    await give_way()
    assert not admits(breaker)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert breaker.state is HALF_OPEN
    assert admits(breaker)


@pytest.mark.parametrize(
    ("report", "counted"),
    [
        ("succeed", "successes"),
        ("fail", "failures"),
        ("answered", "answered"),
        ("ignore", "ignored"),
    ],
)
def test_what_a_with_block_settled_itself_stands(breaker, report, counted):
    with pytest.raises(ServerError), breaker.acquire() as permit:
        getattr(permit, report)()
        raise ServerError
    with breaker.acquire() as permit:
        getattr(permit, report)()
    assert counters(breaker) == {counted: 2}


def test_a_settled_permit_cannot_guard_a_block(breaker):
    permit = breaker.acquire()
    permit.succeed()
    with pytest.raises(RuntimeError), permit:
        pytest.fail("the block must not run")
    assert counters(breaker) == {"successes": 1}


def test_a_permit_cannot_guard_two_blocks(breaker):
    permit = breaker.acquire()
    with permit:
        pass
    with pytest.raises(RuntimeError), permit:
        pytest.fail("the block must not run")


# Failed attempts


def test_failed_attempts_count_when_they_happen(breaker):
    permit = breaker.acquire()
    for expected in (1, 2, 3):
        permit.attempt_failed(ServerError())
        assert breaker.snapshot().streak == expected
    assert breaker.state is CLOSED


def test_the_final_failure_of_counted_attempts_is_not_counted_again(breaker):
    error = ServerError()
    with pytest.raises(ServerError), breaker.acquire() as permit:
        for _ in range(3):
            permit.attempt_failed(error)
        raise error
    assert breaker.snapshot().streak == 3
    assert breaker.snapshot().failures == 3


def test_a_final_success_ends_the_streak_of_attempts(breaker):
    with breaker.acquire() as permit:
        permit.attempt_failed(ServerError())
        permit.attempt_failed(ServerError())
    assert breaker.snapshot().streak == 0
    assert breaker.snapshot().successes == 1


def test_attempts_trip_the_circuit_in_the_middle_of_a_call(breaker):
    events = record(breaker)
    permit = breaker.acquire()
    for _ in range(10):
        permit.attempt_failed(ServerError(502))
    assert (breaker.state, breaker.snapshot().reason) == (OPEN, "ServerError 502")
    permit.attempt_failed(ServerError())
    permit.succeed()
    assert breaker.state is OPEN
    assert len(events) == 1


def test_a_failed_attempt_of_a_probe_reopens_the_circuit(breaker, clock):
    half_open(breaker, clock)
    probe = breaker.acquire()
    probe.attempt_failed(ServerError())
    assert (breaker.state, breaker.retry_after) == (OPEN, 60.0)
    probe.succeed()
    assert breaker.state is OPEN


def test_a_failed_attempt_after_settling_changes_nothing(breaker):
    permit = breaker.acquire()
    permit.succeed()
    permit.attempt_failed(ServerError())
    assert breaker.snapshot().streak == 0
    assert breaker.snapshot().failures == 0


def test_the_error_for_a_permit_that_is_used_twice_says_what_to_do(breaker):
    permit = breaker.acquire()
    permit.ignore()
    expected = "^this permit is settled: acquire a new one for each call$"
    with pytest.raises(RuntimeError, match=expected), permit:
        pass
