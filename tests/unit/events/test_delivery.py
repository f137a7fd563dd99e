"""Delivering events: nobody is left out, and there is one deliverer at a time."""

import threading

import pytest

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerRegistry, listeners
from resilience._lock import lock

PATIENCE = 20.0


def names(events):
    return [event.new.value for event in events]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_listener_that_exits_keeps_the_event_from_nobody(kind, clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)
    breaker, before, after, of_registry = registry.get("a"), [], [], []

    def leave(_event):
        raise kind

    breaker.listen(before.append)
    breaker.listen(leave)
    breaker.listen(after.append)
    registry.listen(leave)
    registry.listen(of_registry.append)
    with pytest.raises(kind):
        breaker.force_open("maintenance")
    assert names(before) == names(after) == names(of_registry) == ["OPEN"]
    with pytest.raises(kind):
        breaker.reset()
    assert names(before) == names(after) == names(of_registry) == ["OPEN", "CLOSED"]


def test_the_events_behind_the_one_that_exits_are_delivered_too(clock):
    breaker = CircuitBreaker("a", BreakerPolicy(failure_threshold=1), clock=clock)
    seen = []

    def leave_and_reset(event):
        if event.new.value == "OPEN":
            breaker.reset()  # queued: this thread is delivering
            raise SystemExit

    breaker.listen(leave_and_reset)
    breaker.listen(seen.append)
    with pytest.raises(SystemExit):
        breaker.force_open("maintenance")
    assert names(seen) == ["OPEN", "CLOSED"]


def test_an_interrupt_while_waiting_for_the_lock_makes_no_second_deliverer(clock, monkeypatch):
    breaker = CircuitBreaker("a", BreakerPolicy(failure_threshold=1), clock=clock)
    inside, go_on, running, most, seen = threading.Event(), threading.Event(), [], [], []

    def listener(event):
        running.append(event)
        most.append(len(running))
        if event.new.value == "OPEN" and not inside.is_set():
            inside.set()
            assert go_on.wait(PATIENCE)
        seen.append(event)
        running.pop()

    class InterruptingLock:
        """Raises where a thread waits for the lock in order to deliver."""

        def __init__(self):
            self.left = 1

        def __enter__(self):
            if threading.current_thread().name == "interrupted" and self.left:
                self.left = 0
                raise KeyboardInterrupt
            return lock.__enter__()

        def __exit__(self, *details):
            return lock.__exit__(*details)

    def force_again():
        with pytest.raises(KeyboardInterrupt):
            breaker.force_open("again")

    breaker.listen(listener)
    monkeypatch.setattr(listeners, "lock", InterruptingLock())
    threads = [
        threading.Thread(target=breaker.force_open, args=("maintenance",)),
        threading.Thread(target=force_again, name="interrupted"),
        threading.Thread(target=breaker.reset),
    ]
    threads[0].start()
    assert inside.wait(PATIENCE)
    for thread in threads[1:]:
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    go_on.set()
    threads[0].join(PATIENCE)
    assert max(most) == 1
    assert [event.reason for event in seen] == [
        "forced open: maintenance",
        "forced open: again",
        "reset by hand",
    ]


def test_a_listener_that_is_stopped_by_an_earlier_one_is_not_called(clock):
    breaker = CircuitBreaker("a", BreakerPolicy(failure_threshold=1), clock=clock)
    seen = []
    stops = []
    breaker.listen(lambda _event: stops[0]())
    stops.append(breaker.listen(seen.append))
    breaker.force_open("maintenance")
    assert seen == []
