"""BreakerPolicy: its defaults, and that every wrong threshold is refused when it is given."""

import dataclasses
import math
from datetime import timedelta

import pytest

from resilience import Backoff, BreakerPolicy, CircuitBreaker, CircuitBreakerOpenError

COUNTS = ("failure_threshold", "success_threshold", "half_open_probes", "minimum_calls")
SECONDS = ("recovery_timeout", "probe_timeout", "streak_window", "slow_call_duration", "window")
SECONDS += ("call_timeout", "stranded_after")
SHARES = ("failure_rate_threshold", "slow_call_rate_threshold")


def test_the_defaults_are_the_numbers_of_t10():
    policy = BreakerPolicy()
    assert dataclasses.asdict(policy) == {
        "failure_threshold": 10,
        "recovery_timeout": 60.0,
        "success_threshold": 3,
        "half_open_probes": 1,
        "probe_timeout": None,
        "streak_window": None,
        "failure_rate_threshold": None,
        "slow_call_duration": None,
        "slow_call_rate_threshold": None,
        "minimum_calls": 20,
        "window": 60.0,
        "recovery_jitter": 0.0,
        "honor_retry_after": False,
        "ramp": None,
        "call_timeout": None,
        "abandoned_threshold": None,
        "stranded_after": None,
        "cancel_stranded": False,
        "mode": "enforce",
    }


def test_every_field_can_be_given():
    policy = BreakerPolicy(
        failure_threshold=1,
        recovery_timeout=0.5,
        success_threshold=2,
        half_open_probes=4,
        probe_timeout=7,
    )
    assert (policy.failure_threshold, policy.success_threshold) == (1, 2)
    assert (policy.half_open_probes, policy.recovery_timeout) == (4, 0.5)
    assert policy.probe_timeout == 7


def test_seconds_may_be_whole_numbers():
    assert BreakerPolicy(recovery_timeout=5).recovery_timeout == 5


def test_a_policy_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BreakerPolicy().failure_threshold = 5


def test_equal_policies_are_equal_and_others_are_not():
    assert BreakerPolicy(failure_threshold=5) == BreakerPolicy(failure_threshold=5)
    assert BreakerPolicy(failure_threshold=5) != BreakerPolicy(failure_threshold=6)


def test_fields_are_given_by_name_only():
    with pytest.raises(TypeError):
        BreakerPolicy(10)


def test_an_unknown_field_is_refused():
    with pytest.raises(TypeError, match="timeout_duration"):
        BreakerPolicy(timeout_duration=1)


def test_replace_checks_the_new_value():
    with pytest.raises(ValueError, match="success_threshold"):
        dataclasses.replace(BreakerPolicy(), success_threshold=0)


def refusal(kind, field, value):
    with pytest.raises(kind) as caught:
        BreakerPolicy(**{field: value})
    return str(caught.value)


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize(
    "value", [True, False, "10", 10.0, None, timedelta(seconds=1), math.nan], ids=repr
)
def test_a_count_of_the_wrong_type_is_a_type_error_that_names_field_and_type(field, value):
    text = refusal(TypeError, field, value)
    assert field in text
    assert text.endswith(f"got {type(value).__name__}")


@pytest.mark.parametrize("field", COUNTS)
@pytest.mark.parametrize("value", [0, -1])
def test_a_count_below_one_is_a_value_error_that_names_field_and_value(field, value):
    text = refusal(ValueError, field, value)
    assert field in text
    assert str(value) in text


@pytest.mark.parametrize("field", SECONDS)
@pytest.mark.parametrize("value", [True, False, "60", timedelta(seconds=60), [60], 60j], ids=repr)
def test_seconds_of_the_wrong_type_are_a_type_error_that_names_field_and_type(field, value):
    text = refusal(TypeError, field, value)
    assert field in text
    assert text.endswith(f"got {type(value).__name__}")


@pytest.mark.parametrize("field", SECONDS)
@pytest.mark.parametrize("value", [10**400, -(10**400), 10**5000], ids=["big", "minus", "huge"])
def test_seconds_that_nobody_can_calculate_with_are_a_value_error(field, value):
    assert refusal(ValueError, field, value).endswith("got int")


@pytest.mark.parametrize("field", SECONDS)
@pytest.mark.parametrize("value", [0, 0.0, -1, -0.5, math.nan, math.inf, -math.inf], ids=repr)
def test_seconds_of_a_wrong_value_are_a_value_error_that_names_field_and_value(field, value):
    text = refusal(ValueError, field, value)
    assert field in text
    assert repr(value) in text


@pytest.mark.parametrize("field", SECONDS)
@pytest.mark.parametrize("value", [10**400, -(10**400)], ids=["large", "negative"])
def test_seconds_beyond_all_floats_are_a_value_error_that_names_the_field(field, value):
    assert field in refusal(ValueError, field, value)


