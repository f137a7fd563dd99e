"""purgatory."""

from typing import Any

import purgatory
from purgatory.domain.model import OpenedState

from benchmarks.contenders.base import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    RECOVERY,
    REGION,
    THRESHOLD,
    Contender,
    Listener,
    Send,
    SendNow,
    not_closed,
)
from benchmarks.faults import is_excluded


class Purgatory(Contender):
    """Its factory as a decorator; one factory for each kind of function."""

    name = "purgatory"
    rejection = OpenedState
    notes = (
        "closes at the first success in HALF_OPEN",
        "an error that does not count is a success",
    )
    reads = "wall"
    clocks = {"purgatory.domain.model.time": "time"}

    def __init__(self, listener: Listener | None = None) -> None:
        settings = {
            "default_threshold": THRESHOLD,
            "default_ttl": RECOVERY,
            "exclude": [(BaseException, is_excluded)],
        }
        self.factory = purgatory.AsyncCircuitBreakerFactory(**settings)
        self.sync_factory = purgatory.SyncCircuitBreakerFactory(**settings)
        if listener is not None:

            def tell(_name: str, kind: str, event: Any) -> None:
                if kind == "state_changed":
                    listener(event.state)

            self.factory.add_listener(tell)
            self.sync_factory.add_listener(tell)

    def protect(self, fn: Send) -> Send:
        return self.factory(REGION)(fn)

    def protect_sync(self, fn: SendNow) -> SendNow:
        return self.sync_factory(REGION)(fn)

    def another(self, region: str) -> object:
        return self.sync_factory.get_breaker(region)

    def state(self) -> str:
        words = {"closed": CLOSED, "opened": OPEN, "half-opened": HALF_OPEN}
        breakers = (
            _at_once(self.factory.get_breaker(REGION)),
            self.sync_factory.get_breaker(REGION),
        )
        return not_closed(*(words[breaker.context.state] for breaker in breakers))


def _at_once(coroutine: Any) -> Any:
    """Await what does not wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")
