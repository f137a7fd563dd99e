"""circuitbreaker."""

import circuitbreaker

from benchmarks.calls import REGION, Function, is_failure
from benchmarks.contenders.base import RECOVERY, THRESHOLD, Clock, Contender


class Circuitbreaker(Contender):
    """`@circuit`, with a function that decides what counts."""

    name = "circuitbreaker"
    rejection = circuitbreaker.CircuitBreakerError
    notes = (
        "it closes at the first success in HALF_OPEN",
        "an error that does not count is a success",
    )
    patches = {"circuitbreaker.monotonic": "monotonic", "circuitbreaker.datetime": "datetime"}

    def __init__(self, *, threshold: int = THRESHOLD, clock: Clock | None = None) -> None:
        del clock
        self.breaker = circuitbreaker.CircuitBreaker(
            failure_threshold=threshold,
            recovery_timeout=RECOVERY,
            expected_exception=_counts,
            name=REGION,
        )

    def protect(self, fn: Function, path: str = "region") -> Function:
        del path
        return self.breaker(fn)

    def state(self) -> str:
        return str(self.breaker.state).upper()


def _counts(_: type[BaseException], error: BaseException) -> bool:
    return is_failure(error)


CONTENDER = Circuitbreaker
