"""The pace of a backlog: no window gets more than the limit, and live requests go first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.limits import (
    LONGEST_WAIT,
    AdaptiveRate,
    Drain,
    DrainReport,
    LimitReading,
    Pace,
    RateLimit,
)

GENESYS = RateLimit(300, 60)


def test_a_backlog_is_spaced_evenly_at_its_share():
    pace = Pace(0, GENESYS)
    assert pace.rate(0) == pytest.approx(4.75)
    assert pace.wait(0) == 0
    pace.start(0)
    assert pace.wait(0) == pytest.approx(1 / 4.75)
    assert pace.wait(100) == 0
    pace.start(100)
    assert pace.wait(100) == pytest.approx(1 / 4.75)  # it does not catch up


def test_what_arrives_live_does_not_wait_and_takes_its_place_from_the_backlog():
    pace = Pace(0, GENESYS)
    for _ in range(15):
        assert pace.wait(0, live=True) == 0
        pace.start(0)
    assert pace.wait(0, live=True) > 0
    assert pace.wait(0) == pytest.approx(15 / 4.75)


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=400), st.floats(0.5, 1))
def test_no_window_gets_more_than_the_limit(steps, share):
    limit = RateLimit(20, 10)
    pace = Pace(0, limit, share=share)
    now, starts = 0.0, []
    for gap, live in steps:
        now += gap * 0.1
        now += pace.wait(now, live=live)
        pace.start(now)
        starts.append(now)
    for first in starts:
        # A window that begins with this request; the tolerance is for adding up fractions.
        assert sum(first <= one < first + 10 - 1e-6 for one in starts) <= 20 + 1e-9


def test_nothing_starts_before_the_wait_is_over_and_no_wait_is_endless():
    pace = Pace(0, GENESYS)
    pace.back_off(0, 30)
    assert pace.wait(29, live=True) == pytest.approx(1)
    assert pace.wait(30, live=True) == 0
    pace.back_off(30, 10**9)
    assert pace.wait(30, live=True) == LONGEST_WAIT
    pace.back_off(30)  # a 5xx asks for nothing


def test_it_slows_down_to_what_others_leave():
    pace = Pace(0, GENESYS)
    pace.learn(LimitReading(remaining=30, resets_in=30), 0)
    assert pace.rate(29) == pytest.approx(0.95)
    assert pace.rate(30) == pytest.approx(4.75)
    pace.learn(LimitReading(remaining=0, resets_in=30), 30)
    pace.start(31)
    assert pace.wait(31) == pytest.approx(100)
    pace.learn(LimitReading(remaining=250, resets_in=30), 60)
    assert pace.rate(60) == pytest.approx(4.75)


def test_a_limit_is_learned_and_takes_the_place_of_what_was_found_out():
    pace = Pace(0)
    assert pace.limit is None
    assert pace.rate(0) == pace.adaptive.per_second == 1
    assert pace.wait(0, live=True) == 0
    pace.succeed(1)
    pace.back_off(5)
    assert pace.rate(5) == pytest.approx(0.75)
    pace.learn(LimitReading(limit=GENESYS), 10)
    pace.succeed(11)
    pace.back_off(12)
    assert pace.rate(12) == pytest.approx(4.75)
    assert pace.adaptive.per_second == pytest.approx(0.75)


def test_a_clock_that_steps_back_makes_nothing_wait_longer():
    pace = Pace(1000, GENESYS)
    pace.back_off(1000, 30)
    pace.learn(LimitReading(remaining=1, resets_in=30), 1000)
    assert pace.wait(10, live=True) == pytest.approx(30)
    pace.start(9)
    pace.back_off(8)
    assert pace.rate(8) == pytest.approx(4.75)


@pytest.mark.parametrize(("share", "kind"), [("1", TypeError), (0, ValueError), (1.1, ValueError)])
def test_a_share_that_makes_no_sense_is_refused(share, kind):
    with pytest.raises(kind, match="share must be a share above 0 and up to 1"):
        Pace(0, GENESYS, share=share)


def test_without_room_live_requests_wait_their_turn():
    pace = Pace(0, GENESYS, share=1)
    pace.start(0)
    assert pace.wait(0, live=True) == pace.wait(0) == pytest.approx(0.2)


# Finding the rate out


def test_a_rate_grows_with_the_time_in_which_requests_succeed():
    rate = AdaptiveRate(0, initial=2)
    for now in (0.5, 1.0, 1.0, 100):  # not with the time in which there are none
        rate.succeed(now)
    assert rate.per_second == 2 + 0.5 * 2


def test_a_burst_of_refusals_halves_the_rate_once():
    rate = AdaptiveRate(0, initial=16)
    for _ in range(50):
        rate.back_off(1, wait=10)
    assert rate.per_second == 8
    rate.back_off(11.9)
    assert rate.per_second == 8
    rate.back_off(12)
    assert rate.per_second == 4
    rate.back_off(0)  # the clock has stepped back
    assert rate.per_second == 2
    for now in range(20):
        rate.back_off(100 + 10 * now)
    assert rate.per_second == 0.1
    with pytest.raises(ValueError, match="initial"):
        AdaptiveRate(0, initial=0)


# A drain


def test_a_drain_says_how_long_it_takes():
    drain = Drain(Pace(0, GENESYS), 7200, 0)
    assert drain.estimate(0).eta == pytest.approx(7200 / 4.75)
    for second in range(1, 181):
        drain.arrive(second, 2)
    estimate = drain.estimate(180)
    assert (estimate.backlog, estimate.rate) == (7200, pytest.approx(4.75))
    assert estimate.arrivals == pytest.approx(2, rel=0.02)
    assert estimate.eta == pytest.approx(7200 / 2.75, rel=0.02)
    for second in range(181, 400):
        drain.arrive(second, 5)
    assert drain.estimate(400).eta is None  # it does not shrink
    drain.measure(0, 400)
    assert drain.estimate(400).eta == 0


def test_a_drain_counts_what_it_has_taken():
    drain = Drain(Pace(0, GENESYS), 2, 0)
    assert drain.wait(0) == 0
    for _ in range(4):
        drain.start(0)
    assert drain.wait(0, live=True) == 0
    drain.succeed(1)
    drain.succeed(1, live=True)
    drain.back_off(1, 7)
    drain.back_off(1, refused=False)
    assert drain.backlog == 1
    assert drain.report(9) == DrainReport(seconds=9, requests=4, refused=1)
    assert drain.wait(1, live=True) >= 7


@pytest.mark.parametrize(("allowed", "window"), [(1e-300, 1e300), (1e300, 1e-300)])
def test_a_limit_that_makes_no_rate_is_refused(allowed, window):
    with pytest.raises(ValueError, match=r"^allowed / window must be a finite number > 0, got"):
        RateLimit(allowed, window)


def test_a_rate_is_not_cooled_down_for_longer_than_the_longest_wait():
    rate = AdaptiveRate(0, initial=16)
    rate.back_off(0, 10**9)
    rate.back_off(LONGEST_WAIT + 1)
    assert rate.per_second == 4
