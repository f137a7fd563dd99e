"""Walks every state that a circuit can reach, for test_circuit_exhaustive.py.

A world is a circuit, its policy, a clock that ticks, and three permits. A step is what somebody may
do: acquire, settle, go away without a word, reset, force, change the policy, move the clock. The
walk is breadth first and meets each state once.

Two worlds are the same state if they differ in nothing that decides: counters, reasons and the
streak outside of CLOSED are left out, times count from now, permits that are late are all alike.
To keep the walk finite, the clock steps back no further than MOST_BEHIND ticks behind a time that
the circuit remembers, and a time stops growing OLDEST ticks after it is over.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from resilience.circuit import Circuit, Closed, HalfOpen, Open, Probe, Ticket, Transition
from resilience.outcome import Outcome
from resilience.policy import BreakerPolicy

PERMITS = 3
MOST_BEHIND = 2
OLDEST = 1

# What nobody has to do by hand: from every state that is not forced, this leads back to CLOSED.
UNAIDED = ("acquire", "succeed", "tick", "go away")


@dataclass
class Permit:
    """One caller's permit, and whether the rules call it late."""

    ticket: Ticket
    generation: int
    since: int  # when its lease began, if it is a probe
    late: bool = False


@dataclass
class World:
    """A circuit, its callers and the time."""

    circuit: Circuit
    policies: tuple[BreakerPolicy, ...]
    now: int = 0
    generation: int = 0
    permits: list[Permit] = field(default_factory=list)

    @property
    def policy(self) -> BreakerPolicy:
        return self.circuit.policy

    @property
    def forced(self) -> bool:
        return isinstance(self.circuit.state, Open) and self.circuit.state.forced

    def key(self) -> tuple[object, ...]:
        """What distinguishes this state from others."""
        state, held = self.circuit.state, [permit.ticket for permit in self.permits]
        late = sum(permit.late for permit in self.permits)
        decides: tuple[object, ...]
        if isinstance(state, Closed):
            decides = (state.streak,)
        elif isinstance(state, Open):
            decides = ("forced" if state.forced else self.now - state.at,)
        else:
            probes = tuple((self.now - p.since, p.timeout, p in held) for p in state.probes)
            decides = (state.successes, probes)
        return state.name, decides, late, len(held), self.policy

    def copy(self) -> "World":
        """Make a world of its own that is the same."""
        known: dict[int, Any] = {}
        return World(
            circuit=_copy(self.circuit, known),
            policies=self.policies,
            now=self.now,
            generation=self.generation,
            permits=[
                Permit(_copy(p.ticket, known), p.generation, p.since, p.late) for p in self.permits
            ],
        )

    def picture(self) -> object:
        """Everything the circuit consists of, its counters too, to compare before and after."""
        return _picture(self.circuit)

    def times(self) -> Iterator[tuple[float, float]]:
        """The times that the circuit remembers: since when, and how long."""
        state = self.circuit.state
        if isinstance(state, Open) and not state.forced:
            yield state.at, max(policy.recovery_timeout for policy in self.policies)
        elif isinstance(state, HalfOpen):
            yield from ((probe.since, probe.timeout) for probe in state.probes)

    # What may happen; each gives the transition that it led to

    def acquire(self) -> Transition | None:
        state = self.circuit.state
        probes = state.probes if isinstance(state, HalfOpen) else ()
        ticket = self.circuit.acquire(self.now)
        for permit in self.permits:  # rule 10: whoever asks starts the leases anew
            permit.since = min(permit.since, self.now)
        if isinstance(ticket, tuple):
            return None
        opened = ticket.opened if isinstance(ticket, Probe) else None
        self._follow(opened)
        for permit in self.permits:  # rule 8: the new probe may have taken somebody's place
            if permit.ticket in probes and permit.ticket not in state.probes:
                permit.late = True
        self.permits.append(Permit(ticket, self.generation, self.now))
        return opened

    def settle(self, permit: Permit, outcome: Outcome) -> Transition | None:
        transition = self.circuit.record(permit.ticket, (outcome, "a failure"), self.now)
        if isinstance(permit.ticket, Probe):
            permit.late = True  # it is kept, to see that its second report changes nothing
        else:
            self.permits.remove(permit)
        self._follow(transition)
        return transition

    def reset(self) -> Transition | None:
        transition = self.circuit.reset(self.now)
        self._follow(transition, by_hand=True)
        return transition

    def force_open(self, reason: str) -> Transition | None:
        transition = self.circuit.force_open(reason, self.now)
        self._follow(transition)
        return transition

    def configure(self) -> None:
        self.circuit.policy = self.policies[self.policies.index(self.policy) - 1]

    def tick(self) -> None:
        self.now += 1
        state = self.circuit.state
        for permit in self.permits:
            lease = permit.ticket.timeout if isinstance(permit.ticket, Probe) else 0
            permit.since = max(permit.since, self.now - int(lease) - OLDEST)
        if isinstance(state, Open):
            longest = max(policy.recovery_timeout for policy in self.policies)
            state.at = max(state.at, self.now - longest - OLDEST)
        elif isinstance(state, HalfOpen):
            for probe in state.probes:
                probe.since = max(probe.since, self.now - probe.timeout - OLDEST)

    def step_back(self) -> None:
        self.now -= 1

    def _follow(self, transition: Transition | None, *, by_hand: bool = False) -> None:
        if transition is not None or by_hand:
            self.generation += 1
        for permit in self.permits:
            permit.late = permit.late or permit.generation != self.generation


