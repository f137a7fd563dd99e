"""A result that belongs to an earlier state changes nothing."""

import asyncio
import contextlib

import pytest

from tests.support.driving import (
    CLOSED,
    OPEN,
    ServerError,
    admits,
    close,
    counters,
    half_open,
    record,
    trip,
)


def old_permit(breaker):
    """Give a permit of CLOSED after the circuit has opened."""
    permit = breaker.acquire()
    trip(breaker)
    return permit


REPORTS = [
    pytest.param(lambda permit: permit.succeed(), id="succeed"),
    pytest.param(lambda permit: permit.fail(ServerError(500)), id="fail"),
    pytest.param(lambda permit: permit.answered(), id="answered"),
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
