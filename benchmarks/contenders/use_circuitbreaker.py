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
    clocks = {"circuitbreaker.monotonic": "call", "circuitbreaker.datetime": "datetime"}

    def __init__(self, listener: Listener | None = None) -> None:
        no_listener(listener)
        self.breaker = self.another(REGION)

    def protect(self, fn: Send) -> Send:
        return self.breaker(fn)

    def protect_sync(self, fn: SendNow) -> SendNow:
        return self.breaker(fn)

    def another(self, region: str) -> circuitbreaker.CircuitBreaker:
        return circuitbreaker.CircuitBreaker(
            failure_threshold=THRESHOLD,
            recovery_timeout=RECOVERY,
            expected_exception=_counts,
            name=region,
        )

    def state(self) -> str:
        return str(self.breaker.state).upper()


def _counts(_: type[BaseException], error: BaseException) -> bool:
    return is_failure(error)
