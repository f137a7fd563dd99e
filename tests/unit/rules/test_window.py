"""SlidingWindow: what it holds, for how long, and in how much memory."""

import random
import sys

import pytest

from resilience.rules.window import SlidingWindow


def counts(window, *, now):
    window.slide(now)
    return window.calls, window.failures, window.slow


def test_what_is_added_is_in_it():
    window = SlidingWindow(60, 0)
    window.add(3)
    window.add(1, failures=1)
    window.add(1, failures=1, slow=1)
    assert counts(window, now=0) == (5, 2, 1)


@pytest.mark.parametrize("seconds", [1, 10, 60, 3600, 0.5])
@pytest.mark.parametrize("start", [0.0, 1000.0, 123456.0])
def test_a_call_leaves_exactly_when_the_window_has_passed(seconds, start):
    window = SlidingWindow(seconds, start)
    window.add(1, failures=1)
    assert counts(window, now=start + seconds * 0.999) == (1, 1, 0)
    assert counts(window, now=start + seconds) == (0, 0, 0)


def test_a_call_leaves_at_most_one_sixtieth_early():
    window = SlidingWindow(60, 0)
    assert counts(window, now=30.9) == (0, 0, 0)
    window.add(1)
    assert counts(window, now=89.9) == (1, 0, 0)
    assert counts(window, now=90) == (0, 0, 0)


def test_each_slice_leaves_by_itself():
    window = SlidingWindow(60, 0)
    for second in range(60):
        window.slide(second)
        window.add(1, failures=second % 2)
    assert counts(window, now=59) == (60, 30, 0)
    for later in range(1, 61):
        assert counts(window, now=59 + later) == (60 - later, 30 - later // 2, 0)


@pytest.mark.parametrize("idle", [60, 61, 3600, 86400 * 365])
def test_after_idle_time_it_is_empty_and_works(idle):
    window = SlidingWindow(60, 0)
    window.add(7, failures=7)
    assert counts(window, now=idle) == (0, 0, 0)
    window.add(1)
    assert counts(window, now=idle + 59) == (1, 0, 0)
    assert counts(window, now=idle + 60) == (0, 0, 0)


def test_a_clock_that_steps_back_keeps_what_is_in_it_for_one_window_at_most():
    window = SlidingWindow(60, 1000)
    window.slide(1010)
    window.add(4, failures=2)
    assert counts(window, now=10) == (4, 2, 0)
    assert window.slice_begin == 10
    assert counts(window, now=69) == (4, 2, 0)
    assert counts(window, now=70) == (0, 0, 0)


def test_it_agrees_with_a_list_of_all_calls_whatever_the_traffic():
    chance = random.Random(7)
    window, calls, now = SlidingWindow(30, 0), [], 0.0
    for _ in range(5000):
        now += chance.choice([0, 0.125, 0.5, 3, 40 * (chance.random() < 0.05)])
        window.slide(now)
        failed, slow = chance.random() < 0.5, chance.random() < 0.1
        window.add(1, failures=failed, slow=slow)
        calls.append((int(now * 2), failed, slow))
        calls = [call for call in calls if call[0] > int(now * 2) - 60]
        assert window.calls == len(calls)
        assert window.failures == sum(call[1] for call in calls)
        assert window.slow == sum(call[2] for call in calls)


def size_of(window):
    fields = [getattr(window, name) for name in type(window).__slots__]
    return sys.getsizeof(window) + sum(map(sys.getsizeof, fields))


def test_it_stays_below_4_kb_whatever_the_traffic():
    window = SlidingWindow(60, 0)
    at_first = size_of(window)
    for second in range(10_000):
        window.slide(second / 7)
        window.add(10**9, failures=10**9, slow=10**9)
    assert size_of(window) <= at_first + 200  # the numbers themselves are longer
    assert size_of(window) < 4096


def test_it_shows_what_it_counts():
    window = SlidingWindow(60, 0)
    window.add(3, failures=2, slow=1)
    assert repr(window) == "<SlidingWindow of 60 s: 3 calls, 2 failures, 1 slow>"
