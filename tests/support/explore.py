"""Walks every state that a circuit can reach, for test_circuit_exhaustive.py.

A world is a breaker, its policy, a clock that ticks, and three callers. A step is what one of them
may do: acquire, settle, go away without a word, reset, force, change the policy, move the clock.
Each step enters by the breaker's own doors, as production does. The walk is breadth first and meets
each state once.

Two worlds are the same state if they differ in nothing that decides: counters, reasons and the
streak outside of CLOSED are left out, times count from now, tickets that are late are all alike.
To keep the walk finite, the clock steps back no further than MOST_BEHIND ticks behind a time that
the circuit remembers, and a time stops growing OLDEST ticks after it is over.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from loguru import logger

from resilience import (
    Backoff,
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    Outcome,
    Permit,
    StateChanged,
)
from resilience.circuit import Circuit
from resilience.circuit_states import Call as TimedCall
from resilience.circuit_states import Closed, HalfOpen, Open, Probe, Ticket, TrackedClosed
from resilience.classify import classify_error

CALLERS = 3
# Where rates are watched, the window holds no more calls than this, so that the walk is finite.
MOST_IN_WINDOW = 2
MOST_BEHIND = 2
OLDEST = 1
# After this many failed probes in a row, the recovery timeouts that are explored grow no more.
GROWN = 2

# What nobody has to do by hand: from every state that is not forced, this leads back to CLOSED.
UNAIDED = ("acquire", "succeed", "tick", "go away")
# A region that refuses every request leads back as well.
REFUSED = ("acquire", "answered", "tick", "go away")


@dataclass
class Call:
    """One caller's call, and whether the rules say that its report is late."""

    ticket: Ticket
    generation: int
    since: int  # when its lease began, if it is a probe
    late: bool = False


