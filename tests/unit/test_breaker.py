"""CircuitBreaker by its public face: every rule of the machine, and what a call may do to it."""

import asyncio
import contextlib
import dataclasses
import functools
import gc
import inspect
import json
import random
import threading

import pytest
from freezegun import freeze_time

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitSnapshot,
    CircuitState,
    Outcome,
    Permit,
    classify_error,
    classify_status,
    failures,
)
from resilience.testing import FakeClock

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
HOUR = 3600.0


class ServerError(Exception):
    def __init__(self, status=503):
        super().__init__("Bearer hunter2")
        self.status = status


class Response:
    def __init__(self, status):
        self.status = status


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", clock=clock)


@pytest.fixture
def two_probes(clock):
    return CircuitBreaker("eu-west-1", BreakerPolicy(half_open_probes=2), clock=clock)


def trip(breaker):
    for _ in range(breaker.policy.failure_threshold):
        breaker.acquire().fail(ServerError())


def half_open(breaker, clock):
    """Open the circuit and wait for it to be due, without taking a probe's place."""
    trip(breaker)
    clock.advance(breaker.policy.recovery_timeout)


def close(breaker):
    for _ in range(breaker.policy.success_threshold):
        breaker.acquire().succeed()


def rejection(breaker):
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    return caught.value


def admits(breaker):
    """Tell whether a call would be let in; whatever place it gets is given back."""
    try:
        permit = breaker.acquire()
    except CircuitBreakerOpenError:
        return False
    permit.ignore()
    return True


async def give_way():
    for _ in range(5):
        await asyncio.sleep(0)


async def answer(value="sent"):
    await asyncio.sleep(0)
    return value


async def raise_(error):
    await asyncio.sleep(0)
    raise error


def record(breaker):
    events = []
    breaker.listen(events.append)
    return events


def counters(breaker):
    snapshot = breaker.snapshot()
    names = ("successes", "failures", "ignored", "rejected", "probes", "trips")
    return {name: getattr(snapshot, name) for name in names if getattr(snapshot, name)}


# A new breaker


def test_a_new_breaker_is_closed_and_free_to_call(breaker):
    assert (breaker.region, breaker.state, breaker.retry_after) == ("eu-west-1", CLOSED, 0.0)
    assert breaker.policy == BreakerPolicy()


def test_the_states_are_the_very_words_of_t10():
    assert [str(state) for state in CircuitState] == ["CLOSED", "OPEN", "HALF_OPEN"]
    assert CircuitState("OPEN") == "OPEN"


@pytest.mark.parametrize("region", [None, 5, b"eu-west-1", ["eu-west-1"]])
def test_a_region_that_is_no_text_is_a_type_error(region):
    with pytest.raises(TypeError, match="region"):
        CircuitBreaker(region)


@pytest.mark.parametrize("region", ["", "   ", "\t\n"])
def test_a_region_without_a_name_is_a_value_error(region):
    with pytest.raises(ValueError, match="region"):
        CircuitBreaker(region)


@pytest.mark.parametrize("name", ["classifier", "result_classifier", "clock"])
def test_what_must_be_callable_is_checked_when_given(name):
    with pytest.raises(TypeError, match=name):
        CircuitBreaker("eu-west-1", **{name: 5})


@pytest.mark.parametrize("name", ["classifier", "result_classifier"])
def test_an_async_classifier_is_a_type_error(name):
    async def judge(_):
        return Outcome.FAILURE

    with pytest.raises(TypeError, match=name):
        CircuitBreaker("eu-west-1", **{name: judge})


# CLOSED


def test_nine_failures_leave_the_circuit_closed_and_the_tenth_trips_it(breaker):
    for _ in range(9):
        breaker.acquire().fail(ServerError())
    assert breaker.state is CLOSED
    breaker.acquire().fail(ServerError())
    assert breaker.state is OPEN


def test_a_success_ends_the_streak(breaker):
    for _ in range(9):
        breaker.acquire().fail()
    breaker.acquire().succeed()
    assert breaker.snapshot().streak == 0
    for _ in range(9):
        breaker.acquire().fail()
    assert breaker.state is CLOSED
    assert breaker.snapshot().streak == 9


def test_an_ignored_call_neither_counts_nor_ends_the_streak(breaker):
    for _ in range(9):
        breaker.acquire().fail()
    breaker.acquire().ignore()
    assert (breaker.state, breaker.snapshot().streak) == (CLOSED, 9)
    breaker.acquire().fail()
    assert breaker.state is OPEN


def test_any_number_of_calls_may_run_in_a_closed_circuit(breaker):
    permits = [breaker.acquire() for _ in range(200)]
    for permit in permits:
        permit.succeed()
    assert counters(breaker) == {"successes": 200}


def test_permits_of_a_quiet_closed_circuit_are_settled_one_by_one(breaker):
    first, second = breaker.acquire(), breaker.acquire()
    first.succeed()
    first.succeed()
    second.fail()
    assert counters(breaker) == {"successes": 1, "failures": 1}


# OPEN


def test_an_open_circuit_rejects_until_exactly_the_recovery_timeout(breaker, clock):
    trip(breaker)
    clock.advance(59.75)
    assert rejection(breaker).retry_after == 0.25
    clock.advance(0.25)
    assert isinstance(breaker.acquire(), Permit)


def test_reading_the_state_changes_nothing(breaker, clock):
    trip(breaker)
    events = record(breaker)
    clock.advance(60)
    for _ in range(3):
        assert breaker.state is HALF_OPEN
        assert breaker.retry_after == 0.0
        assert breaker.snapshot().state is HALF_OPEN
    assert events == []
    breaker.acquire()
    assert [(event.old, event.new) for event in events] == [(OPEN, HALF_OPEN)]


def test_retry_after_is_what_is_left_of_the_recovery_timeout(breaker, clock):
    trip(breaker)
    assert breaker.retry_after == 60.0
    clock.advance(45)
    assert breaker.retry_after == 15.0


