"""pybreaker."""

import functools
from typing import Any

import pybreaker

from benchmarks.contenders.base import (
    RECOVERY,
    REGION,
    SUCCESSES,
    THRESHOLD,
    Contender,
    Listener,
    Send,
    SendNow,
)
from benchmarks.faults import is_excluded


class Pybreaker(Contender):
    """Its decorator for `def`, its context manager for `async def`."""

    name = "pybreaker"
    rejection = pybreaker.CircuitBreakerError
    notes = (
        "its decorator does not await coroutines (without tornado): `with breaker.calling()`",
        "an error that does not count is a success",
        "the call that opens the circuit raises its own error only when told so, as here",
    )
    reads = "wall"
    clocks = {"pybreaker.datetime": "datetime"}

    def __init__(self, listener: Listener | None = None) -> None:
        self.listeners = [] if listener is None else [_Tell(listener)]
        self.breaker = self.another(REGION)

    def protect(self, fn: Send) -> Send:
        breaker = self.breaker

        @functools.wraps(fn)
        async def protected(*args: Any, **kwargs: Any) -> Any:
            with breaker.calling():
                return await fn(*args, **kwargs)

        return protected

    def protect_sync(self, fn: SendNow) -> SendNow:
        return self.breaker(fn)

    def another(self, region: str) -> pybreaker.CircuitBreaker:
        return pybreaker.CircuitBreaker(
            fail_max=THRESHOLD,
            reset_timeout=RECOVERY,
            success_threshold=SUCCESSES,
            exclude=[is_excluded],
            throw_new_error_on_trip=False,
            listeners=self.listeners,
            name=region,
        )

    def state(self) -> str:
        return str(self.breaker.current_state).upper().replace("-", "_")


class _Tell(pybreaker.CircuitBreakerListener):
    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def state_change(self, _cb: Any, _old: Any, new: Any) -> None:
        self.listener(new.name)