def steps(world: World) -> Iterator[tuple[str, Callable[[World], Transition | None]]]:
    """Name all that may happen in a world; each step is done to a copy of it."""
    if len(world.permits) < PERMITS:
        yield "acquire", World.acquire
    for index, permit in enumerate(world.permits):
        yield "go away", lambda w, i=index: w.permits.pop(i) and None
        if not permit.late:
            for name, outcome in OUTCOMES.items():
                yield name, lambda w, i=index, o=outcome: w.settle(w.permits[i], o)
    yield "reset", World.reset
    yield "force", lambda w: w.force_open("a reason")
    yield "force", lambda w: w.force_open("another reason")
    if len(world.policies) > 1:
        yield "configure", World.configure
    yield "tick", World.tick
    if all(world.now - since > -MOST_BEHIND for since, _ in world.times()):
        yield "step back", World.step_back


OUTCOMES = {"succeed": Outcome.SUCCESS, "fail": Outcome.FAILURE, "ignore": Outcome.IGNORED}


@dataclass
class Step:
    """One step of the walk: from which world, what, to which."""

    before: World
    name: str
    after: World
    transition: Transition | None


@dataclass
class Walk:
    """All that was met."""

    states: dict[object, World]
    steps: list[Step]


def walk(*policies: BreakerPolicy) -> Walk:
    """Walk through every state of a circuit whose policy is one of these, starting CLOSED."""
    start = World(Circuit(policies[0], Closed(0)), policies)
    found = Walk({start.key(): start}, [])
    ahead = deque([start])
    while ahead:
        before = ahead.popleft()
        for name, do in steps(before):
            after = before.copy()
            found.steps.append(Step(before, name, after, do(after)))
            if after.key() not in found.states:
                found.states[after.key()] = after
                ahead.append(after)
    return found


_PARTS = (Circuit, Closed, Open, HalfOpen, Probe)


def _copy(thing: Any, known: dict[int, Any]) -> Any:
    """Copy the circuit and its parts, each once; the rest cannot change."""
    if isinstance(thing, tuple):
        return tuple(_copy(one, known) for one in thing)
    if not isinstance(thing, _PARTS):
        return thing
    if id(thing) not in known:
        known[id(thing)] = new = object.__new__(type(thing))
        for name in type(thing).__slots__:
            setattr(new, name, _copy(getattr(thing, name), known))
    return known[id(thing)]


def _picture(thing: Any) -> object:
    if isinstance(thing, tuple):
        return tuple(map(_picture, thing))
    if not isinstance(thing, _PARTS):
        return thing
    return thing, *(_picture(getattr(thing, name)) for name in type(thing).__slots__)
