"""fluxgate."""

from typing import Any

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.trackers import Custom
from fluxgate.trippers import CallContext, Closed, FailureStreak, Tripper

from benchmarks.contenders.base import (
    RECOVERY,
    REGION,
    SUCCESSES,
    THRESHOLD,
    Contender,
    Listener,
    Send,
    SendNow,
    not_closed,
)
from benchmarks.faults import is_failure


class Fluxgate(Contender):
    """Its two breakers, one for each kind of function, put together from its parts."""

    name = "fluxgate"
    rejection = CallNotPermittedError
    notes = (
        "three successes in HALF_OPEN need a tripper of one's own",
        "calls beyond the one probe wait for it instead of being rejected",
    )
    reads = "wall"
    clocks = {
        "fluxgate.circuitbreaker.time": "time",
        "fluxgate.retries.time": "time",
        "fluxgate.permits.time": "call",
    }

    def __init__(self, listener: Listener | None = None) -> None:
        def tell(signal: Any) -> None:
            if listener is not None:
                listener(signal.new_state)

        self.settings: dict[str, Any] = {
            "tracker": Custom(is_failure),
            "tripper": (Closed() & FailureStreak(THRESHOLD)) | _Probes(),
            "retry": Cooldown(RECOVERY),
            "permit": All(),
            "listeners": () if listener is None else (tell,),
        }
        self.breaker = self.another(REGION)
        self.sync_breaker = CircuitBreaker(**self.settings)

    def protect(self, fn: Send) -> Send:
        return self.breaker(fn)

    def protect_sync(self, fn: SendNow) -> SendNow:
        return self.sync_breaker(fn)

    def another(self, region: str) -> AsyncCircuitBreaker:
        del region  # it has no name
        return AsyncCircuitBreaker(**self.settings, max_half_open_calls=1)

    def state(self) -> str:
        breakers = (self.breaker, self.sync_breaker)
        return not_closed(*(breaker.info().state.upper() for breaker in breakers))


class _Probes(Tripper):
    """In HALF_OPEN: open at one failure, and do not close before there are enough successes."""

    def __call__(self, ctx: CallContext) -> bool:
        enough = ctx.metric.total_count >= SUCCESSES
        return ctx.state == "half_open" and (ctx.metric.failure_count > 0 or not enough)
