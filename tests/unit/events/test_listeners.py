"""Listeners: called outside the lock, in order, and survived."""

import asyncio
import contextlib
import io
import sys
import threading

import pytest
from loguru import logger

from resilience import CircuitBreaker, CircuitBreakerOpenError, CircuitBreakerRegistry
from tests.support.driving import CLOSED, OPEN, ServerError, moves, record, trip
from tests.support.outage import outage, text_of


def test_a_listener_finds_the_state_settled(breaker, clock):
    seen = []
    breaker.listen(lambda event: seen.append((event.new, breaker.state)))
    outage(breaker, clock)
    assert [state for _, state in seen] == [new for new, _ in seen]


def test_listeners_are_called_in_the_order_they_came(breaker):
    heard = []
    for number in range(5):
        breaker.listen(lambda _, number=number: heard.append(number))
    breaker.force_open("maintenance")
    assert heard == [0, 1, 2, 3, 4]


def test_a_listener_runs_outside_every_lock(breaker):
    """Another thread uses the breaker while the listener waits for it."""
    finished = []

    def use():
        assert breaker.state is OPEN
        with pytest.raises(CircuitBreakerOpenError):
            breaker.acquire()
        breaker.snapshot()
        breaker.listen(lambda event: None)()
        breaker.reset()
        breaker.acquire().fail()
        finished.append(True)

    def listener(event):
        if event.new is OPEN:
            thread = threading.Thread(target=use, daemon=True)
            thread.start()
            thread.join(30)

    breaker.listen(listener)
    breaker.force_open("maintenance")
    assert finished == [True]


def test_there_is_one_deliverer_at_a_time(breaker):
    busy, told, overlaps = threading.Lock(), [], []

    def listener(event):
        if not busy.acquire(blocking=False):
            overlaps.append(event)
            return
        told.append(event)
        for _ in range(50):
            assert breaker.region
        busy.release()

    breaker.listen(listener)
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        for turn in range(100):
            breaker.force_open(f"{number}-{turn}")
            breaker.reset()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert [event.old for event in told[1:]] == [event.new for event in told[:-1]]
    assert sum(event.reason.startswith("forced open") for event in told) == 800
    assert overlaps == []
    assert told[-1].new is breaker.state is CLOSED


def test_an_event_of_another_thread_waits_for_the_deliverer(breaker):
    inside, go_on, heard = threading.Event(), threading.Event(), []

    def listener(event):
        heard.append((event.new, threading.get_ident()))
        inside.set()
        go_on.wait(60)

    breaker.listen(listener)
    deliverer = threading.Thread(target=breaker.force_open, args=("maintenance",))
    deliverer.start()
    inside.wait(60)
    breaker.reset()
    assert [new for new, _ in heard] == [OPEN]
    go_on.set()
    deliverer.join()
    assert [new for new, _ in heard] == [OPEN, CLOSED]


def test_a_listener_that_raises_harms_nobody(breaker, log):
    def broken(event):
        token = "hun" + str(6 * 7)
        raise RuntimeError(token)

    breaker.listen(broken)
    events = record(breaker)
    trip(breaker)
    breaker.reset()
    assert moves(events) == [(CLOSED, OPEN), (OPEN, CLOSED)]
    complaints = [text for text in text_of(log) if "RuntimeError" in text[1]]
    assert [level for level, _ in complaints] == ["ERROR", "ERROR"]


def test_the_call_that_trips_raises_its_own_error_past_a_broken_listener(breaker):
    def broken(event):
        raise RuntimeError

    breaker.listen(broken)
    for _ in range(10):
        with pytest.raises(ServerError), breaker.acquire():
            raise ServerError
    assert breaker.state is OPEN


def test_a_listener_that_is_interrupted_does_not_silence_the_breaker(breaker):
    interrupts = [KeyboardInterrupt, None]

    def interrupted(event):
        if interrupt := interrupts.pop(0):
            raise interrupt

    breaker.listen(interrupted)
    events = record(breaker)
    with contextlib.suppress(KeyboardInterrupt):
        breaker.force_open("maintenance")
    assert breaker.state is OPEN
    breaker.reset()
    assert interrupts == []
    assert moves(events)[-1] == (OPEN, CLOSED)


def test_what_a_listener_raised_is_logged_with_its_stack_and_without_values(breaker):
    def broken(event):
        local = "value-" + str(6 * 7)
        raise RuntimeError("text-" + local)

    sink = io.StringIO()
    handler = logger.add(sink, diagnose=True, backtrace=True, format="{message}\n{exception}")
    try:
        breaker.listen(broken)
        breaker.force_open("maintenance")
    finally:
        logger.remove(handler)
    written = sink.getvalue()
    assert "RuntimeError" in written
    assert "broken" in written
    assert "test_listeners.py" in written
    assert "value-42" not in written


