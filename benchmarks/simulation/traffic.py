"""The calls to the region that is going to be sick, and what it answers."""

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks.simulation.agenda import Agenda
from resilience import (
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitState,
    Permit,
    StateChanged,
)

PROBE: Final = "probe"
WELL: Final = "after it was closed again"
OTHER: Final = "before it has opened"


class Region:
    """One that is sick for a while.

    Args:
        agenda: Time.
        sick_from: When that begins.
        sick_until: When it ends.
        answer: Seconds until it answers, whether well or not.
    """

    def __init__(
        self, agenda: Agenda, *, sick_from: float, sick_until: float, answer: float
    ) -> None:
        self._agenda, self._answer = agenda, answer
        self._sick_from, self._sick_until = sick_from, sick_until
        self.requests: Counter[str] = Counter()
        self.by_second: Counter[int] = Counter()  # without those after it was closed again
        self.probes_at_once = self._probing = 0
        self.before_the_trip: int | None = None

    def tripped(self) -> None:
        """Note how many requests there were when the first circuit opened."""
        if self.before_the_trip is None:
            self.before_the_trip = self.requests[OTHER]

    def call(self, permit: Permit, kind: str) -> None:
        """Take a request, and answer it some time later."""
        now = self._agenda.now
        self.requests[kind] += 1
        self.by_second[int(now)] += kind is not WELL
        self._probing += kind is PROBE
        self.probes_at_once = max(self.probes_at_once, self._probing)
        answer = permit.fail if self._sick_from <= now < self._sick_until else permit.succeed
        self._agenda.after(self._answer, partial(self._end, kind, answer))

    def _end(self, kind: str, answer: Callable[[], None]) -> None:
        self._probing -= kind is PROBE
        answer()


class Caller:
    """What one process calls the region for, at random times.

    Args:
        agenda: Time.
        chance: Where all that is random comes from.
        rate: Calls a second.
        region: Who is called.
        breaker: Who is asked first.
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
        self._planned = 0  # counts the plans: only the last is carried out
        breaker.listen(self._follow)

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
            # A call that comes before the recovery timeout is over changes nothing, and calls at
            # random times do not know how many came before: the next that counts comes at once.
            early = error.state is CircuitState.OPEN
            self.plan((error.retry_after or 0.0) if early else 0.0)
        else:
            self._region.call(permit, self._kind())
            self.plan()

    def _kind(self) -> str:
        if self._breaker.state is not CircuitState.CLOSED:
            return PROBE
        return OTHER if self.closed_at is None else WELL

    def _follow(self, event: StateChanged) -> None:
        if event.new is CircuitState.OPEN and self.opened_at is None:
            self.opened_at = event.at
            self._region.tripped()
        self.closed_at = event.at if event.new is CircuitState.CLOSED else None
        self.plan()
