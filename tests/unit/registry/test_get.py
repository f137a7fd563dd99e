"""Making and finding breakers, by any name of their region."""

import subprocess
import sys
import threading

import pytest

import resilience
from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerRegistry,
    Outcome,
    classify_status,
)
from resilience.genesys import canonical_region
from tests.support.driving import CLOSED, OPEN, ServerError, trip
from tests.support.regions import FIVE_SPELLINGS

# Making and finding


def test_a_breaker_is_made_on_first_use(registry):
    assert len(registry) == 0
    assert "eu-west-1" not in registry
    breaker = registry.get("eu-west-1")
    assert isinstance(breaker, CircuitBreaker)
    assert (breaker.region, breaker.state) == ("eu-west-1", CLOSED)
    assert len(registry) == 1
    assert "eu-west-1" in registry


def test_looking_makes_nothing(registry):
    assert "eu-west-1" not in registry
    assert registry.snapshots() == []
    assert list(registry) == []
    assert len(registry) == 0


def test_finding_makes_nothing(registry):
    assert registry.find("eu-west-1") is None
    assert len(registry) == 0
    breaker = registry.get("eu-west-1")
    assert registry.find("eu-west-1") is breaker
    with pytest.raises(TypeError, match="region must be a str, got NoneType"):
        registry.find(None)
    with pytest.raises(ValueError, match="region must not be empty"):
        registry.find(" ")


def test_finding_knows_every_spelling_and_what_was_evicted(clock):
    registry = CircuitBreakerRegistry(normalize=str.lower, max_regions=1, clock=clock)
    breaker = registry.get("eu")
    registry.get("us")
    assert "eu" not in registry
    assert registry.find("EU") is breaker


def test_the_same_region_is_the_same_breaker_ever_after(registry):
    assert registry.get("eu-west-1") is registry.get("eu-west-1")


def test_each_region_has_a_circuit_of_its_own(registry):
    trip(registry.get("eu-west-1"))
    assert registry.get("eu-west-1").state is OPEN
    assert registry.get("us-east-1").state is CLOSED
    registry.get("us-east-1").acquire()


def test_two_registries_share_nothing(clock):
    first, second = CircuitBreakerRegistry(clock=clock), CircuitBreakerRegistry(clock=clock)
    assert first.get("eu-west-1") is not second.get("eu-west-1")


def test_without_normalize_every_spelling_is_its_own(registry):
    assert registry.get("EU") is not registry.get("eu")


def test_breakers_get_what_the_registry_was_given(clock):
    policy = BreakerPolicy(failure_threshold=1)
    registry = CircuitBreakerRegistry(
        policy, classifier=lambda _: Outcome.FAILURE, result_classifier=classify_status, clock=clock
    )
    breaker = registry.get("eu-west-1")
    assert breaker.policy == policy
    with pytest.raises(ValueError, match="a bug"), breaker.acquire():
        raise ValueError("a bug")
    assert breaker.state is OPEN
    clock.advance(60)
    breaker(lambda: ServerError(503))()  # what it returns has a status
    assert breaker.state is OPEN


def test_eight_threads_that_arrive_together_get_one_breaker(registry):
    barrier = threading.Barrier(8)
    got = [[] for _ in range(8)]

    def work(mine):
        for number in range(100):
            barrier.wait()
            mine.append(registry.get(f"region-{number}"))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(mine,)) for mine in got]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    for same in zip(*got, strict=True):
        assert len({id(breaker) for breaker in same}) == 1
    assert len(got[0]) == len(registry) == 100


# Bad regions


@pytest.mark.parametrize("region", [None, 5, b"eu-west-1", ["eu-west-1"]], ids=repr)
def test_a_region_that_is_not_a_string_is_a_type_error(registry, region):
    with pytest.raises(TypeError, match="region"):
        registry.get(region)
    assert len(registry) == 0


@pytest.mark.parametrize("region", ["", " ", "\n\t "], ids=repr)
def test_a_region_without_a_name_is_a_value_error(registry, region):
    with pytest.raises(ValueError, match="region"):
        registry.get(region)
    assert len(registry) == 0


# Names


@pytest.mark.parametrize("first", FIVE_SPELLINGS)
def test_five_spellings_are_one_circuit_whichever_came_first(clock, first):
    registry = CircuitBreakerRegistry(normalize=canonical_region, clock=clock)
    breaker = registry.get(first)
    assert breaker.region == "us-east-1"
    assert all(registry.get(spelling) is breaker for spelling in FIVE_SPELLINGS)
    assert all(spelling in registry for spelling in FIVE_SPELLINGS)
    assert len(registry) == 1


def test_unknown_names_stay_exactly_as_they_are(clock):
    registry = CircuitBreakerRegistry(normalize=canonical_region, clock=clock)
    for text in ("Mars-North", "tokens:us-east-1", " padded "):
        assert registry.get(text).region == text


def test_the_default_registry_knows_the_genesys_names():
    program = (
        "from resilience import CircuitBreakerRegistry, default_registry as registry\n"
        f"found = {{id(registry.get(text)) for text in {FIVE_SPELLINGS!r}}}\n"
        "assert isinstance(registry, CircuitBreakerRegistry)\n"
        "assert len(found) == len(registry) == 1\n"
        "assert registry.get('mypurecloud.com').region == 'us-east-1'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_default_registry_is_a_module_level_name():
    assert isinstance(resilience.default_registry, CircuitBreakerRegistry)


@pytest.mark.parametrize("junk", [None, 5, "", "  ", b"us", ["us"]], ids=repr)
def test_a_normalize_that_returns_junk_is_a_clear_error(clock, junk):
    registry = CircuitBreakerRegistry(normalize=lambda _: junk, clock=clock)
    with pytest.raises((TypeError, ValueError), match=r"region|normalize"):
        registry.get("us-east-1")
    assert len(registry) == 0


def test_a_normalize_that_raises_makes_no_breaker_and_breaks_nothing(clock):
    def normalize(text):
        if text == "bad":
            raise LookupError("no such region")
        return text

    registry = CircuitBreakerRegistry(normalize=normalize, clock=clock)
    with pytest.raises((LookupError, TypeError, ValueError)) as caught:
        registry.get("bad")
    assert "no such region" in f"{caught.value} {caught.value.__cause__}"
    assert len(registry) == 0
    assert registry.get("good").region == "good"


def test_a_region_that_is_not_a_string_never_reaches_normalize(clock):
    def normalize(text):
        pytest.fail("it promises to take text")

    registry = CircuitBreakerRegistry(normalize=normalize, clock=clock)
    with pytest.raises(TypeError):
        registry.get(None)


def test_a_normalize_that_asks_the_registry_does_not_lock_up(clock):
    registry = CircuitBreakerRegistry(
        normalize=lambda text: registry.get("other").region if text == "one" else text, clock=clock
    )
    assert registry.get("one") is registry.get("other")
