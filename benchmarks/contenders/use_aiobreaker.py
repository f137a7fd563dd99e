"""aiobreaker."""

from datetime import timedelta
from typing import Any

import aiobreaker

from benchmarks.contenders.base import (
    RECOVERY,
    REGION,
    THRESHOLD,
    Contender,
    Listener,
    Send,
    SendNow,
)
from benchmarks.faults import is_excluded


class Aiobreaker(Contender):
    """Its decorator, which takes both kinds of function."""

    name = "aiobreaker"
    rejection = aiobreaker.CircuitBreakerError
    notes = (
        "closes at the first success in HALF_OPEN",
        "an error that does not count is a success",
        "the call that opens the circuit raises the breaker's error",
    )
    reads = "wall"
    clocks = {
        "aiobreaker.state.datetime": "datetime",
        "aiobreaker.circuitbreaker.datetime": "datetime",
    }

    def __init__(self, listener: Listener | None = None) -> None:
        self.listeners = [] if listener is None else [_Tell(listener)]
        self.breaker = self.another(REGION)

    def protect(self, fn: Send) -> Send:
        return self.breaker(fn)

    def protect_sync(self, fn: SendNow) -> SendNow:
        return self.breaker(fn)

    def another(self, region: str) -> aiobreaker.CircuitBreaker:
        return aiobreaker.CircuitBreaker(
            fail_max=THRESHOLD,
            timeout_duration=timedelta(seconds=RECOVERY),
            exclude=[is_excluded],
            listeners=self.listeners,
            name=region,
        )

    def state(self) -> str:
        return str(self.breaker.current_state.name)


class _Tell(aiobreaker.CircuitBreakerListener):
    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def state_change(self, _breaker: Any, _old: Any, new: Any) -> None:
        self.listener(new.state.name)
