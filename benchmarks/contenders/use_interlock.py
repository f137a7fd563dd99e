"""interlock-cb."""

from typing import Any

import interlock

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
from benchmarks.faults import is_failure


class Interlock(Contender):
    """A breaker of its registry, as a decorator."""

    name = "interlock-cb"
    rejection = interlock.CircuitOpenError
    notes = (
        "opens at a share of failures in a window: here all of the last ten calls",
        "the same share decides about the three probes: it opens again only if all of them fail",
    )
    reads = "monotonic"
    clocks = {"interlock._clock.time": "time"}

    def __init__(self, listener: Listener | None = None) -> None:
        config = interlock.Config(
            failure_rate_threshold=1.0,
            minimum_number_of_calls=THRESHOLD,
            window_size=THRESHOLD,
            permitted_calls_in_half_open=SUCCESSES,
            wait_duration_in_open=RECOVERY,
        )
        self.registry = interlock.Registry(
            config=config,
            classifier=_Classifier(),
            listener=None if listener is None else _Tell(listener),
        )

    def protect(self, fn: Send) -> Send:
        return self.registry.get(REGION)(fn)

    def protect_sync(self, fn: SendNow) -> SendNow:
        return self.registry.get(REGION)(fn)

    def another(self, region: str) -> object:
        return self.registry.get(region)

    def state(self) -> str:
        return str(self.registry.get(REGION).state.value).upper()


class _Classifier:
    def is_failure(self, *, result: object, exception: Exception | None) -> bool:
        del result
        return exception is not None and is_failure(exception)


class _Tell(interlock.CoreEventListener):
    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def on_state_change(self, *, name: str, old: Any, new: Any) -> None:
        del name, old
        self.listener(new.value)
