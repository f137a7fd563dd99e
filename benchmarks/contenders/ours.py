"""region-breaker itself, in the table like any other."""

from typing import Any

from benchmarks.contenders.base import (
    REGION,
    Contender,
    Listener,
    Send,
    SendNow,
)
from benchmarks.faults import is_failure
from resilience import (
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    Outcome,
    StateChanged,
    region_breaker,
)


class RegionBreaker(Contender):
    """`@region_breaker` as it comes: the defaults are the mission's."""

    name = "region-breaker"
    rejection = CircuitBreakerOpenError
    reads = "monotonic"
    clocks = {"resilience.breaker.time": "time", "resilience.breaker.datetime": "datetime"}

    def __init__(self, listener: Listener | None = None) -> None:
        self.registry = CircuitBreakerRegistry()
        if listener is not None:

            def tell(event: StateChanged) -> None:
                listener(event.new)

            self.registry.listen(tell)

    def protect(self, fn: Send) -> Send:
        return region_breaker(region_from="region", registry=self.registry)(fn)

    def protect_sync(self, fn: SendNow) -> SendNow:
        decorated: Any = region_breaker(region_from="region", registry=self.registry)(fn)
        return decorated

    def use_classifier_that_raises(self) -> None:
        def classifier(error: BaseException) -> Outcome:
            return Outcome.FAILURE if is_failure(error) else Outcome.IGNORED

        self.registry.configure(classifier=classifier)

    def another(self, region: str) -> object:
        return self.registry.get(region)

    def state(self) -> str:
        return self.registry.get(REGION).state.value
