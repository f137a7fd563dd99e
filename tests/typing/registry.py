"""The registry: one breaker per region, and its settings."""

# A wrong line that is no error is one: both checkers refuse a `type: ignore` without a cause.
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Callable
from typing import assert_type

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerRegistry,
    CircuitSnapshot,
    StateChanged,
    __version__,
    classify_error,
    classify_status,
    default_registry,
)
from resilience.genesys import GenesysRegion, canonical_region
from resilience.recording import Recorded, Recording, read_recording
from resilience.replay import Comparison, Replayed, compare, incident_reports, replay

registry = CircuitBreakerRegistry(
    BreakerPolicy(), max_regions=10, normalize=str.lower, clock=lambda: 0.0
)


def breakers() -> None:
    assert_type(default_registry, CircuitBreakerRegistry)
    assert_type(registry.get("eu-west-1"), CircuitBreaker)
    registry.get(GenesysRegion.EU_WEST_1)
    assert_type(list(registry), list[CircuitBreaker])
    assert_type(len(registry), int)
    assert_type("eu-west-1" in registry, bool)
    assert_type(registry.snapshots(), list[CircuitSnapshot])
    assert_type(registry.reset(), None)

    registry.get(None)  # type: ignore[arg-type]
    registry.get()  # type: ignore[call-arg]


def settings() -> None:
    assert_type(registry.configure(), None)
    registry.configure(
        policy=BreakerPolicy(recovery_timeout=30),
        policies={"eu-west-1": BreakerPolicy(failure_threshold=5)},
        max_regions=100,
        classifier=classify_error,
        result_classifier=classify_status,
        normalize=canonical_region,
        clock=lambda: 0.0,
    )
    registry.configure(policies=None, result_classifier=None, normalize=None, clock=None)

    registry.configure(polices={})  # type: ignore[call-arg]
    registry.configure(policy=None)  # type: ignore[arg-type]
    registry.configure(policies={"eu-west-1": 5})  # type: ignore[dict-item]
    registry.configure(max_regions="100")  # type: ignore[arg-type]
    registry.configure(clock=lambda: "now")  # type: ignore[arg-type,return-value]
    CircuitBreakerRegistry(BreakerPolicy(), {})  # type: ignore[call-arg]


def listeners(events: list[StateChanged]) -> None:
    assert_type(registry.listen(events.append), Callable[[], None])

    registry.listen(None)  # type: ignore[arg-type]


def genesys() -> None:
    assert_type(canonical_region("mypurecloud.ie"), str)
    assert_type(GenesysRegion.EU_WEST_1.domain, str)
    assert_type(GenesysRegion("eu-west-1"), GenesysRegion)
    version: str = __version__
    assert version


assert_type(registry.record("outcomes.rec", limit=10, on_outage=print), Recording)
registry.record(3)  # type: ignore[arg-type]

recorded = read_recording("outcomes.rec")
assert_type(recorded, Recorded)
assert_type(replay(recorded.regions[0]), Replayed)
assert_type(replay(recorded.regions[0], BreakerPolicy()), Replayed)
assert_type(compare(recorded.regions[0], {"default": BreakerPolicy()}), Comparison)
assert_type(incident_reports("outcomes.rec"), list[str])
