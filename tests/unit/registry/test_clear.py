"""registry.clear(): everything is forgotten, and everything can be set again."""

import gc
import weakref

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreakerRegistry,
    CircuitState,
    default_registry,
    region_breaker,
)
from resilience.testing import FakeClock


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)


def test_it_forgets_breakers_and_their_history(registry):
    registry.get("a").force_open("maintenance")
    breaker = weakref.ref(registry.get("a"))
    registry.clear()
    gc.collect()
    assert breaker() is None
    assert (len(registry), len(registry.history), registry.history.total) == (0, 0, 0)
    assert registry.get("a").state is CircuitState.CLOSED


def test_the_clock_and_the_names_can_be_set_again(registry):
    registry.get("a")
    with pytest.raises(RuntimeError):
        registry.configure(clock=FakeClock())
    registry.clear()
    clock = FakeClock(5.0)
    registry.configure(clock=clock, normalize=str.lower)
    assert registry.now() == 5.0
    assert registry.get("EU").region == "eu"


def test_listeners_end(registry):
    changes, rejections = [], []
    registry.listen(changes.append)
    stop = registry.on_rejection(rejections.append)
    held = registry.get("a")
    registry.clear()
    for breaker in (held, registry.get("a")):
        breaker.force_open("maintenance")
        with pytest.raises(Exception, match="maintenance"):
            breaker.acquire()
    assert (changes, rejections) == ([], [])
    stop()


def test_a_breaker_that_is_held_stands_alone(registry):
    held = registry.get("a")
    registry.clear()
    assert registry.get("a") is not held
    held.force_open("maintenance")
    assert registry.get("a").state is CircuitState.CLOSED
    assert registry.history.total == 0


def test_decorated_functions_find_the_new_breakers(registry):
    @region_breaker(region_from="region", registry=registry)
    def send(region):
        return region

    send("a")
    registry.clear()
    send("a")
    assert registry.get("a").snapshot().successes == 1


@pytest.mark.parametrize("number", range(3))
def test_the_default_registry_takes_a_fake_clock_in_every_test(number):
    clock = FakeClock(float(number))
    default_registry.configure(clock=clock)
    try:
        assert default_registry.get("eu-west-1").now() == number
    finally:
        default_registry.clear()
        default_registry.configure(clock=None)


def test_a_breaker_that_was_evicted_before_does_not_come_back(clock):
    registry = CircuitBreakerRegistry(max_regions=1, clock=clock)
    held = registry.get("a")
    registry.get("b")
    registry.clear()
    held.force_open("maintenance")
    assert "a" not in registry
