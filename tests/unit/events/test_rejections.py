"""Rejected calls in the log: the first of an outage, and their number at the end of each state."""

import threading

import pytest

from resilience import BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.testing import FakeClock
from tests.support.threads import join_all, run_all, without_the_lock

POLICY = BreakerPolicy(failure_threshold=1, success_threshold=1)


class ServerError(Exception):
    status = 503


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(POLICY, clock=clock)


@pytest.fixture
def breaker(registry):
    return registry.get("eu-west-1")


def trip(breaker):
    breaker.acquire().fail(ServerError("Bearer hunter2"))


def reject(breaker, times=1):
    for _ in range(times):
        with pytest.raises(CircuitBreakerOpenError):
            breaker.acquire()


def lines(log):
    """Return the lines about rejections, which are INFO like the one about the closing."""
    return [
        entry["message"].removeprefix("Circuit breaker ").replace(" for region eu-west-1", "")
        for entry in log
        if entry["level"].name == "INFO" and "reject" in entry["message"]
    ]


FIRST = "rejects calls, which is OPEN: ServerError 503"


def test_the_first_rejection_is_logged_and_the_storm_is_not(breaker, log):
    trip(breaker)
    assert lines(log) == []
    reject(breaker)
    assert lines(log) == [FIRST]
    reject(breaker, 1000)
    assert lines(log) == [FIRST]


def test_the_whole_line_is_for_people_and_its_extra_for_machines(breaker, clock, log):
    trip(breaker)
    reject(breaker, 1234)
    first = log[-1]
    assert first["message"] == (
        "Circuit breaker rejects calls for region eu-west-1, which is OPEN: ServerError 503"
    )
    expected = {"region": "eu-west-1", "state": "OPEN", "reason": "ServerError 503"}
    assert expected.items() <= first["extra"].items()
    clock.advance(60)
    breaker.acquire().succeed()
    _, _, number, half_open, closed = log
    assert number["message"] == (
        "Circuit breaker rejected 1,234 calls for region eu-west-1 in 60 s"
    )
    assert number["extra"] == {"region": "eu-west-1", "rejected": 1234, "seconds": 60.0}
    assert "HALF_OPEN" in half_open["message"], "the number comes before the end of the state"
    assert "recovered" in closed["message"]


def test_then_there_is_one_line_for_each_state_that_rejected_calls(breaker, clock, log):
    trip(breaker)
    reject(breaker, 5)
    for _ in range(3):
        clock.advance(60)
        probe = breaker.acquire()
        reject(breaker, 2)
        clock.advance(1)
        probe.fail(ServerError())
        reject(breaker, 100)
    assert lines(log) == [
        FIRST,
        "rejected 5 calls in 60 s",
        "rejected 2 calls in 1 s",
        "rejected 100 calls in 60 s",
        "rejected 2 calls in 1 s",
        "rejected 100 calls in 60 s",
        "rejected 2 calls in 1 s",
    ]


def test_the_lines_add_up_to_what_the_snapshot_counts(breaker, clock, log):
    breaker.force_open("a test")
    reject(breaker, 13)
    breaker.reset()
    trip(breaker)
    reject(breaker, 4)
    clock.advance(60)
    breaker.acquire()
    reject(breaker, 3)
    breaker.reset()
    counts = [entry["extra"]["rejected"] for entry in log if "seconds" in entry["extra"]]
    assert counts == [13, 4, 3]
    assert sum(counts) == breaker.snapshot().rejected


def test_a_forced_opening_is_counted_when_it_ends(breaker, clock, log):
    breaker.force_open("maintenance")
    for _ in range(4):
        reject(breaker, 10)
        clock.advance(60)
    breaker.reset()
    assert lines(log) == [
        "rejects calls, which is OPEN: forced open: maintenance",
        "rejected 40 calls in 240 s",
    ]


def test_a_circuit_that_rejected_no_call_logs_nothing_about_rejections(breaker, clock, log):
    trip(breaker)
    clock.advance(60)
    breaker.acquire().succeed()
    breaker.reset()
    assert lines(log) == []


def test_a_single_rejection_is_counted_too(breaker, clock, log):
    trip(breaker)
    reject(breaker)
    clock.advance(60)
    breaker.acquire().succeed()
    assert lines(log) == [FIRST, "rejected 1 call in 60 s"]


