"""purgatory."""

from typing import Any

import purgatory
from purgatory.domain.model import OPENED, OpenedState

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
        self.listener = listener
        self.state = ""
        self.listened = False

    def listen(self) -> None:
        """Have the factories tell of changes, which makes every call dearer."""
        if not self.listened:
            self.listened = True
            self.factory.add_listener(self._tell)
            self.sync_factory.add_listener(self._tell)

    def protect(self, fn: Send) -> Send:
        if self.listener is not None:
            self.listen()
        return self.factory(REGION)(fn)

    def protect_sync(self, fn: SendNow) -> SendNow:
        if self.listener is not None:
            self.listen()
        return self.sync_factory(REGION)(fn)

    def another(self, region: str) -> object:
        return self.sync_factory.get_breaker(region)

    def is_open(self) -> bool:
        self.listen()
        return self.state == OPENED

    def _tell(self, _name: str, kind: str, event: Any) -> None:
        if kind == "state_changed":
            self.state = event.state
            if self.listener is not None:
                self.listener(event.state)
