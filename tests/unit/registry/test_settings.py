"""A policy for each region, and bad settings."""

import gc

import pytest

from resilience import BreakerPolicy, CircuitBreakerRegistry, Outcome
from resilience.genesys import canonical_region
from tests.support.regions import FIVE_SPELLINGS

# A policy per region


def test_a_region_may_have_a_policy_of_its_own(clock):
    own = BreakerPolicy(failure_threshold=1)
    registry = CircuitBreakerRegistry(policies={"small": own}, clock=clock)
    assert registry.get("small").policy == own
    assert registry.get("other").policy == BreakerPolicy()


def test_a_policy_of_its_own_is_found_under_every_spelling(clock):
    own = BreakerPolicy(failure_threshold=1)
    registry = CircuitBreakerRegistry(
        policies={"mypurecloud.com": own}, normalize=canonical_region, clock=clock
    )
    assert all(registry.get(spelling).policy == own for spelling in FIVE_SPELLINGS)


def test_policies_are_configured_for_circuits_that_exist(registry):
    own = BreakerPolicy(failure_threshold=1)
    small, other = registry.get("small"), registry.get("other")
    registry.configure(policies={"small": own})
    assert (small.policy, other.policy) == (own, BreakerPolicy())
    registry.configure(policy=BreakerPolicy(failure_threshold=7))
    assert (small.policy, other.policy) == (own, BreakerPolicy(failure_threshold=7))
    registry.configure(policies={})
    assert small.policy == BreakerPolicy(failure_threshold=7)


def test_the_mapping_of_policies_is_copied(clock):
    policies = {"small": BreakerPolicy(failure_threshold=1)}
    registry = CircuitBreakerRegistry(policies=policies, clock=clock)
    policies.clear()
    assert registry.get("small").policy.failure_threshold == 1


# Bad settings


BAD = [
    ("policy", "strict", TypeError),
    ("policy", 10, TypeError),
    ("policies", ["small"], TypeError),
    ("policies", {"small": 10}, TypeError),
    ("policies", {5: BreakerPolicy()}, TypeError),
    ("max_regions", "5", TypeError),
    ("max_regions", 5.0, TypeError),
    ("max_regions", True, TypeError),
    ("max_regions", 0, ValueError),
    ("max_regions", -1, ValueError),
    ("classifier", 5, TypeError),
    ("result_classifier", 5, TypeError),
    ("normalize", 5, TypeError),
    ("clock", 5, TypeError),
]


@pytest.mark.parametrize(("name", "value", "kind"), BAD)
def test_a_bad_setting_is_refused_when_given(name, value, kind):
    with pytest.raises(kind, match=name.removesuffix("ies")):
        CircuitBreakerRegistry(**{name: value})


@pytest.mark.parametrize(("name", "value", "kind"), BAD)
def test_a_bad_setting_is_refused_by_configure_which_then_changes_nothing(name, value, kind):
    registry = CircuitBreakerRegistry()
    good = {"policy": BreakerPolicy(failure_threshold=2), "max_regions": 7}
    with pytest.raises(kind, match=name.removesuffix("ies")):
        registry.configure(**{**good, name: value})
    assert registry.get("a").policy == BreakerPolicy()


@pytest.mark.parametrize("name", ["classifier", "result_classifier"])
def test_an_async_classifier_is_a_type_error(registry, name):
    async def judge(_):
        return Outcome.FAILURE

    with pytest.raises(TypeError, match=name):
        CircuitBreakerRegistry(**{name: judge})
    with pytest.raises(TypeError, match=name):
        registry.configure(**{name: judge})


def test_an_unknown_setting_is_refused(registry):
    with pytest.raises(TypeError, match="retries"):
        registry.configure(retries=3)


def test_a_region_that_policies_names_in_two_spellings_is_a_value_error():
    policies = {"us-east-1": BreakerPolicy(), "mypurecloud.com": BreakerPolicy()}
    with pytest.raises(ValueError, match=r"policies names a region twice: us-east-1, mypurecloud"):
        CircuitBreakerRegistry(policies=policies, normalize=canonical_region)


def test_a_breaker_that_was_evicted_idle_is_kept_again_once_it_holds_information(clock):
    registry = CircuitBreakerRegistry(max_regions=1, clock=clock)
    first = registry.get("first")
    registry.get("second")
    assert "first" not in registry
    first.force_open("maintenance")
    del first
    gc.collect()
    assert registry.get("first").snapshot().reason == "forced open: maintenance"
    assert "first" in registry


def test_a_full_registry_that_can_evict_no_breaker_logs_no_eviction(clock, log):
    registry = CircuitBreakerRegistry(max_regions=1, clock=clock)
    registry.get("first").force_open("maintenance")
    registry.get("second").force_open("maintenance")
    registry.get("third")
    assert len(registry) == 3
    assert not [record for record in log if "max_regions" in record["message"]]


@pytest.mark.parametrize("region", [None, 7, b"eu-west-1", "", " "])
def test_a_value_that_is_not_a_region_is_not_in_the_registry(region):
    assert region not in CircuitBreakerRegistry()


def test_the_warning_of_a_full_registry_names_its_limit_and_comes_once(clock, log):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    for number in range(6):
        registry.get(f"region-{number}")
    (record,) = log
    assert record["message"] == (
        "Circuit breaker registry keeps 2 regions (max_regions) and has evicted one: does"
        " region_from give a region, or something that never repeats?"
    )


def test_a_normalize_that_raises_is_named_with_its_error_and_the_region():
    def normalize(region):
        raise LookupError(region)

    with pytest.raises(ValueError, match=r"^normalize raised LookupError for 'eu-west-1'$"):
        CircuitBreakerRegistry(normalize=normalize).get("eu-west-1")


def test_the_spellings_of_every_region_stay_known(clock):
    registry = CircuitBreakerRegistry(normalize=str.lower, max_regions=3, clock=clock)
    spellings = ["one", "ONE", "two", "TWO", "three", "THREE"]
    for spelling in spellings:
        registry.get(spelling)
    assert list(registry.aliases) == spellings
