"""A full registry: its bound holds, and a new region costs no walk through all the others."""

import sys

import pytest

from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState, region_breaker

MANY = 1_000


def calls_of_ours(function):
    """Count the functions of the package that run; it says what something costs on any machine."""
    counted = 0

    def count(frame, event, _argument):
        nonlocal counted
        if event == "call" and "resilience" in frame.f_code.co_filename:
            counted += 1

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return counted


@pytest.fixture
def full(clock):
    """A registry that is full of OPEN circuits."""
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=1), max_regions=MANY, clock=clock
    )
    for number in range(MANY):
        registry.get(f"region-{number}").acquire().fail()
    return registry


def test_a_new_region_costs_no_walk_through_all_the_others(full):
    full.get("first")  # takes note of all that has happened since the start
    for number in range(20):
        assert calls_of_ours(lambda: full.get(f"new-{number}")) < 150  # noqa: B023 - called at once


def test_a_storm_of_new_regions_that_fail_costs_no_walk_either(full):
    full.get("first")

    def fail_in_a_new_region(number):
        full.get(f"new-{number}").acquire().fail()

    total = calls_of_ours(lambda: [fail_in_a_new_region(number) for number in range(200)])
    assert total < 200 * 200


def test_a_lower_bound_costs_a_walk_and_no_more(full):
    assert calls_of_ours(lambda: full.configure(max_regions=10)) < 60 * MANY
    assert len(full) == 10


def test_the_bound_holds_while_evicted_breakers_come_back(clock):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=1), max_regions=2, clock=clock
    )
    held = [registry.get(name) for name in "abcde"]
    for breaker in held:
        breaker.acquire().fail()
        assert len(registry) <= 2
    assert [registry.get(name) for name in "abcde"] == held
    assert len(registry) <= 2


def test_a_forced_circuit_stays_whatever_the_bound(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    for name in "abcd":
        registry.get(name).force_open("maintenance")
    assert {breaker.region for breaker in registry} == set("abcd")
    for number in range(10):
        registry.get(f"new-{number}")
    assert {*"abcd"} <= {breaker.region for breaker in registry}
    assert len(registry) <= 5


def test_blank_ones_go_before_idle_ones_and_idle_ones_before_the_oldest(clock):
    policy = BreakerPolicy(failure_threshold=2, recovery_timeout=60)
    registry = CircuitBreakerRegistry(policy, max_regions=3, clock=clock)
    registry.get("idle").acquire().fail()
    clock.advance(600)
    registry.get("oldest").acquire().fail()
    registry.get("blank")
    registry.get("first").acquire().fail()
    assert "blank" not in registry
    registry.get("second").acquire().fail()
    assert "idle" not in registry
    registry.get("third").acquire().fail()
    assert "oldest" not in registry
    assert {breaker.region for breaker in registry} == {"first", "second", "third"}


def test_a_streak_that_ended_makes_a_breaker_blank_again(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)

    @region_breaker(region_from="region", registry=registry)
    def send(region, error=None):
        if error:
            raise error

    for region in ("a", "b"):
        with pytest.raises(TimeoutError):
            send(region, TimeoutError())
    send("b")
    send("c")
    assert {breaker.region for breaker in registry} == {"a", "c"}


def test_one_that_is_listened_to_stays_until_nobody_listens(clock):
    registry = CircuitBreakerRegistry(max_regions=1, clock=clock)
    stop = registry.get("a").listen(print)
    registry.get("b")
    assert "a" in registry
    stop()
    registry.get("c")
    registry.get("d")
    assert {breaker.region for breaker in registry} == {"d"}


def test_an_open_circuit_outlives_thousands_of_names_that_come_once(clock):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=1), max_regions=10, clock=clock
    )
    registry.get("eu-west-1").acquire().fail()
    for number in range(3_000):
        registry.get(f"made-up-{number}")
    assert registry.get("eu-west-1").state is CircuitState.OPEN
    assert len(registry) == 10


def test_one_that_was_active_meanwhile_is_not_stale(clock):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=5, recovery_timeout=60), max_regions=2, clock=clock
    )
    registry.get("active").acquire().fail()
    registry.get("blank")
    registry.get("other")  # evicts the blank one, and orders the rest
    clock.advance(500)
    registry.get("active").acquire().fail()
    registry.get("other").acquire().fail()
    clock.advance(150)
    registry.get("new")
    assert {breaker.region for breaker in registry} == {"other", "new"}


def test_one_that_is_listened_to_is_kept_again(clock):
    registry = CircuitBreakerRegistry(max_regions=1, clock=clock)
    held = registry.get("a")
    registry.get("b")
    assert "a" not in registry
    held.listen(print)
    assert "a" in registry


def test_one_that_is_called_again_and_again_learns_although_it_was_evicted(clock):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=2), max_regions=1, clock=clock
    )
    for number in range(2):
        call = registry.get("a").acquire()
        registry.get(f"other-{number}")
        call.fail()
        del call
    assert registry.get("a").state is CircuitState.OPEN


def test_a_recovery_timeout_without_end_stops_no_eviction(clock):
    policy = BreakerPolicy(recovery_timeout=10**308)
    registry = CircuitBreakerRegistry(policy, max_regions=1, clock=clock)
    registry.get("a").acquire().fail()
    registry.get("b").acquire().fail()
    assert [breaker.region for breaker in registry] == ["b"]
