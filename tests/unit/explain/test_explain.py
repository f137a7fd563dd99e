"""policy.explain: figures, and the sentences that they make."""

import math

import pytest

from resilience import Backoff, BreakerPolicy
from resilience.explain import Explanation, Opening

NO_FIGURES = {
    "attempts": 1,
    "call_timeout": None,
    "calls_per_second": 0.5,
    "concurrency": 1,
    "full_outage": Opening(after=3.21, requests=4),
    "black_hole": Opening(after=math.inf, requests=math.inf),
    "errors_90": Opening(after=125, requests=1234),
    "errors_50": Opening(after=1e18, requests=1e18),
    "closes_after": 61.5,
    "longest_wait": 7200,
    "healthy_error_rate": 1.0,
}


def test_the_sentences_of_figures():
    explanation = Explanation(**NO_FIGURES, notes=("Look at this",))
    text = str(explanation)
    assert text.startswith(
        "0.5 calls per second, 1 at a time at most, with 1 attempt each, without a timeout:\n"
    )
    for sentence in (
        "- Every request fails: opens after 3.2 s, which costs 4 requests.",
        "- No request is answered: never opens.",
        "- 90 % of the requests fail: opens after 2.08 min, which costs 1,230 requests.",
        "opens after more than a billion years, which costs 1e+18 requests.",
        "- Closed again 62 s after opening, if the region is back by then. Between two probes",
        "there are 2 hours at most.",
        "- Does not open by chance.",
        "- Look at this.",
    ):
        assert sentence in text


def test_the_default_is_blind_where_half_of_the_requests_fail():
    explanation = BreakerPolicy().explain()
    assert 15 < explanation.full_outage.after < 20
    assert 65 < explanation.black_hole.after < 75
    assert explanation.errors_50.after > 1e6 * 365 * 86_400
    assert explanation.closes_after == pytest.approx(60, abs=2)
    assert explanation.longest_wait == 60
    assert 0.5 < explanation.healthy_error_rate < 0.9
    assert "Opens by chance once a month where" in str(explanation)
    assert "up to 5 attempts each, of 10 s at most" in str(explanation)


def test_a_rate_sees_half_of_the_requests_fail():
    blind = BreakerPolicy().explain(attempts=1)
    seeing = BreakerPolicy(failure_rate_threshold=0.4).explain(attempts=1)
    assert seeing.errors_50.after < 10 < blind.errors_50.after


def test_a_rate_far_above_the_errors_opens_by_chance_alone():
    policy = BreakerPolicy(failure_rate_threshold=0.9, failure_threshold=40)
    explanation = policy.explain(attempts=1)
    assert explanation.errors_50.after > 86_400
    never = BreakerPolicy(
        failure_rate_threshold=0.9, failure_threshold=10_000, minimum_calls=10_000, window=60
    )
    assert never.explain(attempts=1, calls_per_second=1).errors_50.after == math.inf


def test_stranded_calls_are_simulated_and_what_is_too_rare_is_still_found():
    policy = BreakerPolicy(stranded_after=3)
    explanation = policy.explain()
    assert explanation.black_hole.after < 5
    assert explanation.errors_50.after > 86_400


def test_what_no_rule_sees_is_never():
    explanation = BreakerPolicy().explain(call_timeout=None)
    assert explanation.black_hole.after == math.inf
    assert explanation.black_hole.requests == math.inf


def test_a_full_process_makes_fewer_calls_in_the_same_time():
    roomy = BreakerPolicy().explain(concurrency=1000)
    full = BreakerPolicy().explain(concurrency=20)
    assert full.errors_50.after > 1.2 * roomy.errors_50.after
    assert full.errors_90.after > 0


@pytest.mark.parametrize(
    ("fields", "longest", "closes"),
    [
        ({"recovery_timeout": 10, "recovery_jitter": 0.2}, 12, 11),
        ({"recovery_timeout": Backoff(10, maximum=300)}, 300, 10),
        ({"recovery_timeout": Backoff(10, factor=1)}, 10, 10),
        ({"recovery_timeout": Backoff(10, factor=1), "honor_retry_after": True}, 900, 10),
        ({"recovery_timeout": 10, "half_open_probes": 3}, 10, 10),
    ],
)
def test_closing_follows_the_recovery_timeout(fields, longest, closes):
    explanation = BreakerPolicy(**fields).explain()
    assert explanation.longest_wait == pytest.approx(longest)
    assert closes < explanation.closes_after < closes + 1


@pytest.mark.parametrize(
    ("fields", "traffic", "text"),
    [
        (
            {"failure_rate_threshold": 0.5},
            {"calls_per_second": 0.1},
            "holds 6 calls on average, fewer than minimum_calls=20",
        ),
        ({"streak_window": 5}, {"calls_per_second": 0.1}, "Calls are 10 s apart on average"),
        ({}, {"call_timeout": None}, "Requests have no timeout"),
        ({"mode": "observe"}, {}, 'With mode="observe" no call is rejected'),
    ],
)
def test_what_figures_do_not_say_is_noted(fields, traffic, text):
    (note,) = BreakerPolicy(**fields).explain(**traffic).notes
    assert text in note


def test_a_policy_that_is_fine_has_no_notes():
    policy = BreakerPolicy(failure_rate_threshold=0.5, streak_window=60, call_timeout=60)
    assert policy.explain().notes == ()


def test_a_circuit_that_needs_more_calls_than_a_month_has_never_opens_by_chance():
    policy = BreakerPolicy(failure_threshold=10**9)
    assert policy.explain(attempts=1).healthy_error_rate == 1.0


def test_a_circuit_that_opens_at_every_failure_opens_at_the_least_share_of_them():
    policy = BreakerPolicy(failure_threshold=1)
    explanation = policy.explain(attempts=1, calls_per_second=1000)
    assert explanation.healthy_error_rate == pytest.approx(1e-6)


@pytest.mark.parametrize(
    "arguments",
    [{"attempts": 0}, {"call_timeout": -1}, {"calls_per_second": 0}, {"concurrency": 0}],
)
def test_wrong_arguments_are_named(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=name):
        BreakerPolicy().explain(**arguments)


@pytest.mark.parametrize("threshold", [5e-324, 1e-9])
def test_a_rate_that_any_failure_reaches_can_be_explained(threshold):
    policy = BreakerPolicy(failure_rate_threshold=threshold, minimum_calls=1_000)
    assert policy.explain(attempts=1).errors_50.after < 1_000


def test_traffic_of_any_size_can_be_explained():
    policy = BreakerPolicy(failure_rate_threshold=0.5)
    found = [
        policy.explain(calls_per_second=calls, concurrency=10**6).healthy_error_rate
        for calls in (1e-300, 1, 100, 10_000, 100_000)
    ]
    assert found[0] == 1.0
    assert 0.5 < found[4] < found[3] < found[2] < 1


def test_more_calls_than_find_room_can_be_explained():
    explanation = BreakerPolicy().explain(calls_per_second=1e20)
    assert 0 < explanation.errors_50.after < math.inf
