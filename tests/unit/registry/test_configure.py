"""Changing settings while circuits exist."""

import asyncio
import gc

import pytest

from resilience import BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry, Outcome
from resilience.testing import FakeClock
from tests.support.driving import CLOSED, HALF_OPEN, OPEN, trip


def test_configure_applies_immediately_to_the_circuits_that_exist(registry):
    breaker = registry.get("a")
    for _ in range(4):
        breaker.acquire().fail()
    registry.configure(policy=BreakerPolicy(failure_threshold=5))
    assert breaker.policy.failure_threshold == 5
    breaker.acquire().fail()
    assert breaker.state is OPEN
    assert registry.get("b").policy.failure_threshold == 5


@pytest.mark.parametrize(("timeout", "left"), [(20, 10.0), (300, 290.0)])
def test_configure_moves_the_end_of_a_running_open(registry, clock, timeout, left):
    breaker = registry.get("a")
    trip(breaker)
    clock.advance(10)
    registry.configure(policy=BreakerPolicy(recovery_timeout=timeout))
    assert breaker.retry_after == left
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    assert caught.value.retry_after == left
    clock.advance(left)
    breaker.acquire()


def test_configure_may_end_a_running_open_immediately(registry, clock):
    breaker = registry.get("a")
    trip(breaker)
    clock.advance(30)
    registry.configure(policy=BreakerPolicy(recovery_timeout=5))
    assert breaker.state is HALF_OPEN
    breaker.acquire()


async def test_configure_that_ends_an_open_wakes_the_tasks_that_wait_for_it(registry, clock):
    breaker = registry.get("a")
    trip(breaker)
    clock.advance(30)
    task = asyncio.create_task(breaker.wait_until_ready())
    await asyncio.sleep(0)
    registry.configure(policy=BreakerPolicy(recovery_timeout=5))
    assert await task is True


def test_leases_keep_their_end(registry, clock):
    breaker = registry.get("a")
    trip(breaker)
    clock.advance(60)
    breaker.acquire()
    registry.configure(policy=BreakerPolicy(probe_timeout=5))
    clock.advance(59.75)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    assert caught.value.retry_after == 0.25
    clock.advance(0.25)
    breaker.acquire()
    clock.advance(5)
    breaker.acquire()


def test_configure_changes_how_many_may_probe(registry, clock):
    breaker = registry.get("a")
    trip(breaker)
    clock.advance(60)
    breaker.acquire()
    registry.configure(policy=BreakerPolicy(half_open_probes=2))
    breaker.acquire()
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()


def test_fewer_places_than_probes_are_waited_for_until_one_is_really_free(registry, clock):
    breaker = registry.get("a")
    registry.configure(policy=BreakerPolicy(half_open_probes=2))
    trip(breaker)
    clock.advance(60)
    breaker.acquire()
    clock.advance(0.5)
    breaker.acquire()
    registry.configure(policy=BreakerPolicy(half_open_probes=1))
    clock.advance(59.25)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    assert caught.value.retry_after == 0.75
    clock.advance(0.75)
    breaker.acquire()
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()


def test_configure_changes_how_many_successes_close(registry, clock):
    breaker = registry.get("a")
    trip(breaker)
    clock.advance(60)
    breaker.acquire().succeed()
    registry.configure(policy=BreakerPolicy(success_threshold=2))
    breaker.acquire().succeed()
    assert breaker.state is CLOSED


def test_configure_changes_the_classifiers_of_circuits_that_exist(registry):
    breaker = registry.get("a")
    registry.configure(
        classifier=lambda _: Outcome.FAILURE, result_classifier=lambda _: Outcome.IGNORED
    )
    with pytest.raises(ValueError, match="a bug"), breaker.acquire():
        raise ValueError("a bug")
    breaker(lambda: "sent")()
    snapshot = breaker.snapshot()
    assert (snapshot.failures, snapshot.ignored, snapshot.successes) == (1, 1, 0)


def test_configure_changes_a_function_decorated_before(registry):
    send = registry.get("a")(lambda: "sent")
    send()
    registry.configure(result_classifier=lambda _: Outcome.FAILURE)
    send()
    assert registry.get("a").snapshot().failures == 1


def test_configure_keeps_what_is_not_given(registry):
    policy = BreakerPolicy(failure_threshold=2)
    registry.configure(policy=policy, classifier=lambda _: Outcome.FAILURE)
    registry.configure()
    registry.configure(max_regions=50)
    breaker = registry.get("a")
    assert breaker.policy == policy
    with pytest.raises(KeyError), breaker.acquire():
        raise KeyError
    assert breaker.snapshot().failures == 1


def test_a_smaller_bound_applies_at_the_next_region(registry):
    for number in range(20):
        registry.get(f"region-{number}")
    registry.configure(max_regions=5)
    registry.get("one-more")
    gc.collect()
    assert len(registry) <= 5


def test_normalize_and_clock_are_configured_while_the_registry_is_empty():
    registry, clock = CircuitBreakerRegistry(), FakeClock()
    registry.configure(normalize=str.lower, clock=clock)
    breaker = registry.get("EU")
    assert breaker.region == "eu"
    trip(breaker)
    clock.advance(60)
    assert breaker.state is HALF_OPEN


@pytest.mark.parametrize("change", [{"normalize": str.lower}, {"clock": FakeClock()}])
def test_normalize_and_clock_are_fixed_once_there_are_breakers(registry, change):
    kept = registry.get("EU")
    with pytest.raises(RuntimeError, match=next(iter(change))):
        registry.configure(policy=BreakerPolicy(failure_threshold=2), **change)
    assert kept.policy == BreakerPolicy()


def test_settings_that_are_changed_at_the_same_time_are_all_changed():
    registry = CircuitBreakerRegistry()
    asked = []

    def normalize(region):
        if not asked:
            asked.append(region)
            registry.configure(max_regions=7)  # as another thread would
        return region

    registry.configure(normalize=normalize, policies={"a": BreakerPolicy(failure_threshold=3)})
    assert registry.max_regions == 7
    assert registry.get("a").policy.failure_threshold == 3