def test_a_rejection_in_open_says_why_and_for_how_long(breaker, clock):
    trip(breaker)
    clock.advance(20)
    error = rejection(breaker)
    assert (error.region, error.state) == ("eu-west-1", OPEN)
    assert (error.reason, error.retry_after) == ("ServerError 503", 40.0)


def test_each_rejection_is_a_fresh_error_without_a_past(breaker):
    trip(breaker)
    errors = [rejection(breaker) for _ in range(3)]
    assert len({id(error) for error in errors}) == 3
    assert all(error.__cause__ is None for error in errors)
    assert all(error.__context__ is None for error in errors)


def test_rejections_do_not_extend_an_open_circuit(breaker, clock):
    trip(breaker)
    for _ in range(120):
        assert not admits(breaker)
        clock.advance(0.5)
    assert admits(breaker)


@pytest.mark.parametrize(
    "start", [0.0, 0.1, 1 / 3, 1234567.891, 1e9 / 3, 2.0**31 + 0.7, 1.7e9 + 0.1, -5.3, 86399.999999]
)
@pytest.mark.parametrize("timeout", [0.1, 1 / 3, 59.99999999, 60.0])
def test_waiting_for_retry_after_is_always_enough(start, timeout):
    moments = random.Random(17)
    for _ in range(100):
        clock = FakeClock(start + moments.random())
        policy = BreakerPolicy(failure_threshold=1, recovery_timeout=timeout)
        breaker = CircuitBreaker("eu-west-1", policy, clock=clock)
        breaker.acquire().fail()
        clock.advance(moments.random() * timeout * 0.9)
        error = rejection(breaker)
        assert 0 < error.retry_after <= timeout * (1 + 1e-6)
        clock.advance(error.retry_after)
        assert breaker.state is HALF_OPEN
        breaker.acquire()


@pytest.mark.parametrize("start", [0.0, 0.1, 1234567.891, 1e9 / 3, -5.3])
def test_waiting_for_the_rest_of_a_lease_is_always_enough(start):
    moments = random.Random(18)
    for _ in range(100):
        clock = FakeClock(start + moments.random())
        policy = BreakerPolicy(failure_threshold=1, recovery_timeout=1.0, probe_timeout=0.7)
        breaker = CircuitBreaker("eu-west-1", policy, clock=clock)
        breaker.acquire().fail()
        clock.advance(1.5)
        breaker.acquire()
        clock.advance(moments.random() * 0.6)
        clock.advance(rejection(breaker).retry_after)
        breaker.acquire()


# HALF_OPEN


def test_one_probe_at_a_time(breaker, clock):
    half_open(breaker, clock)
    probe = breaker.acquire()
    assert not admits(breaker)
    probe.succeed()
    assert admits(breaker)


def test_three_consecutive_successes_close_the_circuit(breaker, clock):
    half_open(breaker, clock)
    for expected in (HALF_OPEN, HALF_OPEN, CLOSED):
        breaker.acquire().succeed()
        assert breaker.state is expected
    assert (breaker.retry_after, breaker.snapshot().streak) == (0.0, 0)


