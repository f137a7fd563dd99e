"""What was to be done while the thread held the lock is done when the lock is free."""

import contextvars

from resilience._lock import lock, postponed, settle_postponed


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