@pytest.mark.parametrize("field", SHARES)
@pytest.mark.parametrize("value", [True, "0.5", [0.5]], ids=repr)
def test_a_share_of_the_wrong_type_is_a_type_error_that_names_field_and_type(field, value):
    text = refusal(TypeError, field, value)
    assert field in text
    assert text.endswith(f"got {type(value).__name__}")


@pytest.mark.parametrize("field", SHARES)
@pytest.mark.parametrize("value", [0, -0.1, 1.01, 50, math.nan, math.inf], ids=repr)
def test_a_share_out_of_range_is_a_value_error_that_names_field_and_value(field, value):
    text = refusal(ValueError, field, value)
    assert field in text
    assert repr(value) in text


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"slow_call_duration": 1}, ["slow_call_duration", "slow_call_rate_threshold"]),
        ({"slow_call_rate_threshold": 1}, ["slow_call_duration", "slow_call_rate_threshold"]),
        ({"honor_retry_after": True}, ["honor_retry_after", "recovery_timeout", "Backoff(60.0"]),
        (
            {"recovery_timeout": Backoff(1), "recovery_jitter": 0.5},
            ["recovery_jitter", "recovery_timeout", "jitter of the Backoff"],
        ),
        ({"ramp": (0, 2)}, ["start of ramp"]),
        ({"abandoned_threshold": 0}, ["abandoned_threshold"]),
        ({"stranded_after": 5, "call_timeout": 5}, ["stranded_after", "call_timeout"]),
        (
            {"slow_call_duration": 6, "slow_call_rate_threshold": 1, "call_timeout": 5},
            ["slow_call_duration", "call_timeout"],
        ),
        ({"ramp": (1, 0.5)}, ["factor of ramp"]),
        ({"ramp": (1, 10**400)}, ["factor of ramp"]),
        ({"window": 0.0009}, ["window", "at least 0.001 s"]),
        ({"recovery_jitter": 1e308}, ["recovery_timeout", "recovery_jitter"]),
        ({"ramp": (1, 1)}, ["factor of ramp"]),
        ({"recovery_jitter": -1}, ["recovery_jitter"]),
        ({"streak_window": 5, "failure_threshold": 1}, ["streak_window", "failure_threshold"]),
    ],
    ids=repr,
)
def test_numbers_that_contradict_each_other_are_an_error_that_names_both(fields, names):
    with pytest.raises(ValueError) as caught:
        BreakerPolicy(**fields)
    for name in names:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"ramp": 2}, "ramp"),
        ({"ramp": (1, 2, 3)}, "ramp"),
        ({"ramp": (1.5, 2)}, "start of ramp"),
        ({"ramp": (1, "2")}, "factor of ramp"),
        ({"honor_retry_after": 1}, "honor_retry_after"),
        ({"abandoned_threshold": 1.5}, "abandoned_threshold"),
        ({"cancel_stranded": None}, "cancel_stranded"),
        ({"recovery_jitter": "1"}, "recovery_jitter"),
    ],
    ids=repr,
)
def test_what_has_the_wrong_type_is_a_type_error_that_names_it(fields, name):
    with pytest.raises(TypeError) as caught:
        BreakerPolicy(**fields)
    assert name in str(caught.value)


def test_a_recovery_timeout_of_none_is_a_type_error():
    assert "recovery_timeout" in refusal(TypeError, "recovery_timeout", None)


@pytest.mark.parametrize(("probe_timeout", "lease"), [(None, 40.0), (5.0, 5.0)])
def test_without_a_probe_timeout_a_lease_lasts_for_the_recovery_timeout(
    clock, probe_timeout, lease
):
    policy = BreakerPolicy(failure_threshold=1, recovery_timeout=40.0, probe_timeout=probe_timeout)
    breaker = CircuitBreaker("eu-west-1", policy, clock=clock)
    breaker.acquire().fail()
    clock.advance(40)
    breaker.acquire()
    clock.advance(lease - 0.5)
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()
    clock.advance(0.5)
    breaker.acquire()


@pytest.mark.parametrize("policy", [None, 10, {"failure_threshold": 3}, BreakerPolicy])
def test_a_breaker_takes_nothing_but_a_policy(policy):
    with pytest.raises(TypeError, match="policy"):
        CircuitBreaker("eu-west-1", policy)


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_with_which_nobody_can_calculate_is_refused(name):
    with pytest.raises(ValueError, match=f"^{name} must be a whole number .*, got int$"):
        BreakerPolicy(**{name: 10**400})


def test_a_backoff_whose_jitter_has_no_room_in_any_number_is_refused():
    with pytest.raises(ValueError, match=r"^maximum must be at least inf s"):
        Backoff(10**308, jitter=9)
