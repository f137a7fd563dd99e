"""SharedCircuit: a circuit that follows what other processes know, and says what they should know.

The store keeps one record for each region; who talks to it does so beside the calls, and never on
one. Like `circuit`, this file reads no clock, does no I/O and takes no lock: `hear` takes in what
the store said, `wish` says what the store should be told now, `ring` is called when there is a
wish. The rules, besides those of `circuit`:

1.  Each process decides by its own circuit. What others know is a signal beside it; without the
    store every circuit goes on alone, as soon as the lease that it knows of is over.
2.  Only a version above the last one seen is acted on, and an older one means that the store has
    forgotten: who knows better asserts it. Every wish carries the version that was known.
3.  What another opened is open here for the rest of the recovery timeout; what another probes is
    open here too. A close counts unless this circuit opened after it: then it trips once more.
4.  An opening that the fleet has not agreed on is an opinion: its process probes alone.
5.  HALF_OPEN has one place for the whole fleet, a lease. A due call, or one who waits, asks for it
    and is rejected; the next call with the lease in hand probes. Who opened the circuit asks later
    than the others: it may be the one that is sick.
6.  A call that comes much later than it was told to probes at once and asks beside it, so that rare
    calls recover too; but where another has just had the place, only the next such call does. So
    does one that has had no answer. If another turns out to hold the lease, that probe is late.
7.  The holder makes the remaining probes, says each success, and renews the lease only while a
    probe runs within its time-out. A lease without a call, or whose probe hangs, goes back, and
    who gives it back asks later than the others. What a probe reports after its lease was lost is
    late.
8.  A forced opening and a reset are the whole fleet's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast, runtime_checkable

from resilience.circuit import (
    RESET,
    Circuit,
    CircuitState,
    Closed,
    HalfOpen,
    Open,
    Probe,
    Rejection,
    Ticket,
    Transition,
    time_left,
)
from resilience.classify import IGNORED, Outcome, Report

if TYPE_CHECKING:
    from resilience.breaker import CircuitBreaker

# Seconds. A due call waits so long for an answer.
ANSWER_WITHIN: Final = 0.25
# A lease without a call is kept so long; calls further apart than that are rare.
UNUSED: Final = 0.5
# Where they are, it is kept for so many times as long as they are apart, up to half of the lease:
# else many such processes would take it from each other, and nobody would use it.
_TIMES_APART: Final = 1.5
# After a probe that said nothing only so long: it was cancelled, perhaps with its whole process.
UNUSED_AFTER_NOTHING: Final = 0.1
# Who opened the circuit, or gave the lease back, asks so much later than the others.
AFTER_THE_OTHERS: Final = 0.25
# Whoever is rejected beside somebody else's probe should ask again soon.
_MAX_WAIT: Final = 1.0
# Renewed three times before it would run out.
_RENEWALS: Final = 3
# An order by hand that could not be said is dropped when the fleet has moved on since.
_ORDER_LASTS: Final = 5.0


@runtime_checkable
class Sharing(Protocol):
    """What a registry needs to know of who shares its circuits."""

    def join(self, breaker: CircuitBreaker) -> None:
        """Share the circuit of a new breaker; called under the lock."""

    def close(self) -> None:
        """Stop sharing."""


@dataclass(slots=True, eq=False)
class Fleet:
    """This process as one of many.

    Args:
        lease: Seconds that the fleet's place lasts without being renewed.
        asleep: Whether nobody talks to the store yet: the first call rings.
    """

    lease: float
    asleep: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What the store said about one region.

    Args:
        version: Of the record; 0 is none.
        state: "C" closed, "O" open, "H" half open, "F" forced, "" no record.
        age: Seconds since it is in that state.
        lease_left: Seconds that the lease lasts.
        mine: Whether this process holds it.
        successes: How many probes in a row have succeeded.
        opener: Whether this process opened the circuit.
        who: Who brought the state about.
        why: Why.
        done: Whether the change was made.
        delay: Seconds between asking and the answer.
    """

    version: int = 0
    state: str = ""
    age: float = 0.0
    lease_left: float = 0.0
    mine: bool = False
    successes: int = 0
    opener: bool = False
    who: str = ""
    why: str = ""
    done: bool = False
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What the store should be told: a change, and what was known when it was decided.

    Args:
        change: trip, withdraw, take, renew, release, close, reopen, reset or force.
        version: The version that was known.
        age: Seconds since it happened, of trip and reopen.
        successes: Of take, renew and release.
        why: The reason, in short.
        about: The circuit's state at that moment.
    """

    change: str
    version: int
    age: float
    successes: int
    why: str
    about: State


State: TypeAlias = Closed | Open | HalfOpen


@dataclass(slots=True, eq=False)
class SharedCircuit(Circuit):
    """One region's circuit in one process of a fleet, as the rules above say.

    Args:
        fleet: This process.
        ring: Called when there is a wish; must not block.
    """

    fleet: Fleet = field(kw_only=True)
    ring: Callable[[], object] = field(kw_only=True)
    shared: bool | None = False  # whether the store answers and takes writes
    # What it said last.
    version: int = 0
    known: str = ""
    mine: bool = False
    _lease_since: float = 0.0
    _lease_left: float = 0.0
    _taken_until: float = 0.0  # by another, or by what has just happened
    _said: int = 0  # so many of the successes counted here are in the record
    # What of it concerns this circuit.
    _told: State | None = None  # the state that the store knows of
    _agreed: bool = False  # the opening is the fleet's
    _closes: bool = False  # so was the one that this circuit has closed
    _voted: bool = False
    _opener: bool = False
    # Who wants to probe.
    _asked_at: float | None = None
    _due_at: float = -math.inf  # the last due call
    _kept: float = UNUSED  # so long a lease without a call
    _back_at: float = math.inf  # when it was told to come back
    _late: int = 0  # so many in a row came much later than that
    _used_at: float = 0.0  # when the lease was last of use
    _gave_back_at: float = -math.inf
    _order: str = ""  # reset or force
    _ordered_at: float = 0.0

    def __post_init__(self) -> None:
        self._told = self.state

    # Calls

    def acquire(self, now: float) -> Ticket | Rejection:
        """Admit a call or reject it; a due one asks for the fleet's place."""
        state = self.state
        if self.fleet.asleep:
            self.ring()
        if isinstance(state, Closed):
            return state
        self.reanchor(now)
        name, wait = state.name, Circuit.retry_after(self, now)
        if wait == 0.0:
            name, wait = CircuitState.HALF_OPEN, self.ask(now)
        if wait != 0.0:
            self.rejected += 1
            return name, state.reason, wait
        probe = cast("Probe", Circuit.acquire(self, now))
        self._used_at, self._late = now, 0 if self.mine else self._late
        if probe.opened is not None:
            self._said = self._said if self.mine else 0
            cast("HalfOpen", self.state).successes = self._said
        return probe

    def ask(self, now: float) -> float | None:
        """Say when to call, for one who means to: who is due asks for the fleet's place."""
        self._late = self._late + 1 if self._comes_late(now) else 0
        kept = _TIMES_APART * (now - self._due_at)
        self._kept = kept if UNUSED < kept <= self.fleet.lease / 2 else UNUSED
        wait = self.retry_after(now)
        if isinstance(self.state, Closed) or Circuit.retry_after(self, now) != 0.0:
            return wait
        quiet = not (self.shared and self._agreed) or self._asked_at is not None
        if not (quiet or self._left(now) or self._after_the_others(now)):
            # Who waits for no answer has asked as long ago as one may take.
            self._asked_at = now if wait else now - ANSWER_WITHIN
            self.ring()
        self._due_at, self._back_at = now, now + (wait or 0.0)
        return wait

    def retry_after(self, now: float) -> float | None:
        """Say in how many seconds a call may be admitted, here and in the fleet."""
        wait = Circuit.retry_after(self, now)
        if wait != 0.0 or isinstance(self.state, Closed):
            return wait
        return self._turn(now)

    def record(self, ticket: Ticket, report: Report, now: float) -> Transition | None:
        """Take in what a call has to report, unless its lease was lost meanwhile."""
        holds = self.mine and isinstance(self.state, HalfOpen)
        if holds and self.shared and not self._in_hand(now):
            report = IGNORED  # rule 7
        change = Circuit.record(self, ticket, report, now)
        if change is not None:
            self._closes = self._agreed
            self._begin(agreed=self._agreed and isinstance(self.state, Open))
        if change is not None or holds:
            said_nothing = report[0] is Outcome.IGNORED
            self._used_at = now - said_nothing * (self._kept - UNUSED_AFTER_NOTHING)
            self.ring()
        return change

    def reset(self, now: float) -> Transition | None:
        """Close the circuit by hand, here and in the fleet."""
        change = Circuit.reset(self, now)
        self._begin(agreed=False)
        self._give("reset", now)
        return change

    def force_open(self, reason: str, now: float) -> Transition | None:
        """Open the circuit by hand, here and in the fleet."""
        change = Circuit.force_open(self, reason, now)
        if change is not None:
            self._give("force", now)
        return change

    # The fleet's place

    def _in_hand(self, now: float) -> bool:
        return self.mine and self._left(now) > 0.0

    def _left(self, now: float) -> float:
        return time_left(self._lease_since, self._lease_left, now)

    def _after_the_others(self, now: float) -> float:
        due = self.state.at + isinstance(self.state, Open) * self.policy.recovery_timeout
        opener = time_left(due, AFTER_THE_OTHERS, now) if self._opener else 0.0
        return max(opener, time_left(self._gave_back_at, AFTER_THE_OTHERS, now))

    def _turn(self, now: float) -> float:
        """Say in how many seconds a due call may probe."""
        if self._in_hand(now) and not self._spent(now):
            return 0.0
        if left := self._left(now):  # also when the store has gone meanwhile
            return min(left, _MAX_WAIT)
        if not (self.shared and self._agreed):
            return 0.0
        if wait := self._after_the_others(now):
            return wait
        if self._asked_at is not None:
            return time_left(self._asked_at, ANSWER_WITHIN, now)
        # Who has held the lease does not yet know whether another does. And in a large fleet many
        # are rare by themselves: whoever heard of another of late asks once more before it probes.
        rare = self._comes_late(now) and (self._late > 1 or now - self._taken_until > UNUSED)
        return 0.0 if rare and not self.mine else ANSWER_WITHIN

    def _comes_late(self, now: float) -> bool:
        """Tell whether calls come too late for the lease that they have asked for."""
        apart = now - self._due_at > UNUSED
        return apart and (self._late > 0 or now - self._back_at > ANSWER_WITHIN)

    def _probes(self, now: float) -> bool:
        """Tell whether a probe runs within its time-out."""
        probes = getattr(self.state, "probes", ())
        return any(time_left(probe.since, probe.timeout, now) > 0.0 for probe in probes)

    def _hangs(self) -> bool:
        """Tell whether a probe that is overdue has begun with this lease."""
        return any(probe.since >= self._used_at for probe in getattr(self.state, "probes", ()))

    def _spent(self, now: float) -> bool:
        """Tell whether the lease is to go back: no call has come for it, or its probe hangs."""
        return not self._probes(now) and self.wakes_in(now) == 0.0

    # What the store should be told

    def wish(self, now: float) -> Wish | None:
        """Say what the store should be told now."""
        state = self.state
        if self._order:
            return self._make(self._order, now)
        if isinstance(state, Closed):
            return None if self._told is state else self._wish_closed(now)
        if isinstance(state, Open) and self._told is not state and not state.forced:
            if Circuit.retry_after(self, now) != 0.0:
                free = self.mine or self._left(now) == 0.0
                again = self.known == "O" or (self.known == "H" and free)
                return self._make("reopen" if again else "trip", now)
            self._told = state
        if self._asked_at is not None:
            return self._make("take", now)
        return self._wish_as_holder(now) if self.mine else None

    def _wish_closed(self, now: float) -> Wish | None:
        if self.known in ("O", "H") or (self._closes and not self.known):
            return self._make("close", now)
        if self._voted:
            return self._make("withdraw", now)
        self._told = self.state
        return None

    def _wish_as_holder(self, now: float) -> Wish | None:
        if self.known != "H" or self._count() > self._said:
            return self._make("renew", now)
        if self.wakes_in(now) > 0.0:
            return None
        return self._make("renew" if self._probes(now) else "release", now)

    def wakes_in(self, now: float) -> float:
        """Say in how many seconds who holds the lease has a wish though nothing happens."""
        if self._probes(now):
            return time_left(self._lease_since, self.fleet.lease / _RENEWALS, now)
        return 0.0 if self._hangs() else time_left(self._used_at, self._kept, now)

    def farewell(self, now: float) -> Wish | None:
        """Say what to give back before this process stops sharing."""
        if self.mine:
            return self._make("release", now)
        return self._make("withdraw", now) if self._voted else None

    def _count(self) -> int:
        return self.state.successes if isinstance(self.state, HalfOpen) else 0

    def _make(self, change: str, now: float) -> Wish:
        state = self.state
        age, why = max(0.0, now - state.at), state.reason or "recovered"
        why = RESET if change == "reset" else why
        return Wish(change, self.version, age, max(self._count(), self._said), why, state)

    def _give(self, order: str, now: float) -> None:
        self._order, self._ordered_at = order, now
        self.ring()

    def _begin(self, *, agreed: bool) -> None:
        """Begin a new state: nobody has asked for anything in it, and nothing is counted."""
        self._agreed, self._said, self._late = agreed, 0, 0
        self._asked_at, self._due_at, self._back_at = None, -math.inf, math.inf

    # What the store said

    def answer(self, wish: Wish, view: View, now: float) -> Transition | None:
        """Take in what the store said to a wish."""
        self._asked_at = None if wish.change == "take" else self._asked_at
        self._gave_back_at = now if wish.change == "release" else self._gave_back_at
        if wish.change == self._order and view.done:
            self._order, self._agreed = "", wish.change == "force"
            self._see(view, now)
            # A circuit that opened after its reset says so next.
            self._told = None if isinstance(self.state, Open) else self.state
            return None
        moved = view.version > self.version
        change = self.hear(view, now)
        if wish.about is self.state:
            self._voted = wish.change == "trip" and self.known == "C" and view.done
            # Refused because the fleet had moved on: decided anew with what is known now.
            if view.done or not moved:
                self._told = wish.about
        return change

    def hear(self, view: View, now: float) -> Transition | None:
        """Take in what the store said."""
        self.shared = True
        if not view.state or view.version < self.version:
            self._forgotten(now)
            return None
        news, held = (view.version, view.state) != (self.version, self.known), self.mine
        self._see(view, now)
        if view.mine:
            return self._granted(view, now, anew=not held)
        if view.lease_left > 0.0 and isinstance(self.state, HalfOpen):
            self.state.probes = ()  # rule 6
        in_force = self._order == "force" or now - self._ordered_at <= _ORDER_LASTS
        if not news or (self._order and in_force):
            return None
        self._order = ""
        return self._follow(view, now)

    def _see(self, view: View, now: float) -> None:
        news = view.version != self.version and not self.mine
        if not view.mine and (news or view.lease_left > 0.0):
            self._taken_until = now - view.delay + view.lease_left
        self.version, self.known, self.mine = view.version, view.state, view.mine
        self._lease_since, self._lease_left = now - view.delay, view.lease_left

    def lost(self, _now: float) -> None:
        """Go on alone: the store is gone, and nobody waits for its answer."""
        self.shared, self._asked_at = False, None

    def forked(self) -> None:
        """Be another process from now on, which holds nothing that its parent holds."""
        self.shared = self.mine = self._voted = self._opener = False
        self._asked_at, self._told, self._order = None, self.state, ""

    def _granted(self, view: View, now: float, *, anew: bool) -> Transition | None:
        state, most = self.state, self.policy.success_threshold - 1
        before, self._said = self._said, min(view.successes, most)
        if isinstance(state, Closed):
            self._told = None  # closed meanwhile: so let the fleet close
            return None
        self._agreed, self._used_at = True, now if anew else self._used_at
        if not anew or isinstance(state, Open):
            return None
        # Goes on with the count of who held it before; what it counted alone comes on top.
        total = self._said + state.successes - before
        state.successes = min(total, most)
        if total <= most:
            return None
        self._begin(agreed=False)
        return self._succeeded(state, now)

    def _follow(self, view: View, now: float) -> Transition | None:
        state, opened = self.state, now - view.age
        if view.state == "C":
            return self._follow_close(view, now)
        self._opener, self._voted = view.opener, False
        if view.state == "F":
            if isinstance(state, Open) and state.forced:
                self._agreed, self._told = True, state
                return None
            return self._adopt(Open(now, state.streak, view.why, forced=True), view, now)
        if view.state == "H":
            opened = now - self.policy.recovery_timeout
            if not isinstance(state, Closed):
                self._agreed = True
                return None
        new = Open(opened, state.streak, view.why)
        if isinstance(state, Open) and not state.forced:
            # It is open already: only the time is the fleet's from now on.
            self.state = self._told = state if view.opener else new
            self._begin(agreed=True)
            return None
        return self._adopt(new, view, now)

    def _follow_close(self, view: View, now: float) -> Transition | None:
        state = self.state
        self._opener = False
        if isinstance(state, Closed):
            self._told = state
            return None
        opened = state.at if isinstance(state, Open) else state.at - self.policy.recovery_timeout
        forced = isinstance(state, Open) and state.forced
        if not forced and now - view.delay - view.age < opened:
            self._begin(agreed=False)
            self._told = None  # rule 3
            return None
        return self._adopt(Closed(now), view, now)

    def _adopt(self, new: State, view: View, now: float) -> Transition:
        self._begin(agreed=not isinstance(new, Closed))
        change = self._enter(new, view.why, now)
        self._told = self.state
        return dataclasses.replace(change, by=view.who)

    def _forgotten(self, now: float) -> None:
        """Assert what this process knows, for the store does not."""
        state, self.known, self._voted = self.state, "", False
        if isinstance(state, Closed):
            self.mine = False
        elif isinstance(state, Open):
            self._told = None
            if state.forced and self._agreed:
                self._give("force", now)
