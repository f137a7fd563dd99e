"""What was to be done while the thread held the lock is done when the lock is free."""

import contextvars

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    _threads,
)
from resilience._lock import lock, postponed, settle_postponed
from tests.support.driving import ServerError


def test_nothing_is_settled_while_the_thread_holds_the_lock():
    done = []
    with lock:
        postponed.append(lambda: done.append("settled"))
        settle_postponed()
        assert done == []
    settle_postponed()
    assert done == ["settled"]


def test_a_probe_that_was_to_give_its_place_back_does_so_before_the_next_call(breaker, clock):
    for _ in range(10):
        breaker.acquire().fail()
    clock.advance(60)
    probe = breaker.acquire()
    postponed.append(probe.ignore)
    contextvars.Context().run(breaker.acquire).succeed()
    assert (breaker.snapshot().ignored, breaker.snapshot().probes) == (1, 2)


def test_a_change_of_another_circuit_that_fails_replaces_no_error(breaker, log, monkeypatch):
    def clock():
        if broken:
            raise ZeroDivisionError
        return 0.0

    def no_thread(*_args):
        raise RuntimeError("can't start new thread")

    broken = []
    other = CircuitBreaker("us-east-1", clock=clock)
    monkeypatch.setattr(_threads._thread, "start_new_thread", no_thread)
    with lock:  # as a signal handler may find it
        other.force_open("maintenance")
    broken.append(True)
    with pytest.raises(ServerError), breaker.acquire():
        raise ServerError
    assert breaker.snapshot().failures == 1
    assert sum("raised ZeroDivisionError" in line["message"] for line in log) == 1


RULES = [
    {"failure_rate_threshold": 0.5},
    {"stranded_after": 5},
    {"call_timeout": 5, "cancel_stranded": True},
    {"ramp": (2, 2)},
]


@pytest.mark.parametrize("is_recorded", [False, True])
@pytest.mark.parametrize("rules", RULES, ids=str)
def test_in_the_middle_of_a_change_a_closed_circuit_admits_calls(
    rules, is_recorded, clock, tmp_path
):
    registry = CircuitBreakerRegistry(BreakerPolicy(**rules), clock=clock)
    if is_recorded:
        registry.record(tmp_path / "outcomes")
    breaker = registry.get("eu-west-1")
    with lock:  # as a signal handler may find it
        permit = breaker.acquire()
    permit.succeed()
    with pytest.raises(ServerError), breaker.acquire():
        raise ServerError
    assert (breaker.snapshot().successes, breaker.snapshot().failures) == (1, 1)
    registry.clear()


def test_in_the_middle_of_a_change_nobody_knows_what_a_ramp_admits(clock):
    policy = BreakerPolicy(failure_threshold=1, success_threshold=1, ramp=(2, 2))
    breaker = CircuitBreaker("eu-west-1", policy, clock=clock)
    breaker.acquire().fail()
    clock.advance(60)
    breaker.acquire().succeed()
    with lock, pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()
    breaker.acquire().succeed()
