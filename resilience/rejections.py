"""Rejected calls in the log: the first of an outage, then one line per recovery timeout.

A storm of rejections must not become a storm of log lines, and each of them should cost its caller
next to nothing. So the circuit is told from when until when a rejection has nothing to tell, and
the count is taken from there, where it is anyway.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from resilience import events, log
from resilience._lock import lock
from resilience.circuit import Circuit, CircuitState, Rejection

# Is told about every rejection: the region, and what the circuit said.
Watcher: TypeAlias = Callable[[str, Rejection], object]


@dataclass(slots=True, eq=False)
class Rejections:
    """What is to be told about the calls that one circuit rejects.

    An outage lasts from the first rejection until the circuit is CLOSED again.
    """

    _region: str
    _circuit: Circuit
    _last: float | None = None  # when a line was written in this outage
    _told: int = 0  # how many rejections the lines have told of

    def tell(self, rejection: Rejection, now: float, watchers: tuple[Watcher, ...]) -> None:
        """Tell about a rejection what is due; the caller does not hold the lock."""
        self._tell_watchers(rejection, watchers)
        timeout = self._circuit.policy.recovery_timeout
        with lock:
            last, count = self._last, self._rejected() - self._told
            telling = last is None or not last <= now < last + timeout
            if telling:
                count = 1 if last is None else count
                self._last, self._told = now, self._told + count
            if not watchers and self._last is not None:
                self._circuit.keep_quiet(now, self._last + timeout)
        if last is None:
            self._log_first(rejection)
        elif telling:
            self._log_more(count, now - last)

    def __call__(self, event: events.StateChanged) -> None:
        """Log a change of state, and before it the rest of the rejections when it ends them."""
        if event.new is CircuitState.CLOSED:
            self._end(event)
        log.log_state(event)

    def _end(self, event: events.StateChanged) -> None:
        with lock:
            last, count = self._last, self._rejected() - self._told
            self._last, self._told = None, self._rejected()
        if last is not None and count:
            self._log_more(count, event.at - last)

    def _rejected(self) -> int:
        return self._circuit.counts()[3]

    def _tell_watchers(self, rejection: Rejection, watchers: tuple[Watcher, ...]) -> None:
        for watcher in watchers:
            try:
                watcher(self._region, rejection)
            except Exception as error:  # noqa: BLE001 - the caller is to get the rejection
                log.log_fault("watcher", watcher, log.describe_exception(error), self._region)

    def _log_first(self, rejection: Rejection) -> None:
        state, reason, _ = rejection
        bound = {"state": state, "reason": reason, "rejected": 1}
        text = f"rejects calls for region {{}}, which is {state}: {reason}"
        log.log("INFO", self._region, text, bound)

    def _log_more(self, count: int, seconds: float) -> None:
        passed = max(0.0, seconds)  # the clock may have stepped back
        calls = f"{count} call{'' if count == 1 else 's'}"
        bound = {"rejected": count, "seconds": passed}
        text = f"rejected {calls} for region {{}} in {passed:.0f} s"
        log.log("INFO", self._region, text, bound)
