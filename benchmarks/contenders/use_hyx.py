"""hyx."""

from typing import cast

from hyx.circuitbreaker import consecutive_breaker
from hyx.circuitbreaker.exceptions import BreakerFailing

from benchmarks.contenders.base import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    RECOVERY,
    REGION,
    SUCCESSES,
    THRESHOLD,
    CannotExpressError,
    Contender,
    Listener,
    Send,
    no_listener,
)
from benchmarks.faults import COUNTED


class Hyx(Contender):
    """Its decorator, told which types count."""

    name = "hyx"
    rejection = BreakerFailing
    notes = ("counts by type only: 5xx and 4xx must be types of their own", "coroutines only")
    reads = "wall"
    clocks = {"hyx.circuitbreaker.states.datetime": "datetime"}

    def __init__(self, listener: Listener | None = None) -> None:
        no_listener(listener)
        self.breaker = self.another(REGION)

    def protect(self, fn: Send) -> Send:
        return cast("Send", self.breaker(fn))

    def use_classifier_that_raises(self) -> None:
        raise CannotExpressError("takes types only")

    def another(self, region: str) -> consecutive_breaker:
        del region  # it has no name
        return consecutive_breaker(
            exceptions=COUNTED,
            failure_threshold=THRESHOLD,
            recovery_time_secs=RECOVERY,
            recovery_threshold=SUCCESSES,
        )

    def state(self) -> str:
        words = {"working": CLOSED, "failing": OPEN, "recovering": HALF_OPEN}
        return words[self.breaker.state.name]
