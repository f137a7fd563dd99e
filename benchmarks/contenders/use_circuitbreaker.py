"""circuitbreaker."""

import circuitbreaker

from benchmarks.contenders.base import (
    RECOVERY,
    REGION,
    THRESHOLD,
    Contender,
    Listener,
    Send,
    SendNow,
    no_listener,
)
from benchmarks.faults import is_failure


class Circuitbreaker(Contender):
    """`@circuit`, with a function that says what counts."""

    name = "circuitbreaker"
    rejection = circuitbreaker.CircuitBreakerError
    notes = (
        "closes at the first success in HALF_OPEN",
        "an error that does not count is a success",
    )
    reads = "monotonic"
    clocks = {"circuitbreaker.monotonic": "call"}

    def __init__(self, listener: Listener | None = None) -> None:
        no_listener(listener)
        self.breaker = circuitbreaker.CircuitBreaker(
            failure_threshold=THRESHOLD,
            recovery_timeout=RECOVERY,
            expected_exception=lambda _, error: is_failure(error),
            name=REGION,
        )

    def protect(self, fn: Send) -> Send:
        return self.breaker(fn)

    def protect_sync(self, fn: SendNow) -> SendNow:
        return self.breaker(fn)

    def is_open(self) -> bool:
        return bool(self.breaker.opened)