@dataclass
class World:
    """A breaker, its callers and the time."""

    circuit: Circuit
    policies: tuple[BreakerPolicy, ...]
    now: int = 0
    generation: int = 0
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.breaker = CircuitBreaker("region", clock=lambda: self.now, circuit=self.circuit)
        self.events: list[StateChanged] = []
        self.breaker.listen(self.events.append)

    @property
    def policy(self) -> BreakerPolicy:
        return self.breaker.policy

    @property
    def forced(self) -> bool:
        return self.circuit.is_forced()

    def key(self) -> tuple[object, ...]:
        """Return what distinguishes this state from others."""
        state, held = self.circuit.state, [call.ticket for call in self.calls]
        late = sum(call.late for call in self.calls)
        decides: tuple[object, ...]
        if isinstance(state, Closed):
            decides = (state.streak, *self._timed_key(state, held))
        elif isinstance(state, Open):
            decides = ("forced",) if self.forced else (self.now - state.since, *self._wait())
        else:
            answers = self.circuit._answers
            probes = tuple(
                (self.now - p.since, p.until - p.since, p in held, p.answers_before == answers)
                for p in state.probes
            )
            decides = (state.successes, probes, *self._wait())
        return state.name, decides, late, len(held), self.policy

    def _wait(self) -> tuple[object, ...]:
        """Return what decides how long the circuit stays open, now and the next time."""
        if not isinstance(self.policy.recovery_timeout, Backoff):
            return ()
        state = self.circuit.state
        lasts = state.until - state.since if isinstance(state, Open) else 0
        return lasts, min(self.circuit._failed_probes, GROWN)

    def _timed_key(self, state: Closed, held: list[Ticket]) -> tuple[object, ...]:
        """Return what else decides where calls are timed: what is in the window, and how old."""
        apart = ()
        if self.policy.streak_window is not None and state.streak:
            apart = (min(self.now - state.last_activity, self.policy.streak_window + 1),)
        if not isinstance(state, TrackedClosed):
            return apart
        # Callers are alike: what each of them holds matters, and not which one it is.
        calls = sorted(self._held(ticket) for ticket in held if isinstance(ticket, TimedCall))
        running = self._in_flight(state, held)
        if state.window is None:
            return (*apart, *calls, running)
        window = copy.deepcopy(state.window)
        window.slide(self.now)
        behind = max(0, state.window.slice_begin - self.now)
        later = []
        for seconds in range(int(window.seconds) + 1):
            window.slide(max(self.now, state.window.slice_begin) + seconds)
            later.append((window.calls, window.failures, window.slow))
        return (*apart, *calls, running, behind, tuple(later))

    def _held(self, call: TimedCall) -> tuple[object, ...]:
        """Return what decides about a call that is running."""
        age = min(self.now - call.since, self._longest())
        if self.policy.stranded_after is None:
            return (age,)
        return age, call.is_counted, call.answers_before == self.circuit._answers

    def _in_flight(self, state: TrackedClosed, held: list[Ticket]) -> tuple[object, ...]:
        """Return the calls that the circuit looks at, those of callers gone away too."""
        longest = self._longest()

        def shown(calls: Iterable[TimedCall]) -> tuple[object, ...]:
            return tuple((min(self.now - c.since, longest), c in held) for c in calls)

        ramp, in_flight = state.ramp, state.in_flight
        return (
            ramp and (ramp.limit, ramp._answers, shown(ramp._running)),
            in_flight and shown(in_flight._calls),
        )

    def _longest(self) -> float:
        """Return the age from which on a call grows no older."""
        policy = self.policy
        times = (
            policy.slow_call_duration,
            policy.stranded_after,
            policy.ramp and policy.probe_lease,
        )
        return max(time or 0 for time in times)

    def has_room(self) -> bool:
        """Whether the window may take one more call."""
        state = self.circuit.state
        if not isinstance(state, TrackedClosed) or state.window is None:
            return True
        window = copy.deepcopy(state.window)
        window.slide(self.now)
        return window.calls < MOST_IN_WINDOW

    def copy(self) -> "World":
        """Return another world that is the same."""
        # By hand, since `copy.deepcopy` would take most of the time of the walk.
        twins: dict[int, Ticket] = {}

        def twin(ticket: Ticket) -> Ticket:
            return twins.setdefault(id(ticket), copy.copy(ticket))

        circuit: Circuit = copy.copy(self.circuit)
        for name in Circuit.__slots__:
            setattr(circuit, name, copy.copy(getattr(circuit, name)))
        if isinstance(circuit.state, HalfOpen):
            circuit.state.probes = [twin(probe) for probe in circuit.state.probes]
        elif isinstance(circuit.state, Closed):
            twins[id(self.circuit.state)] = circuit.state
            if isinstance(circuit.state, TrackedClosed):
                self._copy_tracked(circuit.state, twin)
        return World(
            circuit=circuit,
            policies=self.policies,
            now=self.now,
            generation=self.generation,
            calls=[Call(twin(c.ticket), c.generation, c.since, c.late) for c in self.calls],
        )

    def _copy_tracked(self, state: TrackedClosed, twin: Callable[[Ticket], Ticket]) -> None:
        """Give the copy of a state its own window, and its own calls."""
        calls: list[Ticket] = [call.ticket for call in self.calls]
        state.window = copy.deepcopy(state.window)
        if state.ramp is not None:
            calls += state.ramp._running
            state.ramp = copy.copy(state.ramp)
            state.ramp._running = {twin(call): None for call in state.ramp._running}
        if state.in_flight is not None:
            calls += state.in_flight._calls
            state.in_flight = copy.copy(state.in_flight)
            state.in_flight._calls = {twin(call): None for call in state.in_flight._calls}
        for call in calls:
            if isinstance(call, TimedCall) and call.state is self.circuit.state:
                twin(call).state = state

    def picture(self) -> object:
        """Return everything the circuit knows, its counters too, to compare before and after."""
        circuit = self.circuit
        return circuit.policy, repr(circuit.state), circuit.totals(), dict(circuit.transitions)

    def timed(self) -> Iterator[Open | Probe]:
        """Return what the circuit remembers a start and an end of."""
        state = self.circuit.state
        if isinstance(state, Open) and not self.forced:
            yield state
        elif isinstance(state, HalfOpen):
            yield from state.probes

    def starts(self) -> Iterator[float]:
        """Return the times that the clock may step behind only so far."""
        yield from (timed.since for timed in self.timed())
        state = self.circuit.state
        if isinstance(state, Closed) and self.policy.streak_window and state.streak:
            yield state.last_activity
        if isinstance(state, TrackedClosed):
            if state.window is not None:
                yield state.window.slice_begin
            if state.ramp is not None:
                yield from (call.since for call in state.ramp._running)
            if state.in_flight is not None:
                yield from (call.since for call in state.in_flight._calls)
            yield from (c.ticket.since for c in self.calls if isinstance(c.ticket, TimedCall))

    def has_to_follow(self, now: int) -> bool:
        """Whether this time is before a start that the circuit remembers."""
        state = self.circuit.state
        starts = [state.since] if isinstance(state, Open) else [t.since for t in self.timed()]
        return any(now < start for start in starts)

    # What may happen

    def acquire(self) -> None:
        state = self.circuit.state
        probes = list(state.probes) if isinstance(state, HalfOpen) else []
        permit = None
        with suppress(CircuitBreakerOpenError):
            permit = self.breaker.acquire()
        for call in self.calls:  # rule 10: the leases start again for a clock that stepped back
            call.since = min(call.since, self.now)
        if permit is None:
            return
        self._follow()
        after = self.circuit.state
        for call in self.calls:  # rule 8: the new probe may have taken somebody's place
            if call.ticket in probes and isinstance(after, HalfOpen):
                call.late = call.late or call.ticket not in after.probes
        assert permit.ticket is not None
        self.calls.append(Call(permit.ticket, self.generation, self.now))

    def settle(self, call: Call, outcome: Outcome) -> None:
        settle(Permit().begin(self.breaker, call.ticket), outcome)
        if isinstance(call.ticket, Probe):
            call.late = True  # it is kept, to see that a second report changes nothing
        else:
            self.calls.remove(call)
        self._follow()

    def reset(self) -> None:
        self.breaker.reset()
        self._follow(by_hand=True)

    def force_open(self, reason: str) -> None:
        self.breaker.force_open(reason)
        self._follow()

    def configure(self) -> None:
        other = self.policies[self.policies.index(self.policy) - 1]
        self.breaker.configure(other, classify_error, None)

    def tick(self) -> None:
        self.now += 1
        for call in self.calls:
            ticket = call.ticket
            lease = ticket.until - ticket.since if isinstance(ticket, Probe) else 0
            call.since = max(call.since, self.now - int(lease) - OLDEST)
        for timed in self.timed():
            length = timed.until - timed.since
            longest = length
            if isinstance(timed, Open):
                longest = max(policy.longest_recovery for policy in self.policies)
            timed.since = max(timed.since, self.now - longest - OLDEST)
            timed.until = timed.since + length

    def step_back(self) -> None:
        self.now -= 1

    def _follow(self, *, by_hand: bool = False) -> None:
        if self.events or by_hand:
            self.generation += 1
        for call in self.calls:
            call.late = call.late or call.generation != self.generation


