"""pyresilience."""

from typing import Any

import pyresilience

from benchmarks.contenders.base import (
    RECOVERY,
    REGION,
    SUCCESSES,
    THRESHOLD,
    CannotExpressError,
    Contender,
    Listener,
    Send,
    SendNow,
)
from benchmarks.faults import COUNTED


class Pyresilience(Contender):
    """A decorator of its registry, whose health check says the state; told which types count."""

    name = "pyresilience"
    rejection = pyresilience.CircuitOpenError
    notes = ("counts by type only: 5xx and 4xx must be types of their own",)
    reads = "monotonic"
    clocks = {"pyresilience._circuit_breaker._monotonic": "call"}

    def __init__(self, listener: Listener | None = None) -> None:
        circuit = pyresilience.CircuitBreakerConfig(
            failure_threshold=THRESHOLD,
            recovery_timeout=RECOVERY,
            success_threshold=SUCCESSES,
            error_types=COUNTED,
        )

        def tell(event: Any) -> None:
            if listener is not None:
                listener(event.event_type.value)

        self.config = pyresilience.ResilienceConfig(
            circuit_breaker=circuit, listeners=[] if listener is None else [tell]
        )
        self.registry = pyresilience.ResilienceRegistry()
        self.registry.register(REGION, self.config)

    def protect(self, fn: Send) -> Send:
        return self.registry.decorator(REGION)(fn)

    def protect_sync(self, fn: SendNow) -> SendNow:
        return self.registry.decorator(REGION)(fn)

    def use_classifier_that_raises(self) -> None:
        raise CannotExpressError("takes types only")

    def another(self, region: str) -> object:
        self.registry.register(region, self.config)
        return self.registry.decorator(region)(another_send)

    def state(self) -> str:
        health = pyresilience.health_check(self.registry)
        return str(health[REGION]["circuit_breaker"]["state"]).upper()


async def another_send(region: str) -> str:
    """Stand under the decorator of a region: its circuit is made with the first function."""
    return region
