"""CircuitBreaker: permit -> call -> outcome; it reads the clock and takes the lock.

A call asks for a permit and reports its outcome. Both change the circuit under the lock. The events
of a change are delivered after the lock was released.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum, auto
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from resilience import _validate, scope
from resilience._lock import lock, lock_is_held, postpone, postponed, settle_postponed
from resilience._text import bounded_name, one_line
from resilience.circuit import Circuit, Rejection, time_until
from resilience.circuit_events import StaysClosed, Transition
from resilience.circuit_name import CircuitName
from resilience.circuit_states import Call, CircuitState, Closed, Open, Ticket, TrackedClosed
from resilience.classify import check_classifiers, classify_error
from resilience.errors import CircuitBreakerOpenError
from resilience.events import Listener, StateChanged
from resilience.hints import Hints
from resilience.identity import KeepsIdentity
from resilience.judge import Classifiers, make_judge
from resilience.limits import DrainEstimate, TenantTable
from resilience.listeners import EventQueue, Listeners, Subscribers, call_listener
from resilience.log import describe_exception, log_fault, log_forced_mode, log_forced_open_unused
from resilience.loops import HasLoop, Retried, with_loops_stopped
from resilience.mode import FORCED_MODE, Mode
from resilience.outcome import (
    ANSWERED,
    IGNORED,
    SUCCESS,
    Classifier,
    Outcome,
    Report,
    ResultClassifier,
)
from resilience.permit import EndsCalls, NestedPermit, Permit
from resilience.policy import BreakerPolicy
from resilience.protect import NO_POSITION, BreakerLookup, protect
from resilience.protectable import check_awaitable, check_protectable, name_in_module
from resilience.snapshot import CircuitSnapshot
from resilience.tenants import NO_TENANTS, Tenants
from resilience.waiters import AdvancingClock, WaitQueue, runs_in_event_loop
from resilience.watched_permit import WatchedPermit

P = ParamSpec("P")
T = TypeVar("T")


class DrivesCircuit(Protocol):
    """What calls and changes by hand go to: the circuit itself, or a recorder in front of it."""

    def admits_without_asking(self) -> Closed | None:
        """Return the CLOSED state if calls may start without `acquire`, else None."""

    def acquire(self, now: float) -> Ticket | Rejection:
        """Admit a call, or reject it."""
        ...

    def reject(self, now: float) -> Open | None:
        """Reject a call quickly and without the lock; None: `acquire` must decide."""
        ...

    def record(self, ticket: Ticket, report: Report, now: float) -> None:
        """Count the result of a call."""

    def count_stranded(self, now: float) -> None:
        """Count the calls that have been in flight for too long."""

    def configure(self, policy: BreakerPolicy) -> None:
        """Change the rules."""

    def reset(self, now: float) -> None:
        """Close the circuit."""

    def force_open(self, reason: str, now: float) -> None:
        """Open the circuit until `reset`."""


class Retention(Enum):
    """Whether a full registry may evict a breaker."""

    BLANK = auto()  # it holds no information: it goes first
    STREAK = auto()  # CLOSED, after failures, or with tenants that are throttled
    OPEN = auto()  # or HALF_OPEN, and its region has never answered: the name may be made up
    PROVEN = auto()  # or HALF_OPEN, and its region was in use
    PINNED = auto()  # forced open or listened to: it stays


class CircuitBreaker(KeepsIdentity):
    """Keeps calls from a region that is down, and finds out when the region is back.

    One breaker serves any number of tasks, event loops and threads at the same time. Copying it
    returns the same breaker, and pickling it is a `TypeError`: there is one circuit for a region.

    Args:
        region: The name of what is called. Of one with more than 200 characters, the beginning and
            a hash of the whole are kept.
        policy: When the circuit opens and closes.
        classifier: Classifies exceptions.
        result_classifier: Classifies returned values; None: each is a success.
        clock: Returns seconds; None means `time.monotonic`.
        rng: The source of jitter, such as ``random.Random(7)`` in a test; None: that of `random`.
        circuit: The state machine, with its policy, for integrations that share it; None: one of
            its own.
        subscribers: The registry that the breaker belongs to; None: it stands alone.

    Raises:
        TypeError: An argument has the wrong type, a classifier is an `async def` or an exception
            type, or the clock does not return a number.
        ValueError: The region is empty, or the clock raises, or returns NaN or infinity.
    """

    __slots__ = (
        "__weakref__",
        "_calls_to_end",
        "_clock",
        "_driven",
        "_is_off",
        "_listeners",
        "_make_permit",
        "_queue",
        "_subscribers",
        "_tenants",
        "_wait_queue",
        "bypass",
        "circuit",
        "clock",
        "closed",
        "drain",
        "hints",
        "is_evicted",
        "judge",
        "name",
        "region",
        "running_calls",
        "throttled_tenants",
        "timed",
    )

    NOT_PICKLED = (
        "the copy would be a second circuit for its region. Send the region, and get the breaker"
        " from a registry there; circuits of several processes can be shared through Redis"
    )

    def __init__(
        self,
        region: str,
        policy: BreakerPolicy = BreakerPolicy(),  # noqa: B008 - immutable
        *,
        classifier: Classifier = classify_error,
        result_classifier: ResultClassifier | None = None,
        clock: Callable[[], float] | None = None,
        rng: random.Random | None = None,
        circuit: Circuit | None = None,
        subscribers: Subscribers | None = None,
    ) -> None:
        self.region = bounded_name(_validate.check_text("region", region))
        #: The region and the registry, for the log.
        self.name = CircuitName(self.region, "" if subscribers is None else subscribers.registry)
        _validate.check_type("policy", policy, BreakerPolicy)
        check_classifiers(classifier, result_classifier)
        now = _validate.first_reading(clock)
        self._clock = clock
        #: The state machine; only this breaker changes it.
        self.circuit = _circuit_for(policy, circuit, now)
        self.circuit.chance = _chance_of(rng)
        # What is driven: the circuit, or a recorder in front of it.
        self._driven: DrivesCircuit = self.circuit
        #: The CLOSED state while a call that goes well needs no permit, else None.
        self.closed: Closed | None = None
        #: The CLOSED state while a call that goes well needs nothing but its time, else None.
        self.timed: TrackedClosed | None = None
        #: Returns the time for such a call, whatever the user's clock does; None: `time.monotonic`.
        self.clock = None if clock is None else partial(self._time_or_nan, clock)
        #: Whether the registry keeps it only while somebody else holds it.
        self.is_evicted = False
        self._subscribers = subscribers
        self._listeners: Listeners[StateChanged] = Listeners("one StateChanged")
        self._queue = EventQueue(self.name, self._listeners, subscribers)
        self._wait_queue: WaitQueue | None = None
        self._tenants: Tenants | None = None
        #: How far a message worker is with the backlog of an outage; None: there is no drain.
        self.drain: DrainEstimate | None = None
        #: Those whose next call may not simply start.
        self.throttled_tenants: Collection[str] = ()
        #: The calls that end when the circuit opens, where the policy says so; else None.
        self.running_calls: set[EndsCalls] | None = None
        self._calls_to_end: tuple[EndsCalls, ...] = ()  # of those, as soon as the lock is free
        #: The ticket of calls that the circuit would reject, where it rejects nobody; else None.
        self.bypass: Closed | None = None
        self._follow_policy()
        #: Warns about calls that cannot open the circuit.
        self.hints = Hints(self.name, self.circuit)
        #: Decides about errors and results.
        self.judge = make_judge(self.policy, self.name, classifier, result_classifier)
        self.refresh()

    # One call

    async def call(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a coroutine function under the protection of the circuit.

        Args:
            fn: The function to call.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Returns:
            What it returns.

        Raises:
            CircuitBreakerOpenError: The call was rejected; `fn` has not run.
            TypeError: `fn` is not an `async def`, and nothing shows that it returns an awaitable.
                It has not run.
        """
        check_awaitable(fn)
        stoppable = with_loops_stopped(fn)
        return await self.acquire().call_async(stoppable, args, kwargs)

    # A decorated function passes its own classifiers; everybody else's are the breaker's.
    def acquire(self, classifiers: Classifiers | None = None, /) -> Permit:
        """Admit a call, or reject it; never waits.

        Returns:
            A permit, to be settled once; best as ``with breaker.acquire():`` around the call.

        Raises:
            CircuitBreakerOpenError: The circuit admits no call now.
        """
        driven = self._driven
        closed = self.closed or driven.admits_without_asking()
        if closed is not None:
            return Permit().begin(self, closed, classifiers)
        now = self.now()
        state = driven.reject(now)
        if state is None:
            return self._ask_circuit(now, classifiers)
        raise self._make_rejection(state.name, state.reason, time_until(state.until, now))

    @overload
    def __call__(self, fn: HasLoop[P, T]) -> Retried[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, T]) -> Callable[P, T]: ...
    def __call__(self, fn: Callable[P, T]) -> Any:
        """Decorate one function, `async def` or `def`, with this very breaker.

        Raises:
            TypeError: It is not a function, or a call of it is over before its work begins, as with
                a generator.
        """
        acquire = f"{name_in_module(fn, self, 'breaker')}.acquire()"
        check_protectable(fn, "a circuit breaker", acquire)
        lookup = BreakerLookup(
            breakers={self.region: self},
            find=lambda _region: self,
            locate=lambda _args, _kwargs: self.region,
            position=NO_POSITION,
            acquire=acquire,
        )
        return protect(fn, lookup)

    # Reading

    @property
    def policy(self) -> BreakerPolicy:
        """The thresholds in force."""
        return self.circuit.policy

    @property
    def state(self) -> CircuitState:
        """The state that a call would meet now; reading it makes no transition."""
        return self.read(self.circuit.phase) if self.bypass is None else CircuitState.CLOSED

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may be admitted; 0.0 is now, None is not before `reset`."""
        return self.read(self.circuit.retry_after) if self.bypass is None else 0.0

    def snapshot(self) -> CircuitSnapshot:
        """Describe the circuit as it is now."""
        return self.read(self.describe)

    def classify(self, error: BaseException) -> Outcome:
        """Classify an error with the classifier of this breaker.

        Args:
            error: What a call raised.

        Returns:
            IGNORED also for a cancellation, for a rejection, and where the classifier fails.
        """
        return self.judge.of_error(error).outcome

    async def wait_until_ready(self, timeout: float | None = None) -> bool:
        """Wait, in asyncio, until a call would be admitted; it reserves nothing.

        Args:
            timeout: Seconds to wait at most; None waits without end.

        Returns:
            True when a call would be admitted, False when the time was up before that.

        Raises:
            TypeError: The timeout is not a number.
            ValueError: The timeout is negative or NaN.
        """
        _validate.check_timeout(timeout)
        if self.bypass is not None or self._is_inside_own_place(self.now()):
            return True  # as `acquire` does: a nested call is part of the outer one
        return await self._get_wait_queue().wait(timeout)

    def block_until_ready(self, timeout: float | None = None) -> bool:
        """Block this thread until a call would be admitted; it reserves nothing.

        Args:
            timeout: Seconds to wait at most; None waits without end.

        Returns:
            True when a call would be admitted, False when the time was up before that.

        Raises:
            TypeError: The timeout is not a number.
            ValueError: The timeout is negative or NaN.
            RuntimeError: An event loop runs in this thread: it would stand still.
        """
        if runs_in_event_loop():
            raise RuntimeError("an event loop runs in this thread: await wait_until_ready instead")
        # In an event loop of its own, so that threads and tasks wait in one queue.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(self.wait_until_ready(timeout))

    def listen(
        self, listener: Listener, *, loop: asyncio.AbstractEventLoop | None = None
    ) -> Callable[[], None]:
        """Call a function with each change of this circuit's state.

        Args:
            listener: Takes one `StateChanged`, after the state is settled. A call waits for it, so
                it should be quick. What it raises is logged. It runs in the thread of the call that
                has caused the change, or in that of another call that is delivering events; for
                a change that another process has caused, in a thread of its own.
            loop: An asyncio event loop; the listener runs there instead, and nobody waits for it.

        Returns:
            A function that ends it.

        Raises:
            TypeError: The listener cannot be called, or is an `async def`; or the loop is not an
                event loop.
        """
        stop_listening = self._listeners.add(listener, loop)
        self.refresh()
        self._readmit_if_evicted(self.now())

        def stop() -> None:
            stop_listening()
            self.refresh()

        return stop

    # Tenants

    @property
    def tenants(self) -> Tenants:
        """The rate limits of the region's tenants: who has to wait, and how long."""
        tenants = self._tenants
        if tenants is not None:
            return tenants
        with lock:  # another thread may have been faster
            tenants = self._tenants = self._tenants or Tenants(self, self._subscribers)
            self.throttled_tenants = tenants.throttles
        return tenants

    @property
    def uses_tenants(self) -> bool:
        """Whether calls may have tenants, so that what other processes know of them is of use."""
        if self._tenants is not None:
            return True
        return self._subscribers is not None and self._subscribers.uses_tenants

    def observe(self, response: object, *, tenant: str | None = None) -> None:
        """Learn the rate limit from an answer; for the hook that a client calls for each one.

        Read are `Retry-After` of a 429, `RateLimit`, `RateLimit-Policy`, and the fields of Genesys
        Cloud, `inin-ratelimit-allowed`, `-count` and `-reset`. The circuit is not touched, and a
        response that cannot be read changes nothing.

        Args:
            response: The response of any client library, or an error that holds one.
            tenant: Whose call it was: a 429, or a limit with nothing left, throttles this tenant.
                None: only the limit is learned, as that of each tenant of the region.

        Raises:
            TypeError: The tenant is neither None nor a string.
            ValueError: The tenant is empty.
        """
        if tenant is not None:
            tenant = _validate.check_text("tenant", tenant)
        self.tenants.observe(response, tenant)

    # Manual control

    def reset(self) -> None:
        """Close the circuit, forget its streak and end a forced opening."""
        self._change(self._driven.reset)

    def force_open(self, reason: str) -> None:
        """Keep the circuit open until `reset`.

        Args:
            reason: Why; the log and the rejections show it.

        Raises:
            TypeError: The reason is not a string.
            ValueError: The reason is empty.
        """
        shown = one_line(f"forced open: {_validate.check_text('reason', reason)}")
        self._change(partial(self._driven.force_open, shown))
        # A name that is misspelled makes a circuit of its own, which protects nothing.
        if self._subscribers is not None and self.circuit.is_unused():
            log_forced_open_unused(self.name)

    # For the wrappers, the registry and the integrations

    def now(self) -> float:
        """Return the time of the breaker's clock, in seconds."""
        if self._clock is None:
            return time.monotonic()  # looked up at each use, so that freezegun can replace it
        now = self._clock()
        # A reading that is not a time must not keep the circuit open without end.
        return now if math.isfinite(now) else self.circuit.state.since

    def apply(
        self,
        change: Callable[[float], T],
        deliver: Callable[[Callable[[], None]], object] | None = None,
    ) -> T:
        """Change the circuit, and deliver the events of the change.

        Args:
            change: Takes the time in seconds; called under the lock.
            deliver: Takes what delivers the events, where another thread is to do that; None: this
                one does.

        Returns:
            What it returns.
        """
        now = self.now()
        with lock:
            self.closed = self.timed = None  # until the change is complete
            try:
                result = change(now)
            finally:
                self._after_change()
            claimed = None if deliver is None else self._queue.claim()
        self._readmit_if_evicted(now)
        if deliver is None:
            self._deliver()
            return result
        if self._calls_to_end:
            self._end_calls()
        if claimed is not None:
            deliver(claimed)
        return result

    def read(self, query: Callable[[float], T]) -> T:
        """Read from the circuit, all of it at the same moment; no event is delivered.

        Args:
            query: Takes the time in seconds, and leaves the state as it is; called under the lock.

        Returns:
            What it returns.
        """
        now = self.now()
        with lock:
            self.circuit.follow_clock(now)
            return query(now)

    def describe(self, now: float) -> CircuitSnapshot:
        """Describe the circuit as it is at this time; `read` calls it with the right one.

        Args:
            now: The time of the breaker's clock, in seconds.
        """
        circuit = self.circuit
        totals = circuit.totals()
        ignored_probes = circuit.ignored_probes()
        throttled = NO_TENANTS if self._tenants is None else self._tenants.describe(now)
        snapshot = CircuitSnapshot(
            region=self.region,
            state=circuit.phase(now),
            since=circuit.phase_since(now),
            streak=circuit.state.streak,
            retry_after=circuit.retry_after(now),
            reason=circuit.state.reason,
            successes=totals.successes,
            failures=totals.failures,
            answered=totals.answered,
            ignored=totals.ignored,
            rejected=totals.rejected,
            probes=totals.probes,
            trips=totals.trips,
            transitions=tuple(
                (old, new, count) for (old, new), count in circuit.transitions.items()
            ),
            shared=circuit.shared,
            ignored_probes=ignored_probes.count,
            ignored_reasons=ignored_probes.reasons,
            throttled_tenants=throttled.count,
            longest_wait=throttled.longest_wait,
            drain=self.drain,
            mode=circuit.policy.mode_in_force,
            trips_by_rule=tuple(circuit.trips.items()),
            registry=self.name.registry,
        )
        if self._is_off:
            return replace(snapshot, state=CircuitState.CLOSED, retry_after=0.0, reason=None)
        return snapshot

    def tenant_waits(self, now: float) -> Mapping[str, float]:
        """Return the seconds that each throttled tenant waits at this time, as `describe` does."""
        return {} if self._tenants is None else self._tenants.describe(now).waits

    def refresh(self) -> None:
        """Bring up to date what depends on the circuit, without reading the clock."""
        with lock:
            self._after_change()

    def configure(
        self,
        policy: BreakerPolicy,
        classifier: Classifier,
        result_classifier: ResultClassifier | None,
    ) -> None:
        """Change the settings, for the running state as well.

        Args:
            policy: The rules; a running OPEN follows them, a probe keeps the end of its lease.
            classifier: Classifies exceptions.
            result_classifier: Classifies returned values; None: each is a success.
        """
        with lock:
            self.timed = None
            self._driven.configure(policy)
            self._follow_policy()
            self.judge = make_judge(policy, self.name, classifier, result_classifier)
            self._after_change()
            if self.bypass is not None:
                self._wake_all()

    def drive(self, recorder: DrivesCircuit | None) -> None:
        """Let calls and changes go through a recorder from now on.

        No call is made without the lock then, so that the recorder sees all of them in order.

        Args:
            recorder: It drives `circuit`; None: no recorder any more.
        """
        with lock:
            self.closed = self.timed = None
            self._driven = self.circuit if recorder is None else recorder
            self.circuit.give_tickets(to_all=recorder is not None)
            self._after_change()

    def record(self, ticket: Ticket, report: Report) -> None:
        """Count the outcome of a call; a late one changes nothing."""
        if report is SUCCESS and isinstance(ticket, Closed) and not ticket.streak:
            ticket.successes += 1  # nothing else changes, so it takes no lock
        elif report is IGNORED and isinstance(ticket, Closed):
            ticket.ignored += 1
        elif report is ANSWERED and isinstance(ticket, Closed):
            ticket.answered += 1
        elif lock_is_held():
            postpone(partial(self.record, ticket, report))
        else:
            try:
                now = self.now()
            except Exception as fault:  # noqa: BLE001 - the call's own error or result goes first
                log_fault("clock", self._clock, describe_exception(fault), self.name)
                now = self.circuit.state.since
            with lock:
                self.closed = self.timed = None  # until the change is complete
                try:
                    self._driven.record(ticket, report, now)
                finally:
                    self._after_change()
            if self.is_evicted:
                self._readmit_if_evicted(now)
            # The event of an opening may be with another thread; the calls that it ends are not.
            if self._queue.is_waiting or postponed or self._calls_to_end:
                self._deliver()

    def record_error(
        self, closed: Closed, error: BaseException, classifiers: Classifiers | None, /
    ) -> None:
        """Count a call without a permit that raised."""
        if lock_is_held():  # at the end of a coroutine that is collected: no classifier may run
            postpone(partial(self.record_error, closed, error, classifiers))
            return
        judge = self.judge if classifiers is None else self.judge.override(classifiers)
        report = judge.of_error(error, self.hints)
        outcomes = scope.watched_outcomes.get()
        if outcomes is not None:
            outcomes.record(error, report.outcome)
            report = outcomes.what_counts(report)
        if report is IGNORED:
            closed.ignored += 1
        elif report is ANSWERED:
            closed.answered += 1
        else:
            self.record(closed, report)

    def count_stranded(self) -> None:
        """Count the calls that have been in flight for too long."""
        self._change(self._driven.count_stranded)

    def count_timed(self, closed: TrackedClosed, since: float, /) -> None:
        """Count a success without a permit in a circuit that times its calls."""
        now = (self.clock or time.monotonic)()
        is_slow = now >= since + closed.slow_from
        if closed.plain_from <= now < closed.plain_until and not is_slow:
            closed.successes += 1  # nothing else changes, so it takes no lock
        else:
            self.record(Call(closed, since), SUCCESS)

    def record_timed_error(
        self,
        closed: TrackedClosed,
        since: float,
        error: BaseException,
        classifiers: Classifiers | None,
        /,
    ) -> None:
        """Count a call without a permit that raised, in a circuit that times its calls."""
        Permit().begin(self, Call(closed, since), classifiers).raised(error)

    def end_streak(self, closed: Closed, /) -> None:
        """End the streak of failures, after a success without a permit."""
        with lock:
            closed.streak = 0
            if self._subscribers is not None:
                self._subscribers.changed_regions.add(self.region)

    def permit_in(self, ticket: Closed | Call, classifiers: Classifiers | None, /) -> Permit:
        """Return a permit for a call that has begun without one."""
        return Permit().begin(self, ticket, classifiers)

    def rejection(self) -> CircuitBreakerOpenError:
        """Return the error of a call that is rejected now; no call is counted."""
        seen = self.snapshot()
        return CircuitBreakerOpenError(seen.region, seen.state, seen.reason, seen.retry_after)

    def retention(self) -> Retention:
        """Return whether a full registry may evict this breaker; the caller holds the lock."""
        if self._listeners.entries or self.circuit.is_forced():
            return Retention.PINNED
        if self.circuit.is_blank():
            return Retention.STREAK if self.throttled_tenants else Retention.BLANK
        if isinstance(self.circuit.state, Closed):
            return Retention.STREAK
        totals = self.circuit.totals()
        return Retention.PROVEN if totals.successes or totals.answered else Retention.OPEN

    def on_information(self, now: float) -> None:
        """Take note that the breaker holds other information than before, about its tenants."""
        if self._subscribers is not None:
            self._subscribers.changed_regions.add(self.region)
        self._readmit_if_evicted(now)

    def make_tenant_table(self) -> TenantTable:
        """Return the table for what is known of the region's tenants."""
        return self.circuit.make_tenant_table()

    def make_wait_queue(self, expects_call: Callable[[], float | None]) -> WaitQueue:
        """Return a queue of tasks that follows the breaker's clock.

        Args:
            expects_call: Returns the seconds until the first may leave; None: unknown.
        """
        queue = WaitQueue(expects_call)
        if isinstance(self._clock, AdvancingClock):
            self._clock.on_advance(queue.wake_first)
        return queue

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.region!r} {self.state}>"

    # Admitting

    def _ask_circuit(self, now: float, classifiers: Classifiers | None) -> Permit:
        if lock_is_held():  # in a signal handler or a finalizer
            return self._ask_in_a_change(now, classifiers)
        if self.circuit.state.limits_calls and self._is_inside_own_place(now):
            return NestedPermit().begin(self, None)
        if postponed:  # one of them may give back the place of a probe
            settle_postponed()
        with lock:
            state = self.circuit.state
            answer = self._driven.acquire(now)
            if isinstance(answer, Rejection) and self.circuit.state is state:
                self._queue_events()  # nothing else has changed
            else:
                self._after_change()
        if isinstance(answer, Rejection):
            if self._calls_to_end:
                self._end_calls()
            self._queue.deliver()
            if self.bypass is not None:
                return Permit().begin(self, self.bypass, classifiers)
            raise self._make_rejection(*answer)
        permit = self._make_permit().begin(self, answer, classifiers)
        try:
            self._queue.deliver()
        except BaseException:  # a listener may exit the process, or be interrupted
            permit.abandon("interrupted before it began")
            raise
        return permit

    def _ask_in_a_change(self, now: float, classifiers: Classifiers | None) -> Permit:
        """Admit a call while the circuit may be in a change, or reject it; change nothing there."""
        if self.bypass is not None:
            return Permit().begin(self, self.bypass, classifiers)
        state = self.circuit.state
        if isinstance(state, TrackedClosed) and not state.limits_calls:
            return self._make_permit().begin(self, Call(state, now), classifiers)
        raise CircuitBreakerOpenError(self.region, state.name, state.reason, 0.0)

    def _is_inside_own_place(self, now: float) -> bool:
        for call in scope.enclosing_calls():
            if call.breaker is self and self.circuit.is_nested_in(call.ticket, now):
                return True
        return False

    def _make_rejection(
        self, state: CircuitState, reason: str, retry_after: float | None
    ) -> CircuitBreakerOpenError:
        # Without `__init__`, which only puts named arguments, and those left out, into their place.
        error = CircuitBreakerOpenError.__new__(
            CircuitBreakerOpenError, self.region, state, reason, retry_after
        )
        subscribers = self._subscribers
        if subscribers is not None and subscribers.rejection_listeners.entries:
            exit_error: BaseException | None = None
            for entry in subscribers.rejection_listeners.entries:
                exit_error = call_listener(entry, error, self.name) or exit_error
            if exit_error is not None:
                raise exit_error
        return error

    def _expects_call(self) -> float | None:
        return self.read(self.circuit.expects_call) if self.bypass is None else 0.0

    def _follow_policy(self) -> None:
        """Prepare what depends on the policy and is not part of the circuit."""
        policy = self.circuit.policy
        mode = policy.mode_in_force
        if FORCED_MODE is not None:
            log_forced_mode(FORCED_MODE)
        if mode is Mode.ENFORCE:
            self.bypass = None
        elif self.bypass is None:
            # It belongs to no state of the circuit: what is reported with it changes nothing there.
            self.bypass = Closed(0.0)
        self._is_off = mode is Mode.OFF
        self._make_permit: type[Permit] = WatchedPermit if policy.watches_calls else Permit
        if policy.cancel_stranded is not (self.running_calls is not None):
            self.running_calls = set() if policy.cancel_stranded else None

    # After each change

    def _change(self, change: Callable[[float], None]) -> None:
        if lock_is_held():  # in a signal handler, or at the end of a generator that is collected
            postpone(partial(self._change_later, change))
        else:
            self.apply(change)

    def _change_later(self, change: Callable[[float], None]) -> None:
        """Change the circuit in a thread, or a call, that has nothing to do with it."""
        try:
            self.apply(change)
        except Exception as fault:  # noqa: BLE001 - the error of that call goes first
            log_fault("clock", self._clock, describe_exception(fault), self.name)

    def _after_change(self) -> None:
        """Bring up to date what depends on the circuit; the caller holds the lock."""
        circuit = self.circuit
        if circuit.events:
            self._queue_events()
        closed = circuit.admits_without_asking()
        self.closed = closed if self.judge.result_classifier is None else None
        if closed is None:
            is_tracked = isinstance(circuit.state, TrackedClosed)
            looks_at_results = self.judge.result_classifier is not None
            self.timed = circuit.times_calls() if is_tracked and not looks_at_results else None
        if self._is_off:
            self.closed = self.bypass
        if self._subscribers is not None:
            self._subscribers.changed_regions.add(self.region)
        if self._wait_queue is not None:
            if isinstance(circuit.state, Closed):
                self._wait_queue.wake_all()
            else:
                self._wait_queue.wake_first()

    def _readmit_if_evicted(self, now: float) -> None:
        holds_information = self.is_evicted and self.retention() is not Retention.BLANK
        if holds_information and self._subscribers is not None:
            self._subscribers.readmit(self, now)

    def _queue_events(self) -> None:
        while self.circuit.events:
            event = self.circuit.events.pop(0)
            if isinstance(event, Transition):
                changed = StateChanged(
                    region=self.region,
                    time=datetime.now(UTC),
                    old=event.old,
                    new=event.new,
                    reason=event.reason,
                    at=event.at,
                    streak=event.streak,
                    retry_after=event.retry_after,
                    rejected=event.rejected,
                    duration=event.duration,
                    by=event.by,
                    rule=event.rule,
                    mode=event.mode,
                    registry=self.name.registry,
                )
                self._queue.put(changed)
                if scope.sleepers:
                    scope.wake_sleepers(self)
                if self._tenants is not None:
                    self._tenants.wake_all()
                if event.new is CircuitState.OPEN and self.running_calls and self.bypass is None:
                    self._calls_to_end += tuple(self.running_calls)
            elif isinstance(event, StaysClosed):
                advice = self.hints.untripped_failures.advise(event)
                if advice is not None:
                    self._queue.put(advice)
            else:
                self._queue.put(event)

    def _end_calls(self) -> None:
        """End the calls that were in flight when the circuit opened; not under the lock."""
        with lock:
            calls, self._calls_to_end = self._calls_to_end, ()
        for call in calls:
            call.end_by_opening()

    def _deliver(self) -> None:
        if self._calls_to_end:
            self._end_calls()
        self._queue.deliver()
        if postponed:
            settle_postponed()

    def _time_or_nan(self, clock: Callable[[], float]) -> float:
        """Return the time; not a number where the user's clock raises, or gives none."""
        try:
            now = clock()
            return now if math.isfinite(now) else math.nan
        except Exception as fault:  # noqa: BLE001 - the call's own error or result goes first
            log_fault("clock", clock, describe_exception(fault), self.name)
            return math.nan

    # Waiting

    def _wake_all(self) -> None:
        """Let all that wait look again; the caller holds the lock."""
        if self._wait_queue is not None:
            self._wait_queue.wake_all()
        if self._tenants is not None:
            self._tenants.wake_all()

    def _get_wait_queue(self) -> WaitQueue:
        wait_queue = self._wait_queue
        if wait_queue is not None:
            return wait_queue
        made = self.make_wait_queue(self._expects_call)
        with lock:  # another thread may have been faster
            wait_queue = self._wait_queue = self._wait_queue or made
        return wait_queue


def _circuit_for(policy: BreakerPolicy, circuit: Circuit | None, now: float) -> Circuit:
    """Return the circuit that was given, or a new one."""
    if circuit is None:
        return Circuit(policy, now)
    if policy not in (circuit.policy, BreakerPolicy()):
        raise ValueError("policy must be that of the circuit, or not be given")
    return circuit


def _chance_of(rng: random.Random | None) -> Callable[[], float]:
    _validate.check_type("rng", rng, random.Random, type(None))
    return random.random if rng is None else rng.random
