"""The places of probes: a lease each, that ends whether its probe does or not."""

import pytest

from resilience import BreakerPolicy, CircuitBreaker
from tests.support.driving import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    ServerError,
    admits,
    close,
    half_open,
    trip,
)


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