def test_the_next_outage_has_a_first_rejection_again(breaker, clock, log):
    for _ in range(2):
        trip(breaker)
        reject(breaker, 2)
        clock.advance(60)
        breaker.acquire().succeed()
    assert lines(log) == [FIRST, "rejected 2 calls in 60 s"] * 2


def test_a_clock_that_steps_back_makes_no_negative_duration(breaker, clock, log):
    clock.advance(1000)
    trip(breaker)
    reject(breaker)
    clock.advance(-500)
    reject(breaker, 2)
    breaker.reset()
    assert lines(log) == [FIRST, "rejected 3 calls in less than 1 s"]


def test_of_many_threads_one_logs_the_first_rejection(breaker, log):
    trip(breaker)
    start = threading.Barrier(8)

    def knock():
        start.wait()
        reject(breaker, 50)

    join_all(run_all([threading.Thread(target=knock) for _ in range(8)]))
    assert lines(log) == [FIRST]


def test_a_rejection_after_the_first_takes_no_lock(breaker):
    trip(breaker)
    reject(breaker)
    without_the_lock(lambda: reject(breaker) or "rejected")
    assert breaker.snapshot().rejected == 2


# Listeners


def test_a_rejection_listener_gets_every_rejection(registry, breaker, log):
    seen = []
    registry.on_rejection(seen.append)
    trip(breaker)
    reject(breaker, 3)
    assert [(e.region, e.state, e.reason, e.retry_after) for e in seen] == [
        ("eu-west-1", "OPEN", "ServerError 503", 60.0)
    ] * 3
    assert lines(log) == [FIRST]


def test_a_rejection_listener_gets_those_of_probes_in_the_way(registry, breaker, clock):
    seen = []
    registry.on_rejection(seen.append)
    trip(breaker)
    clock.advance(60)
    breaker.acquire()
    reject(breaker)
    assert [error.state for error in seen] == ["HALF_OPEN"]


def test_a_rejection_listener_is_called_before_the_call_gets_the_rejection(registry, breaker):
    order = []
    registry.on_rejection(lambda _: order.append("listener"))
    trip(breaker)
    try:
        breaker.acquire()
    except CircuitBreakerOpenError:
        order.append("call")
    assert order == ["listener", "call"]


def test_a_rejection_listener_does_not_change_what_is_logged(registry, breaker, clock, log):
    registry.on_rejection(lambda _: None)
    trip(breaker)
    reject(breaker, 5)
    clock.advance(60)
    breaker.acquire().fail(ServerError())
    assert lines(log) == [FIRST, "rejected 5 calls in 60 s"]


def test_a_rejection_listener_that_comes_late_gets_what_follows(registry, breaker):
    trip(breaker)
    reject(breaker, 2)
    seen = []
    stop = registry.on_rejection(seen.append)
    reject(breaker, 2)
    assert len(seen) == 2
    stop()
    reject(breaker)
    assert len(seen) == 2


def test_a_rejection_listener_that_raises_is_logged_and_harms_nobody(registry, breaker, log):
    def broken(_):
        raise LookupError("Bearer hunter2")

    seen = []
    registry.on_rejection(broken)
    registry.on_rejection(seen.append)
    trip(breaker)
    reject(breaker)
    assert len(seen) == 1
    (fault,) = [entry["message"] for entry in log if "broken" in entry["message"]]
    assert "raised LookupError" in fault
    assert "hunter2" not in fault


def test_an_async_rejection_listener_is_refused(registry):
    async def listen(_):
        """Nobody would await it."""

    with pytest.raises(TypeError, match="must be a plain function"):
        registry.on_rejection(listen)


def test_a_listener_that_is_rejected_itself_is_called_once_and_logged_once(log):
    registry = CircuitBreakerRegistry(clock=FakeClock())
    breaker = registry.get("eu-west-1")
    calls = []

    def listener(error):
        calls.append(error)
        breaker.acquire()

    registry.on_rejection(listener)
    breaker.force_open("by a test")
    log.clear()
    for number in range(1, 4):
        with pytest.raises(CircuitBreakerOpenError):
            breaker.acquire()
        assert len(calls) == number
    recursions = [line for line in log if "another event of its own" in line["message"]]
    assert len(recursions) == 1


def test_another_listener_is_called_for_the_rejection_of_the_first():
    registry = CircuitBreakerRegistry(clock=FakeClock())
    breaker = registry.get("eu-west-1")
    calls = []
    registry.on_rejection(lambda _: breaker.acquire())
    registry.on_rejection(calls.append)
    breaker.force_open("by a test")
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()
    assert len(calls) == 2