def test_an_ignored_probe_gives_its_place_back_and_keeps_the_successes(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire().succeed()
    breaker.acquire().succeed()
    breaker.acquire().ignore()
    assert breaker.state is HALF_OPEN
    breaker.acquire().succeed()
    assert breaker.state is CLOSED


def test_one_failure_reopens_for_a_full_fresh_recovery_timeout(breaker, clock):
    half_open(breaker, clock)
    clock.advance(7)
    breaker.acquire().succeed()
    breaker.acquire().succeed()
    clock.advance(5)
    breaker.acquire().fail(ServerError(500))
    assert (breaker.state, breaker.retry_after) == (OPEN, 60.0)
    assert rejection(breaker).reason == "ServerError 500"


def test_successes_before_a_reopening_do_not_count_afterwards(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire().succeed()
    breaker.acquire().succeed()
    breaker.acquire().fail()
    clock.advance(60)
    breaker.acquire().succeed()
    assert breaker.state is HALF_OPEN


def test_as_many_probes_as_the_policy_allows_and_no_more(two_probes, clock):
    half_open(two_probes, clock)
    first = two_probes.acquire()
    two_probes.acquire()
    assert not admits(two_probes)
    first.ignore()
    two_probes.acquire()
    assert not admits(two_probes)


def test_retry_after_with_the_places_taken_is_one_second_at_most(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire()
    error = rejection(breaker)
    assert (error.state, error.retry_after, error.reason) == (HALF_OPEN, 1.0, "ServerError 503")
    assert breaker.retry_after == 1.0
    clock.advance(59.75)
    assert (rejection(breaker).retry_after, breaker.retry_after) == (0.25, 0.25)


def test_retry_after_follows_the_lease_that_ends_first(two_probes, clock):
    half_open(two_probes, clock)
    two_probes.acquire()
    clock.advance(30)
    two_probes.acquire()
    clock.advance(29.75)
    assert (two_probes.retry_after, rejection(two_probes).retry_after) == (0.25, 0.25)
    clock.advance(0.25)
    assert two_probes.retry_after == 0.0


def test_probes_still_out_when_the_circuit_closes_have_nothing_more_to_say(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(half_open_probes=5), clock=clock)
    half_open(breaker, clock)
    probes = [breaker.acquire() for _ in range(5)]
    for probe in probes[:3]:
        probe.succeed()
    assert breaker.state is CLOSED
    probes[3].fail()
    probes[4].succeed()
    assert counters(breaker) == {"successes": 3, "failures": 10, "probes": 5, "trips": 1}
    assert breaker.snapshot().streak == 0


def test_retry_after_with_a_free_place_is_zero(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire().succeed()
    assert (breaker.state, breaker.retry_after) == (HALF_OPEN, 0.0)


# Leases


def test_a_lease_ends_inclusively_and_the_next_caller_gets_the_place(breaker, clock, log):
    half_open(breaker, clock)
    breaker.acquire()
    clock.advance(59.75)
    assert not admits(breaker)
    clock.advance(0.25)
    log.clear()
    breaker.acquire()
    assert [entry["level"].name for entry in log] == ["WARNING"]
    assert "eu-west-1" in log[0]["message"]
    assert not admits(breaker)


def test_the_old_permit_of_a_taken_place_changes_nothing(breaker, clock):
    half_open(breaker, clock)
    hung = breaker.acquire()
    clock.advance(60)
    breaker.acquire()
    before = breaker.snapshot()
    hung.fail(ServerError())
    assert breaker.snapshot() == before
    assert not admits(breaker)


def test_a_slow_probe_still_counts_while_nobody_took_its_place(breaker, clock):
    half_open(breaker, clock)
    slow = breaker.acquire()
    clock.advance(500)
    slow.fail(ServerError())
    assert (breaker.state, breaker.retry_after) == (OPEN, 60.0)


def test_a_slow_success_still_counts_while_nobody_took_its_place(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(success_threshold=1), clock=clock)
    half_open(breaker, clock)
    slow = breaker.acquire()
    clock.advance(500)
    slow.succeed()
    assert breaker.state is CLOSED


def test_a_lease_that_ran_out_leaves_its_siblings_alone(two_probes, clock):
    half_open(two_probes, clock)
    hung = two_probes.acquire()
    clock.advance(30)
    sibling = two_probes.acquire()
    clock.advance(30)
    replacement = two_probes.acquire()
    assert not admits(two_probes)
    hung.succeed()
    assert not admits(two_probes)
    sibling.succeed()
    replacement.succeed()
    assert two_probes.state is HALF_OPEN
    two_probes.acquire().succeed()
    assert two_probes.state is CLOSED


def test_a_caller_takes_one_overdue_place_and_the_other_probe_still_counts(two_probes, clock):
    half_open(two_probes, clock)
    oldest = two_probes.acquire()
    clock.advance(1)
    overdue = two_probes.acquire()
    clock.advance(500)
    two_probes.acquire()
    oldest.fail()
    assert two_probes.state is HALF_OPEN
    overdue.fail()
    assert two_probes.state is OPEN


def test_a_lease_is_the_probes_own_and_each_runs_from_its_own_start(two_probes, clock):
    half_open(two_probes, clock)
    two_probes.acquire()
    clock.advance(40)
    two_probes.acquire()
    clock.advance(20)
    two_probes.acquire()
    clock.advance(39.75)
    assert not admits(two_probes)
    clock.advance(0.25)
    assert admits(two_probes)


def test_hung_probes_never_wedge_the_circuit(breaker, clock):
    half_open(breaker, clock)
    for _ in range(50):
        breaker.acquire()
        assert not admits(breaker)
        clock.advance(60)
    close(breaker)
    assert breaker.state is CLOSED


# Late results


def old_permit(breaker):
    """Give a permit of CLOSED after the circuit has opened."""
    permit = breaker.acquire()
    trip(breaker)
    return permit


REPORTS = [
    pytest.param(lambda permit: permit.succeed(), id="succeed"),
    pytest.param(lambda permit: permit.fail(ServerError(500)), id="fail"),
    pytest.param(lambda permit: permit.ignore(), id="ignore"),
    pytest.param(lambda permit: permit.attempt_failed(ServerError(500)), id="attempt_failed"),
]


def assert_no_effect(breaker, permit, report):
    before, events = breaker.snapshot(), record(breaker)
    report(permit)
    assert breaker.snapshot() == before
    assert events == []


@pytest.mark.parametrize("report", REPORTS)
def test_a_late_result_changes_nothing_in_open(breaker, clock, report):
    permit = old_permit(breaker)
    clock.advance(30)
    assert_no_effect(breaker, permit, report)
    assert breaker.retry_after == 30.0


@pytest.mark.parametrize("report", REPORTS)
def test_a_late_result_changes_nothing_in_half_open(breaker, clock, report):
    permit = old_permit(breaker)
    clock.advance(60)
    breaker.acquire().succeed()
    breaker.acquire().succeed()
    probe = breaker.acquire()
    assert_no_effect(breaker, permit, report)
    assert not admits(breaker)
    probe.succeed()
    assert breaker.state is CLOSED


@pytest.mark.parametrize("report", REPORTS)
def test_a_late_result_changes_nothing_in_a_circuit_that_is_due(breaker, clock, report):
    permit = old_permit(breaker)
    clock.advance(60)
    assert_no_effect(breaker, permit, report)


@pytest.mark.parametrize("report", REPORTS)
def test_a_late_result_changes_nothing_in_a_new_closed(breaker, clock, report):
    permit = old_permit(breaker)
    clock.advance(60)
    close(breaker)
    for _ in range(9):
        breaker.acquire().fail()
    assert_no_effect(breaker, permit, report)
    assert breaker.snapshot().streak == 9


@pytest.mark.parametrize("report", REPORTS)
def test_a_late_result_changes_nothing_after_a_reset_of_a_closed_circuit(breaker, report):
    permit = breaker.acquire()
    breaker.reset()
    for _ in range(9):
        breaker.acquire().fail()
    assert_no_effect(breaker, permit, report)


@pytest.mark.parametrize("report", REPORTS)
def test_a_late_result_changes_nothing_after_a_reset_of_an_open_circuit(breaker, report):
    permit = old_permit(breaker)
    breaker.reset()
    assert_no_effect(breaker, permit, report)


@pytest.mark.parametrize("report", REPORTS)
def test_a_late_result_changes_nothing_after_force_open(breaker, report):
    permit = breaker.acquire()
    breaker.force_open("maintenance")
    assert_no_effect(breaker, permit, report)


@pytest.mark.parametrize("report", REPORTS)
def test_a_late_probe_changes_nothing_in_the_next_half_open(two_probes, clock, report):
    half_open(two_probes, clock)
    late, failing = two_probes.acquire(), two_probes.acquire()
    failing.fail()
    assert_no_effect(two_probes, late, report)
    clock.advance(60)
    two_probes.acquire()
    two_probes.acquire()
    assert_no_effect(two_probes, late, report)
    assert not admits(two_probes)


@pytest.mark.parametrize("report", REPORTS)
def test_a_late_probe_changes_nothing_after_a_reset(breaker, clock, report):
    half_open(breaker, clock)
    probe = breaker.acquire()
    breaker.reset()
    assert_no_effect(breaker, probe, report)


LATER = {
    "open": lambda breaker, _: trip(breaker),
    "due": half_open,
    "half-open": lambda breaker, clock: (half_open(breaker, clock), breaker.acquire()),
    "closed-again": lambda breaker, clock: (
        half_open(breaker, clock),
        close(breaker),
        breaker.acquire().fail(),
    ),
    "reset": lambda breaker, clock: (breaker.reset(), breaker.acquire().fail()),
    "reset-and-quiet": lambda breaker, clock: breaker.reset(),
    "forced": lambda breaker, clock: breaker.force_open("maintenance"),
}


@pytest.mark.parametrize("error", [None, ServerError(500), ServerError(404)], ids=repr)
@pytest.mark.parametrize("later", LATER)
def test_a_decorated_call_that_ends_late_changes_nothing(breaker, clock, later, error):
    before = []

    @breaker
    def send():
        LATER[later](breaker, clock)
        before.append(breaker.snapshot())
        if error:
            raise error

    with contextlib.suppress(ServerError):
        send()
    assert breaker.snapshot() == before[0]


@pytest.mark.parametrize("error", [None, ServerError(500), ServerError(404)], ids=repr)
@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("way", ["decorator", "call"])
async def test_an_awaited_call_that_ends_late_changes_nothing(breaker, clock, later, error, way):
    before = []

    async def send():
        await asyncio.sleep(0)
        LATER[later](breaker, clock)
        before.append(breaker.snapshot())
        if error:
            raise error

    with contextlib.suppress(ServerError):
        await (breaker(send)() if way == "decorator" else breaker.call(send))
    assert breaker.snapshot() == before[0]


def test_fifty_failures_in_flight_open_the_circuit_once(breaker):
    permits = [breaker.acquire() for _ in range(50)]
    events = record(breaker)
    for permit in permits:
        permit.fail(ServerError())
    assert [(event.old, event.new) for event in events] == [(CLOSED, OPEN)]
    assert counters(breaker) == {"failures": 10, "trips": 1}


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
    for error in (ServerError(503), ServerError(404), TimeoutError(), ValueError("a bug")):
        with pytest.raises(type(error)) as caught, breaker.acquire():
            raise error
        assert caught.value is error
    assert counters(breaker) == {"failures": 2, "ignored": 2}


@pytest.mark.parametrize(
    "leaving", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]
)
def test_a_with_block_left_by_what_is_no_exception_is_ignored(breaker, clock, leaving):
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
    [("succeed", "successes"), ("fail", "failures"), ("ignore", "ignored")],
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


# call, and the breaker as a decorator


async def test_call_passes_arguments_and_result(breaker):
    async def add(first, second, *, third):
        return first + second + third

    assert await breaker.call(add, 1, 2, third=3) == 6
    assert counters(breaker) == {"successes": 1}


async def test_call_tracks_a_function_that_returns_an_awaitable(breaker):
    assert await breaker.call(lambda: answer("late")) == "late"
    with pytest.raises(ServerError):
        await breaker.call(lambda: raise_(ServerError()))
    assert counters(breaker) == {"successes": 1, "failures": 1}


async def test_call_tracks_a_function_that_raises_before_it_returns_an_awaitable(breaker):
    def refuse():
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        await breaker.call(refuse)
    assert counters(breaker) == {"failures": 1}


async def test_the_call_that_trips_the_circuit_raises_its_own_error(breaker):
    raised = []
    for _ in range(10):
        error = ServerError()
        with pytest.raises(ServerError) as caught:
            await breaker.call(raise_, error)
        raised.append(caught.value is error)
    assert raised == [True] * 10
    assert breaker.state is OPEN
    with pytest.raises(CircuitBreakerOpenError):
        await breaker.call(answer)


async def test_a_rejected_call_does_not_run_the_function(breaker):
    trip(breaker)
    ran = []
    with pytest.raises(CircuitBreakerOpenError):
        await breaker.call(ran.append, 1)
    assert ran == []
    assert counters(breaker) == {"failures": 10, "rejected": 1, "trips": 1}


async def test_a_probe_that_fails_raises_its_own_error(breaker, clock):
    half_open(breaker, clock)
    error = ServerError()
    with pytest.raises(ServerError) as caught:
        await breaker.call(raise_, error)
    assert caught.value is error
    assert breaker.state is OPEN


async def test_a_cancelled_probe_gives_its_place_back(breaker, clock):
    half_open(breaker, clock)
    task = asyncio.create_task(breaker.call(asyncio.Event().wait))
    await give_way()
    assert not admits(breaker)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert breaker.state is HALF_OPEN
    for _ in range(3):
        await breaker.call(answer)
    assert breaker.state is CLOSED


async def test_a_probe_cancelled_before_it_started_gives_its_place_back(breaker, clock):
    half_open(breaker, clock)
    task = asyncio.create_task(breaker.call(answer))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert admits(breaker)


async def test_a_call_that_is_never_awaited_takes_no_place(breaker, clock):
    half_open(breaker, clock)
    breaker.call(answer).close()
    assert admits(breaker)


async def test_an_awaitable_that_is_dropped_unawaited_gives_its_place_back(breaker, clock):
    class Answer:
        def __await__(self):
            yield

    half_open(breaker, clock)
    dropped = breaker(lambda *_: Answer())()
    if inspect.iscoroutine(dropped):
        dropped.close()
    del dropped
    gc.collect()
    assert admits(breaker)


@pytest.mark.parametrize("wrong", [5, None, lambda: 5], ids=["number", "none", "no-awaitable"])
async def test_a_call_of_what_cannot_be_awaited_holds_no_place(breaker, clock, wrong):
    half_open(breaker, clock)
    with contextlib.suppress(TypeError):
        await breaker.call(wrong)
    assert admits(breaker)


async def test_a_future_that_a_plain_function_returns_is_tracked(breaker):
    future = asyncio.get_running_loop().create_future()
    future.set_exception(ServerError())
    with pytest.raises(ServerError):
        await breaker(lambda: future)()
    assert counters(breaker) == {"failures": 1}


async def test_a_timeout_around_the_call_is_a_cancellation_and_ignored(breaker):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await breaker.call(asyncio.Event().wait)
    assert counters(breaker) == {"ignored": 1}


async def test_a_timeout_inside_the_call_is_a_failure(breaker):
    async def impatient():
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await breaker.call(impatient)
    assert counters(breaker) == {"failures": 1}


async def test_a_hung_probe_is_replaced_when_its_lease_ends(breaker, clock):
    half_open(breaker, clock)
    hung = asyncio.create_task(breaker.call(asyncio.Event().wait))
    await give_way()
    clock.advance(60)
    for _ in range(3):
        await breaker.call(answer)
    assert breaker.state is CLOSED
    hung.cancel()
    await asyncio.gather(hung, return_exceptions=True)
    assert breaker.snapshot().ignored == 0


async def test_a_rejection_by_an_inner_breaker_is_ignored_by_the_outer(breaker, clock):
    inner = CircuitBreaker("inner", clock=clock)
    trip(inner)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await breaker.call(inner.call, answer)
    assert caught.value.region == "inner"
    assert counters(breaker) == {"ignored": 1}


async def test_a_rejection_never_reaches_the_classifier(clock):
    asked = []

    def judge(error):
        asked.append(error)
        return Outcome.FAILURE

    inner = CircuitBreaker("inner", clock=clock)
    inner.force_open("by hand")
    breaker = CircuitBreaker("outer", classifier=judge, clock=clock)
    with pytest.raises(CircuitBreakerOpenError):
        await breaker.call(inner.call, answer)
    with pytest.raises(KeyboardInterrupt), breaker.acquire():
        raise KeyboardInterrupt
    assert asked == []
    assert counters(breaker) == {"ignored": 2}


async def test_the_breaker_decorates_a_coroutine_function(breaker):
    @breaker
    async def send(message, *, to="x"):
        """Send it."""
        return (message, to)

    assert inspect.iscoroutinefunction(send)
    assert (send.__name__, send.__doc__) == ("send", "Send it.")
    assert list(inspect.signature(send).parameters) == ["message", "to"]
    assert await send("hello", to="y") == ("hello", "y")
    breaker.force_open("by hand")
    with pytest.raises(CircuitBreakerOpenError):
        await send("hello")
    assert counters(breaker) == {"successes": 1, "rejected": 1}


def test_the_breaker_decorates_a_plain_function(breaker):
    @breaker
    def send(error=None):
        if error:
            raise error
        return "sent"

    assert not inspect.iscoroutinefunction(send)
    assert send() == "sent"
    for error in (ServerError(), ServerError(404)):
        with pytest.raises(ServerError) as caught:
            send(error)
        assert caught.value is error
    assert counters(breaker) == {"successes": 1, "failures": 1, "ignored": 1}


async def test_the_breaker_tracks_a_plain_function_that_returns_an_awaitable(breaker):
    @breaker
    def send(error):
        return raise_(error)

    with pytest.raises(ServerError):
        await send(ServerError())
    assert counters(breaker) == {"failures": 1}


async def test_the_breaker_decorates_a_method(breaker):
    class Client:
        @breaker
        async def send(self, message):
            return self, message

    client = Client()
    assert await client.send("hello") == (client, "hello")


async def test_the_breaker_decorates_a_partial(breaker):
    send = breaker(functools.partial(answer, "bound"))
    assert await send() == "bound"
    assert counters(breaker) == {"successes": 1}


@pytest.mark.parametrize("wrong", [5, None, "send", int])
def test_the_breaker_decorates_functions_only(breaker, wrong):
    with pytest.raises(TypeError):
        breaker(wrong)


def test_the_breaker_refuses_generators(breaker):
    async def stream():
        yield 1

    def rows():
        yield 1

    for generator in (stream, rows):
        with pytest.raises(TypeError, match="acquire"):
            breaker(generator)


# Classifiers


async def test_the_classifier_decides_and_is_asked_once(clock):
    asked = []

    def judge(error):
        asked.append(error)
        return Outcome.SUCCESS if isinstance(error, KeyError) else Outcome.FAILURE

    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    for error in (KeyError("a"), ValueError("b")):
        with pytest.raises(type(error)):
            await breaker.call(raise_, error)
    assert len(asked) == 2
    assert counters(breaker) == {"successes": 1, "failures": 1}


async def test_the_classifier_is_not_asked_about_a_success(clock):
    def judge(error):
        pytest.fail("nobody may ask")

    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    assert await breaker.call(answer) == "sent"


async def test_failures_makes_a_type_count(clock):
    breaker = CircuitBreaker("eu-west-1", classifier=failures(ValueError), clock=clock)
    for error in (ValueError(), ServerError(), KeyError()):
        with pytest.raises(type(error)):
            await breaker.call(raise_, error)
    assert counters(breaker) == {"failures": 2, "ignored": 1}


def raising_classifier(_):
    raise ZeroDivisionError("hunter3")


def babbling_classifier(_):
    return "failure"


@pytest.mark.parametrize("judge", [raising_classifier, babbling_classifier])
async def test_a_broken_classifier_harms_no_call(clock, log, judge):
    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    error = ServerError()
    with pytest.raises(ServerError) as caught:
        await breaker.call(raise_, error)
    assert caught.value is error
    assert counters(breaker) == {"ignored": 1}
    assert [entry["level"].name for entry in log] == ["ERROR"]


@pytest.mark.parametrize("judge", [raising_classifier, babbling_classifier])
def test_a_broken_classifier_harms_no_with_block(clock, judge):
    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    error = ServerError()
    with pytest.raises(ServerError) as caught, breaker.acquire():
        raise error
    assert caught.value is error
    assert counters(breaker) == {"ignored": 1}


def test_the_log_of_a_broken_classifier_names_the_type_and_no_text(clock, log):
    breaker = CircuitBreaker("eu-west-1", classifier=raising_classifier, clock=clock)
    with pytest.raises(ServerError), breaker.acquire():
        raise ServerError
    assert "ZeroDivisionError" in log[0]["message"]
    assert "hunter" not in log[0]["message"]


@pytest.mark.parametrize("judge", [raising_classifier, babbling_classifier])
async def test_a_probe_with_a_broken_classifier_gives_its_place_back(clock, judge):
    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    half_open(breaker, clock)
    with pytest.raises(ServerError):
        await breaker.call(raise_, ServerError())
    assert breaker.state is HALF_OPEN
    assert admits(breaker)


async def test_a_probe_whose_classifier_is_interrupted_gives_its_place_back(clock):
    def judge(_):
        raise KeyboardInterrupt

    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    half_open(breaker, clock)
    with pytest.raises((KeyboardInterrupt, ServerError)), breaker.acquire():
        raise ServerError
    assert admits(breaker)


# Result classifiers


async def test_a_503_that_is_returned_is_a_success_unless_somebody_says_otherwise(breaker):
    response = Response(503)
    assert await breaker.call(answer, response) is response
    assert counters(breaker) == {"successes": 1}


async def test_a_result_classifier_judges_results(clock):
    breaker = CircuitBreaker(
        "eu-west-1", BreakerPolicy(), result_classifier=classify_status, clock=clock
    )
    for status in (200, 503, 404):
        response = Response(status)
        assert await breaker.call(answer, response) is response
    assert counters(breaker) == {"successes": 1, "failures": 1, "ignored": 1}


def test_a_result_classifier_judges_results_of_plain_functions(clock):
    breaker = CircuitBreaker(
        "eu-west-1",
        BreakerPolicy(failure_threshold=1),
        result_classifier=classify_status,
        clock=clock,
    )
    assert breaker(lambda: Response(503))().status == 503
    assert breaker.state is OPEN
    assert breaker.snapshot().reason == "Response 503"


@pytest.mark.parametrize("judge", [raising_classifier, babbling_classifier])
async def test_a_broken_result_classifier_still_returns_the_result(clock, log, judge):
    breaker = CircuitBreaker("eu-west-1", result_classifier=judge, clock=clock)
    half_open(breaker, clock)
    log.clear()
    assert await breaker.call(answer) == "sent"
    assert breaker.snapshot().ignored == 1
    assert "ERROR" in [entry["level"].name for entry in log]
    assert admits(breaker)


async def test_a_result_classifier_is_not_asked_about_errors(clock):
    def judge(result):
        pytest.fail("nobody may ask")

    breaker = CircuitBreaker("eu-west-1", result_classifier=judge, clock=clock)
    with pytest.raises(ServerError):
        await breaker.call(raise_, ServerError())


# A breaker that never counts


def warnings(log):
    return [entry["message"] for entry in log if entry["level"].name == "WARNING"]


def raise_in(breaker, error, times):
    for _ in range(times):
        with pytest.raises(type(error)), breaker.acquire():
            raise error


def test_a_hundred_errors_that_say_nothing_are_warned_about_once(breaker, log):
    raise_in(breaker, LookupError("hunter2"), 99)
    assert warnings(log) == []
    raise_in(breaker, LookupError("hunter2"), 1)
    (message,) = warnings(log)
    assert "LookupError" in message
    assert "failures(" in message
    assert "eu-west-1" in message
    assert "hunter2" not in message
    raise_in(breaker, LookupError("hunter2"), 99)
    assert len(warnings(log)) == 1


def test_a_success_between_them_starts_the_hundred_anew(breaker, log):
    raise_in(breaker, LookupError(), 99)
    breaker.acquire().succeed()
    raise_in(breaker, LookupError(), 99)
    assert warnings(log) == []
    raise_in(breaker, LookupError(), 1)
    assert len(warnings(log)) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 429])
def test_client_errors_are_no_reason_to_warn(breaker, log, status):
    raise_in(breaker, ServerError(status), 250)
    assert warnings(log) == []


def test_cancellations_and_rejections_are_no_reason_to_warn(breaker, clock, log):
    raise_in(breaker, asyncio.CancelledError(), 250)
    inner = CircuitBreaker("inner", clock=clock)
    trip(inner)
    raise_in(breaker, rejection(inner), 250)
    assert warnings(log) == []


# By hand


def test_a_forced_circuit_stays_open_until_reset(breaker, clock):
    breaker.force_open("maintenance")
    for _ in range(5):
        clock.advance(10 * HOUR)
        error = rejection(breaker)
        assert (error.state, error.retry_after) == (OPEN, None)
    assert (breaker.state, breaker.retry_after) == (OPEN, None)
    assert breaker.snapshot().reason == "forced open: maintenance"
    assert counters(breaker) == {"rejected": 5}
    breaker.reset()
    assert (breaker.state, breaker.retry_after, breaker.snapshot().reason) == (CLOSED, 0.0, None)
    breaker.acquire()


def test_forcing_an_open_circuit_takes_its_end_away(breaker, clock):
    trip(breaker)
    breaker.force_open("maintenance")
    clock.advance(HOUR)
    assert rejection(breaker).retry_after is None


def test_forcing_again_with_another_reason_changes_the_reason(breaker):
    breaker.force_open("maintenance")
    breaker.force_open("fire")
    assert rejection(breaker).reason == "forced open: fire"


def test_reset_closes_an_open_circuit(breaker):
    trip(breaker)
    breaker.reset()
    assert breaker.state is CLOSED
    assert (breaker.snapshot().streak, breaker.snapshot().reason) == (0, None)


def test_reset_of_a_closed_circuit_drops_the_streak_without_an_event(breaker):
    for _ in range(9):
        breaker.acquire().fail()
    events = record(breaker)
    breaker.reset()
    assert events == []
    assert breaker.snapshot().streak == 0
    breaker.acquire().fail()
    assert breaker.state is CLOSED


def test_reset_keeps_the_counts_since_the_start(breaker):
    trip(breaker)
    breaker.reset()
    assert counters(breaker) == {"failures": 10, "trips": 1}


# The reason


def test_a_reason_is_type_and_status_and_never_the_text(clock):
    for error, reason in (
        (ServerError(503), "ServerError 503"),
        (TimeoutError("hunter2"), "TimeoutError"),
        (ConnectionResetError(104, "hunter2"), "ConnectionResetError"),
    ):
        breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
        breaker.acquire().fail(error)
        assert breaker.snapshot().reason == reason


def test_a_reason_is_one_short_line_whatever_the_type_is_called(clock):
    strange = type("Bad\n\x1b[31m" + "x" * 500, (Exception,), {})
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    breaker.acquire().fail(strange())
    reason = breaker.snapshot().reason
    assert reason.isprintable()
    assert len(reason) <= 200


def test_a_reason_survives_a_status_that_is_no_number(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    breaker.acquire().fail(ServerError("503\nBearer hunter2"))
    assert "hunter2" not in breaker.snapshot().reason
    assert breaker.snapshot().reason.isprintable()


# Snapshots


def test_a_snapshot_of_each_state_is_plain_data(breaker, clock):
    seen = []
    for step in (lambda: None, lambda: trip(breaker), lambda: clock.advance(60), breaker.acquire):
        step()
        seen.append(json.loads(json.dumps(dataclasses.asdict(breaker.snapshot()))))
    breaker.force_open("maintenance")
    seen.append(json.loads(json.dumps(dataclasses.asdict(breaker.snapshot()))))
    assert [entry["state"] for entry in seen] == [
        "CLOSED",
        "OPEN",
        "HALF_OPEN",
        "HALF_OPEN",
        "OPEN",
    ]
    assert [entry["retry_after"] for entry in seen] == [0.0, 60.0, 0.0, 1.0, None]
    assert {entry["region"] for entry in seen} == {"eu-west-1"}


def test_a_snapshot_has_the_documented_fields_and_is_frozen(breaker):
    snapshot = breaker.snapshot()
    assert [field.name for field in dataclasses.fields(CircuitSnapshot)] == [
        "region",
        "state",
        "since",
        "streak",
        "retry_after",
        "reason",
        "successes",
        "failures",
        "ignored",
        "rejected",
        "probes",
        "trips",
        "transitions",
        "shared",
    ]
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.streak = 5


def test_a_snapshot_does_not_follow_the_breaker(breaker):
    before = breaker.snapshot()
    trip(breaker)
    assert (before.state, before.streak, before.failures) == (CLOSED, 0, 0)


def test_the_streak_goes_on_while_the_first_probe_fails(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire().fail()
    assert breaker.snapshot().streak == 11


def test_a_successful_probe_ends_the_streak(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire().succeed()
    breaker.acquire().fail()
    assert (breaker.state, breaker.snapshot().streak) == (OPEN, 1)


def test_a_snapshot_tells_since_when(breaker, clock):
    clock.advance(5)
    assert breaker.snapshot().since == 0.0
    trip(breaker)
    clock.advance(30)
    assert breaker.snapshot().since == 5.0
    clock.advance(40)
    assert (breaker.snapshot().state, breaker.snapshot().since) == (HALF_OPEN, 65.0)
    close(breaker)
    clock.advance(1)
    assert breaker.snapshot().since == 75.0


def test_the_counters_tell_a_whole_outage(breaker, clock):
    breaker.acquire().succeed()
    breaker.acquire().ignore()
    trip(breaker)
    rejection(breaker)
    clock.advance(60)
    breaker.acquire().fail()
    rejection(breaker)
    clock.advance(60)
    close(breaker)
    assert counters(breaker) == {
        "successes": 4,
        "failures": 11,
        "ignored": 1,
        "rejected": 2,
        "probes": 4,
        "trips": 1,
    }


def test_a_permit_in_flight_is_not_counted_yet(breaker):
    breaker.acquire()
    assert counters(breaker) == {}


# Clocks


def calls_until_admitted(breaker, clock, limit):
    """Wait as every rejection says until a call gets in; give the seconds that took."""
    waited = 0.0
    while waited <= limit:
        try:
            breaker.acquire()
        except CircuitBreakerOpenError as error:
            pause = error.retry_after
        else:
            return waited
        assert pause > 0
        clock.advance(pause)
        waited += pause
    return pytest.fail(f"still wedged after {waited} s")


def test_a_clock_that_steps_back_in_open_starts_the_recovery_timeout_anew(breaker, clock):
    clock.advance(2 * HOUR)
    trip(breaker)
    clock.advance(30 - HOUR)
    assert breaker.retry_after <= 60.0
    assert rejection(breaker).retry_after == 60.0
    assert calls_until_admitted(breaker, clock, limit=60) == 60.0


def test_a_clock_that_steps_back_a_little_in_open_is_harmless(breaker, clock):
    trip(breaker)
    clock.advance(40)
    clock.advance(-5)
    assert rejection(breaker).retry_after == 25.0


def test_a_clock_that_steps_back_with_a_hung_probe_wedges_nothing(breaker, clock):
    clock.advance(2 * HOUR)
    half_open(breaker, clock)
    breaker.acquire()
    clock.advance(-HOUR)
    calls_until_admitted(breaker, clock, limit=61)


def test_a_clock_that_steps_back_again_and_again_wedges_nothing(breaker, clock):
    clock.advance(10 * HOUR)
    half_open(breaker, clock)
    for _ in range(5):
        breaker.acquire()
        clock.advance(-HOUR)
        calls_until_admitted(breaker, clock, limit=61)
        clock.advance(60)
    close(breaker)
    assert breaker.state is CLOSED


def test_a_clock_that_steps_back_in_closed_keeps_the_streak(breaker, clock):
    for _ in range(9):
        breaker.acquire().fail()
    clock.advance(-HOUR)
    breaker.acquire().fail()
    assert (breaker.state, breaker.retry_after) == (OPEN, 60.0)


def test_freezegun_moves_a_breaker_that_was_made_before():
    breaker = CircuitBreaker("eu-west-1")
    with freeze_time("2026-11-01") as frozen:
        trip(breaker)
        frozen.tick(59.5)
        assert not admits(breaker)
        frozen.tick(0.5)
        close(breaker)
    assert breaker.state is CLOSED


def test_a_jump_of_the_wall_clock_changes_nothing(monkeypatch):
    breaker = CircuitBreaker("eu-west-1")
    trip(breaker)
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert not admits(breaker)


def test_a_clock_may_return_whole_numbers():
    seconds = [0]
    breaker = CircuitBreaker("eu-west-1", clock=lambda: seconds[0])
    trip(breaker)
    seconds[0] = 60
    assert admits(breaker)


def test_the_default_classifier_is_classify_error(clock):
    breaker = CircuitBreaker("eu-west-1", classifier=classify_error, clock=clock)
    raise_in(breaker, ServerError(), 10)
    assert breaker.state is OPEN


def test_a_clock_that_takes_a_lock_of_its_own_cannot_deadlock_two_breakers():
    inside, go_on = threading.Event(), threading.Event()
    own = threading.Lock()

    def slow_clock():
        with own:
            inside.set()
            go_on.wait(60)
            return 0.0

    go_on.set()
    slow, other = CircuitBreaker("slow", clock=slow_clock), CircuitBreaker("other")
    go_on.clear()
    inside.clear()
    thread = threading.Thread(target=lambda: slow.state)
    thread.start()
    assert inside.wait(60)
    assert other.state is CLOSED  # while the clock of the other one takes its time
    other.acquire().succeed()
    go_on.set()
    thread.join()


def test_a_listener_that_exits_while_a_probe_is_admitted_keeps_no_place(clock):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    trip(breaker)
    clock.advance(60)

    def leave(_):
        raise SystemExit

    stop = breaker.listen(leave)
    with pytest.raises(SystemExit):
        breaker.acquire()
    stop()
    with breaker.acquire():
        pass


def test_a_status_that_cannot_be_written_down_hides_no_error(clock):
    class HugeError(Exception):
        status = 10**5000

    breaker = CircuitBreaker("eu-west-1", clock=clock)
    with pytest.raises(HugeError), breaker.acquire():
        raise HugeError


def test_a_falsy_classifier_is_asked_all_the_same(clock):
    class Empty(list):
        def __call__(self, error):
            return Outcome.FAILURE

    breaker = CircuitBreaker("eu-west-1", classifier=Empty(), clock=clock)
    with pytest.raises(ValueError, match="x"), breaker.acquire():
        raise ValueError("x")
    assert breaker.snapshot().failures == 1


# What is said, to the letter


def faults(log):
    return [r["message"].splitlines()[0] for r in log if r["level"].name == "ERROR"]


def test_a_classifier_that_raises_is_named_with_its_role_and_its_error(clock, log):
    def judge(_):
        raise KeyError("a-tenants-bearer-token")

    breaker = CircuitBreaker("eu-west-1", classifier=judge, result_classifier=judge, clock=clock)
    with pytest.raises(ServerError), breaker.acquire():
        raise ServerError
    breaker(lambda: None)()
    name = judge.__qualname__
    assert faults(log) == [
        f"Circuit breaker classifier {name} for region eu-west-1 raised KeyError",
        f"Circuit breaker result_classifier {name} for region eu-west-1 raised KeyError",
    ]


def test_a_classifier_that_returns_something_else_is_told_what_was_expected(clock, log):
    def judge(_):
        return True

    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    with pytest.raises(ServerError), breaker.acquire():
        raise ServerError
    name = f"classifier {judge.__qualname__} for region eu-west-1"
    assert faults(log) == [f"Circuit breaker {name} returned a bool, expected an Outcome"]


def test_the_warning_about_unknown_errors_counts_and_names_them(breaker, log):
    for _ in range(100):
        with pytest.raises(LookupError), breaker.acquire():
            raise LookupError
    assert log[-1]["message"] == (
        "Circuit breaker ignored 100 errors in a row for region eu-west-1, a LookupError: if the"
        " region causes them, count them with classifier=failures(LookupError)"
    )


def test_a_success_and_a_failure_between_unknown_errors_start_the_count_anew(breaker, log):
    for number in range(198):
        if number == 99:
            breaker.acquire().succeed()
            breaker.acquire().fail()
        with pytest.raises(LookupError), breaker.acquire():
            raise LookupError
    assert log == []


def test_what_is_said_to_who_uses_a_permit_twice(breaker):
    permit = breaker.acquire()
    permit.ignore()
    expected = "^this permit is settled: acquire a new one for each call$"
    with pytest.raises(RuntimeError, match=expected), permit:
        pass


def test_what_is_said_to_who_decorates_a_generator(breaker):
    def numbers():
        yield 1

    with pytest.raises(TypeError, match=r"^a circuit breaker cannot decorate the generator .*numb"):
        breaker(numbers)


def test_the_time_of_a_change_by_hand_is_the_clocks(breaker, clock):
    events = []
    breaker.listen(events.append)
    clock.advance(5)
    breaker.force_open("maintenance")
    clock.advance(5)
    breaker.reset()
    assert [event.at for event in events] == [5.0, 10.0]
    assert breaker.snapshot().since == 10.0


def test_the_reason_is_the_error_that_another_one_was_raised_from(breaker):
    for _ in range(10):
        with pytest.raises(RuntimeError), breaker.acquire():
            raise RuntimeError("Bearer hunter2") from ServerError(502)
    assert breaker.snapshot().reason == "ServerError 502"


def test_an_error_that_only_the_users_classifier_counts_is_the_reason_itself(clock):
    breaker = CircuitBreaker("eu-west-1", classifier=lambda _: Outcome.FAILURE, clock=clock)
    for _ in range(10):
        with pytest.raises(RuntimeError), breaker.acquire():
            raise RuntimeError from LookupError()
    assert breaker.snapshot().reason == "RuntimeError"


def test_every_trip_is_counted(breaker):
    for trips in (1, 2, 3):
        trip(breaker)
        assert breaker.snapshot().trips == trips
        breaker.reset()


def test_a_hundred_unknown_errors_after_a_success_and_a_failure_are_warned_about(breaker, log):
    breaker.acquire().succeed()
    breaker.acquire().fail()
    for _ in range(100):
        with pytest.raises(LookupError), breaker.acquire():
            raise LookupError
    (record,) = log
    assert record["level"].name == "WARNING"
