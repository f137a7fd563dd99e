"""region-breaker itself, in the tables like any other."""

from typing import cast

from benchmarks.calls import REGION, Function, is_failure
from benchmarks.contenders.base import THRESHOLD, Clock, Contender
from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    Outcome,
    region_breaker,
)


class RegionBreaker(Contender):
    """`@region_breaker` with its default settings."""

    name = "region-breaker"
    rejection = CircuitBreakerOpenError

    def __init__(self, *, threshold: int = THRESHOLD, clock: Clock | None = None) -> None:
        policy = BreakerPolicy(failure_threshold=threshold)
        self.registry = CircuitBreakerRegistry(policy, clock=clock.monotonic if clock else None)

    def protect(self, fn: Function, path: str = "region") -> Function:
        return cast("Function", region_breaker(region_from=path, registry=self.registry)(fn))

    def use_classifier_that_raises(self) -> None:
        def classifier(error: BaseException) -> Outcome:
            return Outcome.FAILURE if is_failure(error) else Outcome.IGNORED

        self.registry.configure(classifier=classifier)

    def state(self) -> str:
        return self.registry.get(REGION).state.value
