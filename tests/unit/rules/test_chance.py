"""How long chance takes to trip a circuit: the closed forms against counting and simulation."""

import math

import pytest

from resilience import BreakerPolicy
from resilience.explain import Phase, Scenario, simulate
from resilience.rules.chance import (
    mean_calls_until_streak,
    median_calls_until_streak,
    trips_per_second,
)


def median_by_counting(share, threshold):
    """Follow the chances of every length of the streak, call by call."""
    streaks, calls = [1.0] + [0.0] * threshold, 0
    while streaks[threshold] < 0.5:
        going = streaks[:threshold]
        grown = [share * chance for chance in going]
        streaks = [(1 - share) * sum(going), *grown[:-1], streaks[threshold] + grown[-1]]
        calls += 1
    return calls


def test_the_mean_is_that_of_the_known_examples():
    assert round(mean_calls_until_streak(0.9**5, 10)) == 471
    assert 1.1e15 < mean_calls_until_streak(0.5**5, 10) < 1.2e15
    assert mean_calls_until_streak(1.0, 10) == 10
    assert mean_calls_until_streak(0.0, 10) == math.inf


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("threshold", [1, 2, 5])
def test_the_median_is_what_counting_finds(share, threshold):
    assert median_calls_until_streak(share, threshold) == median_by_counting(share, threshold)


def test_the_median_of_rare_streaks_goes_on_where_counting_ends():
    exact = median_by_counting(0.3, 8)
    assert median_calls_until_streak(0.3, 8) == pytest.approx(exact, rel=0.001)
    assert median_calls_until_streak(0.0, 8) == math.inf


def mean_time_to_open(policy, share, calls_per_second, runs):
    """Count how often it opens in as much time as many runs take that never close."""
    phase = Phase(seconds=4_000 / calls_per_second, failure_rate=share)
    scenario = Scenario(
        phases=(phase,), attempts=1, calls_per_second=calls_per_second, concurrency=10_000
    )
    opened = [simulate(policy, scenario, seed=seed).opens_after for seed in range(runs)]
    seconds = sum(min(after, scenario.seconds) for after in opened)
    return seconds / sum(after < math.inf for after in opened)


POLICIES = {
    "a streak": ({"failure_threshold": 5}, 0.25),
    "a streak that ages": ({"failure_threshold": 4, "streak_window": 0.2}, 0.3),
    "a rate of few calls": (
        {"failure_rate_threshold": 0.5, "minimum_calls": 20, "window": 3, "failure_threshold": 99},
        0.28,
    ),
    "a rate of many calls": (
        {"failure_rate_threshold": 0.2, "minimum_calls": 10, "window": 30, "failure_threshold": 99},
        0.135,
    ),
    "both": ({"failure_rate_threshold": 0.5, "window": 5, "failure_threshold": 6}, 0.26),
}


@pytest.mark.parametrize("name", POLICIES)
def test_trips_by_chance_come_as_often_as_simulated(name):
    fields, share = POLICIES[name]
    policy = BreakerPolicy(**fields)
    expected = 1 / trips_per_second(policy, share, 5.0)
    # What is of interest is the share of failures that trips at some rate. It is much closer.
    assert expected / 2 < mean_time_to_open(policy, share, 5.0, 15) < 2 * expected


def test_a_share_of_everything_or_nothing_needs_no_chance():
    policy = BreakerPolicy(failure_rate_threshold=1.0)
    assert trips_per_second(policy, 0.0, 5.0) == 0
    assert trips_per_second(policy, 1.0, 5.0) == 0
    assert 0 < trips_per_second(policy, 0.5, 1.0) < 1


@pytest.mark.parametrize("threshold", [0.1, 0.5, 1.0])
def test_more_failures_trip_more_often_below_the_threshold(threshold):
    policy = BreakerPolicy(failure_rate_threshold=threshold, failure_threshold=1000)
    shares = [threshold * part for part in (0.2, 0.4, 0.6)]
    rates = [trips_per_second(policy, share, 1.0) for share in shares]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_a_share_above_the_threshold_trips_in_a_moment():
    policy = BreakerPolicy(failure_rate_threshold=0.2, window=10)
    assert trips_per_second(policy, 0.3, 2.0) > 1e-3


def test_a_great_window_takes_no_longer_than_a_small_one():
    policy = BreakerPolicy(failure_rate_threshold=0.5, window=3600, failure_threshold=1000)
    assert trips_per_second(policy, 0.01, 1000.0) == 0.0


def test_a_window_in_which_one_failure_is_enough():
    policy = BreakerPolicy(failure_threshold=1000, failure_rate_threshold=1, minimum_calls=1)
    share, calls_per_second = 0.01, 0.1
    no_success = math.exp(-calls_per_second * (1 - share) * policy.window)
    trips = trips_per_second(policy, share, calls_per_second)
    assert trips == pytest.approx(calls_per_second * share * no_success, rel=0.1)
