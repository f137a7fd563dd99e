"""pybreaker."""

import functools
import inspect
from typing import cast

import pybreaker

from benchmarks.calls import REGION, Function, Send, is_excluded
from benchmarks.contenders.base import RECOVERY, SUCCESSES, THRESHOLD, Clock, Contender


class Pybreaker(Contender):
    """Its decorator for `def`, its context manager for `async def`."""

    name = "pybreaker"
    rejection = pybreaker.CircuitBreakerError
    notes = (
        "its decorator does not await coroutines (without tornado): `with breaker.calling()`",
        "an error that does not count is a success",
        "the call that opens the circuit raises its own error only with a setting, used here",
    )
    patches = {"pybreaker.datetime": "datetime"}

    def __init__(self, *, threshold: int = THRESHOLD, clock: Clock | None = None) -> None:
        del clock
        self.breaker = pybreaker.CircuitBreaker(
            fail_max=threshold,
            reset_timeout=RECOVERY,
            success_threshold=SUCCESSES,
            exclude=[is_excluded],
            throw_new_error_on_trip=False,
            name=REGION,
        )

    def protect(self, fn: Function, path: str = "region") -> Function:
        del path
        if not inspect.iscoroutinefunction(fn):
            return self.breaker(fn)
        breaker, send = self.breaker, cast("Send", fn)

        @functools.wraps(fn)
        async def protected(*args: object, **kwargs: object) -> object:
            with breaker.calling():
                return await send(*args, **kwargs)

        return cast("Function", protected)

    def state(self) -> str:
        return str(self.breaker.current_state).upper().replace("-", "_")


CONTENDER = Pybreaker
