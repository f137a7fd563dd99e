"""Engine: the calls of one process to one region, on virtual time.

What is due is on an agenda, and the time is that of the first entry. Everything that the breaker
and its retry loops do around the circuit is done here in the same way: a probe makes one attempt,
and a call that waits for its next attempt ends when the circuit opens.
"""

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from resilience.circuit import Circuit, Rejection
from resilience.circuit_events import Transition
from resilience.circuit_states import CircuitState, Closed, Ticket
from resilience.explain.scenario import Scenario, wait_after
from resilience.mode import Mode
from resilience.outcome import ABANDONED, IGNORED, SUCCESS, Outcome, Report
from resilience.policy import BreakerPolicy

_FAILURE = Report(Outcome.FAILURE, "the request failed")


@dataclass(slots=True, eq=False)
class _Call:
    """A call that is running."""

    ticket: Ticket
    since: float
    failed_attempts: int = 0
    waits: bool = False  # for its next attempt
    is_over: bool = False


class Engine:
    """Plays a scenario, as far as it is asked to.

    Args:
        policy: The rules of the circuit.
        scenario: What the region does, and how it is called.
        seed: Decides what is left to chance.
    """

    def __init__(self, policy: BreakerPolicy, scenario: Scenario, seed: int | str) -> None:
        self.policy = replace(policy, mode=Mode.ENFORCE.value)
        self.scenario = scenario
        self.now = 0.0
        #: Calls that were made or rejected, and what became of them.
        self.calls = self.failed = self.rejected = 0
        #: Requests that reached the region.
        self.requests = 0
        #: The changes of the circuit's state, in order.
        self.transitions: list[Transition] = []
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._circuit = Circuit(self.policy, self.now, is_simulated=True)
        self._circuit.chance = self._chance.random
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._entries = 0
        # In the order in which they began, so that the same seed gives the same result.
        self._running: dict[_Call, None] = {}
        self._is_full = False
        self._longest_call = 0.0
        self._requests_until_open: int | None = None
        self._expect_call()

    def run(
        self, *, until: float = math.inf, until_open: bool = False, most_calls: float = math.inf
    ) -> None:
        """Play on until the first of these ends is reached, or nothing happens any more.

        Args:
            until: The time, in seconds.
            until_open: Whether to stop as soon as the circuit has opened.
            most_calls: How many calls to make.
        """
        while self._agenda and self._agenda[0][0] <= until and self.calls < most_calls:
            self.now, _, action = heapq.heappop(self._agenda)
            action()
            self._follow_circuit()
            if until_open and self._requests_until_open is not None:
                return
        if until < math.inf:
            self.now = until

    def requests_until_open(self) -> int:
        """Return how many requests were sent before the circuit opened; all, if it did not."""
        opened = self._requests_until_open
        return self.requests if opened is None else opened

    def worst_call(self) -> float:
        """Return how long the longest call has taken, or takes already."""
        return max([self._longest_call, *(self.now - call.since for call in self._running)])

    # Calls come

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        self._entries += 1
        heapq.heappush(self._agenda, (self.now + seconds, self._entries, action))

    def _expect_call(self) -> None:
        self._at(self._chance.expovariate(self.scenario.calls_per_second), self._arrive)

    def _arrive(self) -> None:
        self._begin()
        # While all places are taken, no further call is made.
        self._is_full = len(self._running) >= self.scenario.concurrency
        if not self._is_full:
            self._expect_call()

    def _begin(self) -> None:
        self.calls += 1
        answer = self._circuit.acquire(self.now)
        if isinstance(answer, Rejection):
            self.rejected += 1
            return
        call = _Call(answer, self.now)
        self._running[call] = None
        policy, gives_up_after = self.policy, self.scenario.gives_up_after
        if policy.call_timeout is not None:
            self._at(policy.call_timeout, partial(self._end, call, _FAILURE))
        if policy.stranded_after is not None:
            self._at(policy.stranded_after, self._count_stranded)
        if gives_up_after is not None:
            self._at(gives_up_after, partial(self._end, call, ABANDONED))
        self._follow_circuit()
        self._send(call)

    def _count_stranded(self) -> None:
        self._circuit.count_stranded(self.now)

    # A call makes its attempts

    def _send(self, call: _Call) -> None:
        self.requests += 1
        phase = self.scenario.phase_at(self.now)
        chance, seconds, is_good = self._chance.random(), phase.latency, False
        if chance < phase.hang_rate:
            seconds = math.inf
        elif chance >= phase.hang_rate + phase.failure_rate:
            is_good = True
            if phase.slow_rate and self._chance.random() < phase.slow_rate:
                seconds = phase.slow_latency
        timeout = self.scenario.request_timeout
        if timeout is not None and seconds > timeout:
            seconds, is_good = timeout, False
        if seconds < math.inf:
            answer = self._succeed if is_good else self._fail
            self._at(seconds, partial(answer, call))

    def _succeed(self, call: _Call) -> None:
        self._end(call, SUCCESS)

    def _fail(self, call: _Call) -> None:
        if call.is_over:
            return
        call.failed_attempts += 1
        is_last = call.failed_attempts >= self.scenario.attempts
        if is_last or not isinstance(self._circuit.state, Closed):
            self._end(call, _FAILURE)
            return
        call.waits = True
        wait = wait_after(call.failed_attempts, self._chance.random())
        self._at(wait, partial(self._try_again, call))

    def _try_again(self, call: _Call) -> None:
        if not call.is_over:
            call.waits = False
            self._send(call)

    def _end(self, call: _Call, report: Report) -> None:
        if call.is_over:
            return
        call.is_over = True
        del self._running[call]
        self._longest_call = max(self._longest_call, self.now - call.since)
        self.failed += report is not SUCCESS
        self._circuit.record(call.ticket, report, self.now)
        if self._is_full:
            self._is_full = False
            self._expect_call()

    # The circuit changes

    def _follow_circuit(self) -> None:
        events = self._circuit.events
        while events:
            event = events.pop(0)
            if isinstance(event, Transition):
                self.transitions.append(event)
                if event.new is CircuitState.OPEN:
                    self._stop_calls()

    def _stop_calls(self) -> None:
        if self._requests_until_open is None:
            self._requests_until_open = self.requests
        for call in list(self._running):
            if call.waits or self.policy.cancel_stranded:
                self._end(call, IGNORED)
