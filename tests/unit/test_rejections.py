"""Rejected calls in the log: the first of an outage, then one line per recovery timeout."""

import threading

import pytest

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerOpenError
from resilience._lock import lock

POLICY = BreakerPolicy(failure_threshold=1, success_threshold=1)


class ServerError(Exception):
    status = 503


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", POLICY, clock=clock)


def trip(breaker):
    breaker.acquire().fail(ServerError("Bearer hunter2"))


def reject(breaker, times=1):
    for _ in range(times):
        with pytest.raises(CircuitBreakerOpenError):
            breaker.acquire()


def told(log):
    """Give the lines about rejections, which are INFO like the one about the closing."""
    return [
        entry["message"].removeprefix("Circuit breaker ").replace(" for region eu-west-1", "")
        for entry in log
        if entry["level"].name == "INFO" and "reject" in entry["message"]
    ]


FIRST = "rejects calls, which is OPEN: ServerError 503"


def test_the_first_rejection_is_told_and_the_storm_is_not(breaker, log):
    trip(breaker)
    assert told(log) == []
    reject(breaker)
    assert told(log) == [FIRST]
    reject(breaker, 1000)
    assert told(log) == [FIRST]


def test_the_whole_line_is_for_people_and_its_extra_for_machines(breaker, clock, log):
    trip(breaker)
    reject(breaker, 3)
    first = log[-1]
    assert first["message"] == (
        "Circuit breaker rejects calls for region eu-west-1, which is OPEN: ServerError 503"
    )
    assert first["extra"] == {
        "region": "eu-west-1",
        "state": "OPEN",
        "reason": "ServerError 503",
        "rejected": 1,
    }
    clock.advance(60)
    breaker.acquire().succeed()
    more = log[-2]
    assert more["message"] == "Circuit breaker rejected 2 calls for region eu-west-1 in 60 s"
    assert more["extra"] == {"region": "eu-west-1", "rejected": 2, "seconds": 60.0}
    assert "recovered" in log[-1]["message"], "the sum comes before the end of the outage"


def test_then_there_is_one_line_per_recovery_timeout(breaker, clock, log):
    trip(breaker)
    reject(breaker, 5)
    for _ in range(3):
        clock.advance(60)
        breaker.acquire().fail(ServerError())  # a failed probe: the circuit opens again
        reject(breaker, 100)
    assert told(log) == [
        FIRST,
        "rejected 5 calls in 60 s",
        "rejected 100 calls in 60 s",
        "rejected 100 calls in 60 s",
    ]


def test_the_lines_add_up_to_what_the_snapshot_counts(breaker, clock, log):
    breaker.force_open("a test")
    for _ in range(7):
        reject(breaker, 13)
        clock.advance(25)
    breaker.reset()
    trip(breaker)
    reject(breaker, 4)
    breaker.reset()
    counts = [entry["extra"]["rejected"] for entry in log if "rejected" in entry["extra"]]
    assert sum(counts) == breaker.snapshot().rejected
    assert len(counts) < 10


def test_a_forced_opening_tells_again_and_again_as_long_as_calls_come(breaker, clock, log):
    breaker.force_open("maintenance")
    for _ in range(4):
        reject(breaker, 10)
        clock.advance(60)
    breaker.reset()
    assert told(log) == [
        "rejects calls, which is OPEN: forced open: maintenance",
        "rejected 10 calls in 60 s",
        "rejected 10 calls in 60 s",
        "rejected 10 calls in 60 s",
        "rejected 9 calls in 60 s",
    ]


def test_a_circuit_that_rejected_nobody_tells_nothing(breaker, clock, log):
    trip(breaker)
    clock.advance(60)
    breaker.acquire().succeed()
    breaker.reset()
    assert told(log) == []


def test_a_single_rejection_has_nothing_more_to_tell_at_the_end(breaker, clock, log):
    trip(breaker)
    reject(breaker)
    clock.advance(60)
    breaker.acquire().succeed()
    assert told(log) == [FIRST]


def test_the_next_outage_starts_afresh(breaker, clock, log):
    for _ in range(2):
        trip(breaker)
        reject(breaker, 2)
        clock.advance(60)
        breaker.acquire().succeed()
    assert told(log) == [FIRST, "rejected 1 call in 60 s"] * 2


def test_a_clock_that_steps_back_silences_nothing(breaker, clock, log):
    clock.advance(1000)
    trip(breaker)
    reject(breaker)
    clock._now -= 500  # a FakeClock does not go back by itself
    reject(breaker, 2)
    assert told(log) == [FIRST, "rejected 1 call in 0 s"]
    clock.advance(59)
    reject(breaker)
    assert len(told(log)) == 2
    clock.advance(1)
    breaker.acquire().fail(ServerError())
    reject(breaker)
    assert told(log)[2:] == ["rejected 3 calls in 60 s"]


def test_of_many_threads_one_tells(breaker, log):
    trip(breaker)
    start = threading.Barrier(8)

    def knock():
        start.wait()
        reject(breaker, 50)

    threads = [threading.Thread(target=knock) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told(log) == [FIRST]


def test_who_comes_second_to_the_same_line_tells_nothing(breaker, clock, log):
    trip(breaker)
    reject(breaker)
    rejection = ("OPEN", "ServerError 503", 60.0)
    breaker._outbox.log.tell(rejection, clock(), ())
    assert told(log) == [FIRST]


def test_a_rejection_with_nothing_to_tell_takes_no_lock(breaker, clock, monkeypatch):
    trip(breaker)
    reject(breaker)
    taken = []

    class Counting:
        def __enter__(self):
            taken.append(1)
            lock.acquire()

        def __exit__(self, *_):
            lock.release()

    for module in ("breaker", "rejections", "events", "permit"):
        monkeypatch.setattr(f"resilience.{module}.lock", Counting())
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()
    assert taken == []
    assert breaker.snapshot().rejected == 2


# Who watches


def test_a_watcher_is_told_about_every_rejection(breaker, log):
    seen = []
    breaker._outbox.registry_listeners.watchers += (lambda *what: seen.append(what),)
    trip(breaker)
    reject(breaker, 3)
    assert seen == [("eu-west-1", ("OPEN", "ServerError 503", 60.0))] * 3
    assert told(log) == [FIRST]


def test_a_watcher_does_not_change_what_is_logged(breaker, clock, log):
    breaker._outbox.registry_listeners.watchers += (lambda *_: None,)
    trip(breaker)
    reject(breaker, 5)
    clock.advance(60)
    breaker.acquire().fail(ServerError())
    reject(breaker, 5)
    assert told(log) == [FIRST, "rejected 5 calls in 60 s"]


def test_a_watcher_that_comes_late_sees_what_follows(breaker):
    trip(breaker)
    reject(breaker)
    seen = []
    breaker._outbox.registry_listeners.watchers += (lambda *what: seen.append(what),)
    breaker._circuit.keep_quiet()
    reject(breaker, 2)
    assert len(seen) == 2


def test_a_watcher_that_raises_is_logged_and_harms_nobody(breaker, log):
    def broken(*_):
        raise LookupError("Bearer hunter2")

    seen = []
    breaker._outbox.registry_listeners.watchers += (broken, lambda *what: seen.append(what))
    trip(breaker)
    reject(breaker)
    assert len(seen) == 1
    (fault,) = [entry["message"] for entry in log if "broken" in entry["message"]]
    assert "raised LookupError" in fault
    assert "hunter2" not in fault
