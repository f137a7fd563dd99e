"""simulate: a scenario on virtual time does what real calls do."""

import math

import pytest

from resilience import BreakerPolicy, CircuitState
from resilience.explain import Phase, Scenario, simulate
from resilience.rules.trip import TripRule

OUTAGE = Phase(seconds=600, failure_rate=1.0)
BLACK_HOLE = Phase(seconds=600, hang_rate=1.0)
HEALTHY = Phase(seconds=600)
OPEN, HALF_OPEN, CLOSED = CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED


def play(policy, *phases, seed=0, **traffic):
    return simulate(policy, Scenario(phases=phases, **traffic), seed=seed)


def test_a_healthy_region_is_left_alone():
    result = play(BreakerPolicy(), HEALTHY)
    assert result.opens_after == result.closes_after == math.inf
    assert result.requests == result.requests_until_open == result.calls
    assert result.transitions == ()
    assert (result.failed, result.rejected) == (0, 0)
    assert result.worst_call == pytest.approx(0.1)


def test_an_outage_opens_and_its_end_closes():
    result = play(BreakerPolicy(recovery_timeout=30), OUTAGE, HEALTHY, attempts=1)
    assert 0.5 < result.opens_after < 3
    # Ten that failed, and what was on its way.
    assert 10 <= result.requests_until_open <= 15
    assert result.transitions[-1].new is CLOSED
    assert 600 < result.opens_after + result.closes_after < 600 + 31
    # One probe for each recovery timeout, and three that succeed.
    assert [change.new for change in result.transitions].count(HALF_OPEN) in (19, 20, 21)
    assert result.rejected > 5000


def test_the_same_seed_gives_the_same_and_another_one_does_not():
    partial = Phase(seconds=600, failure_rate=0.9)
    first, again, other = (play(BreakerPolicy(), partial, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.requests != other.requests


def test_calls_that_wait_for_their_next_attempt_end_when_the_circuit_opens():
    result = play(BreakerPolicy(), OUTAGE)
    assert result.opens_after > 15
    # The first call fails after five attempts; none of those that come later has time for that.
    assert result.worst_call < 22
    after = result.requests - result.requests_until_open
    assert after == [change.new for change in result.transitions].count(HALF_OPEN)


def test_a_region_that_swallows_requests_is_noticed_by_timeouts():
    result = play(BreakerPolicy(), BLACK_HOLE)
    assert 64 < result.opens_after < 75


def test_without_a_timeout_nothing_ends_and_nothing_opens():
    result = play(BreakerPolicy(), BLACK_HOLE, request_timeout=None, concurrency=7)
    assert result.opens_after == math.inf
    assert (result.calls, result.requests) == (7, 7)
    assert 590 < result.worst_call <= 600


@pytest.mark.parametrize(
    ("fields", "traffic", "least", "most"),
    [
        ({"call_timeout": 5.0}, {}, 5, 8),
        ({"stranded_after": 3.0}, {}, 3, 6),
        ({"stranded_after": 3.0, "cancel_stranded": True}, {}, 3, 6),
        ({"abandoned_threshold": 10}, {"gives_up_after": 4.0}, 4, 7),
    ],
)
def test_the_rules_for_silence_work_without_a_timeout(fields, traffic, least, most):
    result = play(BreakerPolicy(**fields), BLACK_HOLE, request_timeout=None, **traffic)
    assert least < result.opens_after < most


def test_cancelled_calls_take_no_longer_than_until_the_circuit_opens():
    stays = BreakerPolicy(stranded_after=3.0, recovery_timeout=1000)
    ends = BreakerPolicy(stranded_after=3.0, recovery_timeout=1000, cancel_stranded=True)
    assert play(stays, BLACK_HOLE, request_timeout=None).worst_call > 500
    assert play(ends, BLACK_HOLE, request_timeout=None).worst_call < 6


def test_calls_that_give_up_say_nothing_without_a_rule():
    result = play(BreakerPolicy(), BLACK_HOLE, request_timeout=None, gives_up_after=4.0)
    assert result.opens_after == math.inf
    assert result.worst_call == pytest.approx(4.0)


def test_slow_answers_open_by_their_own_rule_only():
    slow = Phase(seconds=600, slow_rate=0.9, slow_latency=3.0)
    policy = BreakerPolicy(slow_call_duration=2.0, slow_call_rate_threshold=0.5)
    (opening, *_) = play(policy, slow).transitions
    assert opening.rule is TripRule.SLOW_CALL_RATE
    assert play(BreakerPolicy(), slow).opens_after == math.inf


def test_an_answer_that_takes_longer_than_the_client_waits_is_a_failure():
    slow = Phase(seconds=60, latency=3.0)
    assert play(BreakerPolicy(), slow, attempts=1, request_timeout=2.0).opens_after < 5


def test_no_more_calls_run_than_there_is_room_for():
    phase = Phase(seconds=100, latency=10.0)
    result = play(BreakerPolicy(), phase, concurrency=3, request_timeout=None)
    assert 24 <= result.calls <= 33


def test_a_probe_that_expires_and_a_call_that_ends_late_change_nothing():
    policy = BreakerPolicy(recovery_timeout=5, probe_timeout=1, call_timeout=9)
    result = play(policy, BLACK_HOLE, request_timeout=None)
    assert result.opens_after < 12
    assert result.closes_after == math.inf


def test_a_policy_that_only_observes_is_simulated_as_if_it_rejected():
    observes, enforces = BreakerPolicy(mode="observe"), BreakerPolicy()
    assert play(observes, OUTAGE).rejected == play(enforces, OUTAGE).rejected > 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((None, Scenario(phases=(OUTAGE,)), 0), "policy must be a BreakerPolicy"),
        ((BreakerPolicy(), OUTAGE, 0), "scenario must be a Scenario"),
        ((BreakerPolicy(), Scenario(phases=(OUTAGE,)), 1.5), "seed must be a int"),
    ],
)
def test_wrong_arguments_are_refused(arguments, text):
    policy, scenario, seed = arguments
    with pytest.raises(TypeError, match=text):
        simulate(policy, scenario, seed=seed)


def test_an_answer_that_comes_after_the_breaker_has_ended_the_call_is_no_second_end():
    late = Scenario(phases=(Phase(seconds=10, failure_rate=1.0, latency=1.0),), attempts=1)
    result = simulate(BreakerPolicy(call_timeout=0.5, failure_threshold=1000), late)
    assert result.worst_call == pytest.approx(0.5)
    assert 0 < result.failed <= result.calls