def test_a_listener_may_reset_the_breaker(breaker):
    def operator(event):
        if event.new is OPEN:
            breaker.reset()

    breaker.listen(operator)
    events = record(breaker)
    breaker.force_open("maintenance")
    assert breaker.state is CLOSED
    assert moves(events) == [(CLOSED, OPEN), (OPEN, CLOSED)]


def test_a_listener_may_call_through_the_breaker(breaker, clock):
    seen = []

    def operator(event):
        try:
            with breaker.acquire():
                seen.append("called")
        except CircuitBreakerOpenError:
            seen.append("rejected")

    breaker.listen(operator)
    breaker.force_open("maintenance")
    breaker.reset()
    assert seen == ["rejected", "called"]


def test_listeners_that_force_and_reset_take_turns_instead_of_nesting(breaker):
    depth, deepest, turns = [0], [0], []

    def operator(event):
        depth[0] += 1
        deepest[0] = max(deepest[0], depth[0])
        turns.append(event.new)
        if event.new is OPEN:
            breaker.reset()
        else:
            breaker.force_open("again")
        depth[0] -= 1

    breaker.listen(operator)
    breaker.force_open("maintenance")
    assert deepest == [1]
    assert turns == [OPEN, CLOSED] * 5


def change(breaker):
    if breaker.state is OPEN:
        breaker.reset()
    else:
        breaker.force_open("again")


def changing(breaker, calls):
    """Return a listener that changes a circuit whenever it is called."""

    def listener(event):
        calls.append(event.new)
        change(breaker)

    return listener


def chains(log):
    return [line["message"] for line in log if "changes in a row" in line["message"]]


def test_listeners_of_two_circuits_that_answer_each_other_end_and_are_logged_once(log):
    one, other, calls = CircuitBreaker("a"), CircuitBreaker("b"), []
    one.listen(changing(other, calls))
    other.listen(changing(one, calls))
    for times in range(1, 4):
        change(one)
        assert len(calls) == 10 * times, "each change by hand begins a new chain"
    assert len(chains(log)) == 1


def test_a_listener_that_changes_nothing_is_called_for_each_change_of_a_chain(breaker):
    seen = []
    breaker.listen(changing(breaker, []))
    breaker.listen(lambda event: seen.append(event.new))
    breaker.force_open("maintenance")
    assert seen == [OPEN, CLOSED] * 5 + [OPEN]
    assert seen[-1] is breaker.state


async def test_a_listener_in_a_loop_that_answers_itself_does_not_keep_the_loop(breaker, log):
    calls = []
    breaker.listen(changing(breaker, calls), loop=asyncio.get_running_loop())
    breaker.force_open("maintenance")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert calls == [OPEN, CLOSED] * 5
    assert len(chains(log)) == 1


def test_a_chain_goes_on_through_a_rejection(log):
    registry = CircuitBreakerRegistry()
    breaker, calls = registry.get("a"), []

    def call(event):
        calls.append(event.new)
        if event.new is CLOSED:
            breaker.force_open("again")
        else:
            with contextlib.suppress(CircuitBreakerOpenError):
                breaker.acquire()

    breaker.listen(call)
    registry.on_rejection(lambda _: breaker.reset())
    breaker.force_open("maintenance")
    assert calls[:2] == [OPEN, CLOSED]
    assert len(calls) <= 10
    assert len(chains(log)) == 1


def test_an_async_listener_is_a_type_error(breaker):
    async def listener(event):
        pass

    with pytest.raises(TypeError, match="listener"):
        breaker.listen(listener)


@pytest.mark.parametrize("wrong", [None, 5, "listener"])
def test_a_listener_must_be_callable(breaker, wrong):
    with pytest.raises(TypeError, match="listener"):
        breaker.listen(wrong)


def test_stop_ends_one_listener_and_may_be_called_twice(breaker):
    events, others = [], []
    stop = breaker.listen(events.append)
    breaker.listen(others.append)
    breaker.force_open("maintenance")
    stop()
    stop()
    breaker.reset()
    assert (len(events), len(others)) == (1, 2)


def test_stop_called_twice_leaves_the_same_listener_added_again(breaker):
    events = []
    stop = breaker.listen(events.append)
    stop()
    breaker.listen(events.append)
    stop()
    breaker.force_open("maintenance")
    assert len(events) == 1


def test_a_listener_may_stop_itself(breaker):
    events, stops = [], []

    def once(event):
        events.append(event)
        stops[0]()

    stops.append(breaker.listen(once))
    others = record(breaker)
    breaker.force_open("maintenance")
    breaker.reset()
    assert (len(events), len(others)) == (1, 2)