def settle(permit: Permit, outcome: Outcome) -> None:
    """Report an outcome by a permit's own methods."""
    if outcome is Outcome.SUCCESS:
        permit.succeed()
    elif outcome is Outcome.FAILURE:
        permit.fail()
    elif outcome is Outcome.ANSWERED:
        permit.answered()
    else:
        permit.ignore()


def steps(world: World) -> Iterator[tuple[str, Callable[[World], object]]]:
    """Name all that may happen in a world; each step is done to a copy of it."""
    if len(world.calls) < CALLERS and world.has_room():
        yield "acquire", World.acquire
    for index, call in enumerate(world.calls):
        yield "go away", lambda w, i=index: w.calls.pop(i)
        if not call.late:
            for name, outcome in OUTCOMES.items():
                yield name, lambda w, i=index, o=outcome: w.settle(w.calls[i], o)
    yield "reset", World.reset
    yield "force", lambda w: w.force_open("a reason")
    yield "force", lambda w: w.force_open("another reason")
    if len(world.policies) > 1:
        yield "configure", World.configure
    yield "tick", World.tick
    if all(world.now - start > -MOST_BEHIND for start in world.starts()):
        yield "step back", World.step_back


OUTCOMES = {
    "succeed": Outcome.SUCCESS,
    "fail": Outcome.FAILURE,
    "answered": Outcome.ANSWERED,
    "ignore": Outcome.IGNORED,
}


@dataclass
class Step:
    """One step of the walk: from which world, what, to which."""

    before: World
    name: str
    after: World

    @property
    def transition(self) -> StateChanged | None:
        """The event of the step; there is one at most."""
        (event,) = self.after.events or [None]
        return event


@dataclass
class Walk:
    """All that was met."""

    states: dict[object, World]
    steps: list[Step]


def walk(*policies: BreakerPolicy) -> Walk:
    """Walk through every state of a circuit whose policy is one of these, starting CLOSED."""
    logger.disable("resilience")
    start = World(Circuit(policies[0], 0), policies)
    found = Walk({start.key(): start}, [])
    ahead = deque([start])
    while ahead:
        before = ahead.popleft()
        for name, do in steps(before):
            after = before.copy()
            do(after)
            found.steps.append(Step(before, name, after))
            if after.key() not in found.states:
                found.states[after.key()] = after
                ahead.append(after)
    logger.enable("resilience")
    return found
