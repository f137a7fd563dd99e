"""The calls to the region that goes down, and what it answers."""

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks.simulation.agenda import Agenda
from resilience import CircuitBreaker, CircuitBreakerOpenError, CircuitState, Permit, StateChanged

PROBE: Final = "probe"
RECOVERED: Final = "after the circuit has closed again"
BEFORE: Final = "before the circuit has opened"


class Region:
    """A region that is down for a while.

    Args:
        agenda: Time.
        down_from: When that begins.
        down_until: When it ends.
        answer: Seconds until the region answers, well or not.
    """

    def __init__(
        self, agenda: Agenda, *, down_from: float, down_until: float, answer: float
    ) -> None:
        self._agenda, self._answer = agenda, answer
        self._down_from, self._down_until = down_from, down_until
        self.requests: Counter[str] = Counter()
        self.by_second: Counter[int] = Counter()  # without those of recovered circuits
        self.probes_at_a_time = self._probing = 0
        self.before_the_trip: int | None = None

    def tripped(self) -> None:
        """Note how many requests there were when the first circuit opened."""
        if self.before_the_trip is None:
            self.before_the_trip = self.requests[BEFORE]

    def call(self, permit: Permit, kind: str) -> None:
        """Take a request, and answer it later."""
        now = self._agenda.now
        self.requests[kind] += 1
        self.by_second[int(now)] += kind is not RECOVERED
        self._probing += kind is PROBE
        self.probes_at_a_time = max(self.probes_at_a_time, self._probing)
        answer = permit.fail if self._down_from <= now < self._down_until else permit.succeed
        self._agenda.after(self._answer, partial(self._end, kind, answer))

    def _end(self, kind: str, answer: Callable[[], None]) -> None:
        self._probing -= kind is PROBE
        answer()


class Caller:
    """Calls the region at random times, in one process.

    Args:
        agenda: Time.
        chance: The source of all that is random.
        rate: Calls a second.
        region: The region.
        breaker: The circuit breaker of this process.
    """

    def __init__(
        self,
        agenda: Agenda,
        chance: random.Random,
        rate: float,
        region: Region,
        breaker: CircuitBreaker,
    ) -> None:
        self._agenda, self._chance, self._rate = agenda, chance, rate
        self._region, self._breaker = region, breaker
        self.opened_at: float | None = None  # for the first time
        self.closed_at: float | None = None  # for the last time
        self._planned = 0  # numbers the plans: only the last one is carried out
        breaker.listen(self._on_change)

    def plan(self, wait: float = 0.0) -> None:
        """Call after some time, but not before the wait is over."""
        self._planned += 1
        wait += self._chance.expovariate(self._rate)
        self._agenda.after(wait, partial(self._call, self._planned))

    def _call(self, planned: int) -> None:
        if planned != self._planned:
            return
        try:
            permit = self._breaker.acquire()
        except CircuitBreakerOpenError as error:
            # A call before the end of the recovery timeout changes nothing. Since the times are
            # random, all such calls can be left out without a difference to the later ones.
            is_early = error.state is CircuitState.OPEN
            self.plan((error.retry_after or 0.0) if is_early else 0.0)
        else:
            self._region.call(permit, self._kind())
            self.plan()

    def _kind(self) -> str:
        if self._breaker.state is not CircuitState.CLOSED:
            return PROBE
        return BEFORE if self.closed_at is None else RECOVERED

    def _on_change(self, event: StateChanged) -> None:
        if event.new is CircuitState.OPEN and self.opened_at is None:
            self.opened_at = event.at
            self._region.tripped()
        self.closed_at = event.at if event.new is CircuitState.CLOSED else None
        self.plan()
