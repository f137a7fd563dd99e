"""The clock for tests."""

import gc
import re
import sys
import threading
from datetime import timedelta

import pytest

from resilience.testing import FakeClock


class Sleeper:
    def __init__(self, clock):
        self.clock = clock
        self.seen = []

    def wake(self):
        self.seen.append(self.clock())


def test_it_starts_at_zero_and_stands_still():
    clock = FakeClock()
    assert [clock(), clock()] == [0.0, 0.0]


@pytest.mark.parametrize("start", [0, 5, -3, 2.5])
def test_it_starts_at_the_given_time_and_returns_a_float(start):
    clock = FakeClock(start)
    assert clock() == start
    assert type(clock()) is float


def test_it_moves_only_by_advance_backwards_too():
    clock = FakeClock(100)
    clock.advance(2)
    clock.advance(0.5)
    clock.advance(-10)
    assert clock() == 92.5


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), float("-inf"), 10**400])
def test_no_number_that_is_not_finite_gets_in(seconds):
    clock = FakeClock()
    with pytest.raises(ValueError, match="seconds must be a finite number of seconds"):
        clock.advance(seconds)
    with pytest.raises(ValueError, match="start must be a finite number of seconds"):
        FakeClock(seconds)
    assert clock() == 0.0


def test_it_cannot_be_moved_beyond_what_a_float_can_hold():
    clock = FakeClock(1e308)
    with pytest.raises(ValueError, match="finite"):
        clock.advance(1e308)
    assert clock() == 1e308


@pytest.mark.parametrize("seconds", ["1", None, True, timedelta(seconds=1), 1j])
def test_an_advance_that_is_not_a_number_is_a_type_error(seconds):
    clock = FakeClock()
    got = re.escape(f"must be a finite number of seconds, got {type(seconds).__name__}")
    with pytest.raises(TypeError, match=f"seconds {got}"):
        clock.advance(seconds)
    with pytest.raises(TypeError, match=f"start {got}"):
        FakeClock(seconds)


def test_every_advance_wakes_all_that_asked_in_order_after_the_time_has_changed():
    clock = FakeClock()
    first, second = Sleeper(clock), Sleeper(clock)
    clock.on_advance(first.wake)
    clock.advance(1)
    clock.on_advance(second.wake)
    clock.advance(1)
    assert (first.seen, second.seen) == ([1.0, 2.0], [2.0])


def test_an_advance_that_is_refused_wakes_nobody():
    clock = FakeClock()
    sleeper = Sleeper(clock)
    clock.on_advance(sleeper.wake)
    with pytest.raises(ValueError, match="finite"):
        clock.advance(float("nan"))
    assert sleeper.seen == []


def test_it_keeps_no_object_alive_and_forgets_those_that_are_gone():
    clock = FakeClock()
    gone, stays = Sleeper(clock), Sleeper(clock)
    clock.on_advance(gone.wake)
    clock.on_advance(stays.wake)
    seen = gone.seen
    del gone
    gc.collect()
    assert len(clock._wakes) == 1
    clock.advance(1)
    assert (seen, stays.seen) == ([], [1.0])


def test_an_object_that_goes_while_others_are_woken_is_not_woken():
    clock = FakeClock()

    class Last(Sleeper):
        def wake(self):
            others.clear()
            gc.collect()

    last = Last(clock)
    others = [Sleeper(clock)]
    seen = others[0].seen
    clock.on_advance(last.wake)
    clock.on_advance(others[0].wake)
    clock.advance(1)
    assert seen == []


def test_equal_objects_are_woken_each():
    class Equal(Sleeper):
        def __eq__(self, other):
            return True

        __hash__ = None

    clock = FakeClock()
    first, second = Equal(clock), Equal(clock)
    clock.on_advance(first.wake)
    clock.on_advance(second.wake)
    clock.advance(1)
    assert (first.seen, second.seen) == ([1.0], [1.0])


def test_an_object_that_is_woken_may_move_the_clock_and_ask_to_be_woken():
    clock = FakeClock()

    class Restless(Sleeper):
        def wake(self):
            super().wake()
            if len(self.seen) == 1:
                clock.on_advance(self.wake)
                clock.advance(1)

    restless = Restless(clock)
    clock.on_advance(restless.wake)
    clock.advance(1)
    assert restless.seen == [1.0, 2.0, 2.0]


def test_only_a_bound_method_can_be_woken_since_a_function_would_be_gone_immediately():
    with pytest.raises(TypeError):
        FakeClock().on_advance(lambda: None)


@pytest.fixture
def restless_threads():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless_threads")
def test_no_advance_is_lost_among_threads():
    clock = FakeClock()
    start = threading.Barrier(4)

    def advance():
        start.wait()
        for _ in range(5000):
            clock.advance(1)

    threads = [threading.Thread(target=advance) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock() == 20_000.0


def test_it_shows_its_time():
    assert repr(FakeClock(1.5)) == "FakeClock(1.5)"
